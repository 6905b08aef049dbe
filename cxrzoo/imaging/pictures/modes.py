"""A PIL image, opened or made -> one grey plane, as it is stored.

Colour management is not applied: gAMA, ICC profiles and sRGB chunks are left aside, as in every published training
pipeline. A gamma other than that of screens gives a notice.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import Pixels, from_channels
from cxrzoo.imaging.report import Report

#: Modes of up to 8 bits, and the one in which their channels are grey or red, green and blue, and perhaps alpha.
_EIGHT_BIT = {
    **{"1": "L", "L": "L", "P": "RGB", "PA": "RGBA"},
    **{"LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB"},
}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "F")

#: PhotometricInterpretation, and its value where zero is white (TIFF 6.0, section 4).
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0

#: Gamma of a PNG that was made for screens, and how far others may lie from it.
_SCREEN_GAMMA, _GAMMA_TOLERANCE = 1 / 2.2, 0.05


def check_depth(picture: Image.Image) -> None:
    """Refuse a picture, not yet loaded, of which Pillow would drop half of the bits without a word.

    Raises:
        ImageError: It has 16 bits and colour, or alpha.
    """
    if picture.mode in ("RGB", "RGBA", "CMYK") and any("16" in str(tile[3]) for tile in getattr(picture, "tile", ())):
        raise ImageError(
            "Found a picture of 16 bits with colour or alpha, of which Pillow keeps 8 bits. Give the PNG file itself, "
            "or save it as 16-bit greyscale.",
            "unsupported",
            "header",
        )


def plane_of(picture: Image.Image, report: Report) -> Pixels:
    """Load the pixels and return them as one grey plane.

    Raises:
        ImageError: The mode is not one that a radiograph has, or the values are out of its range.
    """
    inverted = getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    picture.load()
    gamma = picture.info.get("gamma")
    if isinstance(gamma, float) and abs(gamma - _SCREEN_GAMMA) > _GAMMA_TOLERANCE:
        report.warn("gamma", f"The file asks for a gamma of {gamma:g}; its pixels are taken as they are.")
    if picture.mode in _EIGHT_BIT:
        return _from_eight_bits(picture, report)
    if picture.mode in _DEEP:
        return _from_deep(picture, inverted, report)
    if picture.mode == "I":
        return _from_integers(picture, report)
    raise ImageError(
        f"Found a picture of mode {picture.mode!r}, expected grey or RGB ({', '.join(_EIGHT_BIT)}, I;16, I, F). "
        "Save the radiograph as a grey PNG first.",
        "unsupported",
        "header",
    )


def _from_eight_bits(picture: Image.Image, report: Report) -> Pixels:
    if picture.mode == "CMYK":
        report.step("CMYK turned into RGB")
    if picture.mode in ("P", "PA"):
        report.step("palette applied")
    transparent = picture.has_transparency_data and picture.mode != "LA"
    mode = "RGBA" if transparent else _EIGHT_BIT[picture.mode]
    picture = picture if picture.mode == mode else picture.convert(mode)
    if mode == "RGB":
        # Pillow compares bands six times as fast as NumPy, and most radiographs in RGB are grey.
        red, green, blue = picture.split()
        if not (ImageChops.difference(red, green).getbbox() or ImageChops.difference(red, blue).getbbox()):
            return np.array(red)
    return from_channels(np.asarray(picture), report)


def _from_deep(picture: Image.Image, inverted: bool, report: Report) -> Pixels:
    values: NDArray[Any] = np.asarray(picture).astype(np.float32 if picture.mode == "F" else np.uint16, copy=False)
    transparent = picture.info.get("transparency")
    if inverted:
        # Pillow does this itself up to 8 bits only.
        report.step("inverted, since zero is white")
        values = (1 if picture.mode == "F" else 65535) - values
    if isinstance(transparent, int):
        alpha = np.where(values == transparent, 0, 65535).astype(np.uint16)
        return from_channels(np.dstack([values, alpha]), report)
    return from_channels(values, report)


def _from_integers(picture: Image.Image, report: Report) -> Pixels:
    """Take mode I (32 bits) for what Pillow uses it for: a picture of 16 bits."""
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"Found a picture of mode 'I' with values from {low} to {high}, expected 0 to 65535. Scale it to "
            "16 bits, or give a float array in [0, 1].",
            "values",
            "display",
        )
    return from_channels(values.astype(np.uint16), report)
