"""PNG and JPEG files, PIL images, arrays and tensors -> one grey image, one row per kind."""

import io
import traceback
import warnings
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
from cxrzoo.imaging import read_image, read_pixels

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


SAME_8_BIT = {
    "grey PNG": saved(PICTURE),
    "RGB PNG": saved(PICTURE.convert("RGB")),
    "palette PNG": saved(palette(PICTURE)),
    "grey PNG with opaque alpha": saved(PICTURE.convert("LA")),
    "RGB PNG with opaque alpha": saved(PICTURE.convert("RGBA")),
    "interlaced by nobody, but bytearray": bytearray(saved(PICTURE)),
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


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_jpeg(mode):
    """A JPEG gives the pixels that PIL gives, whether it is stored as grey or as colour."""
    data = saved(PICTURE.convert(mode), "JPEG", quality=90)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
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

REFUSED = {
    "an empty file": (b"", "an empty file"),
    "PDF": (b"%PDF-1.7 x", "a PDF"),
    "HTML": (b"\n <!DOCTYPE html><html>", "an HTML page"),
    "XML": (b"<?xml version='1.0'?>", "an XML file"),
    "TIFF": (saved(PICTURE, "TIFF"), "a TIFF, not supported yet"),
    "GIF": (saved(PICTURE, "GIF"), "a GIF"),
    "BMP": (saved(PICTURE, "BMP"), "a BMP"),
    "WebP": (saved(PICTURE, "WEBP"), "a WebP"),
    "JPEG 2000": (saved(PICTURE, "JPEG2000"), "a JPEG 2000 file outside of DICOM"),
    "ZIP": (b"PK\x03\x04....", "a ZIP archive"),
    "NumPy": (b"\x93NUMPY\x01\x00", "a NumPy file"),
    "NIfTI": (bytes(344) + b"n+1\x00", "a NIfTI volume"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "text": (b"CANARY was here", "a file of unknown kind"),
    "PNG cut in half": (WHOLE_PNG[: len(WHOLE_PNG) // 2], "can't be decoded"),
    "PNG header": (WHOLE_PNG[:20], "can't be decoded"),
    "JPEG cut in half": (WHOLE_JPEG[: len(WHOLE_JPEG) // 2], "can't be decoded"),
    "JPEG header": (WHOLE_JPEG[:20], "can't be decoded"),
    "PNG of 10 gigapixels": (bare_png(100_000, 100_000, 8, 0, b""), "can't be decoded"),
    "PNG of 144 megapixels": (bare_png(12_000, 12_000, 8, 0, b""), "100 megapixels"),
    "PNG of 16,385 columns": (bare_png(16_385, 1, 8, 0, b""), "16,384"),
    "PNG of 16-bit RGB": (bare_png(1, 1, 16, 2, bytes(7)), "16 bits with colour or alpha"),
    "PNG of 16-bit grey with alpha": (bare_png(1, 1, 16, 4, bytes(5)), "16 bits with colour or alpha"),
    "CMYK JPEG": (saved(PICTURE.convert("CMYK"), "JPEG"), "mode 'CMYK'"),
    "animated PNG": (animated("PNG"), "2 pictures"),
    "animated GIF, opened": (Image.open(io.BytesIO(animated("GIF"))), "2 pictures"),
    "HSV": (PICTURE.convert("RGB").convert("HSV"), "mode 'HSV'"),
    "mode I beyond 16 bits": (Image.fromarray(np.array([[0, 70000]], np.int32)), "from 0 to 70000"),
    "mode F beyond 1": (Image.fromarray(np.array([[0, 255]], np.float32)), "from 0 to 255"),
    "bool": (GREY > 9, "type bool"),
    "int64": (GREY.astype(np.int64), "(x - lowest) / (highest - lowest)"),
    "uint32": (GREY.astype(np.uint32), "type uint32"),
    "complex": (GREY.astype(complex), "type complex128"),
    "text array": (np.array([["a"]]), "type <U1"),
    "objects": (np.array([[None]]), "type object"),
    "bool tensor": (torch.ones(2, 2, dtype=torch.bool), "type bool"),
    "float of 8 bits": (GREY.astype(np.float32), "from 0 to 255, expected [0, 1]. Divide by 255"),
    "normalised float": (FLOAT - 0.5, "from -0.5 to 0.5"),
    "NaN": (np.array([[0.5, np.nan]]), "NaN or infinite"),
    "infinity": (np.array([[0.5, np.inf]]), "NaN or infinite"),
    "one row": (GREY[0], "shape (34,)"),
    "a batch": (GREY[None, None], "one by one"),
    "two channels": (GREY[:20].reshape(10, 34, 2), "shape (10, 34, 2)"),
    "channels on both sides": (np.zeros((3, 9, 3), np.uint8), "first or last"),
    "no pixels": (np.zeros((0, 5), np.uint8), "0 rows and 5 columns"),
    "a number": (np.float32(0.5), "shape ()"),
    "too long": (np.zeros((1, 16_385), np.uint8), "16,384"),
    "None": (None, "type NoneType"),
    "a list": ([[0, 1]], "type list"),
}


@pytest.mark.parametrize(("source", "text"), REFUSED.values(), ids=REFUSED)
def test_refused(source, text):
    """What is not one radiograph is refused, and the text says what was found."""
    with pytest.raises(ImageError) as caught:
        read_image(source)
    assert text in str(caught.value)
    assert phantoms.CANARY not in str(caught.value)


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
@given(st.sampled_from([WHOLE_PNG, WHOLE_JPEG, SAME_8_BIT["palette PNG"]]), st.data())
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
    ("white", "warned"), [(200, False), (4095, True), (8191, True), (16383, False), (65535, False)]
)
def test_few_bits_in_sixteen_give_a_warning(white, warned):
    """16-bit pixels that use 9 to 13 bits are taken as they are, with a warning that says how to scale them."""
    pixels = np.linspace(0, white, 64 * 64).astype(np.uint16).reshape(64, 64)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(pixels)

    assert warned == any("stored in 16" in str(warning.message) for warning in caught)
