"""What the calls in a checkpoint mean: one function for each, from inert arguments to an inert value.

Each returns NotImplemented where the arguments are not those that torch, numpy or Python write. What
could still change is copied, as the call would, and the interpreter counts the bytes of all copies.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cxrzoo.checkpoint.policy import may_have_objects
from cxrzoo.checkpoint.tensors import Storage, Tensor, rebuild_tensor


@dataclass(frozen=True, eq=False, slots=True)
class Opaque:
    """A class, function or object that a checkpoint names, as inert text.

    `state` is None for a bare name; for an object, what the file gives it as attributes. An object of a foreign
    class also has `items`, which are empty unless that class is derived from dict.
    """

    module: str
    name: str
    state: Any = field(default=None, repr=False)  # objects may refer to each other in circles
    items: dict[Any, Any] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def attributes(self) -> dict[Any, Any]:
        """The attributes of an object, without those in slots; empty for anything else."""
        match self.state:
            case dict() as found:
                return found
            case (dict() as found, dict()):
                return found
        return {}


@dataclass(frozen=True, slots=True)
class ForeignClass:
    """The name of a class that is good for nothing but to make objects of it without arguments."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True, repr=False)
class StandIn:
    """What stands for a key of a dict that is a class or a tensor; no text equals it, so it names nothing."""

    text: str

    def __repr__(self) -> str:
        return self.text


Arguments = tuple[Any, ...]
Meaning = Callable[[Arguments], Any]


def instance(module: str, name: str) -> Meaning:
    """Return the meaning of making an object without arguments; its state comes later."""
    return lambda arguments: Opaque(module, name, {}) if arguments == () else NotImplemented


def made(arguments: Arguments) -> Any:
    """Return an object of a class, the only argument; its attributes come later."""
    match arguments:
        case (ForeignClass(module, name) | Opaque(module, name, None),) if may_have_objects(module, name):
            return Opaque(module, name, {}, {})
    return NotImplemented


def reconstructed(arguments: Arguments) -> Any:
    """Return an object made in the way of protocols 0 and 1."""
    match arguments:
        case (Opaque("argparse" | "types" | "uuid" as module, name), Opaque("builtins", "object"), None):
            return Opaque(module, name, {})
        case (cls, Opaque("builtins", "object"), None):
            return made((cls,))
    return NotImplemented


def enumerated(module: str, name: str) -> Meaning:
    """Return the meaning of a member of an enumeration: its value."""

    def look_up(arguments: Arguments) -> Any:
        match arguments:
            case (str() | int(),):
                return Opaque(module, name, arguments)
        return NotImplemented

    return look_up


def moment(name: str) -> Meaning:
    """Return the meaning of a date and time, or of a duration: the numbers that it is written as."""

    def keep(arguments: Arguments) -> Any:
        match arguments:
            case (bytes() as packed,) if len(packed) == 10:
                return Opaque("datetime", name, arguments)
            case (int(), int(), int()):
                return Opaque("datetime", name, arguments)
        return NotImplemented

    return keep


def queue(arguments: Arguments) -> Any:
    """Return the list that a deque is; its members come later, and its length is not limited."""
    match arguments:
        case () | ([],) | ([], int() | None):
            return []
    return NotImplemented


def mapping(arguments: Arguments) -> Any:
    """Return a dict for OrderedDict, Counter and defaultdict; default factories are dropped."""
    match arguments:
        case () | (Opaque() | None,):
            return {}
        case (dict() as items,):
            return dict(items)
        case (list() as pairs,) if all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs):
            # Python 2 wrote an OrderedDict as a list of pairs
            items = {key: value for key, value in pairs if type(key) is str}
            return items if len(items) == len(pairs) else NotImplemented
    return NotImplemented


def members(arguments: Arguments) -> Any:
    """Return the members of a set, a frozenset or a torch.Size."""
    match arguments:
        case (list() | tuple() as values,):
            return tuple(values)
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
