"""What stands on the tokens of a transformer while it trains, under the names of GMML's and SiT's code."""

import torch
from torch import nn


class ReconstructionHead(nn.Module):
    """Three layers on each patch token, and one that paints its patch."""

    def __init__(self, width: int, channels: int, patch: tuple[int, int]) -> None:
        super().__init__()
        layers = [nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)]
        self.mlp = nn.Sequential(*layers, nn.GELU())
        self.convTrans = nn.ConvTranspose2d(width, channels, kernel_size=patch, stride=patch)
        _initialise(self.mlp)

    def forward(self, tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
        """Return the image that tokens (B, height * width, D) of a grid stand for."""
        return self.convTrans(self.mlp(tokens).transpose(1, 2).unflatten(2, grid))  # type: ignore[no-any-return]


class ProjectionHead(nn.Module):
    """Three layers on the class token, with SiT's two activations; the last batch norm learns nothing."""

    def __init__(self, width: int, hidden: int, dimension: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, dimension),
            nn.BatchNorm1d(dimension, affine=False),
        )
        _initialise(self.mlp)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the projections of class tokens (B, D)."""
        return self.mlp(tokens)  # type: ignore[no-any-return]


def _initialise(layers: nn.Sequential) -> None:
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
