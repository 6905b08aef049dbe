"""The label-efficiency curves of a comparison, as SVG."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import Comparison, Mode, Point
from cxrzoo.evaluation.report.drawing import classify, make_axes, write, write_svg
from cxrzoo.evaluation.report.labels import LINE, End, measure_names, name_lines
from cxrzoo.evaluation.report.palette import ROLES, Look, assign_looks
from cxrzoo.evaluation.report.words import (
    name_finding,
    name_mode,
    shorten,
    show_interval,
    show_number,
    show_tick,
    show_value,
)

#: With more models than this the bands would cover one another: those of the best and of the baseline are shown.
FEW = 3
_SOFT = ROLES["soft"][0]


def draw_curves(
    comparison: Comparison, finding: str, mode: Mode, *, wide: bool = True, standalone: bool = False
) -> str:
    """Return the AUROC of every contender against the number of labelled images, with 95 % bands, as SVG.

    The untrained network is the floor: a dashed line, with grey below it.

    Args:
        wide: For a page; the narrow one fits a phone or a column, and needs a key beside it.
        standalone: A file of its own, rather than a part of a page.

    Raises:
        EvaluationError: The comparison has no figures for this finding and mode.
    """
    looks = assign_looks(comparison)
    lines = {name: _select(comparison, name, finding, mode) for name in looks}
    lines = {name: points for name, points in lines.items() if points}
    if not lines:
        found = sorted({f"{point.finding} ({point.mode})" for point in comparison.points})
        raise EvaluationError(f"no figures for {finding} ({mode}). The comparison has {', '.join(found)}.")
    names = {name: shorten(name) for name in lines}
    axes = (
        make_axes(760, 400, left=44, right=measure_names(list(names.values())), top=26, bottom=62)
        if wide
        else make_axes(380, 320, left=40, right=12, top=26, bottom=60)
    )
    _scale(axes, comparison, finding, max(lines.values(), key=len), wide)
    places = _place(axes, lines, looks)
    leaders = _lead(comparison, mode)
    many = sum(not looks[name].floor for name in lines) > FEW
    titles: dict[str, list[str]] = {}
    for name in sorted(lines, key=lambda name: (not looks[name].floor, name not in leaders)):
        quiet = many and name not in leaders and not looks[name].floor
        titles |= _draw_line(axes, looks[name], places[name], lines[name], quiet)
    _name_floor(axes, [points for name, points in lines.items() if looks[name].floor])
    if wide:
        ends = {name: points[-1].auroc.value for name, points in lines.items()}
        name_lines(axes, [End(names[name], looks[name], places[name][-1], ends[name]) for name in lines])
    heading = f"AUROC, {name_finding(finding)}, {name_mode(mode)}" if standalone else "AUROC"
    write(axes, heading, (axes.bbox.x0 - 34, axes.bbox.y1 + 12), color=_SOFT)
    return write_svg(axes, _describe(finding, mode, lines), titles=titles, standalone=standalone)


def _select(comparison: Comparison, name: str, finding: str, mode: Mode) -> list[Point]:
    chosen = [point for point in comparison.points if (point.model, point.finding, point.mode) == (name, finding, mode)]
    return sorted(chosen, key=lambda point: point.images)


def _lead(comparison: Comparison, mode: Mode) -> set[str]:
    """Return the best model and the baseline."""
    ranking = [rank for rank in comparison.ranking if rank.mode == mode]
    best = max(ranking, key=lambda rank: rank.average.value, default=None)
    return {comparison.baseline} | ({best.model} if best else set())


def _scale(axes: Axes, comparison: Comparison, finding: str, points: Sequence[Point], wide: bool) -> None:
    """Set both scales: the same height for all modes of a finding, so that their charts can be compared."""
    images = [point.images for point in points]
    margin = max((images[-1] / images[0]) ** 0.06, 1.15)
    axes.set_xscale("log")
    axes.set_xlim(images[0] / margin, images[-1] * margin)
    shown = [point.auroc for point in comparison.points if point.finding == finding]
    low, high = min(figure.lower for figure in shown), max(figure.upper for figure in shown)
    pad = max(0.06 * (high - low), 0.005)
    axes.set_ylim(low - pad, min(high + pad, 1.0 + pad / 3))
    axes.yaxis.set_major_locator(MaxNLocator(6 if wide else 5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(show_tick))
    axes.xaxis.set_minor_locator(NullLocator())
    ticks = [0]  # of steps that stand too close, the smaller is left out
    reach = axes.transData.transform([(value, 0.5) for value in images])[:, 0]
    for number in range(1, len(images)):
        if reach[number] - reach[ticks[-1]] >= 52:
            ticks.append(number)
    axes.xaxis.set_major_locator(FixedLocator([images[tick] for tick in ticks]))
    axes.set_xticklabels([show_number(images[tick]) for tick in ticks])
    for tick in ticks:
        place, fraction = (reach[tick], axes.bbox.y0 - 31), points[tick].fraction
        if fraction != f"{images[tick]:g} images":  # which the tick says
            write(axes, fraction, place, horizontalalignment="center", color=_SOFT)
    axes.set_xlabel("labelled images to learn from", fontsize=12, color=_SOFT, labelpad=24)


def _place(axes: Axes, lines: dict[str, list[Point]], looks: dict[str, Look]) -> dict[str, list[float]]:
    """Return where on the scale of images the points stand: side by side if there is a single label fraction."""
    if max(map(len, lines.values())) > 1:
        return {name: [point.images for point in points] for name, points in lines.items()}
    left, right = axes.get_xlim()
    models = [name for name in lines if not looks[name].floor]
    shifted = np.geomspace(left, right, len(models) + 2)[1:-1]
    return {name: [right] for name in lines} | {name: [float(x)] for name, x in zip(models, shifted, strict=True)}


def _draw_line(
    axes: Axes, look: Look, images: Sequence[float], points: Sequence[Point], quiet: bool
) -> dict[str, list[str]]:
    key = f"{look.key} line"
    titles = {key: [f"{point.model}, {_tell(point)}" for point in points]}
    values = [point.auroc.value for point in points]
    lower, upper = [point.auroc.lower for point in points], [point.auroc.upper for point in points]
    left, right = axes.get_xlim()
    if look.floor:
        below = axes.fill_between(
            [left, *images, right],
            axes.get_ylim()[0],
            [values[0], *values, values[-1]],
            color=look.colour,
            alpha=0.1,
            linewidth=0,
        )
        classify(below, look.key, "below")
    if look.floor and len(points) == 1:  # a floor lies under all that stands beside it
        images, values, lower, upper = [left, right], values * 2, lower * 2, upper * 2
    if len(images) == 1:  # a band needs two points
        bar = axes.vlines(images, lower, upper, color=look.colour, linewidth=2, alpha=0.5)
        classify(bar, look.key, "bar")
    else:
        band = axes.fill_between(images, lower, upper, color=look.colour, alpha=0.16, linewidth=0)
        classify(band, look.key, "band", *(["quiet"] if quiet else []))
    line = axes.plot(
        images,
        values,
        color=look.colour,
        marker=None if look.floor else look.marker,
        markersize=6,
        markeredgewidth=0,
        linewidth=1.8 if look.floor else 2,
        linestyle=(0, (5, 3)) if look.floor else "-",
        solid_capstyle="round",
        zorder=3,
    )
    classify(line[0], key)
    return titles


def _name_floor(axes: Axes, floors: Sequence[Sequence[Point]]) -> None:
    """Say in the grey what it is, where it is high enough for a line of text."""
    bottom = axes.bbox.y0
    heights = [axes.transData.transform((points[-1].images, points[-1].auroc.value))[1] - bottom for points in floors]
    if heights and max(heights) > LINE + 8:
        place = (axes.bbox.x1 - 8, bottom + 9)
        write(axes, "reached from random weights", place, "floor", "name", horizontalalignment="right", color=_SOFT)


def _tell(point: Point) -> str:
    return f"{point.fraction}: {show_value(point.auroc)} ({show_interval(point.auroc)})"


def _describe(finding: str, mode: Mode, lines: dict[str, list[Point]]) -> str:
    """Return what the curves show, in words, for those who don't see them."""
    ends = "; ".join(f"{name} {_tell(points[-1])}" for name, points in lines.items())
    return (
        f"AUROC by number of labelled images: {name_finding(finding)}, {name_mode(mode)}. At the most images: {ends}."
    )
