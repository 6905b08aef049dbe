"""The names that a checkpoint may use, as data: a closed table, and nothing in it is ever imported.

A pickle names classes and functions and asks for them to be called. Here a name is a pair of strings,
and a call is one row of `_CALLS`. What may be named beside these tables is said in the module `policy`.
"""

from typing import Any

from cxrzoo.checkpoint import meanings, numerics
from cxrzoo.checkpoint.meanings import ForeignClass, Meaning, Opaque
from cxrzoo.checkpoint.policy import may_have_objects, may_stand_bare
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

#: The dtypes of storages by their torch class; a storage without type counts bytes.
STORAGES = {
    ("torch", "DoubleStorage"): "F64",
    ("torch", "FloatStorage"): "F32",
    ("torch", "HalfStorage"): "F16",
    ("torch", "BFloat16Storage"): "BF16",
    ("torch", "LongStorage"): "I64",
    ("torch", "IntStorage"): "I32",
    ("torch", "ShortStorage"): "I16",
    ("torch", "CharStorage"): "I8",
    ("torch", "ByteStorage"): "U8",
    ("torch", "BoolStorage"): "BOOL",
    ("torch", "UntypedStorage"): "U8",
    ("torch.storage", "UntypedStorage"): "U8",
}

#: What Python 2, and numpy before 2.0, called these modules.
_ALIASES = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
    "numpy.core.numeric": "numpy._core.numeric",
}

_PATHS = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")

_ENUMERATIONS = (("timm.layers.format", "Format"), ("torchvision.transforms.functional", "InterpolationMode"))

_CALLS: dict[tuple[str, str], Meaning] = {
    ("torch._utils", "_rebuild_tensor"): meanings.tensor,
    ("torch._utils", "_rebuild_tensor_v2"): meanings.tensor,
    ("torch._utils", "_rebuild_parameter"): meanings.parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): meanings.parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): meanings.subclassed,
    ("torch", "Size"): meanings.members,
    ("torch", "device"): meanings.joined(":"),
    ("collections", "OrderedDict"): meanings.mapping,
    ("collections", "Counter"): meanings.mapping,
    ("collections", "defaultdict"): meanings.mapping,
    ("collections", "deque"): meanings.queue,
    ("builtins", "set"): meanings.members,
    ("builtins", "frozenset"): meanings.members,
    ("builtins", "bytes"): meanings.content,
    ("builtins", "bytearray"): meanings.content,
    ("builtins", "complex"): numerics.complex_number,
    ("_codecs", "encode"): meanings.content,
    ("copyreg", "_reconstructor"): meanings.reconstructed,
    ("copyreg", "__newobj__"): meanings.made,
    ("argparse", "Namespace"): meanings.instance("argparse", "Namespace"),
    ("types", "SimpleNamespace"): meanings.instance("types", "SimpleNamespace"),
    ("uuid", "UUID"): meanings.instance("uuid", "UUID"),
    ("datetime", "datetime"): meanings.moment("datetime"),
    ("datetime", "timedelta"): meanings.moment("timedelta"),
    **{("pathlib", name): meanings.joined("/") for name in _PATHS},
    **{("pathlib._local", name): meanings.joined("/") for name in _PATHS},
    ("numpy", "dtype"): numerics.dtype,
    ("numpy._core.multiarray", "scalar"): numerics.scalar,
    ("numpy._core.multiarray", "_reconstruct"): numerics.array,
    ("numpy._core.numeric", "_frombuffer"): numerics.array,
    # members of enumerations, which whole modules have as attributes
    **{pair: meanings.enumerated(*pair) for pair in _ENUMERATIONS},
}

# fmt: off
_DTYPES = (
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2",
)
_TYPES = ("object", "list", "dict", "tuple", "int", "float", "str", "bool")
# fmt: on

#: Names that may stand in a checkpoint as values, and can't be called.
_VALUES = {
    *STORAGES,
    *(("torch", name) for name in _DTYPES),
    *(("builtins", name) for name in _TYPES),
    ("torch", "Tensor"),
    ("torch.nn.parameter", "Parameter"),
    ("torch.nn.parameter", "Buffer"),
    ("torch._C._nn", "gelu"),
    *(("typing", name) for name in ("Any", "Dict", "List", "Tuple", "Union")),
    ("numpy", "ndarray"),
}

#: Kinds of tensors that safetensors can't hold, or that have no data, by a part of what rebuilds them.
_UNSUPPORTED = {
    "sparse": "a sparse tensor",
    "qtensor": "a quantised tensor",
    "nested": "a nested tensor",
    "meta": "a tensor without data (device 'meta')",
    "wrapper": "a tensor of a wrapper class",
    "tensor_v3": "a tensor of a rare dtype (unsigned 16 to 64 bits, or 8-bit float)",
    "device": "a tensor of a foreign device",
    "Complex": "a complex tensor",
    "QInt": "a quantised tensor",
    "QUInt": "a quantised tensor",
}


def find_name(module: str, name: str) -> Opaque | ForeignClass:
    """Return a name as data.

    Raises:
        CheckpointError: The name stands for a kind of tensor that can't be read.
        UnsafeCheckpointError: No checkpoint may hold it.
    """
    pair = (_ALIASES.get(module, module), name)
    if pair in _CALLS or pair in _VALUES:
        return Opaque(*pair)
    if (module == "torch._utils" and name.startswith("_rebuild")) or (module, name[-7:]) == ("torch", "Storage"):
        for part, kind in _UNSUPPORTED.items():
            if part in name:
                raise CheckpointError(
                    f"it holds {kind} ({module}.{name}); only dense tensors of the common dtypes can be read. "
                    "Convert it with torch, and save again."
                )
    if may_stand_bare(module, name):
        return Opaque(module, name)
    if may_have_objects(module, name):
        return ForeignClass(module, name)
    raise foreign(module, name)


def foreign(module: str, name: str) -> UnsafeCheckpointError:
    """Return the error for a name that a checkpoint may not hold, or not in this place."""
    full = f"{module[:200]}.{name[:200]}"
    shown = full if full.isprintable() else ascii(full)
    return UnsafeCheckpointError(
        f"it names {shown}, which was neither imported nor called: a checkpoint needs only tensors and plain "
        "data. If you trust its authors, load it where their code is at hand, and save `model.state_dict()`."
    )


def make(cls: object, arguments: object) -> Any:
    """Return the inert value that making an object of a class stands for.

    Raises:
        UnsafeCheckpointError: It stands for none.
    """
    value = meanings.made((cls,)) if arguments == () else NotImplemented
    return call(cls, arguments) if value is NotImplemented else value


def call(function: object, arguments: object) -> Any:
    """Return the inert value that a call stands for.

    Raises:
        UnsafeCheckpointError: It stands for none.
    """
    if isinstance(function, ForeignClass):
        raise foreign(function.module, function.name)
    if not isinstance(function, Opaque) or function.state is not None or type(arguments) is not tuple:
        raise UnsafeCheckpointError(f"its pickle calls a {type(function).__name__}, which is not a function.")
    meaning = _CALLS.get((function.module, function.name))
    value = NotImplemented if meaning is None else meaning(arguments)
    if value is NotImplemented:
        for argument in arguments:
            if isinstance(argument, ForeignClass):
                raise foreign(argument.module, argument.name)
        raise UnsafeCheckpointError(
            f"its pickle asks for a call of {function} with arguments that no real checkpoint has. It was "
            "neither imported nor called. Do not load this file by other means."
        )
    return value


def build(target: object, state: object) -> None:
    """Give the object `target` its attributes.

    Raises:
        UnsafeCheckpointError: It is a tensor, a bare name, or has its attributes already.
    """
    if type(target) is dict and type(state) is dict:
        return  # attributes of a mapping, such as torch's `_metadata`; its items are all it means to us
    if not isinstance(target, Opaque) or target.state != {} or not _is_state(state, target.items is not None):
        raise UnsafeCheckpointError(
            f"its pickle sets attributes ({type(state).__name__}) of a value ({type(target).__name__}) that has none. "
            "No real checkpoint does that."
        )
    # an object is completed here, once, and is frozen for everyone else
    object.__setattr__(target, "state", state)


def _is_state(state: object, is_foreign: bool) -> bool:
    """Return whether these are attributes, as objects have them by default: in a dict, and maybe in slots."""
    match state:
        case dict() | (dict() | None, dict()):
            return True
    return type(state) is tuple and not is_foreign  # numpy's own dtypes and arrays
