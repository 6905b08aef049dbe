"""How this project trained a model, and on which data: what the manifest of such a model says beside the rest."""

import re
from dataclasses import dataclass

from cxrzoo.errors import RecordError

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
#: `init` of a training that started from no other weights.
RANDOM = "random"


@dataclass(frozen=True)
class Training:
    """One training; what is not known is left out.

    `init` is a model of the zoo, a repository of the Hub ("owner/name") or "random". `kwh` and `co2_grams` are
    estimates, and `assumes` says of what. `knn` says in words what nearest neighbours found at its end.
    """

    plan: str = ""
    images: int | None = None
    epochs: float | None = None
    steps: int | None = None
    size: int | None = None
    init: str = ""
    hours: float | None = None
    hardware: str = ""
    kwh: float | None = None
    co2_grams: float | None = None
    assumes: str = ""
    knn: str = ""
    seed: int | None = None
    version: str = ""
    commit: str = ""
    date: str = ""

    def __post_init__(self) -> None:
        for name in ("images", "epochs", "steps", "size", "hours", "kwh", "co2_grams"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise RecordError(
                    f"training: {name}: found {value:g}, expected a number above 0. Leave out the unknown."
                )
        if self.date and not _DATE.fullmatch(self.date):
            raise RecordError(f"training: date: found {self.date!r}, expected year-month-day.")
        if (self.kwh is None and self.co2_grams is None) != (not self.assumes.strip()):
            raise RecordError(
                f"training: assumes: found {self.assumes!r}, expected a line beside kwh or co2_grams, and only there: "
                "what the estimate takes for granted."
            )


@dataclass(frozen=True)
class TrainingSource:
    """Images that a model was trained on: their licence, and whom it obliges to name."""

    name: str
    images: int
    licence: str
    attribution: str
    url: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "licence", "attribution"):
            text = getattr(self, field)
            if not text.strip() or not text.isprintable():
                raise RecordError(f"training_source: {field}: found {text!r}, expected one line of text.")
        if self.images < 1:
            raise RecordError(f"training_source: images: found {self.images}, expected at least 1.")
        if self.url and not self.url.startswith("https://"):
            raise RecordError(
                f"training_source: url: found {self.url!r}, expected an address that starts with https://."
            )
