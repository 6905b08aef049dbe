"""The contrast of one image: what the models' own code computes, written down another way."""

import bisect
import itertools

import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torchvision import transforms

from cxrzoo.errors import RecordError
from cxrzoo.intensities import adjust
from cxrzoo.manifest import Contrast, Preprocessing
from cxrzoo.preprocessing import Transform
from cxrzoo.registry import describe, list_models

MIN_MAX = Contrast("min-max", "after crop")
CLIPPED = Contrast("percentiles", "before resize", percentiles=(1, 99))
EQUALISED = Contrast("equalise", "after crop", bins=256)
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

SHAPES = [(224, 224), (401, 503), (777, 320), (97, 61)]


def default_record(name):
    """Return the preprocessing that a model has unless another is asked for."""
    manifest = describe(name)
    return manifest.preprocessing[manifest.default_variant]


def plain_record(side, contrast, mean=0.0, std=1.0):
    """Return a record of one channel."""
    return Preprocessing((1, side, side), (mean,), (std,), "bilinear", 1.0, "center", contrast=contrast)


# What the models' own code computes


def equalise_by_hand(image, bins):
    """Return CovidPrognosis' equalised image in 0..255: one pixel after the other, one bin after the other."""
    low, high = image.min(), image.max()
    edges = np.linspace(low, high, bins + 1, dtype=np.float32).tolist()
    counts = [0] * bins
    for value in image.ravel().tolist():
        counts[min(bisect.bisect_right(edges, value) - 1, bins - 1)] += 1
    widths = [float(np.float32(right) - np.float32(left)) for left, right in itertools.pairwise(edges)]
    sums, total = [], 0.0
    for count, width in zip(counts, widths, strict=True):
        total += count / width
        sums.append(total)
    heights = [255 * value / total for value in sums]
    result = []
    for value in image.ravel().tolist():
        left = min(bisect.bisect_right(edges, value) - 1, bins - 1)
        if left == bins - 1:
            result.append(heights[left])
            continue
        share = (value - edges[left]) / (edges[left + 1] - edges[left])
        result.append(heights[left] + share * (heights[left + 1] - heights[left]))
    return np.array(result, np.float32).reshape(image.shape)


@pytest.mark.parametrize("name", list_models("covidprognosis-*"))
def test_covidprognosis_reads_equalised_images(name):
    """All its models have one record: three channels of 224 px, equalised to 0..255."""
    assert default_record("covidprognosis-mimic-lr0.01-fd64").digest == default_record(name).digest


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_covidprognosis(shape):
    """The tensor is that of its evaluation: opened as float, resized, cropped, equalised to 0..255, copied."""
    picture = phantoms.radiograph(*shape)
    steps = transforms.Compose([transforms.Resize(224), transforms.CenterCrop(224), transforms.ToTensor()])
    plane = steps(Image.fromarray(picture).convert("F"))[0].numpy()
    expected = torch.from_numpy(equalise_by_hand(plane, 256)).expand(3, -1, -1)

    tensor = Transform(default_record("covidprognosis-mimic-lr0.01-fd64"))(picture)

    assert 255 == expected.max()
    torch.testing.assert_close(tensor, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(512, 512), (600, 777)], ids=str)
def test_chexfound(shape):
    """The tensor is that of its evaluation: resized, cropped, stretched from its minimum and maximum, normalised."""
    picture = phantoms.radiograph(*shape) // 2 + 60
    steps = transforms.Compose(
        [
            transforms.Resize(512, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(512),
            transforms.ToTensor(),
            lambda tensor: (tensor - torch.min(tensor)) / (torch.max(tensor) - torch.min(tensor)),
            transforms.Normalize(*IMAGENET),
        ]
    )
    expected = steps(Image.fromarray(picture).convert("RGB"))

    tensor = Transform(default_record("chexfound-vitl16-512"))(picture)

    torch.testing.assert_close(tensor, expected, rtol=0, atol=2e-6)  # 4e-7 of [0, 1], over .229


@pytest.mark.parametrize("bits", [8, 16])
def test_torchxrayvision(bits):
    """The tensor has torchxrayvision's scale of -1024..1024, as its own function computes it."""
    normalize = pytest.importorskip("torchxrayvision").utils.normalize
    picture = phantoms.radiograph(224, 224, bits=bits)

    tensor = Transform(default_record("xrv-densenet121-all"))(picture)

    torch.testing.assert_close(
        tensor, torch.from_numpy(normalize(picture, 2**bits - 1, reshape=True)), rtol=0, atol=1024e-6
    )


def test_biovil():
    """BioViL's pixels stay in [0, 1], stretched before the resize and with no mean and deviation."""
    picture = phantoms.radiograph(480, 480) // 2 + 60
    record = default_record("biovil-resnet50")
    whole = Preprocessing(**{**vars(record), "crop_pct": 1.0})  # nothing is resized
    values = picture.astype(np.float64)
    expected = (values - values.min()) / (values.max() - values.min())

    tensor = Transform(whole)(picture)

    assert ((0.0,) * 3, (1.0,) * 3) == (record.mean, record.std)
    np.testing.assert_allclose(tensor.numpy(), np.broadcast_to(expected, (3, 480, 480)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("percentiles", [(0, 99), (1, 99), (0.5, 99.5), (10, 50), (0, 100)])
@pytest.mark.parametrize("bits", [8, 12])
def test_percentiles(percentiles, bits):
    """Both limits are found by sorting all pixels, between two of them in proportion; the rest is stretched."""
    picture = phantoms.radiograph(97, 61, bits=bits) / np.float32(2**bits - 1)
    ranked = sorted(picture.ravel().tolist())
    low, high = (
        ranked[int(place)] + (place % 1) * (ranked[min(int(place) + 1, len(ranked) - 1)] - ranked[int(place)])
        for place in (share / 100 * (len(ranked) - 1) for share in percentiles)
    )
    expected = (np.clip(picture.astype(np.float64), low, high) - low) / (high - low)

    found = adjust(picture.astype(np.float32), Contrast("percentiles", "before resize", percentiles))

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


# The stages


def test_before_the_resize():
    """A bright edge that the crop cuts off counts before the resize, and not after it."""
    picture = np.full((64, 128), 100, np.uint8)
    picture[:, 40:60] = 50
    picture[:, :5] = 250
    before, after = (
        Transform(plain_record(64, Contrast("min-max", stage)))(picture) for stage in ("before resize", "after crop")
    )

    assert pytest.approx((100 - 50) / (250 - 50)) == before.max().item()
    assert 1 == after.max().item()


def test_border_counts_after_the_crop():
    """The black border of "pad" is part of what is cropped, so that it is the minimum of "after crop"."""
    picture = np.tile(np.array([100, 200], np.uint8), (64, 16))
    record = Preprocessing((1, 64, 64), (0.0,), (1.0,), "bilinear", 1.0, "pad", contrast=MIN_MAX)

    tensor = Transform(record)(picture)[0]

    assert 0 == tensor[:, 0].max().item()
    assert 0.4 < tensor[:, 20:40].min().item()


# Any image


IMAGES = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)) | hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.floats(0, 1, width=32)
)
CONTRASTS = st.sampled_from([MIN_MAX, CLIPPED, EQUALISED, Contrast("equalise", "after crop", bins=7)])


@settings(max_examples=200, deadline=None)
@given(pixels=IMAGES, contrast=CONTRASTS)
def test_finite_and_in_order(pixels, contrast):
    """Every result is finite float32 in [0, 1], and no pixel becomes darker than one that was darker than it."""
    adjusted = adjust(pixels, contrast)

    assert (np.float32, pixels.shape) == (adjusted.dtype, adjusted.shape)
    assert np.isfinite(adjusted).all()
    assert 0 <= adjusted.min() <= adjusted.max() <= 1
    assert (np.diff(adjusted.ravel()[np.argsort(pixels, axis=None)]) >= 0).all()


@settings(max_examples=200, deadline=None)
@given(pixels=IMAGES)
def test_min_max_uses_the_whole_range(pixels):
    """After min-max the darkest pixel is 0 and the brightest 1, and doing it again changes nothing."""
    adjusted = adjust(pixels, MIN_MAX)

    if pixels.min() < pixels.max():
        assert (0, 1) == (adjusted.min(), adjusted.max())
    np.testing.assert_array_equal(adjusted, adjust(adjusted, MIN_MAX))


@settings(max_examples=200, deadline=None)
@given(
    pixels=hnp.arrays(np.uint8, (9, 8), elements=st.integers(0, 200)),
    contrast=CONTRASTS,
    slope=st.sampled_from([0.25, 0.5, 1, 2, 4]),
    intercept=st.sampled_from([0, 8, 64]),
)
def test_brightness_and_contrast_of_the_source_do_not_matter(pixels, contrast, slope, intercept):
    """An image on another scale gives the same result."""
    scaled = (pixels * np.float32(slope) + np.float32(intercept)).astype(np.float32)

    np.testing.assert_allclose(adjust(scaled, contrast), adjust(pixels, contrast), rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0, 1, 77, 255])
@pytest.mark.parametrize("contrast", [MIN_MAX, CLIPPED, EQUALISED], ids=str)
def test_one_grey_level_is_black(contrast, value):
    """An image of one grey level has no contrast: it becomes 0, as a float image and as one of 8 bits."""
    for pixels in (np.full((5, 7), value, np.uint8), np.full((5, 7), value / 255, np.float32)):
        np.testing.assert_array_equal(np.zeros((5, 7), np.float32), adjust(pixels, contrast))


@pytest.mark.parametrize("contrast", [MIN_MAX, CLIPPED, EQUALISED], ids=str)
def test_hardly_any_contrast(contrast):
    """Neighbouring floats are two grey levels like any others, although no 256 bins fit between them."""
    dark, bright = np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))
    pixels = np.where(np.arange(40).reshape(5, 8) % 2, bright, dark)

    assert 1 == adjust(pixels, contrast).max()
    assert adjust(pixels, contrast).min() < 1


# What a record refuses


@pytest.mark.parametrize(
    ("fields", "telling"),
    [
        ({"method": "min-max", "bins": 256}, "found bins with 'min-max', expected neither percentiles nor bins"),
        ({"method": "equalise"}, "found neither percentiles nor bins with 'equalise', expected bins"),
        ({"method": "percentiles", "bins": 3}, "found bins with 'percentiles', expected percentiles"),
        ({"method": "equalise", "bins": 9, "percentiles": (1, 2)}, "found percentiles and bins with 'equalise'"),
        ({"method": "equalise", "bins": 1}, "bins: found 1, expected 2 to 65536"),
        ({"method": "percentiles", "percentiles": (99, 1)}, "found 99 and 1, expected two from 0 to 100, ascending"),
        ({"method": "percentiles", "percentiles": (5, 101)}, "found 5 and 101, expected two from 0 to 100"),
        ({"method": "percentiles", "percentiles": (float("nan"), 9)}, "found nan and 9, expected two from 0 to 100"),
    ],
)
def test_a_contrast_that_makes_no_sense_is_refused(fields, telling):
    """A setting that belongs to another method, is missing or out of range is refused, and the text says which."""
    with pytest.raises(RecordError, match="^[a-z]+: ") as caught:
        Contrast(stage="after crop", **fields)

    assert telling in str(caught.value)
