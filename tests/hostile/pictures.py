"""Family "pictures": PNG, JPEG and TIFF files of every mode, and those that lie or are bombs."""

import struct
from collections.abc import Iterator

import numpy as np
from phantoms import dicom_file, make_dataset, saved
from PIL import Image, ImageCms, PngImagePlugin

from hostile.families import Crafted, Family
from hostile.lying_pictures import bombs, chunk_faults, jpeg_faults, tiff_faults
from hostile.picture_files import END, HEIGHT, SIGNATURE, chunk, interlaced, pixels, png, tiff
from hostile.radiographs import EIGHT, SIXTEEN
from hostile.verdicts import ANY_IMAGE, Verdict, refused, shown

_CLEAN = shown()
_SEEN, _REFUSED = (Verdict(outcome, limit=ANY_IMAGE.limit) for outcome in ("read", "refused"))
_UNKNOWN, _SEVERAL = map(refused, ("unknown-kind", "several-images"))
_ORIENTATION = 0x0112


def _modes() -> Iterator[tuple[str, Crafted]]:
    grey = Image.fromarray(EIGHT)
    alpha = Image.fromarray((np.arange(EIGHT.size).reshape(EIGHT.shape) % 256).astype(np.uint8))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"):
        made = Image.fromarray(SIXTEEN) if mode.startswith("I") else grey.convert(mode)
        yield f"PNG {mode}", (saved(made), _CLEAN if mode not in ("LA", "RGBA") else _SEEN)
    for mode in ("LA", "RGBA"):
        clear = grey.convert(mode)
        clear.putalpha(alpha)
        yield f"PNG {mode}, partly clear", (saved(clear), shown("transparency"))
        clear.putalpha(0)
        yield f"PNG {mode}, wholly clear", (saved(clear), _SEEN)
    yield "PNG PA", (saved(grey.convert("P"), transparency=bytes(range(256))), _SEEN)
    yield "PNG P of one clear colour", (saved(grey.convert("P"), transparency=0), _SEEN)
    yield "PNG L with a clear grey", (saved(grey, transparency=128), _SEEN)
    colour = Image.fromarray(np.stack([EIGHT, EIGHT[::-1], EIGHT[:, ::-1]], axis=2))
    yield "PNG of colours", (saved(colour), shown("colour"))
    for mode in ("L", "RGB", "CMYK", "YCbCr"):
        yield f"JPEG {mode}", (saved(grey.convert(mode), "JPEG", quality=95), _CLEAN if mode != "CMYK" else _SEEN)
    yield "JPEG progressive", (saved(grey, "JPEG", progressive=True), _CLEAN)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I", "F", "CMYK", "YCbCr", "LAB"):
        deep = {"I": SIXTEEN.astype("<i4"), "F": (SIXTEEN / 65535).astype("<f4"), "I;16": SIXTEEN}
        made = Image.fromarray(deep[mode]) if mode in deep else grey.convert(mode) if mode != "I;16B" else None
        data = saved(made, "TIFF") if made else tiff(SIXTEEN.astype(">u2").tobytes(), 16, ">")
        yield f"TIFF {mode}", (data, _CLEAN if mode in ("1", "L", "RGB", "I;16", "I;16B", "F") else ANY_IMAGE)
    for depth in (1, 2, 4):
        step = np.packbits(
            np.unpackbits(EIGHT.reshape(HEIGHT, -1, 1), axis=2)[:, :, :depth].reshape(HEIGHT, -1), axis=1
        )
        yield f"PNG of {depth} bits", (png(pixels(step), END, depth=depth), _CLEAN)


def _deep() -> Iterator[tuple[str, Crafted]]:
    """Yield PNG files of 16 bits that Pillow cuts to 8 (PNG specification 11.2.1)."""
    wide = SIXTEEN[:, :, None]
    opaque = np.full_like(wide, 65535)
    yield "PNG of 16 bits and colour", (png(pixels(np.repeat(wide, 3, 2)), END, depth=16, colour=2), ANY_IMAGE)
    yield "PNG of 16 bits, alpha", (png(pixels(np.dstack([wide, opaque])), END, depth=16, colour=4), ANY_IMAGE)
    rgba = np.dstack([wide, wide, wide, opaque])
    yield "PNG of 16 bits, colour, alpha", (png(pixels(rgba), END, depth=16, colour=6), ANY_IMAGE)
    clear = chunk(b"tRNS", b"\x80\x00")
    yield "PNG of 16 bits and a clear grey", (png(clear, pixels(SIXTEEN), END, depth=16), ANY_IMAGE)
    yield "12 bits in 16", (saved(SIXTEEN >> 4), shown("bits"))


def _extras() -> Iterator[tuple[str, Crafted]]:
    """Yield pictures with parts that change nothing, or that many readers heed."""
    for gamma in (0, 1, 45455, 100000, 2**31 - 1):
        yield f"gAMA {gamma}", (png(chunk(b"gAMA", struct.pack(">I", gamma)), pixels(), END), _SEEN)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for format in ("PNG", "JPEG", "TIFF"):
        yield f"ICC in {format}", (saved(EIGHT, format, icc_profile=profile), _CLEAN)
        yield f"ICC of noise in {format}", (saved(EIGHT, format, icc_profile=bytes(range(256)) * 9), _CLEAN)
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Patient", "CANARY", zip=True)
    texts.add_itxt("Comment", "CANARY")
    yield "texts", (saved(EIGHT, pnginfo=texts), _CLEAN)
    for size in (0, 1, 60_000):
        yield f"{size} unknown chunks", (png(*[chunk(b"abCd", b"x")] * size, pixels(), END), _CLEAN)
    yield "an unknown critical chunk", (png(chunk(b"ABCD", b"x"), pixels(), END), ANY_IMAGE)
    yield "Adam7", (interlaced(), ANY_IMAGE)


def _orientations() -> Iterator[tuple[str, Crafted]]:
    for orientation in (*range(10), 65535):
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        for format in ("PNG", "JPEG"):
            verdict = _CLEAN if 1 <= orientation <= 8 else shown("orientation")
            yield f"{format} {orientation}", (saved(EIGHT, format, exif=exif.tobytes()), verdict)
    yield "EXIF of noise", (saved(EIGHT, "JPEG", exif=b"Exif\0\0" + bytes(range(200))), ANY_IMAGE)
    text = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x01\x12\0\2\xff\xff\xff\xff\0\0\0\0\0\0\0\0"
    yield "EXIF of 4 GiB", (saved(EIGHT, "JPEG", exif=text), ANY_IMAGE)
    loop = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\x08"
    yield "EXIF in a loop", (saved(EIGHT, "JPEG", exif=loop), ANY_IMAGE)


def _several() -> Iterator[tuple[str, Crafted]]:
    frames = [Image.fromarray(np.roll(EIGHT, shift)) for shift in range(3)]
    for format in ("PNG", "TIFF"):
        data = saved(frames[0], format, save_all=True, append_images=frames[1:])
        yield f"{format} of three", (data, _SEVERAL)
    yield "MPO of three", (saved(frames[0], "MPO", save_all=True, append_images=frames[1:]), ANY_IMAGE)
    for count in (0, 2, 2**31 - 1, 2**32 - 1):
        control = chunk(b"acTL", struct.pack(">2I", count, 0))
        yield f"{count} frames announced", (png(control, pixels(), END), ANY_IMAGE)
    yield "one frame announced", (png(chunk(b"acTL", struct.pack(">2I", 1, 0)), pixels(), END), ANY_IMAGE)


def _others() -> Iterator[tuple[str, Crafted]]:
    """Yield what is no PNG, JPEG or TIFF, whatever it is called; and what is two things at once."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 48 64\n(CANARY) show\n%%EOF\n"
    vector = b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>'
    for title, data in (
        ("EPS", script),
        ("EPS for DOS", b"\xc5\xd0\xd3\xc6" + struct.pack("<2I", 32, len(script)) + bytes(20) + script),
        ("SVG", vector), ("PDF", b"%PDF-1.4\n"), ("PPM", b"P6 9 9 255 " + bytes(243)), ("XBM", b"#define a_width 9\n"),
        ("FITS", b"SIMPLE  =                    T"), ("ICNS", b"icns" + bytes(20)), ("PSD", b"8BPS\0\1" + bytes(40)),
    ):  # fmt: skip
        yield title, (data, _UNKNOWN)
    for format in ("GIF", "BMP", "WEBP", "JPEG2000", "TGA", "PCX", "SGI", "ICO"):
        yield format, (saved(EIGHT, format), Verdict("refused", limit=ANY_IMAGE.limit))
    good = saved(EIGHT)
    yield "a script with the signature of a PNG", (SIGNATURE + script, _REFUSED)
    yield "a PNG, then a zip archive", (good + b"PK\3\4" + bytes(50), ANY_IMAGE)
    yield "a PNG, then a script", (good + b"<script>alert(1)</script>", ANY_IMAGE)
    yield "a PNG, then a JPEG", (good + saved(EIGHT, "JPEG"), ANY_IMAGE)
    yield "a PNG with DICM at 128", (good[:128] + b"DICM" + good[132:], _REFUSED)
    yield "a PNG behind a byte", (b"\0" + good, _UNKNOWN)
    mark = dicom_file(make_dataset(EIGHT, stored=8))
    yield "a DICOM file in a text chunk", (png(chunk(b"teXt", mark), pixels(), END), _CLEAN)


FAMILY = Family(
    {
        "modes": _modes, "deep": _deep, "extras": _extras, "orientations": _orientations, "several": _several,
        "bombs": bombs, "chunks": chunk_faults, "jpegs": jpeg_faults, "tiffs": tiff_faults, "others": _others,
    }
)  # fmt: skip
list_ids, make = FAMILY.list_ids, FAMILY.make
