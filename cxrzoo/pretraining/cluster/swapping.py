"""The swapped prediction: what one view shows must tell the code of another view of the same image."""

import torch
from torch.nn import functional


def compute_swapped_loss(scores: torch.Tensor, codes: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the mean cross-entropy between codes and what all other views predict.

    Args:
        scores: (V, N, K) of all views, those with codes first.
        codes: (A, N, K) of the first A views; without gradient.
    """
    predicted = functional.log_softmax(scores.float() / temperature, dim=2)
    losses = [
        -(code * predicted[view]).sum(dim=1).mean()
        for assigned, code in enumerate(codes.detach())
        for view in range(len(scores))
        if view != assigned
    ]
    return torch.stack(losses).mean()
