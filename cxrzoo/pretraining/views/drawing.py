"""A random view of each radiograph of a batch, and how a network is shown it."""

import torch
from torch import Tensor

from cxrzoo.pretraining.batches import Batch
from cxrzoo.pretraining.views.geometry import draw_places
from cxrzoo.pretraining.views.intensities import change
from cxrzoo.pretraining.views.reading import read
from cxrzoo.pretraining.views.settings import Views


def draw_views(batch: Batch, settings: Views, draws: torch.Generator) -> Tensor:
    """Return one view of each picture, float32 (B, 1, size, size) in [0, 1], whatever precision a training computes in.

    All that is random comes from `draws`: of equal state, it gives equal views. Pictures are drawn independently.

    Args:
        draws: On the batch's device.
    """
    planes = read(batch, draw_places(batch.sizes, settings, draws), settings)
    # an interpolation or a blur may end a rounding beyond 1
    return change(planes, settings, draws).clamp_(0, 1)


def normalise(planes: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (B, 1, H, W) as (B, len(mean), H, W): equal channels, each less its mean and divided by its std."""
    return torch.cat([(planes - m).div_(s) for m, s in zip(mean, std, strict=True)], dim=1)
