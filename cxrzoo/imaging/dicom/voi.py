"""Values of interest of a DICOM image: windows and VOI LUTs (PS3.3 C.11.2)."""

from collections.abc import Iterator

import numpy as np
from pydicom import Dataset

from cxrzoo.errors import ImageError
from cxrzoo.imaging.dicom.layout import Layout
from cxrzoo.imaging.dicom.levels import Levels, Use, Values, ignore
from cxrzoo.imaging.dicom.tables import read_table
from cxrzoo.imaging.elements import found, list_items, name, numbers, value_of
from cxrzoo.imaging.report import Report

#: A step of 8 bits; what differs by less is one grey.
_VISIBLE = 1 / 255


def apply_voi(
    levels: Levels,
    dataset: Dataset,
    layout: Layout,
    used: Use,
    report: Report,
    window: str | int | None = None,
) -> Values:
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
        ignore(report, f"{name(keyword)} would show the whole image as one grey")
    if window is not None:
        raise ImageError(
            "The window that was asked for makes no sense, or would show the whole image as one grey. Choose another; "
            "`cxrzoo describe FILE` lists them.",
            "header",
            "display",
        )
    return full_range(levels, report)


def full_range(levels: Levels, report: Report) -> Values:
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
) -> Iterator[tuple[Values, str, str]]:
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


def apply_voi_lut(levels: Levels, dataset: Dataset, layout: Layout, report: Report, position: int) -> Values | None:
    """Return the levels through a VOI LUT in [0, 1] (PS3.3 C.11.2.1.1), or None without a usable one."""
    table = read_table(list_items(dataset, "VOILUTSequence")[position], layout.syntax.is_little_endian)
    if table is None:
        ignore(report, name("VOILUTSequence") + " holds no usable table")
        return None
    return table.look_up(levels.values) / table.white


def apply_window(levels: Levels, dataset: Dataset, report: Report, position: int) -> tuple[Values | None, str]:
    """Return the levels through a window in [0, 1] (PS3.3 C.11.2.1.2 and .3), or None without a usable one."""
    centers, widths = numbers(dataset, "WindowCenter"), numbers(dataset, "WindowWidth")
    center, width = (each[position] if each and position < len(each) else None for each in (centers, widths))
    function = str(value_of(dataset, "VOILUTFunction") or "LINEAR").strip().upper()
    smallest = 1.0 if function == "LINEAR" else np.nextafter(0, 1)
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        ignore(report, found("VOILUTFunction", function))
        return None, ""
    if center is None or width is None or not (np.isfinite([center, width]).all() and width >= smallest):
        ignore(report, f"{found('WindowCenter', center)} and {found('WindowWidth', width)}")
        return None, ""
    return window_levels(
        levels.values, center, width, function
    ), f"window {function}, center {center:g}, width {width:g}"


def window_levels(values: Values, center: float, width: float, function: str) -> Values:
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
