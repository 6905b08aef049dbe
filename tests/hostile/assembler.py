"""An assembler of pickles: single opcodes, and calls of a global in every style there is."""

import pickle
import struct

CANARY = ("cxrzoo_canary", "boom")

#: Names that real exploits use; they come with inert arguments here.
GADGETS = [
    CANARY,
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("os", "execv"),
    ("os", "popen"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "compile"),
    ("builtins", "__import__"),
    ("builtins", "getattr"),
    ("builtins", "open"),
    ("builtins", "globals"),
    ("__builtin__", "apply"),
    ("importlib", "import_module"),
    ("runpy", "_run_code"),
    ("pty", "spawn"),
    ("socket", "create_connection"),
    ("webbrowser", "open"),
    ("ctypes", "CDLL"),
    ("code", "InteractiveInterpreter"),
    ("timeit", "timeit"),
    ("pdb", "run"),
    ("shutil", "rmtree"),
    ("pickle", "loads"),
    ("_pickle", "loads"),
    ("marshal", "loads"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("operator", "attrgetter"),
    ("functools", "partial"),
    ("urllib.request", "urlopen"),
    ("pydoc", "pipepager"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch.jit", "load"),
    ("torch.storage", "_load_from_bytes"),
    ("torch", "FloatTensor"),
    ("numpy", "load"),
    ("numpy.testing._private.utils", "runstring"),
    ("sys", "modules"),
    ("copyreg", "add_extension"),
    ("collections", "OrderedDict.fromkeys"),
]

STOP = b"."


def text(value: str) -> bytes:
    """Push a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    """Push an integer."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*values: bytes) -> bytes:
    """Push a tuple."""
    return b"(" + b"".join(values) + b"t"


def dict_of(**values: bytes) -> bytes:
    """Push a dict."""
    return b"}(" + b"".join(text(key) + value for key, value in values.items()) + b"u"


def name(module: str, attribute: str) -> bytes:
    """Push a global."""
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    """Push the result of a call."""
    return name(module, attribute) + tuple_of(*arguments) + b"R"


def storage(key: str = "0", kind: str = "FloatStorage", numel: int = 4, *, legacy: bool = False) -> bytes:
    """Push a storage by its persistent id."""
    view = b"N" if legacy else b""
    parts = (text("storage"), name("torch", kind), text(key), text("cpu"), integer(numel))
    return tuple_of(*parts, view) + b"Q"


def tensor(
    source: bytes | None = None,
    offset: int = 0,
    shape: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
) -> bytes:
    """Push a tensor, with whatever numbers."""
    sizes = (tuple_of(*map(integer, numbers)) for numbers in (shape, stride))
    hooks = call("collections", "OrderedDict")
    arguments = (source or storage(), integer(offset), *sizes, b"\x89", hooks)
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def styles(module: str, attribute: str) -> dict[str, bytes]:
    """Return the same global, used in every way that makes an unpickler import it."""
    named, argument = name(module, attribute), text("x")
    stacked = text(module) + text(attribute) + b"\x93"
    namespace = name("argparse", "Namespace") + b")\x81"
    return {
        "bare": named,
        "reduce": named + tuple_of(argument) + b"R",
        "reduce_empty": named + b")R",
        "inst": b"(" + argument + f"i{module}\n{attribute}\n".encode(),
        "obj": b"(" + named + argument + b"o",
        "newobj": named + b")\x81",
        "newobj_ex": named + b")}\x92",
        "build": named + b")\x81" + dict_of(a=argument) + b"b",
        "build_state": namespace + named + b"b",
        "stack_global": stacked + tuple_of(argument) + b"R",
        "memo_global": text(module) + b"q\x070" + text(attribute) + b"q\x080h\x07h\x08\x93)R",
        "persistent": tuple_of(text("storage"), named, text("0"), text("cpu"), b"K\1") + b"Q",
        "in_state_dict": dict_of(state_dict=dict_of(weight=named + tuple_of(argument) + b"R")),
        "as_key": b"}" + named + b")R" + argument + b"s",
        "after_pop": named + tuple_of(argument) + b"R0N",
        "reconstructed": name("copyreg", "_reconstructor") + tuple_of(named, name("builtins", "object"), b"N") + b"R",
    }


def program(body: bytes, protocol: int = 2) -> bytes:
    """Return a whole pickle around the opcodes that leave its root."""
    body += STOP
    frame = b"\x95" + struct.pack("<Q", len(body)) if protocol >= 4 else b""
    return (b"\x80" + bytes([protocol]) if protocol >= 2 else b"") + frame + body


def legacy(main: bytes, storages: dict[str, bytes] | None = None, item: int = 4, protocol: int = 2) -> bytes:
    """Return a legacy checkpoint around a pickle; `item` is the size of an element."""
    storages = storages or {}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    head = (0x1950A86A20F9469CFC6C, 1001, system)
    data = b"".join(struct.pack("<q", len(raw) // item) + raw for raw in storages.values())
    dumped = b"".join(pickle.dumps(value, protocol) for value in head)
    return dumped + main + pickle.dumps(list(storages), protocol) + data
