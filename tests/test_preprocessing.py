"""A radiograph -> the tensor a model expects: the same as timm's for 8-bit pictures, and by hand."""

import copy
import pickle
import warnings
from pathlib import Path

import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pydicom.data import get_testdata_file
from timm.data import create_transform, resolve_data_config
from torch.utils.data import DataLoader

from cxrzoo.errors import ImageError, RecordError
from cxrzoo.imaging import read_image
from cxrzoo.manifest import Preprocessing
from cxrzoo.preprocessing import Transform

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


def test_sliver_is_refused():
    """A picture so long that resizing its shorter side would fill the memory is refused, and a long one is not."""
    with pytest.raises(ImageError, match="1 x 9000"):
        Transform(record())(np.zeros((1, 9000), np.uint8))
    assert (3, 32, 32) == tuple(Transform(record(32))(np.zeros((10, 160), np.uint8)).shape)


def test_non_square_center_is_refused():
    """A centre crop to a shape that is no square is refused when the transform is made."""
    with pytest.raises(RecordError, match="192 x 256"):
        Transform(record((192, 256)))


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
