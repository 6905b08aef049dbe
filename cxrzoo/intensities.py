"""The contrast of one image, from its own grey levels: min-max, percentiles, histogram equalisation; no torch.

All pixels count, and only the order of grey levels is kept: two images of one detector are no longer comparable.
That is why it happens only where a record says that the weights were trained so.
"""

import numpy as np
from numpy.typing import NDArray

from cxrzoo.imaging import Pixels
from cxrzoo.manifest import Contrast


def adjust(pixels: Pixels, contrast: Contrast) -> NDArray[np.float32]:
    """Return the pixels with the contrast that a record asks for, in [0, 1]; what has one grey level is black.

    It doesn't depend on the scale of the pixels: 0..255 and [0, 1] give the same.
    """
    if contrast.method == "equalise":
        assert contrast.bins is not None
        return equalise(pixels, contrast.bins)
    if contrast.percentiles is None:
        return stretch(pixels, pixels.min(), pixels.max())
    # "linear", NumPy's default: between the two nearest pixels, in proportion
    low, high = np.percentile(pixels, contrast.percentiles, method="linear")
    return stretch(pixels, low, high)


def stretch(pixels: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """Return the pixels so that `low` is 0 and `high` is 1; what lies outside is cut off. All are 0 if both are one."""
    black, white = np.float32(low), np.float32(high)
    if not black < white:
        return np.zeros(pixels.shape, np.float32)
    # cut off first: a quotient by a tiny range would overflow
    values: NDArray[np.float32] = pixels.astype(np.float32).clip(black, white)
    values -= black
    values /= white - black
    return values


def equalise(pixels: Pixels, bins: int) -> NDArray[np.float32]:
    """Return the share of pixels that are as dark or darker: equal steps of it hold equally many pixels.

    The histogram has `bins` equal bins from the darkest to the brightest pixel. Its cumulative sum is the value at the
    left edge of each bin, with straight lines between them (HistogramNormalize of facebookresearch/CovidPrognosis,
    covidprognosis/data/transforms.py, divided by 255).
    """
    values: NDArray[np.floating] = pixels.astype(np.float32, copy=False)
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(pixels.shape, np.float32)
    if (np.diff(np.linspace(low, high, bins + 1, dtype=np.float32)) <= 0).any():
        values = values.astype(np.float64)  # float32 has fewer steps than bins in so small a range
    density, edges = np.histogram(values, bins, density=True)
    shares = density.cumsum()
    equalised: NDArray[np.float64] = np.interp(values, edges[:-1], shares / shares[-1])
    return equalised.astype(np.float32)
