"""What a store holds, by path: a folder of Parquet parts to which parts are only ever added."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import numpy as np
from numpy.typing import NDArray

from cxrzoo.embedding.identity import describe_difference
from cxrzoo.embedding.parts import Part, Row, pack, read_part
from cxrzoo.errors import DigestError, EvaluationError, ImageCode
from cxrzoo.sources.files import disk_errors, write_once

if TYPE_CHECKING:
    from cxrzoo.loader import Provenance

logger = logging.getLogger("cxrzoo")


@dataclass(frozen=True)
class _Place:
    """Where the embedding of a row is: which file, and which row of it."""

    file: str
    index: int
    row: Row


class EmbeddingStore:
    """What was embedded with one model. An image goes by its path in the table; what came last of it counts.

    Example:
        >>> store = open_store("embeddings/")  # doctest: +SKIP
        >>> embeddings, failures = store.read(["a.dcm", "b.png"])  # doctest: +SKIP
    """

    def __init__(self, folder: Path, provenance: "Provenance") -> None:
        self.folder, self.provenance = folder, provenance
        self._places: dict[str, _Place] = {}
        self._number = 0

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """All paths, those of failed images among them, in the order in which they came."""
        return iter(self._places)

    def find(self, path: str) -> Row | None:
        """Return what is known of a path, None where nothing is."""
        place = self._places.get(path)
        return place.row if place else None

    def read(self, paths: Sequence[str]) -> tuple[NDArray[np.float32], dict[int, ImageCode]]:
        """Return the embeddings (len(paths), dimension) in the order of `paths`, and why some rows of them are NaN.

        Raises:
            EvaluationError: Some of the paths were never embedded.
            DigestError: A part was damaged since the store was opened.
            DiskError: A part can't be read.
        """
        rows = self._rows(paths)
        embeddings = np.full((len(paths), self.provenance.dimension), np.nan, np.float32)
        wanted: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
        for position, path in enumerate(paths):
            place = self._places[path]
            wanted[place.file].append((position, place.index))
        for file, pairs in wanted.items():
            positions, indices = map(list, zip(*pairs, strict=True))
            embeddings[positions] = read_part(self.folder / file).embeddings[indices]
        return embeddings, {position: row.failure for position, row in enumerate(rows) if row.failure is not None}

    def read_notices(self, paths: Sequence[str]) -> dict[str, list[int]]:
        """Return the positions in `paths` of the images that need a look, by the code that says why.

        Raises:
            EvaluationError: Some of the paths were never embedded.
        """
        found: defaultdict[str, list[int]] = defaultdict(list)
        for position, row in enumerate(self._rows(paths)):
            for code in row.notices:
                found[code].append(position)
        return dict(sorted(found.items()))

    def add(self, rows: Sequence[Row], embeddings: NDArray[np.float32]) -> None:
        """Write a part, with NaN for what failed; it is there as a whole or not at all.

        Raises:
            DiskError: It can't be written.
        """
        part = Part(self.provenance, tuple(rows), embeddings)
        data = pack(part)
        # Where files can't be locked, another process may add to the same store and take names.
        while (self.folder / _name(self._number)).exists() or not write_once(self.folder / _name(self._number), data):
            self._number += 1
        self._take(_name(self._number), part)

    def scan(self, *, repair: bool = False) -> None:
        """Read and check all parts that are there. A damaged one is left out, with a warning.

        Args:
            repair: Give damaged parts another name, so that theirs is free.

        Raises:
            DiskError: A part can't be read or renamed.
        """
        for path in sorted(self.folder.glob("part-*.parquet")):
            try:
                part = read_part(path)
                if difference := describe_difference(self.provenance, part.provenance):
                    raise DigestError(f"{path.name} is of another model: {difference}.")
            except DigestError as error:
                logger.warning("%s Its images count as not embedded.", error)
                if repair:
                    with disk_errors("rename", path):
                        path.replace(path.with_name(f"{path.name}.damaged"))
                continue
            self._take(path.name, part)

    def _take(self, file: str, part: Part) -> None:
        self._places |= {row.path: _Place(file, index, row) for index, row in enumerate(part.rows)}

    def _rows(self, paths: Sequence[str]) -> list[Row]:
        missing = [position for position, path in enumerate(paths, 1) if path not in self._places]
        if missing:
            raise EvaluationError(
                f"{len(missing)} of {len(paths)} images are not in the embedding store, number {missing[0]} the first. "
                "Is the store of another table? `cxrzoo embed --data TABLE --out STORE` with the same model adds them."
            )
        return [self._places[path].row for path in paths]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from the same store meanwhile; where files can't be locked, go on without."""
    lock = filelock.FileLock(folder / ".lock", mode=0o666)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            logger.warning("Another process embeds into the same folder: waiting until it is done.")
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        logger.debug("%s can't be locked, going on without: %s", folder, error)
    try:
        yield
    finally:
        lock.release()


def _name(number: int) -> str:
    return f"part-{number:05}.parquet"
