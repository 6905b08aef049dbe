"""A radiograph -> the tensor a model expects: the same as timm's for 8-bit pictures, and by hand."""

import copy
import dataclasses
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import imagecodecs
import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000
from timm.data import create_transform, resolve_data_config
from timm.data.transforms import CenterCropOrPad, ResizeKeepRatio
from torch.utils.data import DataLoader

from cxrzoo import convert, load
from cxrzoo.errors import ImageError, RecordError
from cxrzoo.framing import frame
from cxrzoo.geometry import fit, largest_factor, resized_shape, undo_spread
from cxrzoo.imaging import Report, read, read_image
from cxrzoo.manifest import Contrast, Preprocessing
from cxrzoo.preprocessing import Transform, to_tensor

DATA = Path(__file__).parents[1] / ".." / "shared" / "data"

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MOCO_CXR = (0.5020,) * 3, (0.085585,) * 3


def record(size=320, interpolation="bilinear", crop_pct=1.0, crop_mode="center", constants=MOCO_CXR):
    """Return a record of three channels; `size` is a side, or (height, width)."""
    height, width = size if isinstance(size, tuple) else (size, size)
    return Preprocessing((3, height, width), *constants, interpolation, crop_pct, crop_mode)


def timm_transform(record):
    """Return timm's own evaluation transform for the same settings."""
    fields = ("input_size", "mean", "std", "interpolation", "crop_pct", "crop_mode")
    return create_transform(**resolve_data_config({}, {name: getattr(record, name) for name in fields}))


RECORDS = [
    record(size, interpolation, crop_pct, crop_mode, constants)
    for size, crop_pct, constants in [
        (320, 1.0, MOCO_CXR),
        (320, 1.0, IMAGENET),
        (224, 0.875, IMAGENET),
        (224, 0.95, MOCO_CXR),
        (480, 480 / 512, IMAGENET),
        (321, 0.9, IMAGENET),
    ]
    for interpolation in ("bilinear", "bicubic")
    for crop_mode in ("center", "squash")
] + [record((192, 256), crop_mode="squash", crop_pct=0.9)]


@pytest.mark.parametrize(
    "shape", [(320, 320), (401, 503), (777, 320), (224, 225), (97, 61), (50, 200), (5, 7)], ids=str
)
@pytest.mark.parametrize(
    "record", RECORDS, ids=lambda r: f"{r.input_size[1]}-{r.interpolation}-{r.crop_pct:.3}-{r.crop_mode}-{r.std[0]}"
)
def test_equals_timm(record, shape):
    """For 8-bit grey pictures of any size the tensor is timm's."""
    picture = Image.fromarray(phantoms.radiograph(*shape))
    expected = timm_transform(record)(picture.convert("RGB"))
    for source in (picture, picture.convert("RGB"), np.asarray(picture)):
        torch.testing.assert_close(Transform(record)(source), expected, rtol=0, atol=1e-6)


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="the shared radiographs are absent")
@pytest.mark.parametrize("collection", ["kermany/test", "nih", "hannover"])
def test_real_radiographs_equal_timm(collection):
    """For real radiographs in JPEG the tensor is timm's."""
    for path in sorted((DATA / collection).iterdir())[:5]:
        for crop_pct, interpolation in ((1.0, "bilinear"), (0.875, "bicubic")):
            settings = record(320, interpolation, crop_pct)
            expected = timm_transform(settings)(Image.open(path).convert("RGB"))
            torch.testing.assert_close(Transform(settings)(path), expected, rtol=0, atol=1e-6)


def test_by_hand():
    """Without resizing, the tensor is (pixel / 255 - mean) / std, channel by channel."""
    pixels = np.array([[0, 51], [102, 255]], np.uint8)
    tensor = Transform(record(2, constants=((0.2, 0.4, 0.5), (0.1, 0.2, 0.5))))(pixels)
    expected = [[[-2, 0], [2, 8]], [[-2, -1], [0, 3]], [[-1, -0.6], [-0.2, 1]]]
    torch.testing.assert_close(tensor, torch.tensor(expected, dtype=torch.float32))


def test_range_of_moco_cxr():
    """With the constants of MoCo-CXR, black and white are -5.866 and 5.819."""
    tensor = Transform(record())(np.array([[0, 255]] * 2, np.uint8))
    assert (-5.866, 5.819) == (round(tensor.min().item(), 3), round(tensor.max().item(), 3))


def test_one_channel():
    """A record of one channel gives one channel, equal to each of three with the same constants."""
    picture = phantoms.radiograph(90, 120)
    three, one = (Transform(record(64).for_channels(channels))(picture) for channels in (3, 1))
    assert (1, 64, 64) == one.shape
    assert torch.equal(three, one.expand(3, -1, -1))


def test_display():
    """The displayed picture is what the model sees, before normalisation."""
    settings = record(64, "bicubic", 0.9)
    picture = phantoms.radiograph(90, 120)
    for source, tolerance in ((picture, 1e-6), (phantoms.radiograph(90, 120, bits=16), 0.5 / 255 + 1e-6)):
        shown = Transform(settings).display(source)
        assert (np.uint8, (64, 64)) == (shown.dtype, shown.shape)
        seen = Transform(settings)(source)[0] * settings.std[0] + settings.mean[0]
        np.testing.assert_allclose(shown / 255, seen, atol=tolerance)


def test_dicom():
    """A real radiograph in DICOM gives the tensor of its displayed image, from a path, bytes or dataset."""
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    transform = Transform(record())
    expected = transform(read_image(path))
    assert (torch.float32, (3, 320, 320)) == (expected.dtype, tuple(expected.shape))
    assert torch.equal(expected, transform(Path(path)))
    assert torch.equal(expected, transform(Path(path).read_bytes()))


@pytest.mark.parametrize(("interpolation", "steps"), [("bilinear", 1.01), ("bicubic", 1.5)])
@pytest.mark.parametrize("shape", [(401, 503), (97, 61)], ids=str)
def test_16_bit_copy(shape, interpolation, steps):
    """A 16-bit copy of an 8-bit picture differs only by how PIL rounds 8-bit pixels, once for each axis."""
    picture = phantoms.radiograph(*shape)
    transform = Transform(record(224, interpolation))
    difference = (transform(picture) - transform(picture.astype(np.uint16) * 257)).abs()
    assert difference.max() <= steps / 255 / 0.085585
    assert difference.mean() <= 0.51 / 255 / 0.085585


def test_16_bit_copy_without_resizing():
    """Where nothing is resized, a 16-bit copy of an 8-bit picture gives the same tensor."""
    picture = phantoms.radiograph(224, 224)
    transform = Transform(record(224))
    torch.testing.assert_close(transform(picture.astype(np.uint16) * 257), transform(picture), rtol=0, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_overshoot_is_cut_off(interpolation):
    """Float pixels stay in [0, 1] where bicubic resizing overshoots beside an edge."""
    edge = np.repeat([0.0, 1.0], 40)[None].repeat(80, axis=0)
    settings = record(224, interpolation, constants=((0.0,) * 3, (1.0,) * 3))
    tensor = Transform(settings)(edge)
    assert (0, 1) == (tensor.min().item(), tensor.max().item())


@pytest.mark.parametrize("decoding", ["exact", "fast"])
def test_sliver_is_refused(decoding):
    """A picture so long that resizing its shorter side would fill the memory is refused, and a long one is not."""
    with pytest.raises(ImageError, match="1 x 9000") as caught:
        Transform(dataclasses.replace(record(), decoding=decoding))(phantoms.saved(np.zeros((1, 9000), np.uint8)))
    assert ("too-small", "geometry") == (caught.value.code, caught.value.stage)
    assert (3, 32, 32) == tuple(Transform(record(32))(np.zeros((10, 160), np.uint8)).shape)


@pytest.mark.parametrize("crop_mode", ["center", "pad"])
def test_non_square_is_refused(crop_mode):
    """A shape that is no square is refused where one side of a picture is resized, when the record is made."""
    with pytest.raises(RecordError, match=f"192 x 256 with crop_mode '{crop_mode}'"):
        record((192, 256), crop_mode=crop_mode)


# On a black square


def pad_by_hand(picture, side, resampling):
    """Return a picture with its longer side resized to `side`, pasted into the middle of a black square."""
    scale = side / max(picture.size)
    width, height = (min(int(length * scale + 1e-9), side) for length in picture.size)
    square = Image.new("L", (side, side))
    square.paste(picture.resize((width, height), resampling), ((side - width) // 2, (side - height) // 2))
    return square


@pytest.mark.parametrize("shape", [(320, 320), (401, 503), (777, 320), (224, 225), (50, 200), (2544, 3056)], ids=str)
@pytest.mark.parametrize(("side", "crop_pct"), [(224, 1.0), (224, 0.875), (320, 1.0)])
def test_pad(shape, side, crop_pct):
    """With "pad" the whole picture stands on a black square, from whose middle the crop is taken."""
    picture = Image.fromarray(phantoms.radiograph(*shape))
    square = pad_by_hand(picture, round(side / crop_pct), Image.Resampling.BICUBIC)
    edge = (square.width - side) // 2
    expected = np.asarray(square.crop((edge, edge, edge + side, edge + side)))

    shown = Transform(record(side, "bicubic", crop_pct, "pad")).display(picture)

    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("shape", [(400, 500), (777, 320), (97, 65)], ids=str)
def test_pad_is_timms_border_on_black(shape):
    """Where timm's "border" is given a black fill and rounds to the same width, the picture is the same."""
    picture = Image.fromarray(phantoms.radiograph(*shape))
    resized = ResizeKeepRatio(224, longest=1.0, interpolation="bilinear")(picture)
    expected = CenterCropOrPad(224, fill=0)(resized)

    assert resized.size[::-1] == resized_shape(*shape, record(224, crop_mode="pad"))
    np.testing.assert_array_equal(Transform(record(224, crop_mode="pad")).display(picture), np.asarray(expected))


def test_a_narrow_picture_on_black_keeps_a_column():
    """A picture that would be narrower than a pixel is one pixel wide."""
    assert (8, 1) == resized_shape(160, 10, record(8, crop_mode="pad"))


# Made smaller while it is decoded


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    size=st.sampled_from([32, 224, 320, 518]),
    crop_pct=st.sampled_from([1.0, 0.875, 0.5]),
    crop_mode=st.sampled_from(["center", "squash", "pad"]),
)
def test_never_smaller_than_the_target(height, width, size, crop_pct, crop_mode):
    """The factor is the largest after which no side has to be enlarged, and 1 for a picture that is small already."""
    settings = record(size, "bilinear", crop_pct, crop_mode)
    if max(height, width) > 16 * min(height, width):
        return
    target = resized_shape(height, width, settings)

    factor = largest_factor(height, width, settings)

    assert factor >= 1
    assert factor == 1 or (height / factor >= 2.4 * target[0] and width / factor >= 2.4 * target[1])
    assert height / (factor + 1) < 2.4 * target[0] or width / (factor + 1) < 2.4 * target[1]


@pytest.mark.parametrize("shape", [(160, 160), (163, 161), (320, 254)], ids=str)
@pytest.mark.parametrize("crop_mode", ["center", "pad"])
@pytest.mark.parametrize("sampled", [False, True], ids=["means", "samples"])
def test_a_smaller_picture_stays_in_its_place(shape, crop_mode, sampled):
    """A slope keeps its values where it was reduced to means of squares, or to the upper left pixel of each."""
    slope = (np.add(*np.mgrid[: shape[0], : shape[1]]) / sum(shape)).astype(np.float32)
    rows, columns = (-(-side // 4) for side in shape)
    beyond = np.pad(slope, ((0, 4 * rows - shape[0]), (0, 4 * columns - shape[1])), mode="edge")
    smaller = slope[::4, ::4] if sampled else beyond.reshape(rows, 4, columns, 4).mean(axis=(1, 3))
    settings = record(32, crop_mode=crop_mode)
    inside = fit(slope, settings)[4:-4, 4:-4] > 0.02  # neither border nor edge
    expected, found, moved = (
        fitted[4:-4, 4:-4][inside].mean()
        for fitted in (
            fit(slope, settings),
            fit(smaller, settings, shape, Report(factor=4, sampled=sampled)),
            fit(smaller, settings, shape, Report(factor=4, sampled=not sampled)),
        )
    )

    assert abs(found - expected) < 5e-4 < 3e-3 < abs(moved - expected)


def second_moment(pixels):
    """Return the variance of a blob along its rows, in pixels."""
    profile = np.asarray(pixels, np.float64).sum(axis=0)
    profile -= profile[:4].mean()
    places = np.arange(profile.size)
    center = (profile * places).sum() / profile.sum()
    return (profile * (places - center) ** 2).sum() / profile.sum()


@pytest.mark.parametrize("how", ["squares", "5/3 wavelet", "9/7 wavelet", "cosines"])
def test_a_smaller_picture_is_as_sharp(how):
    """What reading it smaller took from a picture's sharpness, or added to it, is undone by what the report says."""
    rows, columns = np.mgrid[:256, :256] - 127.5
    blob = np.rint(60000 * np.exp(-(rows**2 + columns**2) / (2 * 10**2))).astype(np.uint16)
    if how == "cosines":
        buffer = io.BytesIO()
        Image.fromarray((blob >> 8).astype(np.uint8)).save(buffer, "JPEG", quality=100)
        source = buffer.getvalue()
    else:
        source = phantoms.make_dataset(blob, stored=16)
        if how != "squares":
            stream = imagecodecs.jpeg2k_encode(blob, codecformat="j2k", reversible=how == "5/3 wavelet", level=0)
            source.PixelData, source["PixelData"].is_undefined_length = encapsulate([stream]), True
            source.file_meta.TransferSyntaxUID = JPEG2000
    reading = read(source, shrink=lambda height, width: 4)
    before, after = (
        second_moment(pixels) for pixels in (reading.pixels, undo_spread(reading.pixels, reading.report.spread))
    )

    assert 4 == reading.report.factor
    expected = second_moment(read(source).pixels) / 16
    tolerance = 0.05 if how == "cosines" else 0.01  # 8 bits cut the blob's tails off
    assert pytest.approx(reading.report.spread, abs=tolerance) == before - expected
    assert pytest.approx(expected, abs=tolerance) == after


def test_fast_is_part_of_the_record():
    """A fast record is another record than an exact one, and a third mode is refused."""
    exact, fast = (dataclasses.replace(record(), decoding=decoding) for decoding in ("exact", "fast"))

    assert exact.digest != fast.digest


@pytest.mark.parametrize(
    ("field", "word"),
    [("decoding", "quick"), ("crop_mode", "centre"), ("intensity", "full-range"), ("interpolation", "nearest")],
)
def test_misspelt_words_are_refused(field, word):
    """A word that a field doesn't know is refused, also where the record is made in Python."""
    with pytest.raises(RecordError, match=f"{field}: found '{word}', expected one of"):
        dataclasses.replace(record(), **{field: word})
    with pytest.raises(RecordError, match="stage: found 'after_crop'"):
        Contrast("min-max", "after_crop")


def test_fast_jpeg():
    """A JPEG of many pixels is decoded at a fraction of its size, says so, and comes out nearly the same."""
    buffer = io.BytesIO()
    Image.fromarray(phantoms.radiograph(1800, 1600)).save(buffer, "JPEG", quality=95)
    exact = record(320, constants=((0.0,) * 3, (1.0,) * 3))
    fast = dataclasses.replace(exact, decoding="fast")

    readings = [frame(buffer.getvalue(), settings) for settings in (exact, fast)]

    assert len(readings[0].report.steps) < len(readings[1].report.steps)
    difference = (to_tensor(readings[0].pixels, exact) - to_tensor(readings[1].pixels, fast)).abs()
    assert 0 < difference.max() and difference.mean() < 2 / 255


def test_fast_leaves_small_pictures_alone():
    """A picture that is less than some five times as large as the target is read as it is."""
    buffer = io.BytesIO()
    Image.fromarray(phantoms.radiograph(1500, 1530)).save(buffer, "JPEG", quality=95)
    exact = record(320)

    assert torch.equal(
        Transform(exact)(buffer.getvalue()), Transform(dataclasses.replace(exact, decoding="fast"))(buffer.getvalue())
    )


# Without torch


def test_framing_needs_no_torch():
    """A process that only reads and frames images never loads torch or timm."""
    code = (
        "import sys, numpy, cxrzoo.framing; from cxrzoo.manifest import Preprocessing; "
        "record = Preprocessing((1, 32, 32), (.5,), (.2,), 'bilinear', 1.0, 'pad'); "
        "reading = cxrzoo.framing.frame(numpy.zeros((50, 40), 'uint8'), record); "
        "print(reading.pixels.shape, sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))"
    )

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "(32, 32) []" == found.strip()


@pytest.mark.parametrize(
    "contrast",
    [None, Contrast("percentiles", "before resize", percentiles=(1, 99)), Contrast("equalise", "after crop", bins=64)],
    ids=str,
)
def test_framed_elsewhere(contrast):
    """What another process frames, from a record that came as plain values, becomes the same tensor here."""
    exact = dataclasses.replace(record(64), contrast=contrast)
    picture = phantoms.radiograph(90, 120)

    reading = frame(phantoms.saved(picture), exact.as_dict())

    assert torch.equal(Transform(exact)(picture), to_tensor(reading.pixels, exact))


def test_the_report_names_every_step():
    """The steps of framing stand in the report, in their order."""
    before = dataclasses.replace(record(64), contrast=Contrast("min-max", "before resize"))
    after = dataclasses.replace(record(64, "bicubic", 0.875), contrast=Contrast("equalise", "after crop", bins=256))
    steps = [frame(phantoms.radiograph(90, 120), settings).report.steps[-2:] for settings in (before, after)]

    assert ["min-max before resize", "resized to 64 x 85, bilinear, and cropped to 64 x 64"] == steps[0]
    assert ["resized to 73 x 97, bicubic, and cropped to 64 x 64", "equalise in 256 bins after crop"] == steps[1]


def test_full_range():
    """A record of the full range takes all grey levels of a DICOM image, whatever window the file names."""
    stored = phantoms.radiograph(64, 64, bits=12)
    file = phantoms.dicom_file(phantoms.make_dataset(stored, WindowCenter=1000, WindowWidth=100))
    window = record(64, constants=((0.0,) * 3, (1.0,) * 3))
    full = dataclasses.replace(window, intensity="full_range")

    tensors = [Transform(settings)(file)[0].numpy() for settings in (window, full)]

    np.testing.assert_allclose(tensors[1], stored / 4095, rtol=0, atol=1e-6)
    assert np.abs(tensors[0] - tensors[1]).max() > 0.2


def test_travels():
    """A transform can be pickled, copied, hashed and compared, and works in the workers of a DataLoader."""
    transform = Transform(record(32))
    assert transform == pickle.loads(pickle.dumps(transform)) == copy.deepcopy(transform)
    assert 1 == len({transform, copy.deepcopy(transform)})
    pictures = [phantoms.radiograph(40, 50, seed=seed) for seed in range(4)]
    files = [phantoms.saved(picture) for picture in pictures]
    batches = list(DataLoader(files, batch_size=2, num_workers=1, collate_fn=Stack(transform)))
    assert torch.equal(torch.stack([transform(picture) for picture in pictures]), torch.cat(batches))


class Stack:
    """Turns the files of a batch into one tensor, inside the worker."""

    def __init__(self, transform):
        self.transform = transform

    def __call__(self, files):
        """Return (images, channels, height, width)."""
        return torch.stack([self.transform(file) for file in files])


@settings(max_examples=120, deadline=None)
@given(
    pixels=hnp.arrays(st.sampled_from([np.uint8, np.uint16]), hnp.array_shapes(min_dims=2, max_dims=2, max_side=64))
    | hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=64),
        elements=st.floats(0, 1, width=32),
    ),
    size=st.sampled_from([32, 33, 48]),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    crop_pct=st.floats(0.5, 1.0),
    crop_mode=st.sampled_from(["center", "squash"]),
    channels=st.sampled_from([1, 3]),
)
def test_always_a_tensor(pixels, size, interpolation, crop_pct, crop_mode, channels):
    """Any grey picture of usual proportions gives a finite float32 tensor of the right shape, within its bounds."""
    if max(pixels.shape) > 16 * min(pixels.shape):
        return
    settings = record(size, interpolation, crop_pct, crop_mode, IMAGENET).for_channels(channels)
    tensor = Transform(settings)(pixels)
    assert (torch.float32, (channels, size, size)) == (tensor.dtype, tuple(tensor.shape))
    assert torch.isfinite(tensor).all()
    for channel, mean, std in zip(tensor, settings.mean, settings.std, strict=True):
        assert (0 - mean) / std - 1e-5 <= channel.min() <= channel.max() <= (1 - mean) / std + 1e-5


def test_errors_pass_through():
    """What can't be read is an ImageError of the transform too, and warnings reach the caller."""
    with pytest.raises(ImageError, match="a PDF"):
        Transform(record())(b"%PDF-1.7")
    dataset = phantoms.make_dataset(phantoms.radiograph(40, 40, bits=12), WindowCenter=5, WindowWidth=0)
    with pytest.warns(UserWarning, match="Window Width"):
        Transform(record(32))(phantoms.dicom_file(dataset))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Transform(record(32))(phantoms.saved(phantoms.radiograph(40, 40)))


# In a folder, its card and its backbone

EQUALISED = Contrast("equalise", "after crop", bins=256)


@pytest.fixture(scope="module")
def equalised_folder(tmp_path_factory, resnet18_checkpoint):
    """A ResNet-18 for equalised images on black squares, converted with a record that was stated."""
    stated = dataclasses.replace(record(64, crop_mode="pad"), contrast=EQUALISED)
    return convert(resnet18_checkpoint, tmp_path_factory.mktemp("made") / "equalised", preprocessing=stated).folder


def test_a_folder_keeps_the_contrast(equalised_folder):
    """A converted folder loads with the contrast that it was converted with."""
    loaded = load(equalised_folder)

    assert dataclasses.replace(record(64, crop_mode="pad"), contrast=EQUALISED) == loaded.transform.record
    assert "border" == loaded.pretrained_cfg["crop_mode"]


def test_a_card_says_what_timm_leaves_out(equalised_folder, resnet18_folder):
    """The card warns of what `pretrained_cfg` can't say, and only where there is something."""
    cards = [(folder / "README.md").read_text(encoding="utf-8") for folder in (equalised_folder, resnet18_folder)]
    warning = "has no words for the contrast of each image (equalise in 256 bins after crop) and the black border"

    assert [True, False] == [warning in card for card in cards]
    assert [True, False] == ["has no words for" in card for card in cards]


def test_load_fast(resnet18_folder):
    """`load` gives the fast transform when it is asked to, and says so in what identifies an embedding."""
    exact, fast = load(resnet18_folder), load(resnet18_folder, decoding="fast")

    assert dataclasses.replace(exact.transform.record, decoding="fast") == fast.transform.record
    assert ("exact", "fast") == (exact.provenance.decoding, fast.provenance.decoding)
    assert exact.provenance.preprocessing_sha256 != fast.provenance.preprocessing_sha256
    assert exact.pretrained_cfg == fast.pretrained_cfg


def test_digests_outlive_new_fields():
    """A record with none of the fields that came later has the digest that it had before they came."""
    known = Preprocessing((3, 320, 320), (0.502,) * 3, (0.085585,) * 3, "bilinear", 1.0, "center", source="a")

    assert "0c256befab74aa04951b1f89c7cdbbd3fe521d8278355a80769e1d99650632c6" == known.digest
