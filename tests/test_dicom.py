"""Stored pixels and tags -> displayed pixels, one row per rule of the standard."""

import copy
import io
import logging
import subprocess
import sys
import threading
import traceback
import warnings

import numpy as np
import phantoms
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phantoms import dicom_file, make_dataset, make_table
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from cxrzoo.errors import ImageError
from cxrzoo.imaging import read_image, read_pixels
from cxrzoo.imaging.guard import guarded

WINDOW = {"WindowCenter": 1024, "WindowWidth": 2048, "VOILUTFunction": "LINEAR_EXACT"}

DISPLAYED = {
    # no VOI: the full range of the stored bits
    "full range of 12 bits": ([0, 1024, 4095], {}, [0, 1024 / 4095, 1]),
    "full range of 8 bits": ([0, 51, 255], {"stored": 8}, [0, 0.2, 1]),
    "full range of 16 bits": ([0, 13107, 65535], {"stored": 16}, [0, 0.2, 1]),
    "full range of signed values": ([-2048, 0, 2047], {}, [0, 2048 / 4095, 1]),
    "an image that uses little of the range": ([1000, 1001, 1002], {}, [1000 / 4095, 1001 / 4095, 1002 / 4095]),
    "a constant image": ([7, 7, 7], {}, [7 / 4095] * 3),
    # polarity
    "MONOCHROME1 is inverted": (
        [0, 1024, 4095],
        {"PhotometricInterpretation": "MONOCHROME1"},
        [1, 3071 / 4095, 0],
    ),
    "MONOCHROME1 is inverted after the window": (
        [0, 512, 4095],
        {"PhotometricInterpretation": "MONOCHROME1"} | WINDOW,
        [1, 0.75, 0],
    ),
    "PresentationLUTShape IDENTITY changes nothing": (
        [0, 1024, 4095],
        {"PresentationLUTShape": "IDENTITY"},
        [0, 1024 / 4095, 1],
    ),
    "PresentationLUTShape does not invert twice": (
        [0, 1024, 4095],
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        [1, 3071 / 4095, 0],
    ),
    # windows
    "LINEAR": ([0, 1024, 4095], {"WindowCenter": 1024.5, "WindowWidth": 2049}, [0, 0.5, 1]),
    "LINEAR of width 1 is a step": ([99, 100, 101], {"WindowCenter": 100.5, "WindowWidth": 1}, [0, 0, 1]),
    "LINEAR_EXACT": ([0, 512, 1024, 4095], WINDOW, [0, 0.25, 0.5, 1]),
    "SIGMOID": (
        [0, 1024, 1536],
        WINDOW | {"VOILUTFunction": "SIGMOID"},
        [1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-1))],
    ),
    "the first of several windows": (
        [0, 512, 4095],
        WINDOW | {"WindowCenter": [1024, 9], "WindowWidth": [2048, 9]},
        [0, 0.25, 1],
    ),
    "empty window attributes are absent ones": (
        [0, 4095],
        {"WindowCenter": "", "WindowWidth": ""},
        [0, 1],
    ),
    # modality
    "the window is in rescaled units": (
        [1000, 1256, 4095],
        WINDOW | {"RescaleSlope": 2, "RescaleIntercept": -2000},
        [0, 0.25, 1],
    ),
    "full range of rescaled values": (
        [0, 1024, 4095],
        {"RescaleSlope": 3, "RescaleIntercept": -9},
        [0, 1024 / 4095, 1],
    ),
    "a negative slope turns the image over": (
        [0, 1024, 4095],
        {"RescaleSlope": -1, "RescaleIntercept": 4095},
        [1, 3071 / 4095, 0],
    ),
    "modality LUT, range of its depth": (
        [0, 1, 2, 9],
        {"ModalityLUTSequence": make_table([0, 51, 204], bits=8)},
        [0, 0.2, 0.8, 0.8],
    ),
    "modality LUT before the window": (
        [0, 1, 2],
        WINDOW | {"ModalityLUTSequence": make_table([0, 512, 4000], bits=12)},
        [0, 0.25, 1],
    ),
    "modality LUT and not the slope": (
        [0, 1, 2],
        {"ModalityLUTSequence": make_table([0, 51, 255]), "RescaleSlope": 9, "RescaleIntercept": 9},
        [0, 0.2, 1],
    ),
    # VOI LUT
    "VOI LUT": ([0, 1, 2, 9], {"VOILUTSequence": make_table([0, 1023, 341], bits=10)}, [0, 1, 1 / 3, 1 / 3]),
    "VOI LUT and not the window": (
        [0, 1, 2],
        WINDOW | {"VOILUTSequence": make_table([0, 51, 255])},
        [0, 0.2, 1],
    ),
    "VOI LUT from its first input on": (
        [99, 100, 101, 102],
        {"VOILUTSequence": make_table([0, 51, 255], first=100)},
        [0, 0, 0.2, 1],
    ),
    "VOI LUT with a signed first input": (
        [-3, -2, -1, 0],
        {"VOILUTSequence": make_table([0, 51, 255], first=-2)},
        [0, 0, 0.2, 1],
    ),
    "VOI LUT with a signed first input written as unsigned": (
        [-3, -2, -1, 0],
        {"VOILUTSequence": make_table([0, 51, 255], first=65534)},
        [0, 0, 0.2, 1],
    ),
    "VOI LUT after the slope": (
        [1000, 1001, 1002],
        {"VOILUTSequence": make_table([0, 51, 255]), "RescaleSlope": 1, "RescaleIntercept": -1000},
        [0, 0.2, 1],
    ),
    "VOI LUT with bytes packed in words": (
        [0, 1, 2, 3],
        {"VOILUTSequence": make_table([0, 51, 255, 204], packed=True)},
        [0, 0.2, 1, 0.8],
    ),
    "VOI LUT of 65,536 entries, written as 0": (
        [0, 13107, 65535],
        {"stored": 16, "VOILUTSequence": make_table(list(range(65536)), bits=16)},
        [0, 0.2, 1],
    ),
    # padding
    "padding is as dark as air": ([0, 1024, 4095], {"PixelPaddingValue": 4095}, [0, 1024 / 4095, 0]),
    "padding is not turned over": (
        [0, 1024, 4095],
        {"PixelPaddingValue": 0, "PhotometricInterpretation": "MONOCHROME1"},
        [0, 3071 / 4095, 0],
    ),
    "padding up to its limit": (
        [1, 1024, 1024, 4000, 4050, 4095],
        {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095},
        [1 / 4095, 1024 / 4095, 1024 / 4095, 0, 0, 0],
    ),
    "a limit below the padding value": (
        [1, 1024, 4000, 4095],
        {"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000},
        [1 / 4095, 1024 / 4095, 0, 0],
    ),
    "signed padding": ([-2048, -1000, 2047], {"PixelPaddingValue": -1000}, [0, 0, 1]),
    "signed padding written as unsigned": ([-2048, -1000, 2047], {"PixelPaddingValue": 2**16 - 1000}, [0, 0, 1]),
    "padding is compared before the slope": (
        [0, 1000, 4095],
        WINDOW | {"PixelPaddingValue": 4095, "RescaleSlope": 1, "RescaleIntercept": 24},
        [12 / 1024, 0.5, 0],
    ),
    "padding that does not occur": ([0, 1024, 4095], {"PixelPaddingValue": 7}, [0, 1024 / 4095, 1]),
    # pixels
    "bits above BitsStored are not part of the value": ([0x7000, 0x7400, 0x7FFF], {}, [0, 1024 / 4095, 1]),
}


@pytest.mark.parametrize(("stored", "elements", "displayed"), DISPLAYED.values(), ids=DISPLAYED)
def test_displayed(stored, elements, displayed):
    """Stored pixels and tags give the pixels that a reader sees, without a warning."""
    dataset = make_dataset(stored, **elements)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(dataset)
    assert (image.dtype, image.shape) == (np.float32, (1, len(stored)))
    np.testing.assert_allclose(image[0], displayed, atol=1e-7)


TOO_SHORT = make_table([0, 9])
TOO_SHORT[0].LUTDescriptor = [3, 0, 8]

IGNORED = {
    "width 0": ({"WindowCenter": 100, "WindowWidth": 0}, "(0028,1051)"),
    "width below 0": (WINDOW | {"WindowWidth": -5}, "(0028,1051)"),
    "LINEAR width below 1": ({"WindowCenter": 100, "WindowWidth": 0.5}, "(0028,1051)"),
    "NaN": (WINDOW | {"WindowCenter": float("nan")}, "(0028,1050)"),
    "infinity": (WINDOW | {"WindowWidth": float("inf")}, "(0028,1051)"),
    "width missing": ({"WindowCenter": 100}, "(0028,1051)"),
    "center missing": ({"WindowWidth": 100}, "(0028,1050)"),
    "a function that does not exist": (WINDOW | {"VOILUTFunction": "CUBIC"}, "(0028,1056)"),
    "a window above all pixels": (WINDOW | {"WindowCenter": 90000}, "(0028,1051)"),
    "a sigmoid far below all pixels": (WINDOW | {"VOILUTFunction": "SIGMOID", "WindowCenter": -1e9}, "(0028,1051)"),
    "slope 0": ({"RescaleSlope": 0, "RescaleIntercept": 5}, "(0028,1053)"),
    "slope NaN": ({"RescaleSlope": float("nan"), "RescaleIntercept": 5}, "(0028,1053)"),
    "slope infinite": ({"RescaleSlope": float("inf"), "RescaleIntercept": 5}, "(0028,1053)"),
    "slope so large that values overflow": ({"RescaleSlope": 1e308, "RescaleIntercept": 0}, "(0028,1053)"),
    "slope so small that values collapse": ({"RescaleSlope": 1e-300, "RescaleIntercept": 5}, "(0028,1053)"),
    "slope without intercept": ({"RescaleSlope": 2}, "(0028,1052)"),
    "VOI LUT with too few entries": ({"VOILUTSequence": TOO_SHORT}, "(0028,3010)"),
    "VOI LUT beyond its depth": ({"VOILUTSequence": make_table([0, 51, 999], bits=8)}, "(0028,3010)"),
    "VOI LUT with one grey": ({"VOILUTSequence": make_table([5, 5, 5], bits=8)}, "(0028,3010)"),
    "VOI LUT of 3 bits": ({"VOILUTSequence": make_table([0, 1, 7], bits=3)}, "(0028,3010)"),
    "VOI LUT without an item": ({"VOILUTSequence": [pydicom.Dataset()]}, "(0028,3010)"),
    "padding that would hide everything": (
        {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095},
        "(0028,0120)",
    ),
    "modality LUT beyond its depth": ({"ModalityLUTSequence": make_table([0, 999], bits=8)}, "(0028,3000)"),
}


@pytest.mark.parametrize(("elements", "tag"), IGNORED.values(), ids=IGNORED)
def test_nonsense_is_ignored(elements, tag):
    """A window, table or slope that makes no sense is left out, and a warning names its tag."""
    with pytest.warns(UserWarning, match="Ignored") as caught:
        image = read_image(make_dataset([0, 1024, 4095], **elements))
    assert [True] == [tag in str(warning.message) for warning in caught]
    np.testing.assert_allclose(image[0], [0, 1024 / 4095, 1], atol=1e-7)


@pytest.mark.parametrize("text", ["abc", "1,5", "--3", "1e"])
@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"])
def test_text_that_is_no_number_is_ignored(keyword, text):
    """A decimal string in a file that is no number counts as nonsense, not as a damaged file."""
    keywords = ("WindowCenter", "WindowWidth") if "Window" in keyword else ("RescaleSlope", "RescaleIntercept")
    dataset = make_dataset([0, 1024, 4095], **dict.fromkeys(keywords, 7777))
    data = dicom_file(dataset).replace(b"7777", text.encode().ljust(4), 1 + (keyword == keywords[1]))
    with pytest.warns(UserWarning, match="Ignored"):
        image = read_image(data)
    np.testing.assert_allclose(image[0], [0, 1024 / 4095, 1], atol=1e-7)


def test_bad_table_leaves_the_window():
    """A VOI LUT that is ignored gives way to the window beside it."""
    dataset = make_dataset([0, 512, 4095], VOILUTSequence=make_table([0, 999], bits=8), **WINDOW)
    with pytest.warns(UserWarning, match="VOI LUT Sequence"):
        image = read_image(dataset)
    np.testing.assert_allclose(image[0], [0, 0.25, 1], atol=1e-7)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@settings(max_examples=40, deadline=None)
@given(
    center=st.floats(-3000, 5000),
    width=st.floats(1, 9000),
    slope=st.sampled_from([1, 0.5, 3.25]),
    intercept=st.sampled_from([0, -1024, 17.5]),
    signed=st.booleans(),
)
def test_windows_equal_pydicom(function, center, width, slope, intercept, signed):
    """Windows give what pydicom's own functions give, put on [0, 1] by the range of the stored bits."""
    stored = np.arange(-2048, 2048, 13) if signed else np.arange(0, 4096, 13)
    dataset = make_dataset(
        stored,
        WindowCenter=pydicom.valuerep.DSfloat(center, auto_format=True),
        WindowWidth=pydicom.valuerep.DSfloat(width, auto_format=True),
        VOILUTFunction=function,
        RescaleSlope=slope,
        RescaleIntercept=intercept,
    )
    low, high = (bound * slope + intercept for bound in ((-2048, 2047) if signed else (0, 4095)))
    with np.errstate(over="ignore"):
        expected = (apply_voi_lut(apply_modality_lut(stored, dataset), dataset) - low) / (high - low)
    if np.ptp(expected) < 1.001 / 255:
        return  # one grey to the eye: the window is ignored, which pydicom does not do
    np.testing.assert_allclose(read_image(dataset)[0], expected, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_tables_equal_pydicom(bits):
    """A modality LUT followed by a VOI LUT gives what pydicom's own functions give, put on [0, 1]."""
    random = np.random.default_rng(bits)
    # below 256, since pydicom counts the inputs of an 8-bit table in 8 bits
    modality = make_table(random.integers(0, 256, 200).tolist(), first=10, bits=16)
    voi = make_table(random.integers(0, 2**bits, 256).tolist(), first=5, bits=bits)
    stored = np.arange(0, 250)
    dataset = make_dataset(stored, ModalityLUTSequence=modality, VOILUTSequence=voi)
    expected = apply_voi_lut(apply_modality_lut(stored, dataset), dataset) / (2**bits - 1)
    np.testing.assert_allclose(read_image(dataset)[0], expected, atol=1e-7)


ENCODINGS = {
    "explicit": (ExplicitVRLittleEndian, True),
    "implicit": (ImplicitVRLittleEndian, True),
    "big endian": (ExplicitVRBigEndian, True),
    "deflated": (DeflatedExplicitVRLittleEndian, True),
    "JPEG 2000": (JPEG2000Lossless, True),
    "RLE": (RLELossless, True),
    "explicit without preamble": (ExplicitVRLittleEndian, False),
    "implicit without preamble": (ImplicitVRLittleEndian, False),
    "big endian without preamble": (ExplicitVRBigEndian, False),
}


@pytest.mark.parametrize(("syntax", "preamble"), ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("polarity", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("bits", "signed"), [(8, False), (12, False), (12, True), (16, False), (16, True)])
def test_encodings(syntax, preamble, polarity, bits, signed):
    """One radiograph in any encoding, depth, sign and polarity is one and the same image."""
    truth = phantoms.radiograph(33, 47, bits=bits).astype(np.int64)
    stored = 2**bits - 1 - truth if polarity == "MONOCHROME1" else truth
    dataset = make_dataset(stored - 2 ** (bits - 1) * signed, stored=bits, PhotometricInterpretation=polarity)
    image = read_image(dicom_file(dataset, syntax, preamble=preamble))
    np.testing.assert_allclose(image, truth / (2**bits - 1), atol=1e-6)


def test_tables_in_big_endian_files():
    """The words of a table are read in the byte order of the file."""
    table = make_table([0, 1000, 4095], bits=12)
    for syntax in (ExplicitVRLittleEndian, ExplicitVRBigEndian):
        entries = np.array([0, 1000, 4095], "<u2" if syntax.is_little_endian else ">u2")
        table[0].add_new("LUTData", "OW", entries.tobytes())
        data = dicom_file(make_dataset([0, 1, 2], VOILUTSequence=table), syntax)
        np.testing.assert_allclose(read_image(data)[0], [0, 1000 / 4095, 1], atol=1e-7)


REFUSED = {
    "colour of one sample": ({"PhotometricInterpretation": "RGB"}, "(0028,0004) Photometric Interpretation is 'RGB'"),
    "a palette without colours": ({"PhotometricInterpretation": "PALETTE COLOR"}, "(0028,1101)"),
    "HSV": ({"PhotometricInterpretation": "HSV"}, "'HSV'"),
    "CIELAB": ({"PhotometricInterpretation": "CIELAB"}, "holds something else"),
    "three samples of grey": ({"SamplesPerPixel": 3}, "(0028,0002) Samples per Pixel is '3'"),
    "no photometric interpretation": ({"PhotometricInterpretation": None}, "(0028,0004)"),
    "no pixels": ({"PixelData": None}, "cut off"),
    "no image": ({"PixelData": None, "Rows": None}, "not an image"),
    "frames": ({"NumberOfFrames": 2}, "(0028,0008) Number of Frames is '2'"),
    "no rows": ({"Rows": None}, "(0028,0010) Rows is missing"),
    "0 rows": ({"Rows": 0}, "(0028,0010) Rows is '0'"),
    "20,000 columns": ({"Columns": 20_000}, "16,384"),
    "144 megapixels": ({"Rows": 12_000, "Columns": 12_000}, "100 megapixels"),
    "a row too many": ({"Rows": 4}, "(7FE0,0010) Pixel Data has 18 bytes, expected 24"),
    "a row too few": ({"Rows": 2}, "(7FE0,0010) Pixel Data has 18 bytes, expected 12"),
    "32 bits": ({"BitsAllocated": 32}, "(0028,0100) Bits Allocated is '32'"),
    "12 bits allocated": ({"BitsAllocated": 12}, "(0028,0100) Bits Allocated is '12'"),
    "more stored than allocated": ({"BitsStored": 17}, "(0028,0101) Bits Stored is '17'"),
    "1 bit": ({"BitsStored": 1}, "(0028,0101) Bits Stored is '1'"),
    "sign 7": ({"PixelRepresentation": 7}, "(0028,0103) Pixel Representation is '7'"),
}


@pytest.mark.parametrize(("elements", "text"), REFUSED.values(), ids=REFUSED)
def test_refused(elements, text):
    """What is not one grey image of 8 to 16 bits is refused, by the tag that says so."""
    dataset = make_dataset(phantoms.radiograph(3, 3, bits=8), **elements)
    with pytest.raises(ImageError) as caught:
        read_image(dataset)
    assert text in str(caught.value)


def test_float_pixels_are_refused():
    """Pixels that are floating-point numbers are named as such."""
    dataset = make_dataset([0, 1], PixelData=None, FloatPixelData=b"\0" * 8)
    with pytest.raises(ImageError, match="floating-point"):
        read_image(dataset)


def test_missing_decoder_is_named(monkeypatch):
    """A compressed image that no installed decoder reads is refused with what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    dataset = make_dataset([0, 1])
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    with pytest.raises(ImageError, match=r"cxrzoo\[dicom\]"):
        read_image(dataset)


def test_dataset_without_transfer_syntax():
    """A dataset made in memory that does not say how its pixels are encoded is refused with what to set."""
    dataset = pydicom.Dataset()
    dataset.update(make_dataset([0, 1]))
    with pytest.raises(ImageError, match="file_meta"):
        read_image(dataset)


def test_high_bit_warns():
    """A high bit that contradicts the stored bits is not followed, and a warning says so."""
    with pytest.warns(UserWarning, match=r"\(0028,0102\) High Bit is '15'"):
        image = read_image(make_dataset([0, 4095], HighBit=15))
    assert [0, 1] == image[0].tolist()


def test_codestream_deeper_than_the_header():
    """Values of a JPEG 2000 image beyond the stored bits are clipped, and a warning says so."""
    dataset = make_dataset(np.tile([[0, 1000], [4095, 60000]], (16, 16)), stored=16)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.BitsStored, dataset.HighBit = 12, 11
    with pytest.warns(UserWarning, match=r"\(0028,0101\) Bits Stored is '12'"):
        image = read_image(dataset)
    np.testing.assert_allclose(image[:2, :2], [[0, 1000 / 4095], [1, 1]], atol=1e-7)


def test_codestream_of_another_size():
    """A JPEG 2000 image whose size is not the one in the header is refused."""
    dataset = make_dataset(phantoms.radiograph(32, 32, bits=16), stored=16)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    dataset.Rows = 40
    with pytest.raises(ImageError):
        read_image(dataset)


def test_dataset_is_left_as_it_was():
    """Reading a dataset changes nothing in it."""
    dataset = make_dataset([0, 1024, 4095], WindowCenter=[1024, 9], WindowWidth=[2048, 9], RescaleSlope=2)
    before = copy.deepcopy(dataset)
    with pytest.warns(UserWarning):
        read_image(dataset)
    assert before == dataset
    assert before.file_meta == dataset.file_meta


@pytest.mark.parametrize("kind", ["R", "I"])
def test_real_radiograph(kind):
    """A real radiograph is the same compressed and not, has dark air, and fills its window."""
    plain, compressed = (
        read_image(get_testdata_file(f"RG1_{name}{kind}.dcm", download=False)) for name in ("UNC", "J2K")
    )
    np.testing.assert_array_equal(plain, compressed)
    assert (1955, 1841) == plain.shape
    air, mediastinum = plain[100:180, 20:60].mean(), plain[900:1100, 850:950].mean()
    assert air < 0.4 < 0.8 < mediastinum


def test_real_radiograph_by_hand():
    """A real radiograph is its stored values through its one window, turned over."""
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    stored = pydicom.dcmread(path).pixel_array.astype(np.float64)
    expected = 1 - np.clip((stored - 14999.5) / 29999 + 0.5, 0, 1)
    np.testing.assert_allclose(read_pixels(path), expected, atol=1e-6)


def secret_file(**elements):
    """Return a file of which every identifying attribute, and some damaged ones, hold the canary."""
    dataset = make_dataset(
        phantoms.radiograph(8, 8), **(phantoms.IDENTIFYING | {"PatientBirthDate": "20010203"} | elements)
    )
    return dicom_file(dataset).replace(b"20010203", b"CANARY-D")


SECRETS = {
    "a bad date": secret_file(),
    "an unknown character set": secret_file(SpecificCharacterSet="ISO_IR 100").replace(b"ISO_IR 100", b"CANARY 100"),
    "colour": secret_file(PhotometricInterpretation="RGB"),
    "no pixels": secret_file(PixelData=None),
    "frames": secret_file(NumberOfFrames=3),
    "frames that are no number": secret_file(NumberOfFrames=33333333).replace(b"33333333", b"CANARY--"),
    "wrong length": secret_file(Rows=9),
    "bad window": secret_file(WindowCenter=1, WindowWidth=0),
    "bad slope": secret_file(RescaleSlope=0, RescaleIntercept=0),
    "cut in the pixels": secret_file()[:-50],
    "cut in the header": secret_file()[:900],
    "cut in the file meta": secret_file()[:180],
    "garbled": secret_file().replace(b"PN", b"SQ").replace(b"LO", b"UI"),
    "garbled numbers": secret_file().replace(b"\x28\x00\x10\x00US\x02\x00", b"\x28\x00\x10\x00DS\x02\x00"),
    "text with a mark": phantoms.CANARY.encode().ljust(128) + b"DICM" + phantoms.CANARY.encode() * 99,
    "an unknown file": phantoms.CANARY.encode() * 99,
}


@pytest.mark.parametrize("data", SECRETS.values(), ids=SECRETS)
def test_nothing_identifying_comes_out(data, tmp_path, caplog):
    """No error, traceback, warning or log record repeats a patient's attribute or the name of the file."""
    path = tmp_path / f"{phantoms.CANARY}.dcm"
    path.write_bytes(data)
    caplog.set_level(logging.DEBUG)
    said = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            read_image(path)
        except ImageError as error:
            said += traceback.format_exception(error)
    said += [str(warning.message) for warning in caught] + [record.getMessage() for record in caplog.records]
    said = "".join(said).replace(str(tmp_path), "")
    assert phantoms.CANARY not in said


def test_secrets_do_fail():
    """The files of the test above do make pydicom talk and cxrzoo fail, so that it can fail too."""
    failed = 0
    for data in SECRETS.values():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read_image(data)
            except ImageError:
                failed += 1
    assert 9 <= failed
    with pytest.warns(UserWarning, match=phantoms.CANARY):
        str(pydicom.dcmread(io.BytesIO(SECRETS["an unknown character set"])))


class PanicException(BaseException):
    """What a decoder written in Rust raises."""


@pytest.mark.parametrize("failure", [StopIteration, PanicException, RecursionError, MemoryError, KeyError])
def test_failures_of_decoders(failure):
    """Whatever a decoder raises becomes an ImageError that names at most the type."""
    code = "memory" if failure is MemoryError else "damaged"
    with pytest.raises(ImageError) as caught, guarded("The file"):
        raise failure("CANARY")
    assert code == caught.value.code
    assert (failure.__name__ in str(caught.value)) == (code == "damaged")
    assert "CANARY" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("passed", [KeyboardInterrupt, SystemExit, UserWarning, ImageError])
def test_what_is_no_failure_passes(passed):
    """Interrupts, warnings turned into errors, and our own errors are left alone."""
    with pytest.raises(passed, match="as it was"), guarded("The file"):
        raise passed("as it was")


def test_silence_ends():
    """After blocks that overlap in two threads, warnings and log levels are what they were."""
    entered, leave = threading.Event(), threading.Event()

    def other():
        with guarded("Another file"):
            entered.set()
            leave.wait(10)

    before = list(warnings.filters), logging.getLogger("pydicom").level
    thread = threading.Thread(target=other)
    with guarded("The file"):
        thread.start()
        entered.wait(10)
    assert logging.getLogger("pydicom").level > logging.CRITICAL
    leave.set()
    thread.join()
    assert before == (list(warnings.filters), logging.getLogger("pydicom").level)


def test_light_import():
    """Importing the package loads neither torch nor timm nor pydicom."""
    code = "import sys, cxrzoo.imaging; print(sorted({'torch', 'timm', 'pydicom'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]" == done.stdout.strip()


DAMAGED = [
    dicom_file(make_dataset(phantoms.radiograph(32, 32, bits=12), **WINDOW)),
    dicom_file(make_dataset(phantoms.radiograph(32, 32, bits=12)), JPEG2000Lossless),
    dicom_file(make_dataset([0, 1, 2], VOILUTSequence=make_table([0, 51, 255])), ImplicitVRLittleEndian),
]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(DAMAGED), st.data())
def test_any_damage(whole, data):
    """A file with some damaged bytes, or cut anywhere, gives finite values in [0, 1] or an ImageError."""
    broken = bytearray(whole[: data.draw(st.integers(132, len(whole)) | st.just(len(whole)))])
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = read_image(bytes(broken))
        except ImageError:
            return
    assert np.isfinite(image).all()
    assert 0 <= image.min() <= image.max() <= 1


@pytest.mark.parametrize(
    ("modality", "warned"), [("CR", False), ("DX", False), (None, False), ("CT", True), ("NM", True)]
)
def test_what_is_no_radiograph_gives_a_warning(modality, warned):
    """A picture of another modality is read, with a warning that names the attribute."""
    dataset = make_dataset([0, 512, 4095], Modality=modality) if modality else make_dataset([0, 512, 4095])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_image(dataset)

    assert warned == any("(0008,0060) Modality" in str(warning.message) for warning in caught)
