"""The header of a safetensors file, which must describe every byte of the file, and each once.

The layout is that of https://huggingface.co/docs/safetensors#format: eight bytes with the length of a
JSON object, the object, then the data.
"""

import json
import math
from dataclasses import dataclass
from typing import Any, BinaryIO

from cxrzoo.checkpoint.tensors import ITEM_SIZES, MAX_DIMENSIONS, check_name
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

_MAX_HEADER = 10_000_000
_MAX_TENSORS = 20_000
#: Commas, colons and brackets: bounds the memory that parsing takes.
_MAX_MARKS = 1_000_000


@dataclass(frozen=True)
class Entry:
    """One tensor: its bytes lie from `start` to `end` of the file, in C order, little-endian."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_safetensors_header(file: BinaryIO, size: int, where: str) -> dict[str, Entry]:
    """Return the tensors that the file holds.

    Args:
        size: The bytes of the whole file.
        where: What to call the file in errors.

    Raises:
        CheckpointError: The file is truncated or damaged.
        UnsafeCheckpointError: The header is absurd, or does not describe the file exactly.
    """
    file.seek(0)
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > min(size - 8, _MAX_HEADER):
        raise CheckpointError(
            f"{where}: the header would be {length} bytes long, in a file of {size}; at most {_MAX_HEADER} are "
            "allowed. The file is truncated or no safetensors file; download it again."
        )
    header = _parse(file.read(length), length, where)
    metadata = header.pop("__metadata__", {})
    if type(metadata) is not dict or any(type(value) is not str for value in metadata.values()):
        raise UnsafeCheckpointError(f"{where}: __metadata__ is not an object of texts.")
    if len(header) > _MAX_TENSORS:
        raise UnsafeCheckpointError(f"{where}: {len(header)} tensors; at most {_MAX_TENSORS} are expected.")
    entries = {name: _entry(name, value, length + 8, where) for name, value in header.items()}
    position = length + 8
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != position:
            raise UnsafeCheckpointError(
                f"{where}: {name!r} starts at byte {entry.start}, expected {position}: tensors overlap, or hide "
                "something between them."
            )
        position = entry.end
    if position > size:
        raise CheckpointError(f"{where}: {position} bytes are promised, there are {size}. Download it again.")
    if position < size:
        raise UnsafeCheckpointError(f"{where}: {size - position} bytes lie behind the last tensor.")
    return entries


def _parse(raw: bytes, length: int, where: str) -> dict[str, Any]:
    if len(raw) != length or not raw.startswith(b"{"):
        raise CheckpointError(f"{where}: the header is no JSON object. The file is damaged; download it again.")
    if sum(map(raw.count, (b"[", b"{", b",", b":"))) > _MAX_MARKS:
        raise UnsafeCheckpointError(f"{where}: the header holds more than {_MAX_MARKS} values.")
    try:
        header: dict[str, Any] = json.loads(raw.decode(), object_pairs_hook=_unique)
    except CheckpointError as error:
        raise UnsafeCheckpointError(f"{where}: {error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{where}: the header is no valid JSON ({type(error).__name__}). The file is damaged; download it again."
        ) from None
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise UnsafeCheckpointError("the header has the same key twice.")
    return found


def _entry(name: str, value: Any, data: int, where: str) -> Entry:
    try:
        check_name(name)
    except UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(f"{where}: {error}") from None
    match value:
        case {"dtype": str() as dtype, "shape": list() as shape, "data_offsets": [start, end]} if len(value) == 3:
            numbers = (*shape, start, end)
            if (
                len(shape) > MAX_DIMENSIONS
                or set(map(type, numbers)) != {int}
                or min(numbers) < 0
                or max(numbers) >= 2**63
            ):
                raise UnsafeCheckpointError(
                    f"{where}: {name!r} has a size or offset that is no integer from 0 to 2**63, or more than "
                    f"{MAX_DIMENSIONS} dimensions."
                )
            if dtype not in ITEM_SIZES:
                raise CheckpointError(
                    f"{where}: {name!r} has the dtype {ascii(dtype)[:20]}; {', '.join(ITEM_SIZES)} can be read. "
                    "Convert it with torch, and save again."
                )
            if end - start != math.prod(shape) * ITEM_SIZES[dtype]:
                raise UnsafeCheckpointError(f"{where}: {name!r} has more or fewer bytes than its shape needs.")
            return Entry(dtype, tuple(shape), data + start, data + end)
    raise UnsafeCheckpointError(f"{where}: {name!r} is not described by dtype, shape and data_offsets alone.")
