"""A process that reads one file after the other for `isolation`: what a file breaks here breaks nothing else.

Run as `python -m cxrzoo.imaging.isolation.worker`. It never imports torch, writes no file and prints nowhere.
"""

import contextlib
import importlib
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Before the limits, since a module that ran out of memory halfway through its import stays broken.
import cxrzoo.imaging.dicom  # noqa: F401
from cxrzoo.errors import ImageError
from cxrzoo.imaging.guard import guarded

#: Python and the codecs hold fewer than ten.
_OPEN_FILES = 64
#: Milliseconds between two looks at whether the parent still lives.
_LOOK = 2000
#: Bytes of most pictures; room for them stays mapped, since mapping takes longer than copying.
_USUAL = 2**26


@dataclass(frozen=True)
class Task:
    """What a worker is started with, as JSON.

    `function` is "module:function"; it gets a path or bytes, and options. `control` is a socket that carries a line
    of JSON each way for each file, `exchange` a file that carries bytes in and pixels out. `memory` is in bytes;
    `processor` and `clock` are the seconds for each file, of the processor's time and by the clock.
    """

    function: str
    control: int
    exchange: int
    memory: int
    processor: float
    clock: float
    parent: int


def serve(task: Task) -> None:
    """Answer requests until the other end of the socket is closed."""
    module, _, name = task.function.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    _restrict(task.memory)
    exchange = _Exchange(task.exchange)
    with socket.socket(fileno=task.control) as control, control.makefile("rb") as requests:
        while _wait(control, task.parent) and (request := requests.readline()):
            control.sendall(b"\n")  # from here on, what happens is this file's fault
            with _timed(task):
                answer = _answer(function, json.loads(request), exchange)
            control.sendall(json.dumps(answer).encode() + b"\n")


class _Exchange:
    """The file without a name that this process shares with its parent."""

    def __init__(self, file: int) -> None:
        self._file, self._usual = file, mmap.mmap(file, _USUAL)

    def take(self, size: int) -> bytes:
        """Return the bytes that the parent put in."""
        return os.pread(self._file, size, 0)

    def put(self, pixels: NDArray[Any]) -> None:
        """Leave the pixels for the parent; written through memory, since a limit forbids writing to files."""
        data = np.ascontiguousarray(pixels).data.cast("B")
        if len(data) <= _USUAL:
            self._usual[: len(data)] = data
        else:
            with mmap.mmap(self._file, len(data)) as room:
                room[:] = data


def _answer(function: Callable[..., Any], request: dict[str, Any], exchange: _Exchange) -> dict[str, Any]:
    try:
        with guarded("The image", "worker"):
            source = exchange.take(request["size"]) if "size" in request else request["path"]
            reading = function(source, **request["options"])
            exchange.put(reading.pixels)
            shape, kind = reading.pixels.shape, reading.pixels.dtype.name
            return {"shape": shape, "type": kind, "report": asdict(reading.report)}
    except ImageError as error:
        failure = error
    except BaseException as error:  # noqa: BLE001 - a decoder that asks to end the program does not get its way
        failure = ImageError(
            f"The image can't be decoded ({type(error).__name__}): it is damaged. Export it again, or open it in a "
            "viewer to see whether it is whole.",
            "damaged",
            "worker",
        )
    return {"text": str(failure), "code": failure.code, "stage": failure.stage}


def _restrict(memory: int) -> None:
    """Take away what reading an image does not need, for good."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
    }
    for kind, most in limits.items():
        # Refused where the limit is lower already, and by macOS for the address space.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (most, most))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes the socket
    # The timers must end a native call that hangs, and no handler would run there; what the parent ignores or
    # blocks is inherited.
    for timer in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(timer, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextlib.contextmanager
def _timed(task: Task) -> Iterator[None]:
    """Let the kernel end this process when its time is over; on a busy machine that is the processor's time."""
    signal.setitimer(signal.ITIMER_PROF, task.processor)
    signal.setitimer(signal.ITIMER_REAL, task.clock)
    yield
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)


def _wait(control: socket.socket, parent: int) -> bool:
    """Wait for a request; False once the parent is gone, even where a fork of it holds the socket open."""
    poll = select.poll()  # select() takes no file above 1024, and the parent may have had that many
    poll.register(control, select.POLLIN)
    while not poll.poll(_LOOK):
        if os.getppid() != parent:
            return False
    return True


if __name__ == "__main__":
    serve(Task(**json.loads(sys.argv[1])))
