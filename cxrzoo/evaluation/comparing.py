"""A table of labels and some models -> one comparison and its report: embed, draw, probe, measure."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from cxrzoo.errors import EvaluationError, ImageWarning
from cxrzoo.evaluation.comparison import Comparison, Contender, Mode, write_comparison
from cxrzoo.evaluation.contenders import list_entries
from cxrzoo.evaluation.gathering import describe_images, gather
from cxrzoo.evaluation.report import render_report
from cxrzoo.evaluation.report.misses import picture_misses
from cxrzoo.evaluation.requests import (
    check_counts,
    check_floor,
    check_modes,
    check_names,
    find_baseline,
    list_words,
    share_out,
)
from cxrzoo.evaluation.sampling.draws import draw_subsets
from cxrzoo.evaluation.sampling.protocols import load_protocol
from cxrzoo.evaluation.sampling.splits import make_split, replay_split, write_split
from cxrzoo.evaluation.tables import read_table, table_of_arrays
from cxrzoo.evaluation.trials import Trial, check_trial, conclude, probe
from cxrzoo.evaluation.tuning.draws import check_draws, tune_draws
from cxrzoo.evaluation.untrained import PREFIX
from cxrzoo.sources import write_atomically

if TYPE_CHECKING:
    import os

    import pandas


REPORT, RESULTS, SPLIT = "report.html", "results.json", "split.csv"


def compare(
    models: Sequence[str] | str,
    data: "str | os.PathLike[str] | pandas.DataFrame",
    findings: Sequence[str] | str,
    *,
    out: "str | os.PathLike[str]",
    against: str | None = None,
    baseline: str | None = None,
    protocol: str = "default",
    modes: Sequence[Mode] | Mode = ("linear",),
    floor: str | None = None,
    seed: int = 0,
    uncertain: str = "ignore",
    positive: str | None = None,
    image_level: bool = False,
    patient_ids: str = "global",
    columns: Mapping[str, str] | None = None,
    root: "str | os.PathLike[str] | None" = None,
    split: "str | os.PathLike[str] | None" = None,
    test_share: float | None = None,
    workers: int = 1,
    device: str = "cpu",
    pictures: bool = True,
    progress: bool = False,
    title: str = "",
    command: str = "",
) -> Comparison:
    """Compare models on a table of labels, and write `report.html` and `results.json` into the folder `out`.

    What takes long is kept in `out` as it comes: the same call goes on where one was interrupted.

    Args:
        models: Names, NAME:VARIANT, model folders, hf-hub:org/name, untrained:ARCHITECTURE, or embedding stores; of
            models, findings and modes one alone may be given as it is.
        data: A CSV or Parquet file, or a data frame: a path a row, one or several columns of labels, and optionally
            patient, study, view and split.
        findings: The columns of labels: 1, 0, -1 for uncertain, empty for missing.
        out: Folder for report, figures, split, embeddings and fine-tuned logits.
        against: Column that must be 1 for a 0 of a finding to count.
        baseline: The model that the others are compared with; the first if left out.
        protocol: "default", the name of another one, or the path of a TOML file of your own.
        modes: Any of "linear", "knn", "end-to-end", "linear-bn-adapt".
        floor: An untrained network, "untrained:ARCHITECTURE", as the floor; the protocol's if left out, "" for none.
        uncertain: What -1 means: "ignore", "positive" or "negative".
        positive: The word that means 1 in columns of text, where all others mean 0.
        image_level: Let images of one patient fall into several parts of the split.
        patient_ids: "per-split" where patients are numbered anew in each part of a given split.
        columns: Names of the columns of path, patient, study, view, split, where they are unusual.
        root: Folder that paths in the table start from; the table's own if left out.
        split: A split.csv that an earlier run wrote, to be used again, for the same images or fewer of them.
        test_share: Share of the images for the test part of a drawn split, in place of the protocol's.

    Raises:
        TableError: The table can't be used; the text names row and column.
        EvaluationError: There are too few cases for an interval, or the models can't be compared like this.
        UnknownModelError: No manifest has this name.
    """
    models, findings, modes = list_words(models), list_words(findings), list_words(modes)
    folder, plan = Path(out), load_protocol(protocol)
    check_counts(seed=seed, workers=workers)
    floor = plan.floor if floor is None else floor
    check_floor(floor)
    entries = list_entries([*models, *([floor] if floor and floor not in models else [])])
    baseline = find_baseline(entries, baseline)
    check_modes(entries, modes)
    table = read_table(
        data,
        findings,
        against=against,
        uncertain=uncertain,
        positive=positive,
        image_level=image_level,
        patient_ids=patient_ids,
        root=root,
        columns=columns,
    )
    if test_share is not None:
        plan = share_out(plan, test_share, table, replayed=split is not None)
    drawn = make_split(table, plan, seed) if split is None else replay_split(Path(split), table)
    # before hours of embedding, not after
    check_names([title, command, *(entry.name for entry in entries)], table.findings)
    planned = Trial(table, drawn, draw_subsets(table, drawn, plan, seed), plan, seed)
    check_trial(planned)
    tuned = [mode for mode in modes if mode not in ("linear", "knn")]
    if tuned:
        check_draws(table, planned.draws)
    write_split(folder / SPLIT, table, drawn)

    gathered = gather(entries, table, folder / "embeddings", workers=workers, device=device, shown=progress)
    failures: dict[int, str] = {}
    for found in gathered:
        failures |= found.failures
    remarks = describe_images(gathered, table.rows)
    for code, text in remarks:  # at once: it may be why what is left can't be judged
        warnings.warn(ImageWarning(text, code), stacklevel=2)
    good = np.setdiff1d(np.arange(len(table.rows)), sorted(failures))
    kept, left = table.keep(good), drawn.keep(good)
    trial = Trial(kept, left, draw_subsets(kept, left, plan, seed), plan, seed)
    check_trial(trial)
    probed = probe(trial, {found.contender.name: found.embeddings[good] for found in gathered}, modes, progress)
    for entry in entries:
        for mode in tuned:
            probed[entry.name, mode] = tune_draws(
                entry,
                kept,
                left,
                trial.draws,
                plan,
                mode,
                folder / "fine-tuned",
                seed=seed,
                workers=workers,
                device=device,
                shown=progress,
            )
    comparison = conclude(
        trial,
        probed,
        [found.contender for found in gathered],
        baseline,
        title=title or f"{', '.join(table.findings)}: {len(models)} model{'s' * (len(models) != 1)} compared",
        command=command,
        unreadable={str(int(table.rows[position])): code for position, code in sorted(failures.items())},
        remarks=[text if text.endswith("…") else f"{text}." for _, text in remarks],
    )
    files = dict(zip(kept.rows.tolist(), kept.files, strict=True))
    shown = picture_misses(comparison.misses, files, workers=workers) if pictures else {}
    write_comparison(folder / RESULTS, comparison)
    write_atomically(folder / REPORT, render_report(comparison, shown).encode())
    return comparison


def label_efficiency(
    embeddings: Mapping[str, ArrayLike],
    labels: ArrayLike,
    *,
    findings: Sequence[str] | str | None = None,
    patients: Sequence[object] | None = None,
    studies: Sequence[object] | None = None,
    splits: Sequence[str] | None = None,
    image_level: bool = False,
    baseline: str | None = None,
    protocol: str = "default",
    modes: Sequence[Mode] | Mode = ("linear",),
    test_share: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Return label-efficiency curves and paired differences of embeddings that are at hand as arrays.

    Args:
        embeddings: For each model, by its name, (images, dimension), all of the same images.
        labels: (images,) or (images, findings): 1, 0, NaN for missing, -1 for uncertain (not used).
        patients: Of each image; required unless `image_level`.
        splits: "train", "valid" or "test" of each image; drawn if left out.
        baseline, protocol, modes, test_share, seed: As for `compare`; modes that need images are not possible.

    Raises:
        TableError: Shapes or labels don't fit.
        EvaluationError: There are too few cases for an interval.
    """
    if not isinstance(embeddings, Mapping):
        raise EvaluationError(
            f"embeddings: found {type(embeddings).__name__}, expected arrays by name. Give {{'name': array}}."
        )
    modes, plan = list_words(modes), load_protocol(protocol)
    findings = None if findings is None else list_words(findings)
    check_counts(seed=seed)
    table = table_of_arrays(
        labels, findings=findings, patients=patients, studies=studies, splits=splits, image_level=image_level
    )
    given = len(table) + table.unlabelled
    arrays = {name: np.asarray(array, np.float32) for name, array in embeddings.items()}
    for name, array in arrays.items():
        if array.ndim != 2 or len(array) != given or not array.shape[1] or not np.isfinite(array).all():
            raise EvaluationError(
                f"embeddings of {name}: found an array of shape {array.shape}"
                f"{'' if np.isfinite(array).all() else ' that is not finite'}, expected finite numbers (images, "
                f"dimension) for {given} images."
            )
    # images without any label are no rows of the table
    arrays = {name: array[table.rows - 1] for name, array in arrays.items()}
    impossible = [mode for mode in modes if mode not in ("linear", "knn")]
    if impossible or not arrays or not modes:
        found = impossible or ("no embeddings" if modes else "no modes")
        raise EvaluationError(f"found {found}, expected embeddings, and modes linear or knn.")
    check_names([*arrays], table.findings)
    if test_share is not None:
        plan = share_out(plan, test_share, table)
    drawn = make_split(table, plan, seed)
    trial = Trial(table, drawn, draw_subsets(table, drawn, plan, seed), plan, seed)
    check_trial(trial)
    contenders = [
        Contender(name, "untrained" if name.startswith(PREFIX) else "store", "", "", "", array.shape[1])
        for name, array in arrays.items()
    ]
    first = baseline or contenders[0].name
    if first not in arrays:
        raise EvaluationError(f"baseline: found {first!r}, expected one of {', '.join(arrays)}.")
    return conclude(trial, probe(trial, arrays, modes, progress), contenders, first)
