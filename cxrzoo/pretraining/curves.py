"""How a training went, as one SVG: loss, learning rate, and small panels of monitors."""

import math
from collections.abc import Mapping
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from cxrzoo.errors import PretrainingError
from cxrzoo.evaluation.report.drawing import make_axes, write, write_svg
from cxrzoo.evaluation.report.palette import ROLES
from cxrzoo.evaluation.report.words import show_number, show_tick
from cxrzoo.pretraining.monitors import LOW_SPREAD, LOW_USAGE

Array = NDArray[np.float64]

WIDTH = 720
#: More points than this are averaged in so many groups: a file in a README stays small.
POINTS = 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 26, 24  # margins of a panel
_DOTS = 40  # so many points at most are drawn as such
_LOSS, _RATE, _MONITOR = 170, 44, 100  # heights of panels without their margins
_LINE, _SOFT, _FLOOR = (ROLES[role][0] for role in ("accent", "soft", "floor"))


class _Panel(NamedTuple):
    """A monitor: what its panel is called, the height of its dashed line if fixed, and bounds that it always shows."""

    title: str
    mark: float | None
    bounds: tuple[float, float] | None


_PANELS = {
    "knn": _Panel("kNN AUROC (dashed: first)", None, None),
    "spread": _Panel("spread (dashed: collapse)", LOW_SPREAD, (0.0, 0.1)),
    "rank": _Panel("effective rank", None, (0.0, 2.0)),
    "usage": _Panel("usage (dashed: too low)", LOW_USAGE, (0.0, 1.0)),
    "masked": _Panel("masked share", None, (0.0, 1.0)),
}


def draw_training(columns: Mapping[str, Array], *, standalone: bool = True) -> str:
    """Return the curves of a history as SVG, 720 pixels wide.

    Args:
        columns: What `History.columns` gives: "step" and "loss"; "learning_rate", "knn", "spread", "rank", "usage" and
            "masked" get panels if they are there.
        standalone: A file of its own, for a README or a card, rather than a part of a page.

    Raises:
        PretrainingError: There is no loss to draw.
    """
    lines = {name: line for name, values in columns.items() if len((line := _clean(columns["step"], values))[0])}
    if "loss" not in lines:
        raise PretrainingError(
            f"found a history of {', '.join(columns) or 'nothing'} without any loss, expected a row at least. Train "
            "for longer: the first row is written after a few steps."
        )
    names = [name for name in _PANELS if name in lines]
    height = _stack(_LOSS) + ("learning_rate" in lines) * _stack(_RATE)
    rows = math.ceil(len(names) / 3)
    total = height + rows * _stack(_MONITOR)
    end = float(columns["step"][-1])
    panels = [_place((0, 0, WIDTH, _stack(_LOSS)), total, end)]
    _draw(panels[0], "loss, by steps", *lines["loss"], thin=False)
    if "learning_rate" in lines:
        panels.append(_place((0, _stack(_LOSS), WIDTH, _stack(_RATE)), total, end))
        _draw(panels[-1], "learning rate", *lines["learning_rate"], thin=True)
        panels[-1].yaxis.set_major_locator(MaxNLocator(2, steps=[1, 2, 5, 10]))
    per_row = math.ceil(len(names) / rows) if rows else 1
    for number, name in enumerate(names):
        row, place = divmod(number, per_row)
        box = (place * WIDTH / per_row, height + row * _stack(_MONITOR), WIDTH / per_row, _stack(_MONITOR))
        panels.append(_place(box, total, end))
        _draw_monitor(panels[-1], _PANELS[name], *lines[name])
    label = _describe(lines, end)
    root = ElementTree.fromstring(write_svg(panels[0], label, standalone=standalone))
    for number, panel in enumerate(panels[1:]):  # each is drawn on a sheet of the whole size: they are laid together
        root.extend(ElementTree.fromstring(write_svg(panel, f"{label} {number}")))
    return ElementTree.tostring(root, encoding="unicode")


def _stack(height: float) -> float:
    return _TOP + height + _BOTTOM


def _clean(steps: Array, values: Array) -> tuple[Array, Array]:
    known = np.isfinite(values)
    return steps[known], values[known]


def _place(box: tuple[float, float, float, float], total: float, end: float) -> Axes:
    """Return the axes of a panel in a box (left, top, width, height) of the whole picture."""
    left, top, width, height = box
    right, bottom = WIDTH - left - width + _RIGHT, total - top - height + _BOTTOM
    axes = make_axes(WIDTH, total, left=left + _LEFT, right=right, top=top + _TOP, bottom=bottom)
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(max(int(width / 90), 2), integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: show_number(value)))
    axes.yaxis.set_major_locator(MaxNLocator(max(int(height / 45), 2), steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(_show))
    return axes


def _show(value: float, _: object) -> str:
    text = f"{value:g}"
    text = text if len(text) <= 5 else f"{value:.0e}"  # what is longer leaves the picture
    return text.replace("e-0", "e-")


def _draw(axes: Axes, title: str, steps: Array, values: Array, *, thin: bool) -> None:
    places, means, lower, upper = _average(steps, values)
    if len(means) < len(values) and not thin:
        axes.fill_between(places, lower, upper, color=_LINE, alpha=0.16, linewidth=0)
    axes.plot(
        places,
        means,
        color=_SOFT if thin else _LINE,
        linewidth=1 if thin else 1.8,
        marker="o" if len(means) <= _DOTS and not thin else None,
        markersize=4,
        markeredgewidth=0,
        clip_on=False,
    )
    pad = 0.06 * (np.ptp(means) or abs(means[0]) or 1)
    axes.set_ylim(means.min() - pad, means.max() + pad)  # of the line: a single outlier may leave the picture
    write(axes, title, (axes.bbox.x0 - _LEFT + 10, axes.bbox.y1 + 10), color=_SOFT)


def _draw_monitor(axes: Axes, panel: _Panel, steps: Array, values: Array) -> None:
    _draw(axes, panel.title, steps, values, thin=False)
    mark = values[0] if panel.bounds is None else panel.mark
    if panel.bounds:
        low, high = min(panel.bounds[0], values.min()), max(panel.bounds[1], values.max())
        axes.set_ylim(low, high + 0.06 * (high - low))
    if mark is not None:
        axes.axhline(mark, color=_FLOOR, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    if axes.get_ylim()[1] <= 2:
        axes.yaxis.set_major_formatter(FuncFormatter(show_tick))


def _average(steps: Array, values: Array) -> tuple[Array, Array, Array, Array]:
    """Return steps, means, minima and maxima of at most `POINTS` groups of neighbours."""
    groups = [np.arange(len(values))] if len(values) == 1 else np.array_split(np.arange(len(values)), POINTS)
    groups = [group for group in groups if len(group)]
    columns = [
        (steps[group].mean(), values[group].mean(), values[group].min(), values[group].max()) for group in groups
    ]
    places, means, lower, upper = np.array(columns).T
    return places, means, lower, upper


def _describe(lines: Mapping[str, tuple[Array, Array]], end: float) -> str:
    """Return what the curves show, in words, for those who don't see them."""
    told = {"loss": "loss", **{name: panel.title.partition(" (")[0] for name, panel in _PANELS.items()}}
    parts = [f"{told[name]} from {lines[name][1][0]:.3g} to {lines[name][1][-1]:.3g}" for name in told if name in lines]
    return f"Training of {end:,.0f} steps: {', '.join(parts)}."
