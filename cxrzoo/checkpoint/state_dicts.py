"""The state_dict in a checkpoint, wherever it lies, and as a mapping whatever holds it."""

from collections.abc import Sequence
from typing import Any

from cxrzoo.checkpoint.descriptions import describe_root, shown_key, summarise
from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.modules import Budget, gather_tensors, is_module
from cxrzoo.checkpoint.tensors import Tensor, check_name
from cxrzoo.checkpoint.trees import walk
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

#: Tied weights share their bytes; a file where many tensors do is a bomb for whoever writes them out.
_MAX_SHARING = 16
#: Keys on the way to a mapping: `classy_state_dict.base_model.model.trunk` is the longest that is known.
_MAX_KEYS = 4
#: What may be looked at in all the modules of a file together.
_MAX_LISTED = 100_000
_MAX_CLASSES = 10


def find_state_dict(root: object, unwrap: Sequence[str]) -> dict[str, Tensor]:
    """Return the names and tensors of the state_dict in `root`.

    It is what lies under the first key of `unwrap` that leads to a mapping with tensors; keys joined by
    dots lead through several mappings. Without any, it is `root` itself. A whole pickled module counts as
    the mapping that its `state_dict()` would be.

    Raises:
        CheckpointError: No mapping holds tensors, or the one that does holds other values too.
        UnsafeCheckpointError: Too many tensors share their bytes, or a module is none.
    """
    for path in unwrap:
        found = _mapping(_follow(root, path), Budget())
        if _has_tensors(found):
            return _strict(found, f"the mapping under {path!r}")
    found = _mapping(root, Budget())
    if _has_tensors(found):
        return _strict(found, "the top level")
    wanted = " or ".join(repr(key) for key in unwrap) or "the top level"
    contents = "; ".join(describe_root(root)[:20])
    raise CheckpointError(
        f"no state_dict was found: expected tensors under {wanted}. The file holds: {contents}. {_tell_classes(root)}"
        "Name the key under which its weights lie, in the recipe's `unwrap`."
    )


def list_mappings(root: object) -> dict[str, dict[Any, Any]]:
    """Return the mappings that hold tensors, at most four levels deep, by their dotted path; "" is the top.

    A whole pickled module counts as the mapping that its `state_dict()` would be.

    Raises:
        UnsafeCheckpointError: A module is none.
    """
    found = {}
    pending: list[tuple[list[str], object]] = [([], root)]
    budget = Budget(_MAX_LISTED)
    while pending:
        path, value = pending.pop()
        mapping = _mapping(value, budget)
        if _has_tensors(mapping):
            found[".".join(path)] = mapping
        if not is_module(value) and len(path) < _MAX_KEYS:
            pending += [([*path, key], child) for key, child in mapping.items() if type(key) is str]
    return found


def _mapping(value: object, budget: Budget) -> dict[Any, Any]:
    """Return what a value holds by name; nothing if it is no mapping."""
    return gather_tensors(value, budget) if is_module(value) else _entries(value)


def _entries(value: object) -> dict[Any, Any]:
    entries = value.items if isinstance(value, Opaque) else value
    return entries if isinstance(entries, dict) else {}


def _follow(root: object, path: str) -> object:
    if path in _entries(root):
        return _entries(root)[path]
    for key in path.split("."):
        root = _entries(root).get(key)
    return root


def _has_tensors(mapping: dict[Any, Any]) -> bool:
    return any(isinstance(entry, Tensor) for entry in mapping.values())


def _strict(mapping: dict[Any, Any], where: str) -> dict[str, Tensor]:
    entries = {key: value for key, value in mapping.items() if key != "_metadata"}
    others = [key for key, value in entries.items() if not isinstance(value, Tensor)]
    if others:
        named = ", ".join(f"{shown_key(key)} ({summarise(entries[key])})" for key in others[:10])
        raise CheckpointError(
            f"{where} holds {len(others)} values that are no tensors: {named}. A state_dict holds tensors only: "
            "name the key under which the weights lie, in the recipe's `unwrap`, or save them alone."
        )
    for key in entries:
        check_name(key)
    stored = {id(tensor.region): tensor.region.size for tensor in entries.values()}
    written = sum(tensor.nbytes for tensor in entries.values())
    if written > _MAX_SHARING * sum(stored.values()):
        raise UnsafeCheckpointError(
            f"{where} promises {written} bytes of tensors from {sum(stored.values())} bytes in the file: too many "
            "tensors share their bytes. Save clones of them."
        )
    return entries


def _tell_classes(root: object) -> str:
    """Return which foreign classes the file holds objects of, so that no file is refused without naming them."""
    objects = (value for value in walk(root, attributes=True) if isinstance(value, Opaque) and value.items is not None)
    classes = list(dict.fromkeys(map(str, objects)))
    if not classes:
        return ""
    more = f" and {len(classes) - _MAX_CLASSES} more" if len(classes) > _MAX_CLASSES else ""
    return f"There are objects of {', '.join(classes[:_MAX_CLASSES])}{more}, kept as text and never imported. "
