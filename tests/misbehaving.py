"""A reader for `test_isolation` that does what its "file" says: all that decoders have been seen to do, and more."""

import ctypes
import json
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from cxrzoo.imaging import Reading, read
from cxrzoo.imaging.report import Report

LIMITS = ("RLIMIT_AS", "RLIMIT_CORE", "RLIMIT_FSIZE")


class PanicException(BaseException):
    """As decoders in Rust raise it: no Exception."""


def obey(source: str | bytes) -> Reading:
    """Do what the file names; read it where it names nothing."""
    data = Path(source).read_bytes() if isinstance(source, str) else source
    if data in DEEDS:
        DEEDS[data]()
        return Reading(np.zeros((2, 3), np.uint8), Report(kind="nothing"))
    return read(source)


def wait(source: str | bytes, *, seconds: float) -> Reading:
    """Read, but not at once."""
    time.sleep(seconds)
    return read(source)


def tell(source: str | bytes) -> Reading:
    """Return facts about the process that reads, as a line of JSON in place of steps."""
    facts = {
        "pid": os.getpid(),
        "torch": "torch" in sys.modules,
        "limits": {name: resource.getrlimit(getattr(resource, name))[1] for name in LIMITS},
        "threads": os.environ["OMP_NUM_THREADS"],
        "open": [str(Path(f"/proc/self/fd/{number}").readlink()) for number in (0, 1, 2)],
    }
    return Reading(np.zeros((1, 1), np.uint8), Report(kind="process", steps=[json.dumps(facts)]))


def _throw(error: BaseException) -> Callable[[], NoReturn]:
    def throw() -> NoReturn:
        raise error

    return throw


def _spin() -> None:
    """Match for hours, in C and without letting go of the interpreter."""
    re.match(r"(a+)+$", "a" * 64 + "b")


def _sleep() -> None:
    """Sleep in C without letting go of the interpreter, as a codec in a deadlock does."""
    ctypes.PyDLL(None).sleep(1000)


def _shut_ears() -> None:
    """Spin with all signals blocked, so that only the parent can help."""
    signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    _spin()


def _print() -> None:
    for stream in (1, 2):
        os.write(stream, b'garbage {"shape": [1, 1]}\n' * 1000)


def _talk_nonsense() -> None:
    """Write to whatever is open, the socket to the parent among it."""
    for stream in range(3, 64):
        try:
            os.write(stream, b'{"shape": [100000, 100000], "type": "uint8", "report": {}}\n')
        except OSError:
            continue


def _die_later() -> None:
    """End when the next file is waited for, as a heap in pieces does."""
    sys.modules["__main__"]._wait = lambda *arguments: os.abort()  # type: ignore[attr-defined]


#: What a file names, and does.
DEEDS: dict[bytes, Callable[[], object]] = {
    b"abort": os.abort,
    b"segfault": lambda: ctypes.string_at(0),
    b"exit": lambda: os._exit(0),
    b"spin": _spin,
    b"sleep": _sleep,
    b"shut ears": _shut_ears,
    b"StopIteration": _throw(StopIteration("Doe^Jane")),
    b"PanicException": _throw(PanicException("Doe^Jane")),
    b"SystemExit": _throw(SystemExit(0)),
    b"KeyboardInterrupt": _throw(KeyboardInterrupt()),
    b"GeneratorExit": _throw(GeneratorExit()),
    b"RecursionError": _throw(RecursionError("Doe^Jane")),
    b"allocate": lambda: np.ones(10**9),
    b"print": _print,
    b"close stdin": lambda: os.close(0),
    b"close everything": lambda: os.closerange(0, 256),
    b"talk nonsense": _talk_nonsense,
    b"die later": _die_later,
}
