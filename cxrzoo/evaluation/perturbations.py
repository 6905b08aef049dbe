"""Radiographs as another machine or another technician would have made them: darker, flatter, turned, nearer."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cxrzoo.errors import EvaluationError
from cxrzoo.imaging import Pixels
from cxrzoo.imaging.arrays import as_floats

Kind = Literal["gamma", "gain", "rotation", "scale"]
#: The amount that leaves an image as it is.
NEUTRAL: dict[Kind, float] = {"gamma": 1.0, "gain": 1.0, "rotation": 0.0, "scale": 1.0}


@dataclass(frozen=True)
class Perturbation:
    """One change of every image: an exponent, a factor, degrees counter-clockwise, or a magnification."""

    kind: Kind
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in NEUTRAL:
            raise EvaluationError(f"perturbation: found {self.kind!r}, expected one of {', '.join(NEUTRAL)}.")
        if not math.isfinite(self.amount) or (self.kind != "rotation" and self.amount <= 0):
            raise EvaluationError(f"{self.kind}: found {self.amount:g}, expected a finite number above 0.")

    def __str__(self) -> str:
        return f"{self.kind} {self.amount:g}"

    @property
    def neutral(self) -> bool:
        """Whether it changes nothing."""
        return self.amount == NEUTRAL[self.kind]


def perturb(pixels: Pixels, perturbation: Perturbation) -> NDArray[np.uint8]:
    """Return the image (height, width) with one change, in 0..255 as a file of 8 bits would hold it.

    What turning and shrinking bring in from outside of the image is black; what goes beyond white is white.
    """
    plane, amount = as_floats(pixels), perturbation.amount
    if perturbation.kind == "gamma":
        plane = plane**amount
    elif perturbation.kind == "gain":
        plane = plane * amount
    elif not perturbation.neutral:
        turned = perturbation.kind == "rotation"
        plane = _map(plane, angle=amount if turned else 0.0, scale=1.0 if turned else amount)
    levels: NDArray[np.uint8] = np.rint(plane.clip(0, 1) * 255).astype(np.uint8)
    return levels


def _map(plane: NDArray[np.float32], *, angle: float, scale: float) -> NDArray[np.float32]:
    """Return a plane turned about its middle and magnified there, by bilinear interpolation."""
    radians = math.radians(angle)
    # rows count downwards, so that this is counter-clockwise to the eye
    turn = np.array([[math.cos(radians), math.sin(radians)], [-math.sin(radians), math.cos(radians)]]) / scale
    middle = (np.array(plane.shape) - 1) / 2
    moved: NDArray[np.float32] = ndimage.affine_transform(
        plane, turn, offset=middle - turn @ middle, order=1, mode="constant", cval=0.0
    )
    return moved
