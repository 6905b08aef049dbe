"""An array or tensor of one picture -> one grey plane."""

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import ImageError

#: uint8 in 0..255, or float32 in [0, 1].
Pixels = NDArray[np.uint8] | NDArray[np.float32]

_MAX_SIDE = 16_384
_MAX_PIXELS = 100_000_000

#: ITU-R 601 luma in 1/65536, the numbers of Pillow's L24 (src/libImaging/Convert.c).
_LUMA = np.array([19595, 38470, 7471])

#: Channels that differ by no more than this many 8-bit steps come from lossy colour coding, not from colour.
_GREY_TOLERANCE = 2

#: Resampling leaves float images this far outside [0, 1].
_RANGE_TOLERANCE = 1e-6


def from_array(array: NDArray[Any]) -> Pixels:
    """Return the grey plane of (H, W), (H, W, 1 | 3 | 4) or (1 | 3, H, W), never sharing memory with `array`.

    uint8 stays as it is, uint16 is divided by 65535, and floats must already lie in [0, 1].

    Raises:
        ImageError: The shape, type or range is not that of one picture; the text says how to scale it.
    """
    return from_channels(_channels_last(array))


def from_channels(pixels: NDArray[Any]) -> Pixels:
    """Return the grey plane of (H, W) or (H, W, 1 | 3 | 4), as `from_array` does.

    Raises:
        ImageError: The size, type or range is not that of one picture; the text says how to scale it.
    """
    check_size(pixels.shape[0], pixels.shape[1])
    pixels = pixels.astype(pixels.dtype.newbyteorder("="), copy=False).reshape(*pixels.shape[:2], -1)
    full = _full_scale(pixels)
    if pixels.dtype == np.uint16 and 255 < pixels.max() < 2**13:
        # 9 to 13 bits in 16: nearly black, and all pictures of a series alike
        warnings.warn(
            f"The brightest of 65535 steps of grey is {pixels.max()}: are these {int(pixels.max()).bit_length()} bits "
            "stored in 16? Then divide by the limit of the stored range (4095 for 12 bits) and give floats in [0, 1].",
            stacklevel=2,
        )
    if pixels.shape[2] == 4:
        pixels = _composite(pixels, full)
    plane = _grey(pixels, full)
    if plane.dtype == np.uint8:
        return np.array(plane)
    return np.clip(plane.astype(np.float64) / full, 0, 1).astype(np.float32)


def check_size(rows: int, columns: int) -> None:
    """Refuse sizes that no radiograph has, before memory is spent on them.

    Raises:
        ImageError: A side is not in 1..16,384, or the picture is above 100 megapixels.
    """
    if not (0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE and rows * columns <= _MAX_PIXELS):
        raise ImageError(
            f"Found {rows} rows and {columns} columns, expected 1 to {_MAX_SIDE:,} of each and at most "
            f"{_MAX_PIXELS // 10**6} megapixels. Crop the picture, or make it smaller."
        )


def _channels_last(array: NDArray[Any]) -> NDArray[Any]:
    shape = array.shape
    if array.ndim == 2:
        return array
    last, first = array.ndim == 3 and shape[2] in (1, 3, 4), array.ndim == 3 and shape[0] in (1, 3)
    if last and first and shape != (1, 1, 1):
        raise ImageError(
            f"Found an array of shape {shape}, whose channels may come first or last. Give the grey plane "
            "alone, as (height, width)."
        )
    if last:
        return array
    if first:
        return np.moveaxis(array, 0, 2)
    raise ImageError(
        f"Found an array of shape {shape}, expected one image: (H, W), (H, W, 1), (H, W, 3), (H, W, 4), "
        "(1, H, W) or (3, H, W). Pass the images of a batch or the frames of a series one by one."
    )


def _full_scale(pixels: NDArray[Any]) -> float:
    """Return the value of white, which follows from the type and never from the content."""
    if pixels.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(pixels.dtype).max)
    if pixels.dtype.kind != "f":
        raise ImageError(
            f"Found values of type {pixels.dtype}, expected uint8, uint16, or floats in [0, 1]. Scale them "
            "with (x - lowest) / (highest - lowest), where both are the limits of the stored range "
            "(0 and 4095 for 12 bits), not of this one image."
        )
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -_RANGE_TOLERANCE and high <= 1 + _RANGE_TOLERANCE):
        found = f"from {low:g} to {high:g}" if np.isfinite([low, high]).all() else "that are NaN or infinite"
        raise ImageError(
            f"Found floating-point values {found}, expected [0, 1]. Divide by 255 for 8 bits, by 4095 for "
            "12 bits, and undo any normalisation by mean and std."
        )
    return 1.0


def _composite(pixels: NDArray[Any], full: float) -> NDArray[Any]:
    """Put a picture with transparent parts on black, which is what air looks like."""
    colour, alpha = pixels[:, :, :3], pixels[:, :, 3:]
    share = float((alpha < full).mean())
    if share == 0:
        return colour
    warnings.warn(
        f"{share:.2%} of the picture is transparent and was put on black; a radiograph has no transparency.",
        stacklevel=2,
    )
    blended = colour * (alpha / full)
    return (blended if full == 1 else np.rint(blended)).astype(pixels.dtype)


def _grey(pixels: NDArray[Any], full: float) -> NDArray[Any]:
    """Return the only channel, the one that all channels equal, or the luma of the three."""
    first = pixels[:, :, 0]
    if all(np.array_equal(first, pixels[:, :, other]) for other in range(1, pixels.shape[2])):
        return first
    wide = pixels.astype(np.float64)
    difference = float(np.ptp(wide, axis=2).max()) / full * 255
    if difference > _GREY_TOLERANCE + 1e-3:
        warnings.warn(
            f"The picture is in colour: its channels differ by up to {difference:.0f} of 255. A grey radiograph "
            "is expected; the luma (ITU-R 601) is used.",
            stacklevel=2,
        )
    if full == 1:
        return np.asarray(wide @ _LUMA / 65536)
    return np.asarray((pixels.astype(np.int64) @ _LUMA + 0x8000) >> 16, dtype=pixels.dtype)
