"""All images of a table -> a store of their embeddings; stopped at any time, the next run goes on from there."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrzoo.embedding.contents import EmbeddingStore, locked
from cxrzoo.embedding.identity import claim, insist_on, read_identity
from cxrzoo.embedding.images import embed_batches, on_device
from cxrzoo.embedding.parts import Row, import_arrow
from cxrzoo.errors import ImageCode, ImageError
from cxrzoo.sources.files import disk_errors
from cxrzoo.sources.owners import remove_orphans

if TYPE_CHECKING:
    from cxrzoo.imaging import Reading
    from cxrzoo.loader import Backbone, Provenance

__all__ = ["EmbeddingStore", "Stored", "embed_table", "open_store"]

#: Size and time of change of a file; or that there is none.
_Stamp = tuple[int, int]
_ABSENT: _Stamp = (-1, -1)


@dataclass(frozen=True)
class Stored:
    """What became of a table: `embedded` images were read in this run, in `seconds`, and `kept` ones in earlier runs.

    A path that the table has twice counts once.
    """

    store: EmbeddingStore
    embedded: int
    kept: int
    seconds: float

    def read(self, paths: Sequence[str]) -> tuple[NDArray[np.float32], dict[int, ImageCode]]:
        """Return embeddings and failures by position; see `EmbeddingStore.read`."""
        return self.store.read(paths)


def open_store(folder: str | os.PathLike[str], provenance: "Provenance | None" = None) -> EmbeddingStore:
    """Return the store in `folder`, to read from.

    Args:
        provenance: What its embeddings must be of; anything if left out.

    Raises:
        RecordError: The folder is no store.
        FolderError: It holds embeddings of another model, other weights or another preprocessing.
        DiskError: It can't be read.
        CxrZooError: pyarrow is not installed.
    """
    found = read_identity(Path(folder))
    if provenance is not None:
        insist_on(provenance, found)
    store = EmbeddingStore(Path(folder), found)
    store.scan()
    return store


def embed_table(
    model: "Backbone",
    root: str | os.PathLike[str],
    paths: Sequence[str],
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
    chunk: int = 256,
    retry: bool = False,
) -> Stored:
    """Embed the images of a table into the store `folder`, except those that are there already, of the same file.

    A file is the same while its size and its time of change are. An image that can't be read is a row with a code,
    never the end of the run. One that is gone keeps the embedding it had. Nothing of `root` is stored.

    Args:
        model: What `load` returns.
        root: The folder that relative paths start from.
        paths: The images, as the table has them.
        workers: Processes that read ahead; with 0, images are read in this one. See `embed_images`.
        progress: Called with how many images are done and how many there are: at the start, and after each batch.
        device: Where the network runs, such as "cuda", with the precision that torch is set to there; afterwards it is
            back where it was.
        chunk: Images a part. A run that is killed loses so many; one that is stopped, with Ctrl-C or by an error, none.
        retry: Read failed images again, though their files are the same.

    Raises:
        FolderError: The folder holds embeddings of another model, other weights or another preprocessing; or no store.
        RecordError: What the store says of itself is malformed.
        DiskError: The store can't be read or written.
        CxrZooError: pyarrow is not installed, or there is no such device.
    """
    import_arrow()  # before anything is made
    started, folder, root = time.perf_counter(), Path(folder).absolute(), Path(root)
    with disk_errors("create", folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        remove_orphans(folder, age=0.0)
        claim(folder, model.provenance)
        store = EmbeddingStore(folder, model.provenance)
        store.scan(repair=True)
        stamps = {path: _stamp(root / path) for path in dict.fromkeys(paths)}
        todo = {path: stamp for path, stamp in stamps.items() if _is_due(store.find(path), stamp, retry)}
        kept = len(stamps) - len(todo)
        report = progress or (lambda done, total: None)
        report(kept, len(stamps))
        run = _embed(store, model, root, todo, workers, device, chunk)
        with on_device(model, device), closing(run):
            for done in run:
                report(kept + done, len(stamps))
    return Stored(store, len(todo), kept, time.perf_counter() - started)


def _embed(
    store: EmbeddingStore,
    model: "Backbone",
    root: Path,
    stamps: dict[str, _Stamp],
    workers: int,
    device: str,
    chunk: int,
) -> Generator[int]:
    """Add all that `stamps` names to the store; yield how many are done."""
    names, done = list(stamps), 0
    pending: list[tuple[list[Row], NDArray[np.float32]]] = []

    def write() -> None:
        if pending:
            rows, embeddings = (
                [row for part, _ in pending for row in part],
                np.concatenate([part for _, part in pending]),
            )
            pending.clear()
            store.add(rows, embeddings)

    try:
        with closing(embed_batches(model, [root / name for name in names], workers=workers, device=device)) as batches:
            for readings, embeddings in batches:
                batch = names[done : done + len(readings)]
                rows = [
                    _make_row(name, stamps[name], reading, embedding)
                    for name, reading, embedding in zip(batch, readings, embeddings, strict=True)
                ]
                pending.append((rows, embeddings))
                done += len(rows)
                if sum(len(part) for part, _ in pending) >= chunk:
                    write()
                yield done
    finally:
        write()


def _make_row(path: str, stamp: _Stamp, reading: "Reading | ImageError", embedding: NDArray[np.float32]) -> Row:
    if isinstance(reading, ImageError):
        return Row(path, *stamp, failure=reading.code)
    notices = tuple(dict.fromkeys(notice.code for notice in reading.report.notices))
    if not np.isfinite(embedding).all():
        embedding[:] = np.nan  # in the batch, too, of which this is a row
        return Row(path, *stamp, failure="values", notices=notices)
    return Row(path, *stamp, notices=notices)


def _stamp(path: Path) -> _Stamp:
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name with a null byte; the reader says what is wrong with it
        return _ABSENT
    return status.st_size, status.st_mtime_ns


def _is_due(row: Row | None, stamp: _Stamp, retry: bool) -> bool:
    """Return whether an image must be read: it is new, has changed, or is to be tried again."""
    if row is None:
        return True
    if row.failure is not None:
        return retry or (row.size, row.mtime_ns) != stamp
    # A disk that is not mounted must not cost the embeddings of all that is on it.
    return stamp not in (_ABSENT, (row.size, row.mtime_ns))
