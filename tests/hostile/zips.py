"""A writer of zip archives that can be told to lie."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Member:
    """A member; `local` and `central` replace fields of the two headers, `before` goes in front of it."""

    name: str
    data: bytes
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    before: bytes = b""


def zip_of(members: Sequence[Member], *, tail: bytes = b"", gap: bytes = b"", **end: int) -> bytes:
    """Return an archive of stored members; `end` replaces fields of its end record."""
    body, directory = bytearray(), bytearray()
    for member in members:
        body += member.before
        told = {
            "name": member.name.encode(),
            "flags": 0,
            "method": 0,
            "crc": zlib.crc32(member.data),
            "packed": len(member.data),
            "size": len(member.data),
            "extra": b"",
            "offset": len(body),
        }
        here, there = told | member.local, told | member.central
        body += struct.pack("<4s5H3I2H", b"PK\3\4", 20, *_fields(here)) + here["name"] + here["extra"] + member.data
        directory += struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, *_fields(there), 0, 0, 0, 0, there["offset"])
        directory += there["name"] + there["extra"]
    start = len(body + gap)
    told_end = {"count": len(members), "size": len(directory), "start": start, "comment": 0} | end
    count, size, start, comment = told_end.values()
    record = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, start, comment)
    return bytes(body) + gap + bytes(directory) + record + tail


def checkpoint_members(pickle: bytes, storages: dict[str, bytes] | None = None) -> list[Member]:
    """Return the members that torch would write for a pickle and its storages."""
    return [
        Member("archive/data.pkl", pickle),
        Member("archive/byteorder", b"little"),
        *(Member(f"archive/data/{key}", data) for key, data in (storages or {}).items()),
        Member("archive/version", b"3\n"),
    ]


def checkpoint(pickle: bytes, storages: dict[str, bytes] | None = None) -> bytes:
    """Return an honest archive around a pickle."""
    return zip_of(checkpoint_members(pickle, storages))


def _fields(told: dict[str, Any]) -> tuple[int, ...]:
    keys = ("flags", "method")
    sizes = (told["crc"], told["packed"], told["size"], len(told["name"]), len(told["extra"]))
    return (*(told[key] for key in keys), 0, 0, *sizes)
