"""Prototypes: directions that projections are compared with, of length 1 and without bias."""

import torch
from torch import nn
from torch.nn import functional


class Prototypes(nn.Module):
    """One set of prototypes, or several of which each image belongs to one."""

    def __init__(self, count: int, dim: int, sets: int = 1) -> None:
        super().__init__()
        self.sets = nn.ModuleList(nn.Linear(dim, count, bias=False) for _ in range(sets))
        self.normalise()

    @torch.no_grad()
    def normalise(self) -> None:
        """Give all prototypes length 1, which steps of the optimizer change."""
        for weight in self.parameters():
            weight.copy_(functional.normalize(weight, dim=1))

    def forward(self, projections: torch.Tensor, members: torch.Tensor) -> torch.Tensor:
        """Return (N, K) scores: the product of each row with all prototypes of its set."""
        scores: torch.Tensor = self.sets[0](projections)
        # every set sees every row: with none of its own in a batch, it still has a gradient, which is 0
        for number, linear in enumerate(list(self.sets)[1:], start=1):
            scores = torch.where((members == number)[:, None], linear(projections), scores)
        return scores
