"""Random numbers for all pictures of a batch, on the device of the generator that they are drawn from."""

import torch
from torch import Tensor


def draw_between(low: float, high: float, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    """Return numbers between the two, all equally likely."""
    return low + (high - low) * torch.rand(shape, generator=draws, device=draws.device)


def draw_chance(probability: float, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    """Return True with that probability, else False."""
    return torch.rand(shape, generator=draws, device=draws.device) < probability


def draw_normal(shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    """Return numbers with a normal distribution of mean 0 and standard deviation 1."""
    return torch.randn(shape, generator=draws, device=draws.device)
