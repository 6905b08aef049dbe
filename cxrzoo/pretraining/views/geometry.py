"""Crops, rotations and flips of a whole batch: where in its picture each pixel of a view lies.

Positions are continuous: pixel i reaches from i to i + 1, and its grey level stands at its middle.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cxrzoo.pretraining.views.chances import draw_between, draw_chance
from cxrzoo.pretraining.views.settings import Views

#: How often a crop is drawn anew where it doesn't fit (torchvision's RandomResizedCrop.get_params does the same).
TRIALS = 10


class Boxes(NamedTuple):
    """What is cropped of each picture, (B,) each, in pixels of the picture."""

    left: Tensor
    top: Tensor
    width: Tensor
    height: Tensor


class Places(NamedTuple):
    """Where a view is read: at `start + across * column + down * row`, (B, 2) each, x and y, in pixels of the picture.

    Column and row go from 0 at the view's left and upper edge to 1 at the other.
    """

    start: Tensor
    across: Tensor
    down: Tensor


def draw_places(sizes: Tensor, settings: Views, draws: torch.Generator) -> Places:
    """Return where views are read in pictures of which `sizes` holds height and width: flipped, rotated, cropped."""
    boxes = draw_boxes(sizes, settings, draws)
    middles = sizes.flip(1) / 2
    start = torch.stack([boxes.left, boxes.top], 1) - middles
    across = torch.stack([boxes.width, torch.zeros_like(boxes.width)], 1)
    down = torch.stack([torch.zeros_like(boxes.height), boxes.height], 1)
    # from the view back to the picture: the crop was done last, the flip first
    if settings.rotation:
        angles = draw_between(-settings.rotation, settings.rotation, (len(sizes), 1), draws).deg2rad()
        start, across, down = (rotate(vectors, angles) for vectors in (start, across, down))
    if settings.flip:
        flipped = draw_chance(settings.flip, (len(sizes), 1), draws)
        start, across, down = (torch.where(flipped, mirror(vectors), vectors) for vectors in (start, across, down))
    return Places(start + middles, across, down)


def rotate(vectors: Tensor, angles: Tensor) -> Tensor:
    """Return (B, 2) vectors rotated from the x axis to the y axis, (B, 1) radians each."""
    x, y = vectors[:, :1], vectors[:, 1:]
    return torch.cat([angles.cos() * x - angles.sin() * y, angles.sin() * x + angles.cos() * y], dim=1)


def mirror(vectors: Tensor) -> Tensor:
    """Return (B, 2) vectors with left and right exchanged."""
    x, y = vectors[:, :1], vectors[:, 1:]
    return torch.cat([-x, y], dim=1)


def draw_boxes(sizes: Tensor, settings: Views, draws: torch.Generator) -> Boxes:
    """Return what is cropped of pictures of which `sizes` holds height and width."""
    if settings.scale is None:
        spare = sizes - settings.size
        choices = draw_between(0, 1, spare.shape, draws) * (spare.abs() + 1)
        # the product may round up to one more than there are
        top, left = (choices.floor().minimum(spare.abs()) * spare.sign()).unbind(1)
        side = torch.full_like(top, settings.size)
        return Boxes(left, top, side, side)
    heights, widths = sizes.float().unbind(1)
    trials = (len(sizes), TRIALS)
    areas = draw_between(*settings.scale, trials, draws) * (heights * widths)[:, None]
    low, high = settings.ratio
    ratios = draw_between(math.log(low), math.log(high), trials, draws).exp()
    wide, tall = (areas * ratios).sqrt(), (areas / ratios).sqrt()
    fits = (wide <= widths[:, None]) & (tall <= heights[:, None])
    first = fits.byte().argmax(1, keepdim=True)
    # as torchvision does where no crop fits: all of the picture, but for what the ratio forbids
    width = torch.where(fits.any(1), wide.gather(1, first)[:, 0], widths.minimum(heights * high))
    height = torch.where(fits.any(1), tall.gather(1, first)[:, 0], heights.minimum(widths / low))
    left, top = draw_between(0, 1, (2, len(sizes)), draws)
    return Boxes(left * (widths - width), top * (heights - height), width, height)
