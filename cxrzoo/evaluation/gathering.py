"""Models and a table -> one embedding an image and model, each embedded once and kept in a store."""

import os
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrzoo.embedding.store import embed_table
from cxrzoo.errors import EvaluationError, ImageCode, TableError
from cxrzoo.evaluation.bars import bar
from cxrzoo.evaluation.comparison import Contender
from cxrzoo.evaluation.contenders import Entry
from cxrzoo.evaluation.locks import locked
from cxrzoo.evaluation.tables import LabelTable
from cxrzoo.loader import Provenance

#: So many rows a sentence names.
_SHOWN = 5


@dataclass(frozen=True)
class Gathered:
    """The embeddings of all rows by one contender.

    `failures` are the positions that could not be read, and why; `notices` those that need a look, by code.
    """

    contender: Contender
    embeddings: NDArray[np.float32]
    failures: dict[int, ImageCode]
    notices: dict[str, list[int]]


def describe_images(gathered: Sequence[Gathered], rows: NDArray[np.int64]) -> list[tuple[str, str]]:
    """Return code and sentence, which names the first rows, of images that could not be read or need a look."""
    failed = {position: code for found in gathered for position, code in found.failures.items()}
    lost, doubtful = defaultdict[str, set[int]](set), defaultdict[str, set[int]](set)
    for position, code in failed.items():
        lost[code].add(position)
    for found in gathered:
        for notice, positions in found.notices.items():
            doubtful[notice].update(set(positions) - set(failed))

    def tell(code: str, positions: set[int], what: str) -> str:
        named = [int(rows[position]) for position in sorted(positions)]
        shown = ", ".join(map(str, named[:_SHOWN])) + (", …" if len(named) > _SHOWN else "")
        return f"{len(named)} of {len(rows)} images {what} ({code}): row{'s' * (len(named) > 1)} {shown}"

    return [
        *((code, tell(code, positions, "could not be read")) for code, positions in sorted(lost.items())),
        *(
            (code, tell(code, positions, "should be looked at"))
            for code, positions in sorted(doubtful.items())
            if positions
        ),
    ]


def gather(
    entries: Sequence[Entry], table: LabelTable, folder: Path, *, workers: int, device: str, shown: bool
) -> list[Gathered]:
    """Return the embeddings of the table's images by each entry; what a store in `folder` has already is read there.

    Raises:
        TableError: No image could be read.
        EvaluationError: A store that was given lacks images of the table, or is of others; or a backbone changed while
            it embedded.
    """
    # first, so that what they lack does not cost an hour of embedding
    stores = {entry.name: _read_store(entry, table) for entry in entries if entry.kind == "store"}
    gathered = [stores.get(entry.name) or _embed(entry, table, folder, workers, device, shown) for entry in entries]
    for found in gathered:
        if len(found.failures) == len(table.rows):
            code = next(iter(found.failures.values()))
            raise TableError(
                f"None of the {len(table.rows)} images could be read (the first: {code}). Paths in the table start "
                "from its own folder, or from the one that `--root` (Python: root) names."
            )
    return gathered


def _read_store(entry: Entry, table: LabelTable) -> Gathered:
    given = entry.open_store()
    rows = [given.find(path) for path in table.paths]
    missing = [int(number) for number, row in zip(table.rows, rows, strict=True) if row is None]
    if missing:
        raise EvaluationError(
            f"{entry.name}: {len(missing)} of {len(rows)} images are not in this embedding store, row {missing[0]} of "
            "the table the first. Is it the store of another table? Else `cxrzoo embed --data TABLE --out STORE` with "
            "the same model adds them."
        )
    embeddings, failures = given.read(table.paths)
    # Names such as 0001.png are those of other images elsewhere. A copied file has another time, but its size.
    other = [
        int(number)
        for number, row, file in zip(table.rows, rows, table.files, strict=True)
        if row and row.failure is None and os.path.isfile(file) and row.size != file.stat().st_size  # noqa: PTH113
    ]
    if other:
        raise EvaluationError(
            f"{entry.name}: {len(other)} of {len(rows)} images have another size than the files that were embedded, "
            f"row {other[0]} the first. Was the store made of another table, or were images replaced? Run "
            "`cxrzoo embed --data TABLE` with this table and store, or leave the store out."
        )
    return Gathered(_describe(entry, given.provenance), embeddings, failures, given.read_notices(table.paths))


def _embed(entry: Entry, table: LabelTable, folder: Path, workers: int, device: str, shown: bool) -> Gathered:
    backbone = entry.load()
    store = folder / f"{_file_name(entry.name)}-{backbone.provenance.weights_sha256[:8]}"
    started = time.perf_counter()
    with locked(backbone) as digest, bar(entry.name, len(table.paths), "images", shown=shown) as advance:
        done: int | None = None

        def report(now: int, total: int) -> None:
            nonlocal done
            advance(now - (done or 0), before=done is None)  # the first call says what was there already
            done = now

        stored = embed_table(backbone, table.root, table.paths, store, workers=workers, progress=report, device=device)
        embeddings, failures = stored.read(table.paths)
    contender = _describe(
        entry,
        backbone.provenance,
        architecture=str(backbone.pretrained_cfg.get("architecture", "")),
        backbone_sha256=digest,
        seconds=time.perf_counter() - started,
    )
    return Gathered(contender, embeddings, failures, stored.store.read_notices(table.paths))


def _describe(
    entry: Entry,
    provenance: Provenance,
    *,
    architecture: str = "",
    backbone_sha256: str = "",
    seconds: float | None = None,
) -> Contender:
    return Contender(
        name=entry.name,
        kind=entry.kind,
        weights_sha256=provenance.weights_sha256,
        preprocessing=provenance.preprocessing,
        preprocessing_sha256=provenance.preprocessing_sha256,
        dimension=provenance.dimension,
        architecture=architecture,
        backbone_sha256=backbone_sha256,
        seconds=seconds,
    )


def _file_name(name: str) -> str:
    """Return a name that may be a folder's; the digest beside it keeps two of them apart."""
    return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in name).strip(".-") or "model"
