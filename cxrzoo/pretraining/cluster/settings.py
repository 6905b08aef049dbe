"""What online clustering adds to a plan."""

from dataclasses import dataclass, field

from cxrzoo.errors import RecordError
from cxrzoo.pretraining.views import Views

#: Views of a radiograph whose codes are computed, and predicted from all its other views: SwAV's two large crops.
ASSIGNED = 2

#: Scores lie from -1 to 1, and float32 has no exp(x) for x below -87; at .025, x goes down to -80.
_SMALLEST_EPSILON = 0.025


@dataclass(frozen=True)
class ClusterSettings:
    """What online clustering adds to a plan; the defaults are SwAV's for batches of 256.

    They are those of scripts/swav_200ep_bs256_pretrain.sh and of main_swav.py where that gives none: Ghesu et al.
    (arXiv:2201.01283) give no numbers.

    A projection of `hidden` and `dim` features is compared with `prototypes` of length 1. Sinkhorn's `iterations` make
    codes of the scores, softer the larger `epsilon` is, and every other view predicts them at a `temperature`.
    `local_crops` small views, drawn as `local` says, predict only.

    `queue` is how many earlier images help to balance the codes, from epoch `queue_from` on, and `freeze` the number of
    steps in which prototypes don't move. With `per_modality`, each modality has prototypes of its own.

    `supervised` weighs the loss of known labels (0: none), reached in `supervised_ramp` epochs. `undersized` allows
    more prototypes than batch and queue have images.
    """

    prototypes: int = 3000
    dim: int = 128
    hidden: int = 2048
    temperature: float = 0.1
    epsilon: float = 0.05
    iterations: int = 3
    local_crops: int = 6
    local: Views = field(default_factory=lambda: Views(size=96, scale=(0.05, 0.14)))
    queue: int = 3840
    queue_from: float = 15.0
    freeze: int = 5005
    per_modality: bool = False
    supervised: float = 0.0
    supervised_ramp: float = 0.0
    undersized: bool = False

    def __post_init__(self) -> None:
        if self.prototypes < 2:
            raise RecordError(f"cluster: prototypes: found {self.prototypes}, expected 2 or more.")
        for name in ("dim", "hidden", "iterations"):
            if getattr(self, name) < 1:
                raise RecordError(f"cluster: {name}: found {getattr(self, name)}, expected 1 or more.")
        for name in ("local_crops", "queue", "queue_from", "freeze", "supervised", "supervised_ramp"):
            if not getattr(self, name) >= 0:
                raise RecordError(f"cluster: {name}: found {getattr(self, name):g}, expected 0 or more.")
        if not self.temperature > 0:
            raise RecordError(f"cluster: temperature: found {self.temperature:g}, expected a number above 0.")
        if not self.epsilon >= _SMALLEST_EPSILON:
            raise RecordError(
                f"cluster: epsilon: found {self.epsilon:g}, expected {_SMALLEST_EPSILON:g} or more: below, codes of "
                "float32 become 0. SwAV's are .03 and .05."
            )

    def queue_for(self, batch_size: int) -> int:
        """Return the length of the queue, a multiple of the batch, for batches of so many images over all processes.

        Raises:
            RecordError: A batch is longer than the queue, or images are fewer than prototypes.
        """
        length = self.queue // batch_size * batch_size
        if self.queue and not length:
            raise RecordError(
                f"cluster: queue: found {self.queue} images for batches of {batch_size}, expected none or a batch at "
                f"least. Set queue to 0, or to a multiple of {batch_size}."
            )
        if batch_size + length < self.prototypes and not self.undersized:
            queue = -(-(self.prototypes - batch_size) // batch_size) * batch_size
            raise RecordError(
                f"cluster: found {self.prototypes} prototypes, a batch of {batch_size} and a queue of {length}, "
                f"expected as many images as prototypes: codes spread images over all of them evenly. Set queue to "
                f"{queue}, or prototypes to {batch_size + length} or fewer, or undersized to true if this is meant."
            )
        return length
