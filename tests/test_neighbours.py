"""Votes of the nearest labelled embeddings, against the definition written out."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.utils.estimator_checks import check_estimator

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.probes import neighbours
from cxrzoo.evaluation.probes.neighbours import NeighbourProbe, score_neighbours

Doubles = NDArray[np.float64]


def count_votes(train: Doubles, labels: Doubles, query: Doubles, k: int, temperature: float) -> list[float]:
    """Return the shares of positive votes for one query, row by row."""
    shares = []
    for finding in range(labels.shape[1]):
        voters = []
        for row, label in zip(train, labels[:, finding], strict=True):
            if not np.isnan(label):
                voters.append((row @ query / np.sqrt(row @ row) / np.sqrt(query @ query), label))
        nearest = sorted(voters, reverse=True)[:k]
        votes = [(np.exp(similarity / temperature), label) for similarity, label in nearest]
        shares.append(sum(vote * label for vote, label in votes) / sum(vote for vote, _ in votes))
    return shares


def make_embeddings(gaps: float) -> tuple[Doubles, Doubles, Doubles]:
    rng = np.random.default_rng(3)
    labels = (rng.random((60, 4)) < 0.4).astype(float)
    labels[rng.random(labels.shape) < gaps] = np.nan
    return rng.normal(size=(60, 8)), labels, rng.normal(size=(25, 8))


@pytest.mark.parametrize("gaps", [0.0, 0.3])
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (20, 1.0), (500, 0.07)])
def test_votes_are_those_of_the_definition(gaps: float, k: int, temperature: float) -> None:
    """The k nearest rows with a label vote by exp(cosine / temperature); rows without one do not."""
    train, labels, queries = make_embeddings(gaps)

    shares = score_neighbours(train, labels, queries, k=k, temperature=temperature)

    expected = [count_votes(train, labels, query, k, temperature) for query in queries]
    np.testing.assert_allclose(expected, shares, rtol=1e-9, atol=1e-12)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries that are scored in blocks get the votes they get together."""
    train, labels, queries = make_embeddings(0.3)
    together = score_neighbours(train, labels, queries)
    monkeypatch.setattr(neighbours, "BLOCK", 100)

    assert np.allclose(together, score_neighbours(train, labels, queries), rtol=1e-9)


def test_length_does_not_count() -> None:
    """Embeddings are compared by their direction alone."""
    train, labels, queries = make_embeddings(0)

    scaled = score_neighbours(train * np.arange(1, 61)[:, None], labels, queries * 1e3)

    assert np.allclose(score_neighbours(train, labels, queries), scaled, rtol=1e-9)


def test_finding_without_labels_has_no_score() -> None:
    """A finding that no row has a label of gets NaN, the others their votes."""
    train, labels, queries = make_embeddings(0)
    labels[:, 2] = np.nan

    shares = score_neighbours(train, labels, queries)

    assert [False, False, True, False] == np.isnan(shares).all(axis=0).tolist()
    assert 1 == np.isnan(shares).any(axis=0).sum()


def test_low_temperature_leaves_the_nearest() -> None:
    """At a temperature at which exp(1 / temperature) overflows, the nearest row decides."""
    train, labels, queries = make_embeddings(0)

    cold = score_neighbours(train, labels, queries, temperature=1e-7)

    np.testing.assert_allclose(score_neighbours(train, labels, queries, k=1), cold, atol=1e-6)


def test_embedding_of_length_0_is_equally_far_from_all() -> None:
    """A query without direction gets the share of positives of those who vote."""
    train, labels, _ = make_embeddings(0)

    shares = score_neighbours(train, labels, np.zeros((1, 8)), k=60)

    np.testing.assert_allclose(labels.mean(axis=0), shares[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": np.ones((2, 7))}, "do not fit together"),
        ({"labels": np.ones((59, 4))}, "do not fit together"),
        ({"labels": np.ones(60)}, "do not fit together"),
        ({"k": 0}, "k is 0"),
        ({"temperature": 0.0}, "temperature 0.0; expected"),
    ],
)
def test_impossible_votes(change: dict[str, object], message: str) -> None:
    """Arrays that do not fit, and a k or temperature out of range, are refused."""
    train, labels, queries = make_embeddings(0)

    with pytest.raises(EvaluationError, match=message):
        score_neighbours(**{"train": train, "labels": labels, "queries": queries, **change})


def test_probe_is_a_classifier() -> None:
    """NeighbourProbe passes every check that scikit-learn has for classifiers."""
    results = check_estimator(NeighbourProbe(), on_fail=None, on_skip=None)

    assert [] == [result["check_name"] for result in results if result["status"] in ("failed", "xfail")]


def test_probe_votes_as_the_function_does() -> None:
    """NeighbourProbe gives the shares of votes as probabilities."""
    train, labels, queries = make_embeddings(0.2)

    probe = NeighbourProbe(k=5, temperature=0.2).fit(train, labels)

    assert np.array_equal(score_neighbours(train, labels, queries, k=5, temperature=0.2), probe.predict_proba(queries))
