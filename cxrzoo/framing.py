"""A radiograph -> the grey pixels that a network is shown; all but the last step of preprocessing, without torch."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrzoo.geometry import fit, largest_factor, resized_shape
from cxrzoo.imaging import Pixels, Reading, Report, read
from cxrzoo.imaging.guard import guarded
from cxrzoo.intensities import adjust
from cxrzoo.manifest import Preprocessing
from cxrzoo.records import decode

if TYPE_CHECKING:
    from cxrzoo.imaging import Source


def frame(
    source: "Source",
    record: Preprocessing | Mapping[str, Any],
    *,
    frame: int | None = None,
    window: str | int | None = None,
) -> Reading:
    """Return the pixels (height, width) of the record's input size, with the report of how they came about.

    They are uint8 in 0..255, or float32 in [0, 1]. No warning is given: what needs a look is in the report.

    Args:
        record: May be what `Preprocessing.as_dict` gives, as it travels between processes.
        frame: Which of several frames or pages, counted from 0.
        window: Which of several windows or VOI LUTs of a DICOM image, by its explanation or its position.

    Raises:
        ImageError: The source is not one grey image, or is damaged.
    """
    if not isinstance(record, Preprocessing):
        record = decode(Preprocessing, record, "preprocessing")
    # Contrast that is taken from the whole picture needs the whole picture: averages have other extremes.
    whole = record.decoding == "exact" or (record.contrast is not None and record.contrast.stage == "before resize")
    shrink = None if whole else partial(largest_factor, record=record)
    reading = read(source, frame=frame, window=window, intensity=record.intensity, shrink=shrink)
    with guarded("The image", "geometry"):
        return Reading(arrange(reading.pixels, record, reading.report), reading.report)


def arrange(pixels: Pixels, record: Preprocessing, report: Report) -> Pixels:
    """Return the pixels at the record's size and with its contrast.

    Raises:
        ImageError: The picture is a sliver.
    """
    # The frame is that of the whole picture: no side is rounded otherwise because it was read smaller.
    whole = report.size if report.factor > 1 else (pixels.shape[0], pixels.shape[1])
    contrast = record.contrast
    if contrast is not None and contrast.stage == "before resize":
        pixels = adjust(pixels, contrast)
        report.step(str(contrast))
    if contrast is not None and (contrast.method, contrast.stage) == ("equalise", "after crop"):
        # Resized without rounding: few grey levels would leave bins empty. Still in 0..255 where they were, since
        # these bins then have the very edges that they had upstream.
        fitted = fit(pixels.astype(np.float32, copy=False), record, whole, report)
    else:
        fitted = fit(pixels, record, whole, report)
        fitted = fitted if fitted.dtype == np.uint8 else fitted.clip(0, 1)  # bicubic overshoot
    height, width = resized_shape(whole[0], whole[1], record)
    border = ", padded with black" if record.crop_mode == "pad" else ""
    report.step(
        f"resized to {height} x {width}, {record.interpolation}{border}, and cropped to "
        f"{record.input_size[1]} x {record.input_size[2]}"
    )
    if contrast is not None and contrast.stage == "after crop":
        fitted = adjust(fitted, contrast)
        report.step(str(contrast))
    return fitted
