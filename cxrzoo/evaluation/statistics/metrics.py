"""How good scores are: ranking, sensitivity, calibration. Labels are 0 or 1; images without a label are left out."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import rankdata

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import Bin

#: Below this, an interval of the bootstrap says more than its images can: a handful of cases decides all replicates.
MIN_CASES = 40
#: Where `fit_temperature` looks. Separable labels have no best temperature, they end at the lower bound.
TEMPERATURES = (0.01, 100.0)

Array = NDArray[np.float64]


def as_labels(labels: ArrayLike) -> NDArray[np.bool_]:
    """Return labels as booleans, True for positive.

    Raises:
        EvaluationError: They are not one list of zeros and ones that has both.
    """
    array = np.asarray(labels)
    if array.ndim != 1:
        raise EvaluationError(f"found labels of shape {array.shape}, expected (n,): give one finding at a time.")
    other = int((~np.isin(array, (0, 1))).sum())
    if other:
        raise EvaluationError(
            f"found {other} of {len(array)} labels that are neither 0 nor 1, expected none: "
            "leave out the images whose label is missing or uncertain."
        )
    positive: NDArray[np.bool_] = array == 1
    if positive.all() or not positive.any():
        raise EvaluationError(
            f"found {positive.sum()} positive and {(~positive).sum()} negative labels, expected both: "
            "give more images, or leave this finding out."
        )
    return positive


def as_scores(scores: ArrayLike, labels: NDArray[np.bool_]) -> Array:
    """Return scores as finite numbers, one (or one row of them) a label.

    Raises:
        EvaluationError: There are more or fewer than labels, or some are NaN or infinite.
    """
    array = np.asarray(scores, np.float64)
    if array.shape[:1] != labels.shape:
        raise EvaluationError(f"found scores of shape {array.shape}, expected one for each of {len(labels)} labels.")
    if not np.isfinite(array).all():
        raise EvaluationError(
            f"found {(~np.isfinite(array)).sum()} scores that are NaN or infinite, expected numbers: "
            "check the embeddings and the model that gave them."
        )
    return array


def auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative, ties counting half.

    Raises:
        EvaluationError: The labels lack a class, or don't fit the scores.
    """
    positive = as_labels(labels)
    ranks = rankdata(as_scores(scores, positive))
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def auprc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the average precision: precision at each threshold, weighted by the recall that the threshold adds.

    Raises:
        EvaluationError: The labels lack a class, or don't fit the scores.
    """
    hits, alarms = _count_above(labels, scores)
    return float(np.sum(np.diff(hits, prepend=0) * hits / (hits + alarms)) / hits[-1])


def sensitivity_at(labels: ArrayLike, scores: ArrayLike, specificity: float = 0.9) -> float:
    """Return the best sensitivity of a threshold whose specificity is at least `specificity`.

    Raises:
        EvaluationError: The labels lack a class, or don't fit the scores.
    """
    hits, alarms = _count_above(labels, scores)
    allowed = (alarms[-1] - alarms) / alarms[-1] >= specificity
    # Above all scores no positive is found and no negative taken for one: that threshold is always allowed.
    return float(np.max(hits, where=allowed, initial=0) / hits[-1])


def calibration_error(labels: ArrayLike, probabilities: ArrayLike, bins: int = 15) -> float:
    """Return the expected calibration error of the probability of the finding, with bins of equal width.

    As Guo et al. 2017 (arXiv:1706.04599, eq. 3): |observed - predicted| of each bin, weighted by its images. Their bins
    (0, 1/15], (1/15, 2/15] … are of the confidence in the class predicted; here there is one class, the finding.

    Raises:
        EvaluationError: The labels lack a class, or something else than probabilities was given.
    """
    positive = as_labels(labels)
    values = _as_probabilities(probabilities, positive)
    numbers = np.searchsorted(np.linspace(0, 1, bins + 1)[1:-1], values, side="left")
    return float(np.abs(np.bincount(numbers, positive - values, bins)).sum() / len(values))


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> list[Bin]:
    """Return the points of a reliability curve, from bins of about equal size; equal probabilities share a bin.

    Raises:
        EvaluationError: The labels lack a class, or something else than probabilities was given.
    """
    positive = as_labels(labels)
    values = _as_probabilities(probabilities, positive)
    # A value goes where the middle of its ties stands, so that a bin may come out empty and is then left out.
    numbers = ((rankdata(values) - 0.5) * bins / len(values)).astype(np.int64)
    members = [numbers == number for number in np.unique(numbers)]
    return [Bin(float(values[one].mean()), float(positive[one].mean()), int(one.sum())) for one in members]


def fit_temperature(labels: ArrayLike, logits: ArrayLike) -> float:
    """Return the temperature T in `TEMPERATURES` at which sigmoid(logits / T) has the least negative log-likelihood.

    That is convex in 1/T, so the derivative has one root at most; without one inside, the better bound is returned.

    Raises:
        EvaluationError: The labels lack a class, or don't fit the logits.
    """
    positive = as_labels(labels)
    values = as_scores(logits, positive)

    def slope(log_scale: float) -> float:
        return float(values @ (expit(np.exp(log_scale) * values) - positive))

    low, high = -np.log(TEMPERATURES[1]), -np.log(TEMPERATURES[0])
    if slope(low) >= 0:
        return TEMPERATURES[1]
    if slope(high) <= 0:
        return TEMPERATURES[0]
    return float(np.exp(-brentq(slope, low, high, xtol=1e-12)))


def combine_views(logits: ArrayLike, studies: ArrayLike) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the largest logit of each study, and the position of its first image; in the order of these positions.

    MoCo-CXR takes the maximum over the views of a study before the sigmoid.

    Raises:
        EvaluationError: There is not one study for each row of logits.
    """
    values, names = np.asarray(logits), np.asarray(studies)
    if names.ndim != 1 or values.shape[:1] != names.shape:
        raise EvaluationError(f"found {names.shape} studies for logits of shape {values.shape}, expected one a row.")
    _, first, study = np.unique(names, return_index=True, return_inverse=True)
    order = np.argsort(first[study], kind="stable")
    first = np.sort(first).astype(np.int64)
    starts = np.flatnonzero(np.diff(study[order], prepend=-1))
    return np.maximum.reduceat(values[order], starts, axis=0) if len(first) else values, first


def check_cases(labels: ArrayLike, finding: str, where: str = "test") -> None:
    """Check that there are enough positives and negatives for figures with intervals.

    Raises:
        EvaluationError: There are fewer than `MIN_CASES` of one of them, or none at all.
    """
    array = np.asarray(labels)
    positives, negatives = int((array == 1).sum()), int((array == 0).sum())
    if min(positives, negatives) >= MIN_CASES:
        return
    counts = f"{finding}: found {positives} positive and {negatives} negative {where} images"
    share = " (`--test-share .4`, Python: test_share=.4)" if where == "test" else ""
    advice = (
        f"give the {where} part a larger share of the images{share}, leave this finding out, or pool it with findings "
        "akin to it in one column."
    )
    if not min(positives, negatives):
        raise EvaluationError(f"{counts}, expected both: with one class only nothing can be ranked. To go on, {advice}")
    raise EvaluationError(
        f"{counts}, expected at least {MIN_CASES} of each: with fewer, the interval would rest on a handful of cases. "
        f"To go on, {advice}"
    )


def _count_above(labels: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    """Return how many positives, and negatives, score at or above each different score of a positive, falling.

    Only these thresholds matter: between two of them there are no more positives to gain. A last entry, below all
    scores, holds all.
    """
    positive = as_labels(labels)
    values = as_scores(scores, positive)
    thresholds = np.append(np.unique(values[positive])[::-1], -np.inf)
    hits, alarms = (
        len(part) - np.searchsorted(part, thresholds, side="left")
        for part in (np.sort(values[positive]), np.sort(values[~positive]))
    )
    return hits.astype(np.float64), alarms.astype(np.float64)


def _as_probabilities(values: ArrayLike, labels: NDArray[np.bool_]) -> Array:
    """Return values that were checked to be probabilities."""
    array = as_scores(values, labels)
    if array.min() < 0 or array.max() > 1:
        raise EvaluationError(
            f"found values from {array.min():.3g} to {array.max():.3g}, expected probabilities from 0 to 1: "
            "put logits through a sigmoid before."
        )
    return array
