"""Signs of collapse, and the neighbours' AUROC on the way: against definitions written out anew."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from cxrzoo.errors import PretrainingError
from cxrzoo.evaluation.locks import digest_backbone
from cxrzoo.pretraining.monitors import LOW_SPREAD, RECENT, judge, measure_rank, measure_spread
from cxrzoo.pretraining.probing import ProbeSet, leave_out, probe_backbone

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dimension", [32, 512])
def test_isotropic_embeddings_have_spread_1(dimension: int) -> None:
    """The spread of an isotropic Gaussian is about 1 in any dimension, and does not depend on its scale."""
    embeddings = draw(1000, dimension)

    assert 1 == pytest.approx(measure_spread(embeddings), abs=0.03)
    assert measure_spread(embeddings) == pytest.approx(measure_spread(7 * embeddings), rel=1e-5)


@pytest.mark.parametrize("row", [draw(1, 64), torch.zeros(1, 64), 1e-3 * torch.ones(1, 64)], ids=["any", "0", "small"])
def test_equal_embeddings_have_spread_0(row: torch.Tensor) -> None:
    """Embeddings that are all equal have no spread; nor have those that differ in length only."""
    assert 0 == pytest.approx(measure_spread(row.repeat(50, 1)), abs=1e-5)
    assert 0 == pytest.approx(measure_spread(row * torch.arange(1.0, 51)[:, None]), abs=1e-5)


def test_spread_is_simsiam_s() -> None:
    """The spread is the mean standard deviation of the dimensions of unit vectors, times the root of the dimension."""
    embeddings = draw(20, 8).double().numpy() + 1

    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = unit.std(axis=0, ddof=1).mean() * np.sqrt(8)

    assert expected == pytest.approx(measure_spread(torch.from_numpy(embeddings)), rel=1e-6)


def test_spread_takes_half_precision() -> None:
    """Embeddings in half precision, whose squares would overflow, have the spread of the same ones in float32."""
    embeddings = (300 * draw(64, 32)).half()

    assert measure_spread(embeddings.float()) == pytest.approx(measure_spread(embeddings), rel=1e-6)


def test_spread_of_what_can_t_be_measured_is_nan() -> None:
    """A single embedding, and embeddings that are not finite, have no spread."""
    assert math.isnan(measure_spread(draw(1, 8)))
    assert math.isnan(measure_spread(torch.full((4, 8), math.nan)))


@pytest.mark.parametrize(("rank", "expected"), [(1, 1.0), (4, 4.0), (16, 16.0)])
def test_effective_rank_counts_equal_directions(rank: int, expected: float) -> None:
    """Orthogonal directions of equal weight are as many as the effective rank says."""
    basis = torch.linalg.qr(draw(40, 40))[0]

    assert expected == pytest.approx(measure_rank(basis[:, :rank] @ basis[:rank]), rel=1e-4)


def test_effective_rank_is_rankme_s() -> None:
    """The effective rank is the exponential of the entropy of the shares of singular values."""
    embeddings = draw(30, 12).double() * torch.arange(1, 13)

    values = np.linalg.svd(embeddings.numpy(), compute_uv=False)
    shares = values / values.sum()

    assert np.exp(-(shares * np.log(shares)).sum()) == pytest.approx(measure_rank(embeddings), rel=1e-4)


def test_effective_rank_of_nothing_is_a_number() -> None:
    """Embeddings that are all 0 give no error."""
    assert measure_rank(torch.zeros(5, 3)) < 1.1


def rows_of(**columns: list[float | None]) -> list[dict[str, float | None]]:
    """Return rows of a history with these columns."""
    length = max(map(len, columns.values()))
    return [{"step": i} | {name: values[i] for name, values in columns.items()} for i in range(length)]


GOOD = {"spread": [0.3] * 9, "usage": [0.95] * 9, "masked": [0.47] * 9, "knn": [None, 0.8, None] * 3}


def test_a_healthy_training_has_no_warnings() -> None:
    """Nothing is said of a training without signs of collapse, nor of one that has no rows."""
    assert [] == judge(rows_of(**GOOD))
    assert [] == judge([])


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"spread": [0.3] * 4 + [0.01] * 5}, "The embeddings collapse: their spread is 0.010, below 0.05"),
        ({"spread": [0.3] * 6 + [0.0] * 3}, "The embeddings collapse: their spread is 0.000"),
        ({"usage": [0.2] * 9}, "Few prototypes are used: their usage is 0.20, below 0.5"),
        ({"masked": [0.4] * 4 + [0.0] * 5}, "Nothing was masked in the last 5 rows"),
        (
            {"knn": [0.8, 0.85] + [0.8] * 7},
            "The embeddings get worse: the AUROC of their neighbours fell from 0.850 to",
        ),
    ],
)
def test_each_sign_is_told_alone(change: dict[str, list[float | None]], start: str) -> None:
    """A sign of collapse gives one warning, with the figure found and what to do."""
    (warning,) = judge(rows_of(**GOOD | change))

    assert warning.startswith(start)
    assert 2 <= warning.count(".")


@pytest.mark.parametrize(
    "change",
    [
        {"spread": [0.3] * 7 + [0.0] * 2},
        {"spread": [0.0] * (RECENT - 1) + [None] * 5},
        {"spread": [LOW_SPREAD] * 9},
        {"masked": [0.0] * 8 + [0.1]},
        {"knn": [0.8, 0.85] + [None] * 6 + [0.7]},
        {"knn": [0.85] + [0.83] * 8},
        {"knn": [0.85, 0.8, 0.8, 0.84, 0.8, 0.85] + [None] * 3},
    ],
)
def test_a_single_outlier_is_no_sign(change: dict[str, list[float | None]]) -> None:
    """Few rows, small changes, and falls that were made up for give no warning."""
    assert [] == judge(rows_of(**GOOD | change))


def make_backbone() -> nn.Sequential:
    """Return a network whose embeddings depend on its mode: BatchNorm and dropout, of which a part is frozen."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
    backbone.extend([nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 16)])
    backbone[1].running_mean.normal_()
    backbone[0].weight.requires_grad_(False)
    backbone.train()
    backbone[1].eval()
    return backbone


def make_probe_set(images: int = 90) -> ProbeSet:
    """Return pictures whose brightness says something of the first finding; the second one has gaps."""
    random = np.random.default_rng(0)
    labels = (random.random((images, 2)) < 0.5).astype(float)
    pixels = (random.integers(0, 200, (images, 12, 12)) + 20 * labels[:, 0, None, None]).astype(np.uint8)
    labels[::3, 1] = np.nan
    return ProbeSet(torch.from_numpy(pixels), labels, np.arange(images) % 4 == 0)


def embed_directly(backbone: nn.Module, probe: ProbeSet) -> np.ndarray:
    """Return the embeddings of all pictures at once, in evaluation mode."""
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (MEAN, STD))
    with torch.no_grad():
        return copy.deepcopy(backbone).eval()((probe.pixels[:, None] / 255 - mean) / std).double().numpy()


@pytest.mark.parametrize("size", [7, 64, 1000])
def test_probe_is_a_direct_computation(size: int) -> None:
    """Whatever the slices, the AUROC is that of votes of all labelled neighbours, written out for each image."""
    backbone, probe = make_backbone(), make_probe_set()
    embeddings = embed_directly(backbone, probe)
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    expected = []
    for finding in range(2):
        known = ~np.isnan(probe.labels[:, finding])
        voters, asked = np.flatnonzero(known & ~probe.asked), np.flatnonzero(known & probe.asked)
        scores = []
        for image in asked:
            near = voters[np.argsort(-(unit[voters] @ unit[image]))[:20]]
            votes = np.exp(unit[near] @ unit[image] / 0.07)
            scores.append((votes * probe.labels[near, finding]).sum() / votes.sum())
        expected.append(roc_auc_score(probe.labels[asked, finding], scores))

    found = probe_backbone(backbone, probe, mean=MEAN, std=STD, size=size)

    assert expected == pytest.approx(found.aurocs, abs=1e-4)
    assert np.mean(expected) == pytest.approx(found.knn, abs=1e-4)
    assert measure_rank(torch.from_numpy(embeddings)) == pytest.approx(found.rank, rel=1e-3)
    assert expected[0] > 0.6


def test_probe_leaves_the_backbone_and_the_draws_alone() -> None:
    """Statistics of BatchNorm, gradients, modes, flags and the global generator are as before, and so is training."""
    backbone, probe = make_backbone(), make_probe_set()
    backbone[6].weight.grad = torch.ones_like(backbone[6].weight)
    facts = [(module.training, type(module)) for module in backbone.modules()]
    flags = [parameter.requires_grad for parameter in backbone.parameters()]
    digest, draws = digest_backbone(backbone), torch.get_rng_state()

    probe_backbone(backbone, probe, mean=MEAN, std=STD)

    assert digest == digest_backbone(backbone)
    assert facts == [(module.training, type(module)) for module in backbone.modules()]
    assert flags == [parameter.requires_grad for parameter in backbone.parameters()]
    assert torch.equal(draws, torch.get_rng_state())
    assert torch.equal(torch.ones_like(backbone[6].weight), backbone[6].weight.grad)


def test_probe_inside_autocast_is_the_same_and_training_goes_on() -> None:
    """A probe amid mixed precision computes as without, and leaves no weights behind that have no gradient."""
    backbone, probe = make_backbone(), make_probe_set()
    expected = probe_backbone(backbone, probe, mean=MEAN, std=STD)

    with torch.autocast("cpu", torch.bfloat16):
        found = probe_backbone(backbone, probe, mean=MEAN, std=STD)
        backbone(torch.rand(4, 3, 12, 12)).sum().backward()

    assert expected == found
    assert backbone[6].weight.grad.abs().sum() > 0


def test_probe_of_diverged_weights_is_refused() -> None:
    """Embeddings that are NaN end the probe with the reason."""
    backbone = make_backbone()
    backbone[6].weight.data.fill_(math.nan)

    with pytest.raises(PretrainingError, match="NaN or infinite, expected numbers: the training has diverged"):
        probe_backbone(backbone, make_probe_set(), mean=MEAN, std=STD)


def test_findings_that_can_t_be_measured_don_t_count() -> None:
    """A finding without positives among the images asked about is NaN, and not in the mean."""
    probe = make_probe_set()
    labels = np.column_stack([probe.labels, np.where(probe.asked, 0, probe.labels[:, 0])])

    found = probe_backbone(make_backbone(), ProbeSet(probe.pixels, labels, probe.asked), mean=MEAN, std=STD)

    assert math.isnan(found.aurocs[2])
    assert np.mean(found.aurocs[:2]) == pytest.approx(found.knn)


@pytest.mark.parametrize(
    ("labels", "asked"),
    [
        ([[1], [1], [0], [1]], [True, True, False, False]),
        ([[1], [0], [math.nan], [math.nan]], [True, True, False, False]),
        ([[1], [0], [1], [0]], [True, True, True, True]),
        ([[1], [0], [1], [0]], [False, False, False, False]),
    ],
    ids=["one class", "no votes", "all asked", "none asked"],
)
def test_a_probe_that_can_t_measure_is_refused(labels: list[list[float]], asked: list[bool]) -> None:
    """A probe set without any finding to measure is refused before the training starts."""
    with pytest.raises(PretrainingError, match="found no finding with both labels"):
        ProbeSet(torch.zeros(4, 8, 8, dtype=torch.uint8), np.array(labels, float), np.array(asked))


def test_parts_that_don_t_fit_are_refused() -> None:
    """Pixels, labels and parts are of as many images."""
    with pytest.raises(PretrainingError, match=r"found pixels \(3, 8, 8\), labels \(4, 1\) and parts \(4,\)"):
        ProbeSet(torch.zeros(3, 8, 8, dtype=torch.uint8), np.zeros((4, 1)), np.zeros(4, bool))


def test_left_out_are_whole_patients() -> None:
    """All images of a patient are in one part, as many as the share says, and none moves when patients are added."""
    patients = [f"p{number % 2000}" for number in range(4000)]

    asked = leave_out(patients)

    assert 0.3 == pytest.approx(asked.mean(), abs=0.03)
    np.testing.assert_array_equal(asked[:2000], asked[2000:])
    np.testing.assert_array_equal(asked, leave_out([*patients, "new", "newer"])[:4000])


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (1.0, 1.0)])
def test_no_or_all_patients_can_be_left_out(share: float, expected: float) -> None:
    """A share of 0 asks about nobody, and one of 1 about all."""
    assert expected == leave_out([f"p{number}" for number in range(50)], share).mean()
