"""What `compare` finds, as plain records: one JSON file holds all of it but the pictures."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cxrzoo.errors import RecordError
from cxrzoo.records import decode
from cxrzoo.sources import write_atomically

SCHEMA = 1
#: The mean over all findings stands under this name, where there are several.
MACRO = "macro"

Mode = Literal["linear", "knn", "end-to-end", "linear-bn-adapt"]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Contender:
    """One model of the comparison; `name` is what the points call it.

    `kind` "untrained" marks the floor, a network with random weights, "store" embeddings that were given. `seconds` is
    what embedding took in this run. `backbone_sha256` is of all parameters and buffers, equal before and after.
    """

    name: str
    kind: Literal["model", "untrained", "store"]
    weights_sha256: str
    preprocessing: str
    preprocessing_sha256: str
    dimension: int
    architecture: str = ""
    backbone_sha256: str = ""
    seconds: float | None = None


@dataclass(frozen=True)
class Point:
    """One model at one label fraction: figures on the test images, each a mean over the draws.

    `images` and `positives` are means over the draws; `spread` is the standard deviation of the AUROC over the draws,
    None for a single draw. `sensitivity` is that at the specificity of the setting.
    """

    model: str
    mode: Mode
    finding: str
    fraction: str
    images: float
    positives: float
    draws: int
    auroc: Interval
    auprc: Interval
    sensitivity: Interval | None = None
    spread: float | None = None


@dataclass(frozen=True)
class Difference:
    """`model` minus `baseline`, AUROC, on the same rows and draws; significant where the interval excludes 0.

    `bonferroni` says whether that holds, too, for an interval widened for all differences of the table.
    """

    model: str
    baseline: str
    mode: Mode
    finding: str
    fraction: str
    difference: Interval
    significant: bool
    bonferroni: bool


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability curve: mean probability, observed share of positives, number of images."""

    predicted: float
    observed: float
    images: int


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be trusted, at the largest label fraction: before and after temperature scaling.

    The temperature was fitted on the validation images.
    """

    model: str
    mode: Mode
    finding: str
    fraction: str
    temperature: float
    ece: float
    ece_scaled: float
    bins: tuple[Bin, ...]
    bins_scaled: tuple[Bin, ...]


@dataclass(frozen=True)
class Miss:
    """A test image on which a model was confidently wrong: row of the table, label, probability of the finding."""

    model: str
    mode: Mode
    finding: str
    row: int
    label: int
    probability: float


@dataclass(frozen=True)
class Rank:
    """A model's AUROC averaged over findings and label fractions, and how often it was the best of its mode.

    `behind` is the figure of the best model of this mode minus this one's, None for the best itself; `behind_first` is
    that of the first of the whole ranking, whatever its mode, minus this one's.
    """

    model: str
    mode: Mode
    average: Interval
    best_share: float
    behind: Interval | None = None
    behind_first: Interval | None = None
    behind_last: Interval | None = None


@dataclass(frozen=True)
class Part:
    """One part of the split, "train", "valid" or "test": how many images and patients, and of each finding."""

    name: str
    images: int
    patients: int
    positives: dict[str, int]
    negatives: dict[str, int]


@dataclass(frozen=True)
class Setting:
    """All that it takes to repeat a comparison."""

    command: str
    created: str
    seed: int
    protocol: dict[str, Any]
    table_sha256: str
    split_sha256: str
    split_origin: Literal["given", "drawn", "replayed"]
    grouped_by: Literal["patient", "image"]
    uncertain: str
    against: str | None
    parts: tuple[Part, ...]
    unreadable: dict[str, str]
    replicates: int
    clusters: Literal["patient", "row"]
    specificity: float
    versions: dict[str, str]
    commit: str | None


@dataclass(frozen=True)
class Comparison:
    """All figures of one run of `compare`; `notes` are what a reader must know, as sentences."""

    title: str
    findings: tuple[str, ...]
    fractions: tuple[str, ...]
    modes: tuple[Mode, ...]
    baseline: str
    recommendation: str
    contenders: tuple[Contender, ...]
    points: tuple[Point, ...]
    differences: tuple[Difference, ...]
    ranking: tuple[Rank, ...]
    calibration: tuple[Calibration, ...]
    misses: tuple[Miss, ...]
    notes: tuple[str, ...]
    setting: Setting
    schema: int = field(default=SCHEMA)


def write_comparison(path: Path, comparison: Comparison) -> None:
    """Write the figures as JSON.

    Raises:
        DiskError: The file could not be written; nothing is left behind.
    """
    text = json.dumps(asdict(comparison), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_atomically(path, text.encode())


def read_comparison(path: Path) -> Comparison:
    """Return what `write_comparison` wrote.

    Raises:
        RecordError: The file is not such a one, or of another schema.
    """
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RecordError(f"{path} can't be read as JSON: {error}. Give a results.json of `cxrzoo compare`.") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise RecordError(f"{path}: found schema {found!r}, expected {SCHEMA}. Run the comparison again.")
    return decode(Comparison, content, path.name)
