"""The paired bootstrap: each replicate against scikit-learn, and intervals that hold what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.statistics.bootstrap import (
    draw_counts,
    interval,
    replicate_auprc,
    replicate_auroc,
    replicate_sensitivity,
)
from cxrzoo.evaluation.statistics.metrics import auprc, auroc, sensitivity_at


def best_sensitivity(labels, scores, specificity=0.9):
    """Return the best sensitivity of a threshold of enough specificity: all thresholds, one after the other."""
    alarms = [scores >= threshold for threshold in [*np.unique(scores), np.inf]]
    return max(alarm[labels == 1].mean() for alarm in alarms if (~alarm[labels == 0]).mean() >= specificity)


PEERS = [
    pytest.param(replicate_auroc, roc_auc_score, id="auroc"),
    pytest.param(replicate_auprc, average_precision_score, id="auprc"),
    pytest.param(replicate_sensitivity, best_sensitivity, id="sensitivity"),
]


def draw_sample(seed, images, prevalence, levels, vectors):
    """Return labels, scores (images, vectors) with many ties if there are `levels`, and four images a patient."""
    rng = np.random.default_rng([12, seed])
    labels = rng.permutation(np.arange(images) < prevalence * images).astype(float)
    scores = rng.normal(size=(images, vectors)) + labels[:, None]
    if levels:
        scores = np.round(scores * levels) / levels
    return labels, scores, rng.integers(0, max(1, images // 4), images)


# Replicates


@pytest.mark.parametrize("clustered", [False, True], ids=["rows", "patients"])
@pytest.mark.parametrize("levels", [0, 1, 4])
@pytest.mark.parametrize(("images", "prevalence"), [(40, 0.5), (300, 0.1), (300, 0.9)])
@pytest.mark.parametrize(("ours", "theirs"), PEERS)
def test_every_replicate_is_that_of_the_resampled_rows(ours, theirs, images, prevalence, levels, clustered):
    """Each figure is the peer's on the rows repeated as they were drawn, to 1e-12, ties and patients included."""
    labels, scores, patients = draw_sample(1, images, prevalence, levels, 3)
    counts = draw_counts(images, groups=patients if clustered else None, replicates=45, seed=3)
    expected = [
        [theirs(np.repeat(labels, often), np.repeat(vector, often)) for often in counts.T] for vector in scores.T
    ]

    np.testing.assert_allclose(ours(labels, scores, counts), expected, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(-2, 2), st.integers(0, 3)), max_size=25),
    st.tuples(st.integers(-2, 2), st.integers(-2, 2)),
)
@pytest.mark.parametrize(("ours", "theirs"), PEERS)
def test_any_counts_and_any_ties_give_the_figure_of_the_repeated_rows(ours, theirs, rows, ends):
    """Rows that weren't drawn leave no trace, whatever ties with them."""
    labels, scores, often = np.array([*rows, (0, ends[0], 1), (1, ends[1], 2)]).T

    expected = theirs(np.repeat(labels, often), np.repeat(scores, often))
    assert expected == pytest.approx(ours(labels, scores, often[:, None])[0], abs=1e-12)


@pytest.mark.parametrize(
    ("replicated", "plain"),
    [(replicate_auroc, auroc), (replicate_auprc, auprc), (replicate_sensitivity, sensitivity_at)],
)
def test_rows_drawn_once_give_the_plain_figure(replicated, plain):
    """The replicate that has every row once is the estimate itself."""
    labels, scores, _ = draw_sample(2, 500, 0.2, 5, 1)
    once = np.ones((500, 1), int)

    assert plain(labels, scores[:, 0]) == pytest.approx(replicated(labels, scores, once)[0, 0], abs=1e-14)


@pytest.mark.parametrize("function", [p.values[0] for p in PEERS])
def test_many_vectors_and_replicates_are_as_one_at_a_time(function):
    """Working in blocks changes nothing, at their borders neither; one vector alone gives one row of figures."""
    labels, scores, _ = draw_sample(3, 60, 0.5, 3, 130)
    counts = draw_counts(60, replicates=515)
    together = function(labels, scores, counts)

    assert (130, 515) == together.shape
    for vector in (0, 63, 64, 127, 128, 129):
        np.testing.assert_array_equal(together[vector], function(labels, scores[:, vector], counts))
    for replicate in (0, 255, 256, 511, 512, 514):
        alone = function(labels, scores, counts[:, [replicate]])
        np.testing.assert_allclose(together[:, [replicate]], alone, rtol=0, atol=1e-14)


def test_sensitivity_is_at_the_specificity_asked_for():
    """Another specificity is another figure in each replicate."""
    labels, scores, _ = draw_sample(4, 200, 0.4, 0, 1)
    counts = draw_counts(200, replicates=20)
    expected = [best_sensitivity(np.repeat(labels, often), np.repeat(scores[:, 0], often), 0.6) for often in counts.T]

    np.testing.assert_allclose(replicate_sensitivity(labels, scores, counts, 0.6)[0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("function", [p.values[0] for p in PEERS])
def test_identical_predictions_differ_by_nothing(function):
    """The paired difference of two models with the same scores has the interval [0, 0], exactly."""
    labels, scores, patients = draw_sample(5, 300, 0.3, 0, 1)
    counts = draw_counts(300, groups=patients)
    difference = function(labels, scores, counts) - function(labels, scores.copy(), counts)

    for rule in ("percentile", "positions"):
        assert ([0.0], [0.0]) == tuple(end.tolist() for end in interval(difference, rule))


# Counts


def test_rows_are_drawn_with_replacement():
    """Each replicate has as many rows as the table, and counts vary as those of independent draws."""
    counts = draw_counts(400, replicates=3000, seed=1)

    assert (400, 3000) == counts.shape
    assert {400} == set(counts.sum(axis=0).tolist())
    assert 1 - 1 / 400 == pytest.approx(counts.var(), rel=0.01)
    assert (1 - 1 / 400) ** 400 == pytest.approx((counts == 0).mean(), rel=0.01)
    assert np.abs(counts.mean(axis=1) - 1).max() < 5 / np.sqrt(3000)


def test_patients_are_drawn_whole():
    """All rows of a patient are drawn equally often, and each replicate has as many patients as the table."""
    patients = np.random.default_rng(3).permutation(np.repeat([f"patient {i}" for i in range(50)], 3))
    counts = draw_counts(150, groups=patients, replicates=300)
    one_row = np.unique(patients, return_index=True)[1]

    for patient in np.unique(patients):
        assert (counts[patients == patient] == counts[patients == patient][0]).all()
    assert {50} == set(counts[one_row].sum(axis=0).tolist())
    assert len(np.unique(counts[one_row], axis=0)) == 50


def test_the_size_of_a_replicate_of_patients_varies():
    """Patients with many rows bring all of them each time they are drawn."""
    counts = draw_counts(100, groups=[0] * 90 + [*range(1, 11)], replicates=200)

    assert len(set(counts.sum(axis=0).tolist())) > 2


def test_counts_depend_on_the_seed_alone():
    """The same seed gives the same replicates, another one others; a list of numbers is a seed, too."""
    first, again, other, listed = (draw_counts(80, replicates=300, seed=seed) for seed in (5, 5, 6, [5, 1]))

    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, listed)


# Intervals


def test_percentiles_are_numpys():
    """The default ends are the 2.5th and 97.5th percentile of each row, interpolated."""
    replicates = np.random.default_rng(0).normal(size=(4, 777))
    lower, upper = interval(replicates)

    np.testing.assert_array_equal(lower, np.percentile(replicates, 2.5, axis=1))
    np.testing.assert_array_equal(upper, np.percentile(replicates, 97.5, axis=1))


@pytest.mark.parametrize(
    ("replicates", "lowest", "highest"), [(500, 11, 486), (40, 0, 38), (1000, 24, 974), (2000, 49, 1949)]
)
def test_positions_are_those_of_the_paper(replicates, lowest, highest):
    """Of 500 sorted replicates the ends are those at 11 and 486."""
    values = np.random.default_rng(1).permutation(replicates)

    assert (lowest, highest) == tuple(float(end) for end in interval(values, "positions"))


def test_a_wider_level_gives_wider_ends():
    """At .05 / 10 the ends are the percentiles .25 and 99.75."""
    values = np.random.default_rng(2).normal(size=2000)

    assert tuple(np.quantile(values, [0.0025, 0.9975])) == interval(values, alpha=0.005)


def test_levels_beyond_the_replicates_are_those_of_a_normal_distribution():
    """At .05 / 280 less than one of 2,000 replicates would lie outside: the ends are mean ± z · sd."""
    values = np.random.default_rng(3).uniform(size=2000)
    lower, upper = interval(values, alpha=0.05 / 280)
    reach = -norm.ppf(0.025 / 280) * values.std()

    assert values.mean() - reach == pytest.approx(float(lower))
    assert values.mean() + reach == pytest.approx(float(upper))


def test_levels_beyond_the_replicates_are_never_narrower_than_these():
    """Where a replicate lies outside mean ± z · sd, the end is that replicate."""
    values = np.r_[np.zeros(1999), 100.0]

    assert 100.0 == interval(values, alpha=0.05 / 280)[1]


def paper_by_hand(labels, ours, theirs, counts):
    """Return what MoCo-CXR's section 3.4 says, replicate after replicate: the mean and the sorted 11th and 486th."""

    def area(rows, scores):
        differences = scores[rows][labels[rows] == 1][:, None] - scores[rows][labels[rows] == 0]
        return ((differences > 0) + 0.5 * (differences == 0)).mean()

    statistics = []
    for often in counts.T:
        rows = np.repeat(np.arange(len(labels)), often)
        pairs = zip(ours.T, theirs.T, strict=True)
        statistics.append(np.mean([area(rows, one) - area(rows, other) for one, other in pairs]))
    ordered = sorted(statistics)
    return np.mean(statistics), ordered[11], ordered[486]


def test_the_interval_of_the_paper():
    """500 replicates, the mean difference over the draws on the same rows, its mean and positions 11 and 486."""
    labels, ours, _ = draw_sample(6, 90, 0.4, 6, 5)
    theirs = 0.5 * ours + draw_sample(7, 90, 0.4, 6, 5)[1]
    counts = draw_counts(90, replicates=500, seed=9)
    means = (replicate_auroc(labels, ours, counts) - replicate_auroc(labels, theirs, counts)).mean(axis=0)

    expected = paper_by_hand(labels, ours, theirs, counts)
    assert expected == pytest.approx((means.mean(), *map(float, interval(means, "positions"))), abs=1e-12)


# What 95 % means


def count_hits(*, images_each, difference, by_patient, trials=30, vectors=100):
    """Return the share of simulated studies whose interval holds the true AUROC, or the true difference of two.

    200 patients, half of them with the finding; scores are normal, shifted by it (binormal), so that the AUROC is
    known: Φ(shift / √2). Half of the variance is the patient's, where there are several images of each.
    """
    labels = np.repeat(np.arange(200) % 2, images_each)
    patients = np.repeat(np.arange(200), images_each)
    hits = 0
    for trial in range(trials):
        rng = np.random.default_rng([13, images_each, difference, trial])

        def draw_noise(rng=rng):
            own = rng.normal(size=(len(labels), vectors))
            shared = np.repeat(rng.normal(size=(200, vectors)), images_each, axis=0)
            return own if images_each == 1 else (own + shared) / np.sqrt(2)

        counts = draw_counts(len(labels), groups=patients if by_patient else None, replicates=600, seed=[14, trial])
        noise = draw_noise()
        found, truth = replicate_auroc(labels, 1.2 * labels[:, None] + noise, counts), norm.cdf(1.2 / np.sqrt(2))
        if difference:
            weaker = 0.9 * labels[:, None] + 0.6 * noise + 0.8 * draw_noise()
            found, truth = found - replicate_auroc(labels, weaker, counts), truth - norm.cdf(0.9 / np.sqrt(2))
        lower, upper = interval(found)
        hits += int(((lower <= truth) & (truth <= upper)).sum())
    return hits / (trials * vectors)


@pytest.mark.parametrize("difference", [False, True], ids=["auroc", "difference"])
@pytest.mark.parametrize(("images_each", "by_patient"), [(1, False), (3, True)], ids=["rows", "patients"])
def test_intervals_hold_the_truth_as_often_as_they_say(images_each, by_patient, difference):
    """In 3,000 simulated studies the 95 % interval holds the true figure in 93 to 97 % of them."""
    share = count_hits(images_each=images_each, difference=difference, by_patient=by_patient)

    assert 0.93 <= share <= 0.97


def test_rows_of_the_same_patient_are_no_independent_evidence():
    """Drawing rows where patients have three images each gives intervals that are far too narrow."""
    share = count_hits(images_each=3, difference=False, by_patient=False, trials=5)

    assert share < 0.9


# Refusals


@pytest.mark.parametrize("function", [p.values[0] for p in PEERS])
def test_a_replicate_without_a_class_is_refused(function):
    """A replicate that drew one class only is neither dropped nor NaN: the error says how many and what to do."""
    labels = np.r_[1, 1, np.zeros(100)]
    counts = draw_counts(102, replicates=200)
    lacking = int((counts[:2].sum(axis=0) == 0).sum())

    assert lacking > 0
    with pytest.raises(EvaluationError, match=f"found {lacking} of 200 replicates without.*larger share"):
        function(labels, np.arange(102.0), counts)


@pytest.mark.parametrize("rule", ["percentile", "positions"])
@pytest.mark.parametrize("replicates", [0, 1, 39])
def test_too_few_replicates_are_refused(rule, replicates):
    """Below 40 replicates there is no 95 % interval; the paper's code returned their maximum as the lower end."""
    with pytest.raises(EvaluationError, match=f"found {replicates} replicates, expected at least 40"):
        interval(np.zeros(replicates), rule)


def test_positions_need_replicates_beyond_them():
    """A level that 500 replicates can't tell by positions is refused, with the number it takes."""
    with pytest.raises(EvaluationError, match="found 500 replicates, expected at least 4000"):
        interval(np.zeros(500), "positions", alpha=0.0005)


@pytest.mark.parametrize("rule", ["percentile", "positions"])
def test_replicates_without_a_figure_are_refused(rule):
    """NaN among the replicates is an error and no interval."""
    with pytest.raises(EvaluationError, match="found 1 replicates that are NaN"):
        interval(np.r_[np.zeros(499), np.nan], rule)


def test_a_single_figure_is_no_bootstrap():
    """A number instead of replicates is refused."""
    with pytest.raises(EvaluationError, match="found 0 replicates"):
        interval(0.9)


@pytest.mark.parametrize("shape", [(3,), (2, 50), (4, 50), (3, 5, 2)], ids=str)
def test_counts_must_be_of_the_same_rows(shape):
    """Counts of another table are refused."""
    with pytest.raises(EvaluationError, match="found counts of shape"):
        replicate_auroc([0, 1, 1], [1.0, 2, 3], np.ones(shape, int))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n": 0}, "found 0 rows and 2000 replicates"),
        ({"n": 5, "replicates": 0}, "found 5 rows and 0 replicates"),
        ({"n": 3, "groups": ["a", "b"]}, "found groups of shape"),
        ({"n": 2, "groups": [["a", "b"]]}, "found groups of shape"),
    ],
    ids=str,
)
def test_nothing_to_draw_is_refused(options, expected):
    """Counts need rows, replicates, and a group for each row."""
    with pytest.raises(EvaluationError, match=expected):
        draw_counts(**options)
