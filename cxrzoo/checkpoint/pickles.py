"""An inert interpreter of pickles: it follows the instructions, and what they name stays text.

Nothing is imported and nothing is called. No step recurses, so that no file can exhaust the C stack;
every step costs no more than the instruction is long, so that no small file can cost much.
"""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from cxrzoo.checkpoint.arguments import MAX_PICKLE
from cxrzoo.checkpoint.machine import Machine
from cxrzoo.checkpoint.meanings import ForeignClass, Opaque
from cxrzoo.checkpoint.opcodes import read_instructions
from cxrzoo.checkpoint.trees import check_tree
from cxrzoo.checkpoint.vocabulary import build, call, find_name, foreign, make
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

_MAX_CALLS = 100_000
_MAX_CLASSES = 10
#: Bytes, roughly, of what calls make beyond what the pickle itself holds.
_MAX_MADE = 16 << 20
_COSTS: dict[type, int] = {str: 1, bytes: 1, tuple: 8, list: 8, dict: 64}


def read_pickle(
    stream: BinaryIO, load_persistent: Callable[[Any], Any] | None = None, *, limit: int = MAX_PICKLE
) -> Any:
    """Return the inert value of the pickle at the current position, and leave the stream behind it.

    Args:
        load_persistent: Returns what a persistent id stands for; torch refers to storages by them.
        limit: Bytes that the pickle may have.

    Raises:
        CheckpointError: The pickle is malformed, or holds a kind of tensor that can't be read.
        UnsafeCheckpointError: It names a class or function that is not understood, or exceeds a budget.
    """
    interpreter = _Interpreter(read_instructions(stream, limit), load_persistent)
    try:
        root = interpreter.run()
        check_tree(root)
    except IndexError:
        raise CheckpointError("its pickle takes values that it never gave. It is damaged.") from None
    except UnsafeCheckpointError as error:
        # the names say more than what was done with them
        named = ", ".join(map(str, interpreter.unused_classes()[:_MAX_CLASSES]))
        if not named:
            raise
        raise UnsafeCheckpointError(f"{error} It also names {named}, of which there is no object.") from error
    for cls in interpreter.unused_classes():
        raise foreign(cls.module, cls.name)
    return root


class _Interpreter(Machine):
    """The whole interpreter: what names, calls and references mean, on top of plain values."""

    def __init__(self, instructions: Iterator[tuple[str, Any]], load_persistent: Callable[[Any], Any] | None) -> None:
        super().__init__()
        self._instructions = instructions
        self._load_persistent = load_persistent
        self._classes: dict[ForeignClass, bool] = {}  # those named so far, and whether there are objects of them
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

    def unused_classes(self) -> list[ForeignClass]:
        """Return the foreign classes that were named, and not to make an object of them."""
        return [cls for cls, used in self._classes.items() if not used]

    def _do_name(self, names: tuple[str, str]) -> None:
        name = find_name(*names)
        if isinstance(name, ForeignClass):
            self._classes.setdefault(name, False)
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
        self._do_new(None)

    def _do_new(self, _: None) -> None:
        arguments, cls = self._stack.pop(), self._stack.pop()
        self._call(cls, arguments, make)

    def _do_build(self, _: None) -> None:
        state = self._stack.pop()
        build(self._stack[-1], state)

    def _do_persistent(self, _: None) -> None:
        if self._load_persistent is None:
            raise UnsafeCheckpointError("its pickle refers to data outside of itself, where there is none.")
        self._count_call()
        self._stack.append(self._load_persistent(self._stack.pop()))

    def _call(self, function: object, arguments: object, meaning: Callable[[object, object], Any] = call) -> None:
        self._count_call()
        value = meaning(function, arguments)
        if isinstance(value, Opaque) and value.items is not None:
            self._classes[ForeignClass(value.module, value.name)] = True
        if type(value) in _COSTS:
            self._made += len(value) * _COSTS[type(value)]
            if self._made > _MAX_MADE:
                raise UnsafeCheckpointError(f"its pickle makes more than {_MAX_MADE} bytes out of less.")
        self._stack.append(value)

    def _count_call(self) -> None:
        self._calls += 1
        if self._calls > _MAX_CALLS:
            raise UnsafeCheckpointError(f"its pickle asks for more than {_MAX_CALLS} calls.")
