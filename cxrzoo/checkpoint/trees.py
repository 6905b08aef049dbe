"""The inert tree that a checkpoint becomes: its limits, its description, and the state_dict inside it."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.tensors import Tensor, check_name
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

_MAX_DEPTH = 64
#: Nodes of the tree if every shared value were written out; an Adam state of 2,500 tensors has 30,000.
_MAX_NODES = 4_000_000
#: Tied weights share their bytes; a file where many tensors do is a bomb for whoever writes them out.
_MAX_SHARING = 16
_MAX_KEY = 4096
_MAX_TUPLE_KEY = 16
_MAX_LINES = 50
_MAX_TEXT = 40
_MAX_SHOWN_KEY = 120


def check_tree(root: object) -> None:
    """Raise if the tree has cycles, is too deep, or is too large once its shared parts are written out.

    Raises:
        UnsafeCheckpointError: So it is.
    """
    sizes: dict[int, tuple[int, int]] = {}  # of each finished container: its depth, its nodes
    active: set[int] = set()
    frames: list[list[Any]] = [[None, iter((root,)), 0, 0]]  # container, rest of its children, depth, nodes
    while True:
        frame = frames[-1]
        for child in frame[1]:
            depth, nodes = sizes.get(id(child), (0, 1))
            if id(child) in active:
                raise UnsafeCheckpointError("its pickle holds a container that contains itself.")
            if depth == 0 and _is_container(child):
                active.add(id(child))
                frames.append([child, iter(_children(child)), 0, 1])
                break
            frame[2] = max(frame[2], depth)
            frame[3] += nodes
        else:
            if len(frames) == 1:
                return
            frames.pop()
            active.remove(id(frame[0]))
            sizes[id(frame[0])] = (frame[2] + 1, frame[3])
            parent = frames[-1]
            parent[2] = max(parent[2], frame[2] + 1)
            parent[3] += frame[3]
        if len(frames) + frame[2] > _MAX_DEPTH + 2 or frame[3] > _MAX_NODES:
            raise UnsafeCheckpointError(
                f"its pickle is nested more than {_MAX_DEPTH} deep, or unfolds to more than {_MAX_NODES} values."
            )


def check_key(key: object) -> None:
    """Raise if `key`, of a dict, is slow to hash or compare, or can be made to collide with others.

    Raises:
        UnsafeCheckpointError: It is anything but a short text, a number, None, or a short flat tuple of these.
    """
    parts = key if type(key) is tuple else (key,)
    for part in parts:
        if isinstance(part, str | bytes):
            allowed = len(part) <= _MAX_KEY
        elif isinstance(part, int | float):
            allowed = not abs(part) >= 2**60  # larger integers have the hashes of smaller ones
        else:
            allowed = part is None
        if not allowed or len(parts) > _MAX_TUPLE_KEY:
            raise UnsafeCheckpointError(
                f"its pickle has a key of a dict that is too long, too large or not plain ({type(part).__name__}); "
                "expected short text, numbers, or short flat tuples of these."
            )


def find_state_dict(root: object, unwrap: Sequence[str]) -> dict[str, Tensor]:
    """Return the names and tensors of the state_dict in `root`.

    It is what lies under the first key of `unwrap` that leads to a mapping with tensors; keys joined by
    dots lead through several mappings. Without any, it is `root` itself.

    Raises:
        CheckpointError: No mapping holds tensors, or the one that does holds other values too.
    """
    for path in unwrap:
        found = _follow(root, path)
        if _has_tensors(found):
            return _strict(found, f"the mapping under {path!r}")
    if _has_tensors(root):
        return _strict(root, "the top level")
    wanted = " or ".join(repr(key) for key in unwrap) or "the top level"
    contents = "; ".join(describe_root(root)[:20])
    raise CheckpointError(
        f"no state_dict was found: expected tensors under {wanted}. The file holds: {contents}. Name the key "
        "under which its weights lie, in the recipe's `unwrap`."
    )


def describe_root(root: object) -> list[str]:
    """Return a few short lines on what lies at the top level; long texts are told by their length only."""
    if type(root) is not dict:
        return [_summary(root)]
    lines = [
        f"{_shown(key, _MAX_SHOWN_KEY)}: {_summary(value)}" for key, value in itertools.islice(root.items(), _MAX_LINES)
    ]
    return [*lines, f"… and {len(root) - _MAX_LINES} more"] if len(root) > _MAX_LINES else lines


def list_mappings(root: object) -> dict[str, dict[Any, Any]]:
    """Return the mappings that hold tensors, at most three levels deep, by their dotted path; "" is the top."""
    found = {}
    pending: list[tuple[list[str], object]] = [([], root)]
    while pending:
        path, value = pending.pop()
        if _has_tensors(value):
            found[".".join(path)] = value
        if type(value) is dict and len(path) < 3:
            pending += [([*path, key], child) for key, child in value.items() if type(key) is str]
    return found


def _follow(root: Any, path: str) -> Any:
    if type(root) is dict and path in root:
        return root[path]
    for key in path.split("."):
        root = root.get(key) if type(root) is dict else None
    return root


def _has_tensors(value: object) -> TypeGuard[dict[Any, Any]]:
    return type(value) is dict and any(isinstance(entry, Tensor) for entry in value.values())


def _strict(mapping: dict[Any, Any], where: str) -> dict[str, Tensor]:
    entries = {key: value for key, value in mapping.items() if key != "_metadata"}
    others = [key for key, value in entries.items() if not isinstance(value, Tensor)]
    if others:
        named = ", ".join(f"{_shown(key, _MAX_SHOWN_KEY)} ({_summary(entries[key])})" for key in others[:10])
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


def _summary(value: object) -> str:
    if isinstance(value, Tensor):
        return f"tensor {value.dtype} {value.shape}"
    if isinstance(value, Opaque):
        return f"{value}, kept as text"
    if isinstance(value, dict | list | tuple):
        tensors = [entry for entry in _walk(value) if isinstance(entry, Tensor)]
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


def _walk(root: object) -> Iterator[object]:
    """Yield the values of a tree, each container once."""
    pending, seen = [root], {id(root)}
    while pending:
        value = pending.pop()
        yield value
        for child in _children(value):
            if not _is_container(child):
                yield child
            elif id(child) not in seen:
                seen.add(id(child))
                pending.append(child)


def _is_container(value: object) -> bool:
    return isinstance(value, dict | list | tuple | Opaque) and bool(_children(value))


def _children(value: object) -> Iterable[Any]:
    match value:
        case dict():
            return value.values()
        case list() | tuple():
            return value
        case Opaque(state=dict() | list() | tuple() as state):
            return (state,)
    return ()
