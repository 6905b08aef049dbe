"""The questions of the evidence; and convergence and robustness, which are no comparisons of embeddings."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from evidence_bench import PROTOCOL, SEED, WORK, Bench
from evidence_comparisons import COMPARED, compare_drift, compare_kermany, compare_nih
from numpy.typing import NDArray

from cxrzoo.evaluation.bars import bar
from cxrzoo.evaluation.convergence import race, space_looks, trace
from cxrzoo.evaluation.gathering import gather
from cxrzoo.evaluation.perturbations import NEUTRAL, Kind, Perturbation
from cxrzoo.evaluation.proofs import Trace
from cxrzoo.evaluation.robustness import embed_perturbed, measure_robustness
from cxrzoo.evaluation.sampling.protocols import load_protocol
from cxrzoo.evaluation.sampling.splits import make_split
from cxrzoo.evaluation.tables import LabelTable
from cxrzoo.evaluation.tuning.pixels import frame_images
from cxrzoo.pretraining.shrinking import shrink
from cxrzoo.records import decode, digest
from cxrzoo.sources import write_atomically

#: Adam at this constant rate, which suits the network without pretraining: at 112 px ResNet-18 with random weights has
#: a validation AUROC of .98 after 50 steps at 3e-4, and at 1e-3, where it then swings; after 77 at 1e-4.
RATE, BATCH, STEPS, SEEDS = 3e-4, 16, 200, (0, 1, 2)
#: At 3e-4 the ViT with random weights swings between .5 and .8; it gets to .89 at 1e-4 and to .92 at this rate.
RATE_OF_TRANSFORMERS = 3e-5
#: Each training image is seen once; so many validation images, of other patients, are looked at.
LOOKED_AT = 240
#: Within what pretraining showed the models (turns of 15 degrees, gamma 1.5, gain .2), and beyond.
GRID: dict[Kind, tuple[float, ...]] = {
    "gamma": (0.5, 0.7, 1.4, 2.0),
    "gain": (0.6, 0.8, 1.2, 1.4),
    "rotation": (-30.0, -15.0, 15.0, 30.0),
    "scale": (0.7, 0.85, 1.15, 1.3),
}

#: The shorter side in pixels at which test images are changed: four times what most of the models take.
SIDE = 448

Measure = Callable[[Bench], dict[str, Any]]


def measure_convergence(bench: Bench) -> dict[str, Any]:
    """Fine-tune each network with its weights and with random ones; each run is kept as it comes."""
    whole = bench.read_kermany()
    split = make_split(whole, load_protocol("default"), SEED)
    rng = np.random.default_rng(SEED)
    parts = [rng.permutation(split.train)[: STEPS * BATCH], rng.permutation(split.valid)[:LOOKED_AT]]
    table = whole.keep(np.concatenate(parts))
    train, valid = np.split(np.arange(len(table)), [len(parts[0])])
    below = bench.floors | {reference: bench.floors[models[0]] for reference, models in bench.kin.items()}
    traces: dict[str, list[Trace]] = {}
    for model in dict.fromkeys([*below, *below.values()]):
        traces[model] = _trace(bench, model, table, train, valid)
    races = [
        race(ours, theirs)
        for model, floor in below.items()
        for ours, theirs in zip(traces[model], traces[floor], strict=True)
    ]
    return {
        "models": tuple(bench.describe(model) for model in traces),
        "traces": tuple(found for of_model in traces.values() for found in of_model),
        "races": tuple(races),
        "notes": (
            f"Fine-tuning on {len(train):,} of Kermany's training images, each seen once: Adam at a constant rate of "
            f"{RATE:g}, or {RATE_OF_TRANSFORMERS:g} for the transformer, batches of {BATCH}; the AUROC is that on "
            f"{len(valid)} images of other patients of that part, in evaluation mode. A network that starts from "
            "random weights has to gather the statistics of its BatchNorm, if it has one, on the way, which is part of "
            "what it takes longer for.",
        ),
    }


def _trace(
    bench: Bench, model: str, table: LabelTable, train: NDArray[np.int64], valid: NDArray[np.int64]
) -> list[Trace]:
    contender = bench.describe(model)
    rate = RATE_OF_TRANSFORMERS if contender.architecture.startswith("vit_") else RATE
    facts = [contender.weights_sha256, contender.preprocessing_sha256, table.sha256, rate, BATCH, STEPS]
    files = {seed: WORK / "traces" / f"{digest([*facts, seed])[:24]}.json" for seed in SEEDS}
    if not all(file.is_file() for file in files.values()):
        backbone = bench.find(model).load()
        pixels = frame_images(table.files, backbone.transform.record, workers=bench.workers).pixels
        for seed, file in files.items():
            if file.is_file():
                continue
            looks = space_looks(STEPS)
            with bar(f"{contender.name}, seed {seed}", len(looks), "looks", shown=True) as advance:
                found = trace(
                    backbone,
                    pixels,
                    table.labels,
                    train=train,
                    valid=valid,
                    looks=looks,
                    seed=seed,
                    learning_rate=rate,
                    batch_size=BATCH,
                    device=bench.device,
                    on_look=lambda *_: advance(1),
                )
            write_atomically(file, json.dumps(asdict(found) | {"model": contender.name}).encode())
    return [decode(Trace, json.loads(file.read_bytes()), file.name) for file in files.values()]


def measure_shifts(bench: Bench) -> dict[str, Any]:
    """Probe on Kermany's training images as they are, and test on changed ones."""
    table, protocol = bench.read_kermany(), load_protocol(PROTOCOL)
    split = make_split(table, protocol, SEED)
    entries = [bench.find(model) for model in bench.alike]
    gathered = gather(entries, table, COMPARED / "embeddings", workers=bench.workers, device=bench.device, shown=True)
    pictures = [shrink(table.files[position], SIDE).pixels for position in split.test]
    grid = [Perturbation(kind, amount) for kind, amounts in GRID.items() for amount in amounts]
    backbones = {entry.name: entry.load() for entry in entries}
    changed: dict[str, dict[Perturbation, Any]] = {entry.name: {} for entry in entries}
    clean = {found.contender.name: found.embeddings.copy() for found in gathered}
    with bar("changed images", len(grid) + 1, "changes", shown=True) as advance:
        for perturbation in (Perturbation("gain", NEUTRAL["gain"]), *grid):
            found = embed_perturbed(backbones, pictures, perturbation, WORK / "changed", device=bench.device)
            for name, embeddings in found.items():
                if perturbation.neutral:  # of the same pictures: else a drop would be that of their size, too
                    clean[name][split.test] = embeddings
                else:
                    changed[name][perturbation] = embeddings
            advance(1)
    baselines = {bench.find(model).name: bench.find(floor).name for model, floor in bench.floors.items()}
    return {
        "models": tuple(bench.describe(model) for model in bench.alike),
        "shifts": tuple(measure_robustness(table, split, protocol, clean, changed, baselines, seed=SEED)),
        "notes": (
            f"A linear probe of each model learnt from Kermany's {len(split.train):,} training images as they are, and "
            f"was tested on its {len(split.test)} test images, changed at {SIDE} pixels a side, before they are "
            "brought to the model's size. MoCo and clustering had turns of up to 15 degrees, gamma and gain among "
            "their views, and masking a little contrast and brightness.",
        ),
    }


@dataclass(frozen=True)
class Question:
    """One piece of evidence: what it is called, which tables it reads, how it is measured."""

    title: str
    tables: tuple[str, ...]
    measure: Measure
    settings: dict[str, Any] = field(default_factory=dict)


QUESTIONS = {
    "few-labels-kermany": Question(
        "Pneumonia in children (Kermany), by number of labels", ("kermany.csv",), compare_kermany
    ),
    "few-labels-nih": Question(
        "Lung opacity in NIH ChestX-ray14, patients left out of pretraining, by number of labels",
        ("nih.csv",),
        lambda bench: compare_nih(bench, "lung_opacity"),
    ),
    "few-labels-nih-any": Question(
        "Any finding in NIH ChestX-ray14, patients left out of pretraining, by number of labels",
        ("nih.csv",),
        lambda bench: compare_nih(bench, "any_finding"),
    ),
    "few-labels-nih-pneumonia": Question(
        "Pneumonia in NIH ChestX-ray14, patients left out of pretraining, by number of labels",
        ("nih.csv",),
        lambda bench: compare_nih(bench, "pneumonia", "no_finding"),
    ),
    "convergence": Question(
        "Steps of fine-tuning that pretraining saves (Kermany)",
        ("kermany.csv",),
        measure_convergence,
        {
            "rate": RATE,
            "rate_of_transformers": RATE_OF_TRANSFORMERS,
            "batch": BATCH,
            "steps": STEPS,
            "seeds": SEEDS,
            "looked_at": LOOKED_AT,
        },
    ),
    "robustness": Question(
        "Changed images (Kermany)",
        ("kermany.csv",),
        measure_shifts,
        {str(kind): amounts for kind, amounts in GRID.items()} | {"side": SIDE},
    ),
    "drift": Question(
        "Drift: pneumonia learnt on children (Kermany), tested on adults (NIH, left-out patients)",
        ("kermany.csv", "nih.csv"),
        compare_drift,
    ),
}
