"""LARC: SGD whose every tensor moves at a rate of its own, by the length of its weights beside that of its gradient."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

_TINY = 1e-8  # apex/parallel/LARC.py


class Larc(Optimizer):
    """SGD with momentum, of gradients scaled as apex's LARC scales them without clipping.

    A gradient becomes trust · |w| / (|g| + decay · |w|) · (g + decay · w), unless |w| or |g| is 0. The defaults are
    those of SwAV (main_swav.py): learning rates are much larger than those of plain SGD, 4.8 for batches of 4096.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor] | Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        decay = group["weight_decay"]
        length, slope = torch.linalg.vector_norm(parameter), torch.linalg.vector_norm(gradient)
        rate = group["trust"] * length / (slope + decay * length + _TINY)
        # no `if` on lengths: it would wait for the GPU once a tensor
        scaled = torch.where((length > 0) & (slope > 0), rate * (gradient + decay * parameter), gradient)
        state = self.state[parameter]
        if "momentum_buffer" in state:
            state["momentum_buffer"].mul_(group["momentum"]).add_(scaled)
        else:
            state["momentum_buffer"] = scaled.clone()
        parameter.add_(state["momentum_buffer"], alpha=-group["lr"])
