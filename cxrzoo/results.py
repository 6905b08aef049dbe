"""The figures in a manifest: those that a model's authors published, and those that this project measured."""

import re
from dataclasses import dataclass
from typing import Literal

from cxrzoo.errors import RecordError
from cxrzoo.records import check_sha256

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")

#: Value, lower and upper end of the interval.
Figure = tuple[float, float, float]


@dataclass(frozen=True)
class Result:
    """One row of figures that the authors published: [value, lower, upper] at each label fraction.

    `baseline` and `difference` are those of the same protocol from `baseline_name`, where published.
    """

    table: str
    dataset: str
    finding: str
    mode: Literal["linear", "end-to-end"]
    metric: str
    label_fractions: tuple[float, ...]
    value: tuple[tuple[float, ...], ...]
    baseline_name: str = ""
    baseline: tuple[tuple[float, ...], ...] = ()
    difference: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in ("value", "baseline", "difference"):
            rows = getattr(self, name)
            if rows and len(rows) != len(self.label_fractions):
                raise RecordError(f"results: {name} has {len(rows)} entries for {len(self.label_fractions)} fractions.")
            if any(len(row) not in (1, 3) for row in rows):
                raise RecordError(f"results: every entry of {name} is [value] or [value, lower, upper].")


@dataclass(frozen=True)
class Measurement:
    """One row of figures that this project measured: [value, lower, upper] at each label fraction, and how.

    `difference` is this model minus `baseline_name` on the same images and draws; `floor` is what a network with random
    weights, `floor_name`, reaches there.
    """

    dataset: str
    finding: str
    protocol: str
    mode: Literal["linear", "knn", "end-to-end", "linear-bn-adapt"]
    metric: Literal["AUROC"]
    label_fractions: tuple[str, ...]
    images: tuple[float, ...]
    value: tuple[Figure, ...]
    test_images: int
    grouped_by: Literal["patient", "image"]
    seed: int
    preprocessing: str
    preprocessing_sha256: str
    weights_sha256: str
    table_sha256: str
    split_sha256: str
    command: str
    version: str
    commit: str
    date: str
    dataset_url: str = ""
    against: str = ""
    findings: tuple[str, ...] = ()
    baseline_name: str = ""
    difference: tuple[Figure, ...] = ()
    floor_name: str = ""
    floor: tuple[Figure, ...] = ()

    def __post_init__(self) -> None:
        for name in ("dataset", "finding", "protocol", "preprocessing", "command", "version", "commit"):
            text = getattr(self, name)
            if not text.strip() or not text.isprintable():
                raise RecordError(f"measured: {name}: found {text!r}, expected one line of text.")
        if not _DATE.fullmatch(self.date):
            raise RecordError(f"measured: date: found {self.date!r}, expected year-month-day.")
        if self.dataset_url and not self.dataset_url.startswith("https://"):
            raise RecordError(
                f"measured: dataset_url: found {self.dataset_url!r}, expected an address that starts with https://."
            )
        for value in (self.preprocessing_sha256, self.weights_sha256, self.table_sha256, self.split_sha256):
            check_sha256(value)
        if self.test_images < 1:
            raise RecordError(f"measured: test_images: found {self.test_images}, expected at least 1.")
        self._check_figures()

    def _check_figures(self) -> None:
        count = len(self.label_fractions)
        for name in ("images", "value", "difference", "floor"):
            rows = getattr(self, name)
            if len(rows) != count and (rows or name in ("images", "value")):
                raise RecordError(f"measured: {name} has {len(rows)} entries for {count} label fractions.")
        for name, least in (("value", 0), ("difference", -1), ("floor", 0)):
            for value, lower, upper in getattr(self, name):
                if not least <= lower <= upper <= 1 or not least <= value <= 1:
                    raise RecordError(
                        f"measured: {name}: found [{value:g}, {lower:g}, {upper:g}], expected [value, lower, upper] "
                        f"from {least} to 1."
                    )
        for name, rows in (("baseline_name", self.difference), ("floor_name", self.floor)):
            if bool(getattr(self, name)) != bool(rows):
                raise RecordError(f"measured: {name}: found {getattr(self, name)!r}, expected it beside its figures.")

    @property
    def task(self) -> str:
        """What was told apart, in words."""
        if self.findings:
            return f"mean of {len(self.findings)} findings"
        return f"{self.finding} against {self.against}" if self.against else self.finding

    @property
    def key(self) -> tuple[object, ...]:
        """What a later measurement of the same replaces."""
        what = (self.dataset, self.finding, self.against, self.findings)
        return (*what, self.protocol, self.mode, self.metric, self.preprocessing)
