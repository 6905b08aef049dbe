"""Family "dicoms": DICOM files that lie, each in one way, and what must come of them."""

import gzip
import struct
from collections.abc import Iterator

from phantoms import saved
from pydicom import uid
from pydicom.datadict import tag_for_keyword

from hostile.attributes import attribute_faults, table_faults, text_faults
from hostile.codestreams import codestream_faults
from hostile.elements import (
    ITEM,
    ITEM_END,
    SEQUENCE_END,
    UNKNOWN_LENGTH,
    Dataset,
    Element,
    deflate,
    dicom,
    elements,
    header,
    wrap,
    write,
    zeros,
)
from hostile.families import Crafted, Family
from hostile.fragments import fragment_faults
from hostile.radiographs import TWELVE, encodings, make_seed, native, radiograph_elements
from hostile.verdicts import ANY_IMAGE, Verdict, refused, shown

_CLEAN = shown()
_DEEP = 200_000
_LARGE, _TRUNCATED, _DAMAGED, _NO_IMAGE, _UNKNOWN = map(
    refused, ("too-large", "truncated", "damaged", "not-an-image", "unknown-kind")
)
_REFUSED = Verdict("refused", limit=ANY_IMAGE.limit)
#: What else a file may be by its first bytes (CVE-2019-11687).
_PREAMBLES = {
    "PE": b"MZ\x90\0\3\0\0\0", "ELF": b"\x7fELF\2\1\1\0", "zip": b"PK\3\4\x14\0", "PDF": b"%PDF-1.7\n",
    "PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF", "TIFF": b"II*\0\x08\0\0\0",
    "script": b"#!/bin/sh\n",
    "HTML": b"<!DOCTYPE html>", "DICM": b"DICM" * 32, "bytes 0 to 127": bytes(range(128)),
}  # fmt: skip
_NO_IMAGES = {
    "report": (uid.BasicTextSRStorage, {}),
    "directory": (uid.MediaStorageDirectoryStorage, {"DirectoryRecordSequence": [{}], "FileSetID": "../../etc/passwd"}),
    "presentation state": (uid.GrayscaleSoftcopyPresentationStateStorage, {}),
    "PDF": (uid.EncapsulatedPDFStorage, {"EncapsulatedDocument": b"%PDF-1.7\n%%EOF\n"}),
    "waveform": (uid.TwelveLeadECGWaveformStorage, {}),
    "structures": (uid.RTStructureSetStorage, {}),
}


def _nest(tag: int, depth: int, *, ended: bool, vr: str = "SQ") -> bytes:
    """Return sequences within each other, all of undefined length."""
    opened = header(tag, vr, UNKNOWN_LENGTH) + header(ITEM, "", UNKNOWN_LENGTH)
    closed = header(ITEM_END, "", 0) + header(SEQUENCE_END, "", 0)
    return opened * depth + (closed * depth if ended else b"")


def _spliced(extra: bytes, before: str = "PixelData") -> bytes:
    """Return a file with bytes of any kind before one of its elements."""
    whole = native()
    border = tag_for_keyword(before) or 0
    first = {key: each for key, each in whole.items() if (tag_for_keyword(key) or 0) < border}
    rest = {key: each for key, each in whole.items() if key not in first}
    return wrap(write(first) + extra + write(rest))


def _nesting() -> Iterator[tuple[str, Crafted]]:
    for depth in (300, 5_000, _DEEP):
        deep = f"{depth:,} levels"
        yield f"{deep}, of a request", (_spliced(_nest(0x00400275, depth, ended=True)), ANY_IMAGE)
        yield f"{deep}, never ended", (_spliced(_nest(0x00400275, depth, ended=False)), _REFUSED)
        yield f"{deep}, of a table", (_spliced(_nest(0x00283000, depth, ended=True)), ANY_IMAGE)
        yield f"{deep}, unknown", (_spliced(_nest(0x00410010, depth, ended=True, vr="UN")), ANY_IMAGE)
        yield f"{deep}, of the first", (_spliced(_nest(0x00080006, depth, ended=True), "SOPClassUID"), ANY_IMAGE)
    items = header(0x00400275, "SQ", UNKNOWN_LENGTH) + header(ITEM, "", 0) * _DEEP + header(SEQUENCE_END, "", 0)
    yield "200,000 empty items", (_spliced(items), _CLEAN)


def _lengths() -> Iterator[tuple[str, Crafted]]:
    for title, tag, vr in (
        ("text", 0x00400500, "UT"), ("unknown", 0x00410010, "UN"), ("bytes", 0x00420011, "OB"),
        ("sequence", 0x00400275, "SQ"),
    ):  # fmt: skip
        yield f"{title} of 4 GiB", (_spliced(header(tag, vr, 2**32 - 2)), _REFUSED)
        yield f"{title} of undefined length", (_spliced(header(tag, vr, UNKNOWN_LENGTH)), _REFUSED)
    many = Element("DS", b"1\\" * 5_000_000)
    for keyword in ("WindowCenter", "RescaleSlope", "PixelSpacing", "Rows", "ImageType"):
        crowded = native() | {keyword: many}
        yield f"5,000,000 values of {keyword}", (dicom(crowded, uid.ImplicitVRLittleEndian), ANY_IMAGE)
    wide = Element("LO", b"x" * 20_000_000)
    yield "20 MB of text", (dicom(native() | {"PatientComments": wide}, uid.ImplicitVRLittleEndian), _CLEAN)
    filler = b"".join(header(0x00410000 + 0x1000 + index % 0xE000, "SH", 2) + b"ab" for index in range(500_000))
    yield "500,000 private elements", (_spliced(filler), ANY_IMAGE)
    odd = native() | {"PatientComments": Element("LT", b"odd")}
    yield "an odd length", (dicom(odd), _CLEAN)
    short = native() | {"PatientComments": Element("LT", b"four", 2)}
    yield "a text longer than it says", (dicom(short), ANY_IMAGE)
    yield "a tag of group 0", (_spliced(header(0, "UL", 4) + bytes(4), "SOPClassUID"), ANY_IMAGE)
    yield "group lengths", (_spliced(header(0x00280000, "UL", 4) + bytes(4), "SamplesPerPixel"), _CLEAN)


def _polyglots() -> Iterator[tuple[str, Crafted]]:
    body = write(native())
    for title, magic in _PREAMBLES.items():
        yield f"a preamble of {title}", (wrap(body, preamble=magic.ljust(128, b"\0")), _CLEAN)
    whole = dicom(native())
    picture = saved(TWELVE.astype("u1"))
    yield "a picture, then a DICOM file", (picture + whole, ANY_IMAGE)
    yield "a DICOM file, then a picture", (whole + picture, ANY_IMAGE)
    yield "a DICOM file, then zeros", (whole + bytes(5000), ANY_IMAGE)
    yield "a DICOM file in gzip", (gzip.compress(whole, mtime=0), _UNKNOWN)
    yield "no preamble", (whole[128:], ANY_IMAGE)
    yield "no preamble, no DICM", (whole[132:], _CLEAN)
    yield "a bare dataset", (write(native(), implicit=True), _CLEAN)
    yield "a bare explicit dataset", (body, _CLEAN)
    yield "a short preamble", (whole[1:], _UNKNOWN)


def _no_images() -> Iterator[tuple[str, Crafted]]:
    for title, (kind, values) in _NO_IMAGES.items():
        dataset = elements(SOPClassUID=kind, PatientName="CANARY", **values)
        yield title, (dicom(dataset), _NO_IMAGE)
        pixels = dataset | {key: each for key, each in native().items() if key not in dataset}
        yield f"{title} with pixels", (dicom(pixels), ANY_IMAGE)
    yield "a header and nothing else", (wrap(b""), _DAMAGED)
    yield "DICM and nothing else", (bytes(128) + b"DICM", _REFUSED)
    yield "noise behind DICM", (bytes(128) + b"DICM" + bytes(range(256)) * 20, _REFUSED)
    yield "zeros behind DICM", (bytes(128) + b"DICM" + bytes(100_000), _REFUSED)
    yield "an empty file", (b"", _UNKNOWN)
    yield "zeros", (bytes(4096), _UNKNOWN)


def _deflated() -> Iterator[tuple[str, Crafted]]:
    syntax = uid.DeflatedExplicitVRLittleEndian
    body = write(native())
    large = radiograph_elements(Rows=16_000, Columns=16_000)
    start = write(large) + header(0x7FE00010, "OW", 2**31 - 2)
    yield "2 GiB of zeros", (wrap(zeros(2048, wbits=-15), syntax), _LARGE)
    yield "a dataset, then 2 GiB of zeros", (wrap(zeros(2048, before=body, wbits=-15), syntax), _LARGE)
    yield "2 GiB of pixels", (wrap(zeros(2048, before=start, wbits=-15), syntax), _LARGE)
    comment = header(0x00400500, "UT", 2**31 - 2)
    yield "2 GiB of text", (wrap(zeros(2048, before=comment, wbits=-15), syntax), _LARGE)
    fair = write(radiograph_elements(8, Rows=8192, Columns=8192)) + header(0x7FE00010, "OW", 64 << 20)
    black = Verdict("read", limit=ANY_IMAGE.limit)
    yield "64 MiB of pixels", (wrap(zeros(64, before=fair, wbits=-15), syntax), black)
    packed = deflate(body)
    yield "half a stream", (wrap(packed[: len(packed) // 2], syntax), _TRUNCATED)
    yield "no stream", (wrap(b"", syntax), _TRUNCATED)
    yield "noise", (wrap(b"\xff" * 500, syntax), _DAMAGED)
    yield "not deflated", (wrap(body, syntax), _DAMAGED)
    yield "deflated twice", (wrap(deflate(packed), syntax), _REFUSED)
    yield "with a header of zlib", (wrap(zeros(0, before=body), syntax), _REFUSED)
    yield "a stream, then noise", (wrap(packed + b"\xff" * 99, syntax), ANY_IMAGE)


def _structure() -> Iterator[tuple[str, Crafted]]:
    whole, body = native(), write(native())
    yield "explicit, says implicit", (wrap(body, uid.ImplicitVRLittleEndian), ANY_IMAGE)
    yield "implicit, says explicit", (wrap(write(whole, implicit=True)), ANY_IMAGE)
    yield "little endian, says big", (wrap(body, uid.ExplicitVRBigEndian), ANY_IMAGE)
    yield "big endian, says little", (wrap(write(whole, order=">")), ANY_IMAGE)
    for vr in ("ZZ", "  ", "\0\0", "??", "us"):
        yield f"Rows of {vr!r}", (dicom(whole | {"Rows": Element(vr, b"\x40\0")}), ANY_IMAGE)
    backwards = b"".join(write({key: each}) for key, each in reversed(_ordered(whole)))
    yield "all elements backwards", (wrap(backwards), ANY_IMAGE)
    yield "all elements twice", (wrap(body + body), ANY_IMAGE)
    for text in ("ISO 2022 IR 9999", "ISO_IR 192", "utf-7", "\\" * 100, "GB18030\\ISO 2022 IR 87"):
        named = whole | {
            "SpecificCharacterSet": Element("CS", text),
            "PatientName": Element("PN", b"\xff\xfe\x1b$B\x80"),
        }
        yield f"character set {text[:20]!r}", (dicom(named), _CLEAN)
    for modality in ("CT", "SR", "\xff\xff", "A" * 200):
        yield f"modality {modality[:2]!r}", (dicom(whole | {"Modality": Element("CS", modality)}), shown("modality"))
    yield "a name for an SOP class", (dicom(whole | {"SOPClassUID": Element("UI", "CANARY")}), Verdict("read"))
    padding = struct.pack("<h", -5)
    yield "a negative padding value", (dicom(whole | {"PixelPaddingValue": Element("SS", padding)}), Verdict("read"))
    yield "padding of text", (dicom(whole | {"PixelPaddingValue": Element("LO", "none")}), Verdict("read"))
    yield "an aspect of 0", (dicom(whole | {"PixelAspectRatio": Element("IS", "1\\0")}), Verdict("read"))
    yield "an aspect of text", (dicom(whole | {"PixelAspectRatio": Element("IS", "a\\b")}), Verdict("read"))


def _ordered(dataset: Dataset) -> list[tuple[str, Element]]:
    return sorted(dataset.items(), key=lambda item: struct.unpack("<HH", write(dict([item]))[:4]))


def _cuts() -> Iterator[tuple[str, Crafted]]:
    """Yield files that end too early, as interrupted copies do."""
    for name in ("explicit", "implicit", "big endian", "rle", "j2k", "palette"):
        data = encodings()[name].data
        first = make_seed("header", name).spans[0][0]
        for title, length in (
            ("a byte of pixels", first + 13), ("half", (first + len(data)) // 2), ("nearly all", len(data) - 40),
        ):  # fmt: skip
            yield f"{name}, {title}", (data[:length], _TRUNCATED)
        for percent in (2, 5, 40, 80):
            yield f"{name}, {percent} % of the header", (data[: first * percent // 100], _REFUSED)
        yield f"{name}, one byte less", (data[:-1], ANY_IMAGE)


FAMILY = Family(
    {
        "encodings": lambda: ((name, (encoding.data, _CLEAN)) for name, encoding in encodings().items()),
        "attributes": attribute_faults, "texts": text_faults, "tables": table_faults, "fragments": fragment_faults,
        "codestreams": codestream_faults, "nesting": _nesting, "lengths": _lengths, "polyglots": _polyglots,
        "no images": _no_images, "deflated": _deflated, "structure": _structure, "cuts": _cuts,
    }
)  # fmt: skip
list_ids, make = FAMILY.list_ids, FAMILY.make
