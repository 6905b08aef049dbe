"""DICOM images that a careful reader once showed wrongly, or refused: each stays mended."""

import io

import imagecodecs
import numpy as np
import phantoms
import pytest
from phantoms import dicom_file, make_dataset, make_table
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from cxrzoo.errors import ImageError
from cxrzoo.framing import frame
from cxrzoo.imaging import read, read_image
from cxrzoo.manifest import Contrast, Preprocessing


def compressed(dataset, stream, syntax):
    """Return the dataset with a codestream of its own."""
    dataset.PixelData, dataset["PixelData"].is_undefined_length = encapsulate([stream]), True
    dataset.file_meta.TransferSyntaxUID = syntax
    return dataset


def codes(source, **options):
    """Return the codes of what reading notes."""
    return [notice.code for notice in read(source, **options).report.notices]


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_numbers_of_a_palette_are_not_averaged(syntax):
    """Reading it smaller leaves an image with a palette as it is: what lies between two numbers is any colour."""
    greys = np.full(256, 200)
    greys[[0, 255]] = 100
    dataset = make_dataset(np.indices((64, 64)).sum(axis=0) % 2 * 255, stored=8)
    if syntax:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", greys.astype(np.uint8).tobytes())
    image = read(dataset, shrink=lambda height, width: 4).pixels
    assert (64, 64) == image.shape
    np.testing.assert_allclose(image, 100 / 255, atol=1e-6)


@pytest.mark.parametrize("said", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize("space", ["RGB", "YCbCr"])
def test_jpeg_knows_its_colours_better(said, space):
    """What a JPEG says of its components counts more than the attribute, as in pydicom, and a notice names both."""
    grey = phantoms.radiograph(64, 48)
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([grey] * 3)).save(buffer, "JPEG", quality=95, keep_rgb=space == "RGB")
    dataset = make_dataset(grey, stored=8, SamplesPerPixel=3, PhotometricInterpretation=said, PlanarConfiguration=0)
    compressed(dataset, buffer.getvalue(), JPEGBaseline8Bit)
    assert ([] if (said == "RGB") == (space == "RGB") else ["colour-model"]) == codes(dataset)
    np.testing.assert_allclose(read(dataset).pixels, grey / 255, atol=8 / 255)
    rgb = pixel_array(dataset).mean(axis=2) / 255
    np.testing.assert_allclose(read(dataset).pixels, rgb, atol=2 / 255)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGLSLossless, imagecodecs.jpegls_encode),
        (JPEGLosslessSV1, lambda cells: imagecodecs.jpeg8_encode(cells, lossless=True, predictor=1, bitspersample=16)),
        (JPEG2000Lossless, lambda cells: imagecodecs.jpeg2k_encode(cells, codecformat="j2k", level=0, reversible=True)),
    ],
    ids=["JPEG-LS", "JPEG Lossless", "JPEG 2000"],
)
@pytest.mark.parametrize("extended", [False, True], ids=["bare", "sign extended"])
def test_sign_in_a_codestream_of_more_bits(syntax, encode, extended):
    """The sign is the highest stored bit, also where the codestream has 16 bits and no sign."""
    values = np.tile([-2048, -1000, -1, 0, 2047], (40, 8))
    cells = values.astype(np.int16).view(np.uint16) & (0xFFFF if extended else 0xFFF)
    dataset = compressed(make_dataset(values, stored=12), encode(np.ascontiguousarray(cells)), syntax)
    np.testing.assert_allclose(read(dataset).pixels, (values + 2048) / 4095, atol=1e-6)


def test_padding_that_hides_most_is_noted():
    """Padding that takes most of an image gives a notice."""
    dataset = make_dataset([0, 1000, 2000, 3000, 4095], PixelPaddingValue=0, PixelPaddingRangeLimit=2000)
    assert ["padding"] == codes(dataset)


def test_padding_lies_at_the_border():
    """A value that occurs inside of the image only, such as that of bright letters, is no padding."""
    pixels = np.full((20, 20), 1000)
    pixels[0, 0], pixels[8:12, 8:12] = 0, 4095
    reading = read(make_dataset(pixels, PixelPaddingValue=4095))
    assert ["ignored"] == [notice.code for notice in reading.report.notices]
    assert 1 == reading.pixels[9, 9]


@pytest.mark.parametrize(
    ("pixels", "stored", "vr", "value"),
    [
        ([1, 2, 1000, 65535], 16, "SS", -1),
        ([1, 2, 1000, 0xFFFF], 12, "US", 0xFFFF),
        ([1, 2, 1000, 4095], 12, "SS", -1),
        ([-3, 5, 1000, -2048], 12, "US", 0xF800),
    ],
)
def test_padding_in_another_sign(pixels, stored, vr, value):
    """Padding is found by its bits, whether a writer takes them for signed or unsigned."""
    dataset = make_dataset(pixels, stored=stored)
    dataset.add_new("PixelPaddingValue", vr, value)
    image = read_image(dataset)[0]
    assert [True, True, True, False] == (image > 0).tolist()


def test_empty_padding():
    """An empty value is none."""
    dataset = make_dataset([0, 4095], PixelPaddingValue=[])
    np.testing.assert_allclose(read_image(dataset)[0], [0, 1])


def test_values_at_the_upper_end_of_their_cells():
    """Values that High Bit places at the upper end, as old files have them, are taken from there, with a notice."""
    reading = read(make_dataset(np.array([0, 1024, 4095]) << 4, HighBit=15))
    assert ["high-bit"] == [notice.code for notice in reading.report.notices]
    np.testing.assert_allclose(reading.pixels[0], [0, 1024 / 4095, 1], atol=1e-6)


def test_a_window_in_which_nothing_is_seen():
    """A window that leaves less than a step of 8 bits is ignored."""
    window = {"WindowCenter": -8000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    reading = read(make_dataset([0, 1024, 4095], **window))
    assert ["ignored"] == [notice.code for notice in reading.report.notices]
    np.testing.assert_allclose(reading.pixels[0], [0, 1024 / 4095, 1], atol=1e-6)


@pytest.mark.parametrize(
    ("modality", "relation", "expected"),
    [("XA", "LOG", 1 / 4095), ("RF", "DISP", 1 / 4095), ("XA", "LIN", 200 / 255), ("CR", "LOG", 200 / 255)],
)
def test_modality_lut_that_is_not_for_display(modality, relation, expected):
    """In angiography, a table that leads back to intensities of the beam is left out, and a step says so."""
    table = {"ModalityLUTSequence": make_table([0, 200, 255])}
    reading = read(make_dataset([0, 1, 2], Modality=modality, PixelIntensityRelationship=relation, **table))
    assert pytest.approx(expected) == reading.pixels[0, 1]
    assert (expected == 1 / 4095) == any("left out" in step for step in reading.report.steps)


def test_voi_lut_from_a_large_first_input():
    """A table that begins at 40,000 stays there, though an intercept makes some values negative."""
    rescale = {"RescaleSlope": 1, "RescaleIntercept": -1}
    table = make_table([0, 51, 255], first=40000)
    dataset = make_dataset([40000, 40001, 40002, 65535], stored=16, VOILUTSequence=table, **rescale)
    np.testing.assert_allclose(read_image(dataset)[0], [0, 0, 0.2, 1])


def test_a_frame_has_its_own_window():
    """The window of a frame replaces the VOI LUT of the whole image."""
    window = Dataset()
    window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 1024, 2048, "LINEAR_EXACT"
    group = Dataset()
    group.FrameVOILUTSequence = [window]
    table = make_table([0, 255], first=0)
    dataset = make_dataset([0, 512, 4095], VOILUTSequence=table, PerFrameFunctionalGroupsSequence=[group])
    np.testing.assert_allclose(read_image(dataset)[0], [0, 0.25, 1])


def test_contrast_of_the_whole_picture_takes_the_whole_picture():
    """A record whose contrast comes before the resize gives the same in fast mode: averages have other extremes."""
    pixels = phantoms.radiograph(1200, 1200, bits=12) // 4
    pixels[5:8, 5:8] = 4095
    record = Preprocessing(
        (1, 64, 64), (0.0,), (1.0,), "bilinear", 1.0, "center", contrast=Contrast("min-max", "before resize")
    )
    fast = Preprocessing(**(record.__dict__ | {"decoding": "fast"}))
    dataset = make_dataset(pixels)
    np.testing.assert_array_equal(frame(dataset, record).pixels, frame(dataset, fast).pixels)


def test_a_slope_beyond_all_numbers():
    """A slope that makes a range without end is ignored, as if it were absent."""
    reading = read(make_dataset([-2048, 0, 2047], RescaleSlope=8e304, RescaleIntercept=0))
    assert ["ignored"] == [notice.code for notice in reading.report.notices]
    np.testing.assert_allclose(reading.pixels[0], [0, 2048 / 4095, 1])


@pytest.mark.parametrize(
    "source", [np.zeros((4, 4), np.uint8), Image.new("L", (4, 4)), phantoms.saved(np.zeros((4, 4), np.uint8))]
)
def test_a_window_for_what_has_none(source):
    """A window that is asked of anything but a DICOM image is an error, and so is one of a model without windows."""
    with pytest.raises(ImageError, match="window="):
        read(source, window="SOFT")
    with pytest.raises(ImageError, match="window="):
        read(make_dataset([0, 4095]), window=0, intensity="full_range")
    with pytest.raises(ImageError, match="makes no sense"):
        read(make_dataset([0, 4095], WindowCenter=1, WindowWidth=-1), window=0)


@pytest.mark.parametrize(
    ("options", "text"), [({"frame": "a"}, "str"), ({"frame": 1.5}, "float"), ({"window": 1.0}, "float")]
)
def test_arguments_of_another_type(options, text):
    """A frame or window of another type is a TypeError of Python, not a damaged file."""
    with pytest.raises(TypeError, match=text):
        read(make_dataset([0, 4095]), **options)


@pytest.mark.parametrize("view", ["LAO", "RPO", "XTABLE LATERAL", "LEFT LATERAL", "LLAT", "AP LLD", "SWIMMERS"])
def test_views_in_other_words(view):
    """Views that are not frontal are known by any word that devices write."""
    assert ["view"] == codes(make_dataset([0, 4095], ViewPosition=view))


@pytest.mark.parametrize("part", ["CHEST PA", "CHEST_PA", "CHEST 2V", "LUNGS", "Thorax"])
def test_chests_in_other_words(part):
    """A chest is one in other words, too."""
    assert [] == codes(make_dataset([0, 4095], BodyPartExamined=part))


def test_attributes_of_another_kind_cost_no_image():
    """What only informs does not cost the image, if it is not what it should be."""
    dataset = make_dataset([0, 4095])
    for keyword in ("ViewCodeSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
        dataset.add_new(keyword, "LO", "x")
    np.testing.assert_allclose(read_image(dataset)[0], [0, 1])


def test_no_text_of_a_file_in_an_error():
    """An attribute that should be a word of the standard, and is not, is not repeated."""
    data = dicom_file(make_dataset([0, 1, 2])).replace(b"MONOCHROME2 ", b"MONO CANARY ")
    with pytest.raises(ImageError, match="Photometric Interpretation holds something else") as caught:
        read_image(data)
    assert phantoms.CANARY not in str(caught.value)


def test_the_names_of_windows_stay_out_of_the_report():
    """Explanations of windows are free text: the report's own text leaves them out, and control characters are gone."""
    names = ["DOE^JANE \x1b[31m", "x" * 60]
    elements = {"WindowCenter": [1, 2], "WindowWidth": [9, 9], "WindowCenterWidthExplanation": names}
    report = read(make_dataset([0, 4, 4095], **elements)).report
    assert "DOE" not in str(report)
    assert ["DOE^JANE [31m", "x" * 24] == report.windows


def test_the_bytes_of_a_character_set_in_a_text():
    """Bytes in a text that look like Specific Character Set are left alone."""
    dataset = make_dataset([0, 2048, 4095], SeriesDescription="x\x08\x00\x05\x00CS\x40\x02yyyy")
    np.testing.assert_allclose(read_image(dicom_file(dataset))[0], [0, 2048 / 4095, 1], atol=1e-6)


def test_positions_count_windows_and_tables():
    """Positions count the windows, then the VOI LUTs, as the report lists them; nameless ones have one, too."""
    elements = {"WindowCenter": [1024, 512], "WindowWidth": [2048, 1024], "VOILUTFunction": "LINEAR_EXACT"}
    dataset = make_dataset([0, 512, 4095], VOILUTSequence=make_table([0, *[51] * 511, 51, 255]), **elements)
    assert 3 == len(read(dataset).report.windows)
    assert [0.25, 0.5, 0.2] == [pytest.approx(read_image(dataset, window=position)[0, 1]) for position in range(3)]
