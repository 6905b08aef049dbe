"""What a PNG file says of itself, and whether it is whole. Pillow takes a short one for a black one.

Sections are those of the PNG specification, third edition (https://www.w3.org/TR/png-3/).
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import check_size

_START = b"\x89PNG\r\n\x1a\n"

#: Colour type: channels and name (11.2.1).
_COLOURS = {
    0: (1, "grey"),
    2: (3, "colour"),
    3: (1, "palette"),
    4: (2, "grey with alpha"),
    6: (4, "colour with alpha"),
}

#: First column and row, and the distance between them, of the passes of an interlaced picture (8.1).
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

#: Ten times as many as a picture of 100 megapixels has; keeps a file of empty chunks from taking minutes.
_MAX_CHUNKS = 2**18

#: Sixteen bits with colour are taken apart in memory, which takes several times their size.
_MAX_DEEP_BYTES = 2**27


@dataclass(frozen=True)
class Png:
    """The header of a PNG file (11.2.1), and where its compressed pixels are."""

    width: int
    height: int
    depth: int
    colour: int
    interlaced: bool
    transparent: bool
    data: tuple[memoryview, ...]

    @property
    def kind(self) -> str:
        return f"PNG, {self.depth}-bit {_COLOURS[self.colour][1]}{', interlaced' if self.interlaced else ''}"

    @property
    def is_deep(self) -> bool:
        """Whether Pillow would drop half of the bits without a word."""
        return self.depth == 16 and self.colour != 0

    def row_bytes(self, width: int) -> int:
        """Return the bytes of a row of so many pixels: a number for the filter, and the samples (7.2)."""
        return 1 + (width * self.depth * _COLOURS[self.colour][0] + 7) // 8

    @property
    def bytes(self) -> int:
        """How many bytes the pixels take before compression."""
        if not self.interlaced:
            return self.height * self.row_bytes(self.width)
        total = 0
        for column, row, across, down in _PASSES:
            width, height = -(-(self.width - column) // across), -(-(self.height - row) // down)
            total += max(height, 0) * self.row_bytes(width) if width > 0 else 0
        return total


def parse(data: bytes) -> Png:
    """Return the header, once every chunk that matters is there and has the right checksum.

    Raises:
        ImageError: The file is damaged, cut short, or too large.
    """
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise truncated() if len(data) < 33 else _damaged("does not begin with its header")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    check_size(height, width)
    if colour not in _COLOURS or depth not in (1, 2, 4, 8, 16):
        raise _damaged("has a header that makes no sense")
    pixels, names = _walk(memoryview(data))
    return Png(width, height, depth, colour, interlaced != 0, b"tRNS" in names, tuple(pixels))


def is_short(png: Png) -> bool:
    """Whether the compressed pixels end before the picture does; this takes inflating them once more."""
    return _inflated(png, None) < png.bytes


def deep_channels(png: Png) -> NDArray[np.uint16]:
    """Return the channels of a picture of 16 bits with colour or alpha, of which Pillow keeps 8 bits.

    Filters only ever mix bytes of the same rank (9.2), so that the high and the low bytes are each a picture of
    8 bits with the same filters, which Pillow reads.

    Raises:
        ImageError: The picture is cut short, damaged, too large, or of a kind that is not read.
    """
    if png.interlaced or png.transparent:
        raise ImageError(
            "Found an interlaced PNG, or one with a transparent colour, of 16 bits with colour or alpha, expected "
            "16-bit grey, or 8 bits. Save it as 16-bit greyscale.",
            "unsupported",
            "header",
        )
    if png.bytes > _MAX_DEEP_BYTES:
        raise ImageError(
            f"Found a PNG of 16 bits with colour or alpha that takes {png.bytes / 2**20:.0f} MiB, expected at most "
            f"{_MAX_DEEP_BYTES // 2**20}. Save it as 16-bit greyscale.",
            "too-large",
            "header",
        )
    raw = bytearray()
    if _inflated(png, raw) < png.bytes:
        raise truncated()
    rows = np.frombuffer(raw, np.uint8, png.bytes).reshape(png.height, -1)
    high, low = (_read_bytes(png, np.hstack([rows[:, :1], rows[:, rank::2]])) for rank in (1, 2))
    return np.asarray(high.astype(np.uint16) * np.uint16(256) + low, dtype=np.uint16)


def _walk(data: memoryview) -> tuple[list[memoryview], set[bytes]]:
    """Return the parts of the compressed pixels, and the names of all chunks."""
    position, pixels, names = len(_START), list[memoryview](), set[bytes]()
    for _ in range(_MAX_CHUNKS):
        length, name = int.from_bytes(data[position : position + 4]), bytes(data[position + 4 : position + 8])
        end = position + 12 + length
        if end > len(data):
            raise truncated()
        critical = not name[0] & 0x20  # an upper-case letter (5.4)
        if critical and zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise _damaged("has a wrong checksum")
        if name == b"IDAT":
            pixels.append(data[position + 8 : end - 4])
        if name == b"IEND":
            if not pixels:
                raise _damaged("has no pixels")
            return pixels, names
        names.add(name)
        position = end
    raise _damaged(f"has more than {_MAX_CHUNKS:,} chunks")


def _inflated(png: Png, into: bytearray | None) -> int:
    """Return how many bytes the compressed pixels give, up to what the picture takes; memory stays bounded."""
    inflater, count = zlib.decompressobj(), 0
    for part in png.data:
        rest: bytes | memoryview = part
        while rest and count < png.bytes and not inflater.eof:
            piece = inflater.decompress(rest, min(2**20, png.bytes - count))
            count += len(piece)
            if into is not None:
                into += piece
            rest = inflater.unconsumed_tail
    return count


def _read_bytes(png: Png, rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one byte of each sample, from rows that are still filtered."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", png.width, png.height, 8, png.colour, 0, 0, 0)
    stored = zlib.compress(rows.tobytes(), 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", stored), chunk(b"IEND", b"")
    with Image.open(io.BytesIO(_START + b"".join(parts)), formats=("PNG",)) as picture:
        return np.array(picture)


def truncated() -> ImageError:
    """Return the error for a file that ends too early."""
    return ImageError(
        "The PNG file ends before its picture does. Copy or download it again.",
        "truncated",
        "parse",
    )


def _damaged(what: str) -> ImageError:
    return ImageError(f"The PNG file {what}. Copy or download it again, or save it anew.", "damaged", "parse")
