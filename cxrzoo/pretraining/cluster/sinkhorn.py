"""Codes: how much an image belongs to each prototype, such that over all images every prototype has the same share."""

import math

import torch

from cxrzoo.pretraining.ranks import add_up, gather


@torch.no_grad()
def assign_codes(
    scores: torch.Tensor,
    *,
    epsilon: float,
    iterations: int,
    members: torch.Tensor | None = None,
    sets: int = 1,
) -> torch.Tensor:
    """Return float32 (N, K) codes of (N, K) scores; each row sums to 1, and columns nearly to the same.

    All processes take part, each with as many rows as it has, and get what one process would with all rows.

    Args:
        members: Which of the `sets` a row belongs to, (N,) from 0: each set is balanced by itself. None: all to one.
    """
    scores = scores.float()
    if members is None:
        members = scores.new_zeros(len(scores), dtype=torch.long)
    # of all processes, else rows of one would outweigh those of another
    top = gather(scores.amax()[None]).amax()
    codes = ((scores - top) / epsilon).exp()
    # SwAV's factors 1/K, 1/B and B are left out (main_swav.py:353-376): they cancel
    for _ in range(iterations):
        codes = codes / _add_by_set(codes, members, sets)[members]
        codes = codes / codes.sum(dim=1, keepdim=True)
    return codes


@torch.no_grad()
def measure_usage(codes: torch.Tensor, members: torch.Tensor, sets: int = 1) -> torch.Tensor:
    """Return the entropy of the mean code over log K, the mean of all sets that have rows: 1 if all are used alike."""
    masses = _add_by_set(codes, members, sets)
    totals = masses.sum(dim=1, keepdim=True)
    shares = masses / totals.clamp(min=torch.finfo(masses.dtype).tiny)
    entropies = -torch.xlogy(shares, shares).sum(dim=1) / math.log(codes.shape[1])
    return entropies.sum() / (totals > 0).sum()


def _add_by_set(codes: torch.Tensor, members: torch.Tensor, sets: int) -> torch.Tensor:
    """Return (sets, K) sums over all processes; products instead of `index_add`, which is not repeatable on GPUs."""
    return add_up(torch.stack([((members == number)[:, None] * codes).sum(dim=0) for number in range(sets)]))
