"""Logits of the test images -> label-efficiency curves, paired differences, a ranking: all from the same replicates."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import MACRO, Difference, Interval, Mode, Point, Rank
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.sampling.protocols import Bootstrap
from cxrzoo.evaluation.sampling.splits import BOOTSTRAP_STREAM, REDRAW_STREAM
from cxrzoo.evaluation.statistics.bootstrap import (
    check_classes,
    draw_counts,
    interval,
    replicate_auprc,
    replicate_auroc,
    replicate_sensitivity,
)
from cxrzoo.evaluation.statistics.metrics import auprc, auroc, combine_views, sensitivity_at

Floats = NDArray[np.float64]
#: A model and how it was probed.
Key = tuple[str, Mode]

Counts = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class _Metric:
    """A figure of labels and scores, and the same in every replicate of the bootstrap."""

    value: Callable[[Floats, Floats], float]
    replicate: Callable[[Floats, Floats, Counts], Floats]


@dataclass(frozen=True)
class Targets:
    """The test images: labels (images, findings) with NaN where an image isn't used, and what belongs together.

    With `studies`, each study counts once: by the greatest logit of its images, as the paper does.
    """

    findings: tuple[str, ...]
    labels: Floats
    patients: NDArray[np.str_]
    studies: NDArray[np.str_] | None = None


@dataclass(frozen=True)
class Curves:
    """What `measure` finds; `left_out` are the findings and fractions without figures, as sentences."""

    points: tuple[Point, ...]
    differences: tuple[Difference, ...]
    ranking: tuple[Rank, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class _Grid:
    """One metric of one model: means over the draws (findings, fractions), and their replicates (..., R).

    The last row is the mean over the findings, where there are several; `draws` (findings, draws) are the single ones.
    """

    values: Floats
    replicates: Floats
    draws: Floats


def measure(
    logits: Mapping[Key, Floats],
    test: Targets,
    draws: Sequence[Draw],
    positives: NDArray[np.int64],
    baseline: str,
    bootstrap: Bootstrap,
    *,
    specificity: float = 0.9,
    seed: int = 0,
) -> Curves:
    """Return the curves of all models, on the same test images and the same replicates.

    Args:
        logits: For each model and mode (draws, images, findings); NaN where a draw had one class only.
        draws: What the first axis of `logits` is of.
        positives: (draws, findings), of the labelled images.
        baseline: The model that the others are compared with.

    Raises:
        EvaluationError: There are too few cases or replicates for an interval.
    """
    test, logits = combine_studies(test, logits)
    steps = list(dict.fromkeys(draw.step for draw in draws))
    names = [*test.findings, MACRO] if len(test.findings) > 1 else list(test.findings)
    counts = _draw_counts(test, bootstrap, seed)
    of_draw = np.array([steps.index(draw.step) for draw in draws])
    redraw = [_redraw(int((of_draw == column).sum()), bootstrap, seed) for column in range(len(steps))]
    metrics = {
        "auroc": _Metric(auroc, replicate_auroc),
        "auprc": _Metric(auprc, replicate_auprc),
        "sensitivity": _Metric(
            partial(sensitivity_at, specificity=specificity), partial(replicate_sensitivity, specificity=specificity)
        ),
    }
    grids = {
        name: {key: _grid(metric, values, test, of_draw, counts, redraw) for key, values in logits.items()}
        for name, metric in metrics.items()
    }

    def shown(grid: _Grid, row: int, column: int) -> Interval:
        found = _interval(grid.values[row, column], grid.replicates[row, column], bootstrap)
        return Interval(found.value, max(found.lower, 0.0), min(found.upper, 1.0))

    points = []
    for model, mode in logits:
        auroc_grid = grids["auroc"][model, mode]
        for row, column in np.argwhere(np.isfinite(auroc_grid.values)).tolist():
            here = np.flatnonzero(of_draw == column).tolist()
            of_finding = positives[here] if names[row] == MACRO else positives[here][:, [row]]
            points.append(
                Point(
                    model=model,
                    mode=mode,
                    finding=names[row],
                    fraction=steps[column],
                    images=float(np.mean([len(draws[i].rows) for i in here])),
                    positives=float(of_finding.mean()),
                    draws=len(here),
                    auroc=shown(auroc_grid, row, column),
                    auprc=shown(grids["auprc"][model, mode], row, column),
                    sensitivity=shown(grids["sensitivity"][model, mode], row, column),
                    spread=float(auroc_grid.draws[row, here].std(ddof=1)) if len(here) > 1 else None,
                )
            )
    return Curves(
        points=tuple(points),
        differences=_differences(grids["auroc"], names, steps, baseline, bootstrap),
        ranking=_rank(grids["auroc"], len(test.findings), bootstrap),
        left_out=_left_out(next(iter(grids["auroc"].values())), names, steps),
    )


def combine_studies(test: Targets, logits: Mapping[Key, Floats]) -> tuple[Targets, dict[Key, Floats]]:
    """Return one row a study; a study has a finding if one of its images has, and not if all that are used haven't."""
    if test.studies is None:
        return test, dict(logits)
    combined = {
        key: np.stack([combine_views(draw, test.studies)[0] for draw in of_model]) for key, of_model in logits.items()
    }
    labels, first = combine_views(np.where(np.isnan(test.labels), -np.inf, test.labels), test.studies)
    labels[np.isneginf(labels)] = np.nan
    return Targets(test.findings, labels, test.patients[first]), combined


def check_replicates(test: Targets, bootstrap: Bootstrap, seed: int) -> None:
    """Refuse test images of which a replicate of the bootstrap will lack a class, before anything is computed.

    Raises:
        EvaluationError: Says for which finding.
    """
    counts = _draw_counts(test, bootstrap, seed)
    for finding, labels in zip(test.findings, test.labels.T, strict=True):
        try:
            check_classes(*(counts[labels == label].sum(axis=0, dtype=np.float64) for label in (1, 0)))
        except EvaluationError as error:
            raise EvaluationError(f"{finding}: {error}") from None


def _draw_counts(test: Targets, bootstrap: Bootstrap, seed: int) -> Counts:
    groups = test.patients if bootstrap.clusters == "patient" else None
    return draw_counts(len(test.labels), groups=groups, replicates=bootstrap.replicates, seed=[seed, BOOTSTRAP_STREAM])


def _redraw(draws: int, bootstrap: Bootstrap, seed: int) -> Floats:
    """Return the weight of each draw of a step in each replicate, (draws, R): equal, or of draws drawn anew.

    Drawing D of D anew gives (D - 1) / D of the variance of their mean, which is made up for. Steps with the same
    number of draws get the same weights: of nested draws, the fractions belong together.
    """
    if draws == 1 or not bootstrap.draws:
        return np.full((draws, bootstrap.replicates), 1 / draws)
    generator = np.random.default_rng([seed, REDRAW_STREAM, draws])
    often = generator.multinomial(draws, np.full(draws, 1 / draws), size=bootstrap.replicates).T
    return np.asarray(1 / draws + np.sqrt(draws / (draws - 1)) * (often - 1) / draws)


def _grid(
    metric: _Metric,
    logits: Floats,
    test: Targets,
    of_draw: NDArray[np.int64],
    counts: Counts,
    redraw: Sequence[Floats],
) -> _Grid:
    findings, fractions = len(test.findings), int(of_draw.max()) + 1
    single = np.full((findings, len(of_draw)), np.nan)
    values = np.full((findings, fractions), np.nan)
    replicates = np.full((findings, fractions, counts.shape[1]), np.nan)
    for finding in range(findings):
        used = ~np.isnan(test.labels[:, finding])
        labels, scores = test.labels[used, finding], logits[:, used, finding]
        lacking = np.isnan(scores).any(axis=1)
        columns = np.setdiff1d(np.arange(fractions), of_draw[lacking])  # all draws of a fraction, or none
        chosen = np.flatnonzero(np.isin(of_draw, columns))
        if not len(chosen):
            continue
        single[finding, chosen] = [metric.value(labels, scores[draw]) for draw in chosen]
        of_replicates = metric.replicate(labels, scores[chosen].T, counts[used])
        for column in columns:
            values[finding, column] = single[finding, of_draw == column].mean()
            replicates[finding, column] = (redraw[column] * of_replicates[of_draw[chosen] == column]).sum(axis=0)
    if findings > 1:  # a mean over other findings at each fraction would be no curve
        values = np.vstack([values, values.mean(axis=0)])
        replicates = np.concatenate([replicates, replicates.mean(axis=0, keepdims=True)])
        single = np.vstack([single, single.mean(axis=0)])
    return _Grid(values, replicates, single)


def _interval(value: float, replicates: Floats, bootstrap: Bootstrap, alpha: float = 0.05) -> Interval:
    lower, upper = interval(replicates, bootstrap.rule, alpha)
    middle = float(replicates.mean()) if bootstrap.estimate == "bootstrap mean" else float(value)
    return Interval(middle, float(lower), float(upper))


def _differences(
    grids: Mapping[Key, _Grid], names: Sequence[str], steps: Sequence[str], baseline: str, bootstrap: Bootstrap
) -> tuple[Difference, ...]:
    cells = [
        (model, mode, row, column)
        for (model, mode), grid in grids.items()
        if model != baseline and (baseline, mode) in grids
        for row, column in np.argwhere(np.isfinite(grid.values)).tolist()
    ]
    rows = []
    for model, mode, row, column in cells:
        ours, theirs = grids[model, mode], grids[baseline, mode]
        replicates = ours.replicates[row, column] - theirs.replicates[row, column]
        value = ours.values[row, column] - theirs.values[row, column]
        found = _interval(value, replicates, bootstrap)
        rows.append(
            Difference(
                model=model,
                baseline=baseline,
                mode=mode,
                finding=names[row],
                fraction=steps[column],
                difference=found,
                significant=_excludes_zero(found),
                bonferroni=_excludes_zero(found) and _survives(value, replicates, len(cells)),
            )
        )
    return tuple(rows)


def _excludes_zero(found: Interval) -> bool:
    return found.lower > 0 or found.upper < 0


def _survives(value: float, replicates: Floats, comparisons: int) -> bool:
    """Return whether the interval still excludes 0 when it is widened for all comparisons."""
    lower, upper = interval(replicates, "percentile", 0.05 / comparisons)
    return _excludes_zero(Interval(value, float(lower), float(upper)))


def _rank(grids: Mapping[Key, _Grid], findings: int, bootstrap: Bootstrap) -> tuple[Rank, ...]:
    """Return the models of each mode, best first; the mode with the best model comes first."""
    # all over the same findings and fractions, or the modes could not be told apart
    usable = np.all([np.isfinite(grid.values[:findings]) for grid in grids.values()], axis=0)
    if not usable.any():
        raise EvaluationError(
            "no finding has a figure at any label fraction: in each, a draw has no image with it, or none without it. "
            "Give more training images, or a protocol with larger fractions."
        )
    replicates = {key: grid.replicates[:findings][usable].mean(axis=0) for key, grid in grids.items()}
    averages = {
        key: _interval(float(grid.values[:findings][usable].mean()), replicates[key], bootstrap)
        for key, grid in grids.items()
    }

    def behind(key: Key, leader: Key) -> Interval | None:
        gap = averages[leader].value - averages[key].value
        return None if key == leader else _interval(gap, replicates[leader] - replicates[key], bootstrap)

    def behind_last(key: Key, leader: Key) -> Interval | None:
        """Return the gap at the largest fraction alone."""
        rows = usable[:, -1]
        if key == leader or not rows.any():
            return None
        ours, theirs = grids[key], grids[leader]
        gap = (theirs.values - ours.values)[:findings][rows, -1].mean()
        return _interval(gap, (theirs.replicates - ours.replicates)[:findings][rows, -1].mean(axis=0), bootstrap)

    order = sorted(grids, key=lambda key: -averages[key].value)  # by the figure that is shown; equal ones as they came
    ranks = []
    for mode in dict.fromkeys(mode for _, mode in order):
        keys = [key for key in order if key[1] == mode]
        scores = np.stack([replicates[key] for key in keys])
        # equal models share a replicate, or the first would win all of them
        winners = scores == scores.max(axis=0)
        shares = (winners / winners.sum(axis=0)).mean(axis=1)
        ranks += [
            Rank(
                *key,
                averages[key],
                float(share),
                behind(key, keys[0]),
                behind(key, order[0]),
                behind_last(key, keys[0]),
            )
            for key, share in zip(keys, shares, strict=True)
        ]
    return tuple(ranks)


def _left_out(grid: _Grid, names: Sequence[str], steps: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"No figures for {names[row]} at {steps[column]}: a draw has no image with it, or none without it."
        for row, column in np.argwhere(~np.isfinite(grid.values)).tolist()
        if names[row] != MACRO
    )
