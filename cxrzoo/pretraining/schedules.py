"""Learning rate and weight decay at each step, and the optimizer that takes them."""

import math
from typing import Any

import torch

from cxrzoo.pretraining.cluster.larc import Larc
from cxrzoo.pretraining.method import Method
from cxrzoo.pretraining.plans import Optimisation


def learning_rate(optimisation: Optimisation, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step, counted from 0."""
    o = optimisation
    epoch = step / steps_per_epoch
    if epoch < o.warmup_epochs:
        return o.warmup_from + (o.learning_rate - o.warmup_from) * epoch / o.warmup_epochs
    if o.schedule == "steps":
        return float(o.learning_rate * o.factor ** sum(epoch >= milestone for milestone in o.milestones))
    return _cosine(o.learning_rate, o.final_learning_rate, (epoch - o.warmup_epochs) / (o.epochs - o.warmup_epochs))


def weight_decay(optimisation: Optimisation, step: int, steps_per_epoch: int) -> float:
    """Return the weight decay of a step, counted from 0."""
    o = optimisation
    if o.final_weight_decay is None:
        return o.weight_decay
    return _cosine(o.weight_decay, o.final_weight_decay, step / (o.epochs * steps_per_epoch))


def _cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * (1 + math.cos(math.pi * min(share, 1.0))) / 2


def build_optimizer(method: Method, optimisation: Optimisation) -> torch.optim.Optimizer:
    """Return the optimizer of a plan over what the method learns."""
    o = optimisation
    groups: list[dict[str, Any]] = method.parameter_groups(o.weight_decay)
    if o.optimizer == "adam":
        return torch.optim.Adam(groups, lr=o.learning_rate, betas=o.betas)
    if o.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=o.learning_rate, betas=o.betas)
    if o.optimizer == "larc":
        return Larc(groups, lr=o.learning_rate, momentum=o.momentum)
    return torch.optim.SGD(groups, lr=o.learning_rate, momentum=o.momentum)


class Schedule:
    """Sets learning rate and weight decay of an optimizer; groups without weight decay stay so."""

    def __init__(self, optimizer: torch.optim.Optimizer, optimisation: Optimisation, steps_per_epoch: int) -> None:
        self._optimizer, self._optimisation, self._steps = optimizer, optimisation, steps_per_epoch
        self._decays = [group["weight_decay"] > 0 for group in optimizer.param_groups]

    def set(self, step: int) -> float:
        """Set both for a step, counted from 0, and return the learning rate."""
        rate = learning_rate(self._optimisation, step, self._steps)
        decay = weight_decay(self._optimisation, step, self._steps)
        for group, decays in zip(self._optimizer.param_groups, self._decays, strict=True):
            group["lr"] = rate
            group["weight_decay"] = decay if decays else 0.0
        return rate
