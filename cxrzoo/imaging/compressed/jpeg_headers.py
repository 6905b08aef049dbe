"""Reads the markers of JPEG, JPEG Lossless (ITU-T T.81) and JPEG-LS (T.87) and trusts none of them."""

import re
from dataclasses import dataclass, field

from cxrzoo.imaging.compressed.streams import (
    Codestream,
    StreamKind,
    check_end,
    check_picture,
    halvings,
    number,
    refusal,
    segment_at,
)

_SOI, _EOI, _SOS, _DNL, _LSE = 0xD8, 0xD9, 0xDA, 0xDC, 0xF8
_APP0, _APP14 = 0xE0, 0xEE
#: Bytes of Adobe's segment, the last of which is 0 for red, green and blue (T.872 6.5.3).
_ADOBE = 12
_KINDS: dict[int, StreamKind] = {
    0xC0: "jpeg",
    0xC1: "jpeg",
    0xC2: "jpeg",
    0xC3: "jpeg-lossless",
    0xF7: "jpeg-ls",
}
#: Legal, but in no transfer syntax of DICOM that is in use, and hardly in any decoder.
_UNSUPPORTED = {marker: "a hierarchical JPEG" for marker in (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, 0xDE, 0xDF)}
_UNSUPPORTED |= {marker: "an arithmetic-coded JPEG" for marker in (0xC8, 0xC9, 0xCA, 0xCB, 0xCC)}
_UNSUPPORTED |= {_DNL: "a JPEG that tells its height only at the end (DNL)"}
#: Markers without a segment: none of them may stand between segments.
_BARE = (0x00, 0x01, *range(0xD0, 0xD9))

#: Within entropy-coded data: a byte FF is followed by 00 (T.81 B.1.1.5) or by a bit 0 (T.87 A.1), or it starts a
#: marker; restart markers D0 to D7 belong to the data.
_END_OF_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_END_OF_SCAN_LS = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")
_FILL = re.compile(rb"\xff+")

_MAX_SEGMENTS = 5_000
_MAX_SCANS = 100
#: A progressive decoder walks over the whole picture in each scan: this many pixels take some seconds.
_MAX_VISITS = 10**9


@dataclass
class _Frame:
    """The start-of-frame segment, and what the scans after it held."""

    marker: int
    height: int
    width: int
    bits: int
    identifiers: tuple[int, ...]
    shown: set[int] = field(default_factory=set)
    scans: int = 0
    entropy: int = 0

    @property
    def kind(self) -> StreamKind:
        return _KINDS[self.marker]


def inspect_jpeg(data: bytes) -> Codestream:
    """Return what a JPEG, JPEG Lossless or JPEG-LS stream says of itself.

    Raises:
        ImageError: It is damaged, cut off, a bomb, or of a kind that no decoder here reads.
    """
    if data[:2] != b"\xff\xd8":
        raise refusal("don't start as a JPEG does", "damaged")
    frame, at, luma_first = None, 2, None
    for _ in range(_MAX_SEGMENTS):
        marker, at = _next_marker(data, at)
        if marker == _EOI:
            break
        if marker in _UNSUPPORTED:
            raise refusal(f"are {_UNSUPPORTED[marker]}, expected a plain one", "unsupported")
        if marker in _BARE:
            raise refusal(f"have a marker FF{marker:02X} out of place", "damaged")
        segment = segment_at(data, at)
        at += 2 + len(segment)
        if marker in _KINDS:
            if frame is not None:
                raise refusal("have two headers, expected one", "damaged")
            frame = _read_frame(marker, segment)
        elif marker == _APP0 and segment.startswith(b"JFIF\0") and luma_first is None:
            luma_first = True
        elif marker == _APP14 and segment.startswith(b"Adobe") and len(segment) >= _ADOBE:
            luma_first = segment[_ADOBE - 1] != 0
        elif marker == _LSE and segment[:1] != b"\x01":  # 1 holds thresholds; 2 and 3 palettes; 4 a size (T.87 C.2.4.1)
            raise refusal("use a palette or size of JPEG-LS that DICOM has not", "unsupported")
        elif marker == _SOS:
            if frame is None:
                raise refusal("start without a header", "damaged")
            _read_scan(frame, segment)
            at = _skip_scan(data, at, frame)
    else:
        raise refusal(f"have more than {_MAX_SEGMENTS:,} segments", "too-large")
    if frame is None or not frame.scans:
        raise refusal("end before the first pixel", "truncated")
    _check_amount(frame)
    check_end(data, at)
    dct = frame.kind == "jpeg" and frame.bits == 8
    return Codestream(
        frame.kind,
        frame.height,
        frame.width,
        len(frame.identifiers),
        frame.bits,
        signed=False,
        reductions=halvings(frame.height, frame.width, 3) if dct else 0,
        start=0,
        stop=at,
        luma_first=_colour_model(frame, luma_first),
    )


def _colour_model(frame: _Frame, luma_first: bool | None) -> bool | None:
    """Return whether the first of three components is luma, by what markers and names say (T.871, T.872)."""
    if frame.kind != "jpeg" or len(frame.identifiers) != 3:
        return None
    return False if frame.identifiers == tuple(b"RGB") else luma_first


def _next_marker(data: bytes, at: int) -> tuple[int, int]:
    fill = _FILL.match(data, at)
    if fill is None:
        if at >= len(data):
            raise refusal("have no end marker (EOI)", "truncated")
        raise refusal(f"hold garbage where a marker is expected, at byte {at}", "damaged")
    return number(data, fill.end(), 1), fill.end() + 1


def _read_frame(marker: int, segment: bytes) -> _Frame:
    """Read a start-of-frame segment (T.81 B.2.2)."""
    bits, height, width, count = (number(segment, *place) for place in ((0, 1), (1, 2), (3, 2), (5, 1)))
    if height == 0:
        raise refusal(f"are {_UNSUPPORTED[_DNL]}, expected a plain one", "unsupported")
    check_picture(height, width, count)
    if len(segment) != 6 + 3 * count:
        raise refusal(f"have a header of {len(segment)} bytes, expected {6 + 3 * count}", "damaged")
    allowed = {0xC0: (8,), 0xC1: (8, 12), 0xC2: (8, 12)}.get(marker, range(2, 17))
    if bits not in allowed:
        raise refusal(f"have {bits} bits a sample, expected {allowed[0]} to {allowed[-1]}", "unsupported")
    parts = [segment[start : start + 3] for start in range(6, len(segment), 3)]
    identifiers, sampling = tuple(part[0] for part in parts), [divmod(part[1], 16) for part in parts]
    if len(set(identifiers)) < count or not all(1 <= side <= 4 for sides in sampling for side in sides):
        raise refusal("describe their components in a way that makes no sense", "damaged")
    if sampling[0] != tuple(map(max, zip(*sampling, strict=True))):
        raise refusal("store colour finer than brightness", "unsupported")
    if _KINDS[marker] != "jpeg" and len(set(sampling)) > 1:
        raise refusal("are lossless but store colour coarser than brightness", "unsupported")
    return _Frame(marker, height, width, bits, identifiers)


def _read_scan(frame: _Frame, segment: bytes) -> None:
    """Read a start-of-scan segment (T.81 B.2.3, T.87 C.2.3)."""
    count = number(segment, 0, 1)
    shown = segment[1 : 1 + 2 * count : 2]
    if len(segment) != 4 + 2 * count or not shown or not set(shown) <= set(frame.identifiers):
        raise refusal("have a scan of components that their header lacks", "damaged")
    first, last, approximation = segment[-3:]
    if frame.kind == "jpeg-ls":
        if any(segment[2 : 2 + 2 * count : 2]):
            raise refusal("use a palette of JPEG-LS, which DICOM has not", "unsupported")
        sound = last <= 2 and approximation == 0  # the interleave mode, and the point transform
    elif frame.kind == "jpeg-lossless":
        sound = 1 <= first <= 7 and last == 0 and approximation < frame.bits  # predictor, none, point transform
    else:
        sound = first <= last <= 63
    if not sound:
        raise refusal("have a scan with impossible parameters", "damaged")
    frame.scans += 1
    frame.shown |= set(shown)
    if frame.scans > _MAX_SCANS or frame.scans * frame.height * frame.width > _MAX_VISITS:
        raise refusal(f"have more than {frame.scans - 1} scans of {frame.height} x {frame.width} pixels", "too-large")


def _skip_scan(data: bytes, at: int, frame: _Frame) -> int:
    end = (_END_OF_SCAN_LS if frame.kind == "jpeg-ls" else _END_OF_SCAN).search(data, at)
    if end is None:
        raise refusal("have no end marker (EOI)", "truncated")
    frame.entropy += end.start() - at
    return end.start()


def _check_amount(frame: _Frame) -> None:
    """Refuse pixels of which a part is missing, by the least that any encoder needs for them.

    A Huffman code has at least one bit (T.81 C.2): one a sample where every difference is coded, two a block of
    8 x 8 (DC and end of block), one where a progressive scan holds DC alone. JPEG-LS needs one bit a line of grey.
    """
    if frame.shown != set(frame.identifiers):
        raise refusal("end before the last component", "truncated")
    blocks = -(-frame.height // 8) * -(-frame.width // 8)
    least = {
        0xC2: blocks,
        0xC3: frame.height * frame.width * len(frame.identifiers),
        0xF7: frame.height,
    }.get(frame.marker, 2 * blocks)
    if 8 * frame.entropy < least:
        raise refusal(
            f"have {frame.entropy} bytes for {frame.height} x {frame.width} pixels, expected at least {-(-least // 8)}",
            "truncated",
        )
