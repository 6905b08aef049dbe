"""Family "lies": tensors whose numbers, storages, keys or kinds are not true.

What is true of four numbers and one storage is decided here, by arithmetic of its own.
"""

import math
import random
import struct
from collections.abc import Sequence
from itertools import product

from hostile.assembler import call, dict_of, integer, legacy, name, program, storage, tensor, text, tuple_of
from hostile.bombs import FOUR
from hostile.verdicts import READ, REFUSED, Verdict, naming
from hostile.zips import checkpoint

_N = 4
_NUMBERS = (0, -1, 1, _N - 1, _N, _N + 1, 2**31, 2**62)
_ITEMS = {
    **{"Double": 8, "Float": 4, "Half": 2, "BFloat16": 2, "Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1},
    **{"Bool": 1, "Untyped": 1},
}
_OTHERS = ("ComplexFloat", "ComplexDouble", "QInt8", "QInt32", "QUInt8", "QUInt4x2", "Float8_e4m3fn", "UInt16")
_KEYS = ("/", "..", ".", "", "\0", "0\0", "0/", "./0", "../data/0", "../data.pkl", "/etc/passwd", "0\\", "0" * 101, "٠")
_NAMES = {
    **{key: READ for key in ("a", "../a", "/a", "a b", "a" * 512, "é", "😀", "{}", "__proto__")},
    **{key: REFUSED for key in ("", "\0", "a\x1b[2J", "a\nb", "a" * 513, "\u202ea", "\ufeff", "a\tb", "\u2028")},
}
_REBUILDS = (
    *("_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor", "_rebuild_qtensor", "_rebuild_nested_tensor"),
    *("_rebuild_meta_tensor_no_storage", "_rebuild_wrapper_subclass", "_rebuild_tensor_v3"),
    *("_rebuild_device_tensor_from_numpy", "_rebuild_device_tensor_from_cpu_tensor", "_rebuild_xla_tensor"),
)
#: Constructors that would hand out memory that nobody wrote, or as much of it as the file likes.
_UNINITIALISED: dict[str, tuple[str, str, Sequence[bytes]]] = {
    "Tensor": ("torch", "Tensor", [integer(1024)]),
    "FloatTensor": ("torch", "FloatTensor", [integer(1024)]),
    "FloatStorage": ("torch", "FloatStorage", [integer(1024)]),
    "UntypedStorage": ("torch.storage", "UntypedStorage", [integer(1024)]),
    "TypedStorage": ("torch.storage", "TypedStorage", [integer(1024)]),
    "Parameter": ("torch.nn.parameter", "Parameter", [integer(1024)]),
    "empty": ("torch", "empty", [integer(1024)]),
    "empty_strided": ("torch", "empty_strided", [tuple_of(integer(1024)), tuple_of(integer(1))]),
    "ndarray": ("numpy", "ndarray", [tuple_of(integer(1024))]),
    "numpy_empty": ("numpy", "empty", [integer(1024)]),
    "reconstruct": ("numpy._core.multiarray", "_reconstruct", [name("numpy", "ndarray"), b"(K\x09t", text("b")]),
    "bytearray": ("builtins", "bytearray", [integer(2**32)]),
    "bytes": ("builtins", "bytes", [integer(2**32)]),
    "array": ("array", "array", [text("d"), integer(2**32)]),
    "mmap": ("mmap", "mmap", [integer(-1), integer(2**32)]),
}
_STYLES = ("reduce", "new", "obj", "inst")
_RANDOM = "random"


def list_ids() -> list[str]:
    """Return the id of every case: the lie, the container, and what it is about."""
    numbers = ["/".join(map(str, ("numbers", c, *four))) for c in _BUILDERS for four in product(_NUMBERS, repeat=4)]
    views = ["/".join(map(str, ("view", "legacy", *two))) for two in product(_NUMBERS, repeat=2)]
    classes = ["/".join(map(str, ("class", *it))) for it in product(_BUILDERS, (*_ITEMS, *_OTHERS), (-1, 0, 1, 16))]
    rest = {
        "key": range(len(_KEYS)),
        "name": range(len(_NAMES)),
        "aliases": (2, 16, 17, 1000),
        "rebuild": _REBUILDS,
        "uninitialised": [f"{made}-{style}" for made, style in product(_UNINITIALISED, _STYLES)],
        "type": range(len(_types())),
        _RANDOM: ("",),
    }
    others = [f"{lie}/{container}/{which}" for lie in rest for which in rest[lie] for container in _BUILDERS]
    return numbers + views + classes + others


def make(case: str, seed: int) -> tuple[bytes, Verdict]:
    """Return a file and the verdict on it; only the id "random" draws anything."""
    lie, container, *rest = case.split("/")
    build, old = _BUILDERS[container], container == "legacy"
    match lie:
        case "numbers":
            numel, size, stride, offset = map(int, rest)
            main = tensor(storage(numel=numel, legacy=old), offset, (size,), (stride,))
            return build(main, FOUR, 4), _truth(numel, (size,), (stride,), offset)
        case "random":
            generator = random.Random(f"{case}/{seed}")
            small = (0, 1, 2, 3)
            pick = [generator.choice(_NUMBERS if generator.random() < 0.1 else small) for _ in range(7)]
            axes = generator.randrange(4)
            shape, stride = tuple(pick[:axes]), tuple(pick[3 : 3 + axes])
            main = tensor(storage(legacy=old), pick[6], shape, stride)
            return build(main, FOUR, 4), _truth(_N, shape, stride, pick[6])
        case "view":
            first, length = map(int, rest)
            view = tuple_of(text("0v"), integer(first), integer(length))
            parts = (text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(_N), view)
            inside = first >= 0 and length > 0 and first + length <= _N
            return build(tensor(tuple_of(*parts) + b"Q", shape=(1,)), FOUR, 4), READ if inside else REFUSED
        case "class":
            kind, more = rest[0], int(rest[1])
            item = _ITEMS.get(kind, 4)
            source = storage(kind=f"{kind}Storage", numel=16 // item, legacy=old)
            true = more == 0 and kind in _ITEMS
            data = b"\0\1" * 8 + b"\0" * more if more >= 0 else b"\0\1" * 7 + b"\0"
            return build(tensor(source, shape=(1,)), data, item), READ if true else REFUSED
        case "key":
            return build(tensor(storage(_KEYS[int(rest[0])], legacy=old)), FOUR, 4), REFUSED
        case "name":
            title, verdict = list(_NAMES.items())[int(rest[0])]
            return build(tensor(storage(legacy=old)), FOUR, 4, title), verdict
        case "aliases":
            return _aliases(int(rest[0]), container), READ if int(rest[0]) <= 16 else REFUSED
        case "rebuild":
            verdict = naming("torch._utils", rest[0], unsafe=False)
            return build(call("torch._utils", rest[0], storage(legacy=old), b"K\0"), FOUR, 4), verdict
        case "uninitialised":
            made, style = rest[0].split("-")
            module, attribute, arguments = _UNINITIALISED[made]
            return build(_called(module, attribute, arguments, style), FOUR, 4), naming(module, attribute)
    return build(_types(legacy=old)[int(rest[0])], FOUR, 4), REFUSED


def _truth(numel: int, shape: Sequence[int], stride: Sequence[int], offset: int) -> Verdict:
    """Return whether these numbers describe a view of four floats that is no larger than they are."""
    if numel != _N or min((*shape, *stride, offset)) < 0:
        return REFUSED
    count = math.prod(shape)
    if count == 0:
        return READ if offset <= _N else REFUSED
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return READ if last < _N and count <= _N else REFUSED


def _types(*, legacy: bool = False) -> list[bytes]:
    """Return tensors with a value of the wrong type in the place of each number."""
    wrong = [b"N", b"\x88", text("4"), b"G" + struct.pack(">d", 4.0), b"]", b"}", b")", tuple_of(integer(4))]
    source, four = storage(legacy=legacy), tuple_of(integer(4))
    hooks = call("collections", "OrderedDict")
    honest = [source, b"K\0", four, tuple_of(integer(1)), b"\x89", hooks]
    found = [storage(legacy=legacy).replace(integer(4), value, 1) for value in wrong]
    found = [call("torch._utils", "_rebuild_tensor_v2", value, *honest[1:]) for value in found]
    for place in range(4):
        for value in wrong:
            arguments = [*honest[:place], value, *honest[place + 1 :]]
            if (place, value) != (2, b")") and not (place in (2, 3) and value == tuple_of(integer(4))):
                found.append(call("torch._utils", "_rebuild_tensor_v2", *arguments))
    return found


def _called(module: str, attribute: str, arguments: Sequence[bytes], style: str) -> bytes:
    named, pushed = name(module, attribute), b"".join(arguments)
    match style:
        case "reduce":
            return named + b"(" + pushed + b"tR"
        case "new":
            return named + b"(" + pushed + b"t\x81"
        case "obj":
            return b"(" + named + pushed + b"o"
    return b"(" + pushed + f"i{module}\n{attribute}\n".encode()


def _aliases(count: int, container: str) -> bytes:
    shared = tensor(storage(legacy=container == "legacy")) + b"q\0"
    names = b"".join(text(f"w{index}") + b"h\0" for index in range(1, count))
    main = program(b"}(" + text("w0") + shared + names + b"u")
    return (checkpoint if container == "zip" else legacy)(main, {"0": FOUR})


def _zip(value: bytes, data: bytes, item: int, key: str = "weight") -> bytes:
    return checkpoint(program(dict_of(state_dict=dict_of(**{key: value}))), {"0": data})


def _legacy(value: bytes, data: bytes, item: int, key: str = "weight") -> bytes:
    main = program(dict_of(state_dict=dict_of(**{key: value})))
    return legacy(main, {"0": data}, item)


_BUILDERS = {"zip": _zip, "legacy": _legacy}
