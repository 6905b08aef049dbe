"""Logistic regressions on one matrix of features, many at once: findings, folds, draws and strengths."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.probes.bases import Basis, make_basis
from cxrzoo.evaluation.probes.descent import Problems, descend

Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]

#: From this many multiplications a product on, float32 goes ahead and float64 only finishes.
LARGE = 1 << 22
#: How far float32 goes, relative to the objective: well above its rounding.
COARSE = 1e-8
#: Margins that are held at once (features times coefficients); more problems are solved one batch after the other.
BATCH = 1 << 26
#: Problems share one basis when the rows of all are at most so many times the rows of each. A basis costs as much as
#: some dozens of fits; rows that a problem does not use cost their share of its products.
SPREAD = 1.6


@dataclass(frozen=True)
class Solution:
    """K fitted problems; `objectives` are the values at `coefficients` (d, K) and `intercepts` (K,)."""

    coefficients: Doubles
    intercepts: Doubles
    objectives: Doubles
    iterations: int
    converged: NDArray[np.bool_]


def fit_logistic(
    features: ArrayLike,
    targets: ArrayLike,
    weights: ArrayLike,
    strengths: ArrayLike,
    *,
    fit_intercept: bool = True,
    tol: float = 1e-8,
    max_iter: int = 500,
) -> Solution:
    """Fit one penalised logistic regression per column of the targets.

    Problem k minimises ½‖w‖² + C_k Σ_i weights_ik · logloss(targets_ik, x_i·w + b), the objective of scikit-learn's
    LogisticRegression with this C and these sample weights; the intercept b is not penalised. Equal problems are
    solved once.

    Args:
        features: (n, d).
        targets: (n, K) of 0 and 1; anything where the weight is 0.
        weights: (n, K), 0 or more; 0 leaves a row out of a problem: a missing label, another fold or draw.
        strengths: C of each problem (K,), above 0.
        fit_intercept: Whether there is an intercept, else it is 0.
        tol: How far an objective may be above its minimum, relative to itself, as far as can be estimated.
        max_iter: Steps after which a problem is left as it stands, in `converged` False.

    Raises:
        EvaluationError: The arrays do not fit together, or a problem has only one class.
    """
    x, y, w, c = _check(features, targets, weights, strengths)
    count = len(c)
    coefficients, intercepts, objectives = np.zeros((x.shape[1], count)), np.zeros(count), np.zeros(count)
    converged, iterations = np.zeros(count, dtype=bool), 0
    originals = _find_originals(y, w, c)
    for rows, columns in _group(w, np.unique(originals)):
        basis = make_basis(x, rows, w[np.ix_(rows, columns)].mean(axis=1), has_intercept=fit_intercept)
        size = max(1, BATCH // len(rows))
        for some in (columns[start : start + size] for start in range(0, len(columns), size)):
            part = np.ix_(rows, some)
            problems = _pose(basis, y[part].T, w[part].T, c[some])
            points, steps = _start(problems, fit_intercept), 0
            if basis.features.size * len(some) >= LARGE:
                # what float32 gets wrong is put right by the second descent, which is mostly one look at the gradient
                rough = descend(problems.round(), points, tol=max(tol, COARSE), max_iter=max_iter)
                points, steps = rough.points, rough.iterations
            end = descend(problems, points, tol=tol, max_iter=max_iter)
            coefficients[:, some], intercepts[some] = basis.give_back(end.points)
            objectives[some], converged[some] = end.values, end.converged
            iterations = max(iterations, steps + end.iterations)
    return Solution(
        coefficients[:, originals], intercepts[originals], objectives[originals], iterations, converged[originals]
    )


def _check(
    features: ArrayLike, targets: ArrayLike, weights: ArrayLike, strengths: ArrayLike
) -> tuple[NDArray[np.floating], Doubles, Doubles, Doubles]:
    """Return the four arrays, targets 0 where they have no weight."""
    x, y = np.asarray(features), np.asarray(targets, dtype=np.float64)
    w, c = np.asarray(weights, dtype=np.float64), np.asarray(strengths, dtype=np.float64)
    if x.ndim != 2 or c.ndim != 1 or y.shape != w.shape or y.shape != (len(x), len(c)) or 0 in y.shape:
        raise EvaluationError(
            f"features {x.shape}, targets {y.shape}, weights {w.shape} and strengths {c.shape} do not fit together; "
            "expected (n, d), (n, K), (n, K) and (K,)"
        )
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(np.float64)
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise EvaluationError(f"features of position {row} are NaN or infinite; expected numbers; leave the row out")
    if not (np.isfinite(w) & (w >= 0)).all():
        raise EvaluationError("a weight is below 0 or no number; expected 0 or more; give 0 to leave a row out")
    if not (np.isfinite(c) & (c > 0)).all():
        found = c[~(np.isfinite(c) & (c > 0))][0]
        raise EvaluationError(f"a strength C is {found:g}; expected a number above 0; smaller is a stronger penalty")
    y = np.where(w > 0, y, 0)
    if not np.isin(y, (0, 1)).all():
        raise EvaluationError("targets hold other values than 0 and 1; give other labels the weight 0")
    positive, total = (y * w).sum(axis=0), w.sum(axis=0)
    for k in np.flatnonzero((positive <= 0) | (positive >= total)):
        found = "no rows" if total[k] <= 0 else f"only the class {int(positive[k] > 0)}"
        raise EvaluationError(
            f"column {k} of the targets (counted from 0) has {found} among its weighted rows; expected 0 and 1; "
            "give it more rows, or leave the column out"
        )
    return x, y, w, c


def _find_originals(y: Doubles, w: Doubles, c: Doubles) -> Integers:
    """Return for each problem the first that is equal to it."""
    seen: dict[bytes, int] = {}
    keys = (y[:, k].astype(bool).tobytes() + w[:, k].tobytes() + c[k].tobytes() for k in range(len(c)))
    return np.array([seen.setdefault(key, k) for k, key in enumerate(keys)], dtype=np.int64)


def _group(w: Doubles, columns: Integers) -> Iterator[tuple[Integers, Integers]]:
    """Yield rows and columns of problems that share a basis, such as the folds and findings of one draw."""
    used = w[:, columns] > 0
    groups: list[tuple[NDArray[np.bool_], list[int]]] = []
    places: dict[bytes, int] = {}
    for k in np.argsort(-used.sum(axis=0), kind="stable"):
        own = used[:, k]
        place = places.get(own.tobytes())
        if place is None:
            limit = SPREAD * own.sum()
            fits = (number for number, (rows, _) in enumerate(groups) if np.count_nonzero(rows | own) <= limit)
            place = places[own.tobytes()] = next(fits, len(groups))
        if place == len(groups):
            groups.append((own.copy(), []))
        groups[place][0][:] |= own
        groups[place][1].append(columns[k])
    for rows, members in groups:
        yield np.flatnonzero(rows), np.sort(members)


def _pose(basis: Basis, targets: Doubles, weights: Doubles, strengths: Doubles) -> Problems:
    targets, weights = np.ascontiguousarray(targets), np.ascontiguousarray(weights)
    return Problems(basis.features, targets, weights, strengths, basis.penalty, basis.spectrum)


def _start(problems: Problems, has_intercept: bool) -> Doubles:
    """Return coefficients of 0, and intercepts that give every row the share of positives."""
    points = np.zeros((len(problems.strengths), problems.features.shape[1]))
    if has_intercept:
        positive = np.einsum("kn,kn->k", problems.targets, problems.weights)
        points[:, -1] = np.log(positive / (problems.weights.sum(axis=1) - positive))
    return points
