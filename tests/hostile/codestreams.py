"""Part of the family "dicoms": compressed pixels whose own headers lie, and those that are bombs."""

import struct
from collections.abc import Iterator

from pydicom.uid import RLELossless

from hostile.elements import dicom, element
from hostile.families import Crafted
from hostile.radiographs import compressed, encodings, frames
from hostile.verdicts import ANY_IMAGE, Verdict, refused, shown

_CONTRADICTION, _DAMAGED, _TRUNCATED, _TOO_LARGE, _UNSUPPORTED = map(
    refused, ("contradiction", "damaged", "truncated", "too-large", "unsupported")
)
_REFUSED, _SEEN = (Verdict(outcome, limit=ANY_IMAGE.limit) for outcome in ("refused", "read"))
_OTHER_BITS = shown("bits")
#: What a codestream says, by where it says it (ISO 15444-1 A.5.1, SIZ): offset, struct format.
_SIZ = {"width": (8, ">I"), "height": (12, ">I"), "left": (16, ">I"), "top": (20, ">I"), "tile width": (24, ">I"),
        "tile height": (28, ">I"), "tile left": (32, ">I"), "tile top": (36, ">I"), "components": (40, ">H"),
        "depth": (42, ">B"), "step": (43, ">B")}  # fmt: skip
#: The same behind the marker of a frame in any JPEG (ISO 10918-1 B.2.2, SOF).
_SOF = {"depth": (4, ">B"), "height": (5, ">H"), "width": (7, ">H"), "components": (9, ">B"), "sampling": (11, ">B")}
#: What 2 bits and 15 bits are in each JPEG: other bits than the dataset says are read, if the codec has them.
_DEPTHS = {
    "jpeg": (_UNSUPPORTED, _UNSUPPORTED), "jpeg 12": (_UNSUPPORTED, _UNSUPPORTED),
    "jpeg lossless": (_OTHER_BITS, _OTHER_BITS), "jpeg-ls": (_REFUSED, _REFUSED),
}  # fmt: skip
_JPEG2000 = ("j2k", "htj2k")
_JPEG = {"jpeg": b"\xff\xc0", "jpeg 12": b"\xff\xc1", "jpeg lossless": b"\xff\xc3", "jpeg-ls": b"\xff\xf7"}


def _file(name: str, frame: bytes, **values: object) -> bytes:
    encoding = encodings()[name]
    stored = 8 if name in ("jpeg", "j2k 8", "rle 8") else 16 if name in ("htj2k", "jpeg-ls") else 12
    dataset = compressed(frame, stored) | {key: element(key, value) for key, value in values.items()}
    return dicom(dataset, encoding.syntax)


def _put(frame: bytes, offset: int, form: str, value: int) -> bytes:
    return frame[:offset] + struct.pack(form, value) + frame[offset + struct.calcsize(form) :]


def codestream_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield files whose codestream says something else than the dataset, or nonsense."""
    for name in _JPEG2000:
        for field, value, verdict in (
            # more tiles than there are, or another size than the dataset's: both are true
            ("width", 96, _REFUSED), ("height", 65, _REFUSED), ("width", 0, _DAMAGED),
            ("width", 2**32 - 1, _TOO_LARGE), ("height", 65535, _TOO_LARGE),
            ("left", 2**32 - 1, _DAMAGED), ("top", 1, _CONTRADICTION), ("tile width", 0, _DAMAGED),
            ("tile height", 1, ANY_IMAGE), ("tile left", 2**32 - 1, _DAMAGED), ("components", 0, _DAMAGED),
            ("components", 3, _DAMAGED), ("components", 16384, _DAMAGED),
            ("components", 65535, _REFUSED), ("depth", 37, _UNSUPPORTED),
            ("depth", 255, _REFUSED),
            ("depth", 0, _OTHER_BITS),
            ("step", 0, _UNSUPPORTED), ("step", 2, _UNSUPPORTED), ("step", 255, _UNSUPPORTED),
        ):  # fmt: skip
            yield f"{name}, {field} {value}", (_file(name, _put(frames()[name], *_SIZ[field], value)), verdict)
        yield f"{name}, 1 x 1 tiles", (_file(name, _put(frames()[name], 24, ">Q", 2**32 + 1)), ANY_IMAGE)
    for name, marker in _JPEG.items():
        start = frames()[name].index(marker)
        for field, value, verdict in (
            ("height", 0, _REFUSED), ("height", 63, _CONTRADICTION), ("height", 65535, _TOO_LARGE),
            ("width", 0, _DAMAGED), ("width", 47, _CONTRADICTION), ("width", 65535, _TOO_LARGE),
            ("components", 0, _UNSUPPORTED), ("components", 3, _REFUSED),
            ("components", 255, _REFUSED),
            ("depth", 0, _UNSUPPORTED), ("depth", 2, _DEPTHS[name][0]), ("depth", 15, _DEPTHS[name][1]),
            ("sampling", 0, ANY_IMAGE), ("sampling", 255, ANY_IMAGE),
        ):  # fmt: skip
            offset, form = _SOF[field]
            yield f"{name}, {field} {value}", (_file(name, _put(frames()[name], start + offset, form, value)), verdict)
        tables = frames()[name]
        for table in (b"\xff\xc4", b"\xff\xdb"):
            if table in tables:
                wrong = tables.replace(table, b"\xff\xfe")
                # the codes of ISO 10918-1 K.3, which these have, are put in where Motion JPEG leaves them out
                filled = table == b"\xff\xc4" and name in ("jpeg", "jpeg 12")
                yield f"{name}, no {table.hex()}", (_file(name, wrong), _SEEN if filled else _REFUSED)
        yield f"{name}, arithmetic", (_file(name, tables.replace(marker, b"\xff\xc9", 1)), _REFUSED)
        yield f"{name}, two frames", (_file(name, tables[:-2] + tables), ANY_IMAGE)
    yield from _cuts()
    yield from _sizes()
    yield from _segments()


def _cuts() -> Iterator[tuple[str, Crafted]]:
    """Yield codestreams that end too early, or start too late."""
    for name in ("jpeg", "jpeg 12", "jpeg lossless", "jpeg-ls", "j2k", "htj2k", "rle"):
        frame = frames()[name]
        for length in (1, 2, 50):
            yield f"{name}, {length} bytes", (_file(name, frame[:length]), _REFUSED)
        yield f"{name}, half", (_file(name, frame[: len(frame) // 2]), _TRUNCATED)
        if name != "rle":
            yield f"{name}, no end", (_file(name, frame[:-2]), _TRUNCATED)
            yield f"{name}, ends a little early", (_file(name, frame[:-12]), _TRUNCATED)
            yield f"{name}, no start", (_file(name, frame[2:]), _DAMAGED)
        yield f"{name}, padding of 1000 zeros", (_file(name, frame + bytes(1000)), shown())
        yield f"{name}, noise", (_file(name, bytes(range(256)) * 8), _DAMAGED)


def _sizes() -> Iterator[tuple[str, Crafted]]:
    """Yield bombs: a codestream and a dataset that agree on a size that no radiograph has, or only one that does."""
    sides = {"65535 x 65535": (65535, 65535), "16384 x 16384": (16384, 16384), "65535 x 64": (65535, 64)}
    for title, (width, height) in sides.items():
        for name in (*_JPEG2000, *_JPEG):
            marker = 0 if name in _JPEG2000 else frames()[name].index(_JPEG[name])
            fields = _SIZ if name in _JPEG2000 else _SOF
            frame = frames()[name]
            for field, value in (("width", width), ("height", height), ("tile width", width), ("tile height", height)):
                if field in fields:
                    frame = _put(frame, marker + fields[field][0], fields[field][1], value)
            told = _file(name, frame, Rows=height, Columns=width)
            yield f"{name}, {title}", (told, _TOO_LARGE)
            yield f"{name}, {title}, untold", (_file(name, frame), _TOO_LARGE)
            told = _file(name, frames()[name], Rows=height, Columns=width)
            yield f"{name}, {title}, in the dataset", (told, _TOO_LARGE)
    for name in (*_JPEG2000, *_JPEG):
        fields, marker = (_SIZ, 0) if name in _JPEG2000 else (_SOF, frames()[name].index(_JPEG[name]))
        frame = frames()[name]
        for field in ("width", "height", "tile width", "tile height"):
            if field in fields:
                frame = _put(frame, marker + fields[field][0], fields[field][1], 9990)
        told = _file(name, frame, Rows=9990, Columns=9990)
        # a black picture in JPEG 2000 may be as small as this
        verdict = ANY_IMAGE if name in _JPEG2000 else _REFUSED
        yield f"{name}, 9990 x 9990 of nearly nothing", (told, verdict)


def _segments() -> Iterator[tuple[str, Crafted]]:
    """Yield RLE frames whose headers lie (PS3.5 G.5)."""
    frame = frames()["rle"]
    ends = {"a run beyond the end": b"\x81\0" * 40, "literals beyond the end": b"\x7f", "no operations": b"\x80" * 2000}
    for count in (0, 1, 3, 15, 16, 255, 2**32 - 1):
        yield f"rle, {count} segments", (_file("rle", _put(frame, 0, "<I", count)), _REFUSED)
    for offset in (0, 63, 65, 2**31, 2**32 - 1):
        yield f"rle, first offset {offset}", (_file("rle", _put(frame, 4, "<I", offset)), ANY_IMAGE)
    for offset in (0, 64, 2**31, 2**32 - 1):
        yield f"rle, second offset {offset}", (_file("rle", _put(frame, 8, "<I", offset)), ANY_IMAGE)
    for title, segment in ends.items():
        one = struct.pack("<16I", 2, 64, 64 + len(segment), *[0] * 13) + segment * 2
        yield f"rle, {title}", (_file("rle", one), ANY_IMAGE if "run" in title else _REFUSED)
    large = compressed(frame) | {key: element(key, 65535) for key in ("Rows", "Columns")}
    yield "rle, 65535 x 65535", (dicom(large, RLELossless), _TOO_LARGE)
    fair = compressed(frame) | {key: element(key, 9990) for key in ("Rows", "Columns")}
    yield "rle, 9990 x 9990", (dicom(fair, RLELossless), _TRUNCATED)
    swollen = struct.pack("<16I", 2, 64, 64 + 2**21, *[0] * 13) + b"\x81\0" * 2**21
    yield "rle, 256 MiB of zeros", (_file("rle", swollen), Verdict("either", limit=ANY_IMAGE.limit))
