"""Which images a training is of: a table, a row an image, or all radiographs below a folder."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import PretrainingError
from cxrzoo.evaluation.tables import LabelTable, read_table

#: Files of a folder that may be radiographs; DICOM files often have no suffix at all.
_SUFFIXES = {"", ".dcm", ".dicom", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff"}


@dataclass(frozen=True, eq=False)
class Listing:
    """Images by path, with labels where there are any.

    `rows` are those of the table, from 1; of a folder, positions. `stamps` are size and time of change of each file.
    `modalities` (N,) counts `modality_names`; `labels` (N, findings) are 1, 0 and NaN.
    """

    root: Path
    paths: tuple[str, ...]
    rows: NDArray[np.int64]
    stamps: tuple[tuple[int, int], ...]
    modality_names: tuple[str, ...]
    modalities: NDArray[np.int64]
    findings: tuple[str, ...]
    labels: NDArray[np.float32]

    @property
    def files(self) -> list[Path]:
        """Where the images lie."""
        return [self.root / path for path in self.paths]


def list_images(
    source: Path,
    *,
    findings: Sequence[str] = (),
    modality: str = "",
    path_column: str = "",
    root: Path | None = None,
) -> Listing:
    """Return the images of a table or below a folder.

    Of a table with a column `split`, the rows for training alone: what others test on must stay unseen.

    Args:
        findings: Columns with labels, for a supervised term.
        modality: The column that says what kind of image it is.
        path_column: The column with the paths, where that is not clear.
        root: Where paths start, if not the table's own folder.

    Raises:
        TableError: The table can't be read, or lacks what was asked for.
        PretrainingError: There are no images.
    """
    if source.is_dir():
        if findings or modality:
            raise PretrainingError("found a folder with labels or modalities asked for, expected a table of them.")
        paths = _walk(source)
        rows = np.arange(1, len(paths) + 1)
        listing = _list(source, paths, rows, None, np.zeros((len(paths), 0), np.float32), ())
    else:
        # patients are no matter here, and columns with unusual contents must not stop a training without labels
        columns = {"patient": "", "study": "", "view": modality} | ({"path": path_column} if path_column else {})
        table = read_table(source, [], image_level=True, root=root, columns=columns)
        if table.splits is not None:
            table = table.keep(np.flatnonzero(table.splits == "train"))
        if modality and table.views is not None and (blank := np.flatnonzero(table.views == "")).size:
            raise PretrainingError(
                f"found no {modality} in {blank.size} rows of {source.name}, the first of which is row "
                f"{table.rows[blank[0]]}, expected one for each image. Fill them in, or leave these rows out."
            )
        labels, names = _read_labels(source, findings, columns, root, table)
        listing = _list(table.root, table.paths, table.rows, table.views, labels, names)
    if not listing.paths:
        raise PretrainingError(
            f"{source.name} has no images to train on. A folder has DICOM, PNG, JPEG or TIFF files, at any depth; a "
            "table has a row an image, and where it has a split, only its rows for training are taken."
        )
    return listing


def _walk(folder: Path) -> tuple[str, ...]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            (Path(place) / name).relative_to(folder).as_posix()
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in _SUFFIXES
        ]
    return tuple(sorted(found))


def _read_labels(
    source: Path, findings: Sequence[str], columns: dict[str, str], root: Path | None, table: LabelTable
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    labels = np.full((len(table), len(findings)), np.nan, np.float32)
    if not findings:
        return labels, ()
    labelled = read_table(source, findings, image_level=True, root=root, columns=columns)
    rows = dict(zip(labelled.paths, labelled.labels, strict=True))
    for position, path in enumerate(table.paths):
        if path in rows:
            labels[position] = rows[path]
    return labels, labelled.findings


def _list(
    root: Path,
    paths: tuple[str, ...],
    rows: NDArray[np.int64],
    kinds: NDArray[np.str_] | None,
    labels: NDArray[np.float32],
    findings: tuple[str, ...],
) -> Listing:
    names, numbers = (
        np.unique(kinds, return_inverse=True) if kinds is not None else (np.array([""]), np.zeros(len(paths), np.int64))
    )
    stamps = tuple(map(_stamp, (root / path for path in paths)))
    return Listing(root, paths, rows, stamps, tuple(map(str, names)), numbers.astype(np.int64), findings, labels)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        status = file.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
