"""Online clustering in the manner of Ghesu et al. (arXiv:2201.01283), by SwAV's scheme (arXiv:2006.09882)."""

import logging
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.cluster.hybrid import compute_label_loss, weigh_labels
from cxrzoo.pretraining.cluster.prototypes import Prototypes
from cxrzoo.pretraining.cluster.queueing import Queue
from cxrzoo.pretraining.cluster.settings import ASSIGNED, ClusterSettings
from cxrzoo.pretraining.cluster.sinkhorn import assign_codes, measure_usage
from cxrzoo.pretraining.cluster.swapping import compute_swapped_loss
from cxrzoo.pretraining.method import Method, count_features
from cxrzoo.pretraining.views import Views, draw_views, normalise

logger = logging.getLogger("cxrzoo")


class Cluster(Method):
    """A backbone whose views predict each other's codes, with projection head, prototypes and queue."""

    def __init__(
        self,
        backbone: nn.Module,
        settings: ClusterSettings,
        views: Views,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        batch_size: int,
        modalities: int = 1,
        findings: int = 0,
    ) -> None:
        """Take a backbone to train.

        Args:
            views: How the two large views are drawn, whose codes are assigned.
            batch_size: Images a step over all processes.
            modalities: How many there are in the images.
            findings: How many labels an image may have.

        Raises:
            RecordError: Batch, queue and prototypes don't go together.
            PretrainingError: The backbone can't take all views, or there are no labels to learn from.
        """
        super().__init__()
        _check_sizes(backbone, views, settings)
        if settings.supervised and not findings:
            raise PretrainingError(
                f"found supervised = {settings.supervised:g} and no findings in the table, expected labels to learn "
                "from. Name columns of labels, or set supervised to 0."
            )
        self.backbone, self.settings, self.views, self.mean, self.std = backbone, settings, views, mean, std
        self.sets = modalities if settings.per_modality else 1
        width = count_features(backbone)
        self.projection_head = nn.Sequential(
            nn.Linear(width, settings.hidden),
            nn.BatchNorm1d(settings.hidden),
            nn.ReLU(),
            nn.Linear(settings.hidden, settings.dim),
        )
        self.prototypes = Prototypes(settings.prototypes, settings.dim, self.sets)
        length = settings.queue_for(batch_size)
        if length != settings.queue:
            logger.warning("The queue is %d images long, not %d: a multiple of the batch.", length, settings.queue)
        self.queue = Queue(ASSIGNED, length, settings.dim) if length else None
        self.supervised_head = nn.Linear(width, findings) if settings.supervised else None

    def forward(self, batch: Batch, progress: Progress) -> dict[str, torch.Tensor]:
        """Assign codes to the large views, and let all other views predict them."""
        settings, count = self.settings, len(batch.pixels)
        if progress.step >= settings.freeze:  # before, they have length 1 from the start, and stay the same to the bit
            self.prototypes.normalise()
        pooled = self._embed(batch, progress)
        projections = functional.normalize(self.projection_head(pooled).float(), dim=1)
        with torch.autocast(pooled.device.type, enabled=False):
            members = batch.modalities if self.sets > 1 else torch.zeros_like(batch.modalities)
            views = len(pooled) // count
            scores = self.prototypes(projections, members.repeat(views)).reshape(views, count, -1)
            codes, usage = self._assign(scores[:ASSIGNED].detach(), members)
            loss = compute_swapped_loss(scores, codes, settings.temperature)
        result = {"embeddings": pooled[:count].detach().float(), "usage": usage, "queue_age": loss.new_zeros(())}
        if self.queue is not None:
            result["queue_age"] = self.queue.age(progress.step)
            if progress.step >= settings.queue_from * progress.steps_per_epoch:
                assigned = projections[: ASSIGNED * count].detach()
                self.queue.push(assigned.reshape(ASSIGNED, count, -1), members, progress.step)
        if self.supervised_head is not None:
            supervised = compute_label_loss(self.supervised_head(pooled[:count]), batch.labels)
            loss = loss + weigh_labels(settings, progress) * supervised
            result["supervised"] = supervised.detach()
        return {"loss": loss} | result

    def _embed(self, batch: Batch, progress: Progress) -> torch.Tensor:
        """Return pooled features of all views, the large ones first; views of one size go through together."""
        kinds = [(self.views, ASSIGNED), (self.settings.local, self.settings.local_crops)]
        pooled = []
        for views, number in kinds:
            if number:
                planes = torch.cat([draw_views(batch, views, progress.draws) for _ in range(number)])
                pooled.append(self.backbone(normalise(planes, self.mean, self.std)))
        return torch.cat(pooled)

    @torch.no_grad()
    def _assign(self, scores: torch.Tensor, members: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the codes of the large views, (ASSIGNED, N, K), and the usage of prototypes.

        They are balanced over the batch and a queue that is full.
        """
        earlier: list[torch.Tensor] = [row[:0] for row in scores]
        if self.queue is not None and self.queue.full:
            kept, theirs = self.queue.share()
            earlier = [self.prototypes(rows, theirs) for rows in kept]
            members = torch.cat([members, theirs])
        settings = self.settings
        codes = torch.stack(
            [
                assign_codes(
                    torch.cat([own, before]),
                    epsilon=settings.epsilon,
                    iterations=settings.iterations,
                    members=members,
                    sets=self.sets,
                )
                for own, before in zip(scores, earlier, strict=True)
            ]
        )
        usage = measure_usage(codes.flatten(0, 1), members.repeat(ASSIGNED), self.sets)
        return codes[:, : scores.shape[1]], usage

    def adjust_gradients(self, progress: Progress) -> None:
        """Take the prototypes' gradients away while they are frozen; with gradients of 0, weight decay moves them."""
        if progress.step < self.settings.freeze:
            for weight in self.prototypes.parameters():
                weight.grad = None

    def export(self, epoch: int, optimizer: dict[str, Any]) -> dict[str, Any]:
        """Return the checkpoint as main_swav.py writes it; neither the queue nor the head for labels is in it."""
        state = {f"module.{name}": value for name, value in self.backbone.state_dict().items()}
        state |= {f"module.projection_head.{name}": value for name, value in self.projection_head.state_dict().items()}
        for number, weight in enumerate(self.prototypes.parameters()):
            part = f"prototypes{number}." if self.sets > 1 else ""
            state[f"module.prototypes.{part}weight"] = weight.detach()
        return {"epoch": epoch, "state_dict": state, "optimizer": optimizer}

    def file_name(self, epoch: int) -> str:
        """Return the name that SwAV gives the file."""
        return f"ckp-{epoch}.pth"


def _check_sizes(backbone: nn.Module, views: Views, settings: ClusterSettings) -> None:
    """Check that a network of patches takes views of all sizes."""
    patches = getattr(backbone, "patch_embed", None)
    size = getattr(patches, "img_size", None)
    if size is None or not getattr(patches, "strict_img_size", False):
        return
    for each in (views, settings.local) if settings.local_crops else (views,):
        if (each.size, each.size) != tuple(size):
            raise PretrainingError(
                f"found views of {each.size} pixels and a network for {size[0]} only, expected one that takes both. "
                "Make it with timm's dynamic_img_size=True, or set the views' size to its own and local_crops to 0."
            )
