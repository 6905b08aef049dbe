"""The half of a pickle interpreter that moves plain values: a stack, a memo, and containers."""

from typing import Any

from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.trees import MAX_DEPTH, plain_key
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

#: A module inside a module is three containers deeper: the object, its attributes, its modules.
_MAX_MARKS = 3 * MAX_DEPTH
_MAX_MEMO = 200_000
# the hash of a tuple can be made to collide at will
_MAX_TUPLE_KEYS = 1000


class Machine:
    """The stack machine; each method `_do_x` is the instruction `x` of the module `opcodes`."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._tuple_keys = 0

    def _do_stop(self, _: None) -> None:
        if self._outer or len(self._stack) != 1:
            raise CheckpointError("its pickle stops before it is complete. It is damaged.")

    def _do_note(self, _: object) -> None:
        pass

    def _do_push_list(self, _: None) -> None:
        self._stack.append([])

    def _do_push_dict(self, _: None) -> None:
        self._stack.append({})

    def _do_mark(self, _: None) -> None:
        if len(self._outer) == _MAX_MARKS:
            raise UnsafeCheckpointError(f"its pickle nests more than {_MAX_MARKS} containers.")
        self._outer.append(self._stack)
        self._stack = []

    def _do_pop_mark(self, _: None) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _do_pop(self, _: None) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._do_pop_mark(None)

    def _do_duplicate(self, _: None) -> None:
        self._stack.append(self._stack[-1])

    def _do_get(self, index: int) -> None:
        if index not in self._memo:
            raise CheckpointError(f"its pickle recalls a value {index} that it never stored. It is damaged.")
        self._stack.append(self._memo[index])

    def _do_put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]
        if len(self._memo) > _MAX_MEMO:
            raise UnsafeCheckpointError(f"its pickle stores more than {_MAX_MEMO} values for later use.")

    def _do_memoize(self, _: None) -> None:
        self._do_put(len(self._memo))

    def _do_tuple(self, _: None) -> None:
        items = self._do_pop_mark(None)
        self._stack.append(tuple(items))

    def _do_short_tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise IndexError
        self._stack[-size:] = [tuple(self._stack[-size:])]

    def _do_list(self, _: None) -> None:
        items = self._do_pop_mark(None)
        self._stack.append(items)

    def _do_dict(self, _: None) -> None:
        items = self._do_pop_mark(None)
        self._stack.append({})
        self._set(items)

    def _do_append(self, _: None) -> None:
        value = self._stack.pop()
        self._extend([value])

    def _do_extend(self, _: None) -> None:
        self._extend(self._do_pop_mark(None))

    def _do_set_item(self, _: None) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._set([key, value])

    def _do_set_items(self, _: None) -> None:
        self._set(self._do_pop_mark(None))

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise UnsafeCheckpointError(f"its pickle appends to a {type(target).__name__}, which is no list.")
        target.extend(values)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque) and target.items is not None:
            target = target.items  # an object of a class that is derived from dict
        if type(target) is not dict:
            raise UnsafeCheckpointError(f"its pickle sets items of a {type(target).__name__}, which is no dict.")
        if len(items) % 2:
            raise CheckpointError("its pickle holds a key without a value. It is damaged.")
        for key, value in zip(items[::2], items[1::2], strict=True):
            self._count_tuple_key(key)
            target[plain_key(key, len(target))] = value

    def _count_tuple_key(self, key: object) -> None:
        if type(key) is tuple:
            self._tuple_keys += 1
            if self._tuple_keys > _MAX_TUPLE_KEYS:
                raise UnsafeCheckpointError(f"its pickle has more than {_MAX_TUPLE_KEYS} tuples as keys.")
