"""What the cells of a table say of its findings: present, absent, uncertain, or nothing."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cxrzoo.errors import TableError

Labels = NDArray[np.float64]

#: What an uncertain label, -1, becomes: masked as in MoCo-CXR's loss (CS/eval/loss.py), or CheXpert's U-Ones, U-Zeros.
_POLICIES = {"ignore": np.nan, "positive": 1.0, "negative": 0.0}
_EMPTY = ("", "nan", "na", "n/a", "null", "<na>")
_WORDS = {"true": 1.0, "false": 0.0, **dict.fromkeys(_EMPTY, np.nan)}


def read_labels(
    table: pd.DataFrame, findings: Mapping[str, str], against: str | None, uncertain: str, positive: str | None = None
) -> tuple[Labels, dict[str, dict[str, int]]]:
    """Return 1, 0, or NaN (not used) for each row and finding, and how many cells of each finding say what.

    Args:
        table: Cells as text.
        findings: The column of each finding, by the finding's name.
        against: The column that must be 1 for a 0 to count.
        uncertain: What -1 becomes.
        positive: The word that means 1 in the columns of findings, where all others mean 0; numbers if left out.

    Raises:
        TableError: A cell says something else, or a finding has no positive or no negative label.
    """
    if uncertain not in _POLICIES:
        raise TableError(f"found uncertain={uncertain!r}, expected one of {', '.join(_POLICIES)}.")
    columns = [
        _parse_labels(table[column].tolist(), column)
        if positive is None
        else _match_labels(table[column].tolist(), column, positive)
        for column in findings.values()
    ]
    cells = np.array(columns).reshape(len(findings), len(table)).T
    labels = np.where(cells == -1, _POLICIES[uncertain], cells)
    if against is not None:
        if against in findings.values():
            raise TableError(
                f"{against!r} is a finding and its own control. Name another column with `--against` "
                "(Python: against=NAME)."
            )
        controls = _parse_labels(table[against].tolist(), against) == 1
        labels = np.where((labels == 0) & ~controls[:, None], np.nan, labels)
    counts = {finding: _count(labels[:, i], cells[:, i]) for i, finding in enumerate(findings)}
    _check_classes(counts, against)
    return labels, counts


def _parse_labels(texts: Sequence[str], column: str) -> NDArray[np.float64]:
    """Return 1, 0, -1 (uncertain) or NaN (missing) for each cell of a column of labels.

    Raises:
        TableError: A cell says something else.
    """
    codes, words = pd.factorize(np.asarray(texts, dtype=object))
    values = np.array([_parse_label(word) for word in words], dtype=np.float64)
    strange = np.flatnonzero(np.isinf(values)[codes])
    if len(strange):
        raise TableError(
            f"row {strange[0] + 1}, column {column!r}: found {texts[strange[0]][:40]!r}, expected 1, 0, -1 (uncertain) "
            f"or nothing (missing); {len(strange)} cells are such. Say which word is the finding with `--positive "
            "VALUE` (Python: positive=VALUE), or map them to these, one column a finding."
        )
    return values[codes]


def _match_labels(texts: Sequence[str], column: str, positive: str) -> NDArray[np.float64]:
    """Return 1 for each cell that says `positive`, NaN for an empty one, and 0 for any other.

    Raises:
        TableError: No cell says so.
    """
    words = np.array([text.lower() for text in texts], dtype=object)
    values = np.where(words == positive.strip().lower(), 1.0, np.where(np.isin(words, _EMPTY), np.nan, 0.0))
    if not (values == 1).any():
        raise TableError(
            f"column {column!r}: no cell says {positive!r}; the first says {texts[0][:40]!r}. Give one of the column's "
            "words to `--positive VALUE` (Python: positive=VALUE)."
        )
    return values


def _parse_label(text: str) -> float:
    """Return the value of a cell, infinity where it is none of the known ones."""
    word = text.lower()
    if word in _WORDS:
        return _WORDS[word]
    try:
        value = float(word.replace(",", "."))  # a table with semicolons may write 1,0
    except ValueError:
        return np.inf
    return value if value in (1.0, 0.0, -1.0) else np.inf


def _count(labels: Labels, cells: Labels) -> dict[str, int]:
    uncertain = cells == -1
    missing = np.isnan(labels) & ~uncertain
    found = {"positive": labels == 1, "negative": labels == 0, "missing": missing, "uncertain": uncertain}
    return {name: int(where.sum()) for name, where in found.items()}


def _check_classes(counts: Mapping[str, Mapping[str, int]], against: str | None) -> None:
    """Raise TableError for a finding that has no positive or no negative label."""
    for finding, count in counts.items():
        if not count["positive"] or not count["negative"]:
            found = ", ".join(f"{number} {name}" for name, number in count.items())
            control = f", counting a 0 only where {against!r} is 1" if against else ""
            raise TableError(
                f"column {finding!r}: found {found}{control}; expected positive and negative ones. Choose another "
                "finding, control or policy for uncertain labels."
            )
