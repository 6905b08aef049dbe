"""One part of an embedding store: a Parquet file of some images' embeddings that proves its own content."""

import hashlib
import io
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import CxrZooError, DigestError, ImageCode
from cxrzoo.records import canonical_json, decode
from cxrzoo.sources.files import disk_errors

if TYPE_CHECKING:
    from cxrzoo.loader import Provenance

#: What a damaged Parquet file, or one of another program, makes of reading it; `ArrowInvalid` is a ValueError, and
#: brackets without end in its metadata are a RecursionError, which is a RuntimeError.
_NONSENSE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RuntimeError, MemoryError)


@dataclass(frozen=True)
class Row:
    """One image: its path as the table has it, and what its file was when it was read.

    `size` and `mtime_ns` are -1 where there was no file; `failure` says why there is no embedding; `notices` are the
    codes of what needs a look.
    """

    path: str
    size: int
    mtime_ns: int
    failure: ImageCode | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """Rows with their embeddings, (len(rows), dimension), NaN where there is none; `provenance` is of all of them."""

    provenance: "Provenance"
    rows: tuple[Row, ...]
    embeddings: NDArray[np.float32]

    @property
    def sha256(self) -> str:
        """A digest of all content: Parquet's own checks leave out its footer, and most programs skip them."""
        facts = {"provenance": asdict(self.provenance), "rows": [list(vars(row).values()) for row in self.rows]}
        content = hashlib.sha256(canonical_json(facts).encode())
        content.update(np.ascontiguousarray(self.embeddings, "<f4").tobytes())
        return content.hexdigest()


def pack(part: Part) -> bytes:
    """Return the bytes of a Parquet file: a column a field of `Row`, and the embeddings as lists of fixed size.

    Raises:
        CxrZooError: pyarrow is not installed.
    """
    arrow, parquet = import_arrow()
    failed = np.array([row.failure is not None for row in part.rows], bool)
    values = arrow.array(part.embeddings.ravel(), arrow.float32())
    columns = {
        "path": arrow.array([row.path for row in part.rows], arrow.string()),
        "size": arrow.array([row.size for row in part.rows], arrow.int64()),
        "mtime_ns": arrow.array([row.mtime_ns for row in part.rows], arrow.int64()),
        "failure": arrow.array([row.failure for row in part.rows], arrow.string()),
        "notices": arrow.array([list(row.notices) for row in part.rows], arrow.list_(arrow.string())),
        "embedding": arrow.FixedSizeListArray.from_arrays(
            values, part.embeddings.shape[1], mask=arrow.array(failed, arrow.bool_())
        ),
    }
    facts = {"provenance": asdict(part.provenance), "sha256": part.sha256}
    table = arrow.table(columns).replace_schema_metadata({"cxrzoo": json.dumps(facts)})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


def read_part(path: Path) -> Part:
    """Return what `pack` made of a part, all of it checked.

    Raises:
        DigestError: The file is damaged, or no part of a store.
        DiskError: The file can't be read.
        CxrZooError: pyarrow is not installed.
    """
    arrow, parquet = import_arrow()
    with disk_errors("read", path):
        data = path.read_bytes()
    try:
        part, sha256 = _unpack(parquet.read_table(arrow.BufferReader(data)), arrow)
    except _NONSENSE as error:
        raise DigestError(f"{path.name}: found no part of an embedding store, or a damaged one.") from error
    if part.sha256 != sha256:
        raise DigestError(f"{path.name}: found content {part.sha256[:12]}, expected {sha256[:12]}. It is damaged.")
    return part


def _unpack(table: Any, arrow: ModuleType) -> tuple[Part, str]:
    from cxrzoo.loader import Provenance

    facts = json.loads(table.schema.metadata[b"cxrzoo"])
    provenance = decode(Provenance, facts["provenance"], "part")
    # before room is made for as many numbers as it promises
    if table.schema.field("embedding").type != arrow.list_(arrow.float32(), provenance.dimension):
        raise ValueError("other vectors than the provenance says")
    names = ("path", "size", "mtime_ns", "failure", "notices")
    rows = tuple(
        replace(Row(*values), notices=tuple(values[-1]))
        for values in zip(*(table.column(name).to_pylist() for name in names), strict=True)
    )
    column = table.column("embedding").combine_chunks()
    embeddings = np.full((len(rows), provenance.dimension), np.nan, np.float32)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    embeddings[present] = column.flatten().to_numpy().reshape(-1, provenance.dimension)
    if any((row.failure is None) != good for row, good in zip(rows, present, strict=True)):
        raise ValueError("rows without an embedding are not those that failed")
    if not {row.failure for row in rows} <= {None, *get_args(ImageCode)}:
        raise ValueError("unknown code")
    return Part(provenance, rows, embeddings), str(facts["sha256"])


def import_arrow() -> tuple[ModuleType, ModuleType]:
    """Return pyarrow and pyarrow.parquet.

    Raises:
        CxrZooError: It is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise CxrZooError(
            f"Found no pyarrow ({error}), expected it for embeddings in Parquet. Run: pip install 'cxrzoo[eval]'"
        ) from error
    return pyarrow, parquet
