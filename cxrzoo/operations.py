"""Arithmetic on tensors that a recipe can name: each makes one tensor of the backbone out of some of a checkpoint.

Nothing is read until the result is written, so that a conversion never holds more than one tensor and its inputs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from PIL import Image

from cxrzoo.checkpoint import ITEM_SIZES
from cxrzoo.errors import ConversionError
from cxrzoo.numbers import as_bytes, as_floats


class Readable(Protocol):
    """A tensor that is not in memory yet."""

    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def nbytes(self) -> int: ...
    def read(self) -> bytes | bytearray: ...


@dataclass(frozen=True)
class Computed:
    """A tensor that is computed when it is read."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], bytes]


def concatenate(*parts: Readable, size: int | None) -> Readable:
    """Return the parts one after the other along the first axis, such as query, key and value."""
    first = parts[0]
    if not first.shape or any((part.dtype, part.shape[1:]) != (first.dtype, first.shape[1:]) for part in parts):
        shown = " and ".join(f"{part.dtype} {part.shape}" for part in parts)
        raise ConversionError(f"tensors of {shown} can't be put one after the other: their rows differ.")
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    return Computed(
        first.dtype, shape, sum(part.nbytes for part in parts), lambda: b"".join(part.read() for part in parts)
    )


def chunk(whole: Readable, *, size: int | None, index: int, parts: int) -> Readable:
    """Return one of so many equal parts along the first axis, counted from 0; the inverse of `concatenate`."""
    rows = whole.shape[0] if whole.shape else 0
    if not 0 <= index < parts or not rows or rows % parts:
        raise ConversionError(f"a tensor of {whole.shape} has no part {index} of {parts} equal ones.")
    nbytes = whole.nbytes // parts
    return Computed(
        whole.dtype,
        (rows // parts, *whole.shape[1:]),
        nbytes,
        lambda: bytes(whole.read()[index * nbytes : (index + 1) * nbytes]),
    )


def as_convolution(linear: Readable, *, size: int | None) -> Readable:
    """Return a linear layer's weight (out, in) as that of a convolution with a kernel of one pixel (out, in, 1, 1)."""
    if len(linear.shape) != 2:
        raise ConversionError(f"a linear layer has a weight of two axes, found {linear.shape}.")
    return Computed(linear.dtype, (*linear.shape, 1, 1), linear.nbytes, lambda: bytes(linear.read()))


def add_first_axes(tensor: Readable, *, size: int | None, axes: int) -> Readable:
    """Return a tensor with so many axes of length 1 before its own."""
    return Computed(tensor.dtype, (1,) * axes + tensor.shape, tensor.nbytes, lambda: bytes(tensor.read()))


def add_class_position(token: Readable, table: Readable, *, size: int | None) -> Readable:
    """Return the class token (1, 1, D) with its own row of the position table (1, 1 + N, D) added.

    timm's networks with register tokens have no position for the class token.
    """
    _insist_on_table(table)
    if token.shape != (1, 1, table.shape[2]):
        raise ConversionError(f"a class token of {token.shape} has no row in a position table of {table.shape}.")
    _insist_on_floats(token)

    def read() -> bytes:
        position = as_floats(table.dtype, table.read())[: table.shape[2]]
        own = as_floats(token.dtype, token.read())
        return as_bytes(dtype, np.add(own, position, dtype=np.result_type(own, position, np.float32)))

    dtype = _wide(token.dtype, table.dtype)
    return Computed(dtype, token.shape, math.prod(token.shape) * ITEM_SIZES[dtype], read)


def drop_class_position(table: Readable, *, size: int | None) -> Readable:
    """Return a position table (1, 1 + N, D) without its first row, that of the class token."""
    _insist_on_table(table)
    _, rows, width = table.shape
    row = table.nbytes // rows
    return Computed(table.dtype, (1, rows - 1, width), table.nbytes - row, lambda: bytes(table.read()[row:]))


def resample_positions(table: Readable, patches: Readable, *, size: int | None, prefix: int = 1) -> Readable:
    """Return a position table (1, prefix + N, D) for the grid of patches that an input of `size` pixels has.

    The `prefix` rows of tokens that have no place in the image stay, if the table has such rows. The others are
    resampled bicubically with antialiasing, as timm's `resample_abs_pos_embed` does it; for the grid it has already the
    table stays as it is.

    Args:
        patches: Weight of the patch embedding (D, C, height, width), which tells the size of a patch.
    """
    _insist_on_table(table)
    rows = table.shape[1] - prefix
    if rows < 0 or math.isqrt(rows) ** 2 != rows:  # some networks have no positions for such tokens
        rows, prefix = table.shape[1], 0
    if len(patches.shape) != 4 or not patches.shape[-1] or rows < 1:
        raise ConversionError(
            f"a position table of {table.shape} and a patch embedding of {patches.shape} don't go together: expected "
            f"(1, {prefix} + patches, width) and (width, channels, height, width of a patch)."
        )
    old, new = math.isqrt(rows), (size or 0) // patches.shape[-1]
    if size is None or new == old:
        return table
    if old * old != rows or size % patches.shape[-1]:
        raise ConversionError(
            f"a position table of {table.shape} can't be resampled for {size} px: expected a square grid of patches, "
            f"and a size divisible by {patches.shape[-1]}."
        )
    width = table.shape[2]

    def read() -> bytes:
        values = as_floats(table.dtype, table.read()).reshape(-1, width)
        planes = values[prefix:].astype(np.float32).reshape(old, old, width)
        resampled = np.stack(
            [
                # Pillow's bicubic filter is the one that torch's antialiasing copies
                np.asarray(Image.fromarray(np.ascontiguousarray(planes[:, :, i])).resize((new, new), _BICUBIC))
                for i in range(width)
            ],
            axis=-1,
        )
        return as_bytes(dtype, np.concatenate([values[:prefix], resampled.reshape(-1, width)]))

    dtype = _wide(table.dtype)
    shape = (1, prefix + new * new, width)
    return Computed(dtype, shape, math.prod(shape) * ITEM_SIZES[dtype], read)


_BICUBIC = Image.Resampling.BICUBIC


def _wide(*dtypes: str) -> str:
    """Return the dtype of a result that networks in float32 would compute, so that half precision is not lost twice."""
    return "F64" if "F64" in dtypes else "F32"


def _insist_on_table(table: Readable) -> None:
    if len(table.shape) != 3 or table.shape[0] != 1 or not table.shape[1]:
        raise ConversionError(f"a position table has the shape (1, tokens, width), found {table.shape}.")
    _insist_on_floats(table)


def _insist_on_floats(tensor: Readable) -> None:
    if "F" not in tensor.dtype:
        raise ConversionError(f"expected a tensor of floating point numbers, found one of {tensor.dtype}.")


OPERATIONS: dict[str, Callable[..., Readable]] = {
    function.__name__: function
    for function in (
        concatenate,
        chunk,
        as_convolution,
        add_first_axes,
        add_class_position,
        drop_class_position,
        resample_positions,
    )
}
