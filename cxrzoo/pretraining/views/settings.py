"""What a view is drawn from: a table of a record; what it doesn't name is switched off."""

import math
from dataclasses import dataclass
from typing import Literal

from cxrzoo.errors import RecordError
from cxrzoo.records import check_choices

Range = tuple[float, float]


@dataclass(frozen=True)
class Views:
    """How views are drawn. Only `size` must be given; every other field does nothing as it stands.

    Attributes:
        size: Side of the square view in pixels.
        scale: Share of the picture's area that is cropped and resized. None crops `size` pixels at the picture's own
            scale, with a black border where the picture is smaller.
        ratio: Width by height of what is cropped and resized.
        flip: Probability that left and right change places.
        rotation: Largest angle in degrees, either way, about the picture's centre on a canvas of its own size.
        interpolation: How pixels are read; "nearest" never mixes grey levels.
        gamma: Exponents lie between its inverse and it, on a logarithmic scale.
        gain: How much contrast changes about black at most, as a share.
        offset: How much brightness is added or taken away at most; white is 1.
        bands: Standard deviation of the logarithm of the factor by which each energy band is changed.
        jitter: Probability that brightness and contrast are changed, in a random order.
        brightness: How much at most, as a share; so `contrast`, about the view's mean.
        blur: Probability that the view is blurred.
        blur_sigma: Standard deviation of that blur, in pixels.
        noise: Largest standard deviation of noise that is added to each pixel.
    """

    size: int
    scale: Range | None = None
    ratio: Range = (3 / 4, 4 / 3)
    flip: float = 0.0
    rotation: float = 0.0
    interpolation: Literal["nearest", "bilinear"] = "bilinear"
    gamma: float = 1.0
    gain: float = 0.0
    offset: float = 0.0
    bands: float = 0.0
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    blur: float = 0.0
    blur_sigma: Range = (0.1, 2.0)
    noise: float = 0.0

    def __post_init__(self) -> None:
        """Check what no view can be drawn from.

        Raises:
            RecordError: A field is out of bounds, or contradicts another.
        """
        check_choices(self)
        if self.size < 1:
            raise RecordError(f"size: found {self.size}, expected at least one pixel.")
        shares = ("flip", "gain", "offset", "jitter", "brightness", "contrast", "blur", "noise")
        bounds = dict.fromkeys(shares, (0.0, 1.0)) | {"rotation": (0, 180), "gamma": (1, 100), "bands": (0, 10)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise RecordError(f"{name}: found {getattr(self, name)}, expected a number from {low:g} to {high:g}.")
        for name, high in {"scale": 1.0, "ratio": 100.0, "blur_sigma": 100.0}.items():
            value: Range | None = getattr(self, name)
            if value is not None and not 0 < value[0] <= value[1] <= high:
                raise RecordError(f"{name}: found {value}, expected [low, high] with 0 < low <= high <= {high:g}.")
        if bool(self.jitter) != bool(self.brightness or self.contrast):
            raise RecordError(
                f"jitter: found {self.jitter} with brightness {self.brightness} and contrast {self.contrast}; "
                "expected all of them 0, or a probability and how much changes. Set both."
            )

    @property
    def blur_radius(self) -> int:
        """How many pixels around a pixel take part in its blur: beyond 4 sigma, less than 1 in 10 000 is missed."""
        return math.ceil(4 * self.blur_sigma[1])
