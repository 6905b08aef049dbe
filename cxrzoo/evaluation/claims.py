"""What was to be shown of models, and whether the evidence shows it: nothing here is typed by hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrzoo.evaluation.cells import show_saved, show_signed
from cxrzoo.evaluation.comparison import Interval
from cxrzoo.evaluation.proofs import Evidence, read_all, summarise
from cxrzoo.figures import make_table
from cxrzoo.records import read_toml

#: What is to be shown lies in the folder of the documents under this name.
PLAN = "evidence.toml"


@dataclass(frozen=True)
class Target:
    """What `model` was to be ahead of `baseline` in some evidence: by AUROC at label fractions, or by steps saved.

    Without `fractions` it is the share of steps saved, the median over the seeds.
    """

    claim: str
    evidence: str
    model: str
    baseline: str
    at_least: float
    fractions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What evidence is made of: the models that are to be shown, those they are held against, and what is claimed.

    Each of `models` is also held against its own network with random weights; `references` come with weights of their
    own, and the first of them is the baseline of the comparison of all.
    """

    name: str
    models: tuple[str, ...]
    references: tuple[str, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Verdict:
    """What was found of a target: the interval is a paired one, or the lowest and highest of the seeds."""

    target: Target
    fraction: str
    found: Interval | None

    @property
    def met(self) -> bool:
        """Whether the figure is as large as it was to be, and its interval excludes 0."""
        return self.found is not None and self.found.value >= self.target.at_least and self.found.lower > 0


def read_plan(docs: Path) -> Plan:
    """Return what is to be shown, as `evidence.toml` in the folder of the documents says.

    Raises:
        RecordError: It is malformed.
    """
    return read_toml(Plan, docs / PLAN, PLAN)


def judge(target: Target, evidence: Sequence[Evidence]) -> list[Verdict]:
    """Return what was found of a target, at each of its label fractions; nothing found where it was not measured."""
    chosen = [entry for entry in evidence if entry.name == target.evidence]
    pair = (target.model, target.baseline)
    if not target.fractions:
        races = [race for entry in chosen for race in entry.races if (race.model, race.baseline) == pair]
        return [Verdict(target, "", summarise(races) if races else None)]
    leads = {
        row.fraction: row.difference
        for entry in chosen
        for comparison in entry.comparisons
        for row in comparison.differences
        if (row.model, row.baseline, row.mode) == (*pair, "linear") and row.finding == comparison.findings[0]
    }
    return [Verdict(target, fraction, leads.get(fraction)) for fraction in target.fractions]


def render_targets(docs: Path) -> str:
    """Return a table of what was to be shown, and how far it was."""
    evidence = read_all(docs)
    rows = []
    for target in read_plan(docs).targets:
        verdicts = judge(target, evidence)
        cells = zip(
            *((verdict.fraction or "–", _found(verdict), _decide(verdict)) for verdict in verdicts), strict=True
        )
        labels, found, decided = map("<br>".join, cells)
        rows.append([target.claim, f"`{target.model}`", _aim(verdicts[0]), labels, found, decided])
    return make_table(["claim", "model", "target", "labels", "found", "verdict"], rows)


def _aim(verdict: Verdict) -> str:
    least = verdict.target.at_least
    return f"≥ +{least:.2f}" if verdict.fraction else f"≥ {least:.0%} of the steps"


def _found(verdict: Verdict) -> str:
    if verdict.found is None:
        return "–"
    return show_signed(verdict.found) if verdict.fraction else show_saved(verdict.found)


def _decide(verdict: Verdict) -> str:
    if verdict.found is None:
        return "not measured yet"
    if verdict.met:
        return "met"
    short = verdict.target.at_least - verdict.found.value
    if short <= 0:
        return "missed: the interval includes 0" if verdict.fraction else "missed: not with every seed"
    if math.isinf(short):
        return "missed: never got there"
    return f"missed by {short:.3f}" if verdict.fraction else f"missed by {short:.0%}"
