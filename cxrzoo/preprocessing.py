"""A radiograph -> the tensor a model expects, exactly as its record says.

For 8-bit grey pictures the tensor is the one that timm's evaluation transform gives for the same settings, as long as
timm has words for them.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from cxrzoo.framing import frame as framed
from cxrzoo.imaging import Pixels
from cxrzoo.manifest import Preprocessing

if TYPE_CHECKING:
    from cxrzoo.imaging import Source


@dataclass(frozen=True)
class Transform:
    """Turns one radiograph into the tensor that `record` describes; deterministic, and safe to send to workers.

    Example:
        >>> record = Preprocessing((3, 320, 320), (.502,) * 3, (.0856,) * 3, "bilinear", 1.0, "center")
        >>> Transform(record)(np.zeros((400, 500), np.uint8)).shape
        torch.Size([3, 320, 320])
    """

    record: Preprocessing

    def __call__(self, source: "Source", *, frame: int | None = None, window: str | int | None = None) -> torch.Tensor:
        """Return the tensor (channels, height, width), float32, normalised.

        Args:
            frame: Which of several frames or pages, counted from 0.
            window: Which of several windows or VOI LUTs of a DICOM image, by its explanation or its position.

        Raises:
            ImageError: The source is not one grey image, or is damaged.
        """
        reading = framed(source, self.record, frame=frame, window=window)
        reading.report.emit_warnings()
        return to_tensor(reading.pixels, self.record)

    def display(
        self, source: "Source", *, frame: int | None = None, window: str | int | None = None
    ) -> NDArray[np.uint8]:
        """Return what the model gets to see, before normalisation, as (height, width) in 0..255.

        Raises:
            ImageError: The source is not one grey image, or is damaged.
        """
        reading = framed(source, self.record, frame=frame, window=window)
        reading.report.emit_warnings()
        pixels = reading.pixels
        if pixels.dtype == np.uint8:
            return pixels.astype(np.uint8, copy=False)
        return np.rint(pixels * 255).astype(np.uint8)


def to_tensor(pixels: Pixels, record: Preprocessing) -> torch.Tensor:
    """Return the tensor of pixels that `framing.frame` made for the same record, in this process or in another."""
    return normalise(to_channels(to_unit_range(pixels), record), record)


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
