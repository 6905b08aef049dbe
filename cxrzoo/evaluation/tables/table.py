"""A table of labels: which radiograph has which finding, and whose it is.

Messages name rows of the table, never its paths or patients.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cxrzoo.errors import TableError
from cxrzoo.evaluation.tables.columns import (
    Role,
    find_column,
    list_columns,
    match_column,
    parse_splits,
    read_columns,
    tell_column,
)
from cxrzoo.evaluation.tables.labels import read_labels
from cxrzoo.evaluation.tables.patients import PatientIds, check_crossing, group_images, name_studies
from cxrzoo.records import digest


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Images and their labels: 1, 0, or NaN where a label is not used.

    `rows` are those of the user's file, from 1, without its header; `unlabelled` of them had no label to use and were
    left out. `groups` are the patients, or the rows with `image_level`. `counts` tells of the file as it was read: the
    labels used as positive and negative, the cells that said uncertain, and those missing or left out by `against`.
    """

    root: Path
    paths: tuple[str, ...]
    rows: NDArray[np.int64]
    findings: tuple[str, ...]
    labels: NDArray[np.float64]
    groups: NDArray[np.str_]
    grouped_by: Literal["patient", "image"]
    studies: NDArray[np.str_] | None
    views: NDArray[np.str_] | None
    splits: NDArray[np.str_] | None
    uncertain: str
    against: str | None
    counts: dict[str, dict[str, int]]
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> list[Path]:
        """Where the images lie."""
        return [self.root / path for path in self.paths]

    @cached_property
    def sha256(self) -> str:
        """Digest of all that decides a result: everything but `root`, `unlabelled` and `counts`."""
        optional = [None if texts is None else texts.tolist() for texts in (self.studies, self.views, self.splits)]
        labels = np.nan_to_num(self.labels, nan=-9).astype(int).tolist()
        groups = self.groups.tolist()
        facts = [self.paths, self.rows.tolist(), self.findings, labels, groups, self.grouped_by, *optional]
        return digest([*facts, self.uncertain, self.against])

    def keep(self, positions: ArrayLike) -> "LabelTable":
        """Return the table with these rows only, in this order."""
        chosen = np.asarray(positions, dtype=np.int64)
        return replace(
            self,
            paths=tuple(self.paths[position] for position in chosen),
            rows=self.rows[chosen],
            labels=self.labels[chosen],
            groups=self.groups[chosen],
            studies=None if self.studies is None else self.studies[chosen],
            views=None if self.views is None else self.views[chosen],
            splits=None if self.splits is None else self.splits[chosen],
        )


def read_table(
    source: str | os.PathLike[str] | pd.DataFrame,
    findings: Sequence[str],
    *,
    against: str | None = None,
    uncertain: str = "ignore",
    positive: str | None = None,
    image_level: bool = False,
    patient_ids: str = "global",
    root: str | os.PathLike[str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> LabelTable:
    """Return the labels of a CSV file, a Parquet file or a data frame: one row an image, one column a finding.

    Args:
        findings: Columns with labels: 1, 0, -1 (uncertain), or nothing (missing). "NAME=COLUMN" gives one another
            name. Without any, all rows are kept.
        against: Name of a column that marks controls: an image without a finding counts only where this is 1.
        uncertain: What becomes of -1: not used, or taken as 1 or as 0.
        positive: For labels that are words: cells with this one, in whatever case, are 1, all others 0, but for empty
            ones.
        image_level: Take each image for a patient of its own.
        patient_ids: "per-split" where each part of a given split numbers its patients anew.
        root: The folder that relative paths start from, if not the table's own.
        columns: Names of the columns "path", "patient", "study", "view" and "split" where those can't be guessed; an
            empty name for one that is not to be used.

    Raises:
        TableError: The table can't be read, contradicts itself, or lacks what was asked for.
    """
    if not isinstance(source, pd.DataFrame):
        source, root = Path(source), Path(source).parent if root is None else root
    if patient_ids not in get_args(PatientIds):
        raise TableError(f"found patient_ids={patient_ids!r}, expected one of {', '.join(get_args(PatientIds))}.")
    table = read_columns(source)
    texts = {role: _column(table, role, columns or {}) for role in get_args(Role)}
    if texts["path"] is None:
        raise TableError(
            f"no column with the paths of the images was found. Columns: {list_columns(table)}. Say which with "
            f"{tell_column('path')}."
        )
    _check_paths(texts["path"])
    named = [_name_finding(table, finding) for finding in findings]
    names = tuple(name for name, _ in named)
    if len(set(names)) != len(names):
        raise TableError(f"a finding is named twice: {', '.join(names)}. Name each once.")
    control = None if against is None else match_column(table, against, "`--against NAME` (Python: against=NAME)")
    labels, counts = read_labels(table, dict(named), control, uncertain, positive)
    used = np.array(~np.isnan(labels).all(axis=1) if names else np.ones(len(table), dtype=bool))
    rows = np.arange(1, len(table) + 1, dtype=np.int64)
    splits = None if texts["split"] is None else parse_splits(texts["split"])
    groups = group_images(texts["patient"], splits, used, image_level=image_level, patient_ids=patient_ids)
    if splits is not None:
        check_crossing(groups[used], splits[used], rows[used])
    whole = LabelTable(
        root=Path() if root is None else Path(root),
        paths=tuple(texts["path"]),
        rows=rows,
        findings=names,
        labels=labels,
        groups=groups,
        grouped_by="image" if image_level else "patient",
        studies=None if texts["study"] is None else name_studies(texts["study"], texts["patient"]),
        views=None if texts["view"] is None else np.array(texts["view"]),
        splits=splits,
        uncertain=uncertain,
        against=control,
        counts=counts,
        unlabelled=int((~used).sum()),
    )
    return whole.keep(np.flatnonzero(used))


def _name_finding(table: pd.DataFrame, finding: str) -> tuple[str, str]:
    """Return what a finding is called, and its column: "COLUMN", or "NAME=COLUMN" for a column of another name."""
    name, equals, column = finding.partition("=")
    if not equals or finding in table.columns:
        column = match_column(table, finding, "`--label NAME` (Python: findings=[NAME])")
        return column, column
    return name.strip(), match_column(table, column, "`--label NAME=COLUMN` (Python: findings=['NAME=COLUMN'])")


def table_of_arrays(
    labels: ArrayLike,
    *,
    findings: Sequence[str] | None = None,
    patients: Iterable[object] | None = None,
    studies: Iterable[object] | None = None,
    views: Iterable[object] | None = None,
    splits: Iterable[object] | None = None,
    paths: Iterable[object] | None = None,
    uncertain: str = "ignore",
    image_level: bool = False,
    patient_ids: str = "global",
) -> LabelTable:
    """Return the table of labels that are at hand as an array, (N,) or (N, F) of 1, 0, -1 and NaN.

    Without `paths`, the numbers of the rows stand for them.

    Raises:
        TableError: The arrays are not of one length, hold other values, or contradict each other.
    """
    try:
        values = np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TableError(f"the labels are no array of numbers: {error}. Give 1, 0, -1 and NaN.") from error
    values = values[:, None] if values.ndim == 1 else values
    names = list(findings) if findings is not None else [f"finding {i + 1}" for i in range(values.shape[-1])]
    if values.ndim != 2 or values.shape[1] != len(names):
        raise TableError(f"found labels of shape {values.shape} and {len(names)} findings, expected one column each.")
    given = {"path": paths, "patient": patients, "study": studies, "view": views, "split": splits}
    texts = {role: list(cells) for role, cells in given.items() if cells is not None}
    texts.setdefault("path", list(range(1, len(values) + 1)))
    for role, cells in texts.items():
        if len(cells) != len(values):
            raise TableError(f"found {len(cells)} values of {role}, expected {len(values)}, one for each label.")
    # roles in brackets, so that a finding may bear the name of a role
    frame = pd.concat(
        [pd.DataFrame(values, columns=names), pd.DataFrame({f"<{role}>": cells for role, cells in texts.items()})],
        axis=1,
    )
    return read_table(
        frame,
        names,
        uncertain=uncertain,
        image_level=image_level,
        patient_ids=patient_ids,
        columns={role: f"<{role}>" if role in texts else "" for role in given},
    )


def _column(table: pd.DataFrame, role: Role, columns: Mapping[str, str]) -> list[str] | None:
    name = find_column(table, role, columns)
    return None if name is None else table[name].tolist()


def _check_paths(paths: Sequence[str]) -> None:
    """Raise TableError where a row has no path, or that of another row."""
    first: dict[str, int] = {}
    for row, path in enumerate(paths, 1):
        if not path:
            raise TableError(f"row {row} has no path of an image. Fill it in, or delete the row.")
        earlier = first.setdefault(os.path.normpath(path), row)
        if earlier != row:
            raise TableError(
                f"rows {earlier} and {row} have the same path, expected one row an image. Put all findings of an image "
                "into one row, one column each, and delete the repeats."
            )
