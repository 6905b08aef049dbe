"""What a method is given at each step: pictures with what a table says of them, and where the training stands."""

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """Radiographs of one step, on the device that trains.

    `pixels` is uint8 (B, H, W): each picture with its own aspect ratio in the upper left corner, black beyond. `sizes`
    is int64 (B, 2), its height and width there. `modalities` is int64 (B,), from 0. `labels` is float32
    (B, findings): 1, 0, and NaN where nothing is known.
    """

    pixels: torch.Tensor
    sizes: torch.Tensor
    modalities: torch.Tensor
    labels: torch.Tensor


class Progress(NamedTuple):
    """Where a training stands: `step` counts the steps that are done.

    `draws` gives all random numbers of the step. Its state follows from seed, step and rank alone, so that a training
    that goes on from step 1000 draws what it would have drawn without the interruption. It lies on the batch's device.
    """

    step: int
    steps: int
    steps_per_epoch: int
    draws: torch.Generator
