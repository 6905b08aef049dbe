"""Family "surgery": an honest zip checkpoint whose records are edited one at a time."""

import bz2
import functools
import lzma
import random
import struct
import zlib
from collections.abc import Callable
from itertools import product
from typing import Any

from hostile.bombs import FOUR, GOOD
from hostile.verdicts import EITHER, READ, REFUSED, Verdict
from hostile.zips import Member, checkpoint_members, zip_of

#: Places of the members: the pickle, the byte order, the storage, the version that nobody reads.
_PLACES = {"pickle": 0, "byteorder": 1, "storage": 2, "version": 3}
_SIDES = ("local", "central", "both")
_COMPRESSED: dict[str, tuple[int, Callable[[bytes], bytes]]] = {
    "deflate": (8, lambda data: zlib.compress(data, wbits=-15)),
    "deflate64": (9, lambda data: zlib.compress(data, wbits=-15)),
    "bzip2": (12, bz2.compress),
    "lzma": (14, lambda data: b"\x09\4\5\0" + lzma.compress(data, lzma.FORMAT_ALONE)[:5] + lzma.compress(data)),
    "stored, says zstd": (93, bytes),
    "stored, says 65535": (0xFFFF, bytes),
}
_END_FIELDS = {"disk": 4, "disk of the directory": 6, "members here": 8, "members": 10, "comment": 20}
_END_WIDE = {"size": 12, "start": 16}
_FLAGS = (1, 4, 8, 32, 64, 2048, 8192, 0xFFFF)


def _good() -> list[Member]:
    return checkpoint_members(GOOD, {"0": FOUR})


def _lies(member: Member) -> dict[str, Any]:
    """Return wrong values of each field of a header."""
    size, crc = len(member.data), zlib.crc32(member.data)
    honest, wide = member.name.encode(), {"size": 2**32 - 1, "packed": 2**32 - 1}
    return {
        **{f"name {index}": {"name": raw} for index, raw in enumerate(
            (b"archive/other", honest + b"x", honest[:-1] + b"\0", honest.upper(), b"", b"../" + honest, b"x" * 600)
        )},
        **{f"size {value}": {"size": value} for value in (0, size - 1, size + 1, 2**31, 2**32 - 2, 2**32 - 1)},
        **{f"packed {value}": {"packed": value} for value in (0, size - 1, size + 1, 2**31, 2**32 - 2, 2**32 - 1)},
        **{f"both sizes {value}": {"size": value, "packed": value} for value in (0, size - 1, size + 1, 2**31)},
        **{f"crc {change}": {"crc": (crc + change) % 2**32} for change in (1, -1, 2**31)},
        "crc 0": {"crc": 0},
        **{f"method {value}": {"method": value} for value in (8, 12, 14, 93, 99, 0xFFFF)},
        **{f"flags {value}": {"flags": value} for value in _FLAGS},
        **{f"zip64 {value}": {**wide, "extra": struct.pack("<2H2Q", 1, 16, value, value)}
           for value in (0, size - 1, size + 1, 2**32, 2**62, 2**64 - 1)},
        "zip64, short": {"size": 2**32 - 1, "extra": struct.pack("<2HI", 1, 4, size)},
        "zip64, unended": {"size": 2**32 - 1, "extra": struct.pack("<2H", 1, 0xFFFF)},
    }  # fmt: skip


def _is_harmless(place: str, side: str, lie: str) -> bool:
    """Return whether a lie changes nothing that is read: names and sums of a member that nobody reads, a flag."""
    if side == "both" and place == "version" and (lie.startswith("crc") or lie in ("name 0", "name 1", "name 3")):
        return True
    if side == "both" and place == "byteorder" and lie in ("name 0", "name 1", "name 3"):
        return True
    return side == "both" and lie == "flags 2048"


def _edited(place: str, side: str, lie: str) -> bytes:
    members = _good()
    member = members[_PLACES[place]]
    fields = _lies(member)[lie]
    local, central = (fields if side in (which, "both") else {} for which in ("local", "central"))
    members[_PLACES[place]] = Member(member.name, member.data, local, central)
    return zip_of(members)


def _compressed(place: str, method: str) -> bytes:
    members = _good()
    member = members[_PLACES[place]]
    code, pack = _COMPRESSED[method]
    data = pack(member.data)
    told = {"method": code, "size": len(member.data), "packed": len(data), "crc": zlib.crc32(member.data)}
    members[_PLACES[place]] = Member(member.name, data, told, told)
    return zip_of(members)


def _described(
    crc: int = 0, size: int = 0, mark: bytes = b"PK\7\x08", *, wide: bool = False, empty: bool = True
) -> bytes:
    """Return an archive whose storage has its numbers behind its data, with so much added to them."""
    members = _good()
    told = (zlib.crc32(FOUR) + crc, len(FOUR) + size, len(FOUR))
    tail = mark + struct.pack("<I2Q" if wide else "<3I", *told)
    local = {"flags": 8, **({"crc": 0, "size": 0, "packed": 0} if empty else {})}
    members[2] = Member(members[2].name, FOUR, local, {"flags": 8})
    members[3] = Member(members[3].name, members[3].data, {}, {}, tail)
    return zip_of(members)


def _patched(position: int, layout: str, value: int) -> bytes:
    """Return the archive with a field of its end record replaced; a negative value is added to it."""
    data = bytearray(zip_of(_good()))
    place = len(data) - 22 + position
    (old,) = struct.unpack_from(layout, data, place)
    struct.pack_into(layout, data, place, old + value if abs(value) == 1 else value)
    return bytes(data)


def _zip64(field: int | None = None, value: int = 0, *, locator: int = 0, disks: int = 1) -> bytes:
    """Return the archive with a zip64 end record, one of its ten fields replaced."""
    data = zip_of(_good())
    count, size, start = struct.unpack("<10xH2I2x", data[-22:])
    fields = [b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start]
    if field is not None:
        fields[field] = (fields[field] + value) % 2**32
    record = struct.pack("<4sQ2H2I4Q", *fields)
    return data[:-22] + record + struct.pack("<4sIQI", b"PK\6\7", 0, start + size + locator, disks) + data[-22:]


def _moved(change: int, *, other: int | None = None) -> bytes:
    """Return the archive with the storage's offset changed, or equal to that of another member."""
    members = _good()
    start = sum(30 + len(member.name) + len(member.data) for member in members[: 2 if other is None else other])
    members[2] = Member(members[2].name, FOUR, {}, {"offset": (start + change) % 2**32})
    return zip_of(members)


def _quoted() -> bytes:
    """Return an archive of which one member covers the header and the data of the next."""
    members = _good()
    inner = zip_of([members[3]])[: 30 + len(members[3].name) + len(members[3].data)]
    members[2] = Member(members[2].name, FOUR + inner)
    start = sum(30 + len(member.name) + len(member.data) for member in members[:2])
    covered = {"offset": start + 30 + len(members[2].name) + len(FOUR), "size": 2, "packed": 2}
    members[3] = Member(members[3].name, b"", {}, covered)
    return zip_of(members)


@functools.cache
def _cases() -> dict[str, tuple[Callable[[], bytes], Verdict]]:
    good = zip_of(_good())
    other = zip_of(checkpoint_members(GOOD, {"0": bytes(range(16))}))
    found: dict[str, tuple[Callable[[], bytes], Verdict]] = {}
    for place, side in product(_PLACES, _SIDES):
        for lie in _lies(_good()[_PLACES[place]]):
            verdict = EITHER if _is_harmless(place, side, lie) else REFUSED
            found[f"{place}, {side} {lie}"] = (lambda p=place, s=side, x=lie: _edited(p, s, x), verdict)
    for place, method in product(_PLACES, _COMPRESSED):
        found[f"{place}, {method}"] = (lambda p=place, m=method: _compressed(p, m), REFUSED)
    for place, raw in product(_PLACES, (FOUR, GOOD, b"")):
        double = Member(_good()[_PLACES[place]].name, raw)
        found[f"{place} twice, {len(raw)} bytes"] = (lambda d=double: zip_of([*_good(), d]), REFUSED)
        found[f"{place} twice, {len(raw)} bytes in front"] = (lambda d=double: zip_of([d, *_good()]), REFUSED)
    for field, value in product(_END_FIELDS, (1, -1, 2, 0x7FFF, 0xFFFF)):
        if field not in ("members here", "members") or value != 4:
            position = _END_FIELDS[field]
            if not (value == -1 and field in ("disk", "disk of the directory", "comment")):
                found[f"end, {field} {value}"] = (lambda p=position, v=value: _patched(p, "<H", v), REFUSED)
    for field, value in product(_END_WIDE, (0, 1, -1, 2**31, 2**32 - 1)):
        found[f"end, {field} {value}"] = (lambda p=_END_WIDE[field], v=value: _patched(p, "<I", v), REFUSED)
    for field, value in product((1, 4, 5, 6, 7, 8, 9), (1, -1, 2**31)):
        found[f"zip64 end, field {field} {value}"] = (lambda f=field, v=value: _zip64(f, v), REFUSED)
    for size in (1, 4, 22, 100, 65_535):
        junk = random.Random(size).randbytes(size)
        found[f"{size} bytes in front"] = (lambda j=junk: j + good, REFUSED)
        found[f"{size} bytes behind"] = (lambda j=junk: good + j, REFUSED)
        found[f"comment of {size} bytes"] = (lambda j=junk: good[:-2] + struct.pack("<H", len(j)) + j, REFUSED)
    found |= {
        "honest": (lambda: good, READ),
        "honest, zip64": (_zip64, READ),
        "honest, descriptor": (_described, READ),
        "honest, wide descriptor": (lambda: _described(wide=True), READ),
        "honest, descriptor and numbers": (lambda: _described(empty=False), READ),
        "descriptor of another crc": (lambda: _described(crc=1), REFUSED),
        "descriptor of another size": (lambda: _described(size=1), REFUSED),
        "descriptor without mark": (lambda: _described(mark=b""), REFUSED),
        "descriptor missing": (lambda: _edited("storage", "both", "flags 8"), REFUSED),
        "zip64 locator before": (lambda: _zip64(locator=-1), REFUSED),
        "zip64 locator behind": (lambda: _zip64(locator=1), REFUSED),
        "zip64 of two disks": (lambda: _zip64(disks=2), REFUSED),
        "second end in a comment": (lambda: good[:-2] + struct.pack("<H", 22) + other[-22:], REFUSED),
        "second archive in a comment": (lambda: good[:-2] + struct.pack("<H", len(other)) + other, REFUSED),
        "two archives": (lambda: good + other, REFUSED),
        "two ends": (lambda: good + good[-22:], REFUSED),
        "quoted overlap": (_quoted, REFUSED),
        "nothing but an end": (lambda: good[-22:], REFUSED),
        "no members": (lambda: zip_of([]), REFUSED),
        "no pickle": (lambda: zip_of(_good()[1:]), REFUSED),
        "no storage": (lambda: zip_of([member for index, member in enumerate(_good()) if index != 2]), REFUSED),
        "no version": (lambda: zip_of(_good()[:-1]), READ),
        "any order": (lambda: zip_of(_good()[::-1]), READ),
        "a folder as member": (lambda: zip_of([*_good(), Member("archive/data/", b"")]), REFUSED),
        "a name of two kinds": (lambda: zip_of([*_good(), Member("archive/data", b"x")]), EITHER),
        "a program": (lambda: zip_of([*_good(), Member("archive/code/x.py", b"pass")]), REFUSED),
        "constants": (lambda: zip_of([*_good(), Member("archive/constants.pkl", GOOD)]), REFUSED),
    }
    for change in (-1, 1, -30, 30, 2**31, 2**32 - 1):
        found[f"offset {change}"] = (lambda c=change: _moved(c), REFUSED)
    for index in (0, 1, 3):
        found[f"offset of member {index}"] = (lambda i=index: _moved(0, other=i), REFUSED)
    return found


def list_ids() -> list[str]:
    """Return the id of every case."""
    return list(_cases())


def make(case: str, seed: int) -> tuple[bytes, Verdict]:
    """Return a file and the verdict on it; there is nothing to draw."""
    build, verdict = _cases()[case]
    return build(), verdict
