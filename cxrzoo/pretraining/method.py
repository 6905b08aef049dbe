"""What a training method is to the loop that runs it."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import nn

from cxrzoo.pretraining.batches import Batch, Progress


class Method(nn.Module, ABC):
    """A backbone with all it takes to train it without labels. Its `state_dict` is all it takes to go on.

    Attributes:
        backbone: A timm network without classifier, which is what remains of the training.
        mean, std: What normalises pixels in [0, 1], a number for each channel.
    """

    backbone: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> dict[str, torch.Tensor]:
        """Return "loss" with its gradient, "embeddings" (B, D) without, and scalars without gradient to be recorded."""

    @abstractmethod
    def export(self, epoch: int, optimizer: dict[str, Any]) -> dict[str, Any]:
        """Return the checkpoint as the method's authors lay it out, for `torch.save`."""

    @abstractmethod
    def file_name(self, epoch: int) -> str:
        """Return how the authors name the file of that checkpoint."""

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return what the optimizer moves."""
        learned = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [{"params": learned, "weight_decay": weight_decay}]

    def adjust_gradients(self, progress: Progress) -> None:
        """Change gradients after they were computed, and before the optimizer sees them."""

    def follow(self, progress: Progress) -> None:
        """Do what follows a step of the optimizer."""


def count_features(backbone: nn.Module) -> int:
    """Return the length of what a timm network without classifier gives; some widen their features after pooling."""
    return int(getattr(backbone, "head_hidden_size", None) or backbone.num_features)  # type: ignore[arg-type]
