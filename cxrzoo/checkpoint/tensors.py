"""Tensors of a checkpoint as lazy references: validated when found, read only when asked for."""

import math
from dataclasses import dataclass, field

import numpy as np

from cxrzoo.checkpoint.regions import Region
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

#: Bytes of one element, by the dtype names of safetensors.
ITEM_SIZES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
MAX_DIMENSIONS = 8
_MAX_NAME = 512


@dataclass(frozen=True, eq=False, slots=True)
class Storage:
    """A typed run of elements, which tensors are views of; `first` counts elements of the region."""

    dtype: str
    numel: int
    region: Region
    first: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class Tensor:
    """A tensor that was found in a checkpoint; `offset` and `stride` count elements, as in torch."""

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    region: Region = field(repr=False)

    @property
    def nbytes(self) -> int:
        """The bytes that `read` returns."""
        return math.prod(self.shape) * ITEM_SIZES[self.dtype]

    def read(self) -> bytearray | bytes:
        """Return the elements in C order, little-endian.

        Raises:
            CheckpointError: The bytes are damaged, or the file changed since it was opened.
        """
        item = ITEM_SIZES[self.dtype]
        size = (_last(self.shape, self.stride) + 1) * item if self.nbytes else 0
        data: bytearray | bytes = self.region.read(self.offset * item, size)
        if self.nbytes and not _is_contiguous(self.shape, self.stride):
            # torch lets the stride of an axis of size 1 be anything, numpy does not
            steps = (step if size > 1 else 0 for size, step in zip(self.shape, self.stride, strict=True))
            strides = tuple(step * item for step in steps)
            data = np.ndarray(self.shape, dtype=f"u{item}", buffer=data, strides=strides).tobytes()
        if self.dtype == "BOOL" and data.translate(None, b"\0\1"):
            raise CheckpointError(
                f"{self.region.file.name}: {self.region.label} holds bytes other than 0 and 1 where booleans "
                "are promised. The file is damaged; download it again."
            )
        return data


def rebuild_tensor(storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Return a strided view of `storage`, after proving that it lies inside and is no larger.

    Raises:
        UnsafeCheckpointError: A number is negative or absurd, or the view leaves or expands its storage.
    """
    if len(shape) > MAX_DIMENSIONS or len(shape) != len(stride):
        raise UnsafeCheckpointError(
            f"a tensor has {len(shape)} sizes and {len(stride)} strides; expected as many of each, "
            f"and at most {MAX_DIMENSIONS}."
        )
    # 2**63 is torch's own limit; beyond it, numbers may also be too long to be printed
    if any(type(number) is not int or not 0 <= number < 2**63 for number in (offset, *shape, *stride)):
        raise UnsafeCheckpointError("a tensor has a size, stride or offset that is no integer from 0 to 2**63.")
    numel = math.prod(shape)
    inside = offset + _last(shape, stride) < storage.numel if numel else offset <= storage.numel
    if not inside or numel > storage.numel:
        raise UnsafeCheckpointError(
            f"a tensor with the sizes {shape}, strides {stride} and offset {offset} does not fit into its "
            f"storage of {storage.numel} elements. If it was made with expand(), save a clone() of it instead."
        )
    return Tensor(storage.dtype, shape, stride, storage.first + offset, storage.region)


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides, in elements, of a tensor in C order."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def check_name(name: object) -> None:
    """Raise if `name` can't be the name of a tensor: names are printed, and written into files."""
    if type(name) is not str or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise UnsafeCheckpointError(
            f"a tensor is named {ascii(name)[:60]}; expected 1 to {_MAX_NAME} printable characters."
        )


def _last(shape: tuple[int, ...], stride: tuple[int, ...]) -> int:
    """Return the index of the last element of a tensor that has any, counted from its first."""
    return sum((size - 1) * step for size, step in zip(shape, stride, strict=True))


def _is_contiguous(shape: tuple[int, ...], stride: tuple[int, ...]) -> bool:
    steps = zip(shape, stride, contiguous_stride(shape), strict=True)
    return all(step == expected for size, step, expected in steps if size > 1)
