"""Chest X-ray backbones learned without labels, as plain timm models, with the preprocessing they were trained with."""

import importlib
from typing import TYPE_CHECKING

from cxrzoo.errors import CxrZooError, ImageError, ImageWarning

if TYPE_CHECKING:
    from cxrzoo.evaluation.comparing import compare, label_efficiency
    from cxrzoo.evaluation.probes import LinearProbe
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
    "LinearProbe",
    "Manifest",
    "compare",
    "convert",
    "describe",
    "label_efficiency",
    "list_models",
    "load",
    "read_image",
]

# Looked up on first use, so that `import cxrzoo` and `cxrzoo list` don't wait for torch.
_HOMES = {
    "IsolatedReader": "imaging.isolation",
    "LinearProbe": "evaluation.probes",
    "Manifest": "manifest",
    "compare": "evaluation.comparing",
    "convert": "publisher",
    "describe": "registry",
    "label_efficiency": "evaluation.comparing",
    "list_models": "registry",
    "load": "loader",
    "read_image": "imaging",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cxrzoo' has no attribute {name!r}")
    try:
        home = importlib.import_module(f"cxrzoo.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if not _HOMES[name].startswith("evaluation") or (error.name or "cxrzoo").startswith("cxrzoo"):
            raise
        advice = f"cxrzoo.{name} takes the package {error.name}. Run `pip install 'cxrzoo[eval]'`."
        raise ModuleNotFoundError(advice, name=error.name) from error
    return getattr(home, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
