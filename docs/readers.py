"""How cxrzoo and its peers read one radiograph: each as its own documentation says, with nothing added."""

import importlib.metadata
import sys
from collections.abc import Callable
from pathlib import Path

try:
    import monai.transforms
    import torchxrayvision
except ImportError as error:
    sys.exit(f"{error.name} is missing. Run `pip install 'cxrzoo[bench]'`.")
import numpy as np
import pydicom
import timm.data
from numpy.typing import NDArray
from PIL import Image

import cxrzoo

#: What is shown: 0 is black and 1 is white in the range that the reader's own networks take.
Shown = NDArray[np.floating]


def by_cxrzoo(path: Path) -> Shown:
    """Return what `cxrzoo.read_image` gives."""
    return cxrzoo.read_image(path)


def by_torchxrayvision(path: Path) -> Shown:
    """Return what torchxrayvision's `load_image` gives, which takes DICOM and pictures; -1024 is black, 1024 white."""
    return (torchxrayvision.utils.load_image(str(path))[0] + 1024) / 2048


def by_torchxrayvision_with_voi(path: Path) -> Shown:
    """Return the same with `voi_lut=True`."""
    return (torchxrayvision.utils.read_xray_dcm(path, voi_lut=True) + 1024) / 2048


def by_monai(path: Path) -> Shown:
    """Return MONAI's image after LoadImage and ScaleIntensity, turned upright: its arrays have the width first."""
    reader = "PydicomReader" if path.suffix == ".dcm" else "PILReader"
    steps = [
        monai.transforms.LoadImage(reader=reader, image_only=True),
        monai.transforms.EnsureChannelFirst(),
        monai.transforms.ScaleIntensity(),
    ]
    return np.asarray(monai.transforms.Compose(steps)(path))[0].T


def by_pydicom(path: Path) -> Shown:
    """Return pydicom's `pixel_array` from its least to its greatest value, as most scripts do."""
    stored = pydicom.dcmread(path).pixel_array.astype(np.float64)
    return (stored - stored.min()) / (stored.max() - stored.min())


def by_timm(path: Path) -> Shown:
    """Return what timm's transform makes of `Image.open(path).convert("RGB")`, at the picture's own size."""
    picture = Image.open(path).convert("RGB")
    transform = timm.data.create_transform(
        (3, picture.height, picture.width), is_training=False, crop_pct=1.0, crop_mode="squash", mean=0.0, std=1.0
    )
    return np.asarray(transform(picture))[0]


Reader = Callable[[Path], Shown]
DICOM: dict[str, Reader] = {
    "cxrzoo": by_cxrzoo,
    "torchxrayvision": by_torchxrayvision,
    "the same, voi_lut=True": by_torchxrayvision_with_voi,
    "MONAI": by_monai,
    "pydicom, min to max": by_pydicom,
}
PICTURE: dict[str, Reader] = {
    "cxrzoo": by_cxrzoo,
    "torchxrayvision": by_torchxrayvision,
    "MONAI": by_monai,
    "PIL and timm": by_timm,
}


def versions() -> str:
    """Return the names and versions of everything that read."""
    names = ("torchxrayvision", "monai", "pydicom", "timm", "pillow")
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
