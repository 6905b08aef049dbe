"""Random views: what is cropped, turned and changed, how often and how much; and what never happens."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as reference

from cxrzoo.errors import RecordError
from cxrzoo.pretraining.batches import Batch
from cxrzoo.pretraining.views import Views, draw_views, normalise
from cxrzoo.pretraining.views.chances import draw_between, draw_chance
from cxrzoo.pretraining.views.filters import smoothing
from cxrzoo.pretraining.views.geometry import Places, draw_boxes, draw_places
from cxrzoo.pretraining.views.intensities import jitter
from cxrzoo.pretraining.views.reading import read

EVERYTHING = Views(
    16,
    scale=(0.3, 1),
    flip=0.5,
    rotation=15,
    gamma=1.5,
    gain=0.2,
    offset=0.1,
    bands=0.2,
    jitter=0.5,
    brightness=0.2,
    contrast=0.2,
    blur=0.5,
    noise=0.05,
)


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator of its own."""
    return torch.Generator().manual_seed(seed)


def make_batch(*pictures: Tensor, padding: int = 0) -> Batch:
    """Return uint8 pictures as the radiographs of one step; what lies beyond them is `padding`."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    pixels = torch.full((len(pictures), height, width), padding, dtype=torch.uint8)
    for row, picture in zip(pixels, pictures, strict=True):
        row[: picture.shape[0], : picture.shape[1]] = picture
    sizes = torch.tensor([tuple(picture.shape) for picture in pictures])
    count = len(pictures)
    return Batch(pixels, sizes, torch.zeros(count, dtype=torch.long), torch.full((count, 1), math.nan))


def noise_picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Return a picture of which no two rows or columns are alike."""
    return torch.randint(1, 256, (height, width), generator=seeded(seed), dtype=torch.uint8)


def flat(level: int, height: int = 8, width: int = 8) -> Tensor:
    """Return a picture of one grey level."""
    return torch.full((height, width), level, dtype=torch.uint8)


def smooth_picture(height: int, width: int) -> Tensor:
    """Return a picture without edges, which no interpolation changes much."""
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
    waves = torch.sin(5 * rows + 2 * columns) + torch.cos(7 * columns - rows)
    return (60 * waves + 128).round().to(torch.uint8)


# geometry


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_size_alone(interpolation: str) -> None:
    """Pictures of the view's size stay as they are where nothing else is switched on."""
    batch = make_batch(noise_picture(32, 32), noise_picture(32, 32, 1))

    views = draw_views(batch, Views(32, interpolation=interpolation), seeded())  # type: ignore[arg-type]

    tolerance = 0 if interpolation == "nearest" else 1e-5
    torch.testing.assert_close(views, batch.pixels[:, None] / 255, rtol=0, atol=tolerance)


def test_crop_at_own_scale() -> None:
    """A crop of a larger picture is one of its windows, each as likely, and every picture draws its own."""
    picture = noise_picture(10, 9)
    windows = {
        (row, column): picture[row : row + 8, column : column + 8] / 255 for row in range(3) for column in range(2)
    }

    views = draw_views(make_batch(*[picture] * 600), Views(8, interpolation="nearest"), seeded())
    counts = Counter(next(k for k, window in windows.items() if torch.equal(view[0], window)) for view in views)

    assert windows.keys() == counts.keys()
    assert min(counts.values()) > 60  # of 100 that are expected


def test_small_picture_gets_black_border() -> None:
    """A picture that is smaller than the view stands somewhere in it, whole, and the rest is black."""
    picture = noise_picture(6, 5)

    views = draw_views(make_batch(*[picture] * 100), Views(7, interpolation="nearest"), seeded())

    places = set()
    for view in views[:, 0]:
        top, left = (int(v.nonzero()[0]) for v in (view.sum(1), view.sum(0)))
        expected = torch.zeros(7, 7)
        expected[top : top + 6, left : left + 5] = picture / 255
        torch.testing.assert_close(view, expected, rtol=0, atol=0)
        places.add((top, left))
    assert {(top, left) for top in range(2) for left in range(3)} == places


def test_wide_and_low_picture() -> None:
    """One side can be cropped while the other gets a border."""
    picture = noise_picture(4, 12)

    view = draw_views(make_batch(picture), Views(8, interpolation="nearest"), seeded())[0, 0]

    rows = view.sum(1).nonzero()[:, 0]
    assert 4 == len(rows)
    assert any(torch.equal(view[rows], picture[:, left : left + 8] / 255) for left in range(5))


@pytest.mark.parametrize("sizes", [(224, 224), (224, 160), (150, 224)])
def test_resized_crop_bounds(sizes: tuple[int, int]) -> None:
    """A crop has a share of the area and a ratio within what was asked for, and lies in the picture."""
    left, top, width, height = draw_boxes(torch.tensor([sizes] * 4000), Views(8, scale=(0.2, 0.6)), seeded())
    shares, ratios = width * height / (sizes[0] * sizes[1]), width / height

    assert 0.2 - 1e-5 <= shares.min() < 0.21 and 0.59 < shares.max() <= 0.6 + 1e-5
    assert 0.75 - 1e-5 <= ratios.min() < 0.76 and 1.32 < ratios.max() <= 4 / 3 + 1e-5
    assert left.min() >= 0 and (left + width).max() <= sizes[1] + 1e-3
    assert top.min() >= 0 and (top + height).max() <= sizes[0] + 1e-3


def test_resized_crop_distribution() -> None:
    """Areas are equally likely, ratios on a logarithmic scale, and crops stand everywhere."""
    left, top, width, height = draw_boxes(torch.tensor([(200, 200)] * 20_000), Views(8, scale=(0.1, 0.5)), seeded())
    levels = torch.linspace(0.1, 0.9, 9)

    def quantiles(values: Tensor) -> Tensor:
        return values.quantile(levels)

    torch.testing.assert_close(quantiles(width * height / 40_000), 0.1 + 0.4 * levels, rtol=0, atol=0.01)
    torch.testing.assert_close(quantiles((width / height).log()), math.log(4 / 3) * (2 * levels - 1), rtol=0, atol=0.01)
    torch.testing.assert_close(quantiles(left / (200 - width)), levels, rtol=0, atol=0.015)
    torch.testing.assert_close(quantiles(top / (200 - height)), levels, rtol=0, atol=0.015)


@pytest.mark.parametrize(("size", "expected"), [((10, 100), (10, 40 / 3)), ((100, 10), (40 / 3, 10))])
def test_no_crop_fits(size: tuple[int, int], expected: tuple[float, float]) -> None:
    """Of a picture too elongated for the ratio, the largest part that has it is cropped."""
    _, _, width, height = draw_boxes(torch.tensor([size] * 50), Views(8, scale=(0.9, 1)), seeded())

    torch.testing.assert_close(torch.stack([height, width], 1), torch.tensor([expected] * 50))


def test_resized_crop_is_torchvision_s() -> None:
    """What lies in a box is resized as torchvision resizes it, within rounding, mirrored or not."""
    picture = noise_picture(40, 56)
    top, left, height, width = 5, 7, 21, 30

    for flipped in (False, True):
        start = (56.0 - left, float(top)) if flipped else (float(left), float(top))
        across = (-float(width), 0.0) if flipped else (float(width), 0.0)
        places = Places(*(torch.tensor([v]) for v in (start, across, (0.0, float(height)))))
        view = read(make_batch(picture), places, Views(24, scale=(0.1, 1)))
        source = reference.hflip(picture) if flipped else picture
        box = source[None, None] / 255
        expected = reference.resized_crop(box, top, left, height, width, [24, 24], antialias=False)
        # its first and last pixels repeat the box's border, ours see what lies beside the box
        torch.testing.assert_close(view[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], rtol=0, atol=1e-5)


def test_whole_picture_is_torchvision_s() -> None:
    """A crop of all of a picture is torchvision's to the border, when it grows and when it shrinks."""
    picture = noise_picture(40, 40)

    for size in (24, 100):
        view = draw_views(make_batch(picture), Views(size, scale=(1, 1), ratio=(1, 1)), seeded())
        expected = reference.resize(picture[None, None] / 255, [size, size], antialias=False)
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_strong_shrinking_averages(factor: int) -> None:
    """A view much smaller than its crop shows means over the pixels, not a choice of them."""
    picture = noise_picture(64, 64)
    size = 64 // factor

    view = draw_views(make_batch(picture), Views(size, scale=(1, 1), ratio=(1, 1)), seeded())

    expected = torch.nn.functional.avg_pool2d(picture[None, None] / 255, factor)
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-4)


def test_shrinking_is_each_picture_s_own() -> None:
    """In one batch, a small picture is read as it is, and a large one where it was reduced."""
    small, large = noise_picture(16, 16), noise_picture(96, 96)

    views = draw_views(make_batch(small, large, large), Views(16, scale=(1, 1), ratio=(1, 1)), seeded())

    torch.testing.assert_close(views[0, 0], small / 255, rtol=0, atol=1e-4)
    assert views[1].std() < 0.5 * (large / 255).std()  # of independent pixels, means of 4 have half, of 36 a sixth


def test_flip_share() -> None:
    """As many pictures are flipped as asked for, and a flip is exact."""
    picture = noise_picture(12, 12)

    views = draw_views(make_batch(*[picture] * 1000), Views(12, flip=0.3, interpolation="nearest"), seeded())
    flipped = [torch.equal(view[0], picture.flip(1) / 255) for view in views]

    assert all(torch.equal(v[0], picture / 255) for v, f in zip(views, flipped, strict=True) if not f)
    assert sum(flipped) == pytest.approx(300, abs=60)  # 4 standard deviations


def angle_of(view: Tensor) -> float:
    """Return by how many degrees a bright bar is turned from the horizontal, by its second moments."""
    rows, columns = torch.meshgrid(torch.arange(len(view)), torch.arange(len(view)), indexing="ij")
    weight = view / view.sum()
    x, y = columns - (weight * columns).sum(), rows - (weight * rows).sum()
    xx, yy, xy = ((weight * v).sum() for v in (x * x, y * y, x * y))
    return math.degrees(0.5 * math.atan2(2 * xy, xx - yy))


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_rotation_of_a_bar(interpolation: str) -> None:
    """A bar in the middle is turned by angles that are equally likely up to the largest, either way, about itself."""
    picture = flat(0, 65, 65)
    picture[30:35, 15:50] = 255

    views = draw_views(make_batch(*[picture] * 500), Views(65, rotation=20, interpolation=interpolation), seeded())  # type: ignore[arg-type]
    angles = torch.tensor([angle_of(view[0]) for view in views])

    assert -20.3 < angles.min() < -19 and 19 < angles.max() < 20.3
    torch.testing.assert_close(
        angles.quantile(torch.tensor([0.25, 0.5, 0.75])), torch.tensor([-10.0, 0, 10]), rtol=0, atol=2
    )
    assert views.sum((1, 2, 3)).min() > 0.9 * 5 * 35


@pytest.mark.parametrize(("interpolation", "share"), [("nearest", 0.98), ("bilinear", 0.93)])
def test_authors_order_is_torchvision_s(interpolation: str, share: float) -> None:
    """Flip, rotation on the same canvas and random crop are torchvision's, one after the other, on a landscape picture.

    Where a grey level lies between two pixels, or at the black border, both may choose another.
    """
    picture = smooth_picture(48, 64)
    settings = Views(48, flip=0.5, rotation=30, interpolation=interpolation)  # type: ignore[arg-type]
    count = 20

    views = draw_views(make_batch(*[picture] * count), settings, seeded(5))
    again = seeded(5)
    boxes = draw_boxes(torch.tensor([picture.shape] * count), settings, again)
    angles = draw_between(-30, 30, (count, 1), again)
    flips = draw_chance(0.5, (count, 1), again)

    assert 0 < flips.sum() < count
    for view, left, angle, flip in zip(views, boxes.left.int().tolist(), angles, flips, strict=True):
        turned = reference.hflip(picture) if flip else picture
        turned = reference.rotate(turned[None, None] / 255, float(angle), InterpolationMode(interpolation))
        difference = (view - turned[0, :, :, left : left + 48]).abs()
        assert (difference < 0.004).float().mean() > share


@examples(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4),
    size=st.integers(1, 40),
    scale=st.sampled_from([None, (0.05, 0.3), (0.3, 1.0), (1.0, 1.0)]),
    rotation=st.sampled_from([0.0, 10.0, 180.0]),
    interpolation=st.sampled_from(["nearest", "bilinear"]),
    seed=st.integers(0, 1000),
)
def test_padding_is_never_picture(
    shapes: list[tuple[int, int]],
    size: int,
    scale: tuple[float, float] | None,
    rotation: float,
    interpolation: str,
    seed: int,
) -> None:
    """Whatever stands beyond a picture, a view shows the picture's grey level or black, and nothing between."""
    batch = make_batch(flat(1, 40, 40), *(flat(100, *shape) for shape in shapes), padding=255)

    asked = Views(size, scale=scale, flip=0.5, rotation=rotation, interpolation=interpolation)  # type: ignore[arg-type]
    views = draw_views(batch, asked, seeded(seed))[1:]

    off = torch.minimum(views, (views - 100 / 255).abs())
    assert off.max() < 1e-4


@pytest.mark.parametrize("size", [3, 6, 13, 25])
def test_reductions_are_never_mixed(size: int) -> None:
    """Where pictures of odd sides are read from their halves or quarters, nothing beside those is looked at."""
    batch = make_batch(flat(255, 64, 64), *[flat(100, 61, 57)] * 300, padding=255)

    views = draw_views(batch, Views(size, scale=(0.3, 1), rotation=180), seeded())[1:]

    off = torch.minimum(views, (views - 100 / 255).abs())
    assert off.max() < 1e-4


def test_black_only_beyond_the_picture() -> None:
    """A resized crop without rotation shows no black, however small the picture."""
    pictures = [flat(100, h, w) for h, w in ((3, 40), (40, 3), (1, 1), (40, 40), (17, 23))]

    views = draw_views(make_batch(*pictures), Views(33, scale=(0.3, 1), flip=0.5), seeded())

    torch.testing.assert_close(views, torch.full_like(views, 100 / 255), rtol=0, atol=1e-4)


def test_places_are_within_the_canvas() -> None:
    """The middle of a whole picture stays in the middle, flipped and rotated or not."""
    sizes = torch.tensor([(30, 50)] * 200)

    start, across, down = draw_places(
        sizes, Views(8, scale=(1, 1), ratio=(5 / 3, 5 / 3), flip=0.5, rotation=45), seeded()
    )

    torch.testing.assert_close(start + across / 2 + down / 2, torch.tensor([(25.0, 15.0)] * 200))
    torch.testing.assert_close(across.norm(dim=1), torch.full((200,), 50.0))


# grey levels


def test_gamma() -> None:
    """The exponent lies between 1/gamma and gamma; both sides of 1 are equally likely, on a logarithmic scale."""
    views = draw_views(make_batch(*[flat(51)] * 4000), Views(8, gamma=1.5), seeded())
    exponents = (views[:, 0, 0, 0].log() / math.log(0.2)).log() / math.log(1.5)

    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    torch.testing.assert_close(exponents.quantile(levels), 2 * levels - 1, rtol=0, atol=0.05)
    assert exponents.abs().max() <= 1 + 1e-4


def test_gain_and_offset() -> None:
    """Grey levels change by a x + b, with a and b independent and equally likely within their bounds."""
    picture = flat(102)
    picture[:, 4:] = 153

    views = draw_views(make_batch(*[picture] * 4000), Views(8, gain=0.2, offset=0.1), seeded())[:, 0, 0]
    gains = (views[:, 7] - views[:, 0]) / 0.2
    offsets = views[:, 0] - gains * 0.4

    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    torch.testing.assert_close(gains.quantile(levels), 0.8 + 0.4 * levels, rtol=0, atol=0.01)
    torch.testing.assert_close(offsets.quantile(levels), 0.2 * levels - 0.1, rtol=0, atol=0.005)
    assert abs(torch.corrcoef(torch.stack([gains, offsets]))[0, 1]) < 0.07


def test_gain_is_cut_off() -> None:
    """What becomes darker than black is black, brighter than white white."""
    picture = flat(0)
    picture[:, 4:] = 255

    views = draw_views(make_batch(*[picture] * 50), Views(8, offset=0.5), seeded())

    assert (0.0, 1.0) == (views.min().item(), views.max().item())
    assert ((views[..., :4] == 0).all((1, 2, 3)) | (views[..., 4:] == 1).all((1, 2, 3))).all()


def test_jitter_is_torchvision_s() -> None:
    """Brightness and contrast are torchvision's, in the order that was drawn; what wasn't chosen stays to the bit."""
    settings = Views(8, jitter=0.7, brightness=0.4, contrast=0.6)
    planes = torch.rand((40, 1, 8, 8), generator=seeded(1))

    changed = jitter(planes.clone(), settings, seeded(2))
    again, each = seeded(2), (40, 1, 1, 1)
    chosen, first = draw_chance(0.7, each, again), draw_chance(0.5, each, again)
    brightness, contrast = draw_between(0.6, 1.4, each, again), draw_between(0.4, 1.6, each, again)

    assert 0 < chosen.sum() < 40
    assert 0 < (chosen & first).sum() < chosen.sum()
    for index in range(40):
        expected = planes[index]
        steps = [
            (reference.adjust_brightness, float(brightness[index])),
            (reference.adjust_contrast, float(contrast[index])),
        ]
        for adjust, factor in (steps if first[index] else steps[::-1]) if chosen[index] else []:
            expected = adjust(expected, factor)
        torch.testing.assert_close(changed[index], expected, rtol=0, atol=1e-6 if chosen[index] else 0)


def test_jitter_share() -> None:
    """As many views are jittered as asked for."""
    picture = smooth_picture(8, 8)

    views = draw_views(
        make_batch(*[picture] * 1000), Views(8, jitter=0.3, brightness=0.1, interpolation="nearest"), seeded()
    )

    assert sum(not torch.equal(view[0], picture / 255) for view in views) == pytest.approx(300, abs=60)


def test_blur_is_torchvision_s() -> None:
    """Each chosen view is blurred by its own sigma as torchvision blurs it, mirrored at the borders."""
    picture = noise_picture(40, 40)
    settings = Views(40, blur=0.5, blur_sigma=(0.3, 2.0), interpolation="nearest")

    views = draw_views(make_batch(*[picture] * 30), settings, seeded(3))
    again = seeded(3)
    draw_boxes(torch.tensor([(40, 40)] * 30), settings, again)
    sigmas, chosen = draw_between(0.3, 2.0, (30,), again), draw_chance(0.5, (30,), again)

    assert 0 < chosen.sum() < 30
    for view, sigma, blurred in zip(views, sigmas.tolist(), chosen, strict=True):
        expected = picture[None] / 255
        expected = reference.gaussian_blur(expected, [17, 17], [sigma, sigma]) if blurred else expected
        torch.testing.assert_close(view, expected, rtol=0, atol=1e-5 if blurred else 0)


@pytest.mark.parametrize("length", [1, 2, 3, 5, 8, 30])
def test_smoothing_mirrors_as_often_as_needed(length: int) -> None:
    """A column shorter than the blur is wide is mirrored over and over, and keeps its grey level where it has one."""
    column = np.random.default_rng(0).random(length)
    radius, sigma = 12, 3.0
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    expected = np.convolve(np.pad(column, radius, mode="reflect"), kernel / kernel.sum(), mode="valid")

    matrix = smoothing(length, torch.tensor([sigma]), radius)[0]

    np.testing.assert_allclose(matrix.double().numpy() @ column, expected, atol=1e-6)
    torch.testing.assert_close(matrix.sum(1), torch.ones(length))


def test_noise() -> None:
    """Noise is independent from pixel to pixel, of mean 0, and in each view of another strength up to the largest."""
    views = draw_views(make_batch(*[flat(128, 32, 32)] * 300), Views(32, noise=0.1), seeded())
    deviations = views.std((1, 2, 3))

    levels = torch.tensor([0.25, 0.5, 0.75])
    torch.testing.assert_close(deviations.quantile(levels), 0.1 * levels, rtol=0, atol=0.012)
    assert deviations.max() < 0.11
    assert views.mean() == pytest.approx(128 / 255, abs=1e-3)
    residues = views - views.mean()
    assert abs((residues[..., 1:] * residues[..., :-1]).mean() / residues.var()) < 0.02


# all together


@examples(max_examples=40, deadline=None)
@given(
    gamma=st.floats(1, 10),
    gain=st.floats(0, 1),
    offset=st.floats(0, 1),
    bands=st.floats(0, 3),
    contrast=st.floats(0.01, 1),
    blur=st.floats(0, 1),
    noise=st.floats(0, 1),
    rotation=st.floats(0, 180),
    seed=st.integers(0, 100),
)
def test_views_stay_in_bounds(seed: int, contrast: float, **asked: float) -> None:
    """However strong the changes, a view is float32 of the asked size, finite, from black to white."""
    batch = make_batch(noise_picture(20, 30), flat(0, 5, 7), flat(255, 30, 20))

    views = draw_views(batch, Views(12, scale=(0.1, 1), jitter=0.8, contrast=contrast, **asked), seeded(seed))  # type: ignore[arg-type]

    assert ((3, 1, 12, 12), torch.float32) == (tuple(views.shape), views.dtype)
    assert views.isfinite().all() and views.min() >= 0 and views.max() <= 1


def test_equal_draws_give_equal_views() -> None:
    """From equal states of the generator come the same views, bit for bit; the next ones are others."""
    batch = make_batch(noise_picture(30, 24), noise_picture(24, 30))
    draws = seeded(7)

    first, second = draw_views(batch, EVERYTHING, draws), draw_views(batch, EVERYTHING, draws)

    torch.testing.assert_close(draw_views(batch, EVERYTHING, seeded(7)), first, rtol=0, atol=0)
    assert not torch.equal(first, second)


def test_only_the_given_draws_count() -> None:
    """Global generators are neither read nor moved on."""
    batch = make_batch(noise_picture(30, 24))
    torch.manual_seed(1)
    before, views = torch.get_rng_state(), draw_views(batch, EVERYTHING, seeded())
    unmoved = torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)

    assert unmoved
    assert torch.equal(views, draw_views(batch, EVERYTHING, seeded()))


@pytest.mark.parametrize(
    "asked",
    [
        {"scale": (0.3, 1.0)},
        {"rotation": 10.0},
        {"gamma": 1.5},
        {"gain": 0.2},
        {"offset": 0.1},
        {"bands": 0.2},
        {"jitter": 1.0, "brightness": 0.3},
        {"jitter": 1.0, "contrast": 0.3},
        {"blur": 1.0},
        {"noise": 0.1},
    ],
    ids=str,
)
def test_pictures_draw_independently(asked: dict[str, float]) -> None:
    """Each change is another one in each view of the same picture."""
    picture = smooth_picture(24, 24)

    views = draw_views(make_batch(*[picture] * 6), Views(24, **asked), seeded())  # type: ignore[arg-type]

    assert 6 == len({view.numpy().tobytes() for view in views})
    assert (views - picture / 255).abs().max() > 1e-2


def test_half_precision_changes_nothing() -> None:
    """Views are drawn in float32 also where a training computes in less."""
    batch, settings = make_batch(noise_picture(30, 24), noise_picture(24, 30)), replace(EVERYTHING, size=8)

    with torch.autocast("cpu", torch.bfloat16):
        views = draw_views(batch, settings, seeded())

    torch.testing.assert_close(views, draw_views(batch, settings, seeded()), rtol=0, atol=0)


@pytest.mark.parametrize("asked", [{"scale": (0.1, 1.0)}, {"blur": 1.0}], ids=str)
def test_white_stays_white(asked: dict[str, float]) -> None:
    """Rounding never makes a white picture whiter."""
    views = draw_views(make_batch(*[flat(255, 50, 50)] * 20), Views(50, **asked), seeded())  # type: ignore[arg-type]

    assert views.max() <= 1
    torch.testing.assert_close(views, torch.ones_like(views), rtol=0, atol=1e-5)


class Operations(TorchDispatchMode):
    """Counts what is computed while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.counts[func._overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device() -> None:
    """As many operations are asked for whatever the batch, and none brings a number back or sends one."""
    pictures = [noise_picture(40 + index, 50 - index, index) for index in range(9)]
    settings = replace(EVERYTHING, size=12)
    draw_views(make_batch(*pictures), settings, seeded())  # which keeps the matrices of the energy bands

    batch = make_batch(*pictures)
    with Operations() as nine:
        draw_views(batch, settings, seeded())
    batch = make_batch(*pictures[:2], pictures[8])
    with Operations() as three:
        draw_views(batch, settings, seeded())

    # torch.tensor, .item(), truth of a tensor, and what has as many results as there are true values
    forbidden = {"lift_fresh", "_local_scalar_dense", "item", "is_nonzero", "nonzero", "masked_select", "unique"}
    assert set() == forbidden & nine.counts.keys()
    assert three.counts == nine.counts


def test_switched_off_costs_nothing() -> None:
    """What is switched off is neither computed nor drawn."""
    batch, draws = make_batch(noise_picture(12, 12)), seeded()

    with Operations() as done:
        draw_views(batch, Views(12), draws)

    skipped = {
        "cos",
        "pow_",
        "exp",
        "bmm",
        "mm",
        "randn",
        "normal_",
        "norm",
        "linalg_vector_norm",
        "avg_pool2d",
        "mean",
    }
    assert set() == skipped & done.counts.keys()
    again = seeded()
    torch.rand((1, 2), generator=again)
    assert torch.equal(again.get_state(), draws.get_state())


# what a network is shown


def test_normalise() -> None:
    """All channels are the view, each less its own mean and divided by its own standard deviation."""
    planes = torch.rand((2, 1, 4, 5), generator=seeded())

    shown = normalise(planes, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    torch.testing.assert_close(
        shown, reference.normalize(planes.expand(-1, 3, -1, -1), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    assert (2, 1, 4, 5) == tuple(normalise(planes, (0.5,), (0.25,)).shape)


# settings


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 0),
        ("scale", (0.0, 1.0)),
        ("scale", (0.5, 0.2)),
        ("scale", (0.5, 1.1)),
        ("ratio", (-1.0, 1.0)),
        ("flip", 1.5),
        ("rotation", -1.0),
        ("interpolation", "bicubic"),
        ("gamma", 0.5),
        ("gain", math.nan),
        ("offset", -0.1),
        ("bands", -0.1),
        ("jitter", 0.5),
        ("brightness", 0.2),
        ("contrast", 1.2),
        ("blur", 2.0),
        ("blur_sigma", (0.0, 1.0)),
        ("noise", math.inf),
    ],
)
def test_impossible_settings(field: str, value: object) -> None:
    """A field out of bounds, or one that does nothing without another, is named in the error."""
    with pytest.raises(RecordError, match=rf"{field}.*found.*expected|jitter: found.*{field}.*expected"):
        Views(**{"size": 8, field: value})  # type: ignore[arg-type]
