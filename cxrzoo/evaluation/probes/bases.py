"""Features in the coordinates in which many regressions on the same rows are solved fastest."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

#: Rows that are turned at once, so that no second copy of all features is needed.
BLOCK = 4096


@dataclass(frozen=True)
class Basis:
    """Centred features along their principal axes, the largest variance 1, with a last column of ones for intercepts.

    A turn changes neither margins nor the length of a coefficient vector, so the problem stays what it was; and where
    there are fewer rows than features, no solution leaves the rows' own span (representer theorem), so `features` is
    no wider than long. Uncorrelated features have a diagonal curvature, `spectrum`, the same for every problem but for
    one factor. `penalty` is what a squared coefficient costs in these coordinates, 0 for the intercept.
    """

    features: Doubles
    spectrum: Doubles
    penalty: Doubles
    axes: Doubles
    centre: Doubles
    has_intercept: bool

    def give_back(self, points: Doubles) -> tuple[Doubles, Doubles]:
        """Return coefficients (d, K) and intercepts (K,) for the features as they were, of points (K, r) in these."""
        if not self.has_intercept:
            return self.axes @ points.T, np.zeros(len(points))
        coefficients = self.axes @ points[:, :-1].T
        return coefficients, points[:, -1] - self.centre @ coefficients


def make_basis(
    features: NDArray[np.floating], rows: NDArray[np.int64], weights: Doubles, *, has_intercept: bool
) -> Basis:
    """Return the basis of some rows of the features; `weights` says how much each of these rows counts."""
    width, shares = features.shape[1], weights / weights.sum()
    centre = np.zeros(width)
    if has_intercept:
        centre = sum((shares[block] @ features[rows[block]].astype(np.float64) for block in _split(len(rows))), centre)
    shift, span = centre, None
    if len(rows) < width:
        span, upper = np.linalg.qr((features[rows] - centre).T)
        features, rows, shift = upper.T, np.arange(len(rows)), np.zeros(len(rows))
    gram = np.zeros((len(shift), len(shift)))
    for block in _split(len(rows)):
        part = features[rows[block]] - shift
        gram += (part.T * shares[block]) @ part
    spectrum, axes = np.linalg.eigh(gram)
    scale = np.sqrt(spectrum[-1]) if spectrum[-1] > 0 else 1.0
    axes /= scale
    turned = np.ones((len(rows), len(axes) + has_intercept))
    for block in _split(len(rows)):
        turned[block, : len(axes)] = (features[rows[block]] - shift) @ axes
    spectrum, penalty = np.maximum(spectrum / scale**2, 0), np.full(len(axes), scale**-2)
    if has_intercept:
        spectrum, penalty = np.append(spectrum, 1), np.append(penalty, 0)
    return Basis(turned, spectrum, penalty, axes if span is None else span @ axes, centre, has_intercept)


def _split(count: int) -> Iterator[slice]:
    """Yield blocks of rows."""
    for start in range(0, count, BLOCK):
        yield slice(start, start + BLOCK)
