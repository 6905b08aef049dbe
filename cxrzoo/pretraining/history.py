"""What a training records: one JSON object a line, which a killed run leaves readable."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import PretrainingError
from cxrzoo.sources import write_atomically
from cxrzoo.sources.files import disk_errors

#: A row holds "step", the steps that were done, and numbers by name; None stands for one that was not finite.
Row = dict[str, float | None]
Columns = dict[str, NDArray[np.float64]]


class History:
    """The rows of one training in a file, in the order of their steps.

    Only one process writes; others may read meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last: float | None = None

    def append(self, row: Mapping[str, SupportsFloat | None]) -> None:
        """Write a row with its "step", which is in the file when this returns; NaN and infinity are written as null.

        Raises:
            PretrainingError: The file has rows of later steps: it is of another run, or `resume` was left out.
            DiskError: The file could not be written.
        """
        if self._last is None:
            self.resume()
        step = int(float(row["step"] or 0))
        if self._last is not None and step < self._last:
            raise PretrainingError(
                f"{self.path.name} goes to step {self._last:g} and would get a row of step {step}, expected a later "
                "one. Drop the rows that the run does anew (History.resume), or give another folder."
            )
        self._last = step
        line = _write({name: _as_number(value) for name, value in row.items()} | {"step": step})
        with disk_errors("write", self.path), self.path.open("ab") as file:
            file.write(line)

    def resume(self, step: float = math.inf) -> None:
        """Drop the rows of steps after the one that a run goes on from, and a last line that was never finished.

        Raises:
            PretrainingError: A line of the file is damaged.
            DiskError: The file could not be written; it is as before.
        """
        rows = self.rows()
        kept = [row for row in rows if _step_of(row) <= step]
        data = b"".join(map(_write, kept))
        if self.path.exists() and data != self.path.read_bytes():
            write_atomically(self.path, data)
        self._last = _step_of(kept[-1]) if kept else None

    def rows(self) -> list[Row]:
        """Return all rows; what follows the last end of a line is not one, and there are none without a file.

        Raises:
            PretrainingError: A line of the file is damaged.
        """
        if not self.path.exists():
            return []
        *lines, _ = self.path.read_bytes().split(b"\n")
        rows: list[Row] = []
        for number, line in enumerate(lines, 1):
            row = _read(line)
            if row is None or (rows and _step_of(row) < _step_of(rows[-1])):
                raise PretrainingError(
                    f"{self.path.name}, line {number}: found {line[:60].decode(errors='replace')!r}, expected a JSON "
                    "object of numbers with a step that is not before the last line's. Mend the line or delete it."
                )
            rows.append(row)
        return rows

    def columns(self) -> Columns:
        """Return the rows as one array a name, NaN where a row has no such number.

        Raises:
            PretrainingError: A line of the file is damaged.
        """
        rows = self.rows()
        names = dict.fromkeys(name for row in rows for name in row)
        # None becomes NaN in an array of doubles
        return {name: np.array([row.get(name) for row in rows], dtype=np.float64) for name in names}


def _step_of(row: Row) -> float:
    return row["step"] or 0


def _as_number(value: SupportsFloat | None) -> float | None:
    if value is None or isinstance(value, int):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _write(row: Row) -> bytes:
    return (json.dumps(row, allow_nan=False) + "\n").encode()


def _read(line: bytes) -> Row | None:
    """Return the row of a line, None if it is none."""
    try:
        row: Any = json.loads(line, parse_constant=_refuse)
    except ValueError:
        return None
    if not isinstance(row, dict) or not isinstance(row.get("step"), int):
        return None
    return row if all(value is None or isinstance(value, int | float) for value in row.values()) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
