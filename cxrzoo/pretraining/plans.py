"""How a training is done, as data: network, views, method, optimizer, schedule. One TOML file a plan."""

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cxrzoo.errors import RecordError
from cxrzoo.pretraining.cluster import ClusterSettings
from cxrzoo.pretraining.gmml import GmmlSettings
from cxrzoo.pretraining.moco import MocoSettings
from cxrzoo.pretraining.views import Views
from cxrzoo.records import check_choices, decode, read_toml, suggest

_FOLDER = Path(__file__).resolve().parent / "plans"

MethodName = Literal["moco", "cluster", "gmml"]


@dataclass(frozen=True)
class Optimisation:
    """Optimizer and schedule; `batch_size` counts the images of a step over all processes.

    The learning rate rises linearly from `warmup_from` in `warmup_epochs`. "steps" multiplies it by `factor` after each
    of the epochs `milestones`; "cosine" takes it to `final_learning_rate`, and the weight decay to
    `final_weight_decay` where there is one. `momentum` is SGD's and LARC's, `betas` are Adam's. With `synchronised`,
    several processes share the statistics of BatchNorm.
    """

    optimizer: Literal["sgd", "adam", "adamw", "larc"]
    learning_rate: float
    batch_size: int
    epochs: int
    schedule: Literal["steps", "cosine"]
    weight_decay: float = 0.0
    final_weight_decay: float | None = None
    momentum: float = 0.9
    betas: tuple[float, float] = (0.9, 0.999)
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    final_learning_rate: float = 0.0
    warmup_epochs: float = 0.0
    warmup_from: float = 0.0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    synchronised: bool = False

    def __post_init__(self) -> None:
        check_choices(self)
        if self.batch_size < 2 or self.epochs < 1:
            raise RecordError(
                f"optimisation: found {self.epochs} epochs of batches of {self.batch_size}, expected at least one "
                "epoch of batches of 2 or more: BatchNorm has no variance of a single image."
            )
        for name in ("learning_rate", "final_learning_rate", "weight_decay", "warmup_epochs", "warmup_from", "factor"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RecordError(f"optimisation: {name}: found {getattr(self, name)}, expected a number from 0 on.")
        if not all(0 <= share < 1 for share in (self.momentum, *self.betas)):
            raise RecordError("optimisation: momentum and betas: expected numbers from 0 on, below 1.")
        if self.warmup_epochs >= self.epochs:
            raise RecordError(
                f"optimisation: found {self.warmup_epochs:g} of {self.epochs} epochs to warm up in, expected fewer."
            )
        if self.milestones and self.schedule != "steps":
            raise RecordError(f"optimisation: found milestones with schedule {self.schedule!r}, expected 'steps'.")


@dataclass(frozen=True)
class Plan:
    """One training, but for its images.

    `side` is the shorter side in pixels that radiographs are kept at; views are cut from them. `init` is a model of the
    zoo to start from. `mean` and `std` normalise pixels in [0, 1], one number for all channels or one for each; left
    out, they are those of `init`, or of the training images. `kept_after` are epochs after which a checkpoint is
    written, beside the last. `weights` say of modalities how often their images are drawn, against 1 of all others: an
    epoch has as many images as before, more of those and fewer of the others.
    """

    name: str
    summary: str
    method: MethodName
    source: str
    architecture: str
    side: int
    views: Views
    optimisation: Optimisation
    arguments: dict[str, Any] = field(default_factory=dict)
    init: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    kept_after: tuple[int, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    moco: MocoSettings | None = None
    cluster: ClusterSettings | None = None
    gmml: GmmlSettings | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        others = [name for name in ("moco", "cluster", "gmml") if getattr(self, name) and name != self.method]
        if others:
            raise RecordError(f"found a table [{others[0]}] in a plan whose method is {self.method!r}. Remove it.")
        if len(self.mean) != len(self.std):
            raise RecordError(f"mean and std: found {len(self.mean)} and {len(self.std)} numbers, expected as many.")
        if self.side < 1 or self.views.size < 1:
            raise RecordError("side and views.size: expected a number of pixels above 0.")
        if self.views.scale is None and self.side < self.views.size:
            raise RecordError(
                f"side: found pictures of {self.side} pixels and views of {self.views.size}, cropped at their own "
                "scale: all would have a black frame. Set side to as many pixels as views.size, or more."
            )
        if late := [epoch for epoch in self.kept_after if not 1 <= epoch <= self.optimisation.epochs]:
            raise RecordError(f"kept_after: found epoch {late[0]}, expected some of 1 to {self.optimisation.epochs}.")
        for modality, weight in self.weights.items():
            if not 0 < weight < math.inf:
                raise RecordError(f"weights: {modality}: found {weight}, expected a number above 0.")


@functools.cache
def list_plans() -> tuple[str, ...]:
    """Return the names of the plans that come with the package."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_plan(name: str | Path, changes: Mapping[str, object] | None = None) -> Plan:
    """Return a plan by its name, or one of your own by its path, which ends in .toml.

    Args:
        changes: Fields to change, by their names in the file: "init", "optimisation.epochs".

    Raises:
        RecordError: There is none, or the file, or a change, is not valid.
    """
    text = str(name)
    path = Path(text).expanduser() if text.endswith(".toml") else _FOLDER / f"{text}.toml"
    if text.endswith(".toml") and not path.is_file():
        raise RecordError(
            f"there is no plan {path.name} at this path. Plans of the package: {', '.join(list_plans())}."
        )
    if not text.endswith(".toml") and text not in list_plans():
        raise RecordError(
            f"no plan is named {text!r}. {suggest(text, list_plans())}Known plans: {', '.join(list_plans())}. One of "
            "your own is named by its path, which ends in .toml."
        )
    plan = read_toml(Plan, path, path.name)
    if not changes:
        return plan
    fields = tomllib.loads(path.read_text(encoding="utf-8"))
    for field_name, value in changes.items():
        *tables, last = field_name.split(".")
        place = fields
        for table in tables:
            place = place.setdefault(table, {})
            if not isinstance(place, dict):
                raise RecordError(f"{path.name}: {field_name}: {table!r} is no table of the plan.")
        place[last] = value
    return decode(Plan, fields, f"{path.name}, changed")
