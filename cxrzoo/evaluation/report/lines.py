"""Figures of several models along a scale, such as steps or degrees, as SVG."""

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cxrzoo.evaluation.report.drawing import classify, make_axes, write, write_svg
from cxrzoo.evaluation.report.labels import End, measure_names, name_lines
from cxrzoo.evaluation.report.palette import ROLES, Look
from cxrzoo.evaluation.report.words import shorten, show_tick

_SOFT = ROLES["soft"][0]


def draw_lines(
    heading: str,
    scale: str,
    lines: Mapping[str, Sequence[tuple[float, float]]],
    looks: Mapping[str, Look],
    *,
    level: float | None = None,
    ticks: Sequence[float] = (),
) -> str:
    """Return lines through points (place on the scale, AUROC) as an SVG file of its own; untrained ones are dashed.

    Args:
        heading: What is shown, also in words for those who don't see it.
        scale: What the horizontal axis is.
        level: A height to be marked by a thin line.
        ticks: Where the scale is marked; then equal factors are equal lengths of it.
    """
    names = {name: shorten(name) for name in lines}
    axes = make_axes(760, 340, left=44, right=measure_names(list(names.values())), top=26, bottom=46)
    places = [place for points in lines.values() for place, _ in points]
    heights = [height for points in lines.values() for _, height in points] + ([] if level is None else [level])
    pad = max(0.06 * (max(heights) - min(heights)), 0.005)
    if ticks:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if min(places) <= tick <= max(places)]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(min(places), max(places))
    axes.set_ylim(min(heights) - pad, min(max(heights) + pad, 1.0 + pad / 3))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(show_tick))
    axes.set_xlabel(scale, fontsize=12, color=_SOFT, labelpad=6)
    if level is not None:
        classify(axes.axhline(level, color=_SOFT, linewidth=1, linestyle=(0, (1, 2))), "level")
    titles: dict[str, list[str]] = {}
    for name, points in lines.items():
        look = looks[name]
        drawn = axes.plot(
            [place for place, _ in points],
            [height for _, height in points],
            color=look.colour,
            marker=None if look.floor else look.marker,
            markersize=4,
            markeredgewidth=0,
            linewidth=1.8,
            linestyle=(0, (5, 3)) if look.floor else "-",
            solid_capstyle="round",
            clip_on=False,
            zorder=3,
        )
        key = f"{look.key} line"
        classify(drawn[0], key)
        titles[key] = [f"{name}, {place:g}: {show_tick(height)}" for place, height in points]
    name_lines(axes, [End(names[name], looks[name], points[-1][0], points[-1][1]) for name, points in lines.items()])
    write(axes, heading, (axes.bbox.x0 - 34, axes.bbox.y1 + 12), color=_SOFT)
    ends = "; ".join(f"{name} {show_tick(points[-1][1])}" for name, points in lines.items())
    return write_svg(axes, f"{heading}, by {scale}. At the right end: {ends}.", titles=titles, standalone=True)
