"""Family "structures": small files that ask for much depth, size, time or memory; with those of `bombs`."""

import functools
import pickle
import struct
from collections.abc import Callable

from cxrzoo.checkpoint.opcodes import MAX_INSTRUCTIONS
from hostile.assembler import call, dict_of, integer, legacy, name, program, storage, tensor, text
from hostile.bombs import FOUR, all_bombs, entry, safetensors
from hostile.verdicts import EITHER, READ, REFUSED, Verdict
from hostile.zips import Member, checkpoint, checkpoint_members, zip_of

_NAMESPACE = name("argparse", "Namespace") + b")\x81"
_DEPTHS = (100, 1000, 10_000, 200_000, 1_000_000)
_DEEP: dict[str, Callable[[int], bytes]] = {
    "tuple": lambda depth: b")" + b"\x85" * depth,
    "list": lambda depth: b"]" * depth + b"a" * (depth - 1),
    "dict": lambda depth: b"}" + b"K\1}" * depth + b"s" * depth,
    "tuple as a key": lambda depth: b"})" + b"\x85" * depth + b"Ns",
    "tuple in a set": lambda depth: b"\x8f()" + b"\x85" * depth + b"\x90",
    "frozenset": lambda depth: b"(" * depth + b"\x91" * depth,
    "list by the memo": lambda depth: b"]q\0" + b"0]h\0aq\0" * depth,
    "state": lambda depth: b"N" + (b"q\0" + b"0" + _NAMESPACE + b"}K\1h\0sb") * min(depth, 200_000),
}
_DOUBLED = {
    "list": b"0(h\0h\0lq\0",
    "tuple": b"0h\0h\0\x86q\0",
    "dict": b"0}(K\1h\0K\2h\0uq\0",
}
_LENGTHS: dict[str, bytes] = {
    "text": b"X" + struct.pack("<I", 2**32 - 1),
    "text of Python 2": b"T" + struct.pack("<I", 2**32 - 1),
    "text of 2**31": b"T" + struct.pack("<I", 2**31),
    "bytes": b"B" + struct.pack("<I", 2**32 - 1),
    "long text": b"\x8d" + struct.pack("<Q", 2**32 - 1),
    "longest text": b"\x8d" + struct.pack("<Q", 2**63),
    "long bytes": b"\x8e" + struct.pack("<Q", 2**32 - 1),
    "longest bytes": b"\x8e" + struct.pack("<Q", 2**64 - 1),
    "bytearray": b"\x96" + struct.pack("<Q", 2**40),
    "integer": b"\x8b" + struct.pack("<I", 2**31 - 1),
    "negative integer": b"\x8b" + struct.pack("<i", -1),
    "integer of 256 bytes": b"\x8b" + struct.pack("<I", 256) + b"\1" * 256,
}
_LONG = b"\x8a\xff" + b"\x7f" * 255
_MILLION = 1_000_000
#: As many instructions as there may be, but for those of the honest tensor beside.
_ALL = MAX_INSTRUCTIONS - 10_000


@functools.cache
def _pickles() -> dict[str, tuple[Callable[[], bytes], Verdict]]:
    """Return what leaves one value, by name, and the verdict on a checkpoint with that value in it."""
    found: dict[str, tuple[Callable[[], bytes], Verdict]] = {}
    for shape, build in _DEEP.items():
        for depth in _DEPTHS:
            found[f"{shape}, {depth} deep"] = (functools.partial(build, depth), REFUSED)
    for shape, step in _DOUBLED.items():
        for levels in (22, 40, 60):
            found[f"{shape}, doubled {levels} times"] = (lambda s=step, n=levels: b")q\0" + s * n, REFUSED)
    for title, start in _LENGTHS.items():
        found[f"length of a {title}"] = (lambda s=start: s + b"x" * 100, REFUSED)
    refused: dict[str, Callable[[], bytes]] = {
        "million keys": lambda: b"}(" + b"".join(b"J" + struct.pack("<i", n) + b"N" for n in range(_MILLION)) + b"u",
        "million text keys": lambda: b"}(" + b"".join(text(f"{n:x}") + b"N" for n in range(_MILLION)) + b"u",
        "million items, one by one": lambda: b"}" + b"".join(text(f"{n:x}") + b"Ns" for n in range(_MILLION)),
        "million members": lambda: b"\x8f(" + b"N" * _MILLION + b"\x90",
        "million memoised": lambda: b"]" + b"\x94" * _MILLION,
        "memo flood in digits": lambda: b"]" + b"".join(b"p%d\n" % n for n in range(250_000)),
        "integer of 255 bytes as a key": lambda: b"}" + _LONG + b"Ns",
        "integer of 255 bytes as a size": lambda: tensor().replace(b"(" + integer(4) + b"t", b"(" + _LONG + b"t", 1),
        "integer of 255 bytes as a length": lambda: tensor(storage().replace(integer(4), _LONG)),
        "list in itself": lambda: b"]q\0h\0a",
        "dict in itself": lambda: b"}q\0K\1h\0s",
        "tuple in itself": lambda: b"]q\0h\0\x85a",
        "set of itself": lambda: b"\x8fq\0(h\0\x90",
        "metadata of itself": lambda: b"}q\0K\1]q\1h\0ash\1" + b"0" + b"h\1h\1a",
        "bytes of a length": lambda: call("builtins", "bytes", integer(2**32)),
        "range": lambda: call("builtins", "range", integer(2**62)),
        "product": lambda: call("math", "factorial", integer(10**6)),
        "repeated": lambda: call("itertools", "repeat", b"N", integer(2**62)),
        "unbalanced marks": lambda: b"(" * _MILLION,
        "pops": lambda: b"0" * _MILLION,
    }
    found |= {title: (build, REFUSED) for title, build in refused.items()}
    # within every budget, so that it may be read, but in no more time and memory than the rest
    either: dict[str, Callable[[], bytes]] = {
        "all budgets, integer keys": lambda: b"}(" + b"".join(integer(n) + b"N" for n in range(_ALL // 2)) + b"u",
        "all budgets, text keys": lambda: b"}(" + b"".join(text(f"{n:x}") + b"N" for n in range(_ALL // 2)) + b"u",
        "keys with equal low bits": lambda: b"}(" + b"".join(integer(n << 40) + b"N" for n in range(_ALL // 2)) + b"u",
        "keys with equal high bits": lambda: (
            b"}(" + b"".join(integer((n << 38) % (2**61 - 1) % 2**60) + b"N" for n in range(_ALL // 2)) + b"u"
        ),
        "keys of floats": lambda: (
            b"}(" + b"".join(b"G" + struct.pack(">d", 2.0**-n) + b"N" for n in range(1000)) * (_ALL // 2000) + b"u"
        ),
        "keys that equal nothing": lambda: b"}(" + (b"G" + struct.pack(">d", float("nan")) + b"N") * (_ALL // 2) + b"u",
        "all budgets, lists": lambda: b"(" + b"]" * _ALL + b"l",
        "all budgets, dicts": lambda: b"(" + b"}NNs" * (_ALL // 4) + b"l",
        "all budgets, pairs": lambda: b"(" + b"N" + b"2\x86" * (_ALL // 2) + b"l",
        "all budgets, towers": lambda: b"(" + (b"N" + b"\x85" * 55) * (_ALL // 56) + b"l",
        "all budgets, memo": lambda: b"(" + b"]\x94" * min(190_000, _ALL // 2) + b"l",
        "all budgets, names": lambda: b"(" + name("torch", "Size") * _ALL + b"l",
        "all budgets, states": lambda: b"(" + (_NAMESPACE + dict_of(a=b"N") + b"b") * (_ALL // 9) + b"l",
        "all budgets, texts": lambda: b"(" + (b"X" + struct.pack("<I", 1 << 20) + b"x" * (1 << 20)) * 31 + b"l",
        "all budgets, wide texts": lambda: (
            b"(" + (b"X" + struct.pack("<I", 1 << 20) + ("\U0001f600" + "x" * ((1 << 20) - 4)).encode()) * 31 + b"l"
        ),
        "all budgets, long integers": lambda: b"(" + _LONG * min(110_000, _ALL) + b"l",
        "all budgets, decimals": lambda: b"(" + (b"L" + b"9" * 765 + b"L\n") * 42_000 + b"l",
        "long floats": lambda: b"(" + (b"F" + b"9" * 1_048_570 + b"\n") * 30 + b"l",
        "long small floats": lambda: b"(" + (b"F0." + b"0" * 1_048_500 + b"1e-9\n") * 30 + b"l",
        "many long floats": lambda: b"(" + (b"F0." + b"123456789" * 900 + b"e300\n") * 3_500 + b"l",
        "quoted text": lambda: b"(" + (b"S'" + b"x" * 1_048_500 + b"'\n") * 30 + b"l",
        "quoted escapes": lambda: b"(" + (b"S'" + b"\\x41" * 260_000 + b"'\n") * 30 + b"l",
        "quoted, broken at the end": lambda: b"S'" + b"\\x41x" * 200_000 + b"\\x'\n",
        "escaped text": lambda: b"(" + (b"V" + b"\\u0041" * 170_000 + b"\n") * 30 + b"l",
        "long name": lambda: b"c" + b"x" * 1_000_000 + b"\n" + b"y" * 1_000_000 + b"\n",
        "long stacked name": lambda: text("x" * 1_000_000) + text("y." * 500_000) + b"\x93",
        "keys of the longest text": lambda: b"}(" + b"".join(text(f"{n:04096}") + b"N" for n in range(7_900)) + b"u",
        "tensors by the memo": lambda: tensor() + b"q\0" + b"0(" + b"h\0" * _ALL + b"l",
        "50 times a long list": lambda: _shared(b"](" + b"N" * 75_000 + b"e"),
        "50 times a list of lists": lambda: _shared(b"](" + b"]" * 75_000 + b"e"),
        "names of one empty tensor": lambda: (
            tensor(shape=(0,)) + b"q\0" + b"0}(" + b"".join(text(f"{n:x}") + b"h\0" for n in range(_ALL // 2)) + b"u"
        ),
        "long names of mappings": lambda: _deep_names(),
        "doubled 20 times": lambda: b")q\0" + _DOUBLED["list"] * 20,
        "doubled 20 times, with tensors": lambda: tensor() + b"q\0" + _DOUBLED["dict"] * 20,
    }
    found |= {title: (build, EITHER) for title, build in either.items()}
    # what is made of a container is a copy, as Python makes one
    copies = {
        "dict of itself": b"}q\0K\1" + call("collections", "OrderedDict", b"h\0") + b"s",
        "size of itself": b"]q\0" + call("torch", "Size", b"h\0") + b"a",
    }
    found |= {title: (functools.partial(bytes, body), READ) for title, body in copies.items()}
    # few values, and millions of ways to them
    leaf = {"tensors": dict_of(w=tensor()), "nothing": dict_of(w=b"N")}
    found |= {f"36 keys on 4 levels, to {what}": (functools.partial(_graph, body), READ) for what, body in leaf.items()}
    copied = b"](" + b"N" * 50_000 + b"eq\0" + b"0("
    found["copied sets"] = (lambda: copied + call("builtins", "set", b"h\0") * 1_000 + b"l", REFUSED)
    found["memo of the largest index"] = (lambda: b"Nr\xff\xff\xff\xff", READ)
    found["frame of 2**64 - 1 bytes"] = (lambda: b"\x95" + b"\xff" * 8 + b"N", READ)
    found["index of 600 digits"] = (lambda: b"Np" + b"9" * 600 + b"\n", READ)
    found["state in itself"] = (lambda: _NAMESPACE + b"q\0}K\1h\0sb", EITHER)  # as those of real modules may be
    found["integer of 255 bytes"] = (lambda: _LONG, READ)
    return found


def _graph(leaf: bytes) -> bytes:
    """Return a dict with many paths to one leaf."""
    found = leaf
    for _ in range(4):
        found += b"q\0" + b"0}(" + b"".join(text(f"k{index}") + b"h\0" for index in range(36)) + b"u"
    return found


def _shared(value: bytes) -> bytes:
    """Return a dict with one value under many keys."""
    return value + b"q\0" + b"0}(" + b"".join(text(f"k{index}") + b"h\0" for index in range(50)) + b"u"


def _deep_names() -> bytes:
    """Return many mappings with a tensor, under keys as long as they may be."""
    leaves = b"".join(text(f"{index}") + b"}" + text("w") + b"h\0s" for index in range(_ALL // 6))
    return tensor() + b"q\0" + b"0" + (b"}" + text("x" * 200)) * 3 + b"}(" + leaves + b"u" + b"s" * 3


@functools.cache
def _files() -> dict[str, tuple[Callable[[], bytes], Verdict]]:
    """Return whole files of other kinds, and the verdict on them."""
    good = checkpoint_members(program(dict_of(state_dict=dict_of(weight=tensor()))), {"0": FOUR})
    many = [*good, *(Member(f"archive/data/x{index}", b"") for index in range(19_990))]
    numbers = b",".join([b"9" * 4299] * 2_300)
    tensors = {f"{index:0400}": entry(shape=(0,) * 8, offsets=(0, 0)) for index in range(19_000)}
    return {
        "zip, as many members as allowed": (lambda: zip_of(many), READ),
        "zip, of 100,000 members": (
            lambda: _zip64([*good, *(Member(f"archive/data/x{index}", b"") for index in range(100_000))]),
            REFUSED,
        ),
        "names of one empty tensor": (lambda: _named_alike(32), REFUSED),
        "long names of one empty tensor": (lambda: _named_alike(300), REFUSED),
        "legacy, four pickles of wide texts": (_wide_legacy, REFUSED),
        "tensor as a key, and its name": (
            lambda: checkpoint(program(b"}(" + text("tensor 1") + tensor() + tensor() * 2 + b"u"), {"0": FOUR}),
            REFUSED,
        ),
        "safetensors, as many tensors as allowed": (lambda: safetensors(tensors | {"a": entry()}), EITHER),
        "safetensors, long numbers": (lambda: safetensors(b'{"a":[' + numbers + b"]}"), REFUSED),
        "safetensors, long floats": (lambda: safetensors(b'{"a":0.' + b"1" * 9_900_000 + b"}"), REFUSED),
        "safetensors, large exponents": (lambda: safetensors(b'{"a":[' + b"1e999999999," * 800_000 + b"0]}"), REFUSED),
        "safetensors, escapes": (lambda: safetensors(b'{"' + b"\\u0041" * 1_600_000 + b'":0}'), REFUSED),
        "safetensors, surrogates": (lambda: safetensors(b'{"' + b"\\ud83d\\ude00" * 800_000 + b'":0}'), REFUSED),
        "safetensors, unended text": (lambda: safetensors(b'{"' + b"x" * 9_900_000), REFUSED),
        "safetensors, spaces": (lambda: safetensors(b"{" + b" " * 9_900_000), REFUSED),
        "safetensors, deep objects": (lambda: safetensors(b'{"a":' * 300_000 + b"}" * 300_000), REFUSED),
    }


def _named_alike(length: int) -> bytes:
    """Return a state_dict of as many tensors as there can be names; they share a storage, and need none."""
    names = b"".join(text(f"{n:x}".rjust(length, ".")) + b"h\0" for n in range(min(100_000, (30 << 20) // length)))
    body = tensor(shape=(0,)) + b"q\0" + b"0}(" + names + b"u"
    return checkpoint(program(body), {"0": FOUR})


def _wide_legacy() -> bytes:
    """Return a legacy checkpoint all of whose pickles hold texts of four bytes a character in memory."""
    wide = text("x" * 1_000_000 + "\U0001f600")
    texts = lambda count: b"(" + wide * count + b"l"  # noqa: E731
    head = b"".join(pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001))
    system = program(dict_of(little_endian=b"\x88", more=texts(31)))
    return head + system + program(texts(31)) * 2


def _zip64(members: list[Member]) -> bytes:
    """Return an archive of more members than the short end record can count."""
    data = zip_of(members, count=0xFFFF)
    size, start = struct.unpack("<2I", data[-10:-2])
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, len(members), len(members), size, start)
    return data[:-22] + record + struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1) + data[-22:]


def _beside(body: bytes, container: str) -> bytes:
    """Return a checkpoint of a good tensor, with another value beside it."""
    weight = tensor(storage(legacy=container == "legacy"))
    body = body.replace(storage(), storage(legacy=container == "legacy"))
    main = program(dict_of(state_dict=dict_of(weight=weight), more=body))
    return (checkpoint if container == "zip" else legacy)(main, {"0": FOUR})


@functools.cache
def _known() -> dict[str, bytes]:
    return dict(all_bombs())


def list_ids() -> list[str]:
    """Return the id of every case."""
    return [*list_bombs(), *list_structures(), *list_structures(within=True)]


def list_bombs() -> list[str]:
    """Return the ids of those that are in `bombs`."""
    return list(_known())


def list_structures(*, within: bool = False) -> list[str]:
    """Return the ids of the others: those beyond a budget or harmless, or those `within` all of them."""
    made = {f"{container}, with {title}": _pickles()[title] for title in _pickles() for container in ("zip", "legacy")}
    return [case for case, (_, verdict) in (made | _files()).items() if (verdict == EITHER) == within]


def make(case: str, seed: int) -> tuple[bytes, Verdict]:
    """Return a file and the verdict on it; there is nothing to draw."""
    container, _, title = case.partition(", with ")
    if title in _pickles():
        build, verdict = _pickles()[title]
        return _beside(build(), container), verdict
    if case in (files := _files()):
        build, verdict = files[case]
        return build(), verdict
    return _known()[case], REFUSED
