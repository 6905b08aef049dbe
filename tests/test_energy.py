"""Energy bands: a picture is their sum, each can be measured and set, and the grey levels of the input don't matter."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from cxrzoo.pretraining.views.energy import (
    REFERENCES,
    SIGMAS,
    measure_energies,
    normalise_energy,
    scale_bands,
    split_bands,
    vary_energy,
)

NO_FLOOR = torch.full((1, 1, 1, 1), 1e-12)


def seeded(seed: int = 0) -> torch.Generator:
    """Return a generator of its own."""
    return torch.Generator().manual_seed(seed)


def rough_planes(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Return planes in [0, 1] with contrast at every scale, as radiographs have it."""
    planes = torch.zeros(count, 1, height, width)
    for size in (1, 3, 6, 12, 25, 50):
        coarse = torch.rand((count, 1, -(-height // size), -(-width // size)), generator=seeded(seed + size))
        planes += size**0.5 * torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    planes -= planes.amin((1, 2, 3), keepdim=True)
    return planes / planes.amax((1, 2, 3), keepdim=True)


def ellipse(height: int, width: int) -> Tensor:
    """Return a mask (1, 1, H, W) that is neither empty nor all."""
    rows, columns = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    return ((rows**2 + (columns / 0.6) ** 2) < 0.8)[None, None]


@examples(max_examples=60, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), seed=st.integers(0, 100))
def test_bands_add_up(height: int, width: int, seed: int) -> None:
    """The sum of bands and residual is the picture, whatever its size, also smaller than a blur is wide."""
    planes = torch.rand((2, 1, height, width), generator=seeded(seed))

    bands = split_bands(planes)

    assert (2, 6, height, width) == tuple(bands.shape)
    torch.testing.assert_close(bands.sum(1, keepdim=True), planes, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(128, 96), (40, 50), (5, 9)], ids=str)
def test_bands_are_scipy_s(shape: tuple[int, int]) -> None:
    """The residual is what Gaussians of sigma 1, 2, 4, 8 and 16 leave one after the other, a band what each takes."""
    planes = rough_planes(1, *shape)
    levels = [planes[0, 0].double().numpy()]
    for sigma in (1, 2, 4, 8, 16):
        # what SciPy calls mirror, torch calls reflect
        levels.append(ndimage.gaussian_filter(levels[-1], sigma, mode="mirror", truncate=4))
    differences = [finer - coarser for finer, coarser in pairwise(levels)]
    expected = torch.stack([torch.from_numpy(level).float() for level in [levels[-1], *differences[::-1]]])

    torch.testing.assert_close(split_bands(planes)[0], expected, rtol=0, atol=2e-6)


def test_order_of_bands() -> None:
    """A wave shows most in the band of its own scale: the finest comes last."""
    columns = torch.arange(192.0)
    # the blur of sigma s takes most, of what those before it left, from waves that are about 3.8 s long
    waves = torch.stack([torch.sin(2 * math.pi * columns / (3.8 * sigma)) for sigma in SIGMAS])
    planes = waves[:, None, None].expand(-1, -1, 128, -1)

    strongest = measure_energies(split_bands(planes), "central").argmax(1)

    assert [5, 4, 3, 2, 1] == strongest.tolist()


@pytest.mark.parametrize("reference", ["central", "lungs"])
@pytest.mark.parametrize("region", ["whole", "central", "mask"])
def test_energies_as_asked(reference: str, region: str) -> None:
    """After scaling, each band has the standard deviation that was asked for in the region; the residual mean 0."""
    bands = split_bands(rough_planes(3, 96, 80))
    where = ellipse(96, 80) if region == "mask" else region

    scaled = scale_bands(bands, REFERENCES[reference], where, NO_FLOOR)  # type: ignore[arg-type]

    wanted = torch.tensor([REFERENCES[reference]] * 3)
    torch.testing.assert_close(measure_energies(scaled, where), wanted, rtol=0, atol=1e-4)  # type: ignore[arg-type]
    inside = {"whole": torch.ones(96, 80), "central": torch.zeros(96, 80), "mask": ellipse(96, 80)[0, 0].float()}[
        region
    ]
    inside[14:82, 12:68] = 1 if region == "central" else inside[14:82, 12:68]
    torch.testing.assert_close((scaled[:, 0] * inside).sum((1, 2)) / inside.sum(), torch.zeros(3), rtol=0, atol=1e-4)


def test_normalised_is_the_sum() -> None:
    """A normalised picture is the sum of its scaled bands, in one channel, and not cut off."""
    planes = rough_planes(2, 64, 64)

    normalised = normalise_energy(planes, reference="lungs", region="whole")

    scaled = scale_bands(split_bands(planes), REFERENCES["lungs"], "whole", NO_FLOOR)
    torch.testing.assert_close(normalised, scaled.sum(1, keepdim=True), rtol=0, atol=1e-3)
    assert normalised.min() < -1 and normalised.max() > 1


@examples(max_examples=40, deadline=None)
@given(gain=st.floats(0.1, 1000), offset=st.floats(-1, 1), seed=st.integers(0, 50))
def test_gain_and_offset_make_no_difference(gain: float, offset: float, seed: int) -> None:
    """Of a x + b with a > 0 comes what comes of x."""
    planes = rough_planes(2, 48, 40, seed)

    torch.testing.assert_close(
        normalise_energy(gain * planes + gain * offset), normalise_energy(planes), rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0, 4095.0])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_flat_picture(level: float, size: int) -> None:
    """A picture of one grey level has no energy, and none is made of its rounding."""
    planes = torch.full((1, 1, size, size), level)

    normalised = normalise_energy(planes)

    torch.testing.assert_close(normalised, torch.zeros_like(planes), rtol=0, atol=0.05)


def test_empty_mask() -> None:
    """A region without pixels gives no NaN."""
    normalised = normalise_energy(rough_planes(1, 20, 20), region=torch.zeros(1, 1, 20, 20))

    assert normalised.isfinite().all()


def test_mask_is_a_region() -> None:
    """A mask of everything is the whole, one of the middle 70 % of both sides the centre."""
    bands = split_bands(rough_planes(2, 100, 60))
    middle = torch.zeros(1, 1, 100, 60)
    middle[..., 15:85, 9:51] = 1

    torch.testing.assert_close(measure_energies(bands, torch.ones(1, 1, 100, 60)), measure_energies(bands, "whole"))
    torch.testing.assert_close(measure_energies(bands, middle), measure_energies(bands, "central"))
    assert not torch.allclose(measure_energies(bands, "central"), measure_energies(bands, "whole"))


def factors_of(varied: Tensor, planes: Tensor) -> Tensor:
    """Return by how much each band (B, 6), coarsest first, was made stronger, as least squares see it."""
    bands = split_bands(planes).flatten(2).double()
    changes = (varied - planes).flatten(1).double()[:, :, None]
    return 1 + torch.linalg.lstsq(bands.mT, changes).solution[:, :, 0].float()


def test_varied_bands() -> None:
    """Each band of each picture has a factor of its own, log-normal; the residual has none."""
    planes = 0.4 + 0.2 * rough_planes(1, 40, 40).expand(300, -1, -1, -1)

    factors = factors_of(vary_energy(planes, 0.2, seeded()), planes)
    logarithms = factors[:, 1:].log()

    torch.testing.assert_close(factors[:, 0], torch.ones(300), rtol=0, atol=1e-3)
    torch.testing.assert_close(logarithms.mean(0), torch.zeros(5), rtol=0, atol=0.04)
    torch.testing.assert_close(logarithms.std(0), torch.full((5,), 0.2), rtol=0, atol=0.03)
    correlations = torch.corrcoef(logarithms.T) - torch.eye(5)
    assert correlations.abs().max() < 0.2


def test_factors_are_bounded() -> None:
    """No band is made weaker than by half or stronger than double."""
    planes = 0.4 + 0.2 * rough_planes(1, 40, 40).expand(50, -1, -1, -1)

    factors = factors_of(vary_energy(planes, 3.0, seeded()), planes)[:, 1:]

    torch.testing.assert_close(factors.amin(0), torch.full((5,), 0.5), rtol=0, atol=0.01)
    torch.testing.assert_close(factors.amax(0), torch.full((5,), 2.0), rtol=0, atol=0.01)


def test_no_spread() -> None:
    """Factors without spread change nothing."""
    planes = rough_planes(2, 30, 20)

    torch.testing.assert_close(vary_energy(planes, 0.0, seeded()), planes, rtol=0, atol=0)


def test_varied_stay_in_bounds() -> None:
    """Varied planes go from black to white at most, and those that were given stay as they were."""
    planes = rough_planes(4, 30, 20)
    before = planes.clone()

    varied = vary_energy(planes, 2.0, seeded())

    assert varied.min() >= 0 and varied.max() <= 1
    torch.testing.assert_close(planes, before, rtol=0, atol=0)
    assert (varied - planes).abs().amax((1, 2, 3)).min() > 0.01


def test_half_precision_changes_nothing() -> None:
    """Bands are float32 also where a training computes in less."""
    planes = rough_planes(1, 40, 40)

    with torch.autocast("cpu", torch.bfloat16):
        bands = split_bands(planes)

    torch.testing.assert_close(bands, split_bands(planes), rtol=0, atol=0)
