"""Weights in half precision: what is narrowed as it is written, and what would be lost."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cxrzoo.checkpoint import ITEM_SIZES
from cxrzoo.errors import ConversionError
from cxrzoo.evidence import HalfPrecision, Narrowing
from cxrzoo.numbers import as_bytes, as_floats
from cxrzoo.operations import Computed, Readable
from cxrzoo.weights import Shapes

#: In the words of safetensors.
_CODES = {"float16": "F16", "bfloat16": "BF16"}
#: float16 leaves some 1 - 1e-7 of it, bfloat16 1 - 1e-5; a network that it breaks is far below.
LEAST_COSINE = 0.9999
_LARGEST = {"float16": "65504", "bfloat16": "3.39e38"}


def narrow(tensors: Mapping[str, Readable], dtype: HalfPrecision) -> dict[str, Readable]:
    """Return the tensors, those of two axes or more in half precision once they are read.

    Vectors stay as they are: they are few, and the variances among BatchNorm's may be larger than float16 can hold.
    So do integers.

    Raises:
        ConversionError: There is no such type.
    """
    if dtype not in _CODES:
        raise ConversionError(f"dtype: found {dtype!r}, expected one of {', '.join(map(repr, _CODES))}.")
    return {name: _narrow(name, each, dtype) if _is_matrix(each) else each for name, each in tensors.items()}


def _is_matrix(tensor: Readable) -> bool:
    return "F" in tensor.dtype and len(tensor.shape) >= 2


def _narrow(name: str, tensor: Readable, dtype: HalfPrecision) -> Readable:
    code = _CODES[dtype]
    if tensor.dtype == code:
        return tensor

    def read() -> bytes:
        wide = as_floats(tensor.dtype, tensor.read())
        data = as_bytes(code, wide)
        lost = int((np.isfinite(wide) & ~np.isfinite(as_floats(code, data))).sum())
        if lost:
            advice = "Store bfloat16" if dtype == "float16" else "Store float32, without a dtype"
            raise ConversionError(
                f"{name}: {lost} of {wide.size} values are beyond what {dtype} holds: found {np.abs(wide).max():g}, "
                f"expected at most {_LARGEST[dtype]}. {advice}, which holds them."
            )
        return data

    return Computed(code, tensor.shape, tensor.nbytes // ITEM_SIZES[tensor.dtype] * ITEM_SIZES[code], read)


def count_narrow(shapes: Shapes, dtype: HalfPrecision) -> int:
    """Return how many tensors of two axes or more are stored in a type of half precision."""
    return sum(code == _CODES[dtype] and len(shape) >= 2 for code, shape in shapes.values())


def compare_precision(
    found: NDArray[np.float32], expected: NDArray[np.float32], shapes: Shapes, dtype: HalfPrecision
) -> Narrowing:
    """Return what half precision did, from the embedding (D,) that it gives and the one before it.

    Args:
        shapes: The tensors as they are stored.

    Raises:
        ConversionError: The embeddings point another way.
    """
    after, before = found.astype(np.float64), expected.astype(np.float64)
    cosine = float(after @ before / np.linalg.norm(after) / np.linalg.norm(before))
    if not cosine >= LEAST_COSINE:
        finer = ", or try float16, which is finer" if dtype == "bfloat16" else ""
        raise ConversionError(
            f"{dtype} changes what the network computes: the embeddings of a synthetic radiograph before and after it "
            f"have a cosine of {cosine:.6f}, expected at least {LEAST_COSINE}. Store float32, without a dtype{finer}."
        )
    # what it lacks to 1 is rounded, since the last digits depend on the processor and its threads
    lacking = float(f"{max(0.0, 1 - cosine):.1g}")
    return Narrowing(dtype, count_narrow(shapes, dtype), round(1 - lacking, 15), LEAST_COSINE)
