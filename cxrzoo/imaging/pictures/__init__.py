"""PNG, JPEG and TIFF files and PIL images -> one grey plane, upright."""

import io
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import Pixels, Shrink, check_size, from_channels
from cxrzoo.imaging.formats import raster
from cxrzoo.imaging.guard import guarded
from cxrzoo.imaging.pictures import containers, png
from cxrzoo.imaging.pictures.modes import check_depth, plane_of
from cxrzoo.imaging.report import Report

_ORIENTATION = 0x0112

#: What to do with the stored rows and columns for each EXIF orientation but the first (Exif 3.0, 4.6.5.1.6).
_TURNS: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: np.fliplr,
    3: lambda plane: np.rot90(plane, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda plane: np.rot90(plane, -1),
    7: lambda plane: np.rot90(plane, 2).T,
    8: np.rot90,
}

#: What Pillow raises for EXIF that makes no sense.
_MALFORMED = (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, OSError, struct.error)

#: How a libjpeg decoder can leave out pixels while it decodes.
_SCALES = (8, 4, 2)


def from_file(data: bytes, report: Report, *, frame: int | None = None, shrink: Shrink | None = None) -> Pixels:
    """Return the grey plane of a PNG, JPEG or TIFF file, turned upright as its EXIF orientation says.

    Args:
        frame: Which of several frames or pages, counted from 0.
        shrink: Says by which factor the picture may be made smaller; None for the exact picture.

    Raises:
        ImageError: The file is damaged, too large, or of a mode that no radiograph has; or it holds several pictures
            and none was named.
    """
    name = raster(data)
    assert name  # the caller asked `formats.kind`
    header = png.parse(data) if name == "PNG" else None
    report.kind = header.kind if header else containers.check_jpeg(data) if name == "JPEG" else name
    with _opened(data, name) as picture, guarded(f"The {name} file"):
        _choose(picture, frame)
        channels = png.deep_channels(header) if header and header.is_deep else None
        if name == "TIFF":
            report.kind = containers.check_tiff(picture, len(data))
        elif header and channels is None:
            _load_png(picture, header)
        orientation = _orientation(picture, report)
        # The size of an opened TIFF is the one it will have once it is upright; 5 to 8 swap the sides of the others.
        lying = name != "TIFF" and orientation >= 5
        report.size = (picture.width, picture.height) if lying else (picture.height, picture.width)
        if shrink and name == "JPEG":
            _draft(picture, shrink, report)
        plane = plane_of(picture, report) if channels is None else from_channels(channels, report)
        plane = _turned(plane, orientation, report, done=name == "TIFF")
        return _reduced(plane, shrink, report) if shrink and name != "JPEG" else plane


def from_picture(picture: Image.Image, report: Report, *, frame: int | None = None) -> Pixels:
    """Return the grey plane of a PIL image, opened or made; EXIF orientation is applied.

    Raises:
        ImageError: The picture can't be loaded, is too large, or of a mode that no radiograph has; or it is one of
            several and none was named.
    """
    report.kind, report.size = f"PIL image of mode {picture.mode}", (picture.height, picture.width)
    check_size(picture.height, picture.width)
    with guarded("The picture"):
        before = picture.tell()
        _choose(picture, frame)
        try:
            check_depth(picture)
            orientation = _orientation(picture, report)
            plane = plane_of(picture, report)
            return _turned(plane, orientation, report, done=picture.format == "TIFF")
        finally:
            if picture.tell() != before:
                picture.seek(before)


def _opened(data: bytes, name: str) -> Image.Image:
    with guarded(f"The {name} file", "parse"), suppress(Image.DecompressionBombError):
        return Image.open(io.BytesIO(data), formats=(name,))
    raise ImageError(
        "Found a picture of more pixels than any radiograph has. Crop it, or make it smaller.", "too-large", "header"
    )


def _choose(picture: Image.Image, frame: int | None) -> None:
    """Go to the frame that was named; without a name there must be one only."""
    if frame is None:
        if getattr(picture, "is_animated", False):
            raise ImageError(
                "Found several pictures in one file, expected one. Say which with frame=, counted from 0, or save the "
                "radiograph on its own.",
                "several-images",
                "header",
            )
        return
    with suppress(EOFError):
        if frame >= 0:
            picture.seek(frame)
            check_size(picture.height, picture.width)
            return
    raise ImageError(
        f"Frame {frame} was asked for, which the file does not have. Frames are counted from 0.",
        "several-images",
        "header",
    )


def _orientation(picture: Image.Image, report: Report) -> int:
    """Return what EXIF says of how to turn the picture; 1 where it says nothing that makes sense."""
    if picture.format == "PNG":
        picture.load()  # EXIF may come after the pixels: what is wrong with these must not be taken for bad EXIF
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except _MALFORMED:
        orientation = None
    if orientation == 1 or orientation in _TURNS:
        return int(orientation)
    report.warn("orientation", "The EXIF orientation is none of 1 to 8, and was ignored: look whether the head is up.")
    return 1


def _turned(plane: Pixels, orientation: int, report: Report, *, done: bool) -> Pixels:
    """Turn the plane upright; with a TIFF, Pillow has `done` that while it loaded the pixels."""
    if orientation == 1:
        return plane
    report.step(f"turned upright by EXIF orientation {orientation}")
    return plane if done else np.ascontiguousarray(_TURNS[orientation](plane))


def _draft(picture: Image.Image, shrink: Shrink, report: Report) -> None:
    """Have a JPEG decoded at the smallest scale of its cosines that is allowed."""
    factor = min(shrink(*report.size), *report.size)
    scale = next((scale for scale in _SCALES if scale <= factor), 1)
    if scale > 1 and picture.draft(None, (picture.width // scale, picture.height // scale)):
        report.reduce(scale)
        report.step(f"decoded at 1/{scale} of its size")


def _reduced(plane: Pixels, shrink: Shrink, report: Report) -> Pixels:
    """Return the means over squares of pixels, which makes the resizing that follows several times faster."""
    factor = min(shrink(*plane.shape), *plane.shape)
    if factor < 2:
        return plane
    report.reduce(factor)
    report.step(f"averaged over squares of {factor} x {factor} pixels")
    reduced: NDArray[Any] = np.array(Image.fromarray(plane).reduce(factor))
    return reduced


def _load_png(picture: Image.Image, header: png.Png) -> None:
    """Load the pixels; a file of too few rows, which Pillow may complete with black, is refused."""
    try:
        picture.load()
    except OSError:
        if not png.is_short(header):
            raise
    else:
        last = picture.crop((0, picture.height - 1, picture.width, picture.height)).tobytes()
        doubtful = not any(last) or header.interlaced
        if getattr(picture, "is_animated", False) or not (doubtful and png.is_short(header)):
            return
    raise png.truncated()
