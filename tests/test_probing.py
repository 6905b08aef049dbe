"""Probes on every draw: what they give, what their strength is chosen by, and what they may not look at."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cxrzoo.evaluation.probes.draws import Probed, _assign_folds, probe_draws
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.statistics.metrics import auroc

IMAGES = 300
TRAIN, VALID, TEST = np.arange(200), np.arange(200, 240), np.arange(240, 300)


def make_data(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings of 12 numbers, two findings that depend on them, and a patient for every two images."""
    random = np.random.default_rng(seed)
    embeddings = (random.normal(size=(IMAGES, 12)) * 3 + 5).astype(np.float32)
    truth = (embeddings - 5) @ random.normal(size=(12, 2)) / 6
    labels = (random.random((IMAGES, 2)) < 1 / (1 + np.exp(-truth))).astype(float)
    return embeddings, labels, np.array([f"p{i // 2}" for i in range(IMAGES)])


def probe(labels: np.ndarray, rows: np.ndarray = TRAIN, seed: int = 0, **options: object) -> Probed:
    """Return what one draw of these rows gives."""
    embeddings, _, groups = make_data(seed)
    settings = {
        "mode": "linear",
        "strengths": (1e-4, 1e-2, 1.0),
        "choose": "cross-validation",
        "folds": 5,
        "scale": TRAIN,
    } | options
    (found,) = probe_draws(embeddings, labels, groups, [Draw("all", 1, rows, VALID, ())], TEST, **settings)  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("strength", [1e-4, 0.1, 10.0])
def test_linear_probe_is_logistic_regression(strength: float) -> None:
    """With one strength the logits are those of scikit-learn's logistic regression on standardised embeddings."""
    embeddings, labels, _ = make_data()
    scaler = StandardScaler().fit(embeddings[TRAIN].astype(np.float64))

    found = probe(labels, strengths=(strength,))

    for column in (0, 1):
        peer = LogisticRegression(C=strength, tol=1e-10, max_iter=5000)
        peer.fit(scaler.transform(embeddings[TRAIN].astype(np.float64)), labels[TRAIN, column])
        for part, rows in ((found.test, TEST), (found.valid, VALID)):
            expected = peer.decision_function(scaler.transform(embeddings[rows].astype(np.float64)))
            np.testing.assert_allclose(part[:, column], expected, atol=1e-4)


def test_missing_labels_leave_their_rows_out() -> None:
    """A finding is fitted on the rows that have a label of it, and the other findings don't change."""
    _, labels, _ = make_data()
    gaps = labels.copy()
    gaps[:60, 0] = np.nan

    found, whole = probe(gaps, strengths=(1.0,)), probe(labels, strengths=(1.0,))
    flipped = labels.copy()
    flipped[60:, 0] = labels[60:, 0]
    embeddings = make_data()[0].astype(np.float64)
    scaler = StandardScaler().fit(embeddings[TRAIN])  # of all images of the draw: the network saw them all
    peer = LogisticRegression(tol=1e-10, max_iter=5000).fit(scaler.transform(embeddings[60:200]), labels[60:200, 0])

    expected = peer.decision_function(scaler.transform(embeddings[TEST]))
    np.testing.assert_allclose(found.test[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(found.test[:, 1], whole.test[:, 1], atol=1e-3)


@pytest.mark.parametrize("choose", ["cross-validation", "validation"])
def test_test_labels_are_never_looked_at(choose: str) -> None:
    """Other labels of the test images give the same logits; in cross-validation, those of validation images, too."""
    _, labels, _ = make_data()
    other = labels.copy()
    other[TEST] = 1 - other[TEST]
    if choose == "cross-validation":
        other[VALID] = 1 - other[VALID]

    np.testing.assert_array_equal(probe(labels, choose=choose).test, probe(other, choose=choose).test)


def test_strength_is_the_best_of_the_folds() -> None:
    """The strength has the least log loss on held-out patients, as a loop over scikit-learn finds it."""
    embeddings, labels, groups = make_data(3)
    strengths = (1e-5, 1e-3, 1e-1, 10.0)
    features = StandardScaler().fit_transform(embeddings[TRAIN].astype(np.float64))
    found = probe(labels, seed=3, strengths=strengths)

    for column in (0, 1):
        targets = labels[TRAIN, column]
        fold = _assign_folds(targets, np.ones(len(TRAIN)), groups[TRAIN], 5)
        losses = []
        for strength in strengths:
            total = 0.0
            for number in range(5):
                kept = fold != number
                peer = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(features[kept], targets[kept])
                chances = peer.predict_proba(features[~kept])[:, 1]
                total -= np.log(np.where(targets[~kept] == 1, chances, 1 - chances)).sum()
            losses.append(total)
        assert found.strengths[column] == strengths[int(np.argmin(losses))]


def test_validation_chooses_by_auroc() -> None:
    """With validation images, the strength is the one with the best AUROC there, the least of equals."""
    _, labels, _ = make_data(1)
    strengths = (1e-5, 1e-2, 10.0)
    found = probe(labels, seed=1, strengths=strengths, choose="validation")

    for column in (0, 1):
        scores = [
            auroc(labels[VALID, column], probe(labels, seed=1, strengths=(strength,)).valid[:, column])
            for strength in strengths
        ]
        assert found.strengths[column] == strengths[int(np.argmax(scores))]


def test_folds_keep_patients_together() -> None:
    """No patient is in two folds, every fold has both classes, and rows without a label are in none."""
    _, labels, groups = make_data()
    known = np.ones(len(TRAIN))
    known[:10] = 0
    fold = _assign_folds(labels[TRAIN, 0], known, groups[TRAIN], 5)

    assert all(len(set(fold[(groups[TRAIN] == patient) & (known > 0)])) <= 1 for patient in set(groups[TRAIN]))
    assert set(fold[known > 0]) == set(range(5))
    assert set(fold[:10]) == {-1}
    assert all(set(labels[TRAIN, 0][fold == number]) == {0, 1} for number in range(5))


def test_two_patients_are_no_folds() -> None:
    """Where too few patients are left to hold some out, the strength is the middle of the grid."""
    _, labels, _ = make_data()
    rows = np.array([int(np.flatnonzero(labels[TRAIN, 0] == value)[0]) for value in (0, 1)])

    assert probe(labels, rows).strengths[0] == 1e-2


@pytest.mark.parametrize("mode", ["linear", "knn"])
def test_one_class_has_no_logits(mode: str) -> None:
    """A finding with one class in a draw has NaN, the others have logits."""
    _, labels, _ = make_data()
    labels[TRAIN, 0] = 1
    found = probe(labels, mode=mode)

    assert np.isnan(found.test[:, 0]).all()
    assert np.isfinite(found.test[:, 1]).all()


def test_constant_embeddings_say_nothing() -> None:
    """A coordinate that is the same in all labelled images is left out, whatever it is in the others."""
    embeddings, labels, groups = make_data()
    with_constant = np.hstack([embeddings, np.zeros((IMAGES, 1), np.float32)])
    with_constant[TEST, -1] = 1000
    draws = [Draw("all", 1, TRAIN, VALID, ())]
    plain, constant = (
        probe_draws(
            e, labels, groups, draws, TEST, mode="linear", strengths=(1.0,), choose="validation", folds=5, scale=TRAIN
        )[0]
        for e in (embeddings, with_constant)
    )

    np.testing.assert_allclose(constant.test, plain.test, atol=1e-6)


def test_neighbours_are_logits_of_their_votes() -> None:
    """Neighbours of one kind give a large logit of that sign, never infinity."""
    embeddings = np.vstack([np.tile([1.0, 0], (60, 1)), np.tile([0, 1.0], (60, 1))]).astype(np.float32)
    labels = np.repeat([[1.0], [0.0]], 60, axis=0)
    draw = Draw("all", 1, np.r_[:50, 60:110], np.array([50, 110]), ())
    (found,) = probe_draws(
        embeddings, labels, np.arange(120).astype(str), [draw], np.array([51, 111]), mode="knn",
        strengths=(1.0,), choose="validation", folds=5,
    )  # fmt: skip

    assert found.test[0, 0] > 5
    assert found.test[1, 0] < -5
    assert np.isfinite(found.test).all()


def test_one_positive_patient_is_no_fold() -> None:
    """With one patient who has the finding, folds can't tell strengths apart: the middle of the grid is taken."""
    _, labels, _ = make_data()
    rows = np.concatenate([np.flatnonzero(labels[TRAIN, 0] == 1)[:1], np.flatnonzero(labels[TRAIN, 0] == 0)[:40]])

    assert probe(labels, np.sort(rows)).strengths[0] == 1e-2


@pytest.mark.filterwarnings("error")
def test_a_draw_may_be_empty() -> None:
    """A draw without any image has no logits, and is nothing to warn of."""
    _, labels, _ = make_data()
    found = probe(labels, np.array([], np.int64))

    assert np.isnan(found.test).all()
    assert found.test.shape == (len(TEST), 2)


def test_validation_judges_studies() -> None:
    """With studies, the strength is the one with the best AUROC of the greatest logit of each study."""
    _, labels, _ = make_data(5)
    studies = np.array([f"s{i // 2}" for i in range(IMAGES)])
    strengths = (1e-5, 1e-2, 10.0)
    found = probe(labels, seed=5, strengths=strengths, choose="validation", studies=studies)

    def judge(strength: float, column: int) -> float:
        logits = probe(labels, seed=5, strengths=(strength,)).valid[:, column].reshape(-1, 2).max(axis=1)
        return auroc(labels[VALID, column].reshape(-1, 2).max(axis=1), logits)

    for column in (0, 1):
        assert found.strengths[column] == strengths[int(np.argmax([judge(s, column) for s in strengths]))]


def test_a_draw_is_scaled_by_all_training_images() -> None:
    """The few images of a draw are standardised by mean and deviation of all training images, which takes no labels."""
    embeddings, labels, _ = make_data()
    rows = TRAIN[:30]
    scaler = StandardScaler().fit(embeddings[TRAIN].astype(np.float64))
    found = probe(labels, rows, strengths=(0.1,))

    peer = LogisticRegression(C=0.1, tol=1e-10, max_iter=5000)
    peer.fit(scaler.transform(embeddings[rows].astype(np.float64)), labels[rows, 0])
    expected = peer.decision_function(scaler.transform(embeddings[TEST].astype(np.float64)))
    np.testing.assert_allclose(found.test[:, 0], expected, atol=1e-4)
