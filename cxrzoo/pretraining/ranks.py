"""One training on several processes: what all of them must agree on. Without such processes, nothing is exchanged."""

import torch
from torch import distributed


def world_size() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Return which of them this is, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Return the rows of all processes, by rank, without gradient; each has as many."""
    rows = rows.detach()
    if world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def add_up(values: torch.Tensor) -> torch.Tensor:
    """Return the sum over all processes, without gradient."""
    values = values.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(values)
    return values


def from_first(values: torch.Tensor) -> torch.Tensor:
    """Return the values of the process of rank 0."""
    values = values.detach().clone()
    if world_size() > 1:
        distributed.broadcast(values, src=0)
    return values


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        distributed.barrier()
