"""Changes of grey levels, drawn for each view of a batch; planes are float32 (B, 1, H, W) in [0, 1] throughout."""

import math

import torch
from torch import Tensor

from cxrzoo.pretraining.views.chances import draw_between, draw_chance, draw_normal
from cxrzoo.pretraining.views.energy import vary_energy
from cxrzoo.pretraining.views.filters import blur
from cxrzoo.pretraining.views.settings import Views


def change(planes: Tensor, settings: Views, draws: torch.Generator) -> Tensor:
    """Return the planes with all changes that the settings switch on. Those that were given may be overwritten."""
    each = (len(planes), 1, 1, 1)
    if settings.gamma > 1:
        limit = math.log(settings.gamma)
        planes = planes.pow_(draw_between(-limit, limit, each, draws).exp())
    if settings.gain or settings.offset:
        gains = draw_between(1 - settings.gain, 1 + settings.gain, each, draws)
        offsets = draw_between(-settings.offset, settings.offset, each, draws)
        planes = planes.mul_(gains).add_(offsets).clamp_(0, 1)
    if settings.bands:
        planes = vary_energy(planes, settings.bands, draws)
    if settings.jitter:
        planes = jitter(planes, settings, draws)
    if settings.blur:
        sigmas = draw_between(*settings.blur_sigma, each[:1], draws)
        # without a transfer of which ones: all are blurred, some by too little to change a digit
        sigmas = torch.where(draw_chance(settings.blur, each[:1], draws), sigmas, 1e-3)
        planes = blur(planes, sigmas, settings.blur_radius)
    if settings.noise:
        deviations = draw_between(0, settings.noise, each, draws)
        planes = planes.addcmul_(draw_normal(planes.shape, draws), deviations).clamp_(0, 1)
    return planes


def jitter(planes: Tensor, settings: Views, draws: torch.Generator) -> Tensor:
    """Return planes of which some are brighter or darker, and nearer to or further from their mean, in either order.

    As torchvision's ColorJitter does with grey pictures: both are cut off at black and white, one after the other.
    """
    each = (len(planes), 1, 1, 1)
    chosen, brightness_first = draw_chance(settings.jitter, each, draws), draw_chance(0.5, each, draws)
    brightness = draw_between(1 - settings.brightness, 1 + settings.brightness, each, draws)
    contrast = draw_between(1 - settings.contrast, 1 + settings.contrast, each, draws)
    for is_brightness in (brightness_first, ~brightness_first):
        factors = torch.where(chosen, torch.where(is_brightness, brightness, contrast), 1)
        pivots = torch.where(is_brightness, 0, planes.mean(dim=(2, 3), keepdim=True))
        planes = planes.mul_(factors).add_((1 - factors) * pivots).clamp_(0, 1)
    return planes
