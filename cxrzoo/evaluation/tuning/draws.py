"""Fine-tuning, or a head with drifting batch statistics, on every draw of a trial; goes on where it was stopped."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.bars import bar
from cxrzoo.evaluation.comparison import Mode
from cxrzoo.evaluation.contenders import Entry
from cxrzoo.evaluation.probes.draws import Probed
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.sampling.protocols import Protocol
from cxrzoo.evaluation.sampling.splits import Split
from cxrzoo.evaluation.tables import LabelTable
from cxrzoo.evaluation.tuning.fine_tuning import fine_tune
from cxrzoo.evaluation.tuning.pixels import frame_images
from cxrzoo.evaluation.tuning.requirements import check_classes, has_both
from cxrzoo.records import digest
from cxrzoo.sources.owners import remove_orphans


def check_draws(table: LabelTable, draws: Sequence[Draw]) -> None:
    """Refuse draws of which none of the findings that can be learned can be judged: before the work, not after.

    Raises:
        EvaluationError: The validation images of a draw show one class of those findings.
    """
    for draw in draws:
        if len(draw.lacking) < len(table.findings):
            learned = has_both(table.labels[draw.rows])
            judged = np.flatnonzero(learned & has_both(table.labels[draw.valid]))
            check_classes(len(draw.rows), learned, judged)


def tune_draws(
    entry: Entry,
    table: LabelTable,
    split: Split,
    draws: Sequence[Draw],
    protocol: Protocol,
    mode: Mode,
    folder: Path,
    *,
    seed: int,
    workers: int,
    device: str,
    shown: bool,
) -> list[Probed]:
    """Return what each draw gives; a finding with one class in the draw has NaN.

    Raises:
        EvaluationError: A draw can't be trained on, or an image became unreadable.
    """
    remove_orphans(folder, age=0.0)  # of runs that were killed: each is as large as the network
    backbone = entry.load()
    with bar(f"{entry.name}: images", len(table.files), "images", shown=shown) as advance:
        frames = frame_images(
            table.files, backbone.transform.record, workers=workers, progress=lambda done, total: advance(1)
        )
    if frames.failures:
        row = int(table.rows[min(frames.failures)])
        raise EvaluationError(f"row {row} could be read a moment ago, and can't be now. Run the same command again.")
    pixels_sha256 = hashlib.sha256(frames.pixels.data).hexdigest()
    settings, tuned, count = protocol.fine_tuning, [], len(table.findings)
    total = sum(protocol.epochs(draw.step) for draw in draws)
    with bar(f"{entry.name}: {mode}", total, "epochs", shown=shown) as advance:
        for draw in draws:
            if len(draw.lacking) == len(table.findings):
                advance(protocol.epochs(draw.step))
                tuned.append(
                    Probed(np.full((len(draw.valid), count), np.nan), np.full((len(split.test), count), np.nan))
                )
                continue
            facts = [backbone.provenance.weights_sha256, backbone.provenance.preprocessing_sha256, mode, seed]
            facts += [table.sha256, pixels_sha256, split.sha256, draw.rows.tolist(), draw.valid.tolist(), draw.number]
            facts += [protocol.epochs(draw.step), asdict(settings)]
            found = fine_tune(
                backbone,
                frames.pixels,
                table.labels,
                train=draw.rows,
                valid=draw.valid,
                test=split.test,
                epochs=protocol.epochs(draw.step),
                seed=seed + draw.number,
                learning_rate=settings.learning_rate,
                batch_size=settings.batch_size,
                betas=settings.betas,
                weight_decay=settings.weight_decay,
                mode="end-to-end" if mode == "end-to-end" else "linear",
                bn_adapt=mode == "linear-bn-adapt",
                device=device,
                on_epoch=lambda epoch: advance(1),
                checkpoint=folder / f"{digest(facts)[:24]}.safetensors",
            )
            tuned.append(Probed(found.logits_valid.astype(np.float64), found.logits_test.astype(np.float64)))
    return tuned
