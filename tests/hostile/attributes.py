"""Part of the family "dicoms": one radiograph after the other with a single attribute that lies."""

import struct
from collections.abc import Iterator

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian

from hostile.elements import Dataset, Element, dicom, element
from hostile.families import Crafted
from hostile.radiographs import TWELVE, encodings, native
from hostile.verdicts import Verdict, refused, shown

READ, IGNORED = shown(), shown("ignored")
HEADER, CONTRADICTION, UNSUPPORTED, TOO_LARGE, TRUNCATED = map(
    refused, ("header", "contradiction", "unsupported", "too-large", "truncated")
)
#: Keyword, value or element, and what must come of it.
_SINGLE: tuple[tuple[str, object, Verdict], ...] = (
    *(
        ("Rows", value, HEADER)
        for value in (0, "", Element("DS", "64"), Element("OB", b"\x40\0"), Element("FL", [64.5]))
    ),
    *(("Columns", value, HEADER) for value in (0, "", Element("LO", "48"), Element("SS", [-48]))),
    ("Rows", Element("UL", [64]), READ),
    ("Columns", Element("UL", [2**31]), HEADER),
    ("Rows", Element("UN", b"\x40\0"), READ),
    ("Rows", 1, CONTRADICTION),
    ("Rows", 63, CONTRADICTION),
    ("Rows", 65, TRUNCATED),
    ("Columns", 47, CONTRADICTION),
    ("Columns", 49, TRUNCATED),
    ("Rows", 65535, TOO_LARGE),
    ("Columns", 65535, TOO_LARGE),
    *(("SamplesPerPixel", value, HEADER) for value in (0, 255, 65535)),
    *(("SamplesPerPixel", value, CONTRADICTION) for value in (2, 3)),
    *(("BitsAllocated", value, HEADER) for value in (0, 255, 65535)),
    *(("BitsAllocated", value, UNSUPPORTED) for value in (1, 12, 24, 32, 64)),
    *(("BitsStored", value, HEADER) for value in (0, 17, 255, 65535)),
    ("BitsStored", 7, HEADER),
    *(("HighBit", value, shown("high-bit")) for value in (0, 12, 15, 255, 65535)),
    *(("PixelRepresentation", value, HEADER) for value in (2, 7, 65535)),
    *(("PhotometricInterpretation", value, UNSUPPORTED) for value in ("GREY", "CMYK", "HSV", "\x80\xff", "A" * 300)),
    *(("PhotometricInterpretation", value, CONTRADICTION) for value in ("RGB", "YBR_FULL_422")),
    ("PhotometricInterpretation", "PALETTE COLOR", HEADER),
    ("PhotometricInterpretation", "", HEADER),
    *(("NumberOfFrames", value, HEADER) for value in ("0", "-1", "abc", "1.5", "9" * 30)),
    *(("NumberOfFrames", value, refused("several-images")) for value in ("2", "2147483647")),
    ("NumberOfFrames", "", READ),
)
_REQUIRED = (
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored",
    "PixelRepresentation",
)  # fmt: skip
#: Decimal strings (PS3.5 6.2) that are none.
_TEXTS = ("nan", "inf", "1e999", "abc", "1,5", "--1", "0x10")
_PAIRS = (("RescaleSlope", "RescaleIntercept"), ("WindowWidth", "WindowCenter"))


def attribute_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield files with one attribute that lies or is missing."""
    for keyword, value, verdict in _SINGLE:
        each = value if isinstance(value, Element) else element(keyword, value)
        title = f"{keyword} {each.vr} {str(value if not isinstance(value, Element) else value.value)[:12]!r}"
        yield title, (dicom(native() | {keyword: each}), verdict)
    for keyword in _REQUIRED:
        yield f"no {keyword}", (dicom(_without(keyword)), HEADER)
    yield "no HighBit", (dicom(_without("HighBit")), READ)
    yield "65535 x 65535", (dicom(native() | {key: element(key, 65535) for key in ("Rows", "Columns")}), TOO_LARGE)
    yield "Rows twice", (_twice(), Verdict("either", limit=READ.limit))
    yield from _lengths()
    yield from _headers()


def _without(keyword: str) -> Dataset:
    return {key: each for key, each in native().items() if key != keyword}


def _twice() -> bytes:
    """Return a file that says something else about its height a second time, behind the pixels."""
    return dicom(native()) + struct.pack("<HH2sHH", 0x28, 0x10, b"US", 2, 1)


def _lengths() -> Iterator[tuple[str, Crafted]]:
    raw = TWELVE.tobytes()
    for title, data, verdict in (
        ("none", b"", TRUNCATED),
        ("one byte", raw[:1], TRUNCATED),
        ("one byte short", raw[:-1], TRUNCATED),
        ("a row short", raw[:-96], TRUNCATED),
        ("a byte of padding", raw + b"\0", READ),
        ("twice", raw * 2, CONTRADICTION),
        ("a row more", raw + raw[:96], CONTRADICTION),
    ):
        yield f"pixels: {title}", (dicom(native() | {"PixelData": Element("OW", data)}), verdict)
    yield "no pixels", (dicom(_without("PixelData")), TRUNCATED)
    floats = _without("PixelData") | {"FloatPixelData": Element("OF", np.zeros((64, 48), "<f4").tobytes())}
    yield "floating-point pixels", (dicom(floats), UNSUPPORTED)


def _headers() -> Iterator[tuple[str, Crafted]]:
    """Yield files whose header of the file lies."""
    good = native()
    yield "no TransferSyntaxUID", (dicom(good, without=("TransferSyntaxUID",)), Verdict("either", limit=READ.limit))
    for title, syntax in (
        ("unknown", "1.2.3.4"), ("MPEG2", "1.2.840.10008.1.2.4.100"), ("JPIP", "1.2.840.10008.1.2.4.94"),
        ("SMPTE", "1.2.840.10008.1.2.7.1"), ("JPEG hierarchical", "1.2.840.10008.1.2.4.55"), ("text", "hello"),
    ):  # fmt: skip
        meta = {"TransferSyntaxUID": Element("UI", syntax)}
        yield f"syntax: {title}", (dicom(good, ExplicitVRLittleEndian, meta=meta), UNSUPPORTED)
    for length in (0, 2, 10_000, 2**32 - 1):
        meta = {"FileMetaInformationGroupLength": Element("UL", [length])}
        yield f"group length {length}", (dicom(good, meta=meta), Verdict("either", limit=READ.limit))


def text_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield files with decimal strings that are none; such a pair is left out, with a notice."""
    good = {"RescaleSlope": "2", "RescaleIntercept": "-5", "WindowWidth": "2048", "WindowCenter": "1024"}
    for width, center in _PAIRS:
        pair = {key: good[key] for key in (width, center)}
        for text in _TEXTS:
            for keyword in pair:
                yield f"{keyword} {text!r}", (_with_texts(pair | {keyword: text}), IGNORED)
        for keyword in pair:
            yield f"{keyword} empty", (_with_texts(pair | {keyword: ""}), IGNORED)
            yield f"{keyword} alone", (_with_texts({keyword: pair[keyword]}), IGNORED)
            yield (
                f"{keyword} and nine more",
                (_with_texts(pair | {keyword: "\\".join([pair[keyword]] + ["7"] * 9)}), READ),
            )
        yield f"{width} 0", (_with_texts(pair | {width: "0"}), IGNORED)
        yield f"{width} tiny", (_with_texts(pair | {width: "1e-300"}), IGNORED)
        yield f"{width} of 200 digits", (_with_texts(pair | {width: "1" * 200}), Verdict("read", limit=READ.limit))
    window = {key: good[key] for key in ("WindowWidth", "WindowCenter")}
    yield "WindowWidth negative", (_with_texts(window | {"WindowWidth": "-2048"}), IGNORED)
    yield "WindowCenter far away", (_with_texts(window | {"WindowCenter": "9e9"}), IGNORED)
    yield "VOILUTFunction", (_with_texts(window | {"VOILUTFunction": "CUBIC"}), IGNORED)
    yield "all empty", (_with_texts(dict.fromkeys(good, "")), READ)


def _with_texts(texts: dict[str, str]) -> bytes:
    return dicom(native() | {key: Element("CS" if "Function" in key else "DS", text) for key, text in texts.items()})


def table_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield files with tables of grey values that make no sense; such a table is left out, with a notice."""
    ramp = np.arange(4096, dtype="<u2")

    def table(descriptor: list[int] | None, entries: np.ndarray | None) -> Dataset:
        item: Dataset = {}
        if descriptor is not None:
            item["LUTDescriptor"] = Element("US", descriptor)
        if entries is not None:
            item["LUTData"] = Element("OW", entries.tobytes())
        return item

    items: dict[str, list[Dataset]] = {
        "no item": [],
        "empty item": [{}],
        "no descriptor": [table(None, ramp)],
        "no data": [table([4096, 0, 12], None)],
        "two words of descriptor": [table([4096, 0], ramp)],
        "too few entries": [table([4096, 0, 12], ramp[:-1])],
        "no entries, written as 65536": [table([0, 0, 16], ramp[:0])],
        "beyond its depth": [table([4096, 0, 12], ramp * 2)],
        "3 bits": [table([4096, 0, 3], ramp)],
        "255 bits": [table([4096, 0, 255], ramp)],
        "one grey": [table([4096, 0, 12], np.full_like(ramp, 7))],
        "odd data": [{**table([4096, 0, 12], None), "LUTData": Element("OW", ramp.tobytes()[:-1])}],
        "text for data": [{**table([4096, 0, 12], None), "LUTData": Element("UT", "a" * 8192)}],
    }
    for keyword in ("VOILUTSequence", "ModalityLUTSequence"):
        for title, value in items.items():
            verdict = READ if title == "no item" else IGNORED
            yield f"{keyword}: {title}", (dicom(native() | {keyword: Element("SQ", value)}), verdict)
    palette = encodings()["palette"].dataset
    for title, part, each in (
        ("no data", "Data", None),
        ("no descriptor", "Descriptor", None),
        ("short data", "Data", Element("OW", bytes(100))),
        ("5 bits", "Descriptor", Element("US", [256, 0, 5])),
        ("65536 entries", "Descriptor", Element("US", [0, 0, 16])),
    ):
        changed = {key: old for key, old in palette.items() if key != f"GreenPaletteColorLookupTable{part}"}
        changed |= {f"GreenPaletteColorLookupTable{part}": each} if each else {}
        yield f"palette: {title}", (dicom(changed), HEADER)
