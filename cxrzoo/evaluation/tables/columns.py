"""A CSV or Parquet table as columns of text, and which of them is which."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxrzoo.errors import TableError
from cxrzoo.records import suggest

Role = Literal["path", "patient", "study", "view", "split"]

#: Names by which columns are found, without case, blanks, underscores and hyphens. Those of public sets are among
#: them: "Image Index", "Patient ID" and "View Position" (NIH), "subject_id" and "study_id" (MIMIC-CXR), "Path".
_NAMES: dict[Role, frozenset[str]] = {
    "path": frozenset({"path", "image", "imagepath", "imagefile", "imageindex", "file", "filename", "filepath"}),
    "patient": frozenset({"patient", "patientid", "subject", "subjectid"}),
    "study": frozenset({"study", "studyid", "studyuid", "studyinstanceuid"}),
    "view": frozenset({"view", "viewposition", "projection"}),
    "split": frozenset({"split", "partition"}),
}
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "val", "validation", "dev", "tune"), "valid"),
    **dict.fromkeys(("test", "testing", "eval"), "test"),
}
#: So many names of columns an error lists.
_SHOWN = 40


def read_columns(source: Path | pd.DataFrame, told: str = "table, `--data` (Python: data),") -> pd.DataFrame:
    """Return a CSV file (comma, semicolon or tab), a Parquet file or a data frame with every cell as stripped text.

    Blank lines of a CSV file are no rows, as for pandas. What is missing is the empty text.

    Args:
        told: What the file is and which option named it, for the text of an error.

    Raises:
        TableError: The file can't be read, is no such table, has a row of another length, or has no rows.
    """
    if isinstance(source, pd.DataFrame):
        table = source
    else:
        try:
            data = source.read_bytes()
        except OSError as error:
            raise TableError(
                f"the {told} can't be read: {source.name}: {error.strerror}. Give the path of a CSV or Parquet file."
            ) from error
        table = _read_parquet(data) if data.startswith(b"PAR1") else _read_csv(data)
    if not len(table):
        raise TableError("the table has no rows. It needs one row an image, below a row with the names of the columns.")
    names = pd.Index([str(name).strip() for name in table.columns])
    texts = [table.iloc[:, i].astype(object).where(table.iloc[:, i].notna(), "") for i in range(table.shape[1])]
    columns = [text.map(lambda cell: str(cell).strip()).to_numpy(object) for text in texts]
    return pd.DataFrame(dict(enumerate(columns))).set_axis(names, axis=1)


def _read_parquet(data: bytes) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(data))
    except (OSError, ValueError) as error:  # pyarrow's own errors are kinds of these two
        raise TableError(f"the table is no readable Parquet file: {error}. Write it again, or give a CSV.") from error


def _read_csv(data: bytes) -> pd.DataFrame:
    if data.startswith(b"PK"):
        raise TableError("the table is an Excel workbook or a zip file. Save it as CSV, and give that.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    elif b"\0" in data:
        raise TableError("the table is no text. Give a CSV or Parquet file.")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=lambda mark: len(next(csv.reader([header], delimiter=mark))))
    lines: list[list[str]] = []
    try:
        lines.extend(
            line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if line
        )
    except csv.Error as error:
        raise TableError(f"row {len(lines)} of the table is no CSV: {error}. Is a quote left open there?") from error
    if not lines:
        raise TableError("the table is empty. It needs one row an image, below a row with the names of the columns.")
    names, cells = lines[0], lines[1:]
    for row, line in enumerate(cells, 1):
        if len(line) != len(names):
            raise TableError(
                f"row {row} of the table has {len(line)} cells, expected {len(names)}, one for each column. Does a "
                f"text in it hold the delimiter {delimiter!r}? Quote that text."
            )
    return pd.DataFrame(cells, columns=pd.Index(names), dtype=object)


def list_columns(table: pd.DataFrame) -> str:
    """Return the names of the columns for an error's text, the first of them where they are many."""
    names = list(table.columns)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def find_column(table: pd.DataFrame, role: Role, given: Mapping[str, str]) -> str | None:
    """Return the name of the column with this role, None where there is none.

    Args:
        given: Roles and the names of their columns, where those are not to be guessed; "" for a role that no column
            has.

    Raises:
        TableError: The given column is not there, or several columns could have the role.
    """
    for name in set(given) - set(get_args(Role)):
        raise TableError(f"{name!r} is no role of a column, expected one of {', '.join(get_args(Role))}.")
    if role in given:
        return match_column(table, given[role], tell_column(role)) if given[role] else None
    found = [name for name in table.columns if re.sub(r"[ _-]", "", name).lower() in _NAMES[role]]
    if len(found) > 1:
        raise TableError(
            f"several columns could be the {role}: {', '.join(map(repr, found))}. Say which with {tell_column(role)}."
        )
    return found[0] if found else None


def tell_column(role: Role, name: str = "NAME") -> str:
    """Return how to say which column has a role, by option and argument; that none has it, with an empty name."""
    return f"`--column {role}={name}` (Python: columns={{{role!r}: {name or repr(name)}}})"


def match_column(table: pd.DataFrame, name: str, told: str) -> str:
    """Return the column with this name, or the only one that differs from it in case alone.

    Args:
        told: The option that named it, for the error's text.

    Raises:
        TableError: There is none, or there are several.
    """
    names = list(table.columns)
    exact = [column for column in names if column == name.strip()]
    found = exact or [column for column in names if column.lower() == name.strip().lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise TableError(f"{len(found)} columns are named {name!r}. Rename all but one of them.")
    raise TableError(
        f"no column is named {name!r}. {suggest(name, names)}Columns: {list_columns(table)}. Name one with {told}."
    )


def parse_splits(texts: Sequence[str]) -> NDArray[np.str_]:
    """Return "train", "valid" or "test" for each cell of a column that says the part of each image.

    Raises:
        TableError: A cell says something else, or nothing.
    """
    parts = [_SPLITS.get(text.lower(), "") for text in texts]
    strange = [row for row, part in enumerate(parts, 1) if not part]
    if strange:
        raise TableError(
            f"row {strange[0]}: its part of the split is {texts[strange[0] - 1][:40]!r}, expected train, valid or "
            f"test; {len(strange)} rows are such. Name the column of the split with {tell_column('split')}, or take "
            f"none with {tell_column('split', '')}."
        )
    return np.array(parts)
