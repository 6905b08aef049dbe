"""Any radiograph a hospital has, as the one grey image that a reader sees.

A source is a path (`str` or `Path`), the bytes of a file, a PIL image, a NumPy array, a torch tensor or a
pydicom dataset. What a file is follows from its content, never from its name. No error or warning repeats a
file name or the value of an attribute that may identify a patient.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging import arrays, raster
from cxrzoo.imaging.arrays import Pixels
from cxrzoo.imaging.formats import kind

if TYPE_CHECKING:
    from pydicom import Dataset
    from torch import Tensor

    #: Everything that can be read as a radiograph; a `str` is a path.
    Source: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any] | Tensor | Dataset

__all__ = ["Pixels", "read_image", "read_pixels"]

#: More than any single radiograph takes; keeps a wrong path from filling the memory.
_MAX_BYTES = 2**30


def read_image(source: "Source") -> NDArray[np.float32]:
    """Return the radiograph as (height, width) values in [0, 1], air dark.

    Raises:
        ImageError: The source is not one grey image, or is damaged.

    Example:
        >>> read_image(np.array([[0, 255]], dtype=np.uint8))
        array([[0., 1.]], dtype=float32)
    """
    pixels = read_pixels(source)
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255)
    return pixels.astype(np.float32, copy=False)


def read_pixels(source: "Source") -> Pixels:
    """Return the same image as `read_image`, but left as uint8 where the source is an 8-bit raster.

    Models were trained on 8-bit pixels that PIL resized with 8-bit rounding; only this form reproduces that.

    Raises:
        ImageError: The source is not one grey image, or is damaged.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _from_file(bytes(source))
    if isinstance(source, (str, os.PathLike)):
        return _from_file(_content(Path(source)))
    if isinstance(source, Image.Image):
        return raster.from_picture(source)
    if isinstance(source, (np.ndarray, np.generic)):
        return arrays.from_array(np.asarray(source))
    # Whoever holds a tensor or a dataset has imported its library: importing it here would only cost time.
    if (torch := sys.modules.get("torch")) and isinstance(source, torch.Tensor):
        tensor = source.detach().cpu()
        return arrays.from_array((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    if (pydicom := sys.modules.get("pydicom")) and isinstance(source, pydicom.Dataset):
        from cxrzoo.imaging import dicom

        return dicom.from_dataset(source)
    raise ImageError(
        f"Found an object of type {type(source).__name__}, expected an image: a path, the bytes of a file, "
        "a PIL image, a NumPy array, a torch tensor or a pydicom dataset."
    )


def _from_file(data: bytes) -> Pixels:
    if kind(data) == "raster":
        return raster.from_file(data)
    from cxrzoo.imaging import dicom  # pydicom is only loaded once a DICOM file turns up

    return dicom.from_dataset(dicom.parse(data))


def _content(path: Path) -> bytes:
    """Return the bytes of a file; an OSError would name the path, so it is replaced."""
    try:
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no file"
            raise ImageError(f"Found {found} at the given path, expected one DICOM, PNG or JPEG file.")
        if path.stat().st_size > _MAX_BYTES:
            raise ImageError("Found a file above 1 GiB, expected one radiograph. Is this a video or an archive?")
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        reason = "the path is malformed"
    raise ImageError(f"The file can't be opened: {reason}. Check the path and its permissions.")
