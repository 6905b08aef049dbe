"""RLE Lossless (PS3.5 Annex G): byte planes, each packed like PackBits; the most significant byte comes first."""

import struct
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cxrzoo.imaging.compressed.streams import Codestream, refusal

_HEADER = struct.Struct("<16I")

#: Two bytes stand for at most 128, and for at least one.
_MOST_EXPANSION, _LEAST_EXPANSION = 64, 0.5
_PADDING = 4_096


def inspect_rle(data: bytes) -> Codestream:
    """Return what an RLE frame says of itself: no more than the number of its byte planes, as `components`.

    Raises:
        ImageError: Its table of offsets is damaged.
    """
    offsets = _offsets(data)
    return Codestream("rle", 0, 0, len(offsets) - 1, 0, signed=False, reductions=0, start=0, stop=len(data))


def check_amount(stream: Codestream, pixels: int) -> None:
    """Refuse RLE that can't be that of so many pixels in each of its planes, however well or badly it is packed.

    Raises:
        ImageError: It is too short, or too long.
    """
    plain, packed = pixels * stream.components, stream.stop - stream.start - _HEADER.size
    if packed * _MOST_EXPANSION < plain:
        raise refusal(
            f"have {packed} bytes of RLE, expected at least {-(-plain // _MOST_EXPANSION)} for {pixels} pixels",
            "truncated",
        )
    if packed * _LEAST_EXPANSION > plain + _PADDING:
        raise refusal(f"have {packed} bytes of RLE, far too many for {pixels} pixels", "damaged")


def decode_rle(data: bytes, height: int, width: int, components: int) -> NDArray[np.unsignedinteger]:
    """Return the samples as (height, width) or (height, width, components), in plain Python.

    Raises:
        ImageError: A plane ends before its last pixel.
    """
    offsets = _offsets(data)
    planes = [_unpack(data[start:stop], height * width) for start, stop in pairwise(offsets)]
    depth = len(planes) // components
    samples = np.zeros((height * width, components), dtype=f"<u{depth}")
    for index, plane in enumerate(planes):
        component, place = divmod(index, depth)
        shift = 8 * (depth - 1 - place)
        samples[:, component] |= np.frombuffer(plane, np.uint8).astype(samples.dtype) << shift
    return samples.reshape((height, width) if components == 1 else (height, width, components))


def _offsets(data: bytes) -> list[int]:
    """Return where each plane starts, and where the last one ends."""
    if len(data) < _HEADER.size:
        raise refusal(f"have {len(data)} bytes, expected the {_HEADER.size} of an RLE header", "truncated")
    count, *starts = _HEADER.unpack_from(data)
    if not 1 <= count <= len(starts):
        raise refusal(f"have {count} RLE segments, expected 1 to {len(starts)}", "damaged")
    offsets = [*starts[:count], len(data)]
    if offsets[0] < _HEADER.size or any(start > stop for start, stop in pairwise(offsets)):
        beyond = max(starts[:count]) > len(data)
        raise refusal(
            "have RLE segments that lie beyond their end" if beyond else "have RLE segments out of order",
            "truncated" if beyond else "damaged",
        )
    return offsets


def _unpack(packed: bytes, size: int) -> bytearray:
    """Return the first `size` bytes (PS3.5 G.3.2)."""
    plain, at = bytearray(), 0
    while len(plain) < size:
        if at >= len(packed):
            raise refusal(f"end after {len(plain)} of {size} pixels of a plane", "truncated")
        control = packed[at]
        if control < 128:
            plain += packed[at + 1 : at + 2 + control]
            at += 2 + control
        elif control > 128:
            plain += packed[at + 1 : at + 2] * (257 - control)
            at += 2
        else:
            at += 1
    del plain[size:]
    return plain
