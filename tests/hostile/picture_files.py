"""PNG and TIFF files put together part by part, so that each of them may lie."""

import struct
import zlib

import numpy as np

from hostile.radiographs import EIGHT

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEIGHT, WIDTH = EIGHT.shape


def chunk(name: bytes, data: bytes, length: int | None = None, crc: int | None = None) -> bytes:
    """Return a chunk of a PNG, which may lie about its length and its sum."""
    told = len(data) if length is None else length
    return struct.pack(">I", told) + name + data + struct.pack(">I", zlib.crc32(name + data) if crc is None else crc)


def png(*chunks: bytes, size: tuple[int, int] = (WIDTH, HEIGHT), depth: int = 8, colour: int = 0) -> bytes:
    """Return a PNG of a header and any chunks."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">2I5B", *size, depth, colour, 0, 0, 0)) + b"".join(chunks)


def pixels(plane: np.ndarray = EIGHT) -> bytes:
    """Return the chunk with the rows of a picture, each behind the byte that says it is not filtered."""
    rows = plane.astype(plane.dtype.newbyteorder(">")).reshape(len(plane), -1)
    return chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))


def raw_rows() -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in EIGHT)


def interlaced() -> bytes:
    """Return a PNG in seven passes (PNG specification 8.2)."""
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    passes = (EIGHT[top::down, left::right] for top, left, down, right in steps)
    rows = b"".join(b"\0" + row.tobytes() for each in passes for row in each)
    start = chunk(b"IHDR", struct.pack(">2I5B", WIDTH, HEIGHT, 8, 0, 0, 0, 1))
    return SIGNATURE + start + chunk(b"IDAT", zlib.compress(rows)) + END


def tiff(
    body: bytes, depth: int = 8, order: str = "<", link: int = 0, entries: int | None = None, **changes: object
) -> bytes:
    """Return a TIFF of one strip (TIFF 6.0, section 4); `tagNNN` changes a tag.

    Such a change is a value, or a type, a count and a value.
    """
    told: dict[int, object] = {
        256: WIDTH,
        257: HEIGHT,
        258: depth,
        259: 1,
        262: 1,
        273: 8,
        277: 1,
        278: HEIGHT,
        279: len(body),
    }
    told |= {int(tag[3:]): value for tag, value in changes.items()}
    rows = [(tag, *(value if isinstance(value, tuple) else (4, 1, value))) for tag, value in sorted(told.items())]
    directory = b"".join(struct.pack(f"{order}HHII", *row) for row in rows)
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(body))
    number = len(rows) if entries is None else entries
    return start + body + struct.pack(f"{order}H", number) + directory + struct.pack(f"{order}I", link)


END = chunk(b"IEND", b"")
