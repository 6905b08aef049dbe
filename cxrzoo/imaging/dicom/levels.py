"""The values that a pixel may hold on their way to the display, and which of them an image uses."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrzoo.imaging.dicom.stored import Samples
from cxrzoo.imaging.report import Report

Values = NDArray[np.float64]

#: Every so many rows and columns, a pixel is looked at first.
_FEW = 16


@dataclass(frozen=True)
class Levels:
    """The values of a pipeline, and the range that their type or tag allows, whether a pixel uses it or not."""

    values: Values
    lowest: float
    highest: float


class Use:
    """Which of the levels occur in an image. Looking at all of its pixels is put off until a few don't tell."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._few = np.unique(samples.cells[::_FEW, ::_FEW])
        self._left_out = np.zeros(samples.values.size, dtype=bool)

    @cached_property
    def all(self) -> NDArray[np.bool_]:
        """Which levels occur, of those that are part of the image."""
        occur = np.zeros(self._samples.values.size, dtype=bool)
        occur[self._samples.cells] = True
        return occur & ~self._left_out

    def leave_out(self, levels: NDArray[np.bool_]) -> None:
        """Count some levels as no part of the image."""
        self._left_out |= levels
        self._few = self._few[~levels[self._few]]
        self.__dict__.pop("all", None)

    def varies(self, values: NDArray[Any], least: float = 0) -> bool:
        """Whether values of the levels, one for each, differ in the image by more than `least`."""
        few = values[self._few]
        if few.size and few.max() - few.min() > least:
            return True
        shown = values[self.all]
        return bool(shown.size and shown.max() - shown.min() > least)


def ignore(report: Report, reason: str) -> None:
    """Note that an attribute makes no sense, and counts as absent."""
    report.warn("ignored", f"Ignored, as if it were absent: {reason}.")
