"""How group-masked modelling corrupts images: how much, where, by what, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from cxrzoo.errors import PretrainingError, RecordError
from cxrzoo.pretraining.gmml.corruption import Corrupted, corrupt, draw_mask
from cxrzoo.pretraining.gmml.settings import GmmlSettings

PAPER = GmmlSettings()


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator of its own."""
    return torch.Generator().manual_seed(seed)


def tell_apart(images: int, side: int) -> Tensor:
    """Return images in which each pixel's value says which image it is of, and where in it."""
    return torch.arange(1.0, images * side * side + 1).reshape(images, 1, side, side)


def corrupt_many(count: int, side: int = 128, settings: GmmlSettings = PAPER) -> Corrupted:
    """Return so many images of zeros, corrupted in batches."""
    draws = seeded()
    parts = [corrupt(torch.zeros(100, 1, side, side), settings, draws) for _ in range(count // 100)]
    return Corrupted(*(torch.cat(each) for each in zip(*parts, strict=True)))


def draw_masks(count: int, side: int, settings: GmmlSettings) -> Tensor:
    """Return masks of half to three quarters of an image each."""
    draws = seeded(1)
    areas = (0.5 + 0.25 * torch.rand(count, generator=draws)) * side**2
    return torch.cat([draw_mask(part, side, side, settings, draws) for part in areas.split(64)])


def spell_out(side: int, align: int, draws: torch.Generator) -> Tensor:
    """Return one mask of half to three quarters, block after block, by the published rule."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=draws))

    mask = np.zeros((side, side))
    target = (0.5 + 0.25 * float(torch.rand((), generator=draws))) * side**2
    while mask.sum() < target:
        top, left = (draw(0, side - align) // align * align for _ in range(2))
        height, width = (
            round(min(draw(align, int(0.3 * side)), side - start) / align) * align for start in (top, left)
        )
        mask[top : top + height, left : left + width] = 1
    return torch.from_numpy(mask)


def token_rates(masks: Tensor, patch: int = 16) -> Tensor:
    """Return the share of each patch that is hidden, over all masks."""
    return functional.avg_pool2d(masks.float(), patch).mean(dim=(0, 1))


def test_areas() -> None:
    """Over 1000 draws the hidden shares are those measured of GMML's code, and half of all images are aliens."""
    _, mask, alien = corrupt_many(1000)
    shares = mask.float().mean(dim=(1, 2, 3))

    assert 0.5 == pytest.approx(float(alien.float().mean()), abs=0.05)
    assert 0.31 == pytest.approx(float(shares[alien].mean()), abs=0.01)
    assert 0.63 == pytest.approx(float(shares[~alien].mean()), abs=0.01)
    assert 0.30 <= float(shares[alien].min()) <= float(shares[alien].max()) <= 0.39
    assert 0.50 <= float(shares[~alien].min()) <= float(shares[~alien].max()) <= 0.84


@pytest.mark.parametrize("rule", ["paper", "uniform"])
@pytest.mark.parametrize("align", [1, 8])
def test_bounds(rule: str, align: int) -> None:
    """A mask reaches the area asked for, and exceeds it by less than one block."""
    settings = GmmlSettings(align=align, rule=rule)  # type: ignore[arg-type]
    areas = torch.linspace(0.05, 0.85, 300) * 64 * 96

    excess = draw_mask(areas, 64, 96, settings, seeded()).sum(dim=(1, 2, 3)) - areas

    tallest, widest = (round((int(0.3 * side) - 1) / align) * align for side in (64, 96))
    assert 0 <= float(excess.min())
    assert float(excess.max()) < tallest * widest


def test_kinds_are_as_likely() -> None:
    """With three kinds, a third of the images gets blocks of others."""
    settings = GmmlSettings(types=("noise", "zeros", "alien"))

    assert 1 / 3 == pytest.approx(float(corrupt_many(2000, 32, settings).alien.float().mean()), abs=0.04)


@pytest.mark.parametrize(
    ("align", "corner", "top", "centre", "last"), [(1, 0.07, 0.26, 0.73, 0.73), (16, 0.21, 0.43, 0.74, 0.39)]
)
def test_edges(align: int, corner: float, top: float, centre: float, last: float) -> None:
    """By the paper's rule, borders are hidden as rarely as was measured of GMML's code at 224 pixels."""
    rates = token_rates(draw_masks(512, 224, replace(PAPER, align=align)))

    found = [rates[0, 0], rates[0, 4:10].mean(), rates[4:10, 4:10].mean(), rates[-1, -1]]
    assert [corner, top, centre, last] == pytest.approx([float(value) for value in found], abs=0.05)


@pytest.mark.parametrize("align", [1, 8])
def test_rule(align: int) -> None:
    """Each patch is hidden as often as by the published rule, followed block after block."""
    draws = seeded(2)
    expected = token_rates(torch.stack([spell_out(64, align, draws) for _ in range(1000)])[:, None])

    rates = token_rates(draw_masks(4000, 64, replace(PAPER, align=align)))

    torch.testing.assert_close(expected, rates, rtol=0, atol=0.05)


@pytest.mark.parametrize("align", [1, 16])
def test_uniform(align: int) -> None:
    """By the rule "uniform", no place is hidden more often than another."""
    rates = token_rates(draw_masks(1200, 128, replace(PAPER, align=align, rule="uniform")))

    torch.testing.assert_close(rates.mean().expand_as(rates), rates, rtol=0, atol=0.05)


@pytest.mark.parametrize("rule", ["paper", "uniform"])
def test_align(rule: str) -> None:
    """Aligned blocks hide patches whole or not at all."""
    masks = draw_masks(64, 128, replace(PAPER, align=16, rule=rule))  # type: ignore[arg-type]

    assert {0.0, 1.0} == set(functional.avg_pool2d(masks.float(), 16).flatten().tolist())


def test_remainder() -> None:
    """Where the side is no multiple of `align`, a block that reaches the border is rounded too: 80 and 16, not 20."""
    masks = draw_masks(64, 100, replace(PAPER, align=16))

    assert masks[:, :, 80:96].any()
    assert not masks[:, :, 96:].any()


def test_locality() -> None:
    """Where the mask is not, every channel is exactly the clean one; where it is, each pixel is noise, or alien."""
    clean = 9 + torch.randn(32, 3, 64, 64, generator=seeded(3))

    pixels, mask, alien = corrupt(clean, PAPER, seeded())

    everywhere = mask.expand_as(clean)
    assert (torch.bool, (32, 1, 64, 64)) == (mask.dtype, tuple(mask.shape))
    assert torch.equal(clean[~everywhere], pixels[~everywhere])
    assert not (clean == pixels)[everywhere].any()
    noise = pixels[~alien][everywhere[~alien]]
    assert [0, 1] == pytest.approx([float(noise.mean()), float(noise.std())], abs=0.02)
    assert 9 == pytest.approx(float(pixels[alien][everywhere[alien]].mean()), abs=0.02)


def test_aliens() -> None:
    """Pixels of another image are those at the same place, of one donor, and nothing else of the image changes."""
    clean = tell_apart(16, 64)

    pixels, mask, alien = corrupt(clean, GmmlSettings(), seeded())

    image, place = (pixels.long() - 1) // 64**2, (pixels - 1) % 64**2
    assert torch.equal((tell_apart(1, 64) - 1).expand(int(alien.sum()), -1, -1, -1), place[alien])
    donors = [image[number][mask[number]].unique().tolist() for number in alien.nonzero().flatten()]
    assert [1] * len(donors) == [len(each) for each in donors]
    assert not [number for number, each in zip(alien.nonzero().flatten(), donors, strict=True) if [number] == each]


def test_no_image_is_its_own_donor() -> None:
    """In a batch of two, the other image is the donor every time."""
    clean, draws = tell_apart(2, 16), seeded()

    for _ in range(50):
        pixels, mask, _ = corrupt(clean, GmmlSettings(types=("alien",)), draws)

        assert torch.equal(clean.flip(0)[mask], pixels[mask])


def test_every_other_image_is_a_donor() -> None:
    """Donors are all the others, about as often each."""
    settings, draws = GmmlSettings(types=("alien",)), seeded()
    seen = torch.zeros(5, 5)
    for _ in range(200):
        pixels, mask, _ = corrupt(tell_apart(5, 16), settings, draws)
        for number in range(5):
            seen[number, int((pixels[number][mask[number]][0] - 1) // 256)] += 1

    expected = 50.0 * (1 - torch.eye(5))
    torch.testing.assert_close(expected, seen, rtol=0, atol=25)


def test_zeros() -> None:
    """Zeros are what normalised pixels are on average, and stand where the mask is."""
    clean = torch.ones(4, 3, 32, 32)

    pixels, mask, alien = corrupt(clean, GmmlSettings(types=("zeros",), drop_perc=0.5), seeded())

    assert torch.equal(1 - mask.float().expand_as(clean), pixels)
    assert not alien.any()


def test_seed() -> None:
    """A generator's state decides about all of it, and torch's own generator about nothing."""
    clean = torch.randn(8, 3, 32, 32, generator=seeded(3))
    torch.manual_seed(0)
    first = corrupt(clean, PAPER, seeded(5))
    torch.manual_seed(1)
    before = torch.random.get_rng_state()

    second, third = corrupt(clean, PAPER, seeded(5)), corrupt(clean, PAPER, seeded(6))

    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first.mask, third.mask)
    assert torch.equal(before, torch.random.get_rng_state())


def test_clean_images_stay() -> None:
    """The images that were given are not changed."""
    clean = tell_apart(4, 32)

    corrupt(clean, PAPER, seeded())

    assert torch.equal(tell_apart(4, 32), clean)


def test_one_image() -> None:
    """A batch of one image has no donor, which is refused; noise takes none."""
    clean = torch.zeros(1, 1, 32, 32)

    with pytest.raises(PretrainingError, match="a batch of one image"):
        corrupt(clean, PAPER, seeded())
    assert corrupt(clean, GmmlSettings(types=("noise",)), seeded()).mask.any()


@pytest.mark.parametrize(
    ("settings", "side", "message"),
    [
        (GmmlSettings(align=16), 32, "blocks are 16 long at least and less than 9"),
        (GmmlSettings(max_block=0.02, types=("noise",)), 100, "4096 blocks that cover too little of 100 x 100"),
    ],
)
def test_blocks_that_do_not_fit(settings: GmmlSettings, side: int, message: str) -> None:
    """Blocks that don't fit an image, or would never cover enough of it, are refused."""
    with pytest.raises(PretrainingError, match=message):
        corrupt(torch.zeros(2, 1, side, side), settings, seeded())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": ()}, "types: found"),
        ({"types": ("noise", "noise")}, "types: found"),
        ({"types": ("swap",)}, "types: found"),
        ({"rule": "centres"}, "rule: found 'centres'"),
        ({"drop_perc": 0.0}, "drop_perc: found 0"),
        ({"replace": 0.95}, "replace: found 0.95"),
        ({"align": 0}, "found align 0"),
        ({"max_block": 1.1}, "max_block 1.1"),
        ({"blocks": (8, 6)}, "blocks: found"),
        ({"blocks": (0, 12)}, "blocks: found"),
        ({"momentum": 1.1}, "momentum: found 1.1"),
        ({"temperature": 0.0}, "must be above 0"),
        ({"weight": -1.0}, "must not be negative"),
    ],
)
def test_settings(changes: dict[str, object], message: str) -> None:
    """Settings that make no sense are refused by name."""
    with pytest.raises(RecordError, match=message):
        GmmlSettings(**changes)  # type: ignore[arg-type]
