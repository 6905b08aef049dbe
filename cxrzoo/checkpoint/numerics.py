"""What the calls that make numpy's dtypes, scalars and arrays mean, and those of complex numbers."""

import struct
from typing import Any

from cxrzoo.checkpoint.meanings import Arguments, Opaque, content

#: struct's letters for numpy's numbers.
_NUMBERS = {
    **{"f2": "e", "f4": "f", "f8": "d", "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q"},
    **{"u1": "B", "u2": "H", "u4": "I", "u8": "Q"},
}


def complex_number(arguments: Arguments) -> Any:
    """Return a complex number as the pair of its parts."""
    match arguments:
        case (float(), float()):
            return Opaque("builtins", "complex", arguments)
    return NotImplemented


def dtype(arguments: Arguments) -> Any:
    """Return numpy's dtype, its code as part of the name; its state comes later."""
    match arguments:
        case (str() as code, *rest) if len(code) <= 16 and len(rest) <= 2:
            return Opaque("numpy", f"dtype {code}", {})
    return NotImplemented


def scalar(arguments: Arguments) -> Any:
    """Return a number; scalars that are none stay opaque."""
    match arguments:
        case (Opaque("numpy", kind, state), bytes() | str() as data):
            letter = _NUMBERS.get(kind.removeprefix("dtype "))
            if letter is None:
                return Opaque("numpy", "scalar", (kind, data))
            layout = (">" if type(state) is tuple and state[1:2] == (">",) else "<") + letter
            if len(data) == struct.calcsize(layout):
                raw = data if isinstance(data, bytes) else content((data, "latin-1"))
                return raw if raw is NotImplemented else struct.unpack(layout, raw)[0]
    return NotImplemented


def array(arguments: Arguments) -> Any:
    """Return an array whose shape, dtype and bytes stay opaque."""
    match arguments:
        case (Opaque("numpy", "ndarray"), (0,), b"b" | "b"):
            return Opaque("numpy", "ndarray", {})
        case (bytes(), Opaque("numpy"), tuple(), str()):
            return Opaque("numpy", "ndarray", arguments)
    return NotImplemented
