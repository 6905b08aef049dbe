"""Group-masked modelling (GMML, arXiv:2205.14986), with the contrastive term of SiT (arXiv:2104.03602) as an option."""

import copy
import math
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.gmml.corruption import corrupt, draw_mask
from cxrzoo.pretraining.gmml.network import Network
from cxrzoo.pretraining.gmml.settings import GmmlSettings
from cxrzoo.pretraining.method import Method
from cxrzoo.pretraining.ranks import gather, rank
from cxrzoo.pretraining.views import Views, draw_views, normalise


class Gmml(Method):
    """A vision transformer that paints the hidden parts of images, and a teacher if there is a contrastive term."""

    def __init__(
        self,
        backbone: nn.Module,
        settings: GmmlSettings,
        views: Views,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
    ) -> None:
        """Take a backbone to be trained.

        Raises:
            PretrainingError: It is no vision transformer with a class token, or one for other images; or blocks can't
                hide as much of a view as `settings` ask for.
        """
        super().__init__()
        self.settings, self.views, self.mean, self.std = settings, views, mean, std
        self.student = Network(backbone, settings, len(mean))
        expected = (backbone.patch_embed.proj.in_channels, *backbone.patch_embed.img_size)  # type: ignore[union-attr, misc]
        if expected != (len(mean), views.size, views.size):
            raise PretrainingError(
                f"found a backbone for images of {' x '.join(map(str, expected))}, expected one for views of "
                f"{len(mean)} x {views.size} x {views.size}. Create it with in_chans and img_size."
            )
        most = torch.full((1,), max(settings.drop_perc, settings.replace) * views.size**2)
        draw_mask(most, views.size, views.size, settings, torch.Generator().manual_seed(0))  # before the first step
        self.teacher = copy.deepcopy(self.student).requires_grad_(False) if settings.contrastive else None
        self.train()

    @property
    def backbone(self) -> nn.Module:  # type: ignore[override]
        """The student's, or the teacher's where there is one, which is the one that SiT hands on."""
        return (self.teacher or self.student).backbone

    def train(self, mode: bool = True) -> "Gmml":
        """Switch between training and inference; the teacher never drops paths (SiT, main.py)."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.backbone.eval()
        return self

    def forward(self, batch: Batch, progress: Progress) -> dict[str, torch.Tensor]:
        """Paint two corrupted views of each image, and compare their class tokens with the teacher's."""
        with torch.autocast(batch.pixels.device.type, enabled=False):
            clean = [normalise(draw_views(batch, self.views, progress.draws), self.mean, self.std) for _ in range(2)]
            corrupted = [corrupt(view, self.settings, progress.draws) for view in clean]
        pixels, mask, alien = (torch.cat(parts) for parts in zip(*corrupted, strict=True))
        outputs = self.student(pixels)
        loss = masked_distance(outputs.images, torch.cat(clean), mask)
        result = {
            "embeddings": outputs.embeddings.detach().float(),
            "masked": mask.float().mean(),
            "alien": alien.float().mean(),
        }
        if self.teacher is not None:
            with torch.no_grad():
                keys = self.teacher.project(torch.cat(clean)).chunk(2)
            queries = outputs.projections.chunk(2)
            temperature = self.settings.temperature
            contrast = contrast_with(queries[0], keys[1], temperature) + contrast_with(queries[1], keys[0], temperature)
            result["contrastive"] = contrast.detach()
            loss = contrast + self.settings.weight * loss
        return {"loss": loss, **result}

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Return weights first, and then biases and whatever else has one dimension, which never decay."""
        groups: tuple[list[nn.Parameter], list[nn.Parameter]] = ([], [])
        for name, parameter in self.student.named_parameters():
            if parameter.requires_grad:
                groups[parameter.ndim < 2 or name.endswith(".bias")].append(parameter)
        return [{"params": groups[0], "weight_decay": weight_decay}, {"params": groups[1], "weight_decay": 0.0}]

    @torch.no_grad()
    def adjust_gradients(self, progress: Progress) -> None:
        """Shorten the gradient of each tensor by itself, not of all together (GMML, utils.clip_gradients)."""
        for parameter in self.student.parameters():
            if parameter.grad is not None:
                length = torch.linalg.vector_norm(parameter.grad)
                parameter.grad.mul_((self.settings.clip / (length + 1e-6)).clamp(max=1))

    @torch.no_grad()
    def follow(self, progress: Progress) -> None:
        """Move the teacher's parameters towards the student's, ever more slowly."""
        if self.teacher is not None:
            left = (1 + math.cos(math.pi * progress.step / progress.steps)) / 2
            teacher, student = ([each.detach() for each in both.parameters()] for both in (self.teacher, self.student))
            torch._foreach_lerp_(teacher, student, (1 - self.settings.momentum) * left)

    def export(self, epoch: int, optimizer: dict[str, Any]) -> dict[str, Any]:
        """Return the checkpoint as GMML's main.py writes it, or SiT's if there is a teacher."""
        networks = {"SiT_model": self.student}
        if self.teacher is not None:
            networks = {"student": self.student, "teacher": self.teacher}
        states = {
            # DistributedDataParallel puts this name before theirs
            name: {f"module.{key}": tensor for key, tensor in network.state_dict().items()}
            for name, network in networks.items()
        }
        return {**states, "optimizer": optimizer, "epoch": epoch, "args": asdict(self.settings)}

    def file_name(self, epoch: int) -> str:
        """Return the name that GMML gives the file."""
        return f"checkpoint{epoch:04d}.pth"


def masked_distance(images: torch.Tensor, targets: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute difference where the mask (B, 1, H, W) is true; 0 where it never is."""
    with torch.autocast(images.device.type, enabled=False):
        distances = (images.float() - targets.float()).abs()
        values = mask.sum() * images.shape[1]
        return torch.where(mask, distances, 0).sum() / values.clamp(min=1)


def contrast_with(queries: torch.Tensor, keys: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return how far queries are from telling their own key from all others, those of other processes among them."""
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = (functional.normalize(each.float(), dim=1) for each in (queries, keys))
        own = torch.arange(len(queries), device=queries.device) + rank() * len(queries)
        # SiT, main.py, SimCLR.contrastive_loss: the factor is that of MoCo v3
        return functional.cross_entropy(queries @ gather(keys).T / temperature, own) * 2 * temperature
