"""What a training is asked for: the plan, the images, and where and how long it runs."""

from dataclasses import dataclass
from pathlib import Path

import torch

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.plans import Plan


@dataclass(frozen=True)
class Request:
    """A training as it is asked for: `data` is a table or a folder, `probe` a labelled table to watch it by."""

    plan: Plan
    data: Path
    out: Path
    root: Path | None = None
    path_column: str = ""
    modality: str = ""
    findings: tuple[str, ...] = ()
    probe: Path | None = None
    probe_findings: tuple[str, ...] = ()
    probe_every: int = 1
    seed: int = 0
    device: str = "cpu"
    devices: int = 1
    workers: int = 1
    progress: bool = False
    stop_after: int | None = None


def check(request: Request) -> None:
    """Refuse what can't be done, and what the plan would not look at.

    Raises:
        PretrainingError: It is so.
    """
    cluster = request.plan.cluster
    if request.findings and not (cluster and cluster.supervised):
        raise PretrainingError(
            f"found labels to learn from ({', '.join(request.findings)}), which the plan {request.plan.name!r} has no "
            "use for. Leave them out, or take online clustering with a weight for them: --set cluster.supervised=1.0"
        )
    if request.modality and not (request.plan.weights or (cluster and cluster.per_modality)):
        raise PretrainingError(
            f"found a column of modalities ({request.modality}), which the plan {request.plan.name!r} has no use for. "
            "Leave it out, or say how often images of a modality are drawn, --set weights.NAME=5, or give each "
            "modality prototypes of its own: --set cluster.per_modality=true"
        )
    if request.plan.weights and not request.modality:
        raise PretrainingError(
            f"the plan {request.plan.name!r} draws images of {', '.join(request.plan.weights)} with a weight of their "
            "own: name the column of the table that tells them apart (--modality)."
        )
    least = {"devices": 1, "probe_every": 1, "workers": 0, "stop_after": 1}
    for name, bound in least.items():
        value = getattr(request, name)
        if value is not None and value < bound:
            raise PretrainingError(f"{name}: found {value}, expected {bound} or more.")
    if request.device == "cuda" and torch.cuda.device_count() < request.devices:
        raise PretrainingError(
            f"found {torch.cuda.device_count()} GPUs, expected {request.devices}. Train with --device cpu, or on fewer."
        )
    if bool(request.probe) != bool(request.probe_findings):
        raise PretrainingError("found one of a probe's table and its label, expected both, or neither.")
