"""The supervised half of the hybrid loss: what is known of some images, beside what is learned of all."""

import torch
from torch.nn import functional

from cxrzoo.pretraining.batches import Progress
from cxrzoo.pretraining.cluster.settings import ClusterSettings
from cxrzoo.pretraining.ranks import add_up, world_size


def compute_label_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean binary cross-entropy of all known labels of all processes; 0 if none is known.

    Each process returns its part times their number, because they average gradients.

    Args:
        labels: 1, 0, and NaN where nothing is known.
    """
    known = ~labels.isnan()
    losses = functional.binary_cross_entropy_with_logits(logits.float(), labels.nan_to_num(), reduction="none")
    count = add_up(known.sum()).clamp(min=1)
    return (losses * known).sum() * world_size() / count


def weigh_labels(settings: ClusterSettings, progress: Progress) -> float:
    """Return the weight of that loss at this step."""
    steps = settings.supervised_ramp * progress.steps_per_epoch
    return settings.supervised * min(1.0, (progress.step + 1) / steps if steps else 1.0)
