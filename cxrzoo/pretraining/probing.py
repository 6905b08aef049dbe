"""What embeddings are worth while they are still being learned: votes of neighbours on labelled images."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cxrzoo.errors import PretrainingError
from cxrzoo.evaluation.locks import locked
from cxrzoo.evaluation.probes.neighbours import score_neighbours
from cxrzoo.evaluation.statistics.metrics import auroc
from cxrzoo.pretraining.monitors import measure_rank
from cxrzoo.pretraining.views import normalise

#: The share of patients whose images are asked about, where the table does not say; the others' images vote.
SHARE = 0.3
_SLICE = 64


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """Labelled images that a probe looks at.

    `pixels` is uint8 (N, H, W), framed as the network takes them; `labels` (N, findings) are 1, 0, and NaN where
    nothing is known; `asked` (N,) is True for images that are asked about, and False for those that vote. Findings
    that can't be measured, for want of either, don't count.
    """

    pixels: torch.Tensor
    labels: NDArray[np.float64]
    asked: NDArray[np.bool_]

    def __post_init__(self) -> None:
        fits = self.pixels.ndim == 3 and self.labels.ndim == 2 and self.asked.ndim == 1
        if not fits or not len(self.pixels) == len(self.labels) == len(self.asked):
            raise PretrainingError(
                f"found pixels {tuple(self.pixels.shape)}, labels {self.labels.shape} and parts {self.asked.shape} of "
                "a probe, expected (N, height, width), (N, findings) and (N,). Give a row and a part for each image."
            )
        if not self.findings:
            raise PretrainingError(
                f"found no finding with both labels among the {self.asked.sum()} images that a probe asks about and "
                f"any label among the {(~self.asked).sum()} that vote, expected one. Give more labelled images, or "
                "train without a probe."
            )

    @property
    def findings(self) -> list[int]:
        """The columns of `labels` that can be measured."""
        asked, voting = self.labels[self.asked], self.labels[~self.asked]
        both = (asked == 1).any(axis=0) & (asked == 0).any(axis=0)
        return [int(column) for column in np.flatnonzero(both & ~np.isnan(voting).all(axis=0))]


class Probing(NamedTuple):
    """What a probe found: the mean AUROC over findings, that of each column, NaN if unmeasured, and effective rank."""

    knn: float
    aurocs: tuple[float, ...]
    rank: float


def leave_out(patients: Sequence[str], share: float = SHARE) -> NDArray[np.bool_]:
    """Return which images to ask about: those of about this share of patients.

    Which patients is decided by a hash of each alone, so that a table that grows moves nobody from one part to the
    other.
    """
    digests = {patient: hashlib.sha256(patient.encode()).digest() for patient in set(patients)}
    return np.array([int.from_bytes(digests[patient][:8], "big") < share * 2**64 for patient in patients], dtype=bool)


def probe_backbone(
    backbone: nn.Module, probe: ProbeSet, *, mean: tuple[float, ...], std: tuple[float, ...], size: int = _SLICE
) -> Probing:
    """Return how well neighbours among a backbone's embeddings tell findings.

    The backbone is left as it was found, its modes and BatchNorm statistics included, and no random number is drawn. It
    computes in the precision of its weights, whatever the training's.

    Args:
        mean, std: Of each channel, for pixels in [0, 1].
        size: Images that run at once.

    Raises:
        PretrainingError: Embeddings are not finite.
    """
    embeddings = embed_pixels(backbone, probe.pixels, mean=mean, std=std, size=size)
    if not embeddings.isfinite().all():
        raise PretrainingError(
            "found embeddings that are NaN or infinite, expected numbers: the training has diverged. Lower the "
            "learning rate, warm it up for longer, or train in float32."
        )
    rows = embeddings.numpy()
    scores = score_neighbours(rows[~probe.asked], probe.labels[~probe.asked], rows[probe.asked])
    labels = probe.labels[probe.asked]
    aurocs = np.full(labels.shape[1], np.nan)
    for column in probe.findings:
        known = ~np.isnan(labels[:, column])
        aurocs[column] = auroc(labels[known, column], scores[known, column])
    return Probing(float(np.nanmean(aurocs)), tuple(aurocs.tolist()), measure_rank(embeddings))


def embed_pixels(
    backbone: nn.Module,
    pixels: torch.Tensor,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    size: int = _SLICE,
) -> torch.Tensor:
    """Return the embeddings (N, d) of uint8 pictures (N, H, W), float32 on the processor, in evaluation mode."""
    weight = next(backbone.parameters())
    parts = []
    # no autocast: it keeps copies of weights, made here without gradient, for the training step around
    with locked(backbone), torch.no_grad(), torch.autocast(weight.device.type, enabled=False):
        for start in range(0, len(pixels), size):
            planes = pixels[start : start + size, None].to(weight.device).float() / 255
            parts.append(backbone(normalise(planes, mean, std).to(weight.dtype)).float().cpu())
    return torch.cat(parts)
