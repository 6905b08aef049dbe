"""A radiograph at a size to train from: whole, with its own aspect ratio; without torch, for processes of their own."""

from typing import TYPE_CHECKING

import numpy as np

from cxrzoo.geometry import resize
from cxrzoo.imaging import Reading, read
from cxrzoo.imaging.guard import guarded
from cxrzoo.manifest import Preprocessing

if TYPE_CHECKING:
    from cxrzoo.imaging import Source


def shrink(source: "Source", side: int) -> Reading:
    """Return the picture as uint8 (height, width) with a shorter side of `side` pixels.

    Raises:
        ImageError: The source is not one grey image, is damaged, or is a sliver.
    """
    record = Preprocessing((1, side, side), (0,), (1,), "bilinear", 1, "center")
    reading = read(source)
    with guarded("The image", "geometry"):
        resized = resize(reading.pixels, record)
    if resized.dtype != np.uint8:
        resized = np.rint(resized.clip(0, 1) * 255).astype(np.uint8)
    return Reading(resized, reading.report)
