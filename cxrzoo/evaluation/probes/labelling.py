"""The labels that a probe learns: classes of one finding, or a table of findings with gaps, as columns of 0 and 1."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d

from cxrzoo.errors import EvaluationError

Doubles = NDArray[np.float64]


@dataclass(frozen=True)
class Columns:
    """Labels as columns: `targets` (n, K) of 0 and 1, and which of them are `known`.

    Two classes are one column, the second against the first; more are one column each, against the rest; and a table
    of findings is as many columns as it has. `codes` are the positions of the labels among the `classes`, (n,), or
    (n, F) for a table; `kind` is their type.
    """

    targets: Doubles
    known: NDArray[np.bool_]
    codes: NDArray[np.int64]
    classes: NDArray[Any]
    is_table: bool
    kind: np.dtype[Any]


def hold_labels(labels: Any) -> NDArray[Any]:
    """Return labels as an array, whatever they came as."""
    if labels is None:
        raise EvaluationError("a probe requires y to be passed, but the target y is None; give the labels")
    return np.asarray(labels)


def read_labels(table: NDArray[Any]) -> Columns:
    """Return the columns of one label a row (n,), or of a table of findings (n, F): 1, 0, or NaN where not known."""
    if table.ndim == 2 and (table.shape[1] > 1 or _is_binary(table)):
        table = check_array(table, dtype="numeric", ensure_all_finite="allow-nan", input_name="y")
        if not _is_binary(table):
            found = sorted({str(value) for value in table[~np.isin(table, (0, 1)) & ~np.isnan(table)]})[:5]
            raise EvaluationError(
                f"the table of findings y holds {', '.join(found)}; expected 1, 0, or NaN where it is not known; "
                "decide what other labels mean first"
            )
        known = ~np.isnan(table)
        targets = np.where(known, table, 0).astype(np.float64)
        return Columns(targets, known, targets.astype(np.int64), np.array([0, 1]), True, table.dtype)
    single = column_or_1d(table, warn=True)
    check_classification_targets(single)
    classes, codes = np.unique(single, return_inverse=True)
    if len(classes) < 2:
        raise EvaluationError(
            f"y holds one class only, {classes[0]!r}; expected two or more; add rows of another class"
        )
    chosen = np.arange(len(classes)) if len(classes) > 2 else np.array([1])
    targets = (codes[:, None] == chosen).astype(np.float64)
    return Columns(targets, np.ones(targets.shape, dtype=bool), codes, classes, False, single.dtype)


def _is_binary(table: NDArray[Any]) -> bool:
    try:
        numbers = table.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return bool((np.isin(numbers, (0, 1)) | np.isnan(numbers)).all())


class Probe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of embeddings that has a probability for each of its columns."""

    classes_: NDArray[Any]
    n_features_in_: int
    _is_table: bool
    _kind: np.dtype[Any]

    def _learn_columns(self, labels: NDArray[Any]) -> Columns:
        """Read the labels, and remember what kind they are of."""
        columns = read_labels(labels)
        self.classes_, self._is_table, self._kind = columns.classes, columns.is_table, columns.kind
        return columns

    def _estimate(self, features: Any) -> Doubles:
        """Return the probability of each column (n, K)."""
        raise NotImplementedError

    def predict_proba(self, X: Any) -> Doubles:
        """Return probabilities: of every class (n, classes), or of every finding of a table (n, F)."""
        check_is_fitted(self)
        estimates = self._estimate(X)
        if self._is_table:
            return estimates
        if estimates.shape[1] == 1:
            return np.hstack([1 - estimates, estimates])
        total = estimates.sum(axis=1, keepdims=True)
        # where every class is as good as impossible, none is likelier than another
        return np.where(total > 0, estimates / np.where(total > 0, total, 1), 1 / estimates.shape[1])

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the likeliest class of each row (n,), or 1 and 0 for every finding of a table (n, F)."""
        probabilities = self.predict_proba(X)
        if self._is_table:
            return (probabilities > 0.5).astype(self._kind)
        likeliest: NDArray[Any] = self.classes_[probabilities.argmax(axis=1)]
        return likeliest

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.target_tags.multi_output = True
        return tags
