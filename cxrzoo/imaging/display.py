"""Stored values of a DICOM image -> what a reader sees, in the order of PS3.3 and PS3.4 N.2.

All steps work on every value that a pixel may hold (at most 65,536), not on the pixels: it is exact, and as fast
for a large radiograph as for a small one. A step whose attributes make no sense is left out with a warning,
since one bad window must not cost the image; nothing is ever guessed from the pixels themselves.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxrzoo.imaging.elements import found, name, number, value_of
from cxrzoo.imaging.tables import read_table

_Values = NDArray[np.float64]


@dataclass(frozen=True)
class Levels:
    """The values of a pipeline, and the range that their type or tag allows, whether a pixel uses it or not."""

    values: _Values
    lowest: float
    highest: float


def displayed(pixels: NDArray[np.integer], dataset: Dataset, lowest: int, highest: int) -> NDArray[np.float32]:
    """Return the image in [0, 1], air dark, for stored `pixels` in lowest..highest."""
    stored = Levels(np.arange(lowest, highest + 1, dtype=np.float64), lowest, highest)
    index = pixels.astype(np.intp) - lowest
    used = np.zeros(stored.values.size, dtype=bool)
    used[index] = True
    levels = apply_modality_lut(stored, dataset)
    grey = apply_voi(levels, dataset, used)
    return as_displayed(grey, dataset).astype(np.float32)[index]


def apply_modality_lut(levels: Levels, dataset: Dataset) -> Levels:
    """Turn stored values into the modality's own unit (PS3.3 C.11.1): a table, or slope and intercept."""
    if value_of(dataset, "ModalityLUTSequence") is not None:
        table = read_table(dataset, "ModalityLUTSequence")
        if table is not None:
            return Levels(table.look_up(levels.values), 0, table.white)
        _ignored(name("ModalityLUTSequence") + " holds no usable table")
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope is None and intercept is None:
        return levels
    if slope is not None and intercept is not None:
        with np.errstate(all="ignore"):
            values = levels.values * slope + intercept
        lowest, highest = float(values.min()), float(values.max())
        if np.isfinite([lowest, highest]).all() and lowest < highest:
            return Levels(values, lowest, highest)
    _ignored(f"{found('RescaleSlope', slope)} and {found('RescaleIntercept', intercept)}")
    return levels


def apply_voi(levels: Levels, dataset: Dataset, used: NDArray[np.bool_]) -> _Values:
    """Choose the values of interest (PS3.3 C.11.2): the first VOI LUT, else the first window, else all.

    "All" is the full range that the stored bits allow, so that it does not depend on the content of the image.
    A choice that shows the whole of an image that is not constant as one grey is no choice.

    Args:
        used: Which of the levels occur in the image.
    """
    for choice, keyword in ((apply_voi_lut, "VOILUTSequence"), (apply_window, "WindowWidth")):
        grey = choice(levels, dataset)
        if grey is None:
            continue
        shown = grey[used]
        if shown.min() < shown.max() or np.ptp(levels.values[used]) == 0:
            return grey
        _ignored(f"{name(keyword)} would show the whole image as one grey")
    return (levels.values - levels.lowest) / (levels.highest - levels.lowest)


def apply_voi_lut(levels: Levels, dataset: Dataset) -> _Values | None:
    """Return the levels through the first VOI LUT in [0, 1] (PS3.3 C.11.2.1.1), or None without a usable one."""
    if value_of(dataset, "VOILUTSequence") is None:
        return None
    table = read_table(dataset, "VOILUTSequence")
    if table is None:
        _ignored(name("VOILUTSequence") + " holds no usable table")
        return None
    return table.look_up(levels.values) / table.white


def apply_window(levels: Levels, dataset: Dataset) -> _Values | None:
    """Return the levels through the first window in [0, 1] (PS3.3 C.11.2.1.2 and .3), or None without a usable one."""
    center, width = number(dataset, "WindowCenter"), number(dataset, "WindowWidth")
    if center is None and width is None:
        return None
    function = str(value_of(dataset, "VOILUTFunction") or "LINEAR").strip().upper()
    smallest = 1.0 if function == "LINEAR" else np.nextafter(0, 1)
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        _ignored(found("VOILUTFunction", function))
        return None
    if center is None or width is None or not (np.isfinite([center, width]).all() and width >= smallest):
        _ignored(f"{found('WindowCenter', center)} and {found('WindowWidth', width)}")
        return None
    with np.errstate(over="ignore"):
        if function == "SIGMOID":
            # 1 / (1 + exp(-4 z)), written so that no exponential overflows
            return np.asarray(0.5 + 0.5 * np.tanh(2 * ((levels.values - center) / width)))
        if function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (levels.values > center).astype(np.float64)
        return np.clip((levels.values - center) / width + 0.5, 0, 1)


def as_displayed(grey: _Values, dataset: Dataset) -> _Values:
    """Invert MONOCHROME1 so that air is dark, as on a light box.

    Comes last, since windows are defined before it (PS3.3 C.7.6.3.1.2).
    """
    return 1 - grey if value_of(dataset, "PhotometricInterpretation") == "MONOCHROME1" else grey


def _ignored(reason: str) -> None:
    warnings.warn(f"Ignored, as if it were absent: {reason}.", stacklevel=3)
