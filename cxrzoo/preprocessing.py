"""A radiograph -> the tensor a model expects, exactly as its record says.

For 8-bit grey pictures the tensor is the one that timm's evaluation transform gives for the same settings. All
resizing is Pillow's, which averages over all pixels it covers (antialiasing): torch and OpenCV differ there.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError, RecordError
from cxrzoo.imaging import Pixels, read_pixels
from cxrzoo.manifest import Preprocessing

if TYPE_CHECKING:
    from cxrzoo.imaging import Source

#: No radiograph is longer; resizing the shorter side of a sliver would fill the memory.
_MAX_ASPECT = 16

_RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True)
class Transform:
    """Turns one radiograph into the tensor that `record` describes; deterministic, and safe to send to workers.

    Raises:
        RecordError: The record asks for a geometry that is not supported.

    Example:
        >>> record = Preprocessing((3, 320, 320), (.502,) * 3, (.0856,) * 3, "bilinear", 1.0, "center")
        >>> Transform(record)(np.zeros((400, 500), np.uint8)).shape
        torch.Size([3, 320, 320])
    """

    record: Preprocessing

    def __post_init__(self) -> None:
        _, height, width = self.record.input_size
        if self.record.crop_mode == "center" and height != width:
            raise RecordError(
                f"input_size: found {height} x {width} with crop_mode 'center', expected a square. "
                "Use crop_mode 'squash' for other shapes."
            )

    def __call__(self, source: "Source") -> torch.Tensor:
        """Return the tensor (channels, height, width), float32, normalised.

        Raises:
            ImageError: The source is not one grey image, or is damaged.
        """
        pixels = self._framed(source)
        return normalise(to_channels(to_unit_range(pixels), self.record), self.record)

    def display(self, source: "Source") -> NDArray[np.uint8]:
        """Return what the model gets to see, before normalisation, as (height, width) in 0..255.

        Raises:
            ImageError: The source is not one grey image, or is damaged.
        """
        pixels = self._framed(source)
        if pixels.dtype == np.uint8:
            return pixels.astype(np.uint8, copy=False)
        return np.rint(pixels * 255).astype(np.uint8)

    def _framed(self, source: "Source") -> Pixels:
        pixels = read_pixels(source)
        height, width = resized_shape(pixels.shape[0], pixels.shape[1], self.record)
        return crop_center(resize(pixels, height, width, self.record), self.record)


def resized_shape(height: int, width: int, record: Preprocessing) -> tuple[int, int]:
    """Return the (height, width) to resize to, before the crop: the target size divided by `crop_pct`.

    "center" gives that size to the shorter side and keeps the aspect ratio; "squash" gives it to both sides.

    Raises:
        ImageError: The picture is a sliver.
    """
    short, long = min(height, width), max(height, width)
    if long > _MAX_ASPECT * short:
        raise ImageError(
            f"Found a picture of {height} x {width} pixels, expected sides of at most 1 : {_MAX_ASPECT}. "
            "Is this a strip cut from a radiograph? Give the whole image."
        )
    scaled_height, scaled_width = (math.floor(side / record.crop_pct) for side in record.input_size[1:])
    if record.crop_mode == "squash":
        return scaled_height, scaled_width
    # The longer side is truncated, not rounded: torchvision.transforms.functional._compute_resized_image_output_size
    scaled_long = int(scaled_height * long / short)
    return (scaled_height, scaled_long) if height <= width else (scaled_long, scaled_height)


def resize(pixels: Pixels, height: int, width: int, record: Preprocessing) -> Pixels:
    """Return `pixels` at the new size, in the type they have; bicubic overshoot is cut off at black and white."""
    picture = Image.fromarray(pixels)
    resized = np.array(picture.resize((width, height), _RESAMPLING[record.interpolation]))
    return resized if resized.dtype == np.uint8 else resized.clip(0, 1)


def crop_center(pixels: Pixels, record: Preprocessing) -> Pixels:
    """Return the middle of the picture, which is never smaller than the target."""
    _, height, width = record.input_size
    # Halves are rounded to even, as torchvision.transforms.functional.center_crop does.
    top, left = round((pixels.shape[0] - height) / 2), round((pixels.shape[1] - width) / 2)
    return pixels[top : top + height, left : left + width]


def to_unit_range(pixels: Pixels) -> torch.Tensor:
    """Return float32 (height, width) in [0, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    return tensor.to(torch.float32).div(255) if tensor.dtype == torch.uint8 else tensor


def to_channels(plane: torch.Tensor, record: Preprocessing) -> torch.Tensor:
    """Return (channels, height, width) with the same plane in each channel."""
    return plane.expand(record.input_size[0], -1, -1)


def normalise(channels: torch.Tensor, record: Preprocessing) -> torch.Tensor:
    """Subtract `mean` and divide by `std`, both in float32, channel by channel."""
    mean, std = (
        torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None] for values in (record.mean, record.std)
    )
    return channels.sub(mean).div_(std)
