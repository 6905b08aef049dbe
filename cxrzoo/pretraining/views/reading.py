"""The pixels of views out of their pictures: one reading for a batch, whatever its crops, rotations and flips."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cxrzoo.pretraining.batches import Batch
from cxrzoo.pretraining.views.geometry import Places
from cxrzoo.pretraining.views.settings import Views


class Canvas(NamedTuple):
    """Grey levels (B, 1, H, W), and where in them each picture is looked up.

    It begins at `corners`, (B, 2) as x and y, and is `factors` (B, 1) times smaller than it was stored.
    """

    pixels: Tensor
    corners: Tensor
    factors: Tensor


def read(batch: Batch, places: Places, settings: Views) -> Tensor:
    """Return float32 (B, 1, size, size) in [0, 1]: each picture read at its places.

    What lies beyond a picture is black. Within, a pixel at the border is as wide as any other: what lies beyond is
    never mixed into it.
    """
    canvas = Canvas(batch.pixels[:, None].float(), torch.zeros_like(places.start), torch.ones_like(places.start[:, :1]))
    if settings.interpolation == "bilinear" and settings.scale is not None:
        canvas = add_reductions(canvas, places, settings.size)
    pixels, corners, factors = canvas
    # in each picture from -1 at its left and upper end to 1 at the other
    lengths = batch.sizes.flip(1).float()
    start, across, down = ((2 * vectors / lengths)[:, :, None, None] for vectors in places)
    steps = torch.arange(0.5, settings.size, device=pixels.device) / settings.size
    positions = (start - 1 + across * steps) + down * steps[:, None]
    inside = None
    if settings.rotation or settings.scale is None:
        inside = positions.abs().amax(1, keepdim=True) < 1
    # as far as the middle of the outermost pixels: neither the padding nor another reduction is ever read
    pixel = 2 * factors / lengths
    first, last = pixel / 2 - 1, (lengths / factors).floor() * pixel - pixel / 2 - 1
    positions = positions.clamp_(first[:, :, None, None], last[:, :, None, None])
    # on the canvas, as grid_sample counts: from -1 at the left of the first pixel to 1 at the right of the last
    sides = torch.linspace(pixels.shape[3], pixels.shape[2], 2, device=pixels.device)
    spans = lengths / factors / sides
    middles = 2 * corners / sides + spans - 1
    grid = torch.addcmul(middles[:, :, None, None], positions, spans[:, :, None, None]).permute(0, 2, 3, 1)
    planes = functional.grid_sample(pixels, grid, settings.interpolation, "border", align_corners=False).div_(255)
    return planes if inside is None else planes.mul_(inside)


def add_reductions(canvas: Canvas, places: Places, size: int) -> Canvas:
    """Return a canvas with halves, quarters, ... of the pictures, and each where the view should be read.

    Bilinear interpolation looks at 2 pixels a direction, and skips those between where a view shrinks by more than 2:
    what shrinks so in both directions is read where it shrinks by 1 to 2. Half a picture is the mean of 2 x 2 pixels;
    an odd last row or column has no half.
    """
    height, width = canvas.pixels.shape[2:]
    shrinkage = torch.minimum(places.across.norm(dim=1), places.down.norm(dim=1))[:, None] / size
    reduced, top, factors, factor = [canvas.pixels], torch.zeros_like(shrinkage), canvas.factors, 2
    while min(height, width) > factor * size:
        above = sum(pixels.shape[2] for pixels in reduced[1:])
        reduced.append(functional.avg_pool2d(reduced[-1], 2))
        top = torch.where(shrinkage > factor, above, top)
        factors = torch.where(shrinkage > factor, factor, factors)
        factor *= 2
    if len(reduced) == 1:
        return canvas
    # in a column at the right, one below the other, so that one reading does for all
    column = torch.cat([functional.pad(pixels, (0, width // 2 - pixels.shape[3])) for pixels in reduced[1:]], dim=2)
    column = functional.pad(column, (0, 0, 0, height - column.shape[2]))
    corners = torch.cat([(factors > 1) * width, top], dim=1)
    return Canvas(torch.cat([canvas.pixels, column], dim=3), corners, factors)
