"""Signs of a training that collapses: embeddings that become alike, prototypes that nothing is assigned to."""

import math
import statistics
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from cxrzoo.pretraining.history import Row

#: Below this, embeddings are taken for collapsed. Radiographs are alike: randomly initialised timm networks in
#: evaluation mode gave .11 to .13 (ResNet, DenseNet) and .6 (ViT) on 400 radiographs of ChestX-ray14, ten epochs of
#: momentum contrast .33; a collapse ends at 0 (arXiv:2011.10566, figure 2).
LOW_SPREAD = 0.05
#: Below this, too few prototypes share the images; `usage` is 1 where all have as many. Assignments that are balanced
#: stay above .9.
LOW_USAGE = 0.5
#: A single step's values vary: what is judged is the median of so many rows, and nothing before there are as many.
RECENT = 5
#: So far below its best the AUROC of the neighbours must stay, twice in a row, to be called falling.
KNN_FALL = 0.03


def measure_spread(embeddings: torch.Tensor) -> float:
    """Return how far embeddings (n, d) point in different directions: about 1 if isotropic, 0 if all are equal.

    As SimSiam's (arXiv:2011.10566, section 4.1): the standard deviation of each dimension over embeddings of length 1,
    averaged over dimensions. It is 1/√d for an isotropic Gaussian, hence times √d here. NaN for a single embedding.
    """
    unit = functional.normalize(embeddings.detach().float(), dim=1)
    if len(unit) < 2:
        return math.nan
    return float(unit.std(dim=0).mean()) * math.sqrt(unit.shape[1])


def measure_rank(embeddings: torch.Tensor) -> float:
    """Return the effective rank of embeddings (n, d), from 1 to the smaller of n and d.

    RankMe (arXiv:2210.02885, equations 1 and 2): the exponential of the entropy of the singular values. Unlike the
    spread it also sees embeddings that vary, but only in a few dimensions.
    """
    # in doubles on the processor: not every accelerator has them
    values = torch.linalg.svdvals(embeddings.detach().cpu().double())
    shares = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny) + 1e-7  # RankMe's epsilon
    return float(torch.exp(-(shares * shares.log()).sum()))


def judge(rows: Sequence[Row]) -> list[str]:
    """Return a warning for each sign of collapse in the latest rows of a history.

    Looked at are "spread", "usage" (of prototypes, from 0 to 1), "masked" (share of pixels) and "knn" (AUROC of
    `probe_backbone`); rows may lack them.
    """
    return [warning for sign in _SIGNS if (warning := sign(rows))]


def _judge_spread(rows: Sequence[Row]) -> str:
    spread = _recent(rows, "spread")
    if spread is None or spread >= LOW_SPREAD:
        return ""
    return (
        f"The embeddings collapse: their spread is {spread:.3f}, below {LOW_SPREAD:g}; untrained networks have .1 and "
        "more. Lower the learning rate, warm it up for longer, or start from other weights."
    )


def _judge_usage(rows: Sequence[Row]) -> str:
    usage = _recent(rows, "usage")
    if usage is None or usage >= LOW_USAGE:
        return ""
    return (
        f"Few prototypes are used: their usage is {usage:.2f}, below {LOW_USAGE:g}, where 1 is all alike. Take "
        "fewer prototypes, or more Sinkhorn iterations."
    )


def _judge_masked(rows: Sequence[Row]) -> str:
    if _recent(rows, "masked", max) != 0:
        return ""
    return (
        f"Nothing was masked in the last {RECENT} rows: the network learns to copy its input. Raise the shares of "
        "pixels that are dropped and replaced."
    )


def _judge_knn(rows: Sequence[Row]) -> str:
    values = [value for row in rows if (value := row.get("knn")) is not None]
    if len(values) < 3 or max(values[-2:]) > max(values[:-2]) - KNN_FALL:
        return ""
    return (
        f"The embeddings get worse: the AUROC of their neighbours fell from {max(values[:-2]):.3f} to "
        f"{values[-1]:.3f}. Lower the learning rate, or stop at the best epoch."
    )


_SIGNS = (_judge_spread, _judge_usage, _judge_masked, _judge_knn)


def _recent(
    rows: Sequence[Row], name: str, reduce: Callable[[Sequence[float]], float] = statistics.median
) -> float | None:
    """Return what the last values come to, None while there are too few."""
    values = [value for row in rows if (value := row.get(name)) is not None][-RECENT:]
    return reduce(values) if len(values) == RECENT else None
