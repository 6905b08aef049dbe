"""Many penalised logistic regressions on one matrix of features, descended together by a preconditioned L-BFGS."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Doubles = NDArray[np.float64]
Rows = NDArray[np.bool_] | NDArray[np.int64]

#: Pairs of steps and gradient changes that are remembered. Nocedal & Wright (2006), section 7.2, name 3 to 20.
MEMORY = 10
#: A step is taken where the slope along it has fallen to this share.
FLATTER = 0.5
#: Trials of a line search. Each at least halves the interval or doubles the step.
TRIALS = 50
#: Values are worked on in blocks that fit into the cache of one core.
BLOCK = 1 << 15
#: The estimate of how far a value is above its minimum rests on the mean curvature, and was up to 100 times too small
#: where classes are all but separable. It has to be this much below the tolerance.
CAUTION = 10
#: Problems leave the batch when less than this share of it is still under way: leaving costs a copy of all others.
CROWDED = 0.8


@dataclass(frozen=True)
class Problems:
    """K problems on the same rows, one row of `targets` and `weights` (K, n) and one of `strengths` (K,) for each.

    All share the `features` (n, d), what a squared coefficient costs (`penalty`), and the mean square of each feature
    (`spectrum`): where the features are uncorrelated, that is all there is to know about their curvature.
    """

    features: Floats
    targets: Floats
    weights: Floats
    strengths: Doubles
    penalty: Doubles
    spectrum: Doubles

    def keep(self, rows: Rows) -> "Problems":
        """Return some of the problems."""
        kept = self.targets[rows], self.weights[rows], self.strengths[rows]
        return Problems(self.features, *kept, self.penalty, self.spectrum)

    def round(self) -> "Problems":
        """Return the same problems in float32."""
        features, targets, weights = (a.astype(np.float32) for a in (self.features, self.targets, self.weights))
        return Problems(features, targets, weights, self.strengths, self.penalty, self.spectrum)


@dataclass
class State:
    """Where the problems stand: coefficients (K, d), margins and residuals (K, n), values, sums of p (1 - p)."""

    points: Doubles
    margins: Floats
    residuals: Floats
    values: Doubles
    curvatures: Doubles

    def keep(self, rows: Rows) -> "State":
        """Return the state of some of the problems."""
        return State(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def put(self, rows: Rows, other: "State") -> None:
        """Replace the state of some of the problems."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[rows] = getattr(other, name)


@dataclass(frozen=True)
class Descent:
    """Where the descent ended: coefficients (K, d), values (K,), and which of them came within the tolerance."""

    points: Doubles
    values: Doubles
    converged: NDArray[np.bool_]
    iterations: int


def descend(problems: Problems, points: Doubles, *, tol: float, max_iter: int) -> Descent:
    """Minimise all problems from their starting points.

    A problem has converged when its value is within `tol` times itself of the minimum, as far as the model of its
    curvature tells. The precision of the products is that of `problems.features`.
    """
    ends, values, converged = points.copy(), np.empty(len(points)), np.zeros(len(points), dtype=bool)
    left = np.arange(len(points))
    stuck = np.zeros(len(points), dtype=bool)
    memory: list[tuple[Doubles, Doubles, Doubles]] = []
    state = _evaluate(problems, points, _multiply(points, problems.features.T))
    gradients = _differentiate(problems, state)
    iteration = 0
    while True:
        diagonal = _diagonal(problems, state)
        directions = -_precondition(gradients, diagonal, memory)
        slopes = _dot(directions, gradients)
        gaps = np.maximum(-slopes, _dot(gradients / diagonal, gradients)) / 2
        arrived = CAUTION * gaps <= tol * state.values
        under_way = ~(arrived | stuck)
        last = iteration == max_iter or not under_way.any()
        if last or under_way.mean() < CROWDED:
            ends[left], values[left], converged[left] = state.points, state.values, arrived
            if last:
                return Descent(ends, values, converged, iteration)
            left, problems, state = left[under_way], problems.keep(under_way), state.keep(under_way)
            memory = [(steps[under_way], turns[under_way], scales[under_way]) for steps, turns, scales in memory]
            gradients, directions, slopes = gradients[under_way], directions[under_way], slopes[under_way]
        before = state.points
        state, stuck = _search(problems, state, directions, slopes)
        steps, turns = state.points - before, -gradients
        gradients = _differentiate(problems, state)
        turns += gradients
        bends = _dot(steps, turns)
        # a step of nothing, or one whose curvature rounding has eaten, teaches nothing: its scale is 0
        taught = bends > np.finfo(float).eps * _dot(turns, turns)
        memory = [*memory[1 - MEMORY :], (steps, turns, np.where(taught, 1 / np.where(taught, bends, 1), 0))]
        iteration += 1


def _multiply(left: Doubles, right: Floats) -> Floats:
    """Return a product in the precision of its right side."""
    return left.astype(right.dtype, copy=False) @ right


def _dot(left: Floats, right: Floats) -> Doubles:
    """Return the inner products of the rows."""
    products: Floats = np.einsum("ki,ki->k", left, right)
    return products.astype(np.float64, copy=False)


def _evaluate(problems: Problems, points: Doubles, margins: Floats) -> State:
    """Return the state at some points, whose margins are known."""
    values, curvatures, residuals = np.empty(len(points)), np.empty(len(points)), np.empty_like(margins)
    block = max(1, BLOCK // margins.shape[1])
    for start in range(0, len(margins), block):
        rows = slice(start, start + block)
        margin, target, weight = margins[rows], problems.targets[rows], problems.weights[rows]
        # e^-|m| / (1 + e^-|m|) is p where m < 0 and 1 - p elsewhere: nothing cancels at either end
        smaller = np.exp(-np.abs(margin))
        whole = 1 + smaller
        losses = np.log(whole) + np.maximum(margin, 0) - target * margin
        smaller /= whole
        residual = np.where(margin < 0, smaller, 1 - smaller) - target
        values[rows] = _dot(weight, losses)
        residuals[rows] = residual * weight
        curvatures[rows] = _dot(weight, smaller * (1 - smaller))
    values = problems.strengths * values + (points**2 @ problems.penalty) / 2
    return State(points, margins, residuals, values, curvatures)


def _differentiate(problems: Problems, state: State) -> Doubles:
    """Return the gradients (K, d)."""
    sums = (state.residuals @ problems.features).astype(np.float64, copy=False)
    gradients: Doubles = problems.strengths[:, None] * sums + problems.penalty * state.points
    return gradients


def _diagonal(problems: Problems, state: State) -> Doubles:
    """Return the second derivatives (K, d), as they were if p (1 - p) were equal in all rows."""
    # an unpenalised coefficient of separated classes has next to no curvature: never divide by 0
    curvatures = np.maximum(state.curvatures, 1e-12 * problems.weights.sum(axis=1))
    diagonal: Doubles = problems.penalty + np.multiply.outer(problems.strengths * curvatures, problems.spectrum)
    return diagonal


def _precondition(gradients: Doubles, diagonal: Doubles, memory: list[tuple[Doubles, Doubles, Doubles]]) -> Doubles:
    """Return the gradients times the inverse Hessian as L-BFGS knows it (two-loop recursion)."""
    result = gradients.copy()
    shares = []
    for steps, turns, scales in reversed(memory):
        shares.append(scales * _dot(steps, result))
        result -= shares[-1][:, None] * turns
    result /= diagonal
    for (steps, turns, scales), share in zip(memory, reversed(shares), strict=True):
        result += (share - scales * _dot(turns, result))[:, None] * steps
    return result


def _search(problems: Problems, state: State, directions: Doubles, slopes: Doubles) -> tuple[State, NDArray[np.bool_]]:
    """Return the state after a step along each direction, and which problems found no step.

    The functions are convex along a line: a slope above 0 lies beyond the minimum, one below 0 before it.
    """
    sweeps = _multiply(directions, problems.features.T)
    rounding = 8 * np.finfo(sweeps.dtype).eps
    low, low_slopes = np.zeros(len(slopes)), slopes.copy()
    high, high_slopes = np.full(len(slopes), np.inf), np.zeros(len(slopes))
    lengths = np.ones(len(slopes))
    ended = state
    pending = np.arange(len(slopes))
    for trial in range(TRIALS):
        part = problems if trial == 0 else problems.keep(pending)
        here = state if trial == 0 else state.keep(pending)
        direction, sweep = (directions, sweeps) if trial == 0 else (directions[pending], sweeps[pending])
        length = lengths[pending, None]
        there = _evaluate(part, here.points + length * direction, here.margins + length.astype(sweep.dtype) * sweep)
        slope = part.strengths * _dot(there.residuals, sweep) + _dot(there.points * problems.penalty, direction)
        lower = there.values <= here.values * (1 + rounding)
        fine = lower & (np.abs(slope) <= FLATTER * -slopes[pending])
        if trial == 0:
            ended = there
        else:
            ended.put(pending[fine], there.keep(fine))
        beyond = (slope > 0) | ~lower
        low[pending[~beyond]], low_slopes[pending[~beyond]] = lengths[pending[~beyond]], slope[~beyond]
        high[pending[beyond]], high_slopes[pending[beyond]] = lengths[pending[beyond]], slope[beyond]
        pending = pending[~fine]
        if not pending.size:
            break
        lengths[pending] = _next_length(low[pending], low_slopes[pending], high[pending], high_slopes[pending])
    stuck = np.zeros(len(slopes), dtype=bool)
    stuck[pending] = True
    ended.put(pending, state.keep(pending))
    return ended, stuck


def _next_length(low: Doubles, low_slopes: Doubles, high: Doubles, high_slopes: Doubles) -> Doubles:
    """Return where a straight slope between both ends is 0, away from the ends; twice the step without upper end."""
    open_ended = np.isinf(high)
    width = np.where(open_ended, 0, high) - low
    rises = np.maximum(high_slopes - low_slopes, np.finfo(float).tiny)
    inside = low + width * np.clip(-low_slopes / rises, 0.1, 0.9)
    return np.where(open_ended, np.maximum(4 * low, 1), inside)
