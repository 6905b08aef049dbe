"""What datasets of other libraries give -> the image in it, in a form that can be read. None of them is imported.

A sample is a tuple or list whose first entry is the image, as `torch.utils.data` has it, or a mapping with the image
under "image", "img" or "pixel_values". Beyond a change of container, two libraries need their values put right:

- torchxrayvision gives (1, height, width) from -1024 to 1024, whatever the image: read as (x + 1024) / 2048.
- MONAI gives a `MetaTensor`. Its PILReader, and nothing else that MONAI reads pictures with, writes mode, width and
  height into the metadata; by its default the axes are (width, height), and are turned back here, unless the affine
  or the shape show that this was done before. Values are those of the file, on the scale of its mode, until a
  transform such as ScaleIntensityRanged brings them to [0, 1]; metadata do not tell, so that values in [0, 1] are
  taken as scaled, and those above 1 as on the scale of the mode. Where both could be (every value is 0 or 1), and
  for every other reader, there is no telling, and the sample is refused.
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrzoo.errors import ImageError
from cxrzoo.imaging.report import Report

_KEYS = ("image", "img", "pixel_values")

#: How many keys of a sample an error shows, and how much of each.
_SHOWN_KEYS, _SHOWN_CHARACTERS = 8, 24

#: Modes of PIL that MONAI passes on as they are, and the value of white in them. A palette's numbers are no greys.
_WHITE = {"1": 1, "L": 255, "RGB": 255, "RGBA": 255, "I;16": 65535, "I;16B": 65535, "I": 65535}

#: What `torchxrayvision.utils.normalize` scales to.
_XRV_LIMIT = 1024
_XRV_STEP = 8

#: Resampling leaves images this far outside of their scale.
_TOLERANCE = 1e-6


def image_in(sample: Any, report: Report | None = None) -> Any:
    """Return the image in a sample; anything that is no sample comes back unchanged.

    Args:
        report: Where it is noted if something about the sample needs a look.

    Raises:
        ImageError: The sample has no image, or nothing says how its values are to be understood.
    """
    if isinstance(sample, Mapping):
        return _in_mapping(sample, report)
    if isinstance(sample, (tuple, list)) and sample and _is_image(sample[0]):
        if isinstance(sample, list) and len(sample) > 1 and type(sample[1]) is type(sample[0]) and _is_image(sample[1]):
            raise ImageError(
                "Found a list of several images, expected one image, or a sample that begins with it. Pass them one by "
                "one.",
                "several-images",
            )
        return image_in(sample[0], report)
    if _is_monai(sample):
        return _from_monai(sample, report)
    return sample


def _in_mapping(sample: Mapping[Any, Any], report: Report | None) -> Any:
    if "bytes" in sample and "path" in sample:  # an image of `datasets`, not decoded
        found = sample["path"] if sample["bytes"] is None else sample["bytes"]
        if isinstance(found, (bytes, str)):
            return found
        raise _refused("Found a sample whose bytes and path are both empty, expected one of them.")
    key = next((key for key in _KEYS if sample.get(key) is not None), None)
    if key is None:
        names = [repr(name[:_SHOWN_CHARACTERS]) for name in sample if isinstance(name, str)]
        more = ", …" if len(names) > _SHOWN_KEYS else ""
        raise _refused(
            f"Found a sample with the keys {', '.join(names[:_SHOWN_KEYS]) or 'none'}{more}, expected the image under "
            f"one of {', '.join(map(repr, _KEYS))}. Rename the column, or give the image itself."
        )
    if key == "img" and "lab" in sample and "idx" in sample:
        return _from_xrv(sample[key])
    return image_in(sample[key], report)


def _is_image(value: Any) -> bool:
    """Whether this may be an image, and no label: what begins a list of numbers or of lists is none."""
    if isinstance(value, (bytes, str, os.PathLike, Mapping, Image.Image)):
        return True
    return len(getattr(value, "shape", ())) > 1 or hasattr(value, "PixelData")


def _from_xrv(image: Any) -> NDArray[np.float32]:
    """Undo `torchxrayvision.utils.normalize`, with which every dataset of that library ends."""
    values = _as_array(image).astype(np.float32)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    # One step of 8 bits is 8.03 on that scale: smaller numbers were normalised otherwise, and so was what has no air.
    other = low >= 0 or max(-low, high) < _XRV_STEP
    if other or not -_XRV_LIMIT * (1 + _TOLERANCE) <= low <= high <= _XRV_LIMIT * (1 + _TOLERANCE):
        raise _refused(
            f"Found a sample of torchxrayvision with values from {low:g} to {high:g}, expected its scale from -1024 to "
            "1024. Leave the dataset's values as they are, or give the image alone, with values in [0, 1]."
        )
    return (values + np.float32(_XRV_LIMIT)) / np.float32(2 * _XRV_LIMIT)


def _is_monai(value: Any) -> bool:
    return hasattr(value, "applied_operations") and isinstance(getattr(value, "meta", None), Mapping)


def _from_monai(tensor: Any, report: Report | None) -> NDArray[Any]:
    """Return (height, width) or (height, width, channels), as integers where no transform has changed them."""
    meta = tensor.meta
    mode, width, height = (meta.get(key) for key in ("mode", "width", "height"))
    if not isinstance(mode, str) or mode not in _WHITE or not isinstance(width, int) or not isinstance(height, int):
        raise _refused(
            "Found a tensor of MONAI whose metadata don't say that PILReader read it, in grey or RGB: its axes and its "
            "scale are unknown. Give the file itself, or a plain array, (height, width) in [0, 1]."
        )
    values = _as_array(tensor)
    if values.ndim == 3 and _channels_first(values.shape, width, height):
        values = np.moveaxis(values, 0, 2)
    if not _is_upright(tensor, values.shape[:2], width, height):
        values = np.swapaxes(values, 0, 1)
    return _on_scale(values, _WHITE[mode])


def _channels_first(shape: tuple[int, ...], width: int, height: int) -> bool:
    """Whether EnsureChannelFirstd ran: LoadImaged alone leaves the channels last."""
    return not (
        shape[2] in (1, 3, 4) and (shape[0] not in (1, 3, 4) or shape[:2] in ((width, height), (height, width)))
    )


def _is_upright(tensor: Any, shape: tuple[int, ...], width: int, height: int) -> bool:
    """Whether the axes are (height, width) already: by a transform that MONAI traced, or by reverse_indexing=False."""
    affine = np.asarray(tensor.affine, dtype=np.float64)[:2, :2]
    if affine[0, 1] > abs(affine[0, 0]) and affine[1, 0] > abs(affine[1, 1]):
        return True
    return width != height and shape == (height, width) and not tensor.applied_operations


def _on_scale(values: NDArray[Any], white: int) -> NDArray[Any]:
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    whole = values.dtype.kind in "iub" or bool((values == np.rint(values)).all())
    if white > 1 and high <= 1 and whole:
        raise _refused(
            "Found an image of MONAI in which every value is 0 or 1: nothing says whether that is black and white, or "
            "the two darkest steps of the file. Give the file itself."
        )
    if not -_TOLERANCE <= low <= high <= white * (1 + _TOLERANCE):
        raise _refused(
            f"Found an image of MONAI with values from {low:g} to {high:g}, expected those of the file, 0 to {white}, "
            "or [0, 1]. Undo any normalisation by mean and std, or give the file itself."
        )
    if high <= 1 + _TOLERANCE:
        return values.astype(np.float32)
    if whole:
        return values.astype(np.uint8 if white == 255 else np.uint16)
    return np.asarray(np.clip(values.astype(np.float32) / np.float32(white), 0, 1))


def _as_array(value: Any) -> NDArray[Any]:
    """Return an array or tensor as an array; a tensor's own subclass, metadata and gradient stay behind."""
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        tensor = tensor.as_tensor() if hasattr(tensor, "as_tensor") else tensor
        return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    if isinstance(value, np.ndarray):
        return value
    raise _refused(
        f"Found a sample whose image is of type {type(value).__name__}, expected an array or a tensor. Give the image "
        "alone."
    )


def _refused(text: str) -> ImageError:
    return ImageError(text, "values", "open")
