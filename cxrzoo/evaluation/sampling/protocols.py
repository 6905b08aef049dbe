"""How a comparison is made, as data: split, label fractions and draws, probe, fine-tuning, bootstrap."""

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cxrzoo.errors import RecordError
from cxrzoo.records import read_toml, suggest

_FOLDER = Path(__file__).resolve().parent / "protocols"


@dataclass(frozen=True)
class Step:
    """How many of the training images are used, and how often such a subset is drawn.

    Either a `fraction` of them, or so many `images`; with neither, all. `epochs` are those of fine-tuning, where they
    differ from the protocol's own.
    """

    draws: int
    fraction: float | None = None
    images: int | None = None
    epochs: int | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and self.images is not None:
            raise RecordError("steps: found fraction and images, expected one of them, or neither for all images.")
        _check("steps: fraction", self.fraction, self.fraction is None or 0 < self.fraction <= 1, "above 0, at most 1")
        _check("steps: images", self.images, self.images is None or self.images > 0, "at least 1")
        _check("steps: draws", self.draws, self.draws > 0, "at least 1")
        _check("steps: epochs", self.epochs, self.epochs is None or self.epochs > 0, "at least 1")

    @property
    def whole(self) -> bool:
        """Whether all training images are used."""
        return self.images is None and self.fraction in (None, 1)

    @property
    def label(self) -> str:
        """What reports call it: "1 %" or "50 images"."""
        if self.images is not None:
            return f"{self.images} images"
        return f"{100 * (1 if self.fraction is None else self.fraction):g} %"


@dataclass(frozen=True)
class Redraw:
    """What a set of images must fulfil, for every finding, or else it is drawn anew.

    `ratio` bounds negatives over positives, both ends excluded; `size_within` how far the number of images may be from
    the one aimed at, as a share of it.
    """

    ratio: tuple[float, float]
    size_within: float | None = None


@dataclass(frozen=True)
class Subsets:
    """How subsets of the training images are drawn.

    "stratified" keeps the shares of the findings, by patient or by image; "balanced" takes images of each class in
    turn; "coin" tosses a coin for each patient or image. `nested`: of one draw, a smaller subset is part of a larger.
    With `valid_share_of_draw` each subset gives up that share of itself, by patient, as its own validation images.
    Steps of less than `fewest` images are left out.
    """

    nested: bool
    unit: Literal["patient", "image"]
    how: Literal["stratified", "balanced", "coin"]
    redraw: Redraw | None = None
    valid_share_of_draw: float | None = None
    fewest: int = 0

    def __post_init__(self) -> None:
        share = self.valid_share_of_draw
        _check("subsets: valid_share_of_draw", share, share is None or 0 < share < 1, "between 0 and 1")
        if self.how == "balanced" and self.unit != "image":
            raise RecordError('subsets: balanced subsets are drawn by image; set unit to "image".')
        if self.redraw is not None and (self.how != "coin" or self.nested):
            raise RecordError('subsets: only independent coins are drawn anew; set how to "coin" and nested to false.')


@dataclass(frozen=True)
class Shares:
    """Shares of the images for test and validation, where the table does not give a split; by patient, always.

    The rest is for training. A `valid` of 0 draws none.
    """

    test: float
    valid: float
    how: Literal["stratified", "coin"] = "stratified"
    redraw: Redraw | None = None

    def __post_init__(self) -> None:
        _check("split: test", self.test, 0 < self.test < 1, "between 0 and 1")
        _check("split: valid", self.valid, 0 <= self.valid < 1 - self.test, "at least 0, and below 1 - test")
        if self.redraw is not None and self.how != "coin":
            raise RecordError('split: only coins are drawn anew; set how to "coin".')


@dataclass(frozen=True)
class Scoring:
    """What is scored: each test image, or each study by the largest logit of its images."""

    unit: Literal["image", "study"]
    specificity: float = 0.9

    def __post_init__(self) -> None:
        _check("test: specificity", self.specificity, 0 < self.specificity < 1, "between 0 and 1")


@dataclass(frozen=True)
class Bootstrap:
    """Intervals: replicates of patients or of rows, which ends are taken, and which figure stands between them.

    With `draws`, replicates also draw the draws of a step anew, so that intervals hold for other labelled images, too.
    """

    replicates: int
    clusters: Literal["patient", "row"]
    rule: Literal["percentile", "positions"]
    estimate: Literal["plain", "bootstrap mean"]
    draws: bool = False

    def __post_init__(self) -> None:
        # with fewer, the lower position int(.025 R) - 1 would be negative
        _check("bootstrap: replicates", self.replicates, self.replicates >= 40, "at least 40")


@dataclass(frozen=True)
class ProbeSetting:
    """Inverse strengths of regularisation, C, that a linear probe may choose among, and how it chooses."""

    choose: Literal["cross-validation", "validation"]
    strengths: tuple[float, ...]
    folds: int = 5

    def __post_init__(self) -> None:
        _check("probe: strengths", self.strengths, bool(self.strengths) and min(self.strengths) > 0, "above 0 each")
        _check("probe: folds", self.folds, self.folds >= 2, "at least 2")


@dataclass(frozen=True)
class FineTuningSetting:
    """Adam's arguments, and the epochs of a step that states none."""

    learning_rate: float
    batch_size: int
    epochs: int
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _check("fine_tuning: learning_rate", self.learning_rate, self.learning_rate > 0, "above 0")
        _check("fine_tuning: batch_size", self.batch_size, self.batch_size > 0, "at least 1")
        _check("fine_tuning: epochs", self.epochs, self.epochs > 0, "at least 1")


@dataclass(frozen=True)
class Protocol:
    """One protocol; `floor` names the untrained network whose figures every other is held against, "" for none."""

    name: str
    summary: str
    source: str
    steps: tuple[Step, ...]
    subsets: Subsets
    split: Shares
    test: Scoring
    bootstrap: Bootstrap
    probe: ProbeSetting
    fine_tuning: FineTuningSetting
    floor: str = field(default="")

    def __post_init__(self) -> None:
        labels = [step.label for step in self.steps]
        _check("steps", labels, bool(labels) and len(set(labels)) == len(labels), "at least one, and none twice")

    def epochs(self, label: str) -> int:
        """Return for how many epochs a backbone is fine-tuned on a subset of the step with this label."""
        return {step.label: step.epochs for step in self.steps}[label] or self.fine_tuning.epochs


def _check(where: str, found: object, holds: bool, expected: str) -> None:
    if not holds:
        raise RecordError(f"{where}: found {found}, expected {expected}.")


@functools.cache
def list_protocols() -> tuple[str, ...]:
    """Return the names of the protocols that come with the package, in alphabetical order."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_protocol(name: str | Path) -> Protocol:
    """Return the protocol with this name, or the one in a TOML file of one's own.

    Args:
        name: A name of `list_protocols()`, or a path that ends in .toml.

    Raises:
        RecordError: No protocol has this name, or its file is malformed.
    """
    text = str(name)
    if text.endswith(".toml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise RecordError(
                f"{path} is no file. Give the path of a protocol, or one of {', '.join(list_protocols())}."
            )
        return read_toml(Protocol, path, str(path))
    if text not in list_protocols():
        hint = suggest(text, list_protocols())
        raise RecordError(
            f"no protocol is named {text!r}. {hint}Known protocols: {', '.join(list_protocols())}. One of your own is "
            "named by its path, which ends in .toml."
        )
    return read_toml(Protocol, _FOLDER / f"{text}.toml", f"{text}.toml")
