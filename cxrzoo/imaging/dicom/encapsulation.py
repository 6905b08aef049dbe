"""Encapsulated Pixel Data -> the codestream of one frame, every byte accounted for (PS3.5 A.4)."""

import itertools
import struct

from cxrzoo.errors import ImageError
from cxrzoo.imaging.elements import name

_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"
#: One fragment a row of a large image would be many; lists of millions are an attack.
_MAX_FRAGMENTS = 100_000


def find_codestream(data: bytes, frames: int, frame: int, offsets: bytes | None = None) -> bytes:
    """Return the compressed bytes of `frame`, which counts from 0, of an image with `frames`.

    Args:
        data: The value of Pixel Data: the offset table and the fragments, as items.
        offsets: The Extended Offset Table, where the file has one.

    Raises:
        ImageError: The items don't add up, or leave open where the frame begins and ends.
    """
    items = _items(data)
    if not items:
        raise _contradiction("has no items, not even the offset table of compressed pixels")
    (table_start, table_end), *fragments = items
    if not fragments:
        raise ImageError(f"{name('PixelData')} holds no compressed frame. Copy the file again.", "truncated", "header")
    if frames == 1:
        return b"".join(data[start:end] for start, end in fragments)
    if len(fragments) == frames:
        start, end = fragments[frame]
        return data[start:end]
    starts = _offsets(offsets, "Q") if offsets else _offsets(data[table_start:table_end], "L")
    base = fragments[0][0] - 8
    first = {start - 8 - base: position for position, (start, _) in enumerate(fragments)}
    if (
        len(starts) != frames
        or starts[0] != 0
        or any(start not in first for start in starts)
        or starts != sorted(starts)
    ):
        raise _contradiction(f"has {len(fragments)} fragments and no valid offsets for {frames} frames")
    bounds = [*(first[start] for start in starts), len(fragments)]
    chosen = fragments[bounds[frame] : bounds[frame + 1]]
    return b"".join(data[start:end] for start, end in chosen)


def find_end(data: bytes) -> int:
    """Return where the items end that `data` begins with: at their delimiter, which a whole file has.

    Raises:
        ImageError: The delimiter is missing, or what should be items is something else.
    """
    items = _items(data)
    end = items[-1][1] if items else 0
    if data[end : end + 4] != _END:
        raise ImageError(
            f"{name('PixelData')} has no end: the file is cut off. Copy it again.",
            "truncated",
            "parse",
        )
    return end


def _items(data: bytes) -> list[tuple[int, int]]:
    """Return where the value of each item begins and ends, up to the delimiter or the end."""
    items, position = [], 0
    while position < len(data):
        tag = data[position : position + 4]
        if tag == _END or not (tag.strip(b"\0") or data[position:].strip(b"\0")):
            break
        if len(data) - position < 8:
            raise ImageError(
                f"{name('PixelData')} ends within the header of a fragment: the file is cut off. Copy it again.",
                "truncated",
                "header",
            )
        if tag != _ITEM:
            raise _contradiction(f"has something else than an item at byte {position}")
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8
        if position + length > len(data):
            raise ImageError(
                f"{name('PixelData')} ends {position + length - len(data)} bytes before its last fragment does. The "
                "file is cut off, or a length in it is wrong: copy it again.",
                "truncated",
                "header",
            )
        items.append((position, position + length))
        if len(items) > _MAX_FRAGMENTS:
            raise _contradiction(f"has more than {_MAX_FRAGMENTS} fragments")
        position += length
    return items


def _offsets(table: bytes, letter: str) -> list[int]:
    size = struct.calcsize(f"<{letter}")
    return list(itertools.chain.from_iterable(struct.iter_unpack(f"<{letter}", table[: len(table) // size * size])))


def _contradiction(text: str) -> ImageError:
    return ImageError(
        f"{name('PixelData')} {text}. The file contradicts itself: export it again.", "contradiction", "header"
    )
