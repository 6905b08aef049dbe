"""LinearProbe: a scikit-learn classifier with the minimum of LogisticRegression, for tables of findings too."""

import pickle

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.probes import LinearProbe

Doubles = NDArray[np.float64]


def make_embeddings(rows: int = 150, width: int = 12, findings: int = 3) -> tuple[Doubles, Doubles]:
    rng = np.random.default_rng(7)
    features = 5 + rng.normal(size=(rows, width)) * np.geomspace(1, 0.1, width)
    scores = (features - 5) @ rng.normal(size=(width, findings)) + rng.normal(size=(rows, findings))
    return features, (scores > 0.5).astype(float)


def make_peer(**options: object) -> LogisticRegression:
    return LogisticRegression(solver="newton-cholesky", tol=1e-10, **options)


@pytest.mark.parametrize(
    "probe",
    [LinearProbe(), LinearProbe(standardise=False, tol=1e-6), LinearProbe(C=10, class_weight="balanced")],
    ids=["default", "as given", "balanced"],
)
def test_probe_is_a_classifier(probe: LinearProbe) -> None:
    """LinearProbe passes every check that scikit-learn has for classifiers, none expected to fail."""
    results = check_estimator(probe, on_fail=None, on_skip=None)

    assert [] == [result["check_name"] for result in results if result["status"] in ("failed", "xfail")]


@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 1, 1: 5}])
def test_two_classes(standardise: bool, class_weight: object) -> None:
    """Coefficients, in units of the given features, and probabilities are those of LogisticRegression."""
    x, y = make_embeddings()
    scaler = StandardScaler(with_mean=standardise, with_std=standardise)
    peer = make_peer(class_weight=class_weight).fit(scaler.fit_transform(x), y[:, 0])

    probe = LinearProbe(standardise=standardise, class_weight=class_weight, tol=1e-14).fit(x, y[:, 0])

    expected = peer.coef_ / scaler.scale_ if standardise else peer.coef_
    np.testing.assert_allclose(expected, probe.coef_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(peer.predict_proba(scaler.transform(x)), probe.predict_proba(x), atol=1e-6)


def test_sample_weights() -> None:
    """Sample weights weigh losses, means and deviations: integers are as good as repeated rows."""
    x, y = make_embeddings()
    times = np.arange(150) % 3

    weighted = LinearProbe(class_weight="balanced", tol=1e-13).fit(x, y[:, 0], sample_weight=times)
    repeated = LinearProbe(class_weight="balanced", tol=1e-13).fit(np.repeat(x, times, 0), np.repeat(y[:, 0], times))

    np.testing.assert_allclose(weighted.coef_, repeated.coef_, atol=1e-6)
    np.testing.assert_allclose(weighted.intercept_, repeated.intercept_, atol=1e-5)


def test_several_classes() -> None:
    """More than two classes are fitted each against the rest, and probabilities add up to 1."""
    x, y = make_embeddings()
    names = np.array(["normal", "one", "several"])[np.minimum(y.sum(axis=1).astype(int), 2)]
    peer = OneVsRestClassifier(make_peer()).fit(x, names)

    probe = LinearProbe(standardise=False, tol=1e-13).fit(x, names)

    np.testing.assert_allclose(peer.predict_proba(x), probe.predict_proba(x), atol=1e-6)
    assert peer.predict(x).tolist() == probe.predict(x).tolist()


@pytest.mark.parametrize("class_weight", [None, "balanced", {1: 3.0}])
def test_table_of_findings_with_gaps(class_weight: object) -> None:
    """Every finding of a table is fitted as if alone, on the rows that have a label of it."""
    x, y = make_embeddings()
    y[np.random.default_rng(1).random(y.shape) < 0.3] = np.nan

    probe = LinearProbe(standardise=False, class_weight=class_weight, tol=1e-13).fit(x, y)

    assert (150, 3) == probe.predict_proba(x).shape == probe.decision_function(x).shape == probe.predict(x).shape
    for finding in range(3):
        known = ~np.isnan(y[:, finding])
        peer = make_peer(class_weight=class_weight).fit(x[known], y[known, finding])
        np.testing.assert_allclose(peer.predict_proba(x)[:, 1], probe.predict_proba(x)[:, finding], atol=1e-6)


def test_rows_without_any_label_do_not_count() -> None:
    """Standardising takes no notice of rows of a table that have no label at all."""
    x, y = make_embeddings()
    y[:30] = np.nan
    x[:30] *= 100

    with_them, without = LinearProbe(tol=1e-12).fit(x, y), LinearProbe(tol=1e-12).fit(x[30:], y[30:])

    np.testing.assert_allclose(without.coef_, with_them.coef_, atol=1e-6)


def test_table_of_one_finding_stays_a_table() -> None:
    """One column of 1, 0 and NaN gives one column of probabilities, those of a finding alone."""
    x, y = make_embeddings()

    table, single = LinearProbe().fit(x, pd.DataFrame({"effusion": y[:, 0]})), LinearProbe().fit(x, y[:, 0])

    np.testing.assert_allclose(single.predict_proba(x)[:, [1]], table.predict_proba(x))


def test_constant_features_have_no_say() -> None:
    """A feature that is constant in the fitted rows gets the coefficient 0, however it differs elsewhere."""
    x, y = make_embeddings()
    x[:, 4] = 0.1

    assert 0 == LinearProbe().fit(x, y[:, 0]).coef_[0, 4]


def test_grid_search_finds_a_fitting_strength() -> None:
    """Inside a pipeline, a grid search sets C and picks one that is neither far too strong nor the default."""
    x, y = make_embeddings()
    search = GridSearchCV(
        make_pipeline(Normalizer(), LinearProbe(standardise=False)),
        {"linearprobe__C": [1e-6, 1e4]},
        scoring="neg_log_loss",
        cv=3,
    )

    assert {"linearprobe__C": 1e4} == search.fit(x, y[:, 0]).best_params_


def test_cross_validation() -> None:
    """cross_val_score gives what LogisticRegression gets."""
    x, y = make_embeddings()

    scores = cross_val_score(LinearProbe(standardise=False), x, y[:, 0], scoring="roc_auc", cv=4)

    np.testing.assert_allclose(cross_val_score(make_peer(), x, y[:, 0], scoring="roc_auc", cv=4), scores, atol=5e-3)


def test_pickle_and_clone() -> None:
    """A fitted probe predicts the same after pickling; its clone is unfitted and has its parameters."""
    x, y = make_embeddings()
    probe = LinearProbe(C=0.3, class_weight="balanced").fit(x, y)

    assert np.array_equal(probe.predict_proba(x), pickle.loads(pickle.dumps(probe)).predict_proba(x))
    assert probe.get_params() == clone(probe).get_params()
    assert not hasattr(clone(probe), "coef_")


def test_too_few_steps_are_told() -> None:
    """A probe that had too few steps warns, and the message says what to change."""
    x, y = make_embeddings()

    with pytest.warns(ConvergenceWarning, match="1 of 1 logistic regressions .* raise max_iter"):
        LinearProbe(max_iter=1).fit(x, y[:, 0])


@pytest.mark.parametrize(
    ("probe", "labels", "message"),
    [
        (LinearProbe(), np.zeros(150), "y holds one class only"),
        (LinearProbe(), np.column_stack([np.arange(150) % 2, np.ones(150)]), "column 1 .* only the class 1"),
        (LinearProbe(), np.column_stack([np.arange(150) % 2, np.arange(150) % 3 - 1]), "y holds -1"),
        (LinearProbe(C=0), np.arange(150) % 2, "C is 0; expected a number above 0"),
        (LinearProbe(class_weight="equal"), np.arange(150) % 2, "'equal'; expected 'balanced'"),
    ],
)
def test_impossible_fits(probe: LinearProbe, labels: NDArray[np.generic], message: str) -> None:
    """What can't be fitted is refused, and the message says what it was."""
    with pytest.raises(EvaluationError, match=message):
        probe.fit(make_embeddings()[0], labels)
