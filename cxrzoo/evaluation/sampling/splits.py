"""Training, validation and test images: given by the table, drawn by patient, or drawn before and read back."""

import csv
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrzoo.errors import TableError
from cxrzoo.evaluation.sampling.ordering import Units, count_units, make_units, order_units
from cxrzoo.evaluation.sampling.protocols import Protocol, Redraw
from cxrzoo.evaluation.tables import LabelTable
from cxrzoo.evaluation.tables.columns import find_column, parse_splits, read_columns, tell_column
from cxrzoo.evaluation.tables.patients import check_crossing
from cxrzoo.records import digest
from cxrzoo.sources import write_atomically

Positions = NDArray[np.int64]
Origin = Literal["given", "drawn", "replayed"]
#: How often a coin is tossed anew before the bounds are taken for unreachable.
TRIES = 10_000
#: What a stream of random numbers is for; with seed, number and step, four numbers, since NumPy fills up with zeros.
SPLIT_STREAM, DRAW_STREAM, SHARE_STREAM, BOOTSTRAP_STREAM, REDRAW_STREAM = 1, 2, 3, 4, 5
_PARTS = ("train", "valid", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Positions of the images of each part, ascending; `sha256` is of the paths and their parts, in any order."""

    train: Positions
    valid: Positions
    test: Positions
    origin: Origin
    sha256: str

    def keep(self, positions: ArrayLike) -> "Split":
        """Return the split of the table that keeps these rows only, ascending; its digest stays that of the whole.

        Raises:
            TableError: Nothing is left of a part.
        """
        kept = np.asarray(positions, dtype=np.int64)
        parts = {part: np.flatnonzero(np.isin(kept, getattr(self, part))) for part in _PARTS}
        lost = [part for part in _PARTS if len(getattr(self, part)) and not len(parts[part])]
        if lost:
            raise TableError(f"no image of the {lost[0]} part can be used. Check the images of that part.")
        return replace(self, train=parts["train"], valid=parts["valid"], test=parts["test"])


def make_split(table: LabelTable, protocol: Protocol, seed: int) -> Split:
    """Return the split that the table gives, or a drawn one; all images of a patient are in one part.

    Where the table gives no validation images, and the protocol wants some, they are drawn out of training.

    Raises:
        TableError: A part would be empty, or can't be drawn as the protocol says.
    """
    shares = protocol.split
    rng = np.random.default_rng([seed, SPLIT_STREAM, 0, 0])
    if table.splits is None:
        units = make_units(table.labels, table.groups)
        parts = np.full(len(table), "train", dtype="<U5")
        test, valid = _deal(table, units, (shares.test, shares.valid), protocol, rng)
        parts[test], parts[valid] = "test", "valid"
        return _make(table, parts, "drawn", valid=shares.valid > 0)
    parts = table.splits.astype("<U5")
    if shares.valid > 0 and not (parts == "valid").any():
        train = np.flatnonzero(parts == "train")
        if len(train):
            rest = table.keep(train)
            units = make_units(rest.labels, rest.groups)
            (valid,) = _deal(rest, units, (shares.valid / (1 - shares.test),), protocol, rng)
            parts[train[valid]] = "valid"
    return _make(table, parts, "given", valid=shares.valid > 0)


def _deal(
    table: LabelTable, units: Units, shares: tuple[float, ...], protocol: Protocol, rng: np.random.Generator
) -> list[Positions]:
    """Return the images of parts with these shares of the table; the rest is in none."""
    ends = np.cumsum(shares)
    if protocol.split.how == "coin":
        redraw = protocol.split.redraw
        for _ in range(TRIES):
            tossed = np.digitize(rng.random(len(units.sizes)), ends)
            parts = [units.images(np.flatnonzero(tossed == number)) for number in range(len(ends))]
            sizes = [share * len(table) for share in shares]
            if redraw is None or all(
                fulfils(redraw, table.labels[part], size) for part, size in zip(parts, sizes, strict=True)
            ):
                return parts
        raise TableError(
            f"no split of {len(table)} images in {TRIES} tries has {describe(redraw)}. This protocol is for balanced "
            "tables with one finding; use another (`--protocol`, Python: protocol), or give the split in a column of "
            f"the table, {tell_column('split')}."
        )
    order = order_units(units, rng)
    counts = [0, *(count_units(order, units, end * len(table)) if end > 0 else 0 for end in ends)]
    return [units.images(order[start:end]) for start, end in itertools.pairwise(counts)]


def fulfils(redraw: Redraw, labels: NDArray[np.float64], size: float) -> bool:
    """Return whether the images with these labels are as a protocol wants them, `size` being how many it aims at."""
    positives, negatives = (labels == 1).sum(axis=0), (labels == 0).sum(axis=0)
    low, high = redraw.ratio
    even = ((low * positives < negatives) & (negatives < high * positives)).all()
    return bool(even) and (redraw.size_within is None or abs(len(labels) - size) <= redraw.size_within * size)


def describe(redraw: Redraw | None) -> str:
    """Return what `fulfils` asks for, in words."""
    if redraw is None:
        return "all that was asked"
    low, high = redraw.ratio
    size = "" if redraw.size_within is None else f", and a size within {100 * redraw.size_within:g} %"
    return f"between {low:g} and {high:g} images without a finding for each with it{size}"


def _make(table: LabelTable, parts: NDArray[np.str_], origin: Origin, *, valid: bool) -> Split:
    found = {part: np.flatnonzero(parts == part) for part in _PARTS}
    for part, positions in found.items():
        if not len(positions) and (part != "valid" or valid):
            patients = len(set(table.groups.tolist()))
            raise TableError(
                f"the {origin} split has no {part} images: {', '.join(f'{len(p)} {n}' for n, p in found.items())}, of "
                f"{patients} patients. Give a larger table, a column with all parts, {tell_column('split')}, or let a "
                f"split be drawn, {tell_column('split', '')}."
            )
    pairs = sorted(zip(table.paths, parts.tolist(), strict=True))
    return Split(found["train"], found["valid"], found["test"], origin, digest(pairs))


def write_split(path: Path, table: LabelTable, split: Split) -> None:
    """Write the part of each image as CSV, with the columns path and split, in the order of the table.

    Raises:
        DiskError: The file can't be written.
    """
    parts = np.empty(len(table), dtype="<U5")
    for part, positions in zip(_PARTS, (split.train, split.valid, split.test), strict=True):
        parts[positions] = part
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "split"))
    writer.writerows(zip(table.paths, parts.tolist(), strict=True))
    write_atomically(path, text.getvalue().encode())


def replay_split(path: Path, table: LabelTable) -> Split:
    """Return a split that `write_split` wrote, for a table with the same images or fewer of them, in any order.

    Images that the table doesn't use are no matter: with another policy for uncertain labels, the others stay where
    they were, and so test patients stay the same. The digest is of the images that are used.

    Raises:
        TableError: The file lacks images of the table, has one twice, or a patient is in several parts.
    """
    columns = read_columns(path, "split file, `--split` (Python: split),")
    names = [find_column(columns, "path", {}), find_column(columns, "split", {})]
    if names[0] is None or names[1] is None:
        raise TableError(f"the split has the columns {', '.join(columns.columns)}, expected path and split.")
    paths: Sequence[str] = columns[names[0]].tolist()
    recorded = dict(zip(paths, parse_splits(columns[names[1]].tolist()).tolist(), strict=True))
    missing = [int(row) for row, name in zip(table.rows, table.paths, strict=True) if name not in recorded]
    if missing:
        raise TableError(
            f"the split is of other images: {len(missing)} of the table's {len(table)} are not in it, row {missing[0]} "
            "the first. Draw the split with the policies that use most images, and replay it with the others; or leave "
            "`--split` (Python: split) out, and another is drawn."
        )
    if len(recorded) != len(paths):
        raise TableError(
            f"the split names {len(paths) - len(recorded)} images again, expected each once. Give `--split` (Python: "
            "split) the split.csv of an earlier run as it was written."
        )
    parts = np.array([recorded[name] for name in table.paths])
    check_crossing(table.groups, parts, table.rows)
    return _make(table, parts, "replayed", valid=False)
