"""What must hold of settings, images and labels before a classifier can be trained."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.tuning.minibatches import Positions
from cxrzoo.imaging import Pixels

if TYPE_CHECKING:
    from cxrzoo.loader import Backbone

Floats = NDArray[np.float64]


def has_both(labels: Floats) -> NDArray[np.bool_]:
    """Return which findings have at least one positive and one negative."""
    both: NDArray[np.bool_] = (labels == 1).any(axis=0) & (labels == 0).any(axis=0)
    return both


def check_settings(mode: str, bn_adapt: bool, epochs: int, batch_size: int) -> None:
    """Refuse settings that can't be trained with.

    Raises:
        EvaluationError: A mode is unknown, or there is no epoch or no batch.
    """
    if mode not in ("end-to-end", "linear"):
        raise EvaluationError(f"mode: found {mode!r}, expected 'end-to-end' or 'linear'.")
    if bn_adapt and mode != "linear":
        raise EvaluationError("bn_adapt: found with 'end-to-end', where statistics move anyway. Leave it out there.")
    if epochs < 1 or batch_size < 2:
        raise EvaluationError(
            f"found {epochs} epochs of batches of {batch_size}, expected at least one epoch of batches of 2 or more: "
            "BatchNorm has no variance of a single image."
        )


def check_arrays(backbone: "Backbone", pixels: Pixels, targets: Floats) -> None:
    """Refuse pixels of another preprocessing than the backbone's, and labels that aren't 1, 0 or NaN.

    Raises:
        EvaluationError: Pixels or labels are of another shape, type or value.
    """
    expected = backbone.transform.record.input_size[1:]
    if pixels.ndim != 3 or pixels.shape[1:] != expected or pixels.dtype not in (np.uint8, np.float32):
        raise EvaluationError(
            f"found {pixels.dtype} pixels of shape {pixels.shape}, expected uint8 or float32 (images, "
            f"{expected[0]}, {expected[1]}). Make them by frame_images with this backbone's transform.record."
        )
    if targets.ndim != 2 or len(targets) != len(pixels) or not np.isin(targets[~np.isnan(targets)], (0, 1)).all():
        raise EvaluationError(
            f"found labels of shape {targets.shape} for {len(pixels)} images, expected ({len(pixels)}, findings) of "
            "1, 0 and NaN for what is not used."
        )


def check_classes(images: int, learned: NDArray[np.bool_], judged: Positions) -> None:
    """Refuse parts of which nothing can be learned, or by which no epoch can be chosen.

    Raises:
        EvaluationError: No finding has both classes in training and validation images.
    """
    where = "training" if not learned.any() else "validation"
    if not len(judged):
        raise EvaluationError(
            f"found no finding with both classes in the {where} images ({images} training images have a label), "
            "expected positives and negatives in both parts. Take more images, another seed, or another finding."
        )
