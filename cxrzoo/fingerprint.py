"""The embedding of a synthetic radiograph as a digest: is this network, on this machine, still the one converted?"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import UntrainedError
from cxrzoo.evidence import Fingerprint
from cxrzoo.records import digest

PHANTOM = "thorax 1"
_SUMS = 16
#: Processors differ by some 1e-6 in these units, and another preprocessing or a changed layer by 0.1 and more.
_GRID = 0.01
_OFFSETS = 256


def make_phantom() -> NDArray[np.uint8]:
    """Return the synthetic radiograph: a bright trunk, two dark lungs, ribs and a heart, (448, 384) in 0..255.

    All of it is integer arithmetic, so that it is the same to the byte on every machine.
    """
    y, x = np.mgrid[0:448, 0:384].astype(np.int64)
    picture = 20 + 170 * _ellipse(x, y, 192, 260, 180, 260)
    for centre in (112, 272):
        picture -= 110 * _ellipse(x, y, centre, 220, 66, 150)
    picture += 90 * _ellipse(x, y, 216, 290, 70, 80)
    picture += 25 * ((y * 3 + abs(x - 192)) % 96 < 22)  # ribs, sloping outwards
    picture += 40 * (abs(x - 192) < 18)  # spine
    picture += (x * 7 + y * 13) % 5  # no two neighbours are quite alike
    return picture.clip(0, 255).astype(np.uint8)


def _ellipse(
    x: NDArray[np.int64], y: NDArray[np.int64], centre_x: int, centre_y: int, width: int, height: int
) -> NDArray[np.int64]:
    inside = (x - centre_x) ** 2 * height**2 + (y - centre_y) ** 2 * width**2 < width**2 * height**2
    return inside.astype(np.int64)


def take_fingerprint(embedding: NDArray[np.floating], offset: float | None = None) -> Fingerprint:
    """Return the fingerprint that an embedding of the phantom (D,) has.

    Args:
        offset: The one of the fingerprint it is to be compared with; if left out, the one with the widest margin.

    Raises:
        UntrainedError: The embedding is no direction: all zero, NaN or infinite.
    """
    if not np.isfinite(embedding).all() or not embedding.any():
        raise UntrainedError(
            "the embedding of a synthetic radiograph is all zero, or holds NaN or infinity: the network is dead, or "
            "its input is far too small. Take another checkpoint, or state the size it was trained with."
        )
    sums = _weighted_sums(embedding.astype(np.float64)) / _GRID
    margins = {shift: _margin(sums, shift) for shift in np.arange(_OFFSETS) / _OFFSETS}
    shift = offset if offset is not None else max(margins, key=lambda shift: margins[shift])
    cells = np.floor(sums + shift).astype(int).tolist()
    return Fingerprint(PHANTOM, float(shift), float(f"{_margin(sums, shift):.2g}"), digest(cells))


def _weighted_sums(embedding: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(embedding)
    rows = [_signs(index, embedding.size) for index in range(_SUMS)]
    return np.stack(rows) @ embedding / length


def _signs(index: int, size: int) -> NDArray[np.float64]:
    # from a digest and not from a random generator, whose stream may change with the version of a library
    bits = np.frombuffer(hashlib.shake_128(f"{PHANTOM} {index}".encode()).digest(size), np.uint8)
    return np.where(bits & 1, 1.0, -1.0)


def _margin(sums: NDArray[np.float64], shift: float) -> float:
    parts = (sums + shift) % 1
    return float(np.minimum(parts, 1 - parts).min())
