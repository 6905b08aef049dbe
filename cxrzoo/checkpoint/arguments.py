"""Decoding the arguments of pickle opcodes, with a bound on everything that a file may ask for."""

import codecs
import re
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

#: Bytes of one pickle; one of 2,500 tensors takes 0.5 MB.
MAX_PICKLE = 32 << 20
#: Bytes of one string; licences and configurations are kept in checkpoints as text.
MAX_STRING = 1 << 20
MAX_LONG = 255

# possessive: a pattern that could go back would keep 120 bytes for each byte of a string
_ESCAPES = re.compile(rb"(?:[^\\]++|\\(?:[\\'\"nrtabfv]|x[0-9a-fA-F]{2}|[0-3]?[0-7]{1,2}))*+", re.DOTALL)


class Reader:
    """A stream that never gives fewer bytes than asked for, nor more than the budgets allow."""

    def __init__(self, stream: BinaryIO, limit: int = MAX_PICKLE) -> None:
        self._stream = stream
        self._limit = self._left = limit

    def take(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        if size > MAX_STRING:
            raise UnsafeCheckpointError(
                f"its pickle holds a string of {size} bytes; at most {MAX_STRING} are expected."
            )
        self._spend(size)
        data = self._stream.read(size)
        if len(data) != size:
            raise CheckpointError("it ends in the middle of its pickle. Download it again.")
        return data

    def line(self) -> bytes:
        """Return the bytes up to the next line feed, without it."""
        data = self._stream.readline(MAX_STRING)
        self._spend(len(data))
        if not data.endswith(b"\n"):
            raise CheckpointError("its pickle ends, or goes on for too long, in the middle of a line.")
        return data[:-1]

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise UnsafeCheckpointError(f"its pickle is larger than {self._limit} bytes.")


Decoder = Callable[[Reader], Any]


def always(value: Any) -> Decoder:
    """Return a decoder of opcodes without argument."""
    return lambda reader: value


def unsigned(size: int) -> Decoder:
    """Return a decoder of little-endian integers of `size` bytes."""
    return lambda reader: int.from_bytes(reader.take(size), "little")


def raw(length: Decoder) -> Decoder:
    """Return a decoder of bytes that follow their length."""
    return lambda reader: reader.take(length(reader))


def text(length: Decoder, encoding: str = "utf-8") -> Decoder:
    """Return a decoder of text that follows its length in bytes."""
    return lambda reader: reader.take(length(reader)).decode(encoding)


def long(length: Decoder) -> Decoder:
    """Return a decoder of signed integers that follow their length in bytes."""

    def decode(reader: Reader) -> int:
        size = length(reader)
        if size > MAX_LONG:
            raise UnsafeCheckpointError(f"its pickle holds an integer of {size} bytes, over {MAX_LONG}.")
        return int.from_bytes(reader.take(size), "little", signed=True)

    return decode


def refused(what: str) -> Decoder:
    """Return a decoder that raises, for opcodes with no inert meaning."""

    def decode(reader: Reader) -> None:
        raise UnsafeCheckpointError(f"its pickle uses {what}, which torch.save never writes.")

    return decode


def signed(reader: Reader) -> int:
    """Return an integer of four bytes."""
    return int.from_bytes(reader.take(4), "little", signed=True)


def real(reader: Reader) -> float:
    """Return a big-endian double."""
    value: float = struct.unpack(">d", reader.take(8))[0]
    return value


def decimal(reader: Reader) -> int | bool:
    """Return an integer written in digits; 00 and 01 stand for False and True."""
    digits = reader.line()
    if digits in (b"00", b"01"):
        return digits == b"01"
    if len(digits) > 3 * MAX_LONG:
        raise UnsafeCheckpointError(f"its pickle holds an integer of {len(digits)} digits.")
    return int(digits.removesuffix(b"L"))


def quoted(reader: Reader) -> str:
    """Return a string that Python 2 wrote as its repr."""
    line = reader.line()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise CheckpointError("its pickle holds a string without quotes. It is damaged.")
    if not _ESCAPES.fullmatch(line, 1, len(line) - 1):
        raise CheckpointError("its pickle holds a string with a malformed escape. It is damaged.")
    decoded, _ = codecs.escape_decode(line[1:-1])
    return decoded.decode("latin-1")


def escaped(reader: Reader) -> str:
    r"""Return a string in which only \u escapes are special."""
    line = reader.line().decode("raw-unicode-escape")
    line.encode()  # lone surrogates, which could not be printed, fail here
    return line


def names(reader: Reader) -> tuple[str, str]:
    """Return a module and a name in it, a line each."""
    return reader.line().decode(), reader.line().decode()


def protocol(reader: Reader) -> None:
    """Check that the protocol is one whose opcodes are known."""
    version = reader.take(1)[0]
    if version > 5:
        raise CheckpointError(f"its pickle says protocol {version}; 0 to 5 are known. It is damaged.")
