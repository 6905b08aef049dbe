"""Figures of merit, against scikit-learn and against loops that are written out."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import Bin
from cxrzoo.evaluation.statistics.metrics import (
    MIN_CASES,
    TEMPERATURES,
    auprc,
    auroc,
    calibration_error,
    check_cases,
    combine_views,
    fit_temperature,
    reliability,
    sensitivity_at,
)

#: seed, images, share of positives, how many different scores there are (0: as many as images)
SAMPLES = [
    (seed, images, prevalence, levels)
    for seed, (images, prevalence) in enumerate([(5, 0.4), (60, 0.5), (500, 0.03), (500, 0.97), (3000, 0.2)])
    for levels in (0, 2, 7)
]


def draw_sample(seed, images, prevalence, levels):
    """Return labels with both classes, and scores that know a little of them."""
    rng = np.random.default_rng([11, seed])
    labels = (np.arange(images) < max(1, round(prevalence * images))).astype(float)
    scores = rng.normal(size=images) + labels
    if levels:
        scores = np.digitize(scores, np.quantile(scores, np.linspace(0, 1, levels + 1)[1:-1])) / levels
    order = rng.permutation(images)
    return labels[order], scores[order]


def sigmoid(values):
    """Return the probabilities of logits."""
    return 1 / (1 + np.exp(-values))


#: Lists of a label and a score from a handful of values, so that most scores tie.
PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(-3, 3)), min_size=2, max_size=40)


def split_pairs(pairs):
    """Return labels and scores of pairs that have both classes."""
    labels, scores = np.array(pairs, float).T
    assume(0 < labels.sum() < len(labels))
    return labels, scores


# Ranking


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
@pytest.mark.parametrize(("ours", "theirs"), [(auroc, roc_auc_score), (auprc, average_precision_score)])
def test_areas_are_those_of_scikit_learn(ours, theirs, sample):
    """AUROC and AUPRC are scikit-learn's to 1e-12, with few and many ties, positives and negatives."""
    labels, scores = draw_sample(*sample)

    assert theirs(labels, scores) == pytest.approx(ours(labels, scores), abs=1e-12)


@given(PAIRS)
def test_areas_are_those_of_scikit_learn_wherever_scores_tie(pairs):
    """The equality holds for any labels and any pattern of ties."""
    labels, scores = split_pairs(pairs)

    assert roc_auc_score(labels, scores) == pytest.approx(auroc(labels, scores), abs=1e-12)
    assert average_precision_score(labels, scores) == pytest.approx(auprc(labels, scores), abs=1e-12)


@given(PAIRS)
def test_auroc_counts_pairs(pairs):
    """AUROC is the share of pairs in which the positive scores higher, where a tie is half a pair."""
    labels, scores = split_pairs(pairs)
    differences = scores[labels == 1][:, None] - scores[labels == 0]

    assert np.mean((np.sign(differences) + 1) / 2) == pytest.approx(auroc(labels, scores), abs=1e-12)


def test_scores_that_say_nothing_are_worth_one_half():
    """Equal scores give an AUROC of .5 and a precision of the prevalence."""
    labels = [1, 0, 0, 0]

    assert 0.5 == auroc(labels, [3, 3, 3, 3])
    assert 0.25 == auprc(labels, [3, 3, 3, 3])


@pytest.mark.parametrize("specificity", [0.0, 0.5, 0.8, 0.9, 0.95, 1.0])
@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_sensitivity_is_that_of_the_best_threshold(sample, specificity):
    """No threshold of enough specificity finds more positives, and one finds as many."""
    labels, scores = draw_sample(*sample)
    found = []
    for threshold in [*np.unique(scores), np.inf]:
        alarm = scores >= threshold
        if (~alarm[labels == 0]).mean() >= specificity:
            found.append(alarm[labels == 1].mean())

    assert max(found) == sensitivity_at(labels, scores, specificity)


@pytest.mark.parametrize(("negatives", "specificity"), [(10, 0.9), (70, 0.9), (100, 0.29), (1000, 0.7)])
def test_a_specificity_that_is_reached_exactly_is_enough(negatives, specificity):
    """Rounding of the product specificity × negatives doesn't cost a threshold."""
    quiet = round(specificity * negatives)
    labels = np.r_[np.zeros(negatives), 1]
    scores = np.r_[np.zeros(quiet), np.full(negatives - quiet, 2.0), 1]

    assert 1.0 == sensitivity_at(labels, scores, specificity)


def test_no_threshold_may_be_enough():
    """Where the negatives score highest, nothing is found at full specificity."""
    assert 0.0 == sensitivity_at([1, 1, 0, 0], [1, 2, 3, 4], 0.9)


# Calibration


def test_calibration_error_is_that_of_guo():
    """ECE is the weighted gap of each bin ((m - 1) / M, m / M], image after image."""
    labels, scores = draw_sample(3, 700, 0.3, 0)
    probabilities = np.r_[sigmoid(scores)[:-4], 0, 1, 1 / 15, 14 / 15]
    gap = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [i for i, p in enumerate(probabilities) if low < p <= high or (number == 0 and p == 0)]
        if inside:
            gap += len(inside) / 700 * abs(np.mean(labels[inside]) - np.mean(probabilities[inside]))

    assert gap == pytest.approx(calibration_error(labels, probabilities), abs=1e-12)


def test_calibration_error_by_hand():
    """Two bins with half of the images each: probabilities .4 too low in one, .1 too low in the other."""
    assert (0.4 + 0.1) / 2 == pytest.approx(calibration_error([1, 0, 1, 1], [0.1, 0.1, 0.9, 0.9], 2))


def test_bins_of_the_curve_are_of_equal_size():
    """Without ties each of ten bins has a tenth of the images, in the order of their probabilities."""
    labels, scores = draw_sample(4, 200, 0.4, 0)
    order = np.argsort(scores)
    expected = [
        Bin(float(sigmoid(scores)[part].mean()), float(labels[part].mean()), 20) for part in np.split(order, 10)
    ]
    found = reliability(labels, sigmoid(scores))

    assert [one.images for one in expected] == [one.images for one in found]
    np.testing.assert_allclose([one.predicted for one in found], [one.predicted for one in expected], rtol=1e-12)
    np.testing.assert_allclose([one.observed for one in found], [one.observed for one in expected], rtol=1e-12)


def test_equal_probabilities_share_a_bin():
    """Ties are never torn apart, and bins that stay empty are left out."""
    labels = [0, 0, 1, 0, 1, 1, 1, 1]
    probabilities = [0.25] * 4 + [0.5] * 3 + [0.75]

    assert [Bin(0.25, 0.25, 4), Bin(0.5, 1.0, 3), Bin(0.75, 1.0, 1)] == reliability(labels, probabilities)


@given(PAIRS, st.integers(1, 12))
def test_a_curve_leaves_no_image_out(pairs, bins):
    """Every image is in one bin, the bins rise, there are no more than asked for, and observed shares add up."""
    labels, scores = split_pairs(pairs)
    found = reliability(labels, sigmoid(scores), bins)
    predicted = [one.predicted for one in found]

    assert len(labels) == sum(one.images for one in found)
    assert labels.sum() == pytest.approx(sum(one.images * one.observed for one in found))
    assert sorted(set(predicted)) == predicted
    assert bins >= len(found)


@pytest.mark.parametrize("scale", [0.05, 0.5, 1, 3, 40])
def test_temperature_undoes_a_scale(scale):
    """Logits multiplied by a number get a temperature multiplied by it, and the same probabilities."""
    labels, logits = draw_sample(5, 400, 0.3, 0)

    assert scale * fit_temperature(labels, logits) == pytest.approx(fit_temperature(labels, scale * logits), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_temperature_is_likelier(seed):
    """On a fine grid of temperatures none has a smaller log loss than the one found."""
    labels, logits = draw_sample(seed, 300, 0.2, 0)
    logits = 4 * logits - 1
    best = log_loss(labels, sigmoid(logits / fit_temperature(labels, logits)))
    others = [log_loss(labels, sigmoid(logits / temperature)) for temperature in np.geomspace(0.05, 99, 500)]

    assert best <= min(others) <= best + 1e-4


@pytest.mark.parametrize(
    ("logits", "expected"), [([-2.0, -1, 1, 2], TEMPERATURES[0]), ([2.0, 1, -1, -2], TEMPERATURES[1])]
)
def test_temperature_stays_in_its_bounds(logits, expected):
    """Labels that are separated have the least temperature, and labels that are reversed the greatest."""
    assert expected == fit_temperature([0, 0, 1, 1], logits)


# Studies


def test_a_study_has_the_logit_of_its_worst_view():
    """The maximum over the views stands at the study's first image; studies keep the order of the table."""
    logits = np.array([[0.0, 5], [1, 1], [2, -1], [-3, 0], [-4, 7]])
    combined, first = combine_views(logits, ["s9", "s1", "s9", "s4", "s1"])

    assert [[2, 5], [1, 7], [-3, 0]] == combined.tolist()
    assert [0, 1, 3] == first.tolist()
    assert np.int64 == first.dtype


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-9, 9)), max_size=30))
def test_studies_are_combined_one_by_one(rows):
    """A loop over the studies finds the same."""
    studies, logits = [study for study, _ in rows], [float(logit) for _, logit in rows]
    names = list(dict.fromkeys(studies))
    combined, first = combine_views(logits, studies)

    assert [studies.index(name) for name in names] == first.tolist()
    assert [max(z for s, z in zip(studies, logits, strict=True) if s == name) for name in names] == combined.tolist()


def test_a_study_with_an_unknown_logit_is_unknown():
    """NaN in one view isn't passed over in silence."""
    combined, _ = combine_views([1.0, math.nan, 3.0], [7, 7, 8])

    np.testing.assert_array_equal(combined, [math.nan, 3.0])


# Refusals


def test_forty_cases_are_enough():
    """Forty positives and forty negatives are accepted."""
    assert check_cases([1] * MIN_CASES + [0] * MIN_CASES, "edema") is None
    assert 40 == MIN_CASES


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (39, 500, "edema: found 39 positive and 500 negative valid images, expected at least 40 of each"),
        (500, 39, "edema: found 500 positive and 39 negative valid images, expected at least 40 of each"),
        (0, 500, "edema: found 0 positive and 500 negative valid images, expected both"),
        (500, 0, "edema: found 500 positive and 0 negative valid images, expected both"),
    ],
)
def test_too_few_cases_are_refused(positives, negatives, expected):
    """The error has the counts, and says what can be done."""
    with pytest.raises(EvaluationError, match="larger share") as caught:
        check_cases([1] * positives + [0] * negatives, "edema", "valid")

    assert str(caught.value).startswith(expected)


ALL = [auroc, auprc, sensitivity_at, calibration_error, reliability, fit_temperature]


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([1, 1], [0.1, 0.2], "found 2 positive and 0 negative labels, expected both"),
        ([0, 0, 0], [0.1, 0.2, 0.3], "found 0 positive and 3 negative labels, expected both"),
        ([], [], "found 0 positive and 0 negative labels, expected both"),
        ([0, 1, math.nan], [0.1, 0.2, 0.3], "found 1 of 3 labels that are neither 0 nor 1"),
        ([0, 1, -1, -1], [0.1, 0.2, 0.3, 0.4], "found 2 of 4 labels that are neither 0 nor 1"),
        ([[0, 1]], [[0.1, 0.2]], r"found labels of shape \(1, 2\), expected \(n,\)"),
        ([0, 1], [0.1, 0.2, 0.3], r"found scores of shape \(3,\), expected one for each of 2 labels"),
        ([0, 1], [0.1, math.nan], "found 1 scores that are NaN or infinite"),
        ([0, 1], [0.1, math.inf], "found 1 scores that are NaN or infinite"),
    ],
    ids=str,
)
def test_unusable_labels_and_scores_are_refused(function, labels, scores, expected):
    """Every figure refuses what it can't be computed from, instead of returning NaN."""
    with pytest.raises(EvaluationError, match=expected):
        function(labels, scores)


@pytest.mark.parametrize("function", [calibration_error, reliability])
def test_logits_are_not_probabilities(function):
    """Calibration refuses what is below 0 or above 1, and says what logits need."""
    with pytest.raises(EvaluationError, match="found values from -2 to 3, expected probabilities.*sigmoid"):
        function([0, 1], [-2.0, 3.0])


def test_views_need_a_study_each():
    """Logits and studies of different length are refused."""
    with pytest.raises(EvaluationError, match="expected one a row"):
        combine_views(np.zeros((3, 2)), ["a", "b"])
