"""Radiographs as the pixels that a network is shown, read once and kept for many trainings; without torch."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cxrzoo import framing
from cxrzoo.errors import ImageError
from cxrzoo.imaging import Pixels, Reading
from cxrzoo.imaging.arrays import as_floats
from cxrzoo.imaging.isolation import IsolatedReader
from cxrzoo.manifest import Preprocessing

if TYPE_CHECKING:
    from cxrzoo.imaging import Source

_AHEAD = 32


@dataclass(frozen=True)
class Frames:
    """Pixels (images, height, width) before normalisation, and by position why an image could not be read.

    They are uint8 where all are, else float32 in [0, 1]. An image that could not be read is black.
    """

    pixels: Pixels
    failures: dict[int, ImageError]


def frame_images(
    files: "Sequence[Source]",
    record: Preprocessing,
    *,
    workers: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Frames:
    """Return what `framing.frame` makes of each file; a bad one is an entry in `failures`, never the end.

    Args:
        workers: Processes that a hostile file may crash or hang without harm; with 0, files are read in this one.
        progress: Called after each file with how many are done, and how many there are.
    """
    _, height, width = record.input_size
    pixels: Pixels = np.zeros((len(files), height, width), np.uint8)
    failures: dict[int, ImageError] = {}
    with ExitStack() as stack:
        if workers:
            reader = stack.enter_context(IsolatedReader(workers, function=framing.frame, ahead=_AHEAD))
            results = reader.map(files, record=record.as_dict())
        else:
            results = (_frame(file, record) for file in files)
        for position, result in enumerate(results):
            if isinstance(result, ImageError):
                failures[position] = result
            else:
                if pixels.dtype == np.uint8 and result.pixels.dtype != np.uint8:
                    pixels = as_floats(pixels)
                pixels[position] = result.pixels if pixels.dtype == np.uint8 else as_floats(result.pixels)
            progress(position + 1, len(files))
    return Frames(pixels, failures)


def _frame(file: "Source", record: Preprocessing) -> Reading | ImageError:
    try:
        return framing.frame(file, record)
    except ImageError as error:
        return error
