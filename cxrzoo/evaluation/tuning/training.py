"""The state of one training: a backbone with a linear classifier, its optimizer, and the best weights so far."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional

from cxrzoo.evaluation.tuning.minibatches import Inputs, Positions
from cxrzoo.evaluation.tuning.snapshots import Tensors


class Classifier(nn.Module):
    """A backbone and a linear layer on its embedding, which starts at zero: every logit is 0, whatever the seed."""

    def __init__(self, backbone: nn.Module, dimension: int, findings: int) -> None:
        super().__init__()
        self.backbone = backbone
        # without drawing weights, which would move the caller's random numbers on
        self.head = nn.Linear(dimension, findings, device="meta").to_empty(device="cpu")
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.backbone(batch))
        return logits


def masked_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross-entropy of the entries whose target is 0 or 1; NaN is left out."""
    used = ~torch.isnan(targets)
    # zeros before the loss and not after it: a NaN times 0 would still be one
    losses = functional.binary_cross_entropy_with_logits(logits, torch.where(used, targets, 0), reduction="none")
    return torch.where(used, losses, 0).sum() / used.sum()


class Training:
    """Moves the weights of a classifier by Adam; what is frozen stays in evaluation mode."""

    def __init__(
        self,
        network: Classifier,
        *,
        end_to_end: bool,
        bn_adapt: bool,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
    ) -> None:
        self.network = network
        self._end_to_end, self._bn_adapt = end_to_end, bn_adapt
        network.backbone.requires_grad_(end_to_end)
        learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.Adam(learned, lr=learning_rate, betas=betas, weight_decay=weight_decay)
        self._best: Tensors = {}

    def run_epoch(self, batches: Iterable[Positions], inputs: Inputs, targets: torch.Tensor) -> float:
        """Take one step a batch, and return the mean loss of all entries that are used."""
        self.network.train(self._end_to_end)
        if self._bn_adapt:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.train()
        total, used = torch.zeros(2, device=targets.device)
        for rows in batches:
            known = targets[torch.from_numpy(rows).to(targets.device)]
            loss = masked_loss(self.network(inputs(rows)), known)
            self._optimizer.zero_grad()
            torch.autograd.backward(loss)
            self._optimizer.step()
            entries = (~torch.isnan(known)).sum()
            total, used = total + loss.detach() * entries, used + entries
        self.network.eval()
        return float(total / used)

    def keep_best(self) -> None:
        """Remember the weights as they are now."""
        self._best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def return_to_best(self) -> None:
        """Take the weights that were kept last."""
        self.network.load_state_dict(self._best)

    def collect(self) -> dict[str, Tensors]:
        """Return all tensors it takes to go on from here."""
        moments = {
            f"{number}.{name}": value
            for number, state in self._optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        return {"network": self.network.state_dict(), "best": self._best, "adam": moments}

    def restore(self, groups: dict[str, Tensors]) -> None:
        """Go on from what `collect` returned."""
        self.network.load_state_dict(groups["network"])
        device = self.network.head.weight.device
        self._best = {name: tensor.to(device) for name, tensor in groups["best"].items()}
        moments: dict[int, Tensors] = {}
        for key, value in groups["adam"].items():
            number, _, name = key.partition(".")
            moments.setdefault(int(number), {})[name] = value
        self._optimizer.load_state_dict(self._optimizer.state_dict() | {"state": moments})
