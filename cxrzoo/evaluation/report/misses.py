"""The images on which a model was most confidently wrong, and small pictures of them."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.evaluation.comparison import Miss
from cxrzoo.evaluation.statistics.calibration import to_probability
from cxrzoo.evaluation.statistics.curves import Key
from cxrzoo.imaging.isolation import IsolatedReader

#: Height and width of a picture in the report, at most.
_SIDE = 512


def list_misses(
    key: Key,
    findings: Sequence[str],
    logits: NDArray[np.float64],
    labels: NDArray[np.float64],
    rows: NDArray[np.int64],
    *,
    each: int = 4,
) -> tuple[Miss, ...]:
    """Return for each finding the `each` worst positives and the `each` worst negatives that were judged wrong.

    Args:
        logits: (test images, findings) of one draw.
        labels: The same shape: 1, 0 or NaN.
        rows: Of the table, one a test image.
    """
    misses = []
    for column, finding in enumerate(findings):
        for label in (1, 0):
            wrong = logits[:, column] < 0 if label else logits[:, column] > 0
            positions = np.flatnonzero((labels[:, column] == label) & wrong)
            worst = positions[np.argsort(-np.abs(logits[positions, column]), kind="stable")][:each]
            chances = to_probability(logits[worst, column])
            misses += [
                Miss(key[0], key[1], finding, int(rows[position]), label, float(chance))
                for position, chance in zip(worst, chances, strict=True)
            ]
    return tuple(misses)


def picture_misses(misses: Sequence[Miss], files: Mapping[int, Path], *, workers: int = 1) -> dict[int, bytes]:
    """Return a small JPEG for each row of the misses, as a reader sees the image; without what can't be read."""
    rows = list(dict.fromkeys(miss.row for miss in misses))
    if not rows:
        return {}
    pictures = {}
    with IsolatedReader(max(1, workers)) as reader:
        for row, reading in zip(rows, reader.map([files[row] for row in rows]), strict=True):
            if isinstance(reading, ImageError):
                continue
            pixels = reading.pixels if reading.pixels.dtype == np.uint8 else np.rint(reading.pixels * 255)
            picture = Image.fromarray(np.asarray(pixels, np.uint8))
            picture.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            picture.save(buffer, "JPEG", quality=80)
            pictures[row] = buffer.getvalue()
    return pictures
