"""How far the probabilities of a probe can be trusted, and what one number fitted on validation images mends."""

import numpy as np
from numpy.typing import NDArray

from cxrzoo.evaluation.comparison import Calibration
from cxrzoo.evaluation.statistics.curves import Key, Targets
from cxrzoo.evaluation.statistics.metrics import calibration_error, fit_temperature, reliability

Floats = NDArray[np.float64]


def calibrate(
    key: Key, fraction: str, valid: Floats, valid_labels: Floats, test: Floats, targets: Targets
) -> list[Calibration]:
    """Return the calibration of each finding, for logits (images, findings) of one draw.

    Findings without both classes among the validation images are left out: a temperature can't be fitted there.
    """
    found = []
    for column, finding in enumerate(targets.findings):
        fit = np.isfinite(valid[:, column]) & ~np.isnan(valid_labels[:, column])
        used = np.isfinite(test[:, column]) & ~np.isnan(targets.labels[:, column])
        if len(np.unique(valid_labels[fit, column])) < 2 or not used.any():
            continue
        temperature = fit_temperature(valid_labels[fit, column], valid[fit, column])
        labels, logits = targets.labels[used, column], test[used, column]
        plain, scaled = to_probability(logits), to_probability(logits / temperature)
        found.append(
            Calibration(
                model=key[0],
                mode=key[1],
                finding=finding,
                fraction=fraction,
                temperature=temperature,
                ece=calibration_error(labels, plain),
                ece_scaled=calibration_error(labels, scaled),
                bins=tuple(reliability(labels, plain)),
                bins_scaled=tuple(reliability(labels, scaled)),
            )
        )
    return found


def to_probability(logits: Floats) -> Floats:
    """Return the probabilities of logits, without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)), dtype=np.float64)
