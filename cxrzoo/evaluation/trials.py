"""One table, split and set of draws, on which all contenders are judged: probes, figures, notes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.bars import bar
from cxrzoo.evaluation.comparison import Calibration, Comparison, Contender, Mode, Setting
from cxrzoo.evaluation.probes.draws import Probed, probe_draws
from cxrzoo.evaluation.report.misses import list_misses
from cxrzoo.evaluation.report.recommendation import recommend
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.sampling.protocols import Protocol
from cxrzoo.evaluation.sampling.splits import Split
from cxrzoo.evaluation.settings import describe_parts, find_commit, list_versions
from cxrzoo.evaluation.statistics.calibration import calibrate
from cxrzoo.evaluation.statistics.curves import Key, Targets, check_replicates, combine_studies, measure
from cxrzoo.evaluation.statistics.metrics import MIN_CASES, check_cases
from cxrzoo.evaluation.tables import LabelTable


@dataclass(frozen=True)
class Trial:
    """One table, split and set of draws, on which all contenders are judged."""

    table: LabelTable
    split: Split
    draws: list[Draw]
    protocol: Protocol
    seed: int

    @property
    def targets(self) -> Targets:
        """The test images."""
        return self.aim_at(self.split.test)

    @property
    def studies(self) -> NDArray[np.str_] | None:
        """The study of each image of the table, where the protocol scores studies and the table names them."""
        return self.table.studies if self.protocol.test.unit == "study" else None

    def aim_at(self, positions: NDArray[np.int64]) -> Targets:
        """Return what is to be found on some images, scored as the protocol says."""
        studies = None if self.studies is None else self.studies[positions]
        return Targets(self.table.findings, self.table.labels[positions], self.table.groups[positions], studies)


def check_trial(trial: Trial) -> None:
    """Refuse what could only fail after hours of work: too small a test set, or nothing to learn, for some finding.

    Raises:
        EvaluationError: Says all findings that are lacking, and what to do.
    """
    combined, _ = combine_studies(trial.targets, {})
    problems = []
    for column, finding in enumerate(combined.findings):
        labels = combined.labels[:, column]
        try:
            check_cases(labels[~np.isnan(labels)], finding)
        except EvaluationError as error:
            problems.append(str(error))
    lost = {draw.step: set[str]() for draw in trial.draws}
    for draw in trial.draws:
        lost[draw.step].update(draw.lacking)
    problems += [
        f"{finding}: at every label fraction a draw has no training image with it, or none without it. Leave this "
        "finding out, or give more such images to the training part."
        for finding in trial.table.findings
        if lost and all(finding in lacking for lacking in lost.values())
    ]
    if problems:
        raise EvaluationError("\n".join(problems))
    if _few_patients(trial):
        check_replicates(combined, trial.protocol.bootstrap, trial.seed)


def _few_patients(trial: Trial) -> dict[str, int]:
    """Return how many test patients have the rarer label of a finding, where they are few and drawn whole."""
    targets, few = trial.targets, {}
    for column, finding in enumerate(targets.findings):
        owners = [len(np.unique(targets.patients[targets.labels[:, column] == label])) for label in (1, 0)]
        if trial.protocol.bootstrap.clusters == "patient" and min(owners) < MIN_CASES:
            few[finding] = min(owners)
    return few


def probe(
    trial: Trial, embeddings: Mapping[str, NDArray[np.float32]], modes: Sequence[Mode], shown: bool
) -> dict[Key, list[Probed]]:
    probed: dict[Key, list[Probed]] = {}
    quick = [mode for mode in modes if mode in ("linear", "knn")]
    with bar("probes", len(embeddings) * len(quick) * len(trial.draws), "draws", shown=shown) as advance:
        for name, array in embeddings.items():
            for mode in quick:
                probed[name, mode] = probe_draws(
                    array,
                    trial.table.labels,
                    trial.table.groups,
                    trial.draws,
                    trial.split.test,
                    mode=mode,
                    strengths=trial.protocol.probe.strengths,
                    choose=trial.protocol.probe.choose,
                    folds=trial.protocol.probe.folds,
                    scale=trial.split.train,
                    studies=trial.studies,
                    on_draw=lambda: advance(1),
                )
    return probed


def conclude(
    trial: Trial,
    probed: Mapping[Key, list[Probed]],
    contenders: Sequence[Contender],
    baseline: str,
    *,
    title: str = "",
    command: str = "",
    unreadable: Mapping[str, str] | None = None,
    remarks: Sequence[str] = (),
) -> Comparison:
    """Return all figures of what was probed; `remarks` come first among the notes."""
    targets, draws, table = trial.targets, trial.draws, trial.table
    logits = {key: np.stack([draw.test for draw in of_model]) for key, of_model in probed.items()}
    positives = np.array([(table.labels[draw.rows] == 1).sum(axis=0) for draw in draws])
    curves = measure(
        logits,
        targets,
        draws,
        positives,
        baseline,
        trial.protocol.bootstrap,
        specificity=trial.protocol.test.specificity,
        seed=trial.seed,
    )
    steps = list(dict.fromkeys(draw.step for draw in draws))
    last = next(i for i, draw in enumerate(draws) if draw.step == steps[-1])
    modes = tuple(dict.fromkeys(mode for _, mode in probed))
    floors = {contender.name for contender in contenders if contender.kind == "untrained"}
    trained = [rank for rank in curves.ranking if rank.model not in floors] or curves.ranking
    best = max(trained, key=lambda rank: rank.average.value)
    shown = [finding for finding in table.findings if any(point.finding == finding for point in curves.points)]
    key = (best.model, best.mode)
    units = len(combine_studies(targets, {})[0].labels)
    return Comparison(
        title=title,
        findings=table.findings,
        fractions=tuple(steps),
        modes=modes,
        baseline=baseline,
        recommendation=recommend(
            curves.ranking,
            contenders,
            shown,
            units,
            len(modes),
            fractions=[step for step in steps if step in {point.fraction for point in curves.points}],
            unit="images" if targets.studies is None else "studies",
        ),
        contenders=tuple(contenders),
        points=curves.points,
        differences=curves.differences,
        ranking=curves.ranking,
        calibration=_calibrations(trial, probed, steps[-1], last),
        misses=list_misses(key, table.findings, logits[key][last], targets.labels, table.rows[trial.split.test]),
        notes=(*remarks, *curves.left_out, *_notes(trial)),
        setting=_setting(trial, command, unreadable or {}),
    )


def _calibrations(
    trial: Trial, probed: Mapping[Key, list[Probed]], fraction: str, position: int
) -> tuple[Calibration, ...]:
    """Return the calibration of every model, from one draw of the largest fraction."""
    seen = trial.aim_at(trial.draws[position].valid)
    found = []
    for key, of_model in probed.items():
        # the temperature is fitted on what it is used for: studies, where these are scored
        valid, valid_logits = combine_studies(seen, {key: of_model[position].valid[None]})
        targets, logits = combine_studies(trial.targets, {key: of_model[position].test[None]})
        found += calibrate(key, fraction, valid_logits[key][0], valid.labels, logits[key][0], targets)
    return tuple(found)


def _notes(trial: Trial) -> list[str]:
    """Return what a reader must know of this trial, as sentences."""
    table, bootstrap = trial.table, trial.protocol.bootstrap
    what = "studies" if trial.targets.studies is not None else "images"
    notes = [
        f"Intervals are for other test {what} of the same kind, and for other draws of as many labelled images; where "
        "all are used, there is one draw, and they are for these."
        if bootstrap.draws
        else f"Intervals are of the mean over the draws, for other test {what} of the same kind: the spread between "
        "draws stands in a column of its own and is not in them, so that too much looks significant."
    ]
    if table.grouped_by == "image":
        notes.append(
            "Images of one patient may stand in several parts of the split, as was asked: figures may be too high, and "
            "intervals too narrow."
        )
    if bootstrap.clusters == "row" and len(np.unique(trial.targets.patients)) < len(trial.targets.patients):
        notes.append(
            "Replicates draw rows, as the protocol says, though patients have several: intervals may be too narrow."
        )
    few = _few_patients(trial)
    if few:
        listed = ", ".join(f"{finding} {count}" for finding, count in few.items())
        notes.append(
            f"Fewer than {MIN_CASES} test patients have the rarer label ({listed}): intervals rest on these few, and "
            "may be too narrow."
        )
    if trial.protocol.test.unit == "study" and table.studies is None:
        notes.append("The protocol scores studies; the table names none, so that each image is scored by itself.")
    steps = {draw.step for draw in trial.draws}
    skipped = [step.label for step in trial.protocol.steps if step.label not in steps]
    if skipped:
        notes.append(
            f"Left out, since of {len(trial.split.train):,} training images it would be too few, or all: "
            f"{', '.join(skipped)}."
        )
    uncertain = {finding: counts["uncertain"] for finding, counts in table.counts.items() if counts["uncertain"]}
    if uncertain:
        meaning = {"ignore": "not used", "positive": "taken as positive", "negative": "taken as negative"}
        listed = ", ".join(f"{finding} {count}" for finding, count in uncertain.items())
        notes.append(f"Uncertain labels were {meaning[table.uncertain]}: {listed}.")
    if table.against is not None:
        notes.append(f"Only images whose {table.against} is 1 count as negative.")
    return notes


def _setting(trial: Trial, command: str, unreadable: Mapping[str, str]) -> Setting:
    table, split, protocol = trial.table, trial.split, trial.protocol
    return Setting(
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=trial.seed,
        protocol=json.loads(json.dumps(asdict(protocol))),  # as it will be read back
        table_sha256=table.sha256,
        split_sha256=split.sha256,
        split_origin=split.origin,
        grouped_by=table.grouped_by,
        uncertain=table.uncertain,
        against=table.against,
        parts=describe_parts(table, split),
        unreadable=dict(unreadable),
        replicates=protocol.bootstrap.replicates,
        clusters="row" if table.grouped_by == "image" else protocol.bootstrap.clusters,
        specificity=protocol.test.specificity,
        versions=list_versions(),
        commit=find_commit(),
    )
