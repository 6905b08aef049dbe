"""`cxrzoo.pretrain`: images and a plan -> a backbone trained without labels, in a folder that can be gone on with."""

import copy
import gc
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from numpy.typing import NDArray

from cxrzoo.errors import PretrainingError
from cxrzoo.evaluation.bars import bar
from cxrzoo.pretraining.asking import Request, check
from cxrzoo.pretraining.checkpoints import check_convertible, make_folder, write_checkpoint
from cxrzoo.pretraining.costs import Meter
from cxrzoo.pretraining.history import History
from cxrzoo.pretraining.listing import Listing, list_images
from cxrzoo.pretraining.method import Method
from cxrzoo.pretraining.networks import Start, build_method, build_start, settle
from cxrzoo.pretraining.outcomes import (
    Trained,
    describe_hardware,
    describe_plan,
    describe_spent,
    read_spent,
    write_facts,
)
from cxrzoo.pretraining.plans import Plan
from cxrzoo.pretraining.probes import read_probe
from cxrzoo.pretraining.probing import ProbeSet
from cxrzoo.pretraining.radiographs import Radiographs, keep_radiographs
from cxrzoo.pretraining.ranks import rank
from cxrzoo.pretraining.states import States
from cxrzoo.pretraining.training import Training, private_draws
from cxrzoo.pretraining.watching import Watch
from cxrzoo.records import digest

logger = logging.getLogger("cxrzoo")

MODEL, HISTORY, STATE, IMAGES = "model", "history.jsonl", "state", "images"


def pretrain(request: Request) -> Trained | None:
    """Train a backbone without labels, and make a model folder of it; a run that was stopped goes on.

    In `out` are afterwards `model/`, which `cxrzoo.load` takes, the checkpoint as the method's authors lay it out,
    `history.jsonl`, `training.svg` and `training.json`. With several devices, each runs this same program once more,
    and all but the first return None; so does a run that `stop_after` so many epochs of its plan leaves unfinished.

    Raises:
        PretrainingError: It can't be done as asked, or the loss is no number any more.
        TableError: The table can't be read.
        RecordError: Settings contradict each other.
    """
    plan, out = request.plan, request.out
    check(request)
    fabric = _launch(request)
    if (out / MODEL).exists() and not (out / STATE).exists():
        raise PretrainingError(
            f"{out} has the model of another run, whose state is gone. Choose another folder, or remove this one."
        )
    out.mkdir(parents=True, exist_ok=True)
    listing = list_images(
        request.data,
        findings=request.findings,
        modality=request.modality,
        path_column=request.path_column,
        root=request.root,
    )
    weights = _weigh(plan, listing)
    with private_draws():
        start = build_start(plan, seed=request.seed)
        method = build_method(
            plan,
            start,
            modalities=len(listing.modality_names),
            findings=len(listing.findings),
            seed=request.seed,
        )
        check_convertible(method, out)  # all that can be wrong with a plan is said before images are read
        with fabric.rank_zero_first(), bar("images", len(listing.paths), "images", shown=request.progress) as advance:
            radiographs = keep_radiographs(listing, out / IMAGES, plan.side, workers=request.workers, progress=advance)
        if radiographs.failures:
            logger.warning("%s", _describe_failures(listing, radiographs))
        start = settle(start, method, radiographs)

        def make(method: Method) -> Training:
            of_each = weights[radiographs.modalities]
            return Training(method, plan.optimisation, radiographs, fabric, seed=request.seed, weights=of_each)

        return _run(request, fabric, radiographs, _read_probe(request), start, method, make)


def _weigh(plan: Plan, listing: Listing) -> NDArray[np.float64]:
    """Return of each modality how often its images are drawn against others."""
    if missing := sorted(set(plan.weights) - set(listing.modality_names)):
        raise PretrainingError(
            f"found no images of {missing[0]!r}, which the plan {plan.name!r} has a weight for, expected some of "
            f"{', '.join(listing.modality_names)}."
        )
    return np.array([plan.weights.get(name, 1.0) for name in listing.modality_names])


def _launch(request: Request) -> Fabric:
    several = request.devices > 1
    # each process keeps its own queue and its own images; what must agree is exchanged by the methods
    strategy = DDPStrategy(broadcast_buffers=False, find_unused_parameters=True) if several else "auto"
    fabric = Fabric(
        accelerator=request.device,
        devices=request.devices,
        strategy=strategy,
        precision=request.plan.optimisation.precision,
    )
    fabric.launch()
    return fabric


def _run(
    request: Request,
    fabric: Fabric,
    radiographs: Radiographs,
    probe: ProbeSet | None,
    start: Start,
    method: Method,
    make: Callable[[Method], Training],
) -> Trained | None:
    plan, out = request.plan, request.out
    identity = {
        "plan": digest(asdict(plan)),
        "images": radiographs.sha256,
        "start": start.weights_sha256 or "",
        "seed": request.seed,
        "processes": fabric.world_size,
    }
    asked = describe_plan(plan, start)  # before hours in which the checkout may change
    history, states = History(out / HISTORY), States(out / STATE, identity)
    meter = Meter(read_spent(out))
    watch = Watch(request, history, meter, start, probe)
    if fabric.world_size == 1:  # steps of a copy would need all processes in step
        watch.forecast(make(copy.deepcopy(method)), states.find_step())
    gc.collect()
    torch.cuda.empty_cache()  # else what the trial had would count as taken
    training = make(method)
    with bar("training", training.steps, "steps", shown=request.progress and rank() == 0) as advance:
        first = True

        def count(steps: int) -> None:
            nonlocal first
            advance(steps, before=first)
            first = False

        last = request.stop_after * training.steps_per_epoch if request.stop_after else None
        training.run(states, history, watch.make_hooks(training, count), last=last)
    if rank() or (last is not None and last < training.steps):
        return None
    checkpoint = write_checkpoint(out, method, plan.optimisation.epochs, training.optimizer.state_dict())
    shutil.rmtree(out / MODEL, ignore_errors=True)  # of this run, that had ended before
    make_folder(checkpoint, out / MODEL, start, plan.views.size)
    told = {
        "images": len(radiographs),
        "images_sha256": radiographs.sha256,
        "steps": training.steps,
        "seed": request.seed,
        "hardware": describe_hardware(request.device, fabric.world_size),
        "checkpoint": checkpoint.name,
        "knn": next((row["knn"] for row in reversed(history.rows()) if row.get("knn") is not None), None),
    }
    facts = asked | told | describe_spent(meter.read(), request.device, fabric.world_size)
    write_facts(out, facts)
    return Trained(out / MODEL, checkpoint, facts)


def _read_probe(request: Request) -> ProbeSet | None:
    if request.probe is None:
        return None
    return read_probe(
        request.probe,
        request.probe_findings,
        size=request.plan.views.size,
        root=request.root,
        workers=request.workers,
    )


def _describe_failures(listing: Listing, radiographs: Radiographs) -> str:
    rows: Sequence[int] = [int(listing.rows[position]) for position in radiographs.failures]
    shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
    codes = ", ".join(sorted(set(radiographs.failures.values())))
    return f"{len(rows)} images can't be read ({codes}) and are left out: row {shown}."
