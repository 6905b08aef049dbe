"""PNG and JPEG files and PIL images -> one grey plane."""

import io

import numpy as np
from PIL import Image, ImageOps

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import Pixels, check_size, from_channels
from cxrzoo.imaging.guard import guarded

_EIGHT_BIT = {"1": "L", "L": "L", "P": "RGB", "PA": "RGBA", "LA": "RGBA", "RGB": "RGB", "RGBA": "RGBA"}
_DEEP = ("I;16", "I;16L", "I;16B", "I;16N", "F")


def from_file(data: bytes) -> Pixels:
    """Return the grey plane of a PNG or JPEG file, turned upright as its EXIF orientation says.

    Raises:
        ImageError: The file is damaged, too large, animated, or of a mode that no radiograph has.
    """
    if data.startswith(b"\x89PNG"):
        _check_depth(data)
    with guarded("The PNG or JPEG file"):
        return from_picture(Image.open(io.BytesIO(data), formats=("PNG", "JPEG")))


def from_picture(picture: Image.Image) -> Pixels:
    """Return the grey plane of a PIL image, opened or made; EXIF orientation is applied.

    Raises:
        ImageError: The picture can't be loaded, is too large, animated, or of a mode that no radiograph has.
    """
    check_size(picture.height, picture.width)
    with guarded("The picture"):
        frames = getattr(picture, "n_frames", 1)
        if frames != 1:
            raise ImageError(f"Found {frames} pictures in one, expected one. Save the radiograph on its own.")
        picture = ImageOps.exif_transpose(picture)
        if picture.mode in _EIGHT_BIT:
            mode = "RGBA" if picture.has_transparency_data else _EIGHT_BIT[picture.mode]
            return from_channels(np.asarray(picture.convert(mode)))
        if picture.mode in _DEEP:
            return from_channels(np.asarray(picture).astype(np.float32 if picture.mode == "F" else np.uint16))
        if picture.mode == "I":
            return _from_integers(picture)
    raise ImageError(
        f"Found a picture of mode {picture.mode!r}, expected grey or RGB ({', '.join(_EIGHT_BIT)}, I;16, I, F). "
        "Save the radiograph as a grey PNG first."
    )


def _from_integers(picture: Image.Image) -> Pixels:
    """Take mode I (32 bits) for what Pillow uses it for: a picture of 16 bits."""
    values = np.asarray(picture)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise ImageError(
            f"Found a picture of mode 'I' with values from {low} to {high}, expected 0 to 65535. Scale it to "
            "16 bits, or give a float array in [0, 1]."
        )
    return from_channels(values.astype(np.uint16))


def _check_depth(data: bytes) -> None:
    """Refuse PNGs of which Pillow silently drops half of the bits: 16 bits with colour or alpha.

    Bit depth and colour type are bytes 24 and 25 (PNG specification, 11.2.1 IHDR); type 0 is grey.
    """
    if len(data) > 25 and data[24] == 16 and data[25] != 0:
        raise ImageError(
            "Found a PNG of 16 bits with colour or alpha, expected 16-bit grey, or 8 bits. Save it as 16-bit "
            "greyscale without transparency."
        )
