"""Embeddings and draws -> logits of the test images: probes on a frozen backbone, all findings of a draw at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrzoo.evaluation.probes.neighbours import score_neighbours
from cxrzoo.evaluation.probes.solver import fit_logistic
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.statistics.curves import Key, Targets, combine_studies
from cxrzoo.evaluation.statistics.metrics import auroc

Floats = NDArray[np.float64]

#: Shares of votes are kept this far from 0 and 1 where they become logits.
_LEAST_SHARE = 1e-3


@dataclass(frozen=True)
class Probed:
    """Logits (images, findings) that one draw gave for its validation images and for the test images.

    A finding with one class in the draw has NaN. `strengths` is the C that was chosen for each finding.
    """

    valid: Floats
    test: Floats
    strengths: tuple[float, ...] = ()


def probe_draws(
    embeddings: NDArray[np.float32],
    labels: Floats,
    groups: NDArray[np.str_],
    draws: Sequence[Draw],
    test: NDArray[np.int64],
    *,
    mode: Literal["linear", "knn"],
    strengths: Sequence[float],
    choose: Literal["cross-validation", "validation"],
    folds: int,
    scale: NDArray[np.int64] | None = None,
    studies: NDArray[np.str_] | None = None,
    on_draw: Callable[[], None] = lambda: None,
) -> list[Probed]:
    """Return what each draw gives; labels (images, findings) are 1, 0 or NaN, `groups` the patient of each image.

    The strength C of the linear probe is chosen from `strengths` for each draw and finding: by the log loss in
    cross-validation inside the draw, patients kept together, so that no label outside of it is used; or by the AUROC
    on the draw's validation images, or on their `studies`. Its embeddings are standardised by the mean and deviation of
    the images `scale`, all if left out: that takes no labels, and the deviations of a few images would be noise.
    """
    embeddings = np.asarray(embeddings) if mode == "knn" else _standardise(embeddings, scale)
    probed = []
    for draw in draws:
        if mode == "knn":
            probed.append(_vote(embeddings, labels, draw, test))
        else:
            probed.append(_fit(embeddings, labels, groups, draw, test, np.sort(strengths), choose, folds, studies))
        on_draw()
    return probed


def _vote(embeddings: NDArray[np.float32], labels: Floats, draw: Draw, test: NDArray[np.int64]) -> Probed:
    train = embeddings[draw.rows]

    def score(rows: NDArray[np.int64]) -> Floats:
        if not len(rows):
            return np.empty((0, labels.shape[1]))
        shares = score_neighbours(train, labels[draw.rows], embeddings[rows]).clip(_LEAST_SHARE, 1 - _LEAST_SHARE)
        logits: Floats = np.log(shares / (1 - shares))
        logits[:, ~_has_both(labels[draw.rows])] = np.nan
        return logits

    return Probed(score(draw.valid), score(test))


def _standardise(embeddings: NDArray[np.float32], scale: NDArray[np.int64] | None) -> NDArray[np.float32]:
    reference = (embeddings if scale is None else embeddings[scale]).astype(np.float64)
    mean, deviation = reference.mean(axis=0), reference.std(axis=0)
    # what is constant here says nothing elsewhere
    deviation[deviation <= 1e-12 * np.abs(mean).max(initial=1e-300)] = np.inf
    return np.asarray((embeddings - mean) / deviation, dtype=np.float32)


def _fit(
    embeddings: NDArray[np.float32],
    labels: Floats,
    groups: NDArray[np.str_],
    draw: Draw,
    test: NDArray[np.int64],
    strengths: Floats,
    choose: str,
    folds: int,
    studies: NDArray[np.str_] | None,
) -> Probed:
    usable = np.flatnonzero(_has_both(labels[draw.rows]))
    logits = {
        part: np.full((len(rows), labels.shape[1]), np.nan) for part, rows in (("valid", draw.valid), ("test", test))
    }
    chosen = np.full(labels.shape[1], np.nan)
    if not len(usable):  # a coin may draw no image at all, of which there is no mean
        return Probed(**logits, strengths=tuple(chosen.tolist()))
    features = embeddings[draw.rows].astype(np.float64)
    known = (~np.isnan(labels[draw.rows][:, usable])).astype(np.float64)
    targets = np.nan_to_num(labels[draw.rows][:, usable])
    if len(strengths) == 1:
        best = np.zeros(len(usable), np.int64)
    elif choose == "validation" and len(draw.valid):
        valid_labels = labels[draw.valid][:, usable]
        seen = Targets(tuple(map(str, usable)), valid_labels, groups[draw.valid], _take(studies, draw.valid))
        best = _choose_by_validation(
            features, targets, known, strengths, embeddings[draw.valid].astype(np.float64), seen
        )
    else:
        best = _choose_by_folds(features, targets, known, strengths, groups[draw.rows], folds)
    chosen[usable] = strengths[best]
    solution = fit_logistic(features, targets, known, chosen[usable], tol=1e-10)
    for part, rows in (("valid", draw.valid), ("test", test)):
        logits[part][:, usable] = embeddings[rows].astype(np.float64) @ solution.coefficients + solution.intercepts
    return Probed(**logits, strengths=tuple(chosen.tolist()))


def _take(names: NDArray[np.str_] | None, rows: NDArray[np.int64]) -> NDArray[np.str_] | None:
    return None if names is None else names[rows]


def _has_both(labels: Floats) -> NDArray[np.bool_]:
    """Return which findings have at least one positive and one negative."""
    both: NDArray[np.bool_] = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return both


def _choose_by_validation(
    features: Floats, targets: Floats, known: Floats, strengths: Floats, valid: Floats, seen: Targets
) -> NDArray[np.int64]:
    count = targets.shape[1]
    each = len(strengths)
    solution = fit_logistic(
        features, np.repeat(targets, each, axis=1), np.repeat(known, each, axis=1), np.tile(strengths, count)
    )
    key: Key = ("", "linear")
    combined, of_key = combine_studies(seen, {key: (valid @ solution.coefficients + solution.intercepts)[None]})
    valid_labels, logits = combined.labels, of_key[key][0]
    best = np.full(count, each // 2)
    for finding in range(count):
        used = ~np.isnan(valid_labels[:, finding])
        if _has_both(valid_labels[used][:, [finding]])[0]:
            columns = range(finding * each, (finding + 1) * each)
            scores = [auroc(valid_labels[used, finding], logits[used, column]) for column in columns]
            best[finding] = int(np.argmax(scores))  # the first, which is the strongest penalty, where several are
    return best


def _choose_by_folds(
    features: Floats, targets: Floats, known: Floats, strengths: Floats, groups: NDArray[np.str_], folds: int
) -> NDArray[np.int64]:
    """Return the position of the C with the least log loss of images whose patients were held out."""
    each, count = len(strengths), targets.shape[1]
    columns, held, owners = [], [], []
    for finding in range(count):
        fold = _assign_folds(targets[:, finding], known[:, finding], groups, folds)
        for number in range(fold.max() + 1):
            weights, out = (known[:, finding] * (fold != number), known[:, finding] * (fold == number))
            # a held-out fold of one class would always ask for the weakest penalty, or the strongest
            if all(len(np.unique(targets[part > 0, finding])) == 2 for part in (weights, out)):
                columns.append(weights)
                held.append(out)
                owners.append(finding)
    best = np.full(count, each // 2)  # too few patients to hold some out: the middle of the grid
    if not columns:
        return best
    owner = np.array(owners)
    weights = np.repeat(np.stack(columns, axis=1), each, axis=1)
    repeated = np.repeat(targets[:, owner], each, axis=1)
    # Choosing needs no eight digits
    solution = fit_logistic(features, repeated, weights, np.tile(strengths, len(owner)), tol=1e-5)
    logits = features @ solution.coefficients + solution.intercepts
    signed = np.where(repeated == 1, logits, -logits)
    losses = (np.logaddexp(0, -signed) * np.repeat(np.stack(held, axis=1), each, axis=1)).sum(axis=0)
    for finding in np.unique(owner):
        best[finding] = int(losses.reshape(-1, each)[owner == finding].sum(axis=0).argmin())
    return best


def _assign_folds(targets: Floats, known: Floats, groups: NDArray[np.str_], folds: int) -> NDArray[np.int64]:
    """Return the fold of each row: patients stay together, and those with the finding are spread over all folds.

    -1 for rows that are not used. In the order of the table, so that equal draws give equal folds.
    """
    fold = np.full(len(targets), -1)
    used = known > 0
    _, patient = np.unique(groups, return_inverse=True)
    positive = np.zeros(patient.max() + 1, bool)
    positive[patient[used & (targets == 1)]] = True
    present = np.unique(patient[used])
    number = np.full(patient.max() + 1, -1)
    fewest = min(positive[present].sum(), (~positive[present]).sum())
    count = max(2, min(folds, int(fewest)))
    for part in (present[positive[present]], present[~positive[present]]):
        # The fold of a patient must not follow from the order of names, such as all of one hospital first
        shuffled = np.random.default_rng([len(present), len(part)]).permutation(part)
        number[shuffled] = np.arange(len(part)) % count
    fold[used] = number[patient[used]]
    return fold
