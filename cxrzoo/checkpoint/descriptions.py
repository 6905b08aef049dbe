"""What lies in a checkpoint, in a few short lines."""

import itertools
from dataclasses import dataclass

from cxrzoo.checkpoint.meanings import Opaque, StandIn
from cxrzoo.checkpoint.modules import is_module
from cxrzoo.checkpoint.tensors import Tensor
from cxrzoo.checkpoint.trees import walk

_MAX_LINES = 50
_MAX_TEXT = 40
_MAX_SHOWN_KEY = 120
_MAX_CLASSES = 10


@dataclass
class Patience:
    """How many more values may be looked at; all that describes one file shares it."""

    left: int = 100_000


def describe_root(root: object) -> list[str]:
    """Return a few short lines on what lies at the top level; long texts are told by their length only."""
    patience = Patience()
    if type(root) is not dict:
        return [summarise(root, patience)]
    shown = itertools.islice(root.items(), _MAX_LINES)
    lines = [f"{shown_key(key)}: {summarise(value, patience)}" for key, value in shown]
    return [*lines, f"… and {len(root) - _MAX_LINES} more"] if len(root) > _MAX_LINES else lines


def shown_key(key: object) -> str:
    """Return a key of a dict as text that can be printed; a long one is told by its length."""
    return str(key) if isinstance(key, StandIn) else _shown(key, _MAX_SHOWN_KEY)


def summarise(value: object, patience: Patience) -> str:
    """Return in a few words what a value is; where patience ends, without what lies inside."""
    if isinstance(value, Tensor):
        return f"tensor {value.dtype} {value.shape}"
    if is_module(value):
        return f"{value}, a whole module"
    if isinstance(value, Opaque):
        return f"{value}, kept as text"
    if isinstance(value, dict | list | tuple):
        tensors = []
        for entry in walk(value):
            patience.left -= 1
            if patience.left < 0:
                return f"{type(value).__name__} of {len(value)}, …"
            if isinstance(entry, Tensor):
                tensors.append(entry)
        size = sum(tensor.nbytes for tensor in tensors) / 1e6
        inside = f", {len(tensors)} tensors, {size:.1f} MB" if tensors else ""
        return f"{type(value).__name__} of {len(value)}{inside}"
    return _shown(value)


def tell_classes(root: object) -> str:
    """Return which foreign classes the file holds objects of, so that no file is refused without naming them."""
    objects = (value for value in walk(root, attributes=True) if isinstance(value, Opaque) and value.items is not None)
    classes = list(dict.fromkeys(map(str, objects)))
    if not classes:
        return ""
    more = f" and {len(classes) - _MAX_CLASSES} more" if len(classes) > _MAX_CLASSES else ""
    return f"There are objects of {', '.join(classes[:_MAX_CLASSES])}{more}, kept as text and never imported. "


def _shown(value: object, limit: int = _MAX_TEXT) -> str:
    if not isinstance(value, str | bytes | int | float | None):
        return type(value).__name__
    if isinstance(value, str | bytes) and len(value) > limit:
        return f"{type(value).__name__} of {len(value)}"
    text = ascii(value)
    return text if len(text) <= 8 * limit else f"{text[:limit]}…"
