"""Family "headers": an honest safetensors file whose header is edited one value at a time."""

import functools
import json
import struct
from collections.abc import Callable
from itertools import product

from hostile.bombs import FOUR, entry, safetensors
from hostile.verdicts import READ, REFUSED, Verdict

_ONE = json.dumps({"a": entry()}).encode()
_LENGTHS = (0, 1, 7, 8, len(_ONE) - 1, len(_ONE) + 1, len(_ONE) + 16, len(_ONE) + 17, 2**31, 2**32, 2**63, 2**64 - 1)
#: JSON that is no integer from 0 to 2**63, or not the true one.
_WRONG = ("0.0", "16.0", "1e1", "-1", "-16", "17", "9223372036854775808", "18446744073709551616", '"16"', "null")
_WRONG += ("true", "[16]", "{}", "NaN", "Infinity", "1e999", "0x10", "016", "+16", "")
_DTYPES = ("F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "C64", "U16", "U32", "U64", "f32", "F32 ", "", "F32\0")
_OTHER_DTYPES = ("F64", "F16", "BF16", "I64", "I16", "I8", "U8", "BOOL")
_NAMES = {
    **{key: READ for key in ("a", "a.b", "../a", "/a", "a b", "a" * 512, "é", "😀", "constructor", "__metadata")},
    **{key: REFUSED for key in ("", "\0", "\x1b[2J", "a\nb", "a" * 513, "\u202ea", "\u200b", "\x7f", "\ud800")},
}


@functools.cache
def _cases() -> dict[str, tuple[Callable[[], bytes], Verdict]]:
    found: dict[str, tuple[Callable[[], bytes], Verdict]] = {"honest": (lambda: safetensors(_ONE), READ)}

    def add(title: str, header: object, verdict: Verdict = REFUSED, data: bytes = FOUR) -> None:
        found[title] = (lambda: safetensors(header, data), verdict)

    for length in _LENGTHS:
        found[f"header of {length} bytes"] = (lambda n=length: struct.pack("<Q", n) + _ONE + FOUR, REFUSED)
    for place, value in product(("shape", "start", "end", "dtype", "offsets", "sizes", "tensor"), _WRONG):
        if (place, value) in (("sizes", "[16]"),) or (place == "start" and value == ""):
            continue
        add(f"{place} {value}", _with(place, value))
    for dtype in _DTYPES:
        add(f"dtype {dtype!a}", {"a": entry(dtype)})
    for dtype in _OTHER_DTYPES:
        add(f"dtype {dtype} of another size", {"a": entry(dtype, (4 if dtype[-2:] != "32" else 3,), (0, 16))})
    for index, (name, verdict) in enumerate(_NAMES.items()):
        add(f"name {index}", {name: entry()}, verdict)
    metadata = {
        **{title: (READ, text) for title, text in {"plain": "pt", "ANSI": "\x1b[31mred", "1 MB": "x" * 10**6}.items()},
        **{f"of {json.dumps(value)}": (REFUSED, value) for value in (1, 1.5, None, True, [], {}, ["pt"], {"a": "b"})},
    }
    for title, (verdict, value) in metadata.items():
        add(f"metadata {title}", {"__metadata__": {"format": value}, "a": entry()}, verdict)
    add("metadata with a strange key", {"__metadata__": {"\x1b[2J": "x"}, "a": entry()}, READ)
    for value in (None, 1, "x", []):
        add(f"metadata that is {value!r}", {"__metadata__": value, "a": entry()})
    half = entry("F32", (2,), (0, 8))
    layouts = {
        "two halves": (READ, [(2, 0, 8), (2, 8, 16)]),
        "two halves, other order": (READ, [(2, 8, 16), (2, 0, 8)]),
        "overlap": (REFUSED, [(3, 0, 12), (2, 8, 16)]),
        "gap": (REFUSED, [(1, 0, 4), (2, 8, 16)]),
        "gap in front": (REFUSED, [(1, 4, 8), (2, 8, 16)]),
        "tail": (REFUSED, [(1, 0, 4), (2, 4, 12)]),
        "reversed": (REFUSED, [(2, 8, 0), (2, 8, 16)]),
        "same bytes": (REFUSED, [(4, 0, 16), (4, 0, 16)]),
        "one inside the other": (REFUSED, [(4, 0, 16), (1, 4, 8)]),
        "empty at the start": (READ, [(0, 0, 0), (4, 0, 16)]),
        "empty at the end": (READ, [(0, 16, 16), (4, 0, 16)]),
        "empty in the middle": (REFUSED, [(0, 8, 8), (4, 0, 16)]),
        "empty behind the end": (REFUSED, [(0, 17, 17), (4, 0, 16)]),
        "more than there is": (REFUSED, [(4, 0, 16), (1, 16, 20)]),
    }
    for title, (verdict, parts) in layouts.items():
        add(title, {"ab"[index]: entry("F32", (n,), (a, b)) for index, (n, a, b) in enumerate(parts)}, verdict)
    shapes = {"scalar of four": (), "product": (2, 3), "ones": (4, 1, 1, 1, 1, 1, 1, 1), "nine": (4,) + (1,) * 8}
    shapes |= {"overflow": (2**62, 2**62, 2**4), "zero times much": (0, 2**62), "100,000": (4,) + (1,) * 100_000}
    for title, shape in shapes.items():
        add(f"shape, {title}", {"a": entry(shape=shape)}, READ if title == "ones" else REFUSED)
    for depth, (opening, closing) in product((60, 1000, 100_000), (("[", "]"), ('{"a":', "}"))):
        nested = (opening * depth + "0" + closing * depth).encode()
        add(f"{opening} {depth} deep", b'{"a":' + nested + b"}")
        add(f"{opening} {depth} deep in the metadata", b'{"__metadata__":' + nested + b"," + _ONE[1:])
    one = json.dumps(half).encode()
    add("key twice, escaped", b'{"a":' + one + b',"\\u0061":' + json.dumps(entry("F32", (2,), (8, 16))).encode() + b"}")
    add("metadata twice", b'{"__metadata__":{},"__metadata__":{},' + _ONE[1:])
    add("key of the metadata twice", b'{"__metadata__":{"a":"1","a":"2"},' + _ONE[1:])
    for field in ("dtype", "shape", "data_offsets"):
        add(f"{field} twice", _ONE[:-2] + f',"{field}":0'.encode() + b"}}")
        add(f"no {field}", {"a": {key: value for key, value in entry().items() if key != field}})
    texts = {
        "space in front": b" " + _ONE,
        "mark of UTF-8": b"\xef\xbb\xbf" + _ONE,
        "UTF-16": _ONE.decode().encode("utf-16-le"),
        "zero behind": _ONE + b"\0",
        "second object": _ONE + b"{}",
        "comment": _ONE + b"//x",
        "trailing comma": _ONE[:-1] + b",}",
        "single quotes": _ONE.replace(b'"', b"'"),
        "control character in a text": b'{"a\n":' + json.dumps(entry()).encode() + b"}",
        "overlong UTF-8": b'{"\xc0\x80":' + json.dumps(entry()).encode() + b"}",
        "half a pair": b'{"\\ud800":' + json.dumps(entry()).encode() + b"}",
        "list": b"[]",
        "text": b'"a"',
        "empty": b"",
        "zeros": bytes(100),
    }
    for title, raw in texts.items():
        add(title, raw)
    add("spaces behind", _ONE + b" " * 100, READ)
    add("no tensor", {}, REFUSED, b"")
    add("no tensor, but data", {})
    add("no data", _ONE, REFUSED, b"")
    add("boolean of 2", {"a": entry("BOOL", (16,))}, REFUSED, b"\0\1\2" + bytes(13))
    add("boolean", {"a": entry("BOOL", (16,))}, READ, b"\0\1" * 8)
    return found


def _with(place: str, value: str) -> bytes:
    """Return a header with this JSON in a place of it."""
    parts = {"dtype": '"F32"', "shape": "4", "start": "0", "end": "16"}
    shape = value if place == "sizes" else f"[{value if place == 'shape' else parts['shape']}]"
    start, end = (value if place == which else parts[which] for which in ("start", "end"))
    offsets = value if place == "offsets" else f"[{start},{end}]"
    dtype = value if place == "dtype" else parts["dtype"]
    whole = f'{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}'
    return f'{{"a":{value if place == "tensor" else whole}}}'.encode()


def list_ids() -> list[str]:
    """Return the id of every case."""
    return list(_cases())


def make(case: str, seed: int) -> tuple[bytes, Verdict]:
    """Return a file and the verdict on it; there is nothing to draw."""
    build, verdict = _cases()[case]
    return build(), verdict
