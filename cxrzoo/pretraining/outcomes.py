"""What is known of a training when it is over: its plan, its images, time, electricity, and where it ran."""

import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from cxrzoo import __version__
from cxrzoo.evaluation.settings import find_commit
from cxrzoo.pretraining.costs import Assumptions, Spent, estimate_carbon
from cxrzoo.pretraining.networks import Start
from cxrzoo.pretraining.plans import Plan
from cxrzoo.sources import write_atomically

FACTS, SPENT = "training.json", "spent.json"


@dataclass(frozen=True)
class Trained:
    """What a run left: the model folder, the checkpoint it was made of, and what is recorded of the training."""

    model: Path
    checkpoint: Path
    facts: dict[str, Any]


def describe_plan(plan: Plan, start: Start) -> dict[str, Any]:
    """Return what was asked for, and what it was done with."""
    return {
        "plan": plan.name,
        "method": plan.method,
        "architecture": start.architecture,
        "init": Path(start.origin).name,  # of a folder, nothing of this machine
        "init_sha256": start.weights_sha256,
        "epochs": plan.optimisation.epochs,
        "batch_size": plan.optimisation.batch_size,
        "size": plan.views.size,
        "mean": start.mean,
        "std": start.std,
        "version": __version__,
        "commit": find_commit(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


#: The thermal design power of the largest GPUs of a data centre, in watts; smaller ones take less.
_GPU_WATTS = 700.0


def describe_spent(spent: Spent, device: str, processes: int) -> dict[str, Any]:
    """Return hours, and an estimate of electricity and emissions.

    All processes are taken to compute as much as the first.
    """
    spent = Spent(spent.processor_seconds * processes, spent.wall_seconds)
    carbon = estimate_carbon(spent, Assumptions(accelerator_watts=_GPU_WATTS * processes * (device == "cuda")))
    hours = {"hours": round(spent.wall_seconds / 3600, 3), "processor_hours": round(spent.processor_seconds / 3600, 3)}
    return hours | {"kwh": carbon.kwh, "co2_grams": carbon.kilograms * 1000, "carbon": carbon.text}


def describe_hardware(device: str, processes: int) -> str:
    """Return what computed, in words."""
    if device == "cuda":
        return f"{processes} x {torch.cuda.get_device_name()}"
    return f"{processes * torch.get_num_threads()} threads of {_name_processor()}"


def _name_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def read_spent(out: Path) -> Spent:
    """Return what earlier parts of a run spent, nothing where there were none."""
    try:
        return Spent(*json.loads((out / SPENT).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Spent()


def write_spent(out: Path, spent: Spent) -> None:
    """Keep what was spent so far, for the run that goes on from here.

    Raises:
        DiskError: It can't be written.
    """
    write_atomically(out / SPENT, json.dumps(list(spent)).encode())


def write_facts(out: Path, facts: dict[str, Any]) -> None:
    """Write what is known of the training.

    Raises:
        DiskError: It can't be written.
    """
    write_atomically(out / FACTS, (json.dumps(facts, indent=2) + "\n").encode())
