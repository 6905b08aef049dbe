"""Many logistic regressions at once: each has the minimum that scikit-learn finds for it alone."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.probes import solver
from cxrzoo.evaluation.probes.solver import fit_logistic

Doubles = NDArray[np.float64]


def make_problem(rows: int, width: int, count: int, seed: int = 0) -> tuple[Doubles, Doubles]:
    """Return correlated features with a power-law spectrum, and noisy labels of 10 to 50 % positives."""
    rng = np.random.default_rng([seed, rows, width])
    features = rng.normal(size=(rows, width)) * np.arange(1, width + 1) ** -0.5 @ rng.normal(size=(width, width))
    scores = features @ rng.normal(size=(width, count))
    scores = scores / scores.std(axis=0) + rng.logistic(size=(rows, count))
    limits = [np.quantile(scores[:, k], share) for k, share in enumerate(np.linspace(0.5, 0.9, count))]
    return features, (scores > limits).astype(float)


def evaluate(features: Doubles, target: Doubles, weight: Doubles, strength: float, w: Doubles, b: float) -> float:
    """Return the objective of one problem, written out."""
    margin = features @ w + b
    losses = np.logaddexp(0, np.where(target > 0, -margin, margin))
    return float(strength * (weight * losses)[weight > 0].sum() + w @ w / 2)


def measure_gap(features: Doubles, target: Doubles, weight: Doubles, strength: float, w: Doubles, b: float) -> float:
    """Return how far above the minimum a solution is, by the exact gradient and Hessian: half the Newton decrement."""
    with_ones = np.column_stack([features, np.ones(len(features))])
    penalty = np.append(np.ones(features.shape[1]), 0)
    p = 1 / (1 + np.exp(-np.clip(features @ w + b, -500, 500)))
    gradient = strength * with_ones.T @ (weight * (p - target)) + penalty * np.append(w, b)
    hessian = strength * (with_ones.T * (weight * p * (1 - p))) @ with_ones + np.diag(penalty)
    scale = np.diag(hessian) ** -0.5
    step = np.linalg.lstsq(hessian * np.outer(scale, scale), gradient * scale, rcond=1e-13)[0]
    return float(step @ (gradient * scale) / 2)


def fit_alone(features: Doubles, target: Doubles, weight: Doubles, strength: float, intercept: bool = True):
    """Return what scikit-learn finds by Newton's method for one problem."""
    used = weight > 0
    model = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-10, max_iter=1000, fit_intercept=intercept)
    model.fit(features[used], target[used], sample_weight=weight[used])
    return model.coef_[0], float(np.ravel(model.intercept_)[0]) if intercept else 0.0


PLAIN = (lambda x: x, lambda y: y, lambda w: w)


def scale_columns(x: Doubles) -> Doubles:
    return x * np.geomspace(1e-3, 1e3, x.shape[1])


def repeat_columns(x: Doubles) -> Doubles:
    return x[:, np.arange(x.shape[1]) // 2]


def fix_columns(x: Doubles) -> Doubles:
    return np.where(np.arange(x.shape[1]) % 3 == 0, 0.1, x)


def make_rare(y: Doubles) -> Doubles:
    return y * (np.cumsum(y, axis=0) <= 3)


def vary(w: Doubles) -> Doubles:
    return np.random.default_rng(1).exponential(size=w.shape)


def drop_some(w: Doubles) -> Doubles:
    return w * (np.random.default_rng(2).random(w.shape) < 0.6)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize(
    ("rows", "width", "strength", "features", "labels", "weights"),
    [
        pytest.param(200, 20, 1.0, *PLAIN, id="more rows"),
        pytest.param(40, 150, 1.0, *PLAIN, id="more features"),
        pytest.param(50, 50, 1.0, *PLAIN, id="square"),
        pytest.param(100, 1, 1.0, *PLAIN, id="one feature"),
        pytest.param(300, 30, 1e-6, *PLAIN, id="strong penalty"),
        pytest.param(300, 30, 1e5, *PLAIN, id="weak penalty"),
        pytest.param(40, 80, 1e3, *PLAIN, id="separable"),
        pytest.param(300, 30, 1.0, lambda x: x, make_rare, lambda w: w, id="three positives"),
        pytest.param(200, 30, 1.0, lambda x: x, lambda y: y, vary, id="weights"),
        pytest.param(200, 30, 1.0, lambda x: x, lambda y: y, drop_some, id="missing labels"),
        pytest.param(200, 30, 1.0, scale_columns, lambda y: y, lambda w: w, id="scales"),
        pytest.param(200, 30, 1.0, lambda x: x * 1e5, lambda y: y, lambda w: w, id="huge features"),
        pytest.param(200, 30, 1.0, lambda x: x * 1e-9, lambda y: y, lambda w: w, id="tiny features"),
        pytest.param(200, 30, 1.0, lambda x: x + 100, lambda y: y, lambda w: w, id="far from 0"),
        pytest.param(200, 30, 1.0, repeat_columns, lambda y: y, lambda w: w, id="repeated features"),
        pytest.param(200, 30, 1.0, fix_columns, lambda y: y, lambda w: w, id="constant features"),
        pytest.param(50, 80, 1.0, fix_columns, lambda y: y, drop_some, id="constant features of few rows"),
    ],
)
def test_minimum_is_that_of_scikit_learn(
    rows: int,
    width: int,
    strength: float,
    features: Callable[[Doubles], Doubles],
    labels: Callable[[Doubles], Doubles],
    weights: Callable[[Doubles], Doubles],
    intercept: bool,
) -> None:
    """The objective of every problem, recomputed, is the one reported and no more than 1e-7 above scikit-learn's."""
    x, y = make_problem(rows, width, 4)
    x, y, w = features(x), labels(y), weights(np.ones(y.shape))

    found = fit_logistic(x, y, w, np.full(4, strength), fit_intercept=intercept)

    assert found.converged.all()
    for k in range(4):
        problem = x, y[:, k], w[:, k], strength
        value = evaluate(*problem, found.coefficients[:, k], found.intercepts[k])
        assert found.objectives[k] == pytest.approx(value, rel=1e-7)
        assert value <= evaluate(*problem, *fit_alone(*problem, intercept)) * (1 + 1e-7)


@pytest.mark.parametrize(("rows", "width"), [(200, 20), (40, 150)])
def test_coefficients_are_those_of_scikit_learn(rows: int, width: int) -> None:
    """With a tight tolerance, coefficients and intercepts agree to six digits."""
    x, y = make_problem(rows, width, 3)
    w = vary(np.ones(y.shape))

    found = fit_logistic(x, y, w, [0.1, 1, 10], tol=1e-14)

    for k, strength in enumerate([0.1, 1, 10]):
        coefficients, intercept = fit_alone(x, y[:, k], w[:, k], strength)
        np.testing.assert_allclose(found.coefficients[:, k], coefficients, atol=1e-6 * np.abs(coefficients).max())
        assert found.intercepts[k] == pytest.approx(intercept, abs=1e-6)


def test_large_problems_lose_nothing_to_float32() -> None:
    """Problems so large that they begin in float32 end as near to their minimum as others."""
    x, y = make_problem(1200, 250, 16)
    assert x.size * 16 >= solver.LARGE
    w = drop_some(np.ones(y.shape))

    found = fit_logistic(x.astype(np.float32), y, w, np.ones(16))

    x = x.astype(np.float32).astype(np.float64)
    gaps = [measure_gap(x, y[:, k], w[:, k], 1, found.coefficients[:, k], found.intercepts[k]) for k in range(8)]
    assert (gaps <= 1e-7 * found.objectives[:8]).all()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(8, 120),
    width=st.integers(1, 120),
    strength=st.floats(-4, 2).map(lambda power: 10**power),
    scale=st.floats(-4, 2).map(lambda power: 10**power),
)
def test_gradient_vanishes(seed: int, rows: int, width: int, strength: float, scale: float) -> None:
    """Whatever the problem, the exact gradient and Hessian place the solution within 1e-6 of the minimum."""
    x, y = make_problem(rows, width, 2, seed)
    x, w = x * scale, drop_some(np.ones(y.shape))
    w[y.argmax(axis=0), [0, 1]] = w[y.argmin(axis=0), [0, 1]] = 1  # both classes in both

    found = fit_logistic(x, y, w, [strength, strength / 10])

    for k, c in enumerate([strength, strength / 10]):
        problem = x, y[:, k], w[:, k], c
        end = found.coefficients[:, k], found.intercepts[k]
        assert measure_gap(*problem, *end) <= 1e-6 * evaluate(*problem, *end)


def test_weights_count_as_repetitions() -> None:
    """A row of weight 3 is three rows, and one of weight 0 is none."""
    x, y = make_problem(60, 90, 1)
    times = np.arange(60) % 4

    weighted = fit_logistic(x, y, times[:, None], [1.0], tol=1e-13)
    repeated = fit_logistic(
        np.repeat(x, times, axis=0), np.repeat(y, times, axis=0), np.ones((90, 1)), [1.0], tol=1e-13
    )

    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, atol=1e-6)


def test_what_has_no_weight_has_no_influence() -> None:
    """NaN, and any other label, may stand where the weight is 0."""
    x, y = make_problem(50, 10, 2)
    w = drop_some(np.ones(y.shape))

    first, second = fit_logistic(x, y, w, [1, 1]), fit_logistic(x, np.where(w > 0, y, np.nan), w, [1, 1])

    assert np.array_equal(first.coefficients, second.coefficients)


def test_equal_problems_are_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that repeat others get their solution without being solved."""
    solved: list[int] = []
    descend = solver.descend
    monkeypatch.setattr(
        solver, "descend", lambda problems, *a, **k: solved.append(len(a[0])) or descend(problems, *a, **k)
    )
    x, y = make_problem(50, 10, 2)
    order = [0, 1, 0, 0, 1]

    found = fit_logistic(x, y[:, order], np.ones((50, 5)), [1, 1, 1, 2, 1])

    assert [3] == solved
    assert np.array_equal(found.coefficients[:, 0], found.coefficients[:, 2])
    assert np.array_equal(found.coefficients[:, 1], found.coefficients[:, 4])
    assert not np.array_equal(found.coefficients[:, 0], found.coefficients[:, 3])


def test_folds_share_a_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five folds are solved in one basis, and a draw of a tenth of the rows in its own, which has no more rows."""
    sizes: list[int] = []
    make_basis = solver.make_basis
    monkeypatch.setattr(
        solver, "make_basis", lambda x, rows, *a, **k: sizes.append(len(rows)) or make_basis(x, rows, *a, **k)
    )
    x, y = make_problem(200, 10, 1)
    folds = [np.arange(200) % 5 != fold for fold in range(5)]
    weights = np.stack([*folds, np.arange(200) < 20], axis=1)

    fit_logistic(x, np.repeat(y, 6, axis=1), weights, np.ones(6))

    assert [200, 20] == sizes


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Problems that are solved one batch after the other are solved as they are together."""
    x, y = make_problem(80, 20, 5)
    together = fit_logistic(x, y, np.ones(y.shape), np.ones(5), tol=1e-13)
    monkeypatch.setattr(solver, "BATCH", 160)

    apart = fit_logistic(x, y, np.ones(y.shape), np.ones(5), tol=1e-13)

    np.testing.assert_allclose(together.coefficients, apart.coefficients, atol=1e-6)


def test_too_few_steps_are_told() -> None:
    """A problem that had too few steps is marked, and still better than none."""
    x, y = make_problem(200, 50, 1)

    found = fit_logistic(x, y, np.ones(y.shape), [10.0], max_iter=2)

    assert [False] == found.converged.tolist()
    share = y.mean()
    assert found.objectives[0] < -10 * 200 * (share * np.log(share) + (1 - share) * np.log(1 - share))


def test_many_features_without_variance() -> None:
    """Features that are all constant leave the intercept: the logit of the share of positives."""
    found = fit_logistic(np.full((8, 3), 0.1), np.eye(8)[:, :2].sum(axis=1, keepdims=True), np.ones((8, 1)), [1.0])

    assert found.intercepts[0] + 0.1 * found.coefficients[:, 0].sum() == pytest.approx(np.log(2 / 6), abs=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": np.eye(4)[:, [0, 0, 0]] * [1, 0, 1]}, r"column 1 .* only the class 0"),
        ({"targets": np.ones((4, 3))}, r"column 0 .* only the class 1"),
        ({"weights": np.ones((4, 3)) * [1, 1, 0]}, r"column 2 .* no rows"),
        ({"weights": -np.ones((4, 3))}, r"weight is below 0"),
        ({"weights": np.full((4, 3), np.nan)}, r"weight is below 0 or no number"),
        ({"strengths": [1, 0, 1]}, r"strength C is 0; expected a number above 0"),
        ({"strengths": [1, 1]}, r"do not fit together; expected \(n, d\)"),
        ({"features": np.ones((5, 2))}, r"do not fit together"),
        ({"features": np.array([[0, 1], [0, np.nan], [2, 2], [3, 3]])}, r"position 1 are NaN or infinite"),
        ({"targets": np.full((4, 3), 2)}, r"other values than 0 and 1"),
    ],
)
def test_impossible_problems(change: dict[str, object], message: str) -> None:
    """What can't be fitted is refused, and the message says which column or value it was."""
    arguments = {
        "features": np.arange(8.0).reshape(4, 2),
        "targets": np.eye(4)[:, :3],
        "weights": np.ones((4, 3)),
        "strengths": [1, 1, 1],
    }

    with pytest.raises(EvaluationError, match=message):
        fit_logistic(**{**arguments, **change})
