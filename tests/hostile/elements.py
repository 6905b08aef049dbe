"""DICOM files put together element by element, so that each of them may lie."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

#: Their lengths take four bytes (PS3.5 7.1.2).
_WIDE = ("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV")
_NUMBERS = {"US": "H", "SS": "h", "UL": "I", "SL": "i", "FL": "f", "FD": "d", "AT": "I"}
UNKNOWN_LENGTH = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

Dataset: TypeAlias = dict[str, "Element"]


@dataclass(frozen=True)
class Element:
    """One element: its value as bytes, numbers, text or the items of a sequence, and what it says its length is."""

    vr: str
    value: "bytes | str | Sequence[float] | list[Dataset]"
    length: int | None = None


def element(keyword: str, value: object, vr: str = "", length: int | None = None) -> Element:
    """Return an element with the representation of its keyword, unless it is to have another."""
    wrapped = [value] if isinstance(value, int | float) else value
    return Element(vr or dictionary_VR(keyword).split(" or ")[0], wrapped, length)  # type: ignore[arg-type]


def elements(**values: object) -> Dataset:
    """Return a dataset of values by their keywords."""
    return {keyword: element(keyword, value) for keyword, value in values.items()}


def header(tag: int, vr: str, length: int, *, implicit: bool = False, order: str = "<") -> bytes:
    """Return the bytes before a value."""
    start = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if implicit or tag >> 16 == 0xFFFE:
        return start + struct.pack(f"{order}I", length)
    if vr in _WIDE:
        return start + vr.encode() + b"\0\0" + struct.pack(f"{order}I", length)
    return start + vr.encode() + struct.pack(f"{order}H", length & 0xFFFF)


def write(dataset: Dataset, *, implicit: bool = False, order: str = "<") -> bytes:
    """Return the bytes of a dataset; a keyword may also be a tag, as eight hexadecimal digits."""
    parts = []
    for tag, each in sorted((tag_for_keyword(key) or int(key, 16), each) for key, each in dataset.items()):
        value = _bytes(each, implicit=implicit, order=order)
        length = len(value) if each.length is None else each.length
        parts += [header(tag, each.vr, length, implicit=implicit, order=order), value]
    return b"".join(parts)


def _bytes(each: Element, *, implicit: bool, order: str) -> bytes:
    value = each.value
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        raw = value.encode("latin-1")
        return raw + (b"\0" if each.vr == "UI" else b" ") * (len(raw) % 2)
    if each.vr == "SQ":
        inner = [write(item, implicit=implicit, order=order) for item in value]  # type: ignore[arg-type]
        return b"".join(header(ITEM, "", len(item), order=order) + item for item in inner)
    if each.vr in _NUMBERS:
        return struct.pack(f"{order}{len(value)}{_NUMBERS[each.vr]}", *value)
    text = "\\".join(str(number) for number in value).encode()
    return text + b" " * (len(text) % 2)


def wrap(
    body: bytes,
    syntax: str = ExplicitVRLittleEndian,
    *,
    preamble: bytes = bytes(128),
    meta: Dataset | None = None,
    without: Sequence[str] = (),
) -> bytes:
    """Return a file with these bytes as its dataset.

    Args:
        preamble: The 128 bytes that anything may be in.
        meta: Elements of the file's header that are other than they should be.
        without: Those that it lacks.
    """
    head = elements(
        FileMetaInformationVersion=b"\0\1",
        MediaStorageSOPClassUID=DigitalXRayImageStorageForPresentation,
        MediaStorageSOPInstanceUID="2.25.1",
        TransferSyntaxUID=syntax,
        ImplementationClassUID="2.25.2",
    )
    head = {key: each for key, each in (head | (meta or {})).items() if key not in without}
    length = Element("UL", [len(write({k: v for k, v in head.items() if k != "FileMetaInformationGroupLength"}))])
    return preamble + b"DICM" + write({"FileMetaInformationGroupLength": length} | head) + body


def dicom(dataset: Dataset, syntax: str = ExplicitVRLittleEndian, **header_options: object) -> bytes:
    """Return a file of a dataset, written as its transfer syntax says."""
    known = UID(syntax)
    order = ">" if known == ExplicitVRBigEndian else "<"
    body = write(dataset, implicit=known == ImplicitVRLittleEndian, order=order)
    if known == DeflatedExplicitVRLittleEndian:
        body = deflate(body)
    return wrap(body, syntax, **header_options)  # type: ignore[arg-type]


def deflate(data: bytes) -> bytes:
    """Return a raw deflate stream (PS3.5 A.5)."""
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zeros(count: int, *, before: bytes = b"", wbits: int = 15) -> bytes:
    """Return a deflate stream of `before` and `count` MiB of zeros, which are never held in memory.

    A full flush forgets what came before, so that the same few bytes stand for one MiB each time.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    start = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    if wbits < 0:
        return start + block * count + b"\x03\x00"
    low = zlib.adler32(before) & 0xFFFF
    high = ((zlib.adler32(before) >> 16) + low * (count << 20)) % 65521
    return start + block * count + b"\x03\x00" + struct.pack(">HH", high, low)


def encapsulate(
    fragments: Sequence[bytes], offsets: Sequence[int] | None = (), *, end: bytes = header(SEQUENCE_END, "", 0)
) -> bytes:
    """Return fragments as the value of Pixel Data (PS3.5 A.4), after a table of offsets unless that is None."""
    table = struct.pack(f"<{len(offsets)}I", *offsets) if offsets is not None else None
    padded = [fragment + b"\0" * (len(fragment) % 2) for fragment in fragments]
    items = padded if table is None else [table, *padded]
    return b"".join(header(ITEM, "", len(item)) + item for item in items) + end


def encapsulated(value: bytes) -> Element:
    """Return Pixel Data in fragments, whatever they are."""
    return Element("OB", value, UNKNOWN_LENGTH)
