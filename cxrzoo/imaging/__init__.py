"""Any radiograph a hospital has, as the one grey image that a reader sees.

A source is a path (`str` or `Path`), the bytes of a file, a PIL image, a NumPy array, a torch tensor, a pydicom
dataset, or a sample of a dataset that holds one of these. What a file is follows from its content, never from its
name. No error or warning repeats a file name or the value of an attribute that may identify a patient.
"""

import operator
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging import arrays, pictures
from cxrzoo.imaging.arrays import Pixels, Shrink, as_floats
from cxrzoo.imaging.formats import kind
from cxrzoo.imaging.guard import silence
from cxrzoo.imaging.report import Notice, Report
from cxrzoo.imaging.samples import image_in

if TYPE_CHECKING:
    from pydicom import Dataset
    from torch import Tensor

    from cxrzoo.imaging.dicom import Intensity

    #: One image; a `str` is a path.
    Picture: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor | Dataset
    #: Everything that can be read as a radiograph: an image, or a sample with one, as datasets give it.
    Source: TypeAlias = Picture | Mapping[str, Any] | tuple[Any, ...] | list[Any]

__all__ = ["Notice", "Pixels", "Reading", "Report", "read", "read_image", "read_pixels"]

#: More than any single radiograph takes; keeps a wrong path from filling the memory.
_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Reading:
    """One image, and how it was read.

    `pixels` is (height, width), air dark: uint8 where the source is an 8-bit raster, else float32 in [0, 1].
    """

    pixels: Pixels
    report: Report


@overload
def read_image(
    source: "Source",
    *,
    frame: int | None = ...,
    window: str | int | None = ...,
    return_report: Literal[False] = ...,
) -> NDArray[np.float32]: ...
@overload
def read_image(
    source: "Source", *, frame: int | None = ..., window: str | int | None = ..., return_report: Literal[True]
) -> tuple[NDArray[np.float32], Report]: ...
def read_image(
    source: "Source",
    *,
    frame: int | None = None,
    window: str | int | None = None,
    return_report: bool = False,
) -> NDArray[np.float32] | tuple[NDArray[np.float32], Report]:
    """Return the radiograph as (height, width) values in [0, 1], air dark.

    Args:
        source: A path, the bytes of a file, or a picture in memory.
        frame: Which of several frames or pages, counted from 0.
        window: Which of several windows or VOI LUTs of a DICOM image, by its explanation or its position.
        return_report: Also return which steps ran, and what needs a look.

    Raises:
        ImageError: The source is not one grey image, or is damaged; `code` and `stage` say why and where.

    Example:
        >>> read_image(np.array([[0, 255]], dtype=np.uint8))
        array([[0., 1.]], dtype=float32)
    """
    reading = read(source, frame=frame, window=window)
    reading.report.emit_warnings()
    image = as_floats(reading.pixels)
    return (image, reading.report) if return_report else image


def read_pixels(
    source: "Source",
    *,
    frame: int | None = None,
    window: str | int | None = None,
    intensity: "Intensity" = "window",
    shrink: Shrink | None = None,
) -> Pixels:
    """Return the same image as `read_image`, but left as uint8 where the source is an 8-bit raster.

    Models were trained on 8-bit pixels that PIL resized with 8-bit rounding; only this form reproduces that.

    Raises:
        ImageError: The source is not one grey image, or is damaged.
    """
    reading = read(source, frame=frame, window=window, intensity=intensity, shrink=shrink)
    reading.report.emit_warnings()
    return reading.pixels


def read(
    source: "Source",
    *,
    frame: int | None = None,
    window: str | int | None = None,
    intensity: "Intensity" = "window",
    shrink: Shrink | None = None,
) -> Reading:
    """Return the image with a report; what needs a look stands in there, and is no Python warning.

    Args:
        source: A path, the bytes of a file, a picture in memory, or a sample of a dataset.
        frame: Which of several frames or pages, counted from 0.
        window: Which of several windows or VOI LUTs of a DICOM image, by its explanation or its position.
        intensity: "window", or "full_range" for all grey levels of a DICOM image.
        shrink: Says for the stored (height, width) by which factor the image may be made smaller while it is
            decoded; None for the exact image.

    Raises:
        ImageError: The source is not one grey image, or is damaged; or it has no such frame or window.
        TypeError: `frame` or `window` is of another type.
    """
    frame = None if frame is None else operator.index(frame)
    window = window if window is None or isinstance(window, str) else operator.index(window)
    try:
        with silence():
            return _read(source, frame, window, intensity, shrink)
    except ImageError as error:
        # What a decoder raised is of no use to the caller, and its text may hold anything of the file.
        error.__context__ = None
        raise


def _read(
    source: "Source", frame: int | None, window: str | int | None, intensity: "Intensity", shrink: Shrink | None
) -> Reading:
    report = Report()
    picture = source if isinstance(source, (str, os.PathLike)) else image_in(source, report)
    if isinstance(picture, (str, os.PathLike)):
        picture = _content(Path(os.fsdecode(picture)))
    if isinstance(picture, (bytes, bytearray, memoryview)):
        data = bytes(picture)
        if kind(data) == "raster":
            _refuse_window(window)
            return Reading(pictures.from_file(data, report, frame=frame, shrink=shrink), report)
        from cxrzoo.imaging.dicom import parsing  # pydicom is only loaded once a DICOM file turns up

        picture = parsing.parse(data)
    # Whoever holds a dataset or a tensor has imported its library: importing it here would only cost time.
    if (pydicom := sys.modules.get("pydicom")) and isinstance(picture, pydicom.Dataset):
        from cxrzoo.imaging import dicom

        pixels = dicom.from_dataset(picture, report, frame=frame, window=window, intensity=intensity, shrink=shrink)
        return Reading(pixels, report)
    _refuse_window(window)
    if isinstance(picture, Image.Image):
        return Reading(pictures.from_picture(picture, report, frame=frame), report)
    if (torch := sys.modules.get("torch")) and isinstance(picture, torch.Tensor):
        tensor = picture.detach().cpu()
        picture = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    if isinstance(picture, (np.ndarray, np.generic)):
        if frame:
            raise ImageError(f"Found frame={frame} for an array, expected none: give it alone.", "several-images")
        return Reading(arrays.from_array(np.asarray(picture), report), report)
    raise ImageError(
        f"Found an object of type {type(picture).__name__}, expected an image: a path, the bytes of a file, "
        "a PIL image, a NumPy array, a torch tensor or a pydicom dataset; or a sample that has it under 'image', or as "
        "its first entry. Pass the images of a column or a batch one by one.",
        "unknown-kind",
    )


def _refuse_window(window: str | int | None) -> None:
    if window is not None:
        raise ImageError("Found window= for a picture that is no DICOM image, expected none: leave it out.", "header")


def _content(path: Path) -> bytes:
    """Return the bytes of a file; an OSError would name the path, so it is replaced."""
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no file"
            raise ImageError(f"Found {found} at the given path, expected one DICOM, PNG, JPEG or TIFF file.", "missing")
        if path.stat().st_size > _MAX_BYTES:
            raise ImageError(
                "Found a file above 1 GiB, expected one radiograph. Is this a video or an archive?", "too-large"
            )
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        reason = "the path is malformed"
    raise ImageError(f"The file can't be opened: {reason}. Check the path and its permissions.", "missing")
