"""The paired bootstrap: every model's figure in every replicate of the test images, and intervals of them."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.stats import norm

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.statistics.metrics import as_labels, as_scores

Rule = Literal["percentile", "positions"]

#: Fewer replicates leave none beyond the ends of a 95 % interval.
MIN_REPLICATES = 40
#: How many replicates and how many score vectors are worked on at once: the counts of 2,000 images stay in the cache.
REPLICATES, VECTORS = 256, 64

Array = NDArray[np.float64]
#: hits and alarms (thresholds, replicates), positives and negatives (replicates,) -> the figure (replicates,)
Statistic = Callable[[Array, Array, Array, Array], Array]


def draw_counts(
    n: int, *, groups: ArrayLike | None = None, replicates: int = 2000, seed: int | Sequence[int] = 0
) -> NDArray[np.int16]:
    """Return how often each of `n` rows is in each replicate, (n, replicates).

    Draw once and use the counts for all models, label fractions and draws: that is what makes differences paired.

    Args:
        groups: The patient of each row; then whole patients are drawn, with all their rows, and the replicates differ
            in size. Without, rows are drawn, n of them.

    Raises:
        EvaluationError: There are no rows, no replicates, or not one group a row.
    """
    if n < 1 or replicates < 1:
        raise EvaluationError(f"found {n} rows and {replicates} replicates to draw, expected at least one of each.")
    members = np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if members.shape != (n,):
        raise EvaluationError(f"found groups of shape {members.shape}, expected one for each of {n} rows.")
    units = int(members.max()) + 1
    generator = np.random.default_rng(seed)
    counts = np.empty((n, replicates), np.int16)
    for start in range(0, replicates, REPLICATES):
        size = min(REPLICATES, replicates - start)
        drawn = generator.integers(0, units, (size, units)) + units * np.arange(size)[:, None]
        often = np.bincount(drawn.ravel(), minlength=size * units).reshape(size, units)
        counts[:, start : start + size] = often.T[members]
    return counts


def replicate_auroc(labels: ArrayLike, scores: ArrayLike, counts: ArrayLike) -> Array:
    """Return the AUROC of every score vector in every replicate: scores (n, M), counts (n, R) -> (M, R).

    Raises:
        EvaluationError: A replicate lacks a class, or labels, scores and counts don't fit each other.
    """
    return _replicate(labels, scores, counts, _area, ties=0.5)


def replicate_auprc(labels: ArrayLike, scores: ArrayLike, counts: ArrayLike) -> Array:
    """Return the average precision of every score vector in every replicate, as `replicate_auroc`.

    Raises:
        EvaluationError: A replicate lacks a class, or labels, scores and counts don't fit each other.
    """
    return _replicate(labels, scores, counts, _average_precision, ties=1)


def replicate_sensitivity(labels: ArrayLike, scores: ArrayLike, counts: ArrayLike, specificity: float = 0.9) -> Array:
    """Return `sensitivity_at` of every score vector in every replicate, as `replicate_auroc`.

    The threshold is chosen anew in each replicate, so that the interval holds the uncertainty of that choice, too.

    Raises:
        EvaluationError: A replicate lacks a class, or labels, scores and counts don't fit each other.
    """
    return _replicate(labels, scores, counts, partial(_sensitivity, specificity=specificity), ties=1)


def interval(replicates: ArrayLike, rule: Rule = "percentile", alpha: float = 0.05) -> tuple[Array, Array]:
    """Return the lower and upper ends of intervals of level 1 - `alpha`, over the last axis.

    Args:
        rule: "percentile" interpolates between sorted replicates. "positions" takes them as the code of MoCo-CXR does,
            which is one position low at both ends: 11 and 486 (from 0) of 500.
        alpha: For a family of k intervals, .05 / k (Bonferroni). Where less than one replicate would lie beyond an end,
            "percentile" takes the normal interval, mean ± z · sd, or the outermost replicate if that is wider:
            2,000 replicates alone can't tell anything about levels above 99.9 %.

    Raises:
        EvaluationError: There are fewer than 40 replicates, too few for positions at this `alpha`, or some are NaN.
    """
    values = np.asarray(replicates, np.float64)
    number = values.shape[-1] if values.ndim else 0
    beyond = int(alpha / 2 * number)
    if number < MIN_REPLICATES or (rule == "positions" and not beyond):
        needed = max(MIN_REPLICATES, int(np.ceil(2 / alpha)) if rule == "positions" else 0)
        raise EvaluationError(
            f"found {number} replicates, expected at least {needed} for an interval of {1 - alpha:.5g}: "
            "none would lie beyond its ends. Draw more; 2,000 is usual."
        )
    if np.isnan(values).any():
        raise EvaluationError(
            f"found {np.isnan(values).sum()} replicates that are NaN, expected figures: leave out what has none before."
        )
    if rule == "positions":
        ordered = np.sort(values, axis=-1)
        return ordered[..., beyond - 1], ordered[..., int((1 - alpha / 2) * number) - 1]
    lower, upper = np.quantile(values, (alpha / 2, 1 - alpha / 2), axis=-1)
    if not beyond:
        mean, reach = values.mean(axis=-1), norm.isf(alpha / 2) * values.std(axis=-1)
        lower, upper = np.minimum(values.min(axis=-1), mean - reach), np.maximum(values.max(axis=-1), mean + reach)
    return lower, upper


def _replicate(labels: ArrayLike, scores: ArrayLike, counts: ArrayLike, statistic: Statistic, ties: float) -> Array:
    """Return the statistic of every score vector in every replicate."""
    positive = as_labels(labels)
    values = as_scores(scores, positive)
    drawn = np.asarray(counts)
    if drawn.ndim != 2 or len(drawn) != len(positive):
        raise EvaluationError(f"found counts of shape {drawn.shape}, expected ({len(positive)}, replicates).")
    totals = [drawn[part].sum(axis=0, dtype=np.float64) for part in (positive, ~positive)]
    check_classes(*totals)
    vectors = values.reshape(len(values), -1).T
    result = np.empty((len(vectors), drawn.shape[1]))
    for first in range(0, len(vectors), VECTORS):
        block = [_tally(positive, vector, ties) for vector in vectors[first : first + VECTORS]]
        for start in range(0, drawn.shape[1], REPLICATES):
            some = slice(start, start + REPLICATES)
            ours, theirs = (drawn[part, some].astype(np.float64) for part in (positive, ~positive))
            for number, (hit, alarm) in enumerate(block, first):
                hits, alarms = hit @ ours, alarm @ theirs
                _cumulate(alarms)
                result[number, some] = statistic(hits, alarms, totals[0][some], totals[1][some])
    return result if values.ndim > 1 else result[0]


def check_classes(positives: Array, negatives: Array) -> None:
    """Raise where a replicate drew one class only: leaving it out would bend the interval, NaN would hide it.

    Raises:
        EvaluationError: Some did.
    """
    lacking = int(((positives == 0) | (negatives == 0)).sum())
    if lacking:
        raise EvaluationError(
            f"found {lacking} of {len(positives)} replicates without a positive or without a negative, expected none: "
            "too few patients, or images, have the rarer label. Give the test part a larger share, leave this finding "
            "out, or pool it with findings akin to it in one column."
        )


def _tally(positive: NDArray[np.bool_], scores: Array, ties: float) -> tuple[csr_array, csr_array]:
    """Return what sums the counts of positives, and of negatives, that come in at each threshold, falling.

    The thresholds are the different scores of positives, all that any of the statistics looks at. A negative that ties
    with one comes in there by the share `ties`, and by the rest at the next.
    """
    # Sorted by the negative of the score: falling thresholds, without reversing anything.
    thresholds, place = np.unique(-scores[positive], return_inverse=True)
    others = -scores[~positive]
    columns = np.arange(len(others))
    bins = np.concatenate([np.searchsorted(thresholds, others, side=side) for side in ("left", "right")])
    shares = np.repeat((ties, 1 - ties), len(others))
    used = (bins < len(thresholds)) & (shares > 0)
    shape = len(thresholds), len(others)
    alarm = csr_array((shares[used], (bins[used], np.tile(columns, 2)[used])), shape=shape)
    hit = csr_array((np.ones(len(place)), (place, np.arange(len(place)))), shape=(len(thresholds), len(place)))
    return hit, alarm


def _cumulate(table: Array) -> None:
    """Add up along the first axis in place; row by row that is several times faster than `cumsum`."""
    for above, row in pairwise(table):
        row += above


def _area(hits: Array, alarms: Array, positives: Array, negatives: Array) -> Array:
    """Return the share of pairs in which the positive is ahead; whole and half numbers, exact until the division."""
    pairs = positives * negatives
    return np.asarray((pairs - np.einsum("kr,kr->r", hits, alarms)) / pairs)


def _average_precision(hits: Array, alarms: Array, positives: Array, negatives: Array) -> Array:
    """Return the average precision."""
    above = hits.copy()
    _cumulate(above)
    alarms += above
    np.maximum(alarms, 1, out=alarms)  # nothing drawn yet: no hits either, so any divisor will do
    above /= alarms
    return np.asarray(np.einsum("kr,kr->r", hits, above) / positives)


def _sensitivity(hits: Array, alarms: Array, positives: Array, negatives: Array, *, specificity: float) -> Array:
    """Return the best sensitivity at thresholds of enough specificity."""
    _cumulate(hits)
    allowed = (negatives - alarms) / negatives >= specificity
    return np.asarray(np.max(hits, axis=0, where=allowed, initial=0) / positives)
