"""What lies in a checkpoint, in a few short lines."""

import itertools

from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.modules import is_module
from cxrzoo.checkpoint.tensors import Tensor
from cxrzoo.checkpoint.trees import walk

_MAX_LINES = 50
_MAX_TEXT = 40
_MAX_SHOWN_KEY = 120


def describe_root(root: object) -> list[str]:
    """Return a few short lines on what lies at the top level; long texts are told by their length only."""
    if type(root) is not dict:
        return [summarise(root)]
    lines = [f"{shown_key(key)}: {summarise(value)}" for key, value in itertools.islice(root.items(), _MAX_LINES)]
    return [*lines, f"… and {len(root) - _MAX_LINES} more"] if len(root) > _MAX_LINES else lines


def shown_key(key: object) -> str:
    """Return a key of a dict as text that can be printed; a long one is told by its length."""
    return _shown(key, _MAX_SHOWN_KEY)


def summarise(value: object) -> str:
    """Return in a few words what a value is."""
    if isinstance(value, Tensor):
        return f"tensor {value.dtype} {value.shape}"
    if is_module(value):
        return f"{value}, a whole module"
    if isinstance(value, Opaque):
        return f"{value}, kept as text"
    if isinstance(value, dict | list | tuple):
        tensors = [entry for entry in walk(value) if isinstance(entry, Tensor)]
        size = sum(tensor.nbytes for tensor in tensors) / 1e6
        inside = f", {len(tensors)} tensors, {size:.1f} MB" if tensors else ""
        return f"{type(value).__name__} of {len(value)}{inside}"
    return _shown(value)


def _shown(value: object, limit: int = _MAX_TEXT) -> str:
    if not isinstance(value, str | bytes | int | float | None):
        return type(value).__name__
    text = ascii(value)
    if isinstance(value, str | bytes) and len(value) > limit:
        return f"{type(value).__name__} of {len(value)}"
    return text if len(text) <= 8 * limit else f"{text[:limit]}…"
