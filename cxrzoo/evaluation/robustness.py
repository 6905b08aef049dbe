"""How a probe that learnt from images as they are fares on images that were changed, with and without pretraining."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrzoo.embedding.images import embed_images, write_embeddings
from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import Interval
from cxrzoo.evaluation.perturbations import Perturbation, perturb
from cxrzoo.evaluation.probes.draws import probe_draws
from cxrzoo.evaluation.proofs import Shift
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.sampling.protocols import Protocol
from cxrzoo.evaluation.sampling.splits import BOOTSTRAP_STREAM, Split
from cxrzoo.evaluation.statistics.bootstrap import draw_counts, interval, replicate_auroc
from cxrzoo.evaluation.statistics.metrics import auroc
from cxrzoo.evaluation.tables import LabelTable
from cxrzoo.imaging import Pixels
from cxrzoo.records import digest

if TYPE_CHECKING:
    from cxrzoo.loader import Backbone

Embeddings = NDArray[np.float32]


def embed_perturbed(
    backbones: "Mapping[str, Backbone]",
    pictures: Sequence[Pixels],
    perturbation: Perturbation,
    folder: Path,
    *,
    device: str = "cpu",
) -> dict[str, Embeddings]:
    """Return, for each model, one embedding of each picture, changed; kept in `folder`, and read there the next time.

    Raises:
        DiskError: They can't be written.
        ImageError: A picture can't be embedded.
    """
    shown = _digest(pictures)
    changed: list[NDArray[np.uint8]] = []
    found = {}
    for name, backbone in backbones.items():
        identity = backbone.provenance
        facts = [identity.weights_sha256, identity.preprocessing_sha256, perturbation.kind, perturbation.amount]
        path = folder / f"{digest([*facts, shown])[:24]}.npy"
        kept = _read(path)
        if kept is None:
            changed = changed or [perturb(picture, perturbation) for picture in pictures]
            kept = embed_images(backbone, changed, device=device)
            folder.mkdir(parents=True, exist_ok=True)
            write_embeddings(path, kept, backbone)
        found[name] = kept
    return found


def measure_robustness(
    table: LabelTable,
    split: Split,
    protocol: Protocol,
    clean: Mapping[str, Embeddings],
    changed: Mapping[str, Mapping[Perturbation, Embeddings]],
    baselines: Mapping[str, str],
    *,
    seed: int = 0,
) -> list[Shift]:
    """Return a row for each model and perturbation; every probe learns from all training images as they are.

    Args:
        table: Of one finding.
        clean: By model, the embeddings of all images of the table, as they are.
        changed: By model, those of the test images under each perturbation, the same ones for all models.
        baselines: What each model is held against, such as its own network with random weights.

    Raises:
        EvaluationError: The table has several findings, or the embeddings are not of its images.
    """
    if len(table.findings) != 1:
        raise EvaluationError(f"found {len(table.findings)} findings, expected one. Measure one after the other.")
    perturbations = list(next(iter(changed.values())))
    labels, test = table.labels[split.test][:, 0], split.test
    groups = table.groups[test] if protocol.bootstrap.clusters == "patient" else None
    seeds = (seed, BOOTSTRAP_STREAM)
    counts = draw_counts(len(test), groups=groups, replicates=protocol.bootstrap.replicates, seed=seeds)
    values: dict[str, NDArray[np.float64]] = {}
    replicates: dict[str, NDArray[np.float64]] = {}
    for name, embeddings in clean.items():
        _check(name, embeddings, changed[name], perturbations, len(table), len(test))
        logits = _probe(table, split, protocol, embeddings, [embeddings[test], *changed[name].values()])
        values[name] = np.array([auroc(labels, column) for column in logits.T])
        replicates[name] = replicate_auroc(labels, logits, counts)

    def shown(value: float, of_replicates: NDArray[np.float64]) -> Interval:
        lower, upper = interval(of_replicates, protocol.bootstrap.rule)
        return Interval(float(value), float(lower), float(upper))

    rows = []
    for name in clean:
        other = baselines.get(name, "")
        for column, perturbation in enumerate(perturbations, 1):
            value, drawn = values[name], replicates[name]
            lead = spared = None
            if other:
                ahead, drawn_ahead = value - values[other], drawn - replicates[other]
                lead = shown(ahead[column], drawn_ahead[column])
                spared = shown(ahead[column] - ahead[0], drawn_ahead[column] - drawn_ahead[0])
            rows.append(
                Shift(
                    model=name,
                    kind=perturbation.kind,
                    amount=perturbation.amount,
                    auroc=shown(value[column], drawn[column]),
                    drop=shown(value[column] - value[0], drawn[column] - drawn[0]),
                    baseline=other,
                    lead=lead,
                    spared=spared,
                )
            )
    return rows


def _probe(
    table: LabelTable, split: Split, protocol: Protocol, embeddings: Embeddings, tests: Sequence[Embeddings]
) -> NDArray[np.float64]:
    """Return the logits (test images, settings) of one probe that is fitted once."""
    everything = Draw("100 %", 1, split.train, split.valid, ())
    count = len(split.test)
    (probed,) = probe_draws(
        np.concatenate([embeddings, *tests]),
        table.labels,
        table.groups,
        [everything],
        len(embeddings) + np.arange(count * len(tests)),
        mode="linear",
        strengths=protocol.probe.strengths,
        choose="cross-validation",
        folds=protocol.probe.folds,
        scale=split.train,
    )
    return probed.test[:, 0].reshape(len(tests), count).T


def _check(
    name: str,
    clean: Embeddings,
    changed: Mapping[Perturbation, Embeddings],
    perturbations: Sequence[Perturbation],
    images: int,
    tested: int,
) -> None:
    counts = {len(array) for array in changed.values()}
    if len(clean) != images or counts != {tested} or list(changed) != list(perturbations):
        raise EvaluationError(
            f"{name}: found embeddings of {len(clean)} images, and of {sorted(counts)} under {len(changed)} "
            f"perturbations, expected {images}, and {tested} under {len(perturbations)}. Embed the same table."
        )


def _digest(pictures: Sequence[Pixels]) -> str:
    hasher = hashlib.sha256()
    for picture in pictures:
        hasher.update(f"{picture.dtype} {picture.shape}".encode())
        hasher.update(np.ascontiguousarray(picture).data)
    return hasher.hexdigest()


def _read(path: Path) -> Embeddings | None:
    """Return what `write_embeddings` wrote, None where there is nothing, or where it is not whole."""
    beside = path.with_name(f"{path.name}.json")
    if not path.is_file() or not beside.is_file():
        return None
    if json.loads(beside.read_bytes())["sha256"] != hashlib.sha256(path.read_bytes()).hexdigest():
        return None
    embeddings: Embeddings = np.load(path, allow_pickle=False)
    return embeddings
