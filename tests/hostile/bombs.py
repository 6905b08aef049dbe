"""Small files that ask for much: depth, size, time, or bytes that are not theirs."""

import json
import struct
from collections.abc import Iterator

from hostile.assembler import (
    call,
    dict_of,
    integer,
    legacy,
    name,
    program,
    storage,
    tensor,
    text,
    tuple_of,
)
from hostile.zips import Member, checkpoint, checkpoint_members, zip_of

FOUR = bytes(16)
GOOD = program(dict_of(state_dict=dict_of(weight=tensor())))


def pickle_bombs() -> Iterator[tuple[str, bytes]]:
    """Yield names and pickles; each refers to one storage '0' of four floats."""
    yield "deep tuples", program(b")" + b"\x85" * 200_000)
    yield "deep tuple as a key", program(b"})" + b"\x85" * 200_000 + b"Ns")
    yield "deep tuple in a set", program(b"\x8f()" + b"\x85" * 200_000 + b"\x90")
    yield "deep lists", program(b"]" * 200_000 + b"a" * 199_999)
    yield "deep dicts", program(b"}" + b"K\1}" * 200_000 + b"s" * 200_000)
    yield "deep marks", program(b"(" * 100_000 + b"t" * 100_000)
    yield "deep objects", program(b"N" + (b"q\0" + b"0" + name("argparse", "Namespace") + b")\x81}K\1h\0sb") * 9_000)
    yield "nested list in a key", program(b"}]\x85Ns")
    yield "billion laughs", program(b"]" + b"q\0" + b"0(h\0h\0lq\0" * 60)
    yield "cycle", program(b"]q\0h\0a")
    yield "cycle of a dict", program(b"}q\0K\1h\0s")
    yield "memo flood", program(b"".join(b"]r" + struct.pack("<I", index) for index in range(250_000)))
    yield "stack flood", program(b"}" * 3_000_000)
    yield "list flood", program(b"(" + b"]K\1a" * 900_000 + b"l")
    yield "call flood", program(name("collections", "OrderedDict") + b"q\0" + b"h\0)R" * 500_000)
    yield (
        "tensor flood",
        program(
            name("torch._utils", "_rebuild_tensor")
            + b"q\0"
            + tuple_of(storage(), b"K\0", b"(K\4t", b"(K\1t")
            + b"q\1(" * 1
            + b"h\0h\1R" * 400_000
            + b"t"
        ),
    )
    yield (
        "copied bytes",
        program(text("é" * 500_000) + text("latin1") + b"\x86q\0" + _repeated_call("_codecs", "encode")),
    )
    pairs = b"".join(text(str(index)) + b"N\x86" for index in range(50_000))
    yield "copied pairs", program(b"](" + pairs + b"e\x85q\0" + _repeated_call("collections", "OrderedDict"))
    yield (
        "long path",
        program(
            b"(" + text("x" * 1_000_000) + b"q\1" + b"h\1" * 200_000 + b"tq\0" + _repeated_call("pathlib", "PosixPath")
        ),
    )
    yield "large state", program(dict_of(a=b"N") + b"q\0" + (name("argparse", "Namespace") + b")\x81h\0bh\0b") * 2)
    yield "colliding keys", program(b"}(" + b"".join(integer(k * (2**61 - 1)) + b"N" for k in range(50_000)) + b"u")
    yield "tuple keys", program(b"}(" + b"".join(integer(k) + b"\x85N" for k in range(50_000)) + b"u")
    yield "wide tuple key", program(b"}(" + b"K\1" * 100_000 + b"tNs")
    yield "equal long keys", program(b"}" + text("k" * 900_000) + b"Ns" * 1)
    yield "long string", program(b"X\xff\xff\xff\xff" + b"x" * 100)
    yield "longer string", program(b"\x8d" + b"\xff" * 8 + b"x" * 100)
    yield "negative string", program(b"T\xff\xff\xff\xff" + b"x" * 100)
    yield "long integer", program(b"\x8b\xff\xff\xff\x7f" + b"\1" * 100)
    yield "many digits", program(b"L" + b"9" * 900_000 + b"L\n")
    yield "digits of a memo", program(b"Np" + b"9" * 900_000 + b"\n")
    yield "endless line", program(b"c" + b"x" * 2_000_000)
    yield "bytearray of a length", program(call("builtins", "bytearray", integer(2**32)))
    yield "large size", program(call("torch", "Tensor", integer(2**40)))
    for numbers in ((2**62, 1), (2**31, 1), (5, 1), (-1, 1), (4, -1), (4, 1, 1), (4, 2), (2**200, 1)):
        size, stride, *offset = numbers
        yield (
            f"tensor of size {size}, stride {stride}, offset {offset}",
            program(tensor(shape=(size,), stride=(stride,), offset=offset[0] if offset else 0)),
        )
    yield "stride 0", program(tensor(shape=(2**38,), stride=(0,)))
    yield "overlap", program(tensor(shape=(3, 2), stride=(1, 1)))
    yield "empty but huge", program(tensor(shape=(2**300, 0), stride=(1, 1)))
    yield "offset behind the end", program(tensor(shape=(0,), offset=5))
    yield "negative offset", program(tensor(offset=-1))
    yield "float size", program(tensor().replace(b"(" + integer(4) + b"t", b"(G" + struct.pack(">d", 4) + b"t"))
    yield "100,000 dimensions", program(tensor(shape=(1,) * 100_000, stride=(1,) * 100_000))
    yield "sizes without strides", program(tensor(shape=(2, 2), stride=(1,)))
    yield "setitem on a tensor", program(tensor() + b"K\0K\1s")
    yield "setitems on a tensor", program(tensor() + b"(K\0K\1u")
    yield "append to a tensor", program(tensor() + b"K\1a")
    yield "build on a tensor", program(tensor() + dict_of(data=b"N") + b"b")
    yield "build on a name", program(name("torch", "Size") + dict_of(a=b"N") + b"b")
    yield "call of a tensor", program(tensor() + b")R")
    yield "tensor of no storage", program(tensor(source=b"N"))
    yield "larger storage", program(tensor(storage(numel=5)))
    yield "smaller storage", program(tensor(storage(numel=3), shape=(3,)))
    yield "storage of wider elements", program(tensor(storage(kind="DoubleStorage")))
    yield "storage of an absurd length", program(tensor(storage(numel=2**70)))
    yield "storage that is not there", program(tensor(storage(key="1")))
    yield "storage outside the folder", program(tensor(storage(key="../version")))
    yield "storage that is no storage", program(tuple_of(text("module"), b"N", b"N", b"N") + b"Q")
    yield "persistent text", b"P0\n."
    yield "extension code", program(b"\x82\1")
    yield "out-of-band buffer", program(b"\x97")
    yield "unknown opcode", program(b"\xff")
    yield "protocol 6", b"\x80\x06N."
    yield "empty stack", program(b"")
    yield "two roots", program(b"NN")
    yield "unfinished mark", program(b"(N")
    yield "unknown memo", program(b"h\7")
    yield "odd items", program(b"}(Nu")
    yield "no pop left", program(b"00")
    yield "lone surrogate", program(b"V\\ud800\n")
    yield "no utf-8", program(b"X\2\0\0\0\xff\xff")
    yield "keywords", program(name("argparse", "Namespace") + b")" + dict_of(a=b"N") + b"\x92")


def zip_bombs() -> Iterator[tuple[str, bytes]]:
    """Yield names and zip archives around a good pickle, each with one lie."""

    def lie(index: int, before: bytes = b"", local: dict | None = None, central: dict | None = None) -> bytes:
        members = checkpoint_members(GOOD, {"0": FOUR})
        members[index] = Member(members[index].name, members[index].data, local or {}, central or {}, before)
        return zip_of(members)

    good = checkpoint_members(GOOD, {"0": FOUR})
    yield "deflated", lie(2, local={"method": 8}, central={"method": 8})
    yield "deflated in the directory only", lie(2, central={"method": 8})
    yield "encrypted", lie(2, local={"flags": 1}, central={"flags": 1})
    yield "strong encryption", lie(2, local={"flags": 64}, central={"flags": 64})
    yield "overlapping", lie(2, central={"offset": 0})
    yield "overlapping by a byte", lie(2, central={"offset": 10})
    yield "hidden between", lie(2, before=b"hidden")
    yield "hidden in front", lie(0, before=b"\x89PNG....")
    yield "hidden before the directory", zip_of(good, gap=b"hidden")
    yield "hidden behind", zip_of(good, tail=b"hidden")
    yield "comment", zip_of(good, tail=b"hidden", comment=6)
    yield "two names", lie(2, local={"name": b"archive/data/1"})
    yield "two sizes", lie(2, local={"size": 15, "packed": 15})
    yield "two checksums", lie(2, local={"crc": 1})
    yield "two flags", lie(2, local={"flags": 2048})
    yield "huge member", lie(2, local={"size": 2**31, "packed": 2**31}, central={"size": 2**31, "packed": 2**31})
    yield "zip64 member", lie(2, central={"size": 2**32 - 1, "extra": struct.pack("<2HQ", 1, 8, 2**60)})
    yield "zip64 offset", lie(2, central={"offset": 2**32 - 1, "extra": struct.pack("<2HQ", 1, 8, 2**60)})
    yield "zip64 without field", lie(2, central={"size": 2**32 - 1})
    yield "twice the same", zip_of([*good, Member("archive/data/0", FOUR)])
    yield "two pickles", zip_of([*good, Member("archive/data.pkl", GOOD)])
    yield "two folders", zip_of([*good, Member("other/data.pkl", GOOD)])
    yield "no folder", zip_of([Member("data.pkl", GOOD)])
    yield "slip", zip_of([*good, Member("archive/../../etc/passwd", b"x")])
    yield "absolute", zip_of([*good, Member("/etc/passwd", b"x")])
    yield "backslash", zip_of([*good, Member("archive\\x", b"x")])
    yield "control character", zip_of([*good, Member("archive/\x1b[2J", b"x")])
    yield "many members", zip_of([*good, *(Member(f"archive/data/x{index}", b"") for index in range(21_000))])
    yield "more members than there are", zip_of(good, count=60_000)
    yield "fewer members than there are", zip_of(good, count=3)
    yield "directory elsewhere", zip_of(good, start=0)
    yield "larger directory", zip_of(good, size=2**32 - 1)
    yield "big endian", zip_of([Member("archive/byteorder", b"big"), *(good[index] for index in (0, 2, 3))])
    yield "bytes behind the pickle", checkpoint(GOOD + b"x", {"0": FOUR})
    yield "second pickle", checkpoint(GOOD + GOOD, {"0": FOUR})
    yield "wrong checksum of the pickle", lie(0, local={"crc": 1}, central={"crc": 1})
    end = zip_of(good)[-22:]
    count, size, start = struct.unpack("<10xH2I2x", end)
    for title, numbers in {"count": (count + 1, size, start), "start": (count, size, start - 1)}.items():
        entries, total, first = numbers
        record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, total, first)
        locator = struct.pack("<4sIQI", b"PK\6\7", 0, start + size, 1)
        yield f"zip64 lies about its {title}", zip_of(good)[:-22] + record + locator + end


def legacy_bombs() -> Iterator[tuple[str, bytes]]:
    """Yield names and legacy checkpoints, each with one lie."""
    main = program(dict_of(weight=tensor(storage(legacy=True))))
    good = legacy(main, {"0": FOUR})
    yield "bytes behind", good + b"x"
    yield "second checkpoint", good + good
    yield "storage too long", legacy(main, {"0": FOUR * 2})
    yield "storage too short", legacy(main, {"0": FOUR[:8]})
    yield "storage that nobody needs", legacy(main, {"0": FOUR, "1": FOUR})
    yield "storage that is missing", legacy(main, {})
    yield "negative length", good[:-24] + struct.pack("<q", -4) + FOUR
    yield "huge length", legacy(program(tensor(storage(numel=2**61, legacy=True))), {"0": FOUR})
    yield "keys that are none", legacy(main + program(b"]N\x61"), {"0": FOUR})
    view = tuple_of(text("0v"), integer(3), integer(2))
    parts = (text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), integer(4), view)
    yield "view outside", legacy(program(tensor(tuple_of(*parts) + b"Q", shape=(2,))), {"0": FOUR})
    yield "big endian", good.replace(b"\x88", b"\x89", 1)
    yield "wrong layout", good.replace(b"M\xe9\x03", b"M\xe8\x03")


def safetensors(header: object, data: bytes = FOUR) -> bytes:
    """Return a safetensors file with any header."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: object = "F32", shape: object = (4,), offsets: object = (0, 16)) -> dict[str, object]:
    """Return the description of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def safetensors_bombs() -> Iterator[tuple[str, bytes]]:
    """Yield names and safetensors files, each with one lie."""
    for title, header in {
        "unknown dtype": {"a": entry("F8_E4M3")},
        "dtype that is a list": {"a": entry(["F32"])},
        "negative size": {"a": entry(shape=(-4,))},
        "float size": {"a": entry(shape=(4.0,))},
        "boolean size": {"a": entry("F64", shape=(True, 2))},
        "size of 2**64": {"a": entry(shape=(2**64,))},
        "overflow": {"a": entry(shape=(2**62, 4), offsets=(0, 0))},
        "nine dimensions": {"a": entry(shape=(4,) + (1,) * 8)},
        "100,000 dimensions": {"a": entry(shape=(4,) + (1,) * 99_999)},
        "offsets reversed": {"a": entry(offsets=(16, 0))},
        "offset below zero": {"a": entry(offsets=(-16, 0))},
        "three offsets": {"a": entry(offsets=(0, 16, 32))},
        "too few bytes": {"a": entry(offsets=(0, 12))},
        "gap": {"a": entry("F64", (1,), (8, 16))},
        "overlap": {"a": entry(), "b": entry("F64", (1,), (8, 16))},
        "same bytes twice": {"a": entry(), "b": entry()},
        "bytes behind": {"a": entry("F64", (1,), (0, 8))},
        "more than there is": {"a": entry("F32", (5,), (0, 20))},
        "extra field": {"a": entry() | {"more": 1}},
        "no dtype": {"a": {"shape": (4,), "data_offsets": (0, 16)}},
        "tensor that is none": {"a": 1},
        "control character in a name": {"a\x1b[2J": entry()},
        "long name": {"a" * 513: entry()},
        "empty name": {"": entry()},
        "metadata that is none": {"__metadata__": [], "a": entry()},
        "number in the metadata": {"__metadata__": {"a": 1}, "a": entry()},
        "list": [entry()],
        "many tensors": {str(index): entry("F32", (0,), (0, 0)) for index in range(20_001)} | {"a": entry()},
    }.items():
        yield title, safetensors(header)
    one = json.dumps(entry()).encode()
    yield "same name twice", safetensors(b'{"a":' + one + b',"a":' + one + b"}")
    yield "same field twice", safetensors(b'{"a":' + one[:-1] + b',"dtype":"F32"}}')
    yield "deep JSON", safetensors(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    yield "many lists", safetensors(b'{"a":[' + b"[]," * 3_000_000 + b"[]]}")
    yield "many pairs", safetensors(b'{"a":{' + b",".join(b'"%x":1' % index for index in range(900_000)) + b"}}")
    yield "digits", safetensors(b'{"a":' + b"9" * 1_000_000 + b"}")
    yield "not a number", safetensors(b'{"a":NaN}')
    yield "no utf-8", safetensors(b'{"\xff":1}')
    yield "header too long", struct.pack("<Q", 10_000_001) + b"{" + b" " * 10_000_001
    yield "header longer than the file", struct.pack("<Q", 1000) + b"{}"


def _repeated_call(module: str, attribute: str) -> bytes:
    """Call with the tuple in memo 0, which lies on the stack, 100,000 times."""
    return b"0" + name(module, attribute) + b"q\2(" + b"h\2h\0R" * 100_000 + b"t"


def all_bombs() -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of every hostile file."""
    for title, pickle in pickle_bombs():
        yield f"zip, {title}", checkpoint(pickle, {"0": FOUR})
        yield f"legacy, {title}", legacy(pickle, {"0": FOUR})
    for kind, bombs in (("zip", zip_bombs()), ("legacy", legacy_bombs()), ("safetensors", safetensors_bombs())):
        for title, data in bombs:
            yield f"{kind}, {title}", data
