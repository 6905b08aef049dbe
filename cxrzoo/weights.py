"""Write and read `model.safetensors`: streamed out tensor by tensor, read back as the very bytes that were verified."""

import hashlib
import io
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cxrzoo.checkpoint import read_safetensors_header
from cxrzoo.errors import DigestError, FolderError

if TYPE_CHECKING:
    import torch

ITEM_SIZES = {
    "F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


class Readable(Protocol):
    """A tensor that is not in memory yet."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    def read(self) -> bytes | bytearray: ...


def write_weights(
    path: Path, tensors: Mapping[str, Readable], check: Callable[[str, str, bytes | bytearray], None]
) -> None:
    """Write tensors in the safetensors format, one in memory at a time; equal tensors give equal files.

    The safetensors library wants all tensors in memory at once, which for a large checkpoint is the whole cost of
    a conversion. The layout is the one its specification asks for: header, then data without a gap, aligned.

    Args:
        check: Called with the name, dtype and bytes of each tensor before they are written.
    """
    # wide types first, as the library does, so that every tensor is aligned to its own item size
    names = sorted(tensors, key=lambda name: (-ITEM_SIZES[tensors[name].dtype], name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers insists on this entry
    end = 0
    for name in names:
        start, end = end, end + tensors[name].nbytes
        header[name] = {
            "dtype": tensors[name].dtype,
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            data = tensors[name].read()
            check(name, tensors[name].dtype, data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_shapes(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of every tensor in a weights file, from its header alone."""
    with path.open("rb") as file:
        entries = read_safetensors_header(file, os.fstat(file.fileno()).st_size, path.name)
    return {name: (entry.dtype, entry.shape) for name, entry in entries.items()}


def read_weights(
    path: Path,
    *,
    sha256: str,
    size: int,
    verified: Callable[[os.stat_result], bool] = lambda status: False,
) -> dict[str, "torch.Tensor"]:
    """Return the tensors of a weights file in private memory, float ones as float32.

    The bytes are hashed while they are read, so what is verified is what is returned, whatever happens to the
    file meanwhile; no memory map is used, since that would follow later changes of the file.

    Args:
        verified: Says of the open file's status whether these very bytes were verified before.

    Raises:
        DigestError: Size or sha256 differ from the promised ones.
        CheckpointError: The file is not in the safetensors format.
    """
    import torch

    dtypes = _torch_dtypes()
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if status.st_size != size:
            raise DigestError(_mismatch(path, "size", f"{status.st_size} bytes", f"{size} bytes"))
        head = file.read(8)
        head += file.read(min(int.from_bytes(head, "little"), size))
        # parsed from the bytes that are hashed, not read a second time
        entries = read_safetensors_header(io.BytesIO(head), size, path.name)
        ordered = sorted(entries.items(), key=lambda item: item[1].start)
        hasher = None if verified(status) else hashlib.sha256(head)
        tensors = {}
        for name, entry in ordered:
            tensor = torch.empty(entry.shape, dtype=dtypes[entry.dtype])
            view = memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)
            _fill(file.readinto, view, path)
            if hasher:
                hasher.update(view)
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
        after = os.fstat(file.fileno())
    if hasher and hasher.hexdigest() != sha256:
        raise DigestError(_mismatch(path, "sha256", hasher.hexdigest(), sha256))
    if (after.st_mtime_ns, after.st_ctime_ns, after.st_size) != (
        status.st_mtime_ns, status.st_ctime_ns, status.st_size,
    ):  # fmt: skip
        raise DigestError(f"{path.name} changed while it was read. Load it again once nothing writes to it.")
    return tensors


def as_tensor(tensor: Readable) -> "torch.Tensor":
    """Return a tensor that is not in memory yet as one of torch; float ones as float32."""
    import torch

    data = tensor.read()
    if not data:
        loaded = torch.empty(tensor.shape, dtype=_torch_dtypes()[tensor.dtype])
    else:
        loaded = torch.frombuffer(bytearray(data), dtype=_torch_dtypes()[tensor.dtype]).reshape(tensor.shape)
    return loaded.float() if loaded.is_floating_point() else loaded


def _torch_dtypes() -> dict[str, "torch.dtype"]:
    import torch

    return {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
        "BOOL": torch.bool,
    }  # fmt: skip


def _fill(readinto: Callable[[memoryview], int | None], view: memoryview, path: Path) -> None:
    while len(view):
        count = readinto(view)
        if not count:
            raise FolderError(f"{path.name} ended while it was read. Load it again once nothing writes to it.")
        view = view[count:]


def _mismatch(path: Path, what: str, found: str, expected: str) -> str:
    return (
        f"{path.name}: the {what} is {found}, expected {expected}. These are not the weights that were verified: "
        "the file is damaged or was replaced. Delete its folder and convert or load the model again."
    )
