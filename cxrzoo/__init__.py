"""Chest X-ray backbones learned without labels, as plain timm models, with the preprocessing they were trained with."""

import importlib
from typing import TYPE_CHECKING

from cxrzoo.errors import CxrZooError, ImageError, ImageWarning

if TYPE_CHECKING:
    from cxrzoo.imaging import read_image
    from cxrzoo.imaging.isolation import IsolatedReader
    from cxrzoo.loader import load
    from cxrzoo.manifest import Manifest
    from cxrzoo.publisher import convert
    from cxrzoo.registry import describe, list_models

__version__ = "0.1.0"
__all__ = [
    "CxrZooError",
    "ImageError",
    "ImageWarning",
    "IsolatedReader",
    "Manifest",
    "convert",
    "describe",
    "list_models",
    "load",
    "read_image",
]

# Looked up on first use, so that `import cxrzoo` and `cxrzoo list` don't wait for torch.
_HOMES = {
    "IsolatedReader": "imaging.isolation",
    "Manifest": "manifest",
    "convert": "publisher",
    "describe": "registry",
    "list_models": "registry",
    "load": "loader",
    "read_image": "imaging",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cxrzoo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cxrzoo.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
