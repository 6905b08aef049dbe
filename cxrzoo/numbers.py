"""The numbers of a tensor, from its bytes and back, without torch."""

import numpy as np
from numpy.typing import NDArray

_NUMPY = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def as_floats(dtype: str, data: bytes | bytearray) -> NDArray[np.floating]:
    """Return the values of a floating tensor, given by its dtype in the words of safetensors, as a flat array."""
    if dtype == "BF16":  # numpy has no bfloat16: it is the upper half of a float32
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, _NUMPY[dtype])


def as_bytes(dtype: str, values: NDArray[np.floating]) -> bytes:
    """Return the bytes of a floating tensor in C order; values that do not fit are rounded to the nearest even."""
    if dtype == "BF16":
        floats = np.ascontiguousarray(values, "<f4")
        bits = floats.view("<u4")
        upper = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        # the carry would turn some NaN into -0, which nothing would notice
        return bytes(np.where(np.isnan(floats), 0x7FC0, upper).astype("<u2").data)
    with np.errstate(over="ignore"):  # too large for the type is infinity, which is refused where it matters
        return bytes(np.ascontiguousarray(values, _NUMPY[dtype]).data)
