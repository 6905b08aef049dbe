"""Part of the family "dicoms": compressed pixels whose items lie (PS3.5 A.4)."""

import struct
from collections.abc import Iterator

from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from hostile.elements import (
    ITEM,
    SEQUENCE_END,
    Element,
    dicom,
    element,
    encapsulate,
    encapsulated,
    header,
)
from hostile.families import Crafted
from hostile.radiographs import TWELVE, compressed, encodings, frames, native, radiograph_elements
from hostile.verdicts import ANY_IMAGE, Verdict, refused, shown

_CLEAN = shown()
_TRUNCATED, _DAMAGED, _CONTRADICTION, _HEADER = map(refused, ("truncated", "damaged", "contradiction", "header"))
_SEVERAL = refused("several-images")
_END = header(SEQUENCE_END, "", 0)


def _file(value: bytes, syntax: str = JPEG2000Lossless, **values: object) -> bytes:
    pixels = {"PixelData": encapsulated(value)}
    return dicom(radiograph_elements(**values) | pixels, syntax)  # type: ignore[arg-type]


def fragment_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield files whose fragments are other than they should be."""
    frame = frames()["j2k"]
    frame += b"\0" * (len(frame) % 2)
    size = len(frame)
    halves = [frame[: size // 4 * 2], frame[size // 4 * 2 :]]
    table = header(ITEM, "", 0)
    crumbs = [frame[start : start + 2] for start in range(0, size, 2)]
    empty = [b""] * 10_000
    values: dict[str, tuple[bytes, Verdict]] = {
        "no table of offsets, but a fragment": (encapsulate([frame], None), ANY_IMAGE),
        "an empty table": (encapsulate([frame]), _CLEAN),
        "an honest table": (encapsulate([frame], [0]), _CLEAN),
        "a table with a wrong offset": (encapsulate([frame], [8]), ANY_IMAGE),
        "a table with a huge offset": (encapsulate([frame], [2**32 - 1]), ANY_IMAGE),
        "a table of 10,000 offsets": (encapsulate([frame], [0] * 10_000), ANY_IMAGE),
        "a table of 3 bytes": (header(ITEM, "", 3) + b"\0\0\0" + encapsulate([frame], None), ANY_IMAGE),
        "a table and nothing else": (encapsulate([]), _TRUNCATED),
        "nothing at all": (b"", _TRUNCATED),
        "only the end": (_END, _CONTRADICTION),
        "an empty fragment": (encapsulate([b""]), _TRUNCATED),
        "10,000 empty fragments": (encapsulate(empty), _TRUNCATED),
        "10,000 empty fragments, then the frame": (encapsulate([*empty, frame]), _CLEAN),
        "two halves": (encapsulate(halves), _CLEAN),
        "fragments of two bytes": (encapsulate(crumbs), _CLEAN),
        "half a frame": (encapsulate(halves[:1]), _TRUNCATED),
        "the wrong half": (encapsulate(halves[1:]), _DAMAGED),
        "halves in the wrong order": (encapsulate(halves[::-1]), _DAMAGED),
        "two frames in one": (encapsulate([frame, frame]), ANY_IMAGE),
        "an odd length": (table + header(ITEM, "", size - 1) + frame + _END, ANY_IMAGE),
        "a length beyond the end": (table + header(ITEM, "", size + 1000) + frame + _END, _TRUNCATED),
        "a length of 4 GiB": (table + header(ITEM, "", 2**32 - 2) + frame + _END, _TRUNCATED),
        "an undefined length": (table + header(ITEM, "", 2**32 - 1) + frame + _END, ANY_IMAGE),
        "no end": (table + header(ITEM, "", size) + frame, ANY_IMAGE),
        "half an end": (table + header(ITEM, "", size) + frame + _END[:4], ANY_IMAGE),
        "a foreign tag between": (table + header(0x00080005, "", 0) + header(ITEM, "", size) + frame + _END, ANY_IMAGE),
        "noise for items": (bytes(range(256)) * 4, ANY_IMAGE),
        "an end, then the frame": (table + _END + header(ITEM, "", size) + frame + _END, ANY_IMAGE),
    }
    for title, (value, verdict) in values.items():
        yield title, (_file(value), verdict)
    yield from _many_frames(frame)
    yield from _foreign(frame)


def _many_frames(frame: bytes) -> Iterator[tuple[str, Crafted]]:
    """Yield files that say how many frames they have, and may be wrong."""
    for title, count, fragments, offsets, verdict in (
        ("one frame of two", "1", [frame, frame], [0, len(frame) + 8], ANY_IMAGE),
        ("more frames than fragments", "7", [frame], [], _SEVERAL),
        ("more frames than fragments, with a table", "3", [frame, frame], [0, len(frame) + 8], _SEVERAL),
        ("fragments and frames alike", "2", [frame, frame], [], _SEVERAL),
        ("no frames", "0", [frame], [], _HEADER),
        ("2147483647 frames", "2147483647", [frame], [], _SEVERAL),
    ):
        yield title, (_file(encapsulate(fragments, offsets), NumberOfFrames=count), verdict)
    for title, offset, length in (
        ("an honest one", 0, len(frame)), ("one beyond the end", 10**9, len(frame)), ("a huge length", 0, 2**62),
    ):  # fmt: skip
        tables = {
            "ExtendedOffsetTable": Element("OV", struct.pack("<Q", offset)),
            "ExtendedOffsetTableLengths": Element("OV", struct.pack("<Q", length)),
        }
        dataset = compressed(frame) | tables
        verdict = ANY_IMAGE if offset or length > 2**32 else _CLEAN
        yield f"extended offset table: {title}", (dicom(dataset, JPEG2000Lossless), verdict)
    short = {"ExtendedOffsetTable": Element("OV", b"\0" * 5)}
    yield "extended offset table: 5 bytes", (dicom(compressed(frame) | short, JPEG2000Lossless), ANY_IMAGE)


def _foreign(frame: bytes) -> Iterator[tuple[str, Crafted]]:
    """Yield files whose pixels are not in the transfer syntax that they claim."""
    raw = {"PixelData": Element("OW", TWELVE.tobytes())}
    yield "native pixels, says JPEG 2000", (dicom(radiograph_elements() | raw, JPEG2000Lossless), _CONTRADICTION)
    yield "native pixels, says RLE", (dicom(radiograph_elements() | raw, RLELossless), _CONTRADICTION)
    yield "native pixels in a fragment", (_file(encapsulate([TWELVE.tobytes()])), _DAMAGED)
    yield "fragments, says native", (dicom(compressed(frame), ExplicitVRLittleEndian), _CONTRADICTION)
    yield "fragments, says big endian", (dicom(compressed(frame), ExplicitVRBigEndian), ANY_IMAGE)
    yield "a defined length", (dicom(radiograph_elements() | {"PixelData": Element("OB", encapsulate([frame]))},
                                     JPEG2000Lossless), ANY_IMAGE)  # fmt: skip
    long = native() | {"PixelData": Element("OW", TWELVE.tobytes(), 2**32 - 2)}
    yield "native pixels of 4 GiB, all that is needed there", (dicom(long), ANY_IMAGE)
    odd = native() | {"PixelData": Element("OW", TWELVE.tobytes(), 2**32 - 1)}
    yield "native pixels of undefined length", (dicom(odd), ANY_IMAGE)
    for name, other in (("jpeg 12", "j2k"), ("j2k", "jpeg 12"), ("rle", "j2k"), ("jpeg-ls", "j2k")):
        swapped = compressed(frames()[other])
        yield f"{other}, says {name}", (dicom(swapped, encodings()[name].syntax), _DAMAGED)
    eight = compressed(frames()["jpeg"], 8)
    yield "jpeg of 8 bits, says jpeg 12", (dicom(eight, encodings()["jpeg 12"].syntax), ANY_IMAGE)
    lossy = dicom(compressed(frames()["j2k lossy"]), JPEG2000Lossless)
    yield "a lossy codestream, says lossless", (lossy, ANY_IMAGE)
    yield (
        "VR OW for fragments",
        (
            dicom(
                radiograph_elements() | {"PixelData": Element("OW", encapsulate([frame]), 2**32 - 1)}, JPEG2000Lossless
            ),
            _CLEAN,
        ),
    )
    frames_text = element("NumberOfFrames", "1\\2")
    yield (
        "NumberOfFrames twice",
        (dicom(compressed(frame) | {"NumberOfFrames": frames_text}, JPEG2000Lossless), ANY_IMAGE),
    )
