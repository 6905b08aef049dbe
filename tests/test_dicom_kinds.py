"""Which DICOM images are read: frames, colours, views and encodings, and how they are reported or refused."""

import struct
import warnings

import numpy as np
import phantoms
import pydicom
import pytest
from phantoms import dicom_file, make_dataset, make_table
from pydicom import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels import apply_color_lut, convert_color_space, pixel_array
from pydicom.uid import DigitalXRayImageStorageForProcessing, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from cxrzoo.errors import ImageError, ImageWarning
from cxrzoo.imaging import read, read_image

PICTURE = phantoms.radiograph(48, 40)


def make_frames(count=3):
    """Return a dataset of `count` frames, each darker than the one before."""
    frames = [PICTURE // (position + 1) for position in range(count)]
    dataset = make_dataset(frames[0], stored=8)
    dataset.NumberOfFrames = count
    dataset.PixelData = b"".join(frame.tobytes() for frame in frames)
    return dataset, frames


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_a_named_frame_is_read(syntax):
    """Of several frames the named one is read, counted from 0, and the report says which."""
    dataset, frames = make_frames()
    data = dicom_file(dataset, syntax)
    for position, frame in enumerate(frames):
        image, report = read_image(data, frame=position, return_report=True)
        np.testing.assert_allclose(image, frame / 255, atol=1e-6)
        assert f"frame {position} of 3, counted from 0" == report.steps[0]


@pytest.mark.parametrize("frame", [None, 3, -1])
def test_frames_that_are_not_there(frame):
    """Several frames without a choice, or a choice that is not there, are an error that says what to choose from."""
    with pytest.raises(ImageError, match=r"frame=|0 to 2") as caught:
        read_image(make_frames()[0], frame=frame)
    assert ("several-images", "header") == (caught.value.code, caught.value.stage)


def test_frames_without_offsets():
    """Frames in several fragments each are found by either offset table; without one they are an error."""
    stored = [phantoms.radiograph(48, 40, seed=seed) for seed in range(2)]
    dataset = make_dataset(stored[0], stored=8, NumberOfFrames=2)
    streams = []
    for frame in stored:
        one = make_dataset(frame, stored=8)
        one.compress(JPEG2000Lossless, generate_instance_uid=False)
        streams.append(pydicom.encaps.get_frame(one.PixelData, 0, number_of_frames=1))
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=True)
    np.testing.assert_allclose(read_image(dataset, frame=1), stored[1] / 255, atol=1e-6)
    dataset.PixelData = encapsulate(streams, fragments_per_frame=2, has_bot=False)
    with pytest.raises(ImageError, match="offsets") as caught:
        read_image(dataset, frame=1)
    assert "contradiction" == caught.value.code
    dataset.PixelData, dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths = encapsulate_extended(streams)
    np.testing.assert_allclose(read_image(dataset, frame=1), stored[1] / 255, atol=1e-6)


def test_functional_groups_of_a_frame():
    """In an enhanced image, slope and window are those of the frame, and what all frames share holds for it too."""
    dataset, _ = make_frames(2)
    dataset.PixelData = np.array([[[0, 100, 200]]] * 2, np.uint8).tobytes()
    dataset.Rows, dataset.Columns = 1, 3
    shared, per_frame = Dataset(), [Dataset(), Dataset()]
    rescale = Dataset()
    rescale.RescaleSlope, rescale.RescaleIntercept = 2, -100
    shared.PixelValueTransformationSequence = [rescale]
    for group, width in zip(per_frame, (400, 200), strict=True):
        window = Dataset()
        window.WindowCenter, window.WindowWidth, window.VOILUTFunction = 100, width, "LINEAR_EXACT"
        group.FrameVOILUTSequence = [window]
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = [shared], per_frame
    np.testing.assert_allclose(read_image(dataset, frame=0)[0], [0, 0.5, 1], atol=1e-6)
    np.testing.assert_allclose(read_image(dataset, frame=1)[0], [0, 0.5, 1], atol=1e-6)
    assert "width 200" in read(dataset, frame=1).report.steps[2]


WINDOWS = {
    "WindowCenter": [1024, 512],
    "WindowWidth": [2048, 1024],
    "VOILUTFunction": "LINEAR_EXACT",
    "WindowCenterWidthExplanation": ["NORMAL", "HARDER"],
}


@pytest.mark.parametrize(
    ("window", "expected"),
    [(None, 0.25), (0, 0.25), (1, 0.5), ("normal", 0.25), ("HARDER", 0.5), (" harder ", 0.5), ("SOFT", 0.2)],
)
def test_window_by_name(window, expected):
    """A window or VOI LUT is found by its explanation, or a window by its position; otherwise the first is taken."""
    table = make_table([51] * 513, bits=8)
    table[0].LUTExplanation = "SOFT"
    elements = WINDOWS | ({"VOILUTSequence": table} if window == "SOFT" else {})
    # in one grey the table would be ignored
    table[0].LUTData = [0, *[51] * 512]
    image = read_image(make_dataset([0, 512, 4095], **elements), window=window)
    assert pytest.approx(expected) == image[0, 1]


@pytest.mark.parametrize("window", ["SOFTER", "", 2, -1])
def test_window_that_is_not_there(window):
    """A window that is not there is an error which says how many there are, and repeats no explanation."""
    with pytest.raises(ImageError, match="has 2 windows and VOI LUTs, 2 of them with a name") as caught:
        read_image(make_dataset([0, 512, 4095], **WINDOWS), window=window)
    assert "HARDER" not in str(caught.value)


def make_colour(red, green, blue, interpretation="RGB", planar=0):
    """Return a secondary capture of three samples."""
    pixels = np.stack((red, green, blue), axis=0 if planar else -1).astype(np.uint8)
    dataset = make_dataset(np.zeros(red.shape), stored=8)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, interpretation, planar
    dataset.PixelData = pixels.tobytes()
    return dataset


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEG2000Lossless])
def test_grey_in_rgb(syntax, planar):
    """A radiograph captured in RGB with equal channels is its grey plane, in any planar configuration."""
    dataset = make_colour(PICTURE, PICTURE, PICTURE, planar=0 if syntax.is_encapsulated else planar)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(dicom_file(dataset, syntax))
    np.testing.assert_allclose(image, PICTURE / 255, atol=1e-6)


def test_colour_gives_its_luma():
    """Colour is read as its luma (ITU-R 601), with a warning; YBR and RGB of one picture agree with each other."""
    rgb = np.stack((PICTURE, PICTURE[::-1], PICTURE[:, ::-1]), axis=-1)
    with pytest.warns(ImageWarning, match="colour"):
        image = read_image(make_colour(*np.moveaxis(rgb, 2, 0)))
    np.testing.assert_allclose(image, rgb @ [0.299, 0.587, 0.114] / 255, atol=0.6 / 255)
    ybr = convert_color_space(rgb, "RGB", "YBR_FULL")
    with pytest.warns(ImageWarning, match="chroma"):
        from_ybr = read_image(make_colour(*np.moveaxis(ybr, 2, 0), interpretation="YBR_FULL"))
    np.testing.assert_allclose(from_ybr, image, atol=1.1 / 255)


def test_subsampled_colour():
    """Native YBR_FULL_422, in which two pixels share their colour, gives its luma."""
    dataset = make_colour(PICTURE, PICTURE, PICTURE, "YBR_FULL_422")
    pairs = PICTURE.reshape(-1, 2)
    dataset.PixelData = np.concatenate((pairs, np.full_like(pairs, 128)), axis=1).tobytes()
    np.testing.assert_allclose(read_image(dataset), PICTURE / 255, atol=1e-6)
    assert pixel_array(dataset, raw=True)[..., 0].tolist() == PICTURE.tolist()


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(bits):
    """A palette is applied, as pydicom does; one of greys gives no warning."""
    greys = np.linspace(2**bits - 1, 0, 256).astype(int)
    dataset = make_dataset(PICTURE, stored=8, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        data = greys.astype(f"<u{bits // 8}").tobytes()
        setattr(dataset, f"{colour}PaletteColorLookupTableData", data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = read_image(dataset)
    expected = apply_color_lut(PICTURE, dataset)[..., 0] / (2**bits - 1)
    np.testing.assert_allclose(image, expected, atol=1e-6)
    assert image[PICTURE == 255].max() < image[PICTURE == 0].min()


def view_code(meaning):
    """Return the items of a View Code Sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "R-10000", "SRT", meaning
    return [item]


VIEWS = {
    "PA": ({"ViewPosition": "PA"}, None),
    "AP": ({"ViewPosition": "AP", "BodyPartExamined": "CHEST"}, None),
    "an empty view": ({"ViewPosition": "", "BodyPartExamined": ""}, None),
    "postero-anterior by code": ({"ViewCodeSequence": view_code("postero-anterior")}, None),
    "left lateral": ({"ViewPosition": "LL"}, "view"),
    "right lateral": ({"ViewPosition": "RL"}, "view"),
    "decubitus": ({"ViewPosition": "LLD"}, "view"),
    "lateral by code": ({"ViewCodeSequence": view_code("left lateral")}, "view"),
    "a hand": ({"BodyPartExamined": "HAND"}, "body-part"),
    "a thorax": ({"BodyPartExamined": "THORAX"}, None),
    "for presentation": ({"PresentationIntentType": "FOR PRESENTATION"}, None),
    "for processing": ({"PresentationIntentType": "FOR PROCESSING"}, "for-processing"),
    "for processing by class": ({"SOPClassUID": DigitalXRayImageStorageForProcessing}, "for-processing"),
    "a CT": ({"Modality": "CT"}, "modality"),
    "square pixels": ({"PixelAspectRatio": [1, 1]}, None),
    "oblong pixels": ({"PixelAspectRatio": [2, 1]}, "aspect"),
    "polarity that contradicts itself": ({"PresentationLUTShape": "INVERSE"}, "polarity"),
}


@pytest.mark.parametrize(("elements", "code"), VIEWS.values(), ids=VIEWS)
def test_views(elements, code):
    """Whatever is no frontal chest radiograph for presentation is read with a warning, from its tags."""
    report = read(make_dataset([0, 1024, 4095], **elements)).report
    assert ([code] if code else []) == [notice.code for notice in report.notices]
    assert all("(0" in notice.text for notice in report.notices)


def test_report_says_what_ran():
    """The report names the steps in the order they ran, the file's kind and size, and nothing else."""
    dataset = make_dataset(
        [[0, 1024, 4095]],
        PhotometricInterpretation="MONOCHROME1",
        RescaleSlope=2,
        RescaleIntercept=-1,
        PixelPaddingValue=4095,
        WindowCenter=1000,
        WindowWidth=2000,
        **phantoms.IDENTIFYING,
    )
    image, report = read_image(dicom_file(dataset), return_report=True)
    assert [
        "padding values 4095 to 4095 shown as air",
        "rescaled: stored value * 2 -1",
        "window LINEAR, center 1000, width 2000",
        "inverted: MONOCHROME1",
    ] == report.steps
    assert ("DICOM, Explicit VR Little Endian, MONOCHROME1, 12 bits", (1, 3)) == (report.kind, report.size)
    assert phantoms.CANARY not in str(report)
    assert (1, 3) == image.shape


CODES = {
    "no pixels": (make_dataset([0, 1], PixelData=None), "truncated", "header"),
    "empty pixels": (make_dataset([0, 1], PixelData=b""), "truncated", "header"),
    "no image": (make_dataset([0, 1], PixelData=None, Rows=None), "not-an-image", "header"),
    "float pixels": (make_dataset([0, 1], PixelData=None, FloatPixelData=bytes(8)), "unsupported", "header"),
    "no rows": (make_dataset([0, 1], Rows=None), "header", "header"),
    "too many pixels": (make_dataset([0, 1], Rows=16000, Columns=16000), "too-large", "header"),
    "cut off": (make_dataset(PICTURE, stored=8, Rows=50), "truncated", "header"),
    "too long": (make_dataset(PICTURE, stored=8, Rows=10), "contradiction", "header"),
    "an unknown syntax": (make_dataset([0, 1]), "missing-decoder", "header"),
    "1.2.3": (make_dataset([0, 1]), "unsupported", "header"),
}
CODES["an unknown syntax"][0].file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
CODES["1.2.3"][0].file_meta.TransferSyntaxUID = "1.2.3"


@pytest.mark.parametrize(("dataset", "code", "stage"), CODES.values(), ids=CODES)
def test_codes(dataset, code, stage):
    """Each reason to refuse an image has a code and a stage."""
    with pytest.raises(ImageError) as caught:
        read_image(dataset)
    expected = {code, "unsupported"} if code == "missing-decoder" else {code}
    assert caught.value.code in expected
    assert stage == caught.value.stage


def items(*values, delimiter=True):
    """Return encapsulated items with the given values, the first of them the offset table."""
    joined = b"".join(b"\xfe\xff\x00\xe0" + struct.pack("<L", len(value)) + value for value in values)
    return joined + b"\xfe\xff\xdd\xe0\0\0\0\0" * delimiter


def compressed():
    """Return a JPEG 2000 dataset, and its codestream."""
    dataset = make_dataset(PICTURE, stored=8)
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    return dataset, pydicom.encaps.get_frame(dataset.PixelData, 0, number_of_frames=1)


def test_fragments_that_are_read():
    """One frame is its fragments joined, with an offset table or without, with or without a delimiter."""
    dataset, stream = compressed()
    stream += bytes(len(stream) % 2)
    half = len(stream) // 4 * 2
    for data in (
        items(b"", stream),
        items(struct.pack("<L", 0), stream, delimiter=False),
        items(b"", stream[:half], stream[half:]),
        items(b"", stream) + bytes(6),
    ):
        dataset.PixelData = data
        np.testing.assert_allclose(read_image(dataset), PICTURE / 255, atol=1e-6)


FRAGMENTS = {
    "nothing": (lambda stream: b"", "contradiction"),
    "no fragment": (lambda stream: items(b""), "truncated"),
    "no items": (lambda stream: stream, "contradiction"),
    "a length beyond the end": (lambda stream: items(b"", stream)[: len(stream)], "truncated"),
    "a huge length": (lambda stream: items(b"")[:8] + b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + stream, "truncated"),
    "something between the items": (
        lambda stream: items(b"", delimiter=False) + b"\1\2\3\4" + items(stream),
        "contradiction",
    ),
    "half of the stream": (lambda stream: items(b"", stream[: len(stream) // 4 * 2]), "truncated"),
    "100,001 fragments": (lambda stream: items(b"", *[b""] * 100_001), "contradiction"),
}


@pytest.mark.parametrize(("change", "code"), FRAGMENTS.values(), ids=FRAGMENTS)
def test_fragments_that_do_not_add_up(change, code):
    """Fragments that don't add up are refused before a codec sees them."""
    dataset, stream = compressed()
    dataset.PixelData = change(stream)
    with pytest.raises(ImageError) as caught:
        read_image(dataset)
    assert code == caught.value.code
    assert caught.value.stage in ("header", "codestream")
