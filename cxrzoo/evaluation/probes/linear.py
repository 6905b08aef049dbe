"""A logistic regression on frozen embeddings, as a scikit-learn classifier."""

import warnings
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, check_is_fitted, validate_data

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.probes.labelling import Columns, Doubles, Probe, hold_labels
from cxrzoo.evaluation.probes.solver import fit_logistic


class LinearProbe(Probe):
    """Logistic regression on embeddings, for one finding, several classes, or a table of findings with gaps.

    Its minimum is that of scikit-learn's LogisticRegression with the same C, found many times faster where there are
    many findings. Labels `y` are (n,): two classes, or more, each then fitted against all others; or a table (n, F) of
    1, 0 and NaN, whose unknown labels are left out finding by finding.

    Args:
        C: Inverse strength of the penalty, as in LogisticRegression.
        standardise: Whether features are first scaled by mean and standard deviation of the rows that are fitted;
            those that are constant there have no say.
        class_weight: None, "balanced" (each class counts as much as another), or weights by class; in a table, of 1
            and 0 in every finding.
        tol: How far the objective may be above its minimum, relative to itself.
        max_iter: Steps after which fitting ends with a ConvergenceWarning.

    Attributes:
        coef_: (1, d) for two classes, else one row for each class or finding, in units of the given features.
        intercept_: One for each row of `coef_`.
        classes_: The classes; 0 and 1 for a table.
        n_iter_: Steps that were taken.
    """

    coef_: Doubles
    intercept_: Doubles
    n_iter_: int

    def __init__(
        self,
        C: float = 1.0,
        *,
        standardise: bool = True,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        tol: float = 1e-8,
        max_iter: int = 500,
    ) -> None:
        self.C = C
        self.standardise = standardise
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to features (n, d) and labels; rows of weight 0 are as if they were not there."""
        features = validate_data(self, X, dtype=np.float64)
        rows = np.ones(len(features)) if sample_weight is None else _check_sample_weight(sample_weight, features)
        labels = hold_labels(y)
        check_consistent_length(features, labels)
        if (rows < 0).any():
            raise EvaluationError("a sample weight is below 0; expected 0 or more; give 0 to leave a row out")
        used = rows > 0
        features, labels, rows = features[used], labels[used], rows[used]
        columns = self._learn_columns(labels)
        weights = rows[:, None] * columns.known * self._weigh_classes(columns, rows)
        centre, scale = np.zeros(features.shape[1]), np.ones(features.shape[1])
        if self.standardise:
            centre, scale = _measure(features, rows * columns.known.any(axis=1))
        solution = fit_logistic(
            (features - centre) / scale,
            columns.targets,
            weights,
            np.full(weights.shape[1], self.C),
            tol=self.tol,
            max_iter=self.max_iter,
        )
        self.n_iter_ = max(1, solution.iterations)
        if not solution.converged.all():
            warnings.warn(
                f"{(~solution.converged).sum()} of {len(solution.converged)} logistic regressions are not within "
                f"{self.tol:g} of their minimum after {solution.iterations} steps; raise max_iter or tol, or lower C",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.coef_ = (solution.coefficients / scale[:, None]).T
        self.intercept_ = solution.intercepts - self.coef_ @ centre
        return self

    def decision_function(self, X: Any) -> Doubles:
        """Return the logits: (n,) for two classes, else one column for each class or finding."""
        logits = self._score(X)
        return logits if self._is_table or logits.shape[1] > 1 else logits[:, 0]

    def _score(self, X: Any) -> Doubles:
        check_is_fitted(self)
        features = validate_data(self, X, dtype=np.float64, reset=False)
        logits: Doubles = features @ self.coef_.T + self.intercept_
        return logits

    def _estimate(self, features: Any) -> Doubles:
        probabilities: Doubles = expit(self._score(features))
        return probabilities

    def _weigh_classes(self, columns: Columns, rows: Doubles) -> Doubles:
        """Return what a label counts for its class, (n, K) or as good as that."""
        if self.class_weight is None:
            return np.ones((1, 1))
        # a table has two classes in each column of its own; otherwise all columns are of the same classes
        codes = columns.codes if columns.is_table else columns.codes[:, None]
        count = len(columns.classes)
        if isinstance(self.class_weight, str):
            if self.class_weight != "balanced":
                raise EvaluationError(f"class_weight is {self.class_weight!r}; expected 'balanced', a dict or None")
            known = rows[:, None] * (columns.known if columns.is_table else 1)
            sums = np.stack([(known * (codes == code)).sum(axis=0) for code in range(count)])
            shares = sums.sum(axis=0) / np.where(sums > 0, count * sums, np.inf)
        else:
            shares = np.array([[self.class_weight.get(name, 1.0)] for name in columns.classes.tolist()])
        weights: Doubles = np.take_along_axis(np.broadcast_to(shares, (count, codes.shape[1])), codes, axis=0)
        return weights


def _measure(features: Doubles, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Return the mean and the standard deviation of each feature, infinite where it is constant."""
    features, shares = features[weights > 0], weights[weights > 0] / weights.sum()
    centre = shares @ features
    scale = np.sqrt(shares @ (features - centre) ** 2)
    # equal numbers need not have a mean that equals them, so the deviation does not tell
    constant = (features.max(axis=0) == features.min(axis=0)) | (scale == 0)
    return centre, np.where(constant, np.inf, scale)
