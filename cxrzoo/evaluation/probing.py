"""Embeddings and draws -> logits of the test images: probes on a frozen backbone, all findings of a draw at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrzoo.evaluation.probes.neighbours import score_neighbours
from cxrzoo.evaluation.probes.solver import fit_logistic
from cxrzoo.evaluation.sampling.draws import Draw
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
    on_draw: Callable[[], None] = lambda: None,
) -> list[Probed]:
    """Return what each draw gives; labels (images, findings) are 1, 0 or NaN, `groups` the patient of each image.

    The strength C of the linear probe is chosen from `strengths` for each draw and finding: by the log loss in
    cross-validation inside the draw, patients kept together, so that no label outside of it is used; or by the AUROC
    on the draw's validation images.
    """
    probed = []
    for draw in draws:
        if mode == "knn":
            probed.append(_vote(embeddings, labels, draw, test))
        else:
            probed.append(_fit(embeddings, labels, groups, draw, test, np.sort(strengths), choose, folds))
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


def _fit(
    embeddings: NDArray[np.float32],
    labels: Floats,
    groups: NDArray[np.str_],
    draw: Draw,
    test: NDArray[np.int64],
    strengths: Floats,
    choose: str,
    folds: int,
) -> Probed:
    features = embeddings[draw.rows].astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale <= 1e-12 * np.abs(mean).max(initial=1e-300)] = np.inf  # what is constant here says nothing elsewhere

    def standardised(rows: NDArray[np.int64]) -> Floats:
        result: Floats = (embeddings[rows] - mean) / scale
        return result

    known, targets = ~np.isnan(labels[draw.rows]), np.nan_to_num(labels[draw.rows])
    usable = np.flatnonzero(_has_both(labels[draw.rows]))
    logits = {"valid": np.full((len(draw.valid), labels.shape[1]), np.nan)}
    logits["test"] = np.full((len(test), labels.shape[1]), np.nan)
    chosen = np.full(labels.shape[1], np.nan)
    if len(usable):
        features = (features - mean) / scale
        known, targets = known[:, usable].astype(np.float64), targets[:, usable]
        if len(strengths) == 1:
            best = np.zeros(len(usable), np.int64)
        elif choose == "validation" and len(draw.valid):
            best = _choose_by_validation(
                features, targets, known, strengths, standardised(draw.valid), labels[draw.valid][:, usable]
            )
        else:
            best = _choose_by_folds(features, targets, known, strengths, groups[draw.rows], folds)
        chosen[usable] = strengths[best]
        solution = fit_logistic(features, targets, known, chosen[usable], tol=1e-10)
        for part, rows in (("valid", draw.valid), ("test", test)):
            logits[part][:, usable] = standardised(rows) @ solution.coefficients + solution.intercepts
    return Probed(**logits, strengths=tuple(chosen.tolist()))


def _has_both(labels: Floats) -> NDArray[np.bool_]:
    """Return which findings have at least one positive and one negative."""
    both: NDArray[np.bool_] = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return both


def _choose_by_validation(
    features: Floats, targets: Floats, known: Floats, strengths: Floats, valid: Floats, valid_labels: Floats
) -> NDArray[np.int64]:
    count = targets.shape[1]
    each = len(strengths)
    solution = fit_logistic(
        features, np.repeat(targets, each, axis=1), np.repeat(known, each, axis=1), np.tile(strengths, count)
    )
    logits = valid @ solution.coefficients + solution.intercepts
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
            weights = known[:, finding] * (fold != number)
            if len(np.unique(targets[weights > 0, finding])) == 2:
                columns.append(weights)
                held.append(known[:, finding] * (fold == number))
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
