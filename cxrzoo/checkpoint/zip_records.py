"""The members of a zip archive, which must fill it: one behind the other, and the directory behind the last.

Not looked at are what no reader takes for data: times, versions and attributes, the extra fields of an entry but that
of zip64 (torch pads with them), and its comment. They may hold anything, and are neither handed out nor kept.

Python's zipfile forgives what an attacker needs: overlaps, gaps, two names for one member, headers that
disagree. Layouts are those of https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT (APPNOTE 4.3).
"""

import struct
from dataclasses import dataclass

from cxrzoo.checkpoint.regions import OpenFile, Region
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

_MAX_MEMBERS = 20_000
_MAX_DIRECTORY = 16 << 20
_MAX_NAME = 512
_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_SATURATED = 0xFFFFFFFF
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 1 << 0, 1 << 3, 1 << 11


@dataclass(frozen=True)
class Entry:
    """One entry of the central directory; `method` 0 means stored as is."""

    name: str
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    offset: int


def read_directory(file: OpenFile) -> tuple[list[Entry], int]:
    """Return the entries of the central directory, and where it starts.

    Raises:
        CheckpointError: The archive is truncated or damaged.
        UnsafeCheckpointError: It has too many members, or one with a strange name.
    """
    count, start, size = _read_end(file)
    if count > _MAX_MEMBERS or size > _MAX_DIRECTORY:
        raise UnsafeCheckpointError(f"the archive lists {count} members; at most {_MAX_MEMBERS} are expected.")
    directory = file.read(start, size)
    entries, position = [], 0
    for _ in range(count):
        entry, position = _parse_entry(directory, position)
        entries.append(entry)
    if position != size:
        raise _damaged("its directory is longer than its members")
    if len({entry.name for entry in entries}) != count:
        raise UnsafeCheckpointError("the archive holds two members of the same name.")
    return entries, start


def locate_members(file: OpenFile, entries: list[Entry], end: int) -> dict[str, Region]:
    """Return where the bytes of each member lie, after proving that members fill the file up to `end`.

    Raises:
        UnsafeCheckpointError: A member is compressed or encrypted, headers disagree, or bytes lie between.
    """
    members, position = {}, 0
    for entry in sorted(entries, key=lambda entry: entry.offset):
        if entry.flags & _ENCRYPTED:
            raise UnsafeCheckpointError(f"the member {entry.name!r} is encrypted; torch.save never does that.")
        if entry.method != 0 or entry.packed != entry.size or entry.flags & ~(_DESCRIPTOR | _UTF8):
            raise UnsafeCheckpointError(
                f"the member {entry.name!r} is compressed, or says so; torch.save stores members as they are. Load "
                "it with torch, and save it again."
            )
        if entry.offset != position:
            raise UnsafeCheckpointError(
                f"the member {entry.name!r} starts at byte {entry.offset}, the one before ends at {position}: "
                "members overlap, or hide something between them."
            )
        members[entry.name] = region = _locate(file, entry)
        position = _end_of(file, entry, region, end)
    if position != end:
        raise UnsafeCheckpointError(f"the archive hides {end - position} bytes after its last member.")
    return members


def _read_end(file: OpenFile) -> tuple[int, int, int]:
    """Return the number of members, the start and the size of the central directory."""
    end = file.size - _END.size
    magic, disk, disk_of, here, count, size, start, comment = _END.unpack(file.read(end, _END.size))
    if magic != b"PK\5\6" or comment:
        raise _damaged("it does not end as a zip archive must")
    if disk or disk_of or here != count:
        raise UnsafeCheckpointError("the archive is split over several files.")
    locator = end - _LOCATOR.size
    if locator > _END64.size and file.read(locator, 4) == b"PK\6\7":
        _, disk, end64, disks = _LOCATOR.unpack(file.read(locator, _LOCATOR.size))
        if disk or disks != 1 or end64 != locator - _END64.size:
            raise _damaged("its zip64 record is not where it must be")
        record = _END64.unpack(file.read(end64, _END64.size))
        short = ((here, 0xFFFF), (count, 0xFFFF), (size, _SATURATED), (start, _SATURATED))
        agree = all(value in (full, limit) for (value, limit), full in zip(short, record[6:], strict=True))
        if record[0] != b"PK\6\6" or record[1] != _END64.size - 12 or record[4:6] != (0, 0) or not agree:
            raise UnsafeCheckpointError("the two end records of the archive contradict each other.")
        (count, size, start), end = record[7:], end64
    if start + size != end:
        raise _damaged("its directory does not end where its end record begins")
    return count, start, size


def _parse_entry(directory: bytes, position: int) -> tuple[Entry, int]:
    if len(directory) < position + _CENTRAL.size:
        raise _damaged("its directory ends too early")
    header = _CENTRAL.unpack_from(directory, position)
    magic, _, _, flags, method, _, _, crc32, packed, size, *lengths, disk, _, _, offset = header
    name_end = position + _CENTRAL.size + lengths[0]
    extra_end = name_end + lengths[1]
    if magic != b"PK\1\2" or disk or len(directory) < extra_end + lengths[2]:
        raise _damaged("its directory is malformed")
    full = _widen(directory[name_end:extra_end], [size, packed, offset])
    name = _decode(directory[position + _CENTRAL.size : name_end])
    return Entry(name, flags, method, crc32, full[1], full[0], full[2]), extra_end + lengths[2]


def _widen(extra: bytes, values: list[int]) -> list[int]:
    """Replace those of `values` that did not fit into 32 bits by those of the zip64 field in `extra`."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == 1:
            wide = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
            values = [next(wide, value) if value == _SATURATED else value for value in values]
    return values


def _decode(raw: bytes) -> str:
    name = raw.decode("utf-8", "replace")
    parts = name.split("/")
    strange = not name.isprintable() or "\ufffd" in name or "\\" in name or len(name) > _MAX_NAME
    if strange or any(part in ("", ".", "..") for part in parts):
        raise UnsafeCheckpointError(f"the archive has a member named {ascii(name)[:80]}; expected plain names.")
    return name


def _locate(file: OpenFile, entry: Entry) -> Region:
    raw = entry.name.encode()
    header = file.read(entry.offset, _LOCAL.size + len(raw))
    magic, _, flags, method, _, _, crc32, packed, size, name_length, extra_length = _LOCAL.unpack_from(header)
    start = entry.offset + len(header) + extra_length
    if _SATURATED in (size, packed):
        size, packed = _widen(file.read(entry.offset + len(header), extra_length), [size, packed])
    told = (crc32, packed, size)
    known = (entry.crc32, entry.packed, entry.size)
    # with a descriptor behind the data, the header may leave its numbers empty
    same = told == known or (flags & _DESCRIPTOR and told == (0, 0, 0))
    names = magic == b"PK\3\4" and name_length == len(raw) and header[_LOCAL.size :] == raw
    if not same or not names or (flags, method) != (entry.flags, entry.method):
        raise UnsafeCheckpointError(f"the two headers of the member {entry.name!r} contradict each other.")
    return Region(file, start, entry.size, f"member {entry.name!r}", entry.crc32)


def _end_of(file: OpenFile, entry: Entry, region: Region, end: int) -> int:
    """Return the position behind a member and its descriptor."""
    position = region.start + region.size
    if not entry.flags & _DESCRIPTOR:
        return position
    found = file.read(position, min(24, max(0, end - position)))
    for layout in ("<4sI2Q", "<4sI2I"):
        size = struct.calcsize(layout)
        expected = (b"PK\7\x08", entry.crc32, entry.packed, entry.size)
        if len(found) >= size and struct.unpack_from(layout, found) == expected:
            return position + size
    raise UnsafeCheckpointError(f"the member {entry.name!r} does not end with the numbers that it starts with.")


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(f"the archive is truncated or damaged: {what}. Download it again.")
