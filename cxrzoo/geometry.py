"""Resize, crop and pad grey pixels: what timm's evaluation transform does to a PIL image, without torch.

All resizing is Pillow's, which averages over all pixels it covers (antialiasing): torch and OpenCV differ there.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging import Pixels, Report
from cxrzoo.manifest import Preprocessing

#: No radiograph is longer; resizing the shorter side of a sliver would fill the memory.
_MAX_ASPECT = 16

#: Fast reading leaves so many times the size to resize to. With 2.0, embeddings of real ImageNet backbones fell below
#: a cosine of .999 to the exact ones; with 2.4 none did (benchmarks/faithful.py).
_HEADROOM = 2.4

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def fit(
    pixels: Pixels, record: Preprocessing, whole: tuple[int, int] | None = None, report: Report | None = None
) -> Pixels:
    """Return `pixels` at the record's size, in the type they have: resized, padded if the record says so, cropped.

    Bicubic resizing leaves floats a little outside of the range that they had.

    Args:
        whole: The (height, width) that the picture had before it was made smaller while it was read.
        report: How it was read, if it was made smaller.

    Raises:
        ImageError: The picture is a sliver.
    """
    resized = resize(pixels, record, whole, report)
    if record.crop_mode == "pad":
        resized = pad(resized, max(resized.shape))
    return crop_center(resized, record)


def resize(
    pixels: Pixels, record: Preprocessing, whole: tuple[int, int] | None = None, report: Report | None = None
) -> Pixels:
    """Return the whole picture as `fit` resizes it, before it is padded or cropped.

    Raises:
        ImageError: The picture is a sliver.
    """
    report = report or Report()
    whole = whole or (pixels.shape[0], pixels.shape[1])
    height, width = resized_shape(whole[0], whole[1], record)
    picture: NDArray[Any] = undo_spread(pixels, report.spread) if report.spread else pixels
    first = 0.0
    if report.sampled:
        # The first pixel is the upper left one of its square, so that the picture begins inside of it.
        first = (report.factor - 1) / (2 * report.factor)
        picture = np.pad(picture, ((0, 1), (0, 1)), mode="edge")
    # The last square may lie across the border of the picture: what is beyond is left out.
    lower, right = (min(first + full / report.factor, side) for full, side in zip(whole, picture.shape, strict=True))
    resampling = _RESAMPLING[record.interpolation]
    return np.array(Image.fromarray(picture).resize((width, height), resampling, (first, first, right, lower)))


def undo_spread(pixels: Pixels, spread: float) -> Pixels:
    """Return the pixels as sharp as samples of a picture that was made smaller with a second moment of `spread`.

    The kernel (a, 1 - 2a, a) along rows and columns has the moment 2a, and moments add up.
    """
    share = np.float32(-spread / 2)
    sharp: NDArray[np.float32] = pixels.astype(np.float32)
    for _ in range(2):
        around = np.pad(sharp, ((1, 1), (0, 0)), mode="edge")
        sharp = ((1 - 2 * share) * sharp + share * (around[:-2] + around[2:])).T
    if pixels.dtype == np.uint8:
        return np.rint(sharp).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(sharp)


def resized_shape(height: int, width: int, record: Preprocessing) -> tuple[int, int]:
    """Return the (height, width) to resize to, before the crop: the target size divided by `crop_pct`.

    "center" gives that size to the shorter side and "pad" to the longer one, both keep the aspect ratio; "squash"
    gives it to both sides.

    Raises:
        ImageError: The picture is a sliver.
    """
    short, long = min(height, width), max(height, width)
    if long > _MAX_ASPECT * short:
        raise ImageError(
            f"Found a picture of {height} x {width} pixels, expected sides of at most 1 : {_MAX_ASPECT}. "
            "Is this a strip cut from a radiograph? Give the whole image.",
            "too-small",
            "geometry",
        )
    scaled_height, scaled_width = (math.floor(side / record.crop_pct) for side in record.input_size[1:])
    if record.crop_mode == "squash":
        return scaled_height, scaled_width
    scaled = scaled_height  # of a square
    # The other side is truncated, not rounded: torchvision.transforms.functional._compute_resized_image_output_size;
    # for "pad" so do data_process.py (preprocess) of CheXzero and mgca/datasets/utils.py (resize_img) of MGCA.
    if record.crop_mode == "pad":
        other = max(scaled * short // long, 1)
        return (scaled, other) if height > width else (other, scaled)
    other = int(scaled * long / short)
    return (scaled, other) if height <= width else (other, scaled)


def largest_factor(height: int, width: int, record: Preprocessing) -> int:
    """Return how many times smaller a picture may be read, so that enough is left above the size to resize to.

    Raises:
        ImageError: The picture is a sliver.
    """
    target_height, target_width = resized_shape(height, width, record)
    return max(int(min(height / target_height, width / target_width) / _HEADROOM), 1)


def pad(pixels: Pixels, side: int) -> Pixels:
    """Return the picture in the middle of a black square; an odd pixel is put below, or to the right."""
    height, width = pixels.shape
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), pixels.dtype)
    square[top : top + height, left : left + width] = pixels
    return square


def crop_center(pixels: Pixels, record: Preprocessing) -> Pixels:
    """Return the middle of the picture, which is never smaller than the target."""
    _, height, width = record.input_size
    # Halves are rounded to even, as torchvision.transforms.functional.center_crop does.
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]
