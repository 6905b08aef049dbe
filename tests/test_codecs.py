"""Compressed pixels: every transfer syntax decodes to what was encoded, and no codec sees a codestream that lies."""

import importlib.util
import io
import re
import struct
import time
from collections.abc import Callable
from dataclasses import replace

import imagecodecs
import jpeg_ls
import numpy as np
import pydicom
import pytest
from phantoms import radiograph
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders import RLELosslessDecoder
from pydicom.pixels.encoders import RLELosslessEncoder

from cxrzoo import doctor
from cxrzoo.errors import ImageError
from cxrzoo.imaging.compressed import codecs, codestreams
from cxrzoo.imaging.compressed.streams import Codestream
from cxrzoo.imaging.compressed.syntaxes import COMMAND, SYNTAXES
from cxrzoo.imaging.report import Report

HEIGHT, WIDTH = 75, 90
GREY = {bits: radiograph(HEIGHT, WIDTH, bits=bits) for bits in (8, 12, 15, 16)}
SIGNED = (GREY[12].astype(np.int16) - 2048).astype(np.int16)
RGB = np.stack([GREY[8], np.roll(GREY[8], 9, 0), np.roll(GREY[8], 17, 1)], axis=2)
YBR = np.asarray(Image.fromarray(RGB).convert("YCbCr"))

BASELINE, EXTENDED, LOSSLESS, LOSSLESS_SV1 = (f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70))
JPEG_LS, NEAR_LOSSLESS, J2K, J2K_LOSSY = (f"1.2.840.10008.1.2.4.{number}" for number in (80, 81, 90, 91))
HTJ2K, HTJ2K_RPCL, HTJ2K_LOSSY = (f"1.2.840.10008.1.2.4.{number}" for number in (201, 202, 203))
RLE = "1.2.840.10008.1.2.5"


def saved(pixels: np.ndarray, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def j2k(pixels: np.ndarray, bits: int, level: int = 0) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, level=level, codecformat="j2k", bitspersample=bits, reversible=not level)


def rle(pixels: np.ndarray) -> bytes:
    samples = 1 if pixels.ndim == 2 else 3
    return RLELosslessEncoder.encode(pixels, **described(pixels, samples))


def described(pixels: np.ndarray, samples: int) -> dict[str, object]:
    bits = 8 * pixels.itemsize
    return {
        "rows": pixels.shape[0],
        "columns": pixels.shape[1],
        "samples_per_pixel": samples,
        "photometric_interpretation": "RGB" if samples == 3 else "MONOCHROME2",
        "bits_allocated": bits,
        "bits_stored": bits,
        "pixel_representation": 0,
        "number_of_frames": 1,
    } | ({"planar_configuration": 0} if samples == 3 else {})


#: Transfer syntax, codestream, what must come out, and by how much that may differ in the mean and at most.
ENCODED: dict[str, tuple[str, bytes, np.ndarray, float, float]] = {
    "Baseline": (BASELINE, saved(GREY[8], "JPEG", quality=95), GREY[8], 2, 12),
    "Baseline, progressive": (BASELINE, saved(GREY[8], "JPEG", quality=95, progressive=True), GREY[8], 2, 12),
    "Baseline, restarts": (BASELINE, saved(GREY[8], "JPEG", quality=95, restart_marker_blocks=2), GREY[8], 2, 12),
    "Baseline, YCbCr 4:4:4": (BASELINE, saved(RGB, "JPEG", quality=95, subsampling=0), YBR, 4, 40),
    "Baseline, YCbCr 4:2:2": (BASELINE, saved(RGB, "JPEG", quality=95, subsampling=1), YBR, 4, 60),
    "Baseline, RGB": (
        BASELINE,
        imagecodecs.jpeg8_encode(RGB, level=95, colorspace="RGB", outcolorspace="RGB"),
        RGB,
        2,
        12,
    ),
    "Extended, 8 bits": (
        EXTENDED,
        saved(GREY[8], "JPEG", quality=95).replace(b"\xff\xc0", b"\xff\xc1", 1),
        GREY[8],
        2,
        12,
    ),
    "Extended, 12 bits": (
        EXTENDED,
        imagecodecs.jpeg8_encode(GREY[12], bitspersample=12, level=95),
        GREY[12],
        4,
        16,
    ),
    "Lossless, RGB": (
        LOSSLESS_SV1,
        imagecodecs.jpeg8_encode(
            RGB, lossless=True, bitspersample=8, predictor=1, colorspace="RGB", outcolorspace="RGB"
        ),
        RGB,
        0,
        0,
    ),
    "JPEG-LS, RGB": (JPEG_LS, imagecodecs.jpegls_encode(RGB), RGB, 0, 0),
    "JPEG 2000, signed": (J2K, j2k(SIGNED, 12), SIGNED, 0, 0),
    "JPEG 2000, RGB": (J2K, j2k(RGB, 8), RGB, 0, 0),
    "JPEG 2000, tiles": (J2K, saved(GREY[8], "JPEG2000", no_jp2=True, tile_size=(32, 48)), GREY[8], 0, 0),
    "JPEG 2000, shifted": (
        J2K,
        saved(GREY[8], "JPEG2000", no_jp2=True, tile_size=(32, 48), offset=(3, 5), tile_offset=(0, 0)),
        GREY[8],
        0,
        0,
    ),
    "JPEG 2000, in a JP2 file": (J2K, saved(GREY[8], "JPEG2000", no_jp2=False), GREY[8], 0, 0),
    "JPEG 2000, lossy": (J2K_LOSSY, j2k(GREY[12], 12, level=60), GREY[12], 5, 40),
    "HTJ2K, RGB": (HTJ2K, imagecodecs.htj2k_encode(RGB, rgb=True), RGB, 0, 0),
    "HTJ2K, tiles in parts": (
        HTJ2K_RPCL,
        imagecodecs.htj2k_encode(GREY[16], tile=(32, 32), tilepart=1),
        GREY[16],
        0,
        0,
    ),
    "HTJ2K, lossy": (
        HTJ2K_LOSSY,
        imagecodecs.htj2k_encode(GREY[16], level=0.0005, reversible=False),
        GREY[16],
        40,
        200,
    ),
    "RLE, RGB": (RLE, rle(RGB), RGB, 0, 0),
    "RLE, RGB of 16 bits": (RLE, rle(RGB.astype(np.uint16) * 257), RGB.astype(np.uint16) * 257, 0, 0),
}
for _bits, _pixels in GREY.items():
    ENCODED[f"JPEG 2000, {_bits} bits"] = (J2K, j2k(_pixels, _bits), _pixels, 0, 0)
    if _bits == 15:
        continue
    for _predictor in (1, 4, 7):
        _data = imagecodecs.jpeg8_encode(_pixels, lossless=True, bitspersample=_bits, predictor=_predictor)
        _syntax = LOSSLESS_SV1 if _predictor == 1 else LOSSLESS
        ENCODED[f"Lossless, {_bits} bits, predictor {_predictor}"] = (_syntax, _data, _pixels, 0, 0)
    ENCODED[f"JPEG-LS, {_bits} bits"] = (JPEG_LS, imagecodecs.jpegls_encode(_pixels), _pixels, 0, 0)
    ENCODED[f"JPEG-LS, {_bits} bits, near"] = (
        NEAR_LOSSLESS,
        imagecodecs.jpegls_encode(_pixels, level=3),
        _pixels,
        3,
        3,
    )
    if _bits != 12:
        ENCODED[f"HTJ2K, {_bits} bits"] = (HTJ2K, imagecodecs.htj2k_encode(_pixels), _pixels, 0, 0)
    ENCODED[f"RLE, {_bits} bits"] = (RLE, rle(_pixels), _pixels, 0, 0)


def inspected(name: str, data: bytes | None = None) -> Codestream:
    """Return the stream after both checks against a header that tells the truth about the picture."""
    syntax, original, pixels, *_ = ENCODED[name]
    samples = 1 if pixels.ndim == 2 else 3
    stream = codestreams.inspect(original if data is None else data, syntax)
    bits = stream.bits or 8 * pixels.itemsize
    return codestreams.check(stream, HEIGHT, WIDTH, samples, 8 * pixels.itemsize, bits, Report())


@pytest.mark.parametrize("name", ENCODED)
def test_decoded(name: str) -> None:
    """What comes out of a codestream is what went in: to the bit, or within the bound of a lossy encoding."""
    _, data, expected, mean, most = ENCODED[name]

    actual = codecs.decode(data, inspected(name))

    assert (expected.shape, expected.dtype) == (actual.shape, actual.dtype)
    difference = np.abs(expected.astype(np.int64) - actual)
    assert difference.mean() <= mean
    assert difference.max() <= most


def test_every_syntax_is_tested() -> None:
    """The table of encodings has at least one for each compressed transfer syntax."""
    compressed = {uid for uid, syntax in SYNTAXES.items() if syntax.kind != "native"}

    assert compressed == {syntax for syntax, *_ in ENCODED.values()}


def _by_pydicom(data: bytes, pixels: np.ndarray) -> np.ndarray:
    samples = 1 if pixels.ndim == 2 else 3
    options = described(pixels, samples) | ({"planar_configuration": 1} if samples == 3 else {})
    return RLELosslessDecoder.as_array(encapsulate([data]), raw=True, decoding_plugin="pydicom", **options)[0]


#: Decoders that share no code with the one that is used.
INDEPENDENT: dict[str, Callable[[bytes, np.ndarray], np.ndarray]] = {
    "JPEG-LS": lambda data, _: jpeg_ls.decode(np.frombuffer(data, np.uint8)),
    "JPEG 2000": lambda data, _: imagecodecs.jpeg2k_decode(data),
    "HTJ2K": lambda data, _: imagecodecs.htj2k_decode(data),
    "Lossless": lambda data, _: imagecodecs.ljpeg_decode(data),
    "RLE": _by_pydicom,
}


@pytest.mark.parametrize("name", [name for name in ENCODED if name.split(",")[0] in INDEPENDENT])
def test_independent_decoder_agrees(name: str) -> None:
    """An independent decoder of the same codestream returns the same pixels, rounding of irreversible ones aside."""
    _, data, pixels, *_ = ENCODED[name]
    expected = INDEPENDENT[name.split(",")[0]](data, pixels)

    actual = codecs.decode(data, inspected(name))

    assert np.abs(expected.astype(np.int64) - actual).max() <= (1 if name.endswith("lossy") else 0)


@pytest.mark.parametrize("name", ["RLE, 8 bits", "RLE, 12 bits", "RLE, RGB", "RLE, RGB of 16 bits"])
def test_rle_without_packages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """RLE is decoded in plain Python where imagecodecs is missing, with the same result."""
    _, data, expected, *_ = ENCODED[name]
    hide(monkeypatch)

    np.testing.assert_array_equal(expected, codecs.decode(data, inspected(name)))


@pytest.mark.parametrize("padding", [b"\0", b"\0\0", b"\x80"])
@pytest.mark.parametrize("installed", [True, False])
def test_padded_rle_planes(padding: bytes, installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes of RLE may be padded at their end, by one byte as the standard says or by more."""
    count, first, second = struct.unpack_from("<3I", data := ENCODED["RLE, 16 bits"][1])
    padded = (
        struct.pack("<3I", count, first, second + len(padding)) + data[12:second] + padding + data[second:] + padding
    )
    if not installed:
        hide(monkeypatch)

    np.testing.assert_array_equal(GREY[16], codecs.decode(padded, inspected("RLE, 16 bits", padded)))


@pytest.mark.parametrize("installed", [True, False])
def test_short_rle_plane(installed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane of RLE that ends before its last pixel is never filled up."""
    count, first, second = struct.unpack_from("<3I", data := ENCODED["RLE, 16 bits"][1])
    short = data[: second - 40]
    short = struct.pack("<3I", count, first, len(short)) + short[12:] + data[second:]
    if not installed:
        hide(monkeypatch)

    with pytest.raises(ImageError, match="of a plane") as caught:
        codecs.decode(short, inspected("RLE, 16 bits", short))
    assert "truncated" == caught.value.code


# Making it smaller while decoding


@pytest.mark.parametrize("sides", [(75, 90), (64, 64), (61, 57), (65, 66), (129, 17), (9, 5), (1, 1)])
@pytest.mark.parametrize("encoding", ["JPEG", "JPEG 2000", "JPEG 2000, tiles", "HTJ2K"])
def test_reduced_size(encoding: str, sides: tuple[int, int]) -> None:
    """Each halving that a codestream offers gives a picture of half the size, rounded up."""
    pixels = radiograph(*sides)
    encode: dict[str, Callable[[], tuple[str, bytes]]] = {
        "JPEG": lambda: (BASELINE, saved(pixels, "JPEG")),
        "JPEG 2000": lambda: (J2K, j2k(pixels, 8)),
        "JPEG 2000, tiles": lambda: (J2K, saved(pixels, "JPEG2000", no_jp2=True, tile_size=(16, 24))),
        "HTJ2K": lambda: (HTJ2K, imagecodecs.htj2k_encode(pixels)),
    }
    syntax, data = encode[encoding]()
    stream = codestreams.inspect(data, syntax)

    for reduction in range(stream.reductions + 1):
        expected = tuple(-(-side // 2**reduction) for side in sides)
        assert expected == codecs.decode(data, stream, reduction).shape


def test_reduced_jpeg_is_the_mean() -> None:
    """A JPEG at an eighth of its size has the mean of each block of 8 x 8."""
    syntax, data, *_ = ENCODED["Baseline"]
    stream = codestreams.inspect(data, syntax)
    full = codecs.decode(data, stream)[:72, :88].reshape(9, 8, 11, 8).mean(axis=(1, 3))

    assert np.abs(full - codecs.decode(data, stream, 3)[:9, :11]).max() <= 2


@pytest.mark.parametrize("reduction", [1, 2, 3])
def test_reduced_jpeg2000_is_aligned_to_the_first_pixel(reduction: int) -> None:
    """A pixel of a halved JPEG 2000 stands where the first of the pixels is that it replaces, not amid them."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (64, 1))
    data = j2k(ramp, 8)

    reduced = codecs.decode(data, codestreams.inspect(data, J2K), reduction)

    inner = reduced[:, 1:-1].astype(int)
    assert np.abs(inner - ramp[:: 2**reduction, :: 2**reduction][:, 1:-1]).max() <= 1


@pytest.mark.parametrize(
    ("name", "reductions"),
    [
        ("Baseline", 3),
        ("Extended, 12 bits", 0),
        ("JPEG 2000, 12 bits", 3),
        ("JPEG 2000, shifted", 0),
        ("RLE, 8 bits", 0),
    ],
)
def test_reductions_offered(name: str, reductions: int) -> None:
    """A codestream offers the halvings that its decoder can do, and no others are taken."""
    stream = inspected(name)

    assert reductions == stream.reductions
    with pytest.raises(ValueError, match="found reduction"):
        codecs.decode(ENCODED[name][1], stream, reductions + 1)


# Files of other programs

#: Files that come with pydicom, and bits, signedness and shape that their codestreams have.
REAL = {
    "693_J2KI.dcm": (16, True, (512, 512)),
    "JPEG2000.dcm": (16, True, (1024, 256)),
    "J2K_pixelrep_mismatch.dcm": (13, False, (512, 512)),
    "MR_small_jp2klossless.dcm": (16, True, (64, 64)),
    "SC_rgb_gdcm_KY.dcm": (8, False, (100, 100, 3)),
    "examples_jpeg2k.dcm": (8, False, (480, 640, 3)),
    "MR_small_jpeg_ls_lossless.dcm": (16, False, (64, 64)),
    "JPEGLSNearLossless_08.dcm": (8, False, (45, 10)),
    "JPEGLSNearLossless_16.dcm": (16, False, (50, 10)),
    "SC_rgb_jls_lossy_line.dcm": (8, False, (100, 100, 3)),
    "SC_rgb_jls_lossy_sample.dcm": (8, False, (100, 100, 3)),
    "MR_small_RLE.dcm": (16, False, (64, 64)),
    "SC_rgb_rle.dcm": (8, False, (100, 100, 3)),
    "SC_rgb_rle_16bit.dcm": (16, False, (100, 100, 3)),
    "SC_jpeg_no_color_transform.dcm": (8, False, (256, 256, 3)),
    "SC_jpeg_no_color_transform_2.dcm": (8, False, (256, 256, 3)),
    "SC_rgb_dcmtk_+eb+cr.dcm": (8, False, (100, 100, 3)),
    "SC_rgb_dcmtk_+eb+cy+np.dcm": (8, False, (100, 100, 3)),
    "SC_rgb_dcmtk_+eb+cy+s2.dcm": (8, False, (100, 100, 3)),
    "SC_rgb_dcmtk_+eb+cy+s4.dcm": (8, False, (100, 100, 3)),
    "SC_rgb_jpeg_lossy_gdcm.dcm": (8, False, (100, 100, 3)),
    "SC_rgb_small_odd_jpeg.dcm": (8, False, (3, 3, 3)),
    "examples_ybr_color.dcm": (8, False, (240, 320, 3)),
    "JPGExtended.dcm": (12, False, (1024, 256)),
    "JPEG-lossy.dcm": (12, False, (1024, 256)),
    "SC_rgb_jpeg_gdcm.dcm": (8, False, (100, 100, 3)),
}


def real(name: str) -> tuple[pydicom.Dataset, bytes]:
    dataset = pydicom.dcmread(get_testdata_file(name, download=False))
    frames = int(dataset.get("NumberOfFrames", 1))
    return dataset, next(generate_frames(dataset.PixelData, number_of_frames=frames))


def checked(dataset: pydicom.Dataset, data: bytes, report: Report) -> Codestream:
    stream = codestreams.inspect(data, dataset.file_meta.TransferSyntaxUID)
    size = dataset.Rows, dataset.Columns, dataset.SamplesPerPixel
    return codestreams.check(stream, *size, dataset.BitsAllocated, dataset.BitsStored, report)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_real_file(name: str) -> None:
    """A file of another program is decoded, with the samples that pydicom's own decoders give where they can."""
    bits, signed, shape = REAL[name]
    dataset, data = real(name)
    stream = checked(dataset, data, Report())

    pixels = codecs.decode(data, stream)

    assert (bits, signed, shape) == (stream.bits, stream.signed, pixels.shape)
    if stream.kind in ("jpeg-lossless",) or bits == 12:  # for which pydicom has no decoder here
        assert pixels.min() < pixels.max() < 2**bits
    else:
        frame = pydicom.pixels.pixel_array(dataset, index=0, raw=True)
        mask = (1 << bits) - 1
        np.testing.assert_array_equal(frame.astype(np.int64) & mask, pixels.astype(np.int64) & mask)


def test_real_file_with_a_damaged_codestream() -> None:
    """A file whose size segment was overwritten is refused before a codec sees it."""
    with pytest.raises(ImageError) as raised:
        checked(*real("JPEG2000-embedded-sequence-delimiter.dcm"), Report())

    assert ("too-large", "codestream") == (raised.value.code, raised.value.stage)


def test_other_bits_are_reported() -> None:
    """Where codestream and tag differ in bits, the report names the tag and both numbers."""
    report = Report()

    checked(*real("693_J2KI.dcm"), report)

    assert ["bits"] == [notice.code for notice in report.notices]
    assert "(0028,0101) Bits Stored is '14'" in report.notices[0].text
    assert "16 bits" in report.notices[0].text


# Codestreams that lie. None of them may reach a codec.


def put(data: bytes, at: int, form: str, value: int) -> bytes:
    size = struct.calcsize(form)
    return data[:at] + struct.pack(form, value) + data[at + size :]


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def before(data: bytes, mark: bytes, inserted: bytes) -> bytes:
    at = data.index(mark)
    return data[:at] + inserted + data[at:]


JPEG, LOSSLESS_JPEG, LS, JPEG2000, TILED, RUNS, COLOUR, TWELVE, WRAPPED = (
    ENCODED[name][1]
    for name in (
        "Baseline", "Lossless, 12 bits, predictor 1", "JPEG-LS, 12 bits", "JPEG 2000, 12 bits", "JPEG 2000, tiles",
        "RLE, 16 bits", "Baseline, YCbCr 4:2:2", "Extended, 12 bits", "JPEG 2000, in a JP2 file",
    )
)  # fmt: skip
SOF, SOF3, SOF55 = JPEG.index(b"\xff\xc0"), LOSSLESS_JPEG.index(b"\xff\xc3"), LS.index(b"\xff\xf7")
COLOUR_SOF, SCAN = COLOUR.index(b"\xff\xc0"), JPEG.index(b"\xff\xda")
SIZ, COD, SOT = 2, JPEG2000.index(b"\xff\x52"), JPEG2000.index(b"\xff\x90")
TILED_SOT = TILED.index(b"\xff\x90")
SOS = JPEG[SCAN : SCAN + 10]


def precincts(data: bytes, exponent: int) -> bytes:
    """Return a codestream whose coding style names precincts for each resolution."""
    at = data.index(b"\xff\x52")
    length, levels = int.from_bytes(data[at + 2 : at + 4]), data[at + 9]
    content = bytes([data[at + 4] | 1]) + data[at + 5 : at + 2 + length] + bytes([exponent]) * (levels + 1)
    return data[:at] + segment(0x52, content) + data[at + 2 + length :]


def enlarged(data: bytes, side: int) -> bytes:
    """Return a JPEG 2000 codestream whose picture and only tile claim to be larger."""
    for at in (6, 10, 22, 26):
        data = put(data, SIZ + at, ">I", side)
    return data


#: What a codestream does wrong, the syntax, the bytes, and the code of its error.
LIES: dict[str, tuple[str, bytes, str]] = {
    # JPEG
    "nothing": (BASELINE, b"", "damaged"),
    "another format": (BASELINE, JPEG2000, "damaged"),
    "no end marker": (BASELINE, JPEG[:-2], "truncated"),
    "no end marker, padded": (BASELINE, JPEG[:-2] + bytes(99), "truncated"),
    "something behind the end": (BASELINE, JPEG + JPEG, "damaged"),
    "height 0": (BASELINE, put(JPEG, SOF + 5, ">H", 0), "unsupported"),
    "width 0": (BASELINE, put(JPEG, SOF + 7, ">H", 0), "damaged"),
    "height in a DNL": (BASELINE, JPEG[:-2] + segment(0xDC, b"\0\x4b") + b"\xff\xd9", "unsupported"),
    "65535 x 65535": (BASELINE, put(put(JPEG, SOF + 5, ">H", 65535), SOF + 7, ">H", 65535), "too-large"),
    "9990 x 9990 of nearly nothing": (BASELINE, put(put(JPEG, SOF + 5, ">H", 9990), SOF + 7, ">H", 9990), "truncated"),
    "12 bits in a baseline header": (BASELINE, put(JPEG, SOF + 4, "B", 12), "unsupported"),
    "255 components": (BASELINE, put(JPEG, SOF + 9, "B", 255), "unsupported"),
    "components beyond the segment": (BASELINE, put(JPEG, SOF + 9, "B", 3), "damaged"),
    "a component twice": (BASELINE, put(COLOUR, COLOUR_SOF + 13, "B", COLOUR[COLOUR_SOF + 10]), "damaged"),
    "sampling 0": (BASELINE, put(JPEG, SOF + 11, "B", 0), "damaged"),
    "sampling 15": (BASELINE, put(JPEG, SOF + 11, "B", 0xFF), "damaged"),
    "colour finer than brightness": (BASELINE, put(COLOUR, COLOUR_SOF + 14, "B", 0x41), "unsupported"),
    "arithmetic coding": (BASELINE, put(JPEG, SOF, ">H", 0xFFC9), "unsupported"),
    "hierarchical": (BASELINE, put(JPEG, SOF, ">H", 0xFFC5), "unsupported"),
    "lossless under a lossy syntax": (BASELINE, LOSSLESS_JPEG, "contradiction"),
    "two headers": (BASELINE, before(JPEG, b"\xff\xda", JPEG[SOF : SOF + 13]), "damaged"),
    "no header": (BASELINE, JPEG[:SOF] + JPEG[SOF + 13 :], "damaged"),
    "no scan": (BASELINE, JPEG[:SCAN] + b"\xff\xd9", "truncated"),
    "a scan of another component": (BASELINE, put(JPEG, SCAN + 5, "B", 9), "damaged"),
    "a scan of no component": (BASELINE, put(JPEG, SCAN + 4, "B", 0), "damaged"),
    "a scan of impossible parameters": (BASELINE, put(JPEG, SCAN + 8, "B", 99), "damaged"),
    "100,000 scans": (BASELINE, JPEG[:-2] + SOS * 100_000 + b"\xff\xd9", "too-large"),
    "100,000 comments": (BASELINE, before(JPEG, b"\xff\xda", segment(0xFE, b"") * 100_000), "too-large"),
    "a million restart markers": (BASELINE, JPEG[:-2] + b"\xff\xd0" * 10**6, "truncated"),
    "a million fill bytes": (BASELINE, before(JPEG, b"\xff\xda", b"\xff" * 10**6)[:-2], "truncated"),
    "garbage between segments": (BASELINE, before(JPEG, b"\xff\xda", b"garbage"), "damaged"),
    "a restart marker between segments": (BASELINE, before(JPEG, b"\xff\xda", b"\xff\xd0"), "damaged"),
    "a second start": (BASELINE, before(JPEG, b"\xff\xda", b"\xff\xd8"), "damaged"),
    "a segment without a length": (BASELINE, before(JPEG, b"\xff\xda", b"\xff\xfe\0\0"), "damaged"),
    "a segment beyond the end": (BASELINE, JPEG[:SCAN] + b"\xff\xfe\xff\xff" + JPEG[SCAN:], "truncated"),
    "12 bits, no end marker": (EXTENDED, TWELVE[:-2], "truncated"),
    # JPEG Lossless
    "lossless: no end marker": (LOSSLESS, LOSSLESS_JPEG[:-2], "truncated"),
    "lossless: 17 bits": (LOSSLESS, put(LOSSLESS_JPEG, SOF3 + 4, "B", 17), "unsupported"),
    "lossless: predictor 0": (
        LOSSLESS,
        put(LOSSLESS_JPEG, LOSSLESS_JPEG.index(b"\xff\xda") + 7, "B", 0),
        "damaged",
    ),
    "lossless: 9990 x 9990": (
        LOSSLESS,
        put(put(LOSSLESS_JPEG, SOF3 + 5, ">H", 9990), SOF3 + 7, ">H", 9990),
        "truncated",
    ),
    "lossless: less than a bit for each pixel": (LOSSLESS, put(LOSSLESS_JPEG, SOF3 + 5, ">H", 9990), "truncated"),
    # JPEG-LS
    "LS: no end marker": (JPEG_LS, LS[:-2], "truncated"),
    "LS: 65535 x 65535": (JPEG_LS, put(put(LS, SOF55 + 5, ">H", 65535), SOF55 + 7, ">H", 65535), "too-large"),
    "LS: less than a bit for each row": (
        JPEG_LS,
        put(LS[: LS.index(b"\xff\xda") + 10] + LS[-200:], SOF55 + 5, ">H", 9990),
        "truncated",
    ),
    "LS: 1 bit": (JPEG_LS, put(LS, SOF55 + 4, "B", 1), "unsupported"),
    "LS: a palette": (JPEG_LS, before(LS, b"\xff\xda", segment(0xF8, b"\x02\x01\x01" + bytes(9))), "unsupported"),
    "LS: a larger size": (
        JPEG_LS,
        before(LS, b"\xff\xda", segment(0xF8, b"\x04\x03" + b"\xff" * 6)),
        "unsupported",
    ),
    "LS: interleave mode 3": (JPEG_LS, put(LS, LS.index(b"\xff\xda") + 8, "B", 3), "damaged"),
    # JPEG 2000
    "J2K: no end marker": (J2K, JPEG2000[:-2], "truncated"),
    "J2K: no start": (J2K, JPEG2000[2:], "damaged"),
    "J2K: something behind the end": (J2K, JPEG2000 + JPEG2000, "damaged"),
    "J2K: width 0": (J2K, put(JPEG2000, SIZ + 6, ">I", 0), "damaged"),
    "J2K: 2**32 - 1 columns": (J2K, put(JPEG2000, SIZ + 6, ">I", 2**32 - 1), "too-large"),
    "J2K: an offset beyond the picture": (J2K, put(JPEG2000, SIZ + 14, ">I", 99), "damaged"),
    "J2K: far away on the grid": (
        J2K,
        put(
            put(put(JPEG2000, SIZ + 6, ">I", 2**32 - 1), SIZ + 14, ">I", 2**32 - 1 - WIDTH), SIZ + 30, ">I", 2**32 - 91
        ),
        "damaged",
    ),
    "J2K: tiles of 1 x 1": (J2K, put(put(JPEG2000, SIZ + 22, ">I", 1), SIZ + 26, ">I", 1), "too-large"),
    "J2K: tiles of no size": (J2K, put(JPEG2000, SIZ + 22, ">I", 0), "damaged"),
    "J2K: a first tile without pixels": (J2K, put(JPEG2000, SIZ + 30, ">I", 5), "damaged"),
    "J2K: more tiles than there are": (J2K, put(JPEG2000, SIZ + 22, ">I", 45), "truncated"),
    "J2K: 16384 components": (J2K, put(JPEG2000, SIZ + 38, ">H", 16384), "damaged"),
    "J2K: 38 bits": (J2K, put(JPEG2000, SIZ + 40, "B", 37), "unsupported"),
    "J2K: subsampled": (J2K, put(JPEG2000, SIZ + 41, "B", 2), "unsupported"),
    "J2K: Part 2": (J2K, put(JPEG2000, SIZ + 4, ">H", 0x8000), "unsupported"),
    "J2K: 65535 layers with small precincts": (
        J2K,
        put(precincts(JPEG2000, 0x44), COD + 6, ">H", 65535),
        "too-large",
    ),
    "J2K: precincts of 2 x 2": (J2K, enlarged(precincts(JPEG2000, 0x11), 9000), "too-large"),
    "J2K: code blocks of 4 x 4": (J2K, put(enlarged(JPEG2000, 9000), COD + 10, ">H", 0), "too-large"),
    "J2K: 90 megapixels of colour in one tile": (
        J2K,
        enlarged(ENCODED["JPEG 2000, RGB"][1], 9500),
        "too-large",
    ),
    "J2K: no layer": (J2K, put(JPEG2000, COD + 6, ">H", 0), "damaged"),
    "J2K: 255 levels": (J2K, put(JPEG2000, COD + 9, "B", 255), "damaged"),
    "J2K: huge code blocks": (J2K, put(JPEG2000, COD + 10, "B", 200), "damaged"),
    "J2K: a colour transform of grey": (J2K, put(JPEG2000, COD + 8, "B", 1), "damaged"),
    "J2K: no coding style": (J2K, put(JPEG2000, COD, ">H", 0xFF64), "damaged"),
    "J2K: packed packet headers": (J2K, before(JPEG2000, b"\xff\x52", segment(0x60, b"\0")), "unsupported"),
    "J2K: garbage in the header": (J2K, before(JPEG2000, b"\xff\x52", b"garbage"), "damaged"),
    "J2K: 100,000 comments": (J2K, before(JPEG2000, b"\xff\x52", segment(0x64, b"") * 100_000), "too-large"),
    "J2K: a tile that isn't there": (J2K, put(JPEG2000, SOT + 4, ">H", 7), "damaged"),
    "J2K: a tile part out of order": (J2K, put(JPEG2000, SOT + 10, "B", 3), "damaged"),
    "J2K: a tile of length 1": (J2K, put(JPEG2000, SOT + 6, ">I", 1), "damaged"),
    "J2K: a tile beyond the end": (J2K, put(JPEG2000, SOT + 6, ">I", 2**31), "truncated"),
    "J2K: a tile twice": (J2K, put(TILED, TILED.rindex(b"\xff\x90\0\x0a") + 4, ">H", 0), "damaged"),
    "J2K: the last tile missing": (J2K, TILED[: TILED.rindex(b"\xff\x90\0\x0a")] + b"\xff\xd9", "truncated"),
    "J2K: a box without end": (J2K, put(WRAPPED, 12, ">I", 2**31), "truncated"),
    "J2K: a box of length 1 to 7": (J2K, put(WRAPPED, 12, ">I", 4), "damaged"),
    "J2K: boxes without end": (J2K, WRAPPED[:12] + struct.pack(">I4s", 8, b"free") * 10_000, "too-large"),
    # RLE
    "RLE: half a header": (RLE, RUNS[:40], "truncated"),
    "RLE: no segment": (RLE, put(RUNS, 0, "<I", 0), "damaged"),
    "RLE: 16 segments": (RLE, put(RUNS, 0, "<I", 16), "damaged"),
    "RLE: a segment in the header": (RLE, put(RUNS, 4, "<I", 3), "damaged"),
    "RLE: segments out of order": (RLE, put(RUNS, 4, "<I", len(RUNS) - 1), "damaged"),
    "RLE: a segment beyond the end": (RLE, put(RUNS, 8, "<I", 2**32 - 1), "truncated"),
}


@pytest.fixture
def no_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every decoder fail the test."""

    def fail(*_: object, **__: object) -> None:
        pytest.fail("a codec was called")

    for name in ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode", "dicomrle_decode"):
        monkeypatch.setattr(imagecodecs, name, fail)
    monkeypatch.setattr(Image, "open", fail)
    monkeypatch.setattr(codecs, "decode_rle", fail)


@pytest.mark.parametrize("name", LIES)
@pytest.mark.usefixtures("no_codec")
def test_lie(name: str) -> None:
    """A codestream that lies is refused by the right code, at once and before any codec sees it."""
    syntax, data, code = LIES[name]
    start = time.process_time()

    with pytest.raises(ImageError) as raised:
        codestreams.inspect(data, syntax)

    assert (code, "codestream") == (raised.value.code, raised.value.stage), str(raised.value)
    assert time.process_time() - start < 0.2


WHOLE = ["Baseline", "Extended, 12 bits", "Lossless, 12 bits, predictor 1", "JPEG-LS, 12 bits"]
WHOLE += ["JPEG 2000, 12 bits", "JPEG 2000, tiles", "HTJ2K, tiles in parts", "JPEG 2000, in a JP2 file"]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.usefixtures("no_codec")
def test_cut_anywhere(name: str) -> None:
    """A codestream that is cut off is refused wherever that happens."""
    syntax, data, *_ = ENCODED[name]
    positions = sorted({*range(0, min(len(data), 300)), *range(0, len(data), 97), len(data) - 1})

    for position in positions:
        with pytest.raises(ImageError) as raised:
            codestreams.inspect(data[:position], syntax)
        # Without its first bytes it is no such format at all.
        assert raised.value.code == "truncated" or position < 16, position


@pytest.mark.parametrize("padding", [b"\0", b"\xff", b"\x20", bytes(500)], ids=["0", "255", "32", "500 zeros"])
@pytest.mark.parametrize("name", [name for name in WHOLE if "JP2" not in name])
def test_padding_behind_the_end(name: str, padding: bytes) -> None:
    """Padding behind the end is no fault, and is not given to the decoder."""
    data = ENCODED[name][1]

    stream = inspected(name, data + padding)

    assert len(data) == stream.stop
    np.testing.assert_array_equal(codecs.decode(data, inspected(name)), codecs.decode(data + padding, stream))


#: Size, components, allocated and stored bits that a header may claim of a codestream, and the tag that is named.
CONTRADICTIONS = {
    "rows": ((HEIGHT + 1, WIDTH, 1, 16, 12), "(0028,0010) Rows is '76'"),
    "columns": ((HEIGHT, WIDTH - 1, 1, 16, 12), "(0028,0011) Columns is '89'"),
    "sides exchanged": ((WIDTH, HEIGHT, 1, 16, 12), "(0028,0010) Rows is '90'"),
    "samples": ((HEIGHT, WIDTH, 3, 16, 12), "(0028,0002) Samples per Pixel is '3'"),
    "bits": ((HEIGHT, WIDTH, 1, 8, 8), "(0028,0100) Bits Allocated is '8'"),
}


@pytest.mark.parametrize(
    "kind", ["Extended, 12 bits", "Lossless, 12 bits, predictor 1", "JPEG-LS, 12 bits", "JPEG 2000, 12 bits"]
)
@pytest.mark.parametrize("claim", CONTRADICTIONS)
def test_contradiction(claim: str, kind: str) -> None:
    """A header that says something else than the codestream is an error that names both."""
    values, text = CONTRADICTIONS[claim]
    syntax, data, *_ = ENCODED[kind]
    stream = codestreams.inspect(data, syntax)

    with pytest.raises(ImageError, match=re.escape(text)) as raised:
        codestreams.check(stream, *values, Report())

    assert ("contradiction", "codestream") == (raised.value.code, raised.value.stage)


@pytest.mark.parametrize(
    ("rows", "columns", "samples", "allocated", "code"),
    [
        (HEIGHT, WIDTH, 1, 8, "contradiction"),
        (HEIGHT, WIDTH, 3, 16, "contradiction"),
        (9990, 9990, 1, 16, "truncated"),
        (65535, 65535, 1, 16, "too-large"),
        (0, 10, 1, 16, "damaged"),
        (9, 9, 1, 16, "damaged"),
    ],
)
def test_rle_against_its_header(rows: int, columns: int, samples: int, allocated: int, code: str) -> None:
    """RLE, which has no size, is held against what its header says: byte planes, and what so many bytes can hold."""
    stream = codestreams.inspect(RUNS, RLE)

    with pytest.raises(ImageError) as raised:
        codestreams.check(stream, rows, columns, samples, allocated, allocated, Report())

    assert (code, "codestream") == (raised.value.code, raised.value.stage)


def test_picture_of_another_size() -> None:
    """What a decoder returns is never taken for something else than the header announced."""
    syntax, data, *_ = ENCODED["JPEG-LS, 12 bits"]
    stream = replace(codestreams.inspect(data, syntax), height=WIDTH, width=HEIGHT)

    with pytest.raises(ImageError, match=r"shape \(75, 90\), expected \(90, 75\)") as raised:
        codecs.decode(data, stream)

    assert ("damaged", "decode") == (raised.value.code, raised.value.stage)


def test_deep_colour() -> None:
    """JPEG 2000 with more than 8 bits a colour is refused, since Pillow would drop the rest of them."""
    data = imagecodecs.jpeg2k_encode(RGB.astype(np.uint16) * 257, level=0, codecformat="j2k", reversible=True)

    with pytest.raises(ImageError, match="colours of 16 bits") as raised:
        codecs.decode(data, codestreams.inspect(data, J2K))

    assert "unsupported" == raised.value.code


# What an installation reads


def hide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make imagecodecs look as if it were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "imagecodecs" else find(name))


def test_everything_is_readable() -> None:
    """With the packages of the tests, all transfer syntaxes are read."""
    assert set(SYNTAXES) == {uid for uid in SYNTAXES if codecs.can_read(uid)}
    assert "All of them can be read." in doctor.render_examination()


def test_readable_without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra packages, JPEG Baseline, RLE and all of JPEG 2000 are still read."""
    hide(monkeypatch)

    unreadable = {EXTENDED, LOSSLESS, LOSSLESS_SV1, JPEG_LS, NEAR_LOSSLESS}

    assert unreadable == {uid for uid in SYNTAXES if not codecs.can_read(uid)}


@pytest.mark.parametrize("uid", [EXTENDED, LOSSLESS, JPEG_LS])
def test_missing_decoder(uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A syntax whose decoder is missing is refused with the command that adds it."""
    hide(monkeypatch)
    name, data = next(
        (name, data) for name, (syntax, data, *_) in ENCODED.items() if syntax == uid and "8 bits" not in name
    )

    for read in (lambda: codecs.require(uid), lambda: codecs.decode(data, inspected(name))):
        with pytest.raises(ImageError, match=re.escape(COMMAND)) as raised:
            read()
        assert ("missing-decoder", "header") == (raised.value.code, raised.value.stage)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.100", "1.2.3.4.5", "CANARY^NAME"])
def test_unknown_syntax(uid: str) -> None:
    """A transfer syntax for something else than images, or none at all, is refused and never repeated as text."""
    with pytest.raises(ImageError, match="expected one that `cxrzoo doctor` lists") as raised:
        codecs.require(uid)

    assert ("unsupported", "header") == (raised.value.code, raised.value.stage)
    assert (uid in str(raised.value)) == uid.startswith("1.2.840.10008.")


def test_doctor_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where packages are missing, the doctor says which syntaxes that costs and the one command that adds them."""
    hide(monkeypatch)

    text = doctor.render_examination()

    assert 5 == text.count("not readable")
    assert f"To read the rest: {COMMAND}" == text.splitlines()[-1]
    assert {"Python", "cxrzoo", "torch", "pydicom", "pillow"} <= set(doctor.list_versions())


def test_doctor_without_jpeg2000_in_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pillow that was built without JPEG 2000 is to be replaced."""
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "jpg_2000")

    assert "pip install --force-reinstall" in doctor.render_examination().splitlines()[-1]
