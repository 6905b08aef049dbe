"""The state_dict in a checkpoint, wherever it lies, and as a mapping whatever holds it."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cxrzoo.checkpoint.descriptions import Patience, describe_root, shown_key, summarise, tell_classes
from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.modules import Budget, gather_tensors, is_module
from cxrzoo.checkpoint.tensors import Tensor, check_name
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

#: Tied weights share their bytes; a file where many tensors do is a bomb for whoever writes them out.
_MAX_SHARING = 16
#: Tensors of one state_dict; a DenseNet-201 has 1,200.
_MAX_TENSORS = 20_000
#: Keys on the way to a mapping: `classy_state_dict.base_model.model.trunk` is the longest that is known.
_MAX_KEYS = 4
#: Characters of one of them.
_MAX_KEY = 200
#: A state_dict has more tensors; what an optimizer keeps for each parameter has fewer.
_FEW = 8
#: What may be looked at in all the modules of a file together.
_MAX_LISTED = 100_000


@dataclass(frozen=True)
class StateDict:
    """A state_dict in a checkpoint: the dotted path that leads to it, "" for the top level, and its tensors."""

    path: str
    tensors: dict[str, Tensor]


class Lookup:
    """The state_dicts of one checkpoint, each looked up once however often it is asked for."""

    def __init__(self, root: object) -> None:
        self._root = root
        # by the id of what holds them, which `root` keeps alive; a text says what is wrong with one
        self._known: dict[int, StateDict | str | None] = {}

    def find(self, unwrap: Sequence[str]) -> StateDict:
        """Return what `find_state_dict` finds, and where it lies.

        Raises:
            CheckpointError: As `find_state_dict` does.
        """
        for path in (*unwrap, ""):
            found = self._read(path, _follow(self._root, path))
            if found is not None:
                return found
        wanted = " or ".join(repr(key) for key in unwrap) or "the top level"
        raise CheckpointError(
            f"no state_dict was found: expected tensors under {wanted}. {self._contents}"
            "Name the key under which its weights lie, in the recipe's `unwrap`."
        )

    @cached_property
    def only(self) -> StateDict | None:
        """The only state_dict that can be meant, wherever it lies; None where there are none or several."""
        meant = [
            (path, value)
            for path, value, mapping in _iterate(self._root)
            if len(mapping) >= _FEW and all(map(_is_named, mapping.items()))
        ]
        return self._read(*meant[0]) if len(meant) == 1 else None

    def _read(self, path: str, value: object) -> StateDict | None:
        if id(value) not in self._known:
            mapping = _mapping(value, Budget())
            where = f"the mapping under {path!r}" if path else "the top level"
            found = _check(mapping, where) if _has_tensors(mapping) else None
            self._known[id(value)] = StateDict(path, found) if isinstance(found, dict) else found
        known = self._known[id(value)]
        if isinstance(known, str):
            raise CheckpointError(known)
        return known

    @cached_property
    def _contents(self) -> str:
        return f"The file holds: {'; '.join(describe_root(self._root)[:20])}. {tell_classes(self._root)}"


def find_state_dict(root: object, unwrap: Sequence[str]) -> dict[str, Tensor]:
    """Return the names and tensors of the state_dict in `root`.

    It is what lies under the first key of `unwrap` that leads to a mapping with tensors; keys joined by
    dots lead through several mappings. Without any, it is `root` itself. A whole pickled module counts as
    the mapping that its `state_dict()` would be.

    Raises:
        CheckpointError: No mapping holds tensors, or the one that does holds other values too.
        UnsafeCheckpointError: Too many tensors share their bytes, there are too many, or a module is none.
    """
    return Lookup(root).find(unwrap).tensors


def list_mappings(root: object) -> dict[str, dict[Any, Any]]:
    """Return the mappings that hold tensors, at most four levels deep, by their dotted path; "" is the top.

    One that lies in several places is listed at the first and shortest path to it. A whole pickled module counts as
    the mapping that its `state_dict()` would be.

    Raises:
        UnsafeCheckpointError: A module is none.
    """
    found: dict[str, dict[Any, Any]] = {}
    for path, _, mapping in _iterate(root):
        found.setdefault(path, mapping)
    return found


def _iterate(root: object) -> Iterator[tuple[str, object, dict[Any, Any]]]:
    """Yield the path of each mapping with tensors, what holds it, and the mapping, the nearest first."""
    pending: deque[tuple[tuple[str, ...], object]] = deque([((), root)])
    seen = {id(root)}
    budget = Budget(_MAX_LISTED)
    while pending:
        keys, value = pending.popleft()
        mapping = _mapping(value, budget)
        if _has_tensors(mapping):
            yield ".".join(keys), value, mapping
        if is_module(value) or len(keys) == _MAX_KEYS:
            continue
        for key, child in mapping.items():
            # each is gone into once, or a small file could have millions of paths
            if type(key) is str and len(key) <= _MAX_KEY and id(child) not in seen and _is_mapping(child):
                seen.add(id(child))
                pending.append(((*keys, key), child))


def _mapping(value: object, budget: Budget) -> dict[Any, Any]:
    """Return what a value holds by name; nothing if it is no mapping."""
    return gather_tensors(value, budget) if is_module(value) else _entries(value)


def _entries(value: object) -> dict[Any, Any]:
    entries = value.items if isinstance(value, Opaque) else value
    return entries if isinstance(entries, dict) else {}


def _is_mapping(value: object) -> bool:
    return bool(_entries(value)) or is_module(value)


def _follow(root: object, path: str) -> object:
    if not path:
        return root
    if path in _entries(root):
        return _entries(root)[path]
    for key in path.split("."):
        root = _entries(root).get(key)
    return root


def _has_tensors(mapping: dict[Any, Any]) -> bool:
    return any(isinstance(entry, Tensor) for entry in mapping.values())


def _is_named(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def _check(mapping: dict[Any, Any], where: str) -> dict[str, Tensor] | str:
    """Return the tensors of a mapping, or what is wrong where it holds other values."""
    entries = {key: value for key, value in mapping.items() if key != "_metadata"}
    others = [key for key, value in entries.items() if not isinstance(value, Tensor)]
    if others:
        patience = Patience()
        named = ", ".join(f"{shown_key(key)} ({summarise(entries[key], patience)})" for key in others[:10])
        return (
            f"{where} holds {len(others)} values that are no tensors: {named}. A state_dict holds tensors only: "
            "name the key under which the weights lie, in the recipe's `unwrap`, or save them alone."
        )
    if len(entries) > _MAX_TENSORS:
        raise UnsafeCheckpointError(
            f"{where} holds {len(entries)} tensors, over {_MAX_TENSORS}: more than any network."
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
