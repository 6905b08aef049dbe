"""The names at the ends of lines, moved apart so that each can be read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from cxrzoo.evaluation.report.drawing import classify, write
from cxrzoo.evaluation.report.palette import Look

LINE = 17.0  # pixels from one name to the next
_LETTER = 7.7  # pixels of a bold letter at 12 px, in the widest of the usual system fonts
_BOLD = {"fontweight": "bold"}


@dataclass(frozen=True)
class End:
    """Where a line ends, and whose it is."""

    name: str
    look: Look
    images: float
    value: float


def measure_names(names: Sequence[str]) -> float:
    """Return the width in pixels that names take right of the axes."""
    return max(len(name) for name in names) * _LETTER + 18


def name_lines(axes: Axes, ends: Sequence[End]) -> None:
    """Write each name right of where its line ends, moved apart so that no two names touch."""
    ends = sorted(ends, key=lambda end: end.value)
    starts = axes.transData.transform([(end.images, end.value) for end in ends])
    heights = _spread(starts[:, 1], axes.bbox.y0 + 6, axes.bbox.y1 + 8)
    for end, start, height in zip(ends, starts, heights, strict=True):
        leader = axes.annotate(
            "",
            (start[0] + 6, start[1]),
            (axes.bbox.x1 + 10, height),
            xycoords="figure pixels",
            textcoords="figure pixels",
            arrowprops={"arrowstyle": "-", "color": end.look.colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0},
            annotation_clip=False,
        )
        classify(leader, end.look.key, "name")
        place = (axes.bbox.x1 + 13, height)
        write(axes, end.name, place, end.look.key, "name", verticalalignment="center", color=end.look.colour, **_BOLD)


def _spread(heights: NDArray[np.float64], bottom: float, top: float) -> NDArray[np.float64]:
    """Return rising heights moved as little as it takes to stand a line of text apart, within bounds if they fit."""
    places = np.clip(heights, bottom, top)
    steps = np.arange(len(places)) * LINE
    # Without their steps the places need only rise; the mean of running maximum and minimum shares the shift.
    flat = places - steps
    flat = (np.maximum.accumulate(flat) + np.minimum.accumulate(flat[::-1])[::-1]) / 2
    places = flat + steps
    return np.asarray(places - max(places[-1] - top, 0.0))
