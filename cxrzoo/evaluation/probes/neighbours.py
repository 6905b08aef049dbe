"""Votes of the nearest labelled embeddings, as in DINO's evaluation (Caron et al. 2021, appendix F.1)."""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_consistent_length, validate_data

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.probes.labelling import Doubles, Probe, hold_labels

#: Neighbours that vote, and the temperature of their votes: what DINO found best and fixed for all its models.
NEIGHBOURS, TEMPERATURE = 20, 0.07
#: Similarities that are held at once.
BLOCK = 1 << 24


def score_neighbours(
    train: ArrayLike,
    labels: ArrayLike,
    queries: ArrayLike,
    *,
    k: int = NEIGHBOURS,
    temperature: float = TEMPERATURE,
) -> Doubles:
    """Return the share of positive votes (Q, F) for each query and finding.

    The k labelled rows that are nearest by cosine similarity vote, each with the weight exp(similarity / temperature).
    A row whose label of a finding is NaN has no vote there, and the next one takes its place. All vote where there are
    fewer than k. A finding without any label has NaN.

    Args:
        train: Embeddings (n, d).
        labels: 1, 0 or NaN (n, F).
        queries: Embeddings (Q, d).
        k: How many vote.
        temperature: How soon votes fade with distance; above 0.

    Raises:
        EvaluationError: The arrays do not fit together, or k or temperature is out of range.
    """
    x, y, q = np.asarray(train), np.asarray(labels, dtype=np.float64), np.asarray(queries)
    if x.ndim != 2 or q.ndim != 2 or y.ndim != 2 or x.shape[1] != q.shape[1] or len(x) != len(y):
        raise EvaluationError(
            f"train {x.shape}, labels {y.shape} and queries {q.shape} do not fit together; "
            "expected (n, d), (n, F) and (Q, d)"
        )
    if k < 1 or not temperature > 0:
        raise EvaluationError(f"k is {k} and temperature {temperature}; expected 1 or more, and above 0")
    x, q = _normalise(x), _normalise(q)
    known = ~np.isnan(y)
    patterns, owners = np.unique(known, axis=1, return_inverse=True)
    shares = np.full((len(q), y.shape[1]), np.nan)
    for number in range(patterns.shape[1]):
        rows, findings = np.flatnonzero(patterns[:, number]), np.flatnonzero(owners.ravel() == number)
        size = max(1, BLOCK // max(1, len(rows)))
        for start in range(0, len(q) if len(rows) else 0, size):
            part = slice(start, start + size)
            shares[part, findings] = _vote(q[part] @ x[rows].T, y[np.ix_(rows, findings)], k, temperature)
    return shares


def _vote(similarities: NDArray[np.floating], labels: Doubles, k: int, temperature: float) -> Doubles:
    """Return the shares of positive votes (Q, F), of similarities (Q, n) and labels (n, F) without gaps."""
    if k < similarities.shape[1]:
        nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        similarities, votes = np.take_along_axis(similarities, nearest, axis=1), labels[nearest]
    else:
        votes = np.broadcast_to(labels, (len(similarities), *labels.shape))
    # relative to the nearest: exp(1 / temperature) overflows from a temperature of .0014 on
    weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)).astype(np.float64) / temperature)
    shares: Doubles = np.einsum("qn,qnf->qf", weights, votes) / weights.sum(axis=1, keepdims=True)
    return shares


def _normalise(embeddings: NDArray[Any]) -> NDArray[np.floating]:
    """Return embeddings of length 1; one of length 0 is equally far from all."""
    if not np.issubdtype(embeddings.dtype, np.floating):
        embeddings = embeddings.astype(np.float64)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit: NDArray[np.floating] = embeddings / np.where(lengths > 0, lengths, 1)
    return unit


class NeighbourProbe(Probe):
    """Votes of the nearest embeddings, for one finding, several classes, or a table of findings with gaps.

    Labels are those that LinearProbe takes; `score_neighbours` says how the votes are counted.

    Args:
        k: How many rows vote.
        temperature: How soon votes fade with distance.
    """

    def __init__(self, k: int = NEIGHBOURS, temperature: float = TEMPERATURE) -> None:
        self.k = k
        self.temperature = temperature

    def fit(self, X: Any, y: Any) -> Self:
        """Remember features (n, d) and labels."""
        self._features = validate_data(self, X, dtype=[np.float64, np.float32])
        labels = hold_labels(y)
        check_consistent_length(self._features, labels)
        columns = self._learn_columns(labels)
        self._labels = np.where(columns.known, columns.targets, np.nan)
        return self

    def _estimate(self, features: Any) -> Doubles:
        queries = validate_data(self, features, dtype=[np.float64, np.float32], reset=False)
        return score_neighbours(self._features, self._labels, queries, k=self.k, temperature=self.temperature)
