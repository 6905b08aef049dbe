"""Energy bands: how much contrast a radiograph has at each scale, from vessels to lungs, and how to change it.

In the manner of localized energy-based normalisation (Philipsen et al., IEEE TMI 2015). That this is what
arXiv:2201.01283 calls an energy-based adjustment is our reading: its authors don't say. Planes are float32
(B, 1, H, W) of any size, also smaller than the blurs are wide.
"""

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from cxrzoo.pretraining.views.chances import draw_normal
from cxrzoo.pretraining.views.filters import blur_all

#: Gaussian blurs, one after the other (DIAGNijmegen/opencxr, opencxr/utils/normalization.py).
SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)

#: Standard deviations to aim at: of the residual, which is the unit, and of the bands from the coarsest to the finest,
#: measured in the central 70 % or in the lungs (opencxr, same file).
REFERENCES = {
    "central": (1.0, 0.1505, 0.0947, 0.0634, 0.0452, 0.0357),
    "lungs": (1.0, 0.2609, 0.1881, 0.1398, 0.1034, 0.0750),
}

#: What varies by less than this share of the brightest pixel is rounding of float32, not contrast.
FLOOR = 1e-5

#: The whole picture, the central 70 % of both its sides, or (B, 1, H, W) with 1 inside and 0 outside, such as lungs.
Region = Literal["whole", "central"] | Tensor


def split_bands(planes: Tensor) -> Tensor:
    """Return (B, 6, H, W): the residual, then the bands from the coarsest to the finest. Their sum is `planes`."""
    return torch.cat(list(_peel(planes))[::-1], dim=1)


def measure_energies(bands: Tensor, region: Region = "whole") -> Tensor:
    """Return the standard deviation in a region, (B, C), of bands (B, C, H, W)."""
    return _moments(bands, region)[1][:, :, 0, 0]


def scale_bands(bands: Tensor, energies: tuple[float, ...], region: Region, floor: Tensor) -> Tensor:
    """Return bands (B, 6, H, W) with those energies in a region; the residual has mean 0 there.

    Args:
        floor: (B, 1, 1, 1). What a band has of contrast is divided by no less: where there is none, none is made.
    """
    means, deviations = _moments(bands, region)
    wanted = bands.new_tensor(energies)[:, None, None]
    scaled = bands.clone()
    scaled[:, :1] -= means[:, :1]
    return scaled * (wanted / deviations.maximum(floor))


def normalise_energy(
    planes: Tensor, *, reference: Literal["central", "lungs"] = "central", region: Region = "central"
) -> Tensor:
    """Return planes whose bands have the energies of a reference; gain and offset of the input make no difference.

    The residual has mean 0 and standard deviation 1 in the region, so most pixels lie between -5 and 5.

    Args:
        reference: "lungs" asks for a mask of the lungs as region.
    """
    floor = (planes.abs().amax(dim=(1, 2, 3), keepdim=True) * FLOOR).clamp_min(torch.finfo(torch.float32).tiny)
    # less is lost to rounding where small differences don't stand on large grey levels
    bands = split_bands(planes - _moments(planes, region)[0])
    return scale_bands(bands, REFERENCES[reference], region, floor).sum(dim=1, keepdim=True)


def vary_energy(planes: Tensor, spread: float, draws: torch.Generator) -> Tensor:
    """Return planes in [0, 1] with each band made stronger or weaker by a factor of its own, drawn for each picture.

    The residual stays. The factors are log-normal and within 0.5 to 2.

    Args:
        spread: Standard deviation of a factor's logarithm.
    """
    factors = (spread * draw_normal((len(SIGMAS), len(planes), 1, 1, 1), draws)).exp().clamp(0.5, 2)
    varied = planes.clone()
    for band, factor in zip(_peel(planes), factors, strict=False):
        varied.addcmul_(band, factor - 1)
    return varied.clamp_(0, 1)


def _peel(planes: Tensor) -> Iterator[Tensor]:
    """Give the bands from the finest to the coarsest, then the residual."""
    for sigma in SIGMAS:
        smooth = blur_all(planes, sigma)
        yield planes - smooth
        planes = smooth
    yield planes


def _moments(bands: Tensor, region: Region) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation in a region, (B, C, 1, 1) each."""
    if isinstance(region, str):
        margin = 0.15 if region == "central" else 0.0
        top, left = (math.floor(margin * side) for side in bands.shape[2:])
        bands = bands[:, :, top : bands.shape[2] - top, left : bands.shape[3] - left]
        return bands.mean(dim=(2, 3), keepdim=True), bands.std(dim=(2, 3), correction=0, keepdim=True)
    inside = region.to(bands.dtype)
    pixels = inside.sum(dim=(2, 3), keepdim=True).clamp_min(1)
    means = (bands * inside).sum(dim=(2, 3), keepdim=True) / pixels
    squares = ((bands - means) ** 2 * inside).sum(dim=(2, 3), keepdim=True) / pixels
    return means, squares.sqrt()
