"""What was measured of models, kept as evidence: one JSON file a question, with all that it takes to repeat it."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from cxrzoo.errors import RecordError
from cxrzoo.evaluation.comparison import Comparison, Contender, Interval
from cxrzoo.evaluation.perturbations import Kind
from cxrzoo.records import decode
from cxrzoo.sources import write_atomically

SCHEMA = 1
#: Where evidence lies in the folder of the documents.
FOUND = "evidence"


@dataclass(frozen=True)
class Trace:
    """One fine-tuning, looked at after some numbers of steps: mean loss since the last look, and validation AUROC."""

    model: str
    seed: int
    steps: tuple[int, ...]
    losses: tuple[float, ...]
    aurocs: tuple[float, ...]


@dataclass(frozen=True)
class Race:
    """One seed: `best` is the AUROC that `baseline` reached at last, `level` what both had to reach.

    `steps` is None where the model never did; then there is no `gain`, which is else 1 - steps / baseline_steps.
    """

    model: str
    baseline: str
    seed: int
    best: float
    level: float
    steps: int | None
    baseline_steps: int
    gain: float | None


@dataclass(frozen=True)
class Shift:
    """One model under one perturbation, on the same test images as all others.

    `drop` is its AUROC less that on the images as they are. `lead` is its AUROC less that of `baseline` under the same
    perturbation, `spared` its drop less that of `baseline`: above 0 where it loses less. All intervals are paired.
    """

    model: str
    kind: Kind
    amount: float
    auroc: Interval
    drop: Interval
    baseline: str = ""
    lead: Interval | None = None
    spared: Interval | None = None

    @property
    def clean(self) -> float:
        """The AUROC on the images as they are."""
        return self.auroc.value - self.drop.value


@dataclass(frozen=True)
class Evidence:
    """The figures of one question, and all that it takes to repeat them.

    `identity` is a digest of what decides them; `data` holds the sha256 of each table that was read, `settings` what
    else was chosen. `notes` are what a reader must know, as sentences.
    """

    name: str
    title: str
    identity: str
    command: str
    created: str
    seed: int
    commit: str | None
    versions: dict[str, str]
    data: dict[str, str]
    models: tuple[Contender, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    traces: tuple[Trace, ...] = ()
    races: tuple[Race, ...] = ()
    shifts: tuple[Shift, ...] = ()
    schema: int = SCHEMA


def summarise(races: Sequence[Race]) -> Interval:
    """Return the median share of steps saved, with the lowest and the highest of the seeds.

    A run that never got there has a gain of minus infinity: worse than any, and in the median it counts as such.
    """
    gains = [-math.inf if race.gain is None else race.gain for race in races]
    return Interval(median(gains), min(gains), max(gains))


def write_evidence(folder: Path, evidence: Evidence) -> Path:
    """Write the figures as JSON into a folder, and return the file.

    Raises:
        DiskError: The file could not be written; nothing is left behind.
    """
    path = folder / f"{evidence.name}.json"
    text = json.dumps(asdict(evidence), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode())
    return path


def read_evidence(path: Path) -> Evidence:
    """Return what `write_evidence` wrote.

    Raises:
        RecordError: The file is not such a one, or of another schema.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path.name} can't be read as JSON: {error}. Make the evidence anew.") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise RecordError(f"{path.name}: found schema {found!r}, expected {SCHEMA}. Make the evidence anew.")
    return decode(Evidence, content, path.name)


def read_all(docs: Path) -> list[Evidence]:
    """Return all evidence that is there, in the order of its names.

    Raises:
        RecordError: A file of it is malformed.
    """
    return [read_evidence(path) for path in sorted((docs / FOUND).glob("*.json"))]
