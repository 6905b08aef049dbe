"""The limits of the inert tree that a checkpoint becomes, and of the keys in it."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from cxrzoo.checkpoint.meanings import ForeignClass, Opaque, StandIn
from cxrzoo.checkpoint.tensors import Tensor
from cxrzoo.checkpoint.vocabulary import foreign
from cxrzoo.errors import UnsafeCheckpointError

#: Containers inside containers, and objects inside objects.
MAX_DEPTH = 64
#: Nodes of the tree if every shared value were written out; an Adam state of 2,500 tensors has 30,000.
_MAX_NODES = 4_000_000
_MAX_KEY = 4096
_MAX_TUPLE_KEY = 16


def check_tree(root: object) -> None:
    """Raise if the tree has cycles, is too deep, or is too large once its shared parts are written out.

    What an object has as attributes is a tree of its own: objects may refer to their owners, as those of
    configurations do, and only a container must not contain itself.

    Raises:
        UnsafeCheckpointError: So it is, or a bare name that only an object could be made of is in it.
    """
    sizes: dict[int, tuple[int, int]] = {}
    trees: list[tuple[object, int]] = [(root, 0)]
    seen: set[int] = set()
    nodes = 0
    for tree, level in trees:  # which grows meanwhile; the objects nearest to the root come first
        found: list[Opaque] = []
        nodes += _measure(tree, sizes, found)
        if nodes > _MAX_NODES or level > MAX_DEPTH:
            raise _too_large()
        for each in found:
            if id(each) not in seen and isinstance(each.state, dict | list | tuple):
                seen.add(id(each))
                trees.append((each.state, level + 1))


def _measure(root: object, sizes: dict[int, tuple[int, int]], found: list[Opaque]) -> int:
    """Return how many nodes a tree has, and add the objects in it to `found`.

    `sizes` holds, of each finished container, its depth and its nodes.
    """
    active: set[int] = set()
    frames: list[list[Any]] = [[None, iter((root,)), 0, 0]]  # container, rest of its children, depth, nodes
    while True:
        frame = frames[-1]
        for child in frame[1]:
            depth, nodes = sizes.get(id(child), (0, 1))
            if id(child) in active:
                raise UnsafeCheckpointError("its pickle holds a container that contains itself.")
            if isinstance(child, ForeignClass):
                raise foreign(child.module, child.name)
            if isinstance(child, Opaque) and depth == 0:
                found.append(child)
            if depth == 0 and _is_container(child):
                active.add(id(child))
                frames.append([child, iter(_children(child)), 0, 1])
                break
            frame[2] = max(frame[2], depth)
            frame[3] += nodes
        else:
            if len(frames) == 1:
                nodes = frame[3]
                return int(nodes)
            frames.pop()
            active.remove(id(frame[0]))
            sizes[id(frame[0])] = (frame[2] + 1, frame[3])
            parent = frames[-1]
            parent[2] = max(parent[2], frame[2] + 1)
            parent[3] += frame[3]
        if len(frames) + frame[2] > MAX_DEPTH + 2 or frame[3] > _MAX_NODES:
            raise _too_large()


def _too_large() -> UnsafeCheckpointError:
    return UnsafeCheckpointError(
        f"its pickle is nested more than {MAX_DEPTH} deep, or unfolds to more than {_MAX_NODES} values."
    )


def plain_key(key: object, position: int) -> object:
    """Return what stands for a key of a dict, after checking that it is harmless.

    Classes, by which callbacks are saved, are told by their names; parameters, by which an optimiser keeps its
    state, by the word tensor and their `position` in the dict.

    Raises:
        UnsafeCheckpointError: It is anything but these, a short text, a number, None, or a short flat tuple of
            the latter three: slow to hash or compare, or made to collide with others.
    """
    if isinstance(key, ForeignClass):
        raise foreign(key.module, key.name)
    if isinstance(key, Tensor):
        return StandIn(f"tensor {position}")
    if isinstance(key, Opaque) and key.state is None:
        return StandIn(str(key))
    parts = key if type(key) is tuple else (key,)
    for part in parts:
        if isinstance(part, str | bytes):
            allowed = len(part) <= _MAX_KEY
        elif isinstance(part, int | float):
            allowed = not abs(part) >= 2**60  # larger integers have the hashes of smaller ones
        else:
            allowed = part is None
        if not allowed or len(parts) > _MAX_TUPLE_KEY:
            what = str(part) if isinstance(part, ForeignClass | Opaque) else type(part).__name__
            raise UnsafeCheckpointError(
                f"its pickle has a key of a dict that is too long, too large or not plain ({what}); "
                "expected short text, numbers, or short flat tuples of these."
            )
    return key


def walk(root: object, *, attributes: bool = False) -> Iterator[object]:
    """Yield the values of a tree, the nearest first; what lies in several places is gone into once.

    Args:
        attributes: Go on into what objects have as attributes; a tree that is within the limits for its size may
            refer to the same large object from many places.
    """
    pending, seen = deque([root]), {id(root)}
    yield root
    while pending:
        value = pending.popleft()
        state = (value.state,) if attributes and isinstance(value, Opaque) else ()
        for child in itertools.chain(_children(value), state):
            yield child
            if isinstance(child, dict | list | tuple | Opaque) and id(child) not in seen:
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
        case Opaque(items=dict() as items):
            return items.values()
    return ()
