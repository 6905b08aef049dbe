"""Stored values of a DICOM image -> what a reader sees, in the order of PS3.3 and PS3.4 N.2.

All steps work on every value that a pixel may hold (at most 65,536), not on the pixels: it is exact, and as fast
for a large radiograph as for a small one. A step whose attributes make no sense is left out with a notice,
since one bad window must not cost the image; nothing is ever guessed from the pixels themselves.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxrzoo.errors import ImageError
from cxrzoo.imaging.dicom.layout import Layout
from cxrzoo.imaging.dicom.stored import Samples
from cxrzoo.imaging.dicom.tables import read_table
from cxrzoo.imaging.elements import found, integers, list_items, name, number, numbers, value_of
from cxrzoo.imaging.report import Report

_Values = NDArray[np.float64]

#: Every so many rows and columns, a pixel is looked at first.
_FEW = 16

#: A step of 8 bits; what differs by less is one grey.
_VISIBLE = 1 / 255

#: The frame around a collimated image takes less of it.
_MOSTLY = 0.5


@dataclass(frozen=True)
class Levels:
    """The values of a pipeline, and the range that their type or tag allows, whether a pixel uses it or not."""

    values: _Values
    lowest: float
    highest: float


def displayed(
    samples: Samples, dataset: Dataset, layout: Layout, report: Report, window: str | int | None, intensity: str
) -> NDArray[np.float32]:
    """Return the image in [0, 1], air dark.

    Args:
        window: Which of several windows or VOI LUTs, by its explanation or its position; None: the first.
        intensity: "window", or "full_range" to apply no window.
    """
    used = Use(samples)
    padding = find_padding(samples, dataset, layout, used, report)
    stored = Levels(samples.values.astype(np.float64), layout.lowest, layout.highest)
    levels = apply_modality_lut(stored, dataset, layout, used, report)
    if intensity == "full_range":
        if window is not None:
            raise ImageError(
                "Found window= with preprocessing that takes the full range of grey levels, expected none: leave it "
                "out, or take a model that is shown windows.",
                "header",
                "display",
            )
        grey = full_range(levels, report)
    else:
        grey = apply_voi(levels, dataset, layout, used, report, window)
    grey = as_displayed(grey, dataset, report)
    grey[padding] = 0
    image: NDArray[np.float32] = grey.astype(np.float32)[samples.cells]
    return image


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


def find_padding(samples: Samples, dataset: Dataset, layout: Layout, used: Use, report: Report) -> NDArray[np.bool_]:
    """Return which values fill what was not exposed (PS3.3 C.7.5.1.1.2); they are shown as dark as air.

    They are no part of the image: neither the modality LUT nor a window is meant for them.
    """
    cells, values = samples.cells, samples.values
    nothing = np.zeros(values.size, dtype=bool)
    value = integers(dataset, "PixelPaddingValue")
    if value is None:
        return nothing
    limit = integers(dataset, "PixelPaddingRangeLimit")
    # As patterns of the stored bits, like the pixels: writers differ in the sign that they give these numbers.
    patterns = [bound & ((1 << layout.stored) - 1) for bound in (value[0], value[0] if limit is None else limit[0])]
    bounds = [bound - (1 << layout.stored) if bound > layout.highest else bound for bound in patterns]
    padding = (values >= min(bounds)) & (values <= max(bounds))
    if not (padding & used.all).any():
        return nothing
    if not (used.all & ~padding).any():
        _ignored(report, f"{name('PixelPaddingValue')} would hide the whole image")
        return nothing
    if not any(padding[edge].any() for edge in (cells[0], cells[-1], cells[:, 0], cells[:, -1])):
        _ignored(report, f"{name('PixelPaddingValue')} does not occur at the border of the image, as padding does")
        return nothing
    share = float(padding[cells].mean())
    if share > _MOSTLY:
        report.warn("padding", f"{name('PixelPaddingValue')} hides {share:.0%} of the image. Look what is left of it.")
    used.leave_out(padding)
    report.step(f"padding values {min(bounds)} to {max(bounds)} shown as air")
    return padding


def apply_modality_lut(levels: Levels, dataset: Dataset, layout: Layout, used: Use, report: Report) -> Levels:
    """Turn stored values into the modality's own unit (PS3.3 C.11.1): a table, or slope and intercept."""
    tables = list_items(dataset, "ModalityLUTSequence")
    if tables and value_of(dataset, "PixelIntensityRelationship") in ("LOG", "DISP"):
        # Then the table leads back to intensities of the beam, and is not for display (PS3.3 C.8.7.1.1.2).
        report.step("modality LUT left out: stored values are for display already")
        return levels
    if tables:
        table = read_table(tables[0], layout.syntax.is_little_endian)
        values = None if table is None else table.look_up(levels.values)
        if table is None or values is None:
            _ignored(report, name("ModalityLUTSequence") + " holds no usable table")
        elif used.varies(levels.values) and not used.varies(values):
            _ignored(report, name("ModalityLUTSequence") + " would show the whole image as one grey")
        else:
            report.step(f"modality LUT of {table.entries.size} entries")
            return Levels(values, 0, table.white)
    slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
    if slope is None and intercept is None:
        return levels
    if slope is not None and intercept is not None:
        with np.errstate(all="ignore"):
            values = levels.values * slope + intercept
            ends = [bound * slope + intercept for bound in (levels.lowest, levels.highest)]
        lowest, highest = min(ends), max(ends)
        if np.isfinite([lowest, highest, highest - lowest]).all() and lowest < highest:
            report.step(f"rescaled: stored value * {slope:g} {intercept:+g}")
            return Levels(values, lowest, highest)
    _ignored(report, f"{found('RescaleSlope', slope)} and {found('RescaleIntercept', intercept)}")
    return levels


def apply_voi(
    levels: Levels,
    dataset: Dataset,
    layout: Layout,
    used: Use,
    report: Report,
    window: str | int | None = None,
) -> _Values:
    """Choose the values of interest (PS3.3 C.11.2): the first VOI LUT, else the first window, else all.

    "All" is the full range that the stored bits allow, so that it does not depend on the content of the image.
    A choice that shows the whole of an image that is not constant as one grey is no choice.

    Args:
        used: Which of the levels occur in the image.

    Raises:
        ImageError: `window` names none of those in the file.
    """
    for grey, keyword, step in _choices(levels, dataset, layout, report, window):
        if used.varies(grey, _VISIBLE) or not used.varies(levels.values):
            report.step(step)
            return grey
        _ignored(report, f"{name(keyword)} would show the whole image as one grey")
    if window is not None:
        raise ImageError(
            "The window that was asked for makes no sense, or would show the whole image as one grey. Choose another; "
            "`cxrzoo describe FILE` lists them.",
            "header",
            "display",
        )
    return full_range(levels, report)


def full_range(levels: Levels, report: Report) -> _Values:
    """Return the levels in [0, 1], from the least to the greatest value that there may be."""
    report.step(f"full range: {levels.lowest:g} to {levels.highest:g}")
    return (levels.values - levels.lowest) / (levels.highest - levels.lowest)


def list_windows(dataset: Dataset) -> tuple[list[str], list[str]]:
    """Return the names of the windows, and those of the VOI LUTs, in order; nameless ones are empty."""
    widths = numbers(dataset, "WindowWidth") or []
    explanations = dataset.get("WindowCenterWidthExplanation")
    names = [explanations] if isinstance(explanations, str) else list(explanations or [])
    windows = [str(each).strip() for each in (*names, *([""] * len(widths)))][: len(widths)]
    tables = [str(item.get("LUTExplanation") or "").strip() for item in list_items(dataset, "VOILUTSequence")]
    return windows, tables


def _choices(
    levels: Levels, dataset: Dataset, layout: Layout, report: Report, window: str | int | None
) -> Iterator[tuple[_Values, str, str]]:
    """Yield what the file offers that makes sense, best first: grey levels, keyword, and the step in words."""
    windows, tables = list_windows(dataset)
    if window is None:
        order = [("VOILUTSequence", 0)] if tables else []
        order += [("WindowWidth", 0)] if windows or value_of(dataset, "WindowCenter") is not None else []
    else:
        order = [_find_window(window, windows, tables)]
    for keyword, position in order:
        if keyword == "VOILUTSequence":
            grey, text = apply_voi_lut(levels, dataset, layout, report, position), f"VOI LUT {position}"
            count = len(tables)
        else:
            grey, text, count = *apply_window(levels, dataset, report, position), len(windows)
        if grey is not None:
            yield grey, keyword, text + (f", number {position} of {count}, counted from 0" if count > 1 else "")


def _find_window(window: str | int, windows: list[str], tables: list[str]) -> tuple[str, int]:
    """Return the keyword and the position of a window or VOI LUT by its name, or by its position among both."""
    names = windows + tables
    if isinstance(window, str):
        wanted = window.strip().casefold()
        window = next((at for at, each in enumerate(names) if wanted and each.casefold() == wanted), -1)
    if 0 <= window < len(names):
        return ("WindowWidth", window) if window < len(windows) else ("VOILUTSequence", window - len(windows))
    named = sum(map(bool, names))
    raise ImageError(
        f"The image has {len(names)} windows and VOI LUTs, {named} of them with a name, but not the one that was asked "
        "for. `cxrzoo describe FILE` lists them; without window=, the first is taken.",
        "header",
        "display",
    )


def apply_voi_lut(levels: Levels, dataset: Dataset, layout: Layout, report: Report, position: int) -> _Values | None:
    """Return the levels through a VOI LUT in [0, 1] (PS3.3 C.11.2.1.1), or None without a usable one."""
    table = read_table(list_items(dataset, "VOILUTSequence")[position], layout.syntax.is_little_endian)
    if table is None:
        _ignored(report, name("VOILUTSequence") + " holds no usable table")
        return None
    return table.look_up(levels.values) / table.white


def apply_window(levels: Levels, dataset: Dataset, report: Report, position: int) -> tuple[_Values | None, str]:
    """Return the levels through a window in [0, 1] (PS3.3 C.11.2.1.2 and .3), or None without a usable one."""
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    center, width = (each[position] if each and position < len(each) else None for each in (centers, widths))
    function = str(value_of(dataset, "VOILUTFunction") or "LINEAR").strip().upper()
    smallest = 1.0 if function == "LINEAR" else np.nextafter(0, 1)
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        _ignored(report, found("VOILUTFunction", function))
        return None, ""
    if center is None or width is None or not (np.isfinite([center, width]).all() and width >= smallest):
        _ignored(report, f"{found('WindowCenter', center)} and {found('WindowWidth', width)}")
        return None, ""
    return window_levels(
        levels.values, center, width, function
    ), f"window {function}, center {center:g}, width {width:g}"


def window_levels(values: _Values, center: float, width: float, function: str) -> _Values:
    """Return values through one window in [0, 1]."""
    with np.errstate(over="ignore"):
        if function == "SIGMOID":
            # 1 / (1 + exp(-4 z)), written so that no exponential overflows
            return np.asarray(0.5 + 0.5 * np.tanh(2 * ((values - center) / width)))
        if function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float64)
        return np.clip((values - center) / width + 0.5, 0, 1)


def as_displayed(grey: _Values, dataset: Dataset, report: Report) -> _Values:
    """Invert MONOCHROME1 so that air is dark, as on a light box.

    Comes last, since windows are defined before it (PS3.3 C.7.6.3.1.2). Presentation LUT Shape repeats the polarity
    (PS3.3 C.8.11.3.1): it is not applied a second time.
    """
    inverted = value_of(dataset, "PhotometricInterpretation") == "MONOCHROME1"
    shape = value_of(dataset, "PresentationLUTShape")
    if shape in ("IDENTITY", "INVERSE") and inverted != (shape == "INVERSE"):
        polarity = "MONOCHROME1" if inverted else "MONOCHROME2"
        report.warn(
            "polarity",
            f"{name('PresentationLUTShape')} is {shape} and {name('PhotometricInterpretation')} is {polarity}, which "
            "contradict each other; the latter is followed. Look whether air is dark.",
        )
    if inverted:
        report.step("inverted: MONOCHROME1")
        return 1 - grey
    return grey.copy()


def _ignored(report: Report, reason: str) -> None:
    report.warn("ignored", f"Ignored, as if it were absent: {reason}.")
