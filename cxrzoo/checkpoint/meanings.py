"""What the calls in a checkpoint mean: one function for each, from inert arguments to an inert value.

Each returns NotImplemented where the arguments are not those that torch, numpy or Python write. Values
are handed on and not copied wherever that can be, since copies of copies would be a bomb.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cxrzoo.checkpoint.tensors import Storage, Tensor, rebuild_tensor


@dataclass(frozen=True, eq=False, slots=True)
class Opaque:
    """A class, function or object that a checkpoint names, as inert text.

    `state` is None for a bare name; for an object, what the file gives it as attributes.
    """

    module: str
    name: str
    state: Any = None

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


Arguments = tuple[Any, ...]
Meaning = Callable[[Arguments], Any]

#: struct's letters for numpy's numbers.
_NUMBERS = {
    **{"f2": "e", "f4": "f", "f8": "d", "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q"},
    **{"u1": "B", "u2": "H", "u4": "I", "u8": "Q"},
}


def instance(module: str, name: str) -> Meaning:
    """Return the meaning of making an object without arguments; its state comes later."""
    return lambda arguments: Opaque(module, name, {}) if arguments == () else NotImplemented


def reconstructed(arguments: Arguments) -> Any:
    """Return an object made in the way of protocols 0 and 1."""
    match arguments:
        case (Opaque("argparse" | "types" as module, name), Opaque("builtins", "object"), None):
            return Opaque(module, name, {})
    return NotImplemented


def mapping(arguments: Arguments) -> Any:
    """Return a dict for OrderedDict, Counter and defaultdict; default factories are dropped."""
    match arguments:
        case () | (Opaque() | None,):
            return {}
        case (dict() as items,):
            return items
        case (list() as pairs,) if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            # Python 2 wrote an OrderedDict as a list of pairs
            items = {key: value for key, value in pairs if type(key) is str}
            return items if len(items) == len(pairs) else NotImplemented
    return NotImplemented


def members(arguments: Arguments) -> Any:
    """Return the members of a set, a frozenset or a torch.Size."""
    match arguments:
        case (list() | tuple() as values,):
            return values
        case ():
            return ()
    return NotImplemented


def joined(separator: str) -> Meaning:
    """Return the meaning of a path or a device: its parts as one text."""

    def join(arguments: Arguments) -> Any:
        if len(arguments) > 100 or any(type(part) not in (str, int) for part in arguments):
            return NotImplemented
        parts = [str(part) for part in arguments]
        return separator.join(parts) if sum(map(len, parts)) <= 4096 else NotImplemented

    return join


def content(arguments: Arguments) -> Any:
    """Return the bytes of bytes, bytearray and `_codecs.encode`; never a length to be filled with zeros."""
    match arguments:
        case (str() as characters, "latin1" | "latin-1"):
            try:
                return characters.encode("latin-1")
            except UnicodeEncodeError:
                return NotImplemented
        case (bytes() as data,):
            return data
        case ():
            return b""
    return NotImplemented


def complex_number(arguments: Arguments) -> Any:
    """Return a complex number as the pair of its parts."""
    match arguments:
        case (float(), float()):
            return Opaque("builtins", "complex", arguments)
    return NotImplemented


def tensor(arguments: Arguments) -> Any:
    """Return a dense tensor; its gradient flag and hooks are dropped, marks such as `conj` are not known."""
    match arguments:
        case (Storage() as storage, offset, tuple() as shape, tuple() as stride, *rest):
            if len(rest) in (0, 2) or (len(rest) == 3 and not rest[2]):
                return rebuild_tensor(storage, offset, shape, stride)
    return NotImplemented


def parameter(arguments: Arguments) -> Any:
    """Return the tensor of a parameter."""
    match arguments:
        case (Tensor() as data, *rest) if len(rest) in (2, 3):
            return data
    return NotImplemented


def subclassed(arguments: Arguments) -> Any:
    """Return the tensor of a subclass, or of one with attributes, without either."""
    match arguments:
        case (Opaque("torch._utils", "_rebuild_tensor_v2"), Opaque(), tuple() as inner, _):
            return tensor(inner)
        case (Opaque("torch._utils", "_rebuild_parameter"), Opaque(), tuple() as inner, _):
            return parameter(inner)
    return NotImplemented


def numpy_dtype(arguments: Arguments) -> Any:
    """Return numpy's dtype, its code as part of the name; its state comes later."""
    match arguments:
        case (str() as code, *rest) if len(code) <= 16 and len(rest) <= 2:
            return Opaque("numpy", f"dtype {code}", {})
    return NotImplemented


def numpy_scalar(arguments: Arguments) -> Any:
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


def numpy_array(arguments: Arguments) -> Any:
    """Return an array whose shape, dtype and bytes stay opaque."""
    match arguments:
        case (Opaque("numpy", "ndarray"), (0,), b"b" | "b"):
            return Opaque("numpy", "ndarray", {})
        case (bytes(), Opaque("numpy"), tuple(), str()):
            return Opaque("numpy", "ndarray", arguments)
    return NotImplemented
