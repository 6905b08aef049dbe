"""Projections of earlier images, which help to balance the codes of a batch that is smaller than the prototypes."""

import torch
from torch import nn

from cxrzoo.pretraining.ranks import gather, rank, world_size


class Queue(nn.Module):
    """The latest images of all processes, the newest in front, with one projection for each assigned view.

    Every process holds all of it, so that a checkpoint of one is enough to go on, with another number of them too.
    """

    projections: torch.Tensor
    members: torch.Tensor
    entered: torch.Tensor

    def __init__(self, views: int, length: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("projections", torch.zeros(views, length, dim))
        self.register_buffer("members", torch.zeros(length, dtype=torch.long))
        self.register_buffer("entered", torch.full((length,), -1))  # the step; -1 where nothing has entered yet

    @property
    def full(self) -> bool:
        """Whether the last row holds an image."""
        return bool(self.entered[-1] >= 0)

    def share(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the projections (views, rows, dim) that this process adds to its batch, and their members (rows)."""
        own = slice(rank(), None, world_size())
        return self.projections[:, own], self.members[own]

    @torch.no_grad()
    def push(self, projections: torch.Tensor, members: torch.Tensor, step: int) -> None:
        """Put a batch of all processes in front; the oldest images fall out."""
        new = gather(projections.float().transpose(0, 1).contiguous()).transpose(0, 1)
        length = len(self.entered)
        self.projections.copy_(torch.cat([new, self.projections], dim=1)[:, :length])
        self.members.copy_(torch.cat([gather(members), self.members])[:length])
        self.entered.copy_(torch.cat([self.entered.new_full((new.shape[1],), step), self.entered])[:length])

    def age(self, step: int) -> torch.Tensor:
        """Return how many steps ago the images entered, on average; 0 while there are none."""
        there = self.entered >= 0
        return ((step - self.entered) * there).sum() / there.sum().clamp(min=1)
