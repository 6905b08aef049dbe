"""PNG, JPEG and TIFF files, PIL images, arrays and tensors -> one grey image, one row per kind."""

import io
import struct
import traceback
import warnings
import zlib
from pathlib import Path

import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from phantoms import bare_png, saved
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging import read, read_image, read_pixels

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"

GREY = phantoms.radiograph(21, 34)
DEEP = phantoms.radiograph(21, 34, bits=16)
RGB = np.repeat(GREY[:, :, None], 3, axis=2)
PICTURE = Image.fromarray(GREY)


def palette(picture):
    """Return the picture with a palette whose entries are greys in another order than their index."""
    indexed = Image.fromarray(255 - np.asarray(picture)).convert("P")
    indexed.putpalette([255 - index // 3 for index in range(768)])
    return indexed


def with_tag(data, tag, value):
    """Return a little-endian TIFF with another number in a tag of one number."""
    entry = next(entry for kind in (3, 4) if (entry := struct.pack("<HHI", tag, kind, 1)) in data)
    start, after = data.split(entry)
    return start + entry + struct.pack("<I", value) + after[4:]


SAME_8_BIT = {
    "grey PNG": saved(PICTURE),
    "RGB PNG": saved(PICTURE.convert("RGB")),
    "palette PNG": saved(palette(PICTURE)),
    "grey PNG with opaque alpha": saved(PICTURE.convert("LA")),
    "RGB PNG with opaque alpha": saved(PICTURE.convert("RGBA")),
    "bytearray": bytearray(saved(PICTURE)),
    "grey TIFF": saved(PICTURE, "TIFF"),
    "grey TIFF, LZW": saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "grey TIFF, Deflate": saved(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "grey TIFF, PackBits": saved(PICTURE, "TIFF", compression="packbits"),
    "grey TIFF, zero is white": with_tag(saved(255 - GREY, "TIFF"), 262, 0),
    "RGB TIFF": saved(PICTURE.convert("RGB"), "TIFF", compression="tiff_lzw"),
    "palette TIFF": saved(palette(PICTURE), "TIFF"),
    "TIFF with opaque alpha": saved(PICTURE.convert("LA"), "TIFF"),
    "CMYK TIFF": saved(PICTURE.convert("CMYK"), "TIFF"),
    "PNG with a profile": saved(PICTURE, icc_profile=b"no profile at all"),
    "L": PICTURE,
    "RGB": PICTURE.convert("RGB"),
    "P": palette(PICTURE),
    "array": GREY,
    "array with one channel": GREY[:, :, None],
    "array with three channels": RGB,
    "array with opaque alpha": np.dstack([RGB, np.full_like(GREY, 255)]),
    "array, channels first": np.moveaxis(RGB, 2, 0),
    "array, one channel first": GREY[None],
    "array with gaps in memory": np.repeat(GREY, 2, axis=1)[:, ::2],
    "tensor": torch.from_numpy(GREY),
    "tensor, channels first": torch.from_numpy(RGB).permute(2, 0, 1),
}


@pytest.mark.parametrize("source", SAME_8_BIT.values(), ids=SAME_8_BIT)
def test_8_bit(source):
    """An 8-bit grey picture of any kind keeps its pixels exactly, without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, image = read_pixels(source), read_image(source)
    assert np.uint8 == pixels.dtype
    np.testing.assert_array_equal(pixels, GREY)
    assert np.float32 == image.dtype
    np.testing.assert_array_equal(image, GREY.astype(np.float32) / np.float32(255))


FLOAT = GREY.astype(np.float64) / 255

SAME_DEEP = {
    "16-bit PNG": (saved(DEEP), DEEP / 65535),
    "16-bit TIFF": (saved(DEEP, "TIFF"), DEEP / 65535),
    "16-bit TIFF, LZW": (saved(DEEP, "TIFF", compression="tiff_lzw"), DEEP / 65535),
    "16-bit TIFF, big endian": (saved(DEEP, "TIFF", big_endian=True), DEEP / 65535),
    "16-bit TIFF, zero is white": (with_tag(saved(65535 - DEEP, "TIFF"), 262, 0), DEEP / 65535),
    "float TIFF": (saved(FLOAT.astype(np.float32), "TIFF"), FLOAT),
    "float TIFF, zero is white": (with_tag(saved(1 - FLOAT.astype(np.float32), "TIFF"), 262, 0), FLOAT),
    "I;16": (Image.fromarray(DEEP), DEEP / 65535),
    "I": (Image.fromarray(DEEP.astype(np.int32)), DEEP / 65535),
    "F": (Image.fromarray(FLOAT.astype(np.float32)), FLOAT),
    "uint16": (DEEP, DEEP / 65535),
    "uint16, big endian": (DEEP.astype(">u2"), DEEP / 65535),
    "uint16, three channels": (np.repeat(DEEP[None], 3, axis=0), DEEP / 65535),
    "float64": (FLOAT, FLOAT),
    "float32, three channels": (np.repeat(FLOAT[:, :, None], 3, axis=2).astype(np.float32), FLOAT),
    "float16": (np.array([[0, 0.25, 1]], np.float16), np.array([[0, 0.25, 1]])),
    "float tensor": (torch.from_numpy(FLOAT), FLOAT),
    "bfloat16 tensor": (torch.tensor([[0, 0.25, 1]], dtype=torch.bfloat16), np.array([[0, 0.25, 1]])),
    "tensor with a gradient": (torch.tensor([[0, 0.25, 1]], requires_grad=True), np.array([[0, 0.25, 1]])),
    "float a rounding error outside": (np.array([[-1e-7, 1 + 1e-7]]), np.array([[0, 1]])),
}


@pytest.mark.parametrize(("source", "expected"), SAME_DEEP.values(), ids=SAME_DEEP)
def test_more_than_8_bit(source, expected):
    """16 bits are divided by 65535 and floats kept; both come as float32."""
    pixels = read_pixels(source)
    assert np.float32 == pixels.dtype
    np.testing.assert_allclose(pixels, expected, atol=1e-7)
    np.testing.assert_array_equal(read_image(source), pixels)


def test_1_bit():
    """Pictures of 1 bit are black and white."""
    picture = PICTURE.point(lambda value: value > 127, mode="1")
    for source in (picture, saved(picture)):
        np.testing.assert_array_equal(read_pixels(source), (GREY > 127) * np.uint8(255))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(mode, progressive):
    """A JPEG gives the pixels that PIL gives, whether it is stored as grey, as colour or for print."""
    data = saved(PICTURE.convert(mode), "JPEG", quality=90, progressive=progressive)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert("L"))
    np.testing.assert_array_equal(read_pixels(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation):
    """The EXIF orientation is applied to files and to opened pictures, so that heads are up."""
    turn = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: np.rot90,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(PICTURE, exif=exif)
    np.testing.assert_array_equal(read_pixels(data), turn(GREY))
    np.testing.assert_array_equal(read_pixels(Image.open(io.BytesIO(data))), turn(GREY))


COLOUR = RGB.copy()
COLOUR[3, 4] = [200, 100, 0]


@pytest.mark.parametrize(
    "source",
    [COLOUR, saved(COLOUR), COLOUR.astype(np.uint16) * 257, COLOUR / 255, np.moveaxis(COLOUR, 2, 0)],
    ids=["array", "PNG", "uint16", "float", "channels first"],
)
def test_colour(source):
    """A picture in colour becomes the luma that PIL computes, with a warning that says how coloured it is."""
    with pytest.warns(UserWarning, match="up to 200 of 255"):
        image = read_image(source)
    expected = np.asarray(Image.fromarray(COLOUR).convert("L"))
    np.testing.assert_allclose(image, expected / 255, atol=0.51 / 255)


def test_colour_within_tolerance():
    """Channels that differ by 2 steps, as lossy coding leaves them, are grey without a warning; 3 are not."""
    pixels = RGB.copy().clip(0, 250)
    pixels[..., 2] += 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_pixels(pixels)
    np.testing.assert_array_equal(image, np.asarray(Image.fromarray(pixels).convert("L")))
    pixels[..., 2] += 1
    with pytest.warns(UserWarning, match="up to 3 of 255"):
        read_pixels(pixels)


def test_transparency():
    """Transparent parts become black, in proportion to their alpha, with a warning that says how many."""
    array = np.dstack([RGB, np.full_like(GREY, 255)])
    array[0, :, 3], array[1, :, 3] = 0, 51
    expected = GREY.astype(np.float64)
    expected[0], expected[1] = 0, np.rint(expected[1] * 0.2)
    for source in (array, saved(array), Image.fromarray(array), saved(Image.fromarray(array).convert("LA"))):
        with pytest.warns(UserWarning, match="9.52% of the picture is transparent"):
            pixels = read_pixels(source)
        np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 1), (3, 3), (3, 4), (1, 40)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_small_pictures(shape, mode):
    """A picture of few rows or columns is not mistaken for an array of channels."""
    truth = phantoms.radiograph(*shape)
    picture = Image.fromarray(truth).convert(mode)
    for source in (picture, saved(picture), truth):
        np.testing.assert_array_equal(read_pixels(source), truth)


def test_transparent_palette_entry():
    """A colour that a PNG declares transparent becomes black."""
    data = saved(Image.fromarray(np.array([[9, 200]], np.uint8)), transparency=200)
    with pytest.warns(UserWarning, match="transparent"):
        assert [[9, 0]] == read_pixels(data).tolist()


def animated(format):
    """Return two pictures in one file."""
    return saved(PICTURE, format, save_all=True, append_images=[PICTURE.rotate(180)])


WHOLE_PNG, WHOLE_JPEG = saved(DEEP), saved(phantoms.radiograph(99, 99), "JPEG")


def cut(data, count):
    return data[: len(data) - count]


def png_of(*chunks):
    """Return a PNG of a grey 4 x 4 header and any chunks after it."""
    header = bare_png(4, 4, 8, 0, b"")[:33]
    return header + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def with_byte(data, position, value):
    return data[:position] + bytes([value]) + data[position + 1 :]


#: An ordinary picture of 4 x 4, as it is before compression.
ROWS = (b"\0" + b"abcd") * 4
SOF = WHOLE_JPEG.index(b"\xff\xc0")
PROGRESSIVE = saved(phantoms.radiograph(99, 99), "JPEG", progressive=True)
SOF2 = PROGRESSIVE.index(b"\xff\xc2")

REFUSED = {
    "an empty file": (b"", "an empty file", "unknown-kind", "open"),
    "PDF": (b"%PDF-1.7 x", "a PDF", "unknown-kind", "open"),
    "HTML": (b"\n <!DOCTYPE html><html>", "an HTML page", "unknown-kind", "open"),
    "XML": (b"<?xml version='1.0'?>", "an XML file", "unknown-kind", "open"),
    "GIF": (saved(PICTURE, "GIF"), "a GIF", "unknown-kind", "open"),
    "BMP": (saved(PICTURE, "BMP"), "a BMP", "unknown-kind", "open"),
    "WebP": (saved(PICTURE, "WEBP"), "a WebP", "unknown-kind", "open"),
    "JPEG 2000": (saved(PICTURE, "JPEG2000"), "a JPEG 2000 file outside of DICOM", "unknown-kind", "open"),
    "ZIP": (b"PK\x03\x04....", "a ZIP archive", "unknown-kind", "open"),
    "NumPy": (b"\x93NUMPY\x01\x00", "a NumPy file", "unknown-kind", "open"),
    "NIfTI": (bytes(344) + b"n+1\x00", "a NIfTI volume", "unknown-kind", "open"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull", "unknown-kind", "open"),
    "text": (b"CANARY was here", "a file of unknown kind", "unknown-kind", "open"),
    "PNG cut in half": (cut(WHOLE_PNG, len(WHOLE_PNG) // 2), "ends before its picture", "truncated", "parse"),
    "PNG header": (WHOLE_PNG[:20], "ends before its picture", "truncated", "parse"),
    "PNG without its end": (cut(WHOLE_PNG, 12), "ends before its picture", "truncated", "parse"),
    "PNG of too few rows": (bare_png(4, 5, 8, 0, ROWS), "ends before its picture", "truncated", "parse"),
    "PNG of too few 16-bit rows": (bare_png(4, 5, 16, 2, ROWS), "ends before its picture", "truncated", "parse"),
    "PNG without pixels": (png_of((b"IEND", b"")), "has no pixels", "damaged", "parse"),
    "PNG whose compression breaks off": (
        png_of((b"IDAT", zlib.compress(ROWS)[:9]), (b"IEND", b"")),
        "ends before its picture",
        "truncated",
        "parse",
    ),
    "PNG whose compression is damaged": (
        png_of((b"IDAT", zlib.compress(ROWS)[:2] + b"\xff" * 9), (b"IEND", b"")),
        "can't be decoded",
        "damaged",
        "decode",
    ),
    "PNG with a wrong checksum": (
        with_byte(WHOLE_PNG, WHOLE_PNG.index(b"IDAT") + 9, 0xAA),
        "wrong checksum",
        "damaged",
        "parse",
    ),
    "PNG without a header": (b"\x89PNG\r\n\x1a\n" + bytes(30), "begin with its header", "damaged", "parse"),
    "PNG of colour type 5": (bare_png(4, 4, 8, 5, ROWS), "makes no sense", "damaged", "parse"),
    "PNG of 10 gigapixels": (bare_png(100_000, 100_000, 8, 0, b""), "100 megapixels", "too-large", "header"),
    "PNG of 144 megapixels": (bare_png(12_000, 12_000, 8, 0, b""), "100 megapixels", "too-large", "header"),
    "PNG of 16,385 columns": (bare_png(16_385, 1, 8, 0, b""), "16,384", "too-large", "header"),
    "PNG of no columns": (bare_png(0, 1, 8, 0, b""), "0 columns", "too-small", "header"),
    "PNG of 90 megapixels in 16-bit colour": (bare_png(10_000, 9_000, 16, 6, b""), "687 MiB", "too-large", "header"),
    "PNG with a text that inflates to 100 MB": (
        png_of((b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 9)), (b"IDAT", zlib.compress(ROWS)), (b"IEND", b"")),
        "can't be decoded",
        "damaged",
        "parse",
    ),
    "JPEG cut in half": (cut(WHOLE_JPEG, len(WHOLE_JPEG) // 2), "ends before its picture", "truncated", "parse"),
    "JPEG header": (WHOLE_JPEG[:20], "ends before its picture", "truncated", "parse"),
    "JPEG without its end": (cut(WHOLE_JPEG, 2), "ends before its picture", "truncated", "parse"),
    "JPEG of markers": (b"\xff\xd8\xff\xc0\0\2\xff\xda\xff\xd9", "ends before its picture", "truncated", "parse"),
    "JPEG of 12 bits": (with_byte(WHOLE_JPEG, SOF + 4, 12), "12-bit JPEG", "unsupported", "header"),
    "lossless JPEG": (with_byte(WHOLE_JPEG, SOF + 1, 0xC3), "lossless", "unsupported", "header"),
    "JPEG of 65,535 rows": (
        WHOLE_JPEG[: SOF + 5] + b"\xff\xff" + WHOLE_JPEG[SOF + 7 :],
        "65535 rows",
        "too-large",
        "header",
    ),
    "JPEG of 999,999 segments": (
        b"\xff\xd8" + b"\xff\xe0\0\2" * 999_999 + WHOLE_JPEG[2:],
        "16,384 segments",
        "damaged",
        "parse",
    ),
    "JPEG of 100,000 scans": (
        PROGRESSIVE[: SOF2 + 5] + b"\x20\0\x20\0" + cut(PROGRESSIVE, 2)[SOF2 + 9 :] + b"\xff\xda" * 10**5 + b"\xff\xd9",
        "more often than any program",
        "too-large",
        "header",
    ),
    "JPEG without a picture": (WHOLE_JPEG[:SOF] + WHOLE_JPEG[SOF + 13 :], "no header", "damaged", "parse"),
    "TIFF cut in half": (cut(saved(PICTURE, "TIFF"), 300), "ends before its picture", "truncated", "parse"),
    "TIFF header": (saved(PICTURE, "TIFF")[:30], "can't be decoded", "damaged", "parse"),
    "TIFF in JPEG": (saved(PICTURE, "TIFF", compression="jpeg"), "compression 7", "unsupported", "header"),
    "TIFF in LAB": (saved(PICTURE.convert("RGB").convert("LAB"), "TIFF"), "8, compr", "unsupported", "header"),
    "TIFF of 32-bit integers": (saved(GREY.astype(np.int32), "TIFF"), "32 bits", "unsupported", "header"),
    "float TIFF beyond 1": (saved(GREY.astype(np.float32), "TIFF"), "from 0 to 255", "values", "display"),
    "TIFF of too few strips": (
        with_tag(saved(PICTURE, "TIFF", tiffinfo={278: 7}), 257, 22),
        "a part of its picture",
        "damaged",
        "parse",
    ),
    "TIFF with a strip too short": (
        with_tag(saved(PICTURE, "TIFF"), 279, 99),
        "ends before its picture",
        "truncated",
        "parse",
    ),
    "TIFF of 144 megapixels": (
        with_tag(with_tag(saved(PICTURE, "TIFF"), 256, 12_000), 257, 12_000),
        "100 megapixels",
        "too-large",
        "header",
    ),
    "TIFF of 10 gigapixels": (
        with_tag(with_tag(saved(PICTURE, "TIFF"), 256, 100_000), 257, 100_000),
        "more pixels than any radiograph",
        "too-large",
        "header",
    ),
    "TIFF whose LZW is damaged": (
        saved(PICTURE, "TIFF", compression="tiff_lzw").replace(
            saved(PICTURE, "TIFF", compression="tiff_lzw")[9:99], b"\xff" * 90
        ),
        "can't be decoded",
        "damaged",
        "decode",
    ),
    "animated PNG": (animated("PNG"), "several pictures", "several-images", "header"),
    "TIFF of two pages": (animated("TIFF"), "several pictures", "several-images", "header"),
    "animated GIF, opened": (Image.open(io.BytesIO(animated("GIF"))), "several pictures", "several-images", "header"),
    "16-bit RGB PNG, opened": (
        Image.open(io.BytesIO(bare_png(1, 1, 16, 2, bytes(7)))),
        "of which Pillow keeps 8",
        "unsupported",
        "header",
    ),
    "HSV": (PICTURE.convert("RGB").convert("HSV"), "mode 'HSV'", "unsupported", "header"),
    "mode I beyond 16 bits": (Image.fromarray(np.array([[0, 70000]], np.int32)), "to 70000", "values", "display"),
    "mode F beyond 1": (Image.fromarray(np.array([[0, 255]], np.float32)), "from 0 to 255", "values", "display"),
    "bool": (GREY > 9, "type bool", "values", "header"),
    "int64": (GREY.astype(np.int64), "(x - lowest) / (highest - lowest)", "values", "header"),
    "uint32": (GREY.astype(np.uint32), "type uint32", "values", "header"),
    "complex": (GREY.astype(complex), "type complex128", "values", "header"),
    "text array": (np.array([["a"]]), "type <U1", "values", "header"),
    "objects": (np.array([[None]]), "type object", "values", "header"),
    "bool tensor": (torch.ones(2, 2, dtype=torch.bool), "type bool", "values", "header"),
    "float of 8 bits": (GREY.astype(np.float32), "0 to 255, expected [0, 1]. Divide by 255", "values", "display"),
    "normalised float": (FLOAT - 0.5, "from -0.5 to 0.5", "values", "display"),
    "NaN": (np.array([[0.5, np.nan]]), "NaN or infinite", "values", "display"),
    "infinity": (np.array([[0.5, np.inf]]), "NaN or infinite", "values", "display"),
    "one row": (GREY[0], "shape (34,)", "values", "header"),
    "a batch": (GREY[None, None], "one by one", "values", "header"),
    "two channels": (GREY[:20].reshape(10, 34, 2), "shape (10, 34, 2)", "values", "header"),
    "channels on both sides": (np.zeros((3, 9, 3), np.uint8), "first or last", "values", "header"),
    "no pixels": (np.zeros((0, 5), np.uint8), "0 rows and 5 columns", "too-small", "header"),
    "a number": (np.float32(0.5), "shape ()", "values", "header"),
    "too long": (np.zeros((1, 16_385), np.uint8), "16,384", "too-large", "header"),
    "None": (None, "type NoneType", None, None),
    "a list": ([[0, 1]], "type list", None, None),
}


@pytest.mark.parametrize(("source", "text", "code", "stage"), REFUSED.values(), ids=REFUSED)
def test_refused(source, text, code, stage):
    """What is not one radiograph is refused; the text says what was found, code and stage say why and where."""
    with pytest.raises(ImageError) as caught:
        read_image(source)
    assert text in str(caught.value)
    assert phantoms.CANARY not in str(caught.value)
    if code:
        assert (code, stage) == (caught.value.code, caught.value.stage)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_frame(form):
    """One of several pictures in a file is read where it is named, counted from 0, and another is not found."""
    data = animated(form)
    np.testing.assert_array_equal(read_pixels(data, frame=0), GREY)
    np.testing.assert_array_equal(read_pixels(data, frame=1), np.rot90(GREY, 2))
    np.testing.assert_array_equal(read_pixels(saved(PICTURE, form), frame=0), GREY)
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(read_pixels(opened, frame=1), np.rot90(GREY, 2))
    assert 0 == opened.tell()
    for frame in (-1, 2, 10**9):
        with pytest.raises(ImageError, match="counted from 0") as caught:
            read_pixels(data, frame=frame)
        assert "several-images" == caught.value.code


def filtered(pixels):
    """Return 16-bit channels as the rows of a PNG, with all five filters in turn."""
    height, width, channels = pixels.shape
    distance = 2 * channels
    rows = np.zeros((height + 1, distance * (width + 1)), np.int64)
    rows[1:, distance:] = pixels.astype(">u2").reshape(height, -1).view(np.uint8)
    this, left, up, corner = rows[1:, distance:], rows[1:, :-distance], rows[:-1, distance:], rows[:-1, :-distance]
    guess = left + up - corner
    to_left, to_up, to_corner = abs(guess - left), abs(guess - up), abs(guess - corner)
    paeth = np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
    kinds = np.stack([0 * this, left, up, (left + up) // 2, paeth])
    choice = np.arange(height) % 5
    coded = ((this - kinds[choice, np.arange(height)]) % 256).astype(np.uint8)
    return np.hstack([choice[:, None].astype(np.uint8), coded]).tobytes()


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bits_with_colour_or_alpha(colour, channels):
    """PNGs of 16 bits with colour or alpha keep all of their bits, which Pillow alone would halve."""
    pixels = np.random.default_rng(0).integers(0, 65536, (21, 34, channels), dtype=np.uint16)
    data = bare_png(34, 21, 16, colour, filtered(pixels))
    expected = pixels.astype(np.float64)
    if channels % 2 == 0:
        expected = np.rint(expected[..., :-1] * (expected[..., -1:] / 65535))
    if channels > 2:
        expected = expected @ [0.299, 0.587, 0.114]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = read_image(data)

    np.testing.assert_allclose(image, expected.reshape(21, 34) / 65535, rtol=0, atol=1.1 / 65535)


@pytest.mark.parametrize(("colour", "value"), [(2, b"\0" * 6), (0, b"\0\0")])
def test_16_bits_with_a_transparent_colour(colour, value):
    """In 16-bit grey a transparent colour becomes black; with three channels it is refused."""
    whole = bare_png(2, 1, 16, colour, b"\0" + bytes([9, 9] * (1 if colour == 0 else 3)) * 2)
    chunk = b"tRNS" + (b"\x09\x09" if colour == 0 else value)
    data = whole[:33] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]

    if colour == 0:
        with pytest.warns(UserWarning, match="stored in 16"), pytest.warns(UserWarning, match="100.00%"):
            assert [[0, 0]] == read_image(data).tolist()
    else:
        with pytest.raises(ImageError, match="transparent colour"):
            read_image(data)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (9, 4), (21, 34)])
@pytest.mark.parametrize("depth", [1, 8, 16])
def test_interlaced(shape, depth):
    """An interlaced PNG is read as its plain twin, and one byte less of it is refused."""
    truth = phantoms.radiograph(*shape, bits=16) if depth == 16 else phantoms.radiograph(*shape)
    truth = (truth > 99) * np.uint8(255) if depth == 1 else truth
    rows = b""
    for column, row, across, down in [
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)
    ]:  # fmt: skip
        for line in truth[row::down, column::across]:
            if line.size:
                stored = np.packbits(line > 0) if depth == 1 else line.astype(f">u{depth // 8}")
                rows += b"\0" + stored.tobytes()

    def png(data):
        plain = bare_png(shape[1], shape[0], depth, 0, data)
        header = plain[12:28] + b"\1"
        return plain[:12] + header + struct.pack(">I", zlib.crc32(header)) + plain[33:]

    np.testing.assert_array_equal(read_image(png(rows)), read_image(truth))
    with pytest.raises(ImageError, match="ends before its picture"):
        read_image(png(rows[:-1]))


@pytest.mark.parametrize("black", [0, 5])
def test_black_rows_are_no_missing_rows(black):
    """A picture that ends in black rows is whole."""
    truth = GREY.copy()
    truth[21 - black :] = 0
    np.testing.assert_array_equal(read_pixels(saved(truth)), truth)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_orientation_without_meaning(orientation, form):
    """An EXIF orientation that does not exist leaves the picture as it is, with a notice."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    with pytest.warns(UserWarning, match="none of 1 to 8"):
        pixels = read_pixels(saved(PICTURE, form, exif=exif))
    np.testing.assert_allclose(pixels, GREY, atol=99 if form == "JPEG" else 0)


@pytest.mark.parametrize(
    "exif",
    [b"garbage and no more", b"II*\0\x08\0\0\0\xff\xff", b"II*\0\x08\0\0\0\1\0\x12\1\2\0\4\0\0\0abc\0"],
    ids=["no header", "no entries", "a word"],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.filterwarnings("ignore:The EXIF orientation")
def test_exif_without_meaning(exif, form):
    """EXIF that is damaged does not keep the picture from being read."""
    plain, damaged = saved(PICTURE, form), saved(PICTURE, form, exif=b"Exif\0\0" + exif)
    np.testing.assert_array_equal(read_pixels(damaged), read_pixels(plain))


@pytest.mark.parametrize(("gamma", "warned"), [(45455, False), (50000, False), (100000, True)])
def test_gamma(gamma, warned):
    """A gamma is not applied; one that is not that of screens gives a notice."""
    whole, chunk = saved(PICTURE), b"gAMA" + struct.pack(">I", gamma)
    data = whole[:33] + struct.pack(">I", 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) + whole[33:]

    reading = read(data)

    np.testing.assert_array_equal(reading.pixels, GREY)
    assert (["gamma"] if warned else []) == [notice.code for notice in reading.report.notices]


def turned(picture, form, **options):
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture, form, exif=exif, **options)


REPORTS = {
    "PNG": (saved(PICTURE), "PNG, 8-bit grey", []),
    "16-bit PNG": (saved(DEEP), "PNG, 16-bit grey", ["divided by 65535"]),
    "palette": (saved(palette(PICTURE)), "PNG, 8-bit palette", ["palette applied"]),
    "turned": (turned(PICTURE, "PNG"), "PNG, 8-bit grey", ["turned upright by EXIF orientation 6"]),
    "turned TIFF": (
        turned(PICTURE, "TIFF"),
        "TIFF, 8-bit grey, uncompressed",
        ["turned upright by EXIF orientation 6"],
    ),
    "JPEG": (saved(PICTURE, "JPEG"), "JPEG, 8-bit grey", []),
    "CMYK": (saved(PICTURE.convert("CMYK"), "JPEG"), "JPEG, 8-bit CMYK", ["CMYK turned into RGB"]),
    "16-bit TIFF": (
        with_tag(saved(DEEP, "TIFF"), 262, 0),
        "TIFF, 16-bit grey, uncompressed",
        ["inverted, since zero is white", "divided by 65535"],
    ),
    "float TIFF": (
        saved(FLOAT.astype(np.float32), "TIFF", compression="tiff_lzw"),
        "TIFF, 32-bit float grey, LZW",
        [],
    ),
    "alpha": (
        saved(np.dstack([RGB, GREY])),
        "PNG, 8-bit colour with alpha",
        ["alpha put on black"],
    ),
    "colour": (saved(COLOUR), "PNG, 8-bit colour", ["luma of three channels"]),
    "array": (DEEP, "array of uint16", ["divided by 65535"]),
    "PIL image": (PICTURE.convert("RGB"), "PIL image of mode RGB", []),
}


@pytest.mark.parametrize(("source", "kind", "steps"), REPORTS.values(), ids=REPORTS)
def test_report(source, kind, steps):
    """The report names the format, the size of the upright picture and the steps that ran, in their order."""
    reading = read(source)
    assert (kind, steps) == (reading.report.kind, reading.report.steps)
    assert reading.pixels.shape == reading.report.size


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(("factor", "scale"), [(1, 1), (2, 2), (3, 2), (7, 4), (8, 8), (99, 8)])
def test_jpeg_made_smaller(mode, factor, scale):
    """A JPEG is decoded at the largest scale that is allowed, which shows the same picture, smaller."""
    smooth = Image.fromarray(phantoms.radiograph(30, 20)).resize((160, 240), Image.Resampling.BICUBIC)
    data = saved(smooth.convert(mode), "JPEG", quality=95)
    asked = []

    reading = read(data, shrink=lambda *size: asked.append(size) or factor)

    assert [(240, 160)] == asked
    assert (240 // scale, 160 // scale) == reading.pixels.shape
    assert ([f"decoded at 1/{scale} of its size"] if scale > 1 else []) == reading.report.steps[:1][: scale > 1]
    expected = np.asarray(smooth.reduce(scale)).astype(float)
    assert np.abs(reading.pixels - expected).mean() < 3


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_made_smaller_and_turned(form):
    """How much smaller is asked for the sides as they will be once the picture is upright."""
    smooth = Image.fromarray(phantoms.radiograph(30, 20)).resize((160, 240), Image.Resampling.BICUBIC)
    asked = []

    reading = read(turned(smooth, form), shrink=lambda *size: asked.append(size) or 4)

    assert ([(160, 240)], (40, 60)) == (asked, reading.pixels.shape)
    expected = np.rot90(np.asarray(smooth.reduce(4)), -1).astype(float)
    assert np.abs(reading.pixels - expected).mean() < 3


@pytest.mark.parametrize("source", [GREY, DEEP], ids=["8 bits", "16 bits"])
def test_averaged(source):
    """Other files are decoded in full and averaged over squares, never to less than one pixel."""
    exact = read_image(source)
    small = read(saved(source), shrink=lambda height, width: 7).pixels
    unit = 255 if small.dtype == np.uint8 else 1
    np.testing.assert_allclose(small[:, :4] / unit, exact[:, :28].reshape(3, 7, 4, 7).mean((1, 3)), atol=0.51 / 255)
    assert (1, 2) == read(saved(source), shrink=lambda height, width: 10**6).pixels.shape


def test_content_and_not_the_extension_decides(tmp_path):
    """A PNG named .dcm is read as a PNG, by str and by Path."""
    path = tmp_path / "picture.dcm"
    path.write_bytes(saved(PICTURE))
    np.testing.assert_array_equal(read_pixels(path), GREY)
    np.testing.assert_array_equal(read_pixels(str(path)), GREY)


def test_paths_stay_out_of_errors(tmp_path):
    """Missing files, folders, malformed paths and damaged pictures are refused without their names."""
    folder = tmp_path / phantoms.CANARY
    folder.mkdir()
    (folder / "cut.png").write_bytes(WHOLE_PNG[:99])
    (folder / "unknown.png").write_bytes(b"?" * 99)
    sources = [folder, folder / "missing.png", folder / "cut.png", folder / "unknown.png", f"{folder}\0"]
    for source in [*sources, folder / ("long" * 999)]:
        with pytest.raises(ImageError) as caught:
            read_image(source)
        assert phantoms.CANARY not in "".join(traceback.format_exception(caught.value, chain=True))


def test_result_is_a_copy():
    """The image that comes back never shares memory with the array that was given."""
    for source in (GREY.copy(), FLOAT.astype(np.float32)):
        assert not np.shares_memory(source, read_pixels(source))


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.float32, np.float64, np.int16, np.bool_]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
    )
)
def test_any_array(array):
    """Any array gives finite float32 values in [0, 1], or an ImageError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = read_image(array)
        except ImageError:
            return
    assert (np.float32, 2) == (image.dtype, image.ndim)
    assert np.isfinite(image).all()
    assert 0 <= image.min() <= image.max() <= 1


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([WHOLE_PNG, WHOLE_JPEG, SAME_8_BIT["palette PNG"], SAME_8_BIT["grey TIFF, LZW"]]), st.data())
def test_any_damage(whole, data):
    """A picture with any damaged byte, or cut anywhere, gives an image or an ImageError, and nothing else."""
    broken = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if broken:
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = read_image(bytes(broken))
        except ImageError:
            return
    assert np.isfinite(image).all()


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared radiographs are absent")
@pytest.mark.parametrize("collection", ["kermany/test", "nih", "hannover"])
def test_real_radiographs(collection):
    """Real radiographs in JPEG, grey or with three equal channels, keep PIL's pixels without a warning."""
    paths = sorted((DATA / collection).iterdir())[:20]
    assert 20 == len(paths)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for path in paths:
            np.testing.assert_array_equal(read_pixels(path), np.asarray(Image.open(path).convert("L")))


@pytest.mark.parametrize(
    ("white", "warned"), [(1, False), (200, True), (4095, True), (8191, True), (16383, False), (65535, False)]
)
def test_few_bits_in_sixteen_give_a_warning(white, warned):
    """16-bit pixels that use 8 to 13 bits are taken as they are, with a warning that says how to scale them."""
    pixels = np.linspace(0, white, 64 * 64).astype(np.uint16).reshape(64, 64)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(pixels)

    assert warned == any("stored in 16" in str(warning.message) for warning in caught)
