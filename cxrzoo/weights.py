"""Write and read `model.safetensors`: streamed out tensor by tensor, read back as the very bytes that were verified."""

import functools
import hashlib
import io
import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from cxrzoo.checkpoint import ITEM_SIZES, Entry, read_safetensors_header
from cxrzoo.errors import DigestError, FolderError
from cxrzoo.operations import Readable

if TYPE_CHECKING:
    import torch

#: dtype, in the words of safetensors, and shape of each tensor by name
Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def write_weights(
    path: Path, tensors: Mapping[str, Readable], check: Callable[[str, str, bytes | bytearray], None]
) -> str:
    """Write tensors in the safetensors format, one in memory at a time, and return the sha256 of the file.

    Equal tensors give equal files. Whoever gives the file its final name sees to it that it is on the disk.

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
        head = struct.pack("<Q", len(text)) + text
        hasher = hashlib.sha256(head)
        file.write(head)
        for name in names:
            data = tensors[name].read()
            check(name, tensors[name].dtype, data)
            hasher.update(data)
            file.write(data)
    return hasher.hexdigest()


def read_shapes(path: Path) -> Shapes:
    """Return dtype and shape of every tensor in a weights file, from its header alone."""
    with path.open("rb") as file:
        entries = read_safetensors_header(file, os.fstat(file.fileno()).st_size, path.name)
    return {name: (entry.dtype, entry.shape) for name, entry in entries.items()}


def compare_shapes(found: Shapes, state: Mapping[str, "torch.Tensor"]) -> list[str]:
    """Return what a strict load would object to, a line each: missing, extra, of another shape or kind."""
    expected = {name: (_kind(str(tensor.dtype)), tuple(tensor.shape)) for name, tensor in state.items()}
    lines = [f"missing: {name} {shape}" for name, (_, shape) in expected.items() if name not in found]
    lines += [f"unexpected: {name} {shape}" for name, (_, shape) in found.items() if name not in expected]
    for name, (dtype, shape) in found.items():
        if name in expected and (_kind(dtype), shape) != expected[name]:
            lines.append(f"{name}: found {dtype} {shape}, expected {' '.join(map(str, expected[name]))}")
    return lines


def read_into(
    state: Mapping[str, "torch.Tensor"],
    path: Path,
    *,
    sha256: str,
    size: int,
    verified: Callable[[os.stat_result], bool] = lambda status: False,
) -> None:
    """Read a weights file into a network's own tensors, strictly: all of them, and nothing else.

    The bytes are hashed as they arrive in the private memory of the tensors, so what is verified is what is loaded,
    whatever happens to the file meanwhile; no memory map is used, since that would follow later changes of the file.

    Args:
        state: The network's state_dict, which shares memory with it. After an error it holds nothing of use.
        verified: Says of the open file's status whether these very bytes were verified before.

    Raises:
        FolderError: Tensors are missing, left over, or of another shape or kind.
        DigestError: Size or sha256 differ from the promised ones.
        CheckpointError: The file is not in the safetensors format.
    """
    with _opened(path) as file:
        status = os.fstat(file.fileno())
        if status.st_size != size:
            raise DigestError(_mismatch(path, "size", f"{status.st_size} bytes", f"{size} bytes"))
        head = file.read(8)
        head += file.read(min(int.from_bytes(head, "little"), size))
        # parsed from the bytes that are hashed, not read a second time
        entries = read_safetensors_header(io.BytesIO(head), size, path.name)
        differences = compare_shapes({name: (e.dtype, e.shape) for name, e in entries.items()}, state)
        if differences:
            raise FolderError(f"{path.name} does not fill the network:\n  " + "\n  ".join(differences[:10]))
        hasher = None if verified(status) else hashlib.sha256(head)
        for name, entry in sorted(entries.items(), key=lambda item: item[1].start):
            _read_tensor(file.readinto, entry, state[name], hasher)
        after = os.fstat(file.fileno())
    if hasher and hasher.hexdigest() != sha256:
        raise DigestError(_mismatch(path, "sha256", hasher.hexdigest(), sha256))
    if (after.st_mtime_ns, after.st_ctime_ns, after.st_size) != (
        status.st_mtime_ns, status.st_ctime_ns, status.st_size,
    ):  # fmt: skip
        raise DigestError(f"{path.name} changed while it was read. Load it again once nothing writes to it.")


def _opened(path: Path) -> io.FileIO:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise FolderError(
            f"{path} can't be opened: {error.strerror}. Is the folder whole, and may you read it?"
        ) from error


def _read_tensor(
    readinto: Callable[[Any], int | None], entry: Entry, target: "torch.Tensor", hasher: "hashlib._Hash | None"
) -> None:
    import torch

    dtype = _torch_dtypes()[entry.dtype]
    if target.dtype == dtype and target.is_contiguous():
        _fill(readinto, target.numpy(), hasher)
        return
    # half precision in the file, float32 in the network: by way of bytes of their own
    landing = torch.empty(entry.end - entry.start, dtype=torch.uint8)
    _fill(readinto, landing.numpy(), hasher)
    target.copy_(landing.view(dtype).reshape(entry.shape))


def _fill(readinto: Callable[[Any], int | None], array: NDArray[Any], hasher: "hashlib._Hash | None") -> None:
    done = readinto(array) or 0
    while done < array.nbytes:
        count = readinto(array.data.cast("B")[done:])
        if not count:
            raise DigestError("the weights ended while they were read. Load them again once nothing writes to them.")
        done += count
    if hasher:
        hasher.update(array.data)


def as_tensor(tensor: Readable) -> "torch.Tensor":
    """Return a tensor that is not in memory yet as one of torch; float ones as float32."""
    import torch

    data = tensor.read()
    if not data:
        loaded = torch.empty(tensor.shape, dtype=_torch_dtypes()[tensor.dtype])
    else:
        loaded = torch.frombuffer(bytearray(data), dtype=_torch_dtypes()[tensor.dtype]).reshape(tensor.shape)
    return loaded.float() if loaded.is_floating_point() else loaded


@functools.cache
def _torch_dtypes() -> dict[str, "torch.dtype"]:
    import torch

    return {
        "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
        "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
        "BOOL": torch.bool,
    }  # fmt: skip


def _kind(dtype: str) -> str:
    # half-precision weights are still weights; an integer in their place is not
    return "float" if "F" in dtype or "float" in dtype else "integer"


def _mismatch(path: Path, what: str, found: str, expected: str) -> str:
    return (
        f"{path.name}: the {what} is {found}, expected {expected}. These are not the weights that were verified: "
        "the file is damaged or was replaced. Delete its folder and convert or load the model again."
    )
