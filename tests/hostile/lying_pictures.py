"""Part of the family "pictures": PNG, JPEG and TIFF files whose parts lie, and those that are bombs."""

import struct
import zlib
from collections.abc import Iterator

from phantoms import bare_png, saved
from PIL import Image

from hostile.elements import zeros
from hostile.families import Crafted
from hostile.picture_files import END, HEIGHT, SIGNATURE, WIDTH, chunk, pixels, png, raw_rows, tiff
from hostile.radiographs import EIGHT
from hostile.verdicts import ANY_IMAGE, Verdict, refused, shown

_CLEAN = shown()
_SEEN, _REFUSED = (Verdict(outcome, limit=ANY_IMAGE.limit) for outcome in ("read", "refused"))
_LARGE, _TRUNCATED = map(refused, ("too-large", "truncated"))


def bombs() -> Iterator[tuple[str, Crafted]]:
    """Yield small files of huge pictures; none of them is ever held in memory here."""
    huge = 30_000
    rows = chunk(b"IDAT", zeros(huge * (huge + 1) // 2**20 + 1))
    yield "PNG 30000 x 30000", (png(rows, END, size=(huge, huge)), _LARGE)
    for width, height in ((2**31 - 1, 2**31 - 1), (65535, 65535), (2**31 - 1, 1), (1, 2**31 - 1), (16_385, 16)):
        yield f"PNG header of {width} x {height}", (png(pixels(), END, size=(width, height)), _LARGE)
    yield "PNG 0 x 0", (png(pixels(), END, size=(0, 0)), _REFUSED)
    yield "PNG with 2 GiB behind its rows", (png(chunk(b"IDAT", zeros(2048, before=raw_rows())), END), ANY_IMAGE)
    rgba = chunk(b"IDAT", zeros(9990 * (9990 * 8 + 1) // 2**20 + 1))
    yield "PNG 9990 x 9990 of 16-bit colour", (png(rgba, END, size=(9990, 9990), depth=16, colour=6), ANY_IMAGE)
    nothing = chunk(b"IDAT", zlib.compress(b""))
    yield "PNG 9990 x 9990 of nothing", (png(nothing, END, size=(9990, 9990)), _TRUNCATED)
    for name, start in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        bomb = chunk(name, start + zeros(2048))
        yield f"{name.decode()} of 2 GiB", (png(bomb, pixels(), END), ANY_IMAGE)
        yield f"{name.decode()} of 2 GiB at the end", (png(pixels(), bomb, END), ANY_IMAGE)
        yield f"20 {name.decode()} of 60 MiB", (png(*[chunk(name, start + zeros(60))] * 20, pixels(), END), ANY_IMAGE)
    yield "tEXt of 20 MB", (png(chunk(b"tEXt", b"a\0" + b"x" * 20_000_000), pixels(), END), ANY_IMAGE)
    plain = saved(EIGHT, "JPEG")
    start = plain.index(b"\xff\xc0") + 5
    for height, width in ((65535, 65535), (65535, 16), (16, 65535), (16_384, 16_384)):
        lying = plain[:start] + struct.pack(">HH", height, width) + plain[start + 4 :]
        yield f"JPEG {height} x {width}", (lying, _LARGE)
    fair = plain[:start] + struct.pack(">HH", 9990, 9990) + plain[start + 4 :]
    yield "JPEG 9990 x 9990 of nearly nothing", (fair, _TRUNCATED)
    scans = saved(EIGHT, "JPEG", progressive=True)
    scan = scans[scans.index(b"\xff\xda") : -2]
    yield "JPEG of 5,000 scans", (scans[:-2] + scan * 5_000 + scans[-2:], ANY_IMAGE)


def chunk_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield PNG files whose chunks lie."""
    good, rows = pixels(), zlib.compress(raw_rows())
    whole = png(good, END)
    yield "no IEND", (png(good), _TRUNCATED)
    yield "no IDAT", (png(END), _REFUSED)
    yield "an empty IDAT", (png(chunk(b"IDAT", b""), END), _TRUNCATED)
    yield "half of IDAT", (png(chunk(b"IDAT", rows[: len(rows) // 2]), END), _TRUNCATED)
    yield "a row too few", (png(chunk(b"IDAT", zlib.compress(raw_rows()[: -WIDTH - 1])), END), _TRUNCATED)
    yield "a row too many", (png(chunk(b"IDAT", zlib.compress(raw_rows() + bytes(WIDTH + 1))), END), ANY_IMAGE)
    for percent in (1, 25, 50, 75, 95):
        yield f"the first {percent} %", (whole[: len(whole) * percent // 100], _REFUSED)
    yield "only the signature", (SIGNATURE, _REFUSED)
    yield "wrong sum of IDAT", (png(chunk(b"IDAT", rows, crc=0), END), _REFUSED)
    header = whole[:29] + b"\0\0\0\0" + whole[33:]
    yield "wrong sum of IHDR", (header, _REFUSED)
    yield "wrong sum of the deflate stream", (png(chunk(b"IDAT", rows[:-4] + b"\0\0\0\0"), END), ANY_IMAGE)
    yield "IDAT of 4 GiB", (png(chunk(b"IDAT", rows, length=2**32 - 1)), _REFUSED)
    yield "IDAT of 2 GiB", (png(chunk(b"IDAT", rows, length=2**31 - 1), END), _REFUSED)
    yield "IDAT in single bytes", (png(*[chunk(b"IDAT", rows[i : i + 1]) for i in range(len(rows))], END), _CLEAN)
    yield "two IHDR", (png(whole[8:33], good, END), ANY_IMAGE)
    for depth, colour in ((3, 0), (0, 0), (255, 0), (8, 1), (8, 7), (16, 3), (4, 2)):
        yield f"depth {depth}, colour {colour}", (bare_png(WIDTH, HEIGHT, depth, colour, raw_rows()), _REFUSED)
    yield "a palette without its colours", (bare_png(WIDTH, HEIGHT, 8, 3, raw_rows()), ANY_IMAGE)
    short = chunk(b"PLTE", bytes(3))
    yield "a palette of one colour", (png(short, good, END, colour=3), ANY_IMAGE)
    filters = b"".join(b"\x09" + row.tobytes() for row in EIGHT)
    yield "filters that do not exist", (png(chunk(b"IDAT", zlib.compress(filters)), END), _REFUSED)


def jpeg_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield JPEG files whose segments lie."""
    whole = saved(EIGHT, "JPEG", quality=95)
    frame = whole.index(b"\xff\xc0")
    yield "no end", (whole[:-2], _TRUNCATED)
    for percent in (10, 50, 90, 99):
        yield f"the first {percent} %", (whole[: len(whole) * percent // 100], _REFUSED)
    yield "only the start", (whole[:3], _REFUSED)
    yield "the end too early", (whole[: len(whole) * 2 // 3] + b"\xff\xd9", ANY_IMAGE)
    yield "zeros behind the end", (whole + bytes(1000), _CLEAN)
    for marker in (b"\xff\xdb", b"\xff\xc4", b"\xff\xda", b"\xff\xc0"):
        # the codes of ISO 10918-1 K.3, which this file has, are put in where Motion JPEG leaves them out
        verdict = _SEEN if marker == b"\xff\xc4" else _REFUSED
        yield f"no {marker.hex()}", (whole.replace(marker, b"\xff\xfe"), verdict)
    for kind in (1, 2, 3, 5, 7, 9, 11, 15):
        changed = whole[: frame + 1] + bytes([0xC0 + kind]) + whole[frame + 2 :]
        yield f"frame of kind {kind}", (changed, ANY_IMAGE)
    for offset, value, verdict in (
        (4, 12, _REFUSED),
        (4, 0, _REFUSED),
        (9, 0, _REFUSED),
        (9, 255, _REFUSED),
        (11, 0, ANY_IMAGE),
        (11, 255, ANY_IMAGE),
    ):
        changed = whole[: frame + offset] + bytes([value]) + whole[frame + offset + 1 :]
        yield f"byte {offset} of the frame is {value}", (changed, verdict)
    for side, value in (("height", 0), ("width", 0)):
        offset = frame + (5 if side == "height" else 7)
        yield f"{side} {value}", (whole[:offset] + struct.pack(">H", value) + whole[offset + 2 :], _REFUSED)
    yield "two in one file", (whole + whole, ANY_IMAGE)


def tiff_faults() -> Iterator[tuple[str, Crafted]]:
    """Yield TIFF files whose directories lie."""
    raw = EIGHT.tobytes()
    whole, first = tiff(raw), 8 + len(raw)
    yield "honest", (whole, _CLEAN)
    for tag, title in ((256, "width"), (257, "height")):
        for value, verdict in ((0, _REFUSED), (1, ANY_IMAGE), (9990, _REFUSED), (65535, _LARGE), (2**32 - 1, _LARGE)):
            yield f"{title} {value}", (tiff(raw, **{f"tag{tag}": value}), verdict)
    for tag, title, values in (
        (258, "bits", (0, 3, 32, 65535)), (259, "compression", (0, 2, 5, 6, 7, 8, 32773, 34712, 50000, 65535)),
        (262, "photometric", (0, 2, 3, 5, 6, 8, 65535)), (277, "samples", (0, 2, 255, 65535)),
        (273, "offset", (0, 1, 10**6, 2**32 - 1)), (279, "bytes", (0, 1, 10**6, 2**32 - 1)),
        (278, "rows of a strip", (0, 1, 10**6, 2**32 - 1)), (322, "tile width", (0, 1, 16, 2**32 - 1)),
        (274, "orientation", (0, 6, 9, 65535)), (339, "sample format", (0, 2, 3, 4, 65535)),
        (266, "fill order", (0, 2)),
    ):  # fmt: skip
        for value in values:
            yield f"{title} {value}", (tiff(raw, **{f"tag{tag}": value}), ANY_IMAGE)
        yield f"{title}, 4 billion of them", (tiff(raw, **{f"tag{tag}": (4, 2**32 - 1, 8)}), ANY_IMAGE)
        yield f"{title}, a million of them", (tiff(raw + bytes(4_000_000), **{f"tag{tag}": (4, 10**6, 8)}), ANY_IMAGE)
    for title, value in (("itself", first), ("the end", len(whole)), ("beyond", 2**31)):
        yield f"next directory: {title}", (tiff(raw, link=value), ANY_IMAGE)
    yield "no directory", (whole[:4] + bytes(4) + whole[8:], _REFUSED)
    yield "a directory beyond the end", (whole[:4] + struct.pack("<I", 10**9) + whole[8:], _REFUSED)
    yield "65535 entries", (tiff(raw, entries=65535), ANY_IMAGE)
    for percent in (1, 10, 50, 90):
        yield f"the first {percent} %", (whole[: len(whole) * percent // 100], _REFUSED)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"):
        plain = Image.fromarray(EIGHT).convert("1" if compression == "group4" else "L")
        packed = saved(plain, "TIFF", compression=compression)
        yield compression, (packed, ANY_IMAGE)
        yield f"{compression}, broken", (packed[:40] + bytes(range(64)) + packed[104:], ANY_IMAGE)
    yield "BigTIFF", (saved(EIGHT, "TIFF", big_tiff=True), ANY_IMAGE)
    yield "deflated 600 MB", (_tiff_bomb(), _LARGE)


def _tiff_bomb() -> bytes:
    side = 25_000
    body = zeros(side * side // 2**20 + 1)
    return tiff(body, tag256=side, tag257=side, tag259=8, tag278=side)
