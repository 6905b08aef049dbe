"""Time of all fits of the linear probe, and of the bootstrap, against scikit-learn in a loop; in pairs, results equal.

Run it on an idle machine. The loops of the peer would take hours: a random sample of them is timed and scaled.
"""

import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from cxrzoo.evaluation.probes.solver import fit_logistic
from cxrzoo.evaluation.statistics.bootstrap import draw_counts, replicate_auprc, replicate_auroc

IMAGES, DIMENSION, FINDINGS, DRAWS, TEST = 10_000, 1024, 14, 5, 2_000
#: Share of positives of each finding.
SHARES = np.geomspace(0.01, 0.4, FINDINGS)
#: The peer's tolerance that brings its objective to within some 1e-6 of the minimum, and its default, which does not.
EQUAL, DEFAULT = 1e-6, 1e-4
#: Each pair times all of our fits and, of the peer's, so many of each fraction, of different findings.
SAMPLES = (8, 3, 1, 1)
#: Each pair times all of our replicates of a finding and this many of the peer's.
REPLICATES, REPLICATES_OF_PEER = 2_000, 200

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Data:
    """Embeddings as a network gives them: correlated, with a spectrum that falls as a power; 1 to 40 % positives."""

    features: Floats
    labels: Floats
    test: Floats
    test_labels: Floats


def make_data(seed: int = 0) -> Data:
    """Return embeddings, standardised, and labels that follow a linear model with logistic noise."""
    rng = np.random.default_rng([seed, 1])
    spectrum = np.arange(1, DIMENSION + 1) ** -0.7
    rotation = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))[0]
    features = (rng.normal(size=(IMAGES + TEST, DIMENSION)) * spectrum) @ rotation
    features = (features - features[:IMAGES].mean(axis=0)) / features[:IMAGES].std(axis=0)
    signal = features @ rng.normal(size=(DIMENSION, FINDINGS))
    scores = 1.5 * signal / signal.std(axis=0) + rng.logistic(size=signal.shape)
    limits = [np.quantile(column, 1 - share) for column, share in zip(scores.T, SHARES, strict=True)]
    labels = (scores > limits).astype(float)
    return Data(features[:IMAGES], labels[:IMAGES], features[IMAGES:], labels[IMAGES:])


def draw(data: Data, fractions: tuple[float, ...], nested: bool, seed: int = 0) -> list[NDArray[np.int64]]:
    """Return the rows of each draw, fraction by fraction; drawn again until each has every finding."""
    rng = np.random.default_rng([seed, 2])

    def shuffle() -> NDArray[np.int64]:
        while True:
            order = rng.permutation(IMAGES)
            if data.labels[order[: round(fractions[0] * IMAGES)]].any(axis=0).all():
                return order

    shared = [shuffle() for _ in range(DRAWS)]
    return [
        np.sort((shared[number] if nested else shuffle())[: round(fraction * IMAGES)])
        for fraction in fractions
        for number in range(DRAWS)
    ]


@dataclass
class Clock:
    """Seconds of what runs inside `with`: on the wall, and of all cores, which other programs disturb less."""

    wall: float = 0.0
    cores: float = 0.0

    def __enter__(self) -> "Clock":
        self.wall -= time.perf_counter()
        self.cores -= time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall += time.perf_counter()
        self.cores += time.process_time()

    def __mul__(self, factor: float) -> "Clock":
        return Clock(self.wall * factor, self.cores * factor)

    def __add__(self, other: "Clock") -> "Clock":
        return Clock(self.wall + other.wall, self.cores + other.cores)


def summary(ours: list[Clock], theirs: list[Clock]) -> str:
    """Return both medians, and the medians of the ratios, on the wall with their range."""
    ratios = [b.wall / a.wall for a, b in zip(ours, theirs, strict=True)]
    of_cores = [b.cores / a.cores for a, b in zip(ours, theirs, strict=True)]
    return (
        f"cxrzoo {statistics.median(one.wall for one in ours):.2f} s   "
        f"scikit-learn {statistics.median(one.wall for one in theirs):.0f} s (scaled)   "
        f"ratio {statistics.median(ratios):.0f} ({min(ratios):.0f} to {max(ratios):.0f}, {len(ratios)} pairs); "
        f"of processor time {statistics.median(of_cores):.0f}"
    )


def find_objective(features: Floats, labels: Floats, model: LogisticRegression, strength: float) -> float:
    """Return what scikit-learn minimises, at its solution."""
    margins = (2 * labels - 1) * (features @ model.coef_[0] + model.intercept_[0])
    return float(model.coef_[0] @ model.coef_[0] / 2 + strength * np.logaddexp(0, -margins).sum())


def compare_fits(
    data: Data,
    fractions: tuple[float, ...],
    *,
    nested: bool,
    strength: float,
    tolerances: tuple[float, ...],
    pairs: int,
) -> None:
    """Print the time of 4 fractions × 5 draws × 14 findings, and how far the objectives are apart."""
    draws = draw(data, fractions, nested)
    weights = np.zeros((IMAGES, len(draws) * FINDINGS))
    for number, rows in enumerate(draws):
        weights[rows, number * FINDINGS : (number + 1) * FINDINGS] = 1
    targets, strengths = np.tile(data.labels, len(draws)), np.full(len(draws) * FINDINGS, strength)
    rng = np.random.default_rng(3)
    ours: list[Clock] = []
    theirs: dict[float, list[Clock]] = {tol: [] for tol in tolerances}
    gaps: dict[float, list[float]] = {tol: [] for tol in tolerances}
    converged = True
    for _ in range(pairs):
        with Clock() as clock:
            solution = fit_logistic(data.features, targets, weights, strengths)
        ours.append(clock)
        converged &= bool(solution.converged.all())
        chosen = [
            (step * DRAWS + int(rng.integers(DRAWS)), int(finding), DRAWS * FINDINGS / count)
            for step, count in enumerate(SAMPLES)
            for finding in rng.choice(FINDINGS, count, replace=False)
        ]
        for tol in tolerances:
            total = Clock()
            for number, finding, times in chosen:
                x, y = data.features[draws[number]], data.labels[draws[number], finding]
                with Clock() as clock:
                    model = LogisticRegression(C=strength, tol=tol, max_iter=100_000).fit(x, y)
                total += clock * times
                reached = find_objective(x, y, model, strength)
                gaps[tol].append(solution.objectives[number * FINDINGS + finding] / reached - 1)
            theirs[tol].append(total)
    shown = ", ".join(f"{fraction:.0%}" for fraction in fractions)
    kind = "nested, at 100 % five times the same" if nested else "independent, no two the same"
    print(f"{len(strengths)} fits: {shown} of {IMAGES} × {DIMENSION}; draws {kind}; C = {strength:g}")
    for tol in tolerances:
        print(f"  tol = {tol:g}:  {summary(ours, theirs[tol])}")
        print(
            f"    objective, ours / theirs - 1: {min(gaps[tol]):+.1e} to {max(gaps[tol]):+.1e} "
            f"({len(gaps[tol])} fits; below 0 ours is the better); ours all converged: {converged}",
            flush=True,
        )


def compare_bootstrap(
    data: Data,
    name: str,
    ours: Callable[[Floats, Floats, NDArray[np.int16]], Floats],
    theirs: Callable[[Floats, Floats], float],
) -> None:
    """Print the time of all replicates of 20 score vectors a finding, and how far apart the figures are."""
    rng = np.random.default_rng(4)
    fast, slow, gaps = [], [], []
    for finding in range(FINDINGS):
        labels = data.test_labels[:, finding]
        scores = labels[:, None] + rng.normal(size=(TEST, 4 * DRAWS))
        with Clock() as clock:
            counts = draw_counts(TEST, replicates=REPLICATES, seed=finding)
            values = ours(labels, scores, counts)
        fast.append(clock)
        spent = Clock()
        for _ in range(REPLICATES_OF_PEER):
            vector, number = int(rng.integers(4 * DRAWS)), int(rng.integers(REPLICATES))
            rows = np.repeat(np.arange(TEST), counts[:, number])
            with spent:
                peer = theirs(labels[rows], scores[rows, vector])
            gaps.append(abs(values[vector, number] - peer))
        slow.append(spent * (4 * DRAWS * REPLICATES / REPLICATES_OF_PEER))
    print(f"{name}: {FINDINGS} findings × {4 * DRAWS} score vectors × {REPLICATES} replicates of {TEST} images, each")
    print(f"  {summary(fast, slow)} a finding")
    print(f"  largest difference of {len(gaps)} figures: {max(gaps):.1e}", flush=True)


def main() -> None:
    """Print both sections."""
    warnings.simplefilter("ignore")  # scikit-learn's, on line searches at the end of their precision
    data = make_data()
    print(f"Bootstrap; of the peer, {REPLICATES_OF_PEER} random replicates of each finding are timed and scaled")
    compare_bootstrap(data, "roc_auc_score", replicate_auroc, roc_auc_score)
    compare_bootstrap(data, "average_precision_score", replicate_auprc, average_precision_score)
    shown = ", ".join(map(str, SAMPLES))
    print(f"Fits; of the peer, LogisticRegression, {shown} random fits of each fraction are timed a pair, and scaled")
    whole, apart = (0.01, 0.05, 0.2, 1.0), (0.01, 0.05, 0.2, 0.8)
    compare_fits(data, whole, nested=True, strength=1.0, tolerances=(EQUAL, DEFAULT), pairs=3)
    compare_fits(data, apart, nested=False, strength=1.0, tolerances=(EQUAL,), pairs=2)
    compare_fits(data, whole, nested=True, strength=1e-3, tolerances=(EQUAL,), pairs=2)


if __name__ == "__main__":
    main()
