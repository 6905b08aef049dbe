"""Where the manifests and recipes lie: inside an installed package, or beside it in a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_data"

#: The checkout this package runs from; None once it is installed as a wheel.
CHECKOUT = None if _INSTALLED.is_dir() else _PACKAGE.parent

_ROOT = CHECKOUT or _INSTALLED
MANIFESTS = _ROOT / "hub"
RECIPES = _ROOT / "conversion"
