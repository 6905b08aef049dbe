"""The instructions of a pickle stream, protocols 0 to 5; nothing is built here, let alone called.

Many of pickle's opcodes differ only in how their argument is written, and become one instruction here.
Their meaning is that of https://docs.python.org/3/library/pickletools.html.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO

from cxrzoo.checkpoint.arguments import (
    MAX_PICKLE,
    Decoder,
    Reader,
    always,
    decimal,
    escaped,
    long,
    names,
    protocol,
    quoted,
    raw,
    real,
    refused,
    signed,
    text,
    unsigned,
)
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

#: A tensor takes about 31, so this is room for some 9,600 of them.
MAX_INSTRUCTIONS = 300_000


def read_instructions(stream: BinaryIO, limit: int = MAX_PICKLE) -> Iterator[tuple[str, Any]]:
    """Yield the instructions of one pickle with their arguments, up to and with its `stop`.

    Args:
        limit: Bytes that it may have.

    Raises:
        CheckpointError: The stream ends early, or is no pickle.
        UnsafeCheckpointError: A budget is exceeded, or an opcode has no inert meaning.
    """
    reader = Reader(stream, limit)
    for _ in range(MAX_INSTRUCTIONS):
        code = reader.take(1)
        entry = _INSTRUCTIONS.get(code)
        if entry is None:
            raise CheckpointError(f"its pickle holds the byte 0x{code.hex()}, which is no opcode. It is damaged.")
        name, decode = entry
        try:
            argument = decode(reader)
        except CheckpointError:
            raise
        except ValueError as error:
            raise CheckpointError(
                f"its pickle holds a malformed value ({type(error).__name__}). It is damaged."
            ) from error
        yield name, argument
        if name == "stop":
            return
    raise UnsafeCheckpointError(f"its pickle has more than {MAX_INSTRUCTIONS} instructions.")


_NOTHING = always(None)
_ONE, _TWO, _FOUR, _EIGHT = map(unsigned, (1, 2, 4, 8))
_EXTENSION = refused("a registered extension code in place of a name")
_BUFFER = refused("a buffer outside the file")

_INSTRUCTIONS: dict[bytes, tuple[str, Decoder]] = {
    # constants
    b"N": ("push", _NOTHING),
    b"\x88": ("push", always(True)),
    b"\x89": ("push", always(False)),
    b")": ("push", always(())),
    b"J": ("push", signed),
    b"K": ("push", _ONE),
    b"M": ("push", _TWO),
    b"I": ("push", decimal),
    b"L": ("push", decimal),
    b"\x8a": ("push", long(_ONE)),
    b"\x8b": ("push", long(_FOUR)),
    b"F": ("push", lambda reader: float(reader.line())),
    b"G": ("push", real),
    # strings; those of Python 2 may be binary, and Latin-1 loses nothing
    b"S": ("push", quoted),
    b"T": ("push", text(_FOUR, "latin-1")),
    b"U": ("push", text(_ONE, "latin-1")),
    b"V": ("push", escaped),
    b"X": ("push", text(_FOUR)),
    b"\x8c": ("push", text(_ONE)),
    b"\x8d": ("push", text(_EIGHT)),
    b"B": ("push", raw(_FOUR)),
    b"C": ("push", raw(_ONE)),
    b"\x8e": ("push", raw(_EIGHT)),
    b"\x96": ("push", raw(_EIGHT)),
    # containers; the members of sets are kept as lists and tuples, and never hashed
    b"]": ("push_list", _NOTHING),
    b"\x8f": ("push_list", _NOTHING),
    b"}": ("push_dict", _NOTHING),
    b"t": ("tuple", _NOTHING),
    b"\x85": ("short_tuple", always(1)),
    b"\x86": ("short_tuple", always(2)),
    b"\x87": ("short_tuple", always(3)),
    b"\x91": ("tuple", _NOTHING),
    b"l": ("list", _NOTHING),
    b"d": ("dict", _NOTHING),
    b"a": ("append", _NOTHING),
    b"e": ("extend", _NOTHING),
    b"\x90": ("extend", _NOTHING),
    b"s": ("set_item", _NOTHING),
    b"u": ("set_items", _NOTHING),
    # stack and memo
    b"(": ("mark", _NOTHING),
    b"0": ("pop", _NOTHING),
    b"1": ("pop_mark", _NOTHING),
    b"2": ("duplicate", _NOTHING),
    b"g": ("get", lambda reader: int(reader.line())),
    b"h": ("get", _ONE),
    b"j": ("get", _FOUR),
    b"p": ("put", lambda reader: int(reader.line())),
    b"q": ("put", _ONE),
    b"r": ("put", _FOUR),
    b"\x94": ("memoize", _NOTHING),
    # what pickle would import and call
    b"c": ("name", names),
    b"\x93": ("stack_name", _NOTHING),
    b"i": ("instance", names),
    b"o": ("object", _NOTHING),
    b"R": ("call", _NOTHING),
    b"\x81": ("new", _NOTHING),
    b"\x92": ("call_with_keywords", _NOTHING),
    b"b": ("build", _NOTHING),
    b"Q": ("persistent", _NOTHING),
    b"P": ("", refused("a persistent id written as text")),
    b"\x82": ("", _EXTENSION),
    b"\x83": ("", _EXTENSION),
    b"\x84": ("", _EXTENSION),
    b"\x97": ("", _BUFFER),
    b"\x98": ("", _BUFFER),
    # framing; the length of a frame is but a hint
    b"\x80": ("note", protocol),
    b"\x95": ("note", _EIGHT),
    b".": ("stop", _NOTHING),
}
