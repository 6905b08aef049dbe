"""Gaussian blurs as products with matrices: any radius on any picture, and each picture of a batch with its own."""

import math
from functools import lru_cache

import torch
from torch import Tensor

#: A kernel ends at so many sigma, where it has fallen to 0.03 % (scipy.ndimage.gaussian_filter: truncate=4).
REACH = 4.0


def smoothing(length: int, sigmas: Tensor, radius: int) -> Tensor:
    """Return (S, length, length): matrices whose product with a column of grey levels is the column, blurred.

    Beyond its ends a column is mirrored at its outermost pixels, as often as the radius asks for.
    """
    positions = torch.arange(length, device=sigmas.device)
    steps = torch.arange(-radius, radius + 1, device=sigmas.device)
    kernels = torch.exp(-0.5 * (steps / sigmas[:, None]) ** 2)
    kernels = kernels / kernels.sum(dim=1, keepdim=True)
    period = max(2 * (length - 1), 1)
    mirrored = (length - 1) - ((steps[:, None] + positions) % period - (length - 1)).abs()
    chosen = (mirrored[:, :, None] == positions).float()
    return (kernels @ chosen.flatten(1)).view(-1, length, length)


@lru_cache(maxsize=64)
def fixed_smoothing(length: int, sigma: float, device: torch.device) -> Tensor:
    """Return the matrix (length, length) of one blur; it is kept, since all pictures of a training are of few sizes."""
    return smoothing(length, torch.full((1,), sigma, device=device), math.ceil(REACH * sigma))[0]


def blur(planes: Tensor, sigmas: Tensor, radius: int) -> Tensor:
    """Return (B, 1, H, W) blurred by `sigmas` (B,), in pixels: float32 even where a training computes in less.

    As 0 has no kernel, whoever wants no blur passes a tiny sigma.
    """
    height, width = planes.shape[2:]
    with torch.autocast(planes.device.type, enabled=False):
        rows = smoothing(height, sigmas, radius)[:, None]
        columns = rows if width == height else smoothing(width, sigmas, radius)[:, None]
        return rows @ planes @ columns.mT


def blur_all(planes: Tensor, sigma: float) -> Tensor:
    """Return (B, 1, H, W) blurred by one sigma: float32 even where a training computes in less."""
    height, width = planes.shape[2:]
    with torch.autocast(planes.device.type, enabled=False):
        rows = fixed_smoothing(height, sigma, planes.device)
        return rows @ (planes @ fixed_smoothing(width, sigma, planes.device).mT)
