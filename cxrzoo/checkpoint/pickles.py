"""An inert interpreter of pickles: it follows the instructions, and what they name stays text.

Nothing is imported and nothing is called. No step recurses, so that no file can exhaust the C stack;
every step costs no more than the instruction is long, so that no small file can cost much.
"""

from collections.abc import Callable
from typing import Any, BinaryIO

from cxrzoo.checkpoint.opcodes import read_instructions
from cxrzoo.checkpoint.trees import check_key, check_tree
from cxrzoo.checkpoint.vocabulary import build, call, find_name, foreign
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

_MAX_MARKS = 64
_MAX_MEMO = 200_000
# the hash of a tuple can be made to collide at will
_MAX_TUPLE_KEYS = 1000
_MAX_CALLS = 100_000
#: Bytes, roughly, of what calls make beyond what the pickle itself holds.
_MAX_MADE = 16 << 20


def read_pickle(stream: BinaryIO, load_persistent: Callable[[Any], Any] | None = None) -> Any:
    """Return the inert value of the pickle at the current position, and leave the stream behind it.

    Args:
        load_persistent: Returns what a persistent id stands for; torch refers to storages by them.

    Raises:
        CheckpointError: The pickle is malformed, or holds a kind of tensor that can't be read.
        UnsafeCheckpointError: It names a class or function that is not understood, or exceeds a budget.
    """
    interpreter = _Interpreter(stream, load_persistent)
    try:
        root = interpreter.run()
    except IndexError:
        raise CheckpointError("its pickle takes values that it never gave. It is damaged.") from None
    check_tree(root)
    return root


class _Interpreter:
    """The stack machine; each method `_do_x` is the instruction `x` of the module `opcodes`."""

    def __init__(self, stream: BinaryIO, load_persistent: Callable[[Any], Any] | None) -> None:
        self._instructions = read_instructions(stream)
        self._load_persistent = load_persistent
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._tuple_keys = 0
        self._calls = 0
        self._made = 0

    def run(self) -> Any:
        actions: dict[str, Callable[[Any], None]] = {
            name.removeprefix("_do_"): getattr(self, name) for name in dir(self) if name.startswith("_do_")
        }
        for name, argument in self._instructions:
            if name == "push":
                self._stack.append(argument)
            else:
                actions[name](argument)
        return self._stack[0]

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

    def _do_name(self, names: tuple[str, str]) -> None:
        name = find_name(*names)
        if name is None:
            raise foreign(*names, is_module=self._is_module(names[0]))
        self._stack.append(name)

    def _do_stack_name(self, _: None) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if type(name) is not str or type(module) is not str:
            raise UnsafeCheckpointError("its pickle names a class or function by something that is no text.")
        self._do_name((module, name))

    def _do_instance(self, names: tuple[str, str]) -> None:
        arguments = tuple(self._do_pop_mark(None))
        self._do_name(names)
        self._call(self._stack.pop(), arguments)

    def _do_object(self, _: None) -> None:
        function, *arguments = self._do_pop_mark(None) or [None]
        self._call(function, tuple(arguments))

    def _do_call(self, _: None) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._call(function, arguments)

    def _do_call_with_keywords(self, _: None) -> None:
        if self._stack.pop() != {}:
            raise UnsafeCheckpointError("its pickle asks for a call with keywords, which no checkpoint needs.")
        self._do_call(None)

    #: Making an instance is a call like any other.
    _do_new = _do_call

    def _do_build(self, _: None) -> None:
        state = self._stack.pop()
        build(self._stack[-1], state)

    def _do_persistent(self, _: None) -> None:
        if self._load_persistent is None:
            raise UnsafeCheckpointError("its pickle refers to data outside of itself, where there is none.")
        self._count_call()
        self._stack.append(self._load_persistent(self._stack.pop()))

    def _call(self, function: object, arguments: object) -> None:
        self._count_call()
        value = call(function, arguments)
        if type(value) in (str, bytes, dict):
            self._made += len(value) * (64 if type(value) is dict else 1)
            if self._made > _MAX_MADE:
                raise UnsafeCheckpointError(f"its pickle makes more than {_MAX_MADE} bytes out of less.")
        self._stack.append(value)

    def _count_call(self) -> None:
        self._calls += 1
        if self._calls > _MAX_CALLS:
            raise UnsafeCheckpointError(f"its pickle asks for more than {_MAX_CALLS} calls.")

    def _extend(self, values: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not list:
            raise UnsafeCheckpointError(f"its pickle appends to a {type(target).__name__}, which is no list.")
        target.extend(values)

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            raise UnsafeCheckpointError(f"its pickle sets items of a {type(target).__name__}, which is no dict.")
        if len(items) % 2:
            raise CheckpointError("its pickle holds a key without a value. It is damaged.")
        for key, value in zip(items[::2], items[1::2], strict=True):
            check_key(key)
            self._count_tuple_key(key)
            target[key] = value

    def _count_tuple_key(self, key: object) -> None:
        if type(key) is tuple:
            self._tuple_keys += 1
            if self._tuple_keys > _MAX_TUPLE_KEYS:
                raise UnsafeCheckpointError(f"its pickle has more than {_MAX_TUPLE_KEYS} tuples as keys.")

    def _is_module(self, module: str) -> bool:
        """Return whether the name just read is the class of a module that was pickled as a whole."""
        if module.startswith("torch.nn.modules.") or self._stack == ["module"]:
            return True  # the latter begins torch's own note on the source of a class, in legacy files
        if self._stack or self._outer:
            return False
        try:
            for instruction, value in self._instructions:
                if instruction not in ("put", "memoize") and (instruction, value) != ("push", ()):
                    return instruction == "new"
        except CheckpointError:
            pass
        return False
