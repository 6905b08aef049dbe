"""What people write to get from a file to a tensor, with the libraries that they use."""

import importlib.metadata
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

try:
    import monai.transforms
    import pydicom
    import skimage.io
    import torchxrayvision
except ImportError as error:
    sys.exit(f"{error.name} is missing. Run `pip install 'cxrzoo[bench]'`.")
import numpy as np
import timm.data
import torch
import torchvision.transforms
from PIL import Image

SIDE = 224
Road = Callable[[Path], torch.Tensor]

_XRV = torchvision.transforms.Compose(
    [torchxrayvision.datasets.XRayCenterCrop(), torchxrayvision.datasets.XRayResizer(SIDE)]
)
_MONAI = {
    reader: monai.transforms.Compose(
        [
            monai.transforms.LoadImage(reader=reader, image_only=True),
            monai.transforms.EnsureChannelFirst(),
            monai.transforms.ScaleIntensity(),
            monai.transforms.Resize((SIDE, SIDE)),
        ]
    )
    for reader in ("PydicomReader", "PILReader")
}
_TIMM = timm.data.create_transform(SIDE, is_training=False, crop_pct=1.0)


def by_torchxrayvision(path: Path) -> torch.Tensor:
    """Follow torchxrayvision's README; deeper pictures are divided by their own largest value, as its datasets do."""
    if path.suffix == ".dcm":
        image = torchxrayvision.utils.read_xray_dcm(path)
    else:
        stored = skimage.io.imread(path)
        image = torchxrayvision.datasets.normalize(stored, np.iinfo(stored.dtype).max)
    return torch.from_numpy(_XRV(image[None]))


def by_monai(path: Path) -> torch.Tensor:
    """Follow MONAI's tutorial of MedNIST; its arrays have the width first, and stay so."""
    return _MONAI["PydicomReader" if path.suffix == ".dcm" else "PILReader"](path)


def by_timm(path: Path) -> torch.Tensor:
    """Follow timm's README; a DICOM file becomes a picture of 8 bits first, from its least to its greatest value."""
    if path.suffix == ".dcm":
        stored = pydicom.dcmread(path).pixel_array.astype(np.float32)
        low, high = stored.min(), stored.max()
        picture = Image.fromarray(((stored - low) / (high - low) * 255).astype(np.uint8))
    else:
        picture = Image.open(path)
    return _TIMM(picture.convert("RGB"))


#: name -> road; the version is the installed one's.
ROADS: dict[str, Road] = {"torchxrayvision": by_torchxrayvision, "MONAI": by_monai, "timm": by_timm}


def version(name: str) -> str:
    """Return a library's name and version."""
    return f"{name} {importlib.metadata.version(name.lower())}"


def quiet() -> None:
    """Keep the libraries' warnings out of tables; they are not about what is measured."""
    warnings.simplefilter("ignore")
