"""An array or tensor of one picture -> one grey plane."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import ImageError
from cxrzoo.imaging.report import Report

#: uint8 in 0..255, or float32 in [0, 1].
Pixels = NDArray[np.uint8] | NDArray[np.float32]

#: (height, width) of the whole image, upright -> the largest factor by which it may be made smaller; 1 is exact.
Shrink = Callable[[int, int], int]

_MAX_SIDE = 16_384
_MAX_PIXELS = 100_000_000

#: Colour is worked off in parts of so many pixels, so that a large picture never takes ten times its memory.
_PART = 2**18

#: ITU-R 601 luma in 1/65536, the numbers of Pillow's L24 (src/libImaging/Convert.c).
_LUMA = (19595, 38470, 7471)

#: Channels that differ by no more than this many 8-bit steps come from lossy colour coding, not from colour.
_GREY_TOLERANCE = 2

#: Resampling leaves float images this far outside [0, 1].
_RANGE_TOLERANCE = 1e-6


def from_array(array: NDArray[Any], report: Report) -> Pixels:
    """Return the grey plane of (H, W), (H, W, 1 | 3 | 4) or (1 | 3, H, W), never sharing memory with `array`.

    uint8 stays as it is, uint16 is divided by 65535, and floats must already lie in [0, 1].

    Raises:
        ImageError: The shape, type or range is not that of one picture; the text says how to scale it.
    """
    pixels = _channels_last(array)
    report.kind = f"array of {array.dtype}"
    report.size = pixels.shape[0], pixels.shape[1]
    return from_channels(pixels, report)


def from_channels(pixels: NDArray[Any], report: Report) -> Pixels:
    """Return the grey plane of (H, W) or (H, W, 1 | 2 | 3 | 4), as `from_array` does; the even ones end in alpha.

    Raises:
        ImageError: The size, type or range is not that of one picture; the text says how to scale it.
    """
    check_size(pixels.shape[0], pixels.shape[1])
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).reshape(*pixels.shape[:2], -1)
    full = _full_scale(pixels)
    if pixels.dtype == np.uint16 and 1 < (brightest := int(pixels.max())) < 2**13:
        # 8 to 13 bits in 16: nearly black, and all pictures of a series alike
        report.warn(
            "bits",
            f"The brightest of 65535 steps of grey is {brightest}: are these {max(brightest.bit_length(), 8)} bits "
            "stored in 16? Then divide by the limit of the stored range (255 for 8 bits, 4095 for 12) and give floats "
            "in [0, 1].",
        )
    plane = pixels[:, :, 0] if pixels.shape[2] == 1 else _plane(pixels, full, report)
    if plane.dtype == np.uint8:
        return np.array(plane)
    if plane.dtype == np.uint16:
        report.step("divided by 65535")
        return np.asarray(np.divide(plane, np.float32(full), dtype=np.float32))
    return np.asarray(np.clip(plane, 0, 1), dtype=np.float32)


def as_floats(pixels: Pixels) -> NDArray[np.float32]:
    """Return the same picture as float32 in [0, 1]."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    return pixels.astype(np.float32, copy=False)


def check_size(rows: int, columns: int) -> None:
    """Refuse sizes that no radiograph has, before memory is spent on them.

    Raises:
        ImageError: A side is not in 1..16,384, or the picture is above 100 megapixels.
    """
    if not (0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE and rows * columns <= _MAX_PIXELS):
        raise ImageError(
            f"Found {rows} rows and {columns} columns, expected 1 to {_MAX_SIDE:,} of each and at most "
            f"{_MAX_PIXELS // 10**6} megapixels. Crop the picture, or make it smaller.",
            "too-large" if min(rows, columns) > 0 else "too-small",
            "header",
        )


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    shape = array.shape
    if array.ndim == 2:
        return array
    last, first = array.ndim == 3 and shape[2] in (1, 3, 4), array.ndim == 3 and shape[0] in (1, 3)
    if last and first and shape != (1, 1, 1):
        raise ImageError(
            f"Found an array of shape {shape}, whose channels may come first or last. Give the grey plane "
            "alone, as (height, width).",
            "values",
            "header",
        )
    if last:
        return array
    if first:
        return np.moveaxis(array, 0, 2)
    raise ImageError(
        f"Found an array of shape {shape}, expected one image: (H, W), (H, W, 1), (H, W, 3), (H, W, 4), "
        "(1, H, W) or (3, H, W). Pass the images of a batch or the frames of a series one by one.",
        "values",
        "header",
    )


def _full_scale(pixels: NDArray[Any]) -> float:
    """Return the value of white, which follows from the type and never from the content."""
    if pixels.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(pixels.dtype).max)
    if pixels.dtype.kind != "f":
        raise ImageError(
            f"Found values of type {pixels.dtype}, expected uint8, uint16, or floats in [0, 1]. Scale them "
            "with (x - lowest) / (highest - lowest), where both are the limits of the stored range "
            "(0 and 4095 for 12 bits), not of this one image.",
            "values",
            "header",
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        found = f"from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "that are NaN or infinite"
        raise ImageError(
            f"Found floating-point values {found}, expected [0, 1]. Divide by 255 for 8 bits, by 4095 for "
            "12 bits; what torchxrayvision scaled to -1024..1024 becomes (x + 1024) / 2048. Undo any normalisation by "
            "mean and std.",
            "values",
            "display",
        )
    return 1.0


def _plane(pixels: NDArray[Any], full: float, report: Report) -> NDArray[Any]:
    """Return the one grey plane of several channels, with a notice where transparency or colour was lost."""
    height, width = pixels.shape[:2]
    plane = np.empty((height, width), pixels.dtype)
    transparent, difference = 0, 0.0
    for rows in _parts(height, width):
        part = pixels[rows]
        if part.shape[2] in (2, 4):
            part, count = _composite(part, full)
            transparent += count
        plane[rows], apart = _grey(part, full)
        difference = max(difference, apart)
    if transparent:
        report.step("alpha put on black")
        report.warn(
            "transparency",
            f"{transparent / (height * width):.2%} of the picture is transparent and was put on black; a radiograph "
            "has no transparency.",
        )
    if difference > 0:
        report.step("luma of three channels")
    if difference / full * 255 > _GREY_TOLERANCE + 1e-3:
        report.warn(
            "colour",
            f"The picture is in colour: its channels differ by up to {difference / full * 255:.0f} of 255. A grey "
            "radiograph is expected; the luma (ITU-R 601) is used.",
        )
    return plane


def _parts(height: int, width: int) -> Iterator[slice]:
    step = max(1, _PART // width)
    return (slice(top, top + step) for top in range(0, height, step))


def _composite(pixels: NDArray[Any], full: float) -> tuple[NDArray[Any], int]:
    """Put a picture with transparent parts on black, which is what air looks like; say how many pixels have any."""
    colour, alpha = pixels[:, :, :-1], pixels[:, :, -1:]
    transparent = int((alpha < full).sum())
    if not transparent:
        return colour, 0
    blended = colour * (alpha / full)
    return (blended if full == 1 else np.rint(blended)).astype(pixels.dtype), transparent


def _grey(pixels: NDArray[Any], full: float) -> tuple[NDArray[Any], float]:
    """Return the only channel, the one that all channels equal, or the luma of the three; and how far they differ."""
    first, *others = (pixels[:, :, channel] for channel in range(pixels.shape[2]))
    if all(np.array_equal(first, other) for other in others):
        return first, 0.0
    red, green, blue = (np.ascontiguousarray(channel) for channel in (first, *others))
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    difference = float((highest - lowest).max())
    if full == 1:
        return np.asarray(pixels.astype(np.float64) @ np.array(_LUMA) / 65536), difference
    # 16 bits times 65536, with half a step added, is just below what uint32 holds
    luma = np.full(first.shape, 0x8000, np.uint32)
    for channel, weight in zip((red, green, blue), _LUMA, strict=True):
        luma += np.multiply(channel, weight, dtype=np.uint32)
    return luma >> np.uint32(16), difference
