"""Codes by Sinkhorn's iterations: sums, invariance, sets, several processes, and the formula they come from."""

from pathlib import Path

import pytest
import torch
from processes import run_processes
from torch.nn import functional

from cxrzoo.pretraining import ranks
from cxrzoo.pretraining.cluster.sinkhorn import assign_codes, measure_usage

SWAV = {"epsilon": 0.05, "iterations": 3}


def draw_scores(rows: int, columns: int, *, dim: int = 16, seed: int = 0) -> torch.Tensor:
    """Return the products of random rows and prototypes of length 1."""
    draws = torch.Generator().manual_seed(seed)
    rows_of, prototypes = (torch.randn(count, dim, generator=draws) for count in (rows, columns))
    return functional.normalize(rows_of, dim=1) @ functional.normalize(prototypes, dim=1).T


def spell_out(scores: torch.Tensor, epsilon: float, iterations: int) -> torch.Tensor:
    """Return the codes element by element in doubles, with all factors of the published formula."""
    q = [[float(torch.exp(score.double() / epsilon)) for score in row] for row in scores]
    rows, columns = range(len(q)), range(len(q[0]))
    total = sum(map(sum, q))
    q = [[value / total for value in row] for row in q]
    for _ in range(iterations):
        masses = [sum(q[i][k] for i in rows) for k in columns]
        q = [[q[i][k] / masses[k] / len(columns) for k in columns] for i in rows]
        q = [[value / sum(row) / len(rows) for value in row] for row in q]
    return torch.tensor([[value * len(rows) for value in row] for row in q])


def test_formula() -> None:
    """The codes are those of the published formula, whose constant factors cancel."""
    scores = draw_scores(12, 5)

    torch.testing.assert_close(spell_out(scores, **SWAV), assign_codes(scores, **SWAV), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("iterations", "tolerance"), [(3, 1e-2), (100, 1e-5)])
def test_masses(iterations: int, tolerance: float) -> None:
    """Each row sums to 1; each prototype has nearly the same mass, and after 100 iterations exactly."""
    codes = assign_codes(draw_scores(4096, 20, dim=128), epsilon=0.05, iterations=iterations)

    torch.testing.assert_close(torch.ones(4096), codes.sum(dim=1), rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.ones(20), codes.sum(dim=0) * 20 / 4096, rtol=0, atol=tolerance)


def test_constant() -> None:
    """A constant that is added to all scores changes nothing, however large the exponentials would be."""
    scores = draw_scores(64, 8)

    torch.testing.assert_close(assign_codes(scores, **SWAV), assign_codes(scores + 8, **SWAV), rtol=1e-4, atol=1e-6)


def test_soft() -> None:
    """A large epsilon makes all codes uniform."""
    codes = assign_codes(draw_scores(64, 8), epsilon=1e4, iterations=3)

    torch.testing.assert_close(torch.full((64, 8), 1 / 8), codes, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_extremes(dtype: torch.dtype) -> None:
    """Scores from -1 to 1, in half precision too, give finite codes with the smallest epsilon that a plan can have."""
    scores = torch.full((6, 4), -1.0)
    scores[0, 0] = 1.0

    codes = assign_codes(scores.to(dtype), epsilon=0.025, iterations=3)

    assert torch.float32 == codes.dtype
    torch.testing.assert_close(torch.ones(6), codes.sum(dim=1))


def test_sets() -> None:
    """Each set is balanced as if it were alone, and one without rows does no harm."""
    scores, members = draw_scores(60, 6), torch.arange(60) % 2 * 2

    codes = assign_codes(scores, **SWAV, members=members, sets=3)

    for number in (0, 2):
        own = members == number
        torch.testing.assert_close(assign_codes(scores[own], **SWAV), codes[own])
    assert bool(codes.isfinite().all())


def test_usage() -> None:
    """Usage is 1 if all prototypes have as many images, 0 if one has all, and the mean of the sets that have images."""
    even, single = torch.eye(4), functional.one_hot(torch.zeros(4, dtype=torch.long), 4).float()
    nobody = torch.zeros(4, dtype=torch.long)

    usages = [measure_usage(codes, nobody) for codes in (even, single)]
    of_sets = measure_usage(torch.cat([even, single]), torch.tensor([0] * 4 + [2] * 4), sets=3)

    assert [1.0, 0.0] == [round(float(usage), 6) for usage in usages]
    assert 0.5 == pytest.approx(float(of_sets))


def assign_own() -> list[torch.Tensor]:
    """Return codes of this process's rows, plain and in sets, and usage; of two processes the first has a third."""
    scores, members = draw_scores(48, 6), torch.arange(48) % 3
    own = slice(None) if ranks.world_size() == 1 else (slice(16), slice(16, None))[ranks.rank()]
    by_set = assign_codes(scores[own], **SWAV, members=members[own], sets=3)
    return [assign_codes(scores[own], **SWAV), by_set, measure_usage(by_set, members[own], sets=3)]


def test_processes(tmp_path: Path) -> None:
    """Two processes with different numbers of rows get what one gets with all of them."""
    first, second = run_processes(assign_own, tmp_path)

    plain, by_set, usage = assign_own()

    torch.testing.assert_close(plain, torch.cat([first[0], second[0]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(by_set, torch.cat([first[1], second[1]]), rtol=0, atol=1e-6)
    torch.testing.assert_close([usage, usage], [first[2], second[2]])


def test_lightly() -> None:
    """lightly's Sinkhorn gives the same codes."""
    loss = pytest.importorskip("lightly.loss.swav_loss")
    scores = draw_scores(64, 10)

    torch.testing.assert_close(loss.sinkhorn(scores, **SWAV), assign_codes(scores, **SWAV), rtol=0, atol=1e-6)
