"""Stored values of a DICOM image -> what a reader sees, in the order of PS3.3 and PS3.4 N.2.

All steps work on every value that a pixel may hold (at most 65,536), not on the pixels: it is exact, and as fast
for a large radiograph as for a small one. A step whose attributes make no sense is left out with a notice,
since one bad window must not cost the image; nothing is ever guessed from the pixels themselves.
"""

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxrzoo.errors import ImageError
from cxrzoo.imaging.dicom.layout import Layout
from cxrzoo.imaging.dicom.levels import Levels, Use, Values, ignore
from cxrzoo.imaging.dicom.stored import Samples
from cxrzoo.imaging.dicom.tables import read_table
from cxrzoo.imaging.dicom.voi import apply_voi, full_range
from cxrzoo.imaging.elements import found, integers, list_items, name, number, value_of
from cxrzoo.imaging.report import Report

#: The frame around a collimated image takes less of it.
_MOSTLY = 0.5


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
        ignore(report, f"{name('PixelPaddingValue')} would hide the whole image")
        return nothing
    if not any(padding[edge].any() for edge in (cells[0], cells[-1], cells[:, 0], cells[:, -1])):
        ignore(report, f"{name('PixelPaddingValue')} does not occur at the border of the image, as padding does")
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
    relationship = value_of(dataset, "PixelIntensityRelationship")
    if tables and relationship in ("LOG", "DISP") and value_of(dataset, "Modality") in ("XA", "RF"):
        # Then the table leads back to intensities of the beam, and is not for display (PS3.3 C.8.7.1.1.2).
        report.step("modality LUT left out: stored values are for display already")
        return levels
    if tables:
        table = read_table(tables[0], layout.syntax.is_little_endian)
        values = None if table is None else table.look_up(levels.values)
        if table is None or values is None:
            ignore(report, name("ModalityLUTSequence") + " holds no usable table")
        elif used.varies(levels.values) and not used.varies(values):
            ignore(report, name("ModalityLUTSequence") + " would show the whole image as one grey")
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
    ignore(report, f"{found('RescaleSlope', slope)} and {found('RescaleIntercept', intercept)}")
    return levels


def as_displayed(grey: Values, dataset: Dataset, report: Report) -> Values:
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
