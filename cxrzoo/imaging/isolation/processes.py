"""The parent's side of a worker process: start it, ask it, hear of its death, replace it."""

import json
import mmap
import operator
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from cxrzoo.errors import ImageError
from cxrzoo.imaging import Reading
from cxrzoo.imaging.report import Notice, Report

#: Bytes for one picture; what is not used takes no memory.
_ROOM = 2**30
#: A new process takes 0.3 s; what decoders leak in a thousand files stays small.
_LIFE = 1000
#: Asleep, a process takes no processor time: the clock may run so many times longer.
_PATIENCE = 3
#: Seconds that a process may take to start, and to be ended by its own timers, however busy the machine is.
_START, _GRACE = 120, 5
_LONGEST_LINE = 2**20
#: One thread a process; and glibc keeps freed memory for the next file, which else takes a third longer to read where
#: thousands of pages are fetched anew. 32 MB is the most that it takes for the threshold.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "MALLOC_TRIM_THRESHOLD_": str(2**28),
}
#: Bytes of a picture after which a process is replaced, so that the memory it took is given back.
_LARGE = 2**26
#: What a process that a file has broken, or the end of it, makes of an answer.
_NONSENSE = (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError)


class WorkerProcess:
    """One process at a time, and a new one after its death or after many files."""

    def __init__(self, function: str, memory: int, seconds: float, threads: int) -> None:
        self._function, self._memory, self._seconds, self._threads = function, memory, seconds, threads
        self._process: subprocess.Popen[bytes] | None = None
        self._held = ExitStack()
        self._start()

    def ask(self, request: dict[str, Any], data: bytes) -> Reading | ImageError:
        """Return the answer; a process that dies or hangs is an answer, too."""
        line = json.dumps(request, default=operator.index).encode() + b"\n"  # a number of NumPy is one, too
        # Twice, since a process may still die of an earlier file; that is no fault of this one.
        if not any(self._begin(line, data) for _ in range(2)):
            return ImageError(
                "The process that reads images does not start. Is there enough memory? Import "
                "cxrzoo.imaging.isolation.worker in Python to see what it lacks.",
                "died",
                "worker",
            )
        try:
            result = self._take(json.loads(self._hear(_PATIENCE * self._seconds + _GRACE)))
        except TimeoutError:
            self.stop()
            return self._late()
        except _NONSENSE:
            status = self.stop()
            return self._late() if status in (-signal.SIGPROF, -signal.SIGALRM) else _died(status)
        self._files += 1
        filled = result.code == "memory" if isinstance(result, ImageError) else result.pixels.nbytes > _LARGE
        if filled or self._files == _LIFE:
            self.stop()
        return result

    def kill(self) -> None:
        """End the process, whoever is waiting for its answer."""
        process = self._process  # which that thread may let go of at any time
        if process:
            process.kill()

    def stop(self) -> int:
        """End the process and let go of all that belongs to it; return how it ended, as `Popen.returncode`."""
        process, self._process = self._process, None
        if process:
            process.kill()
            process.wait()
        self._held.close()
        return process.returncode if process else 0

    def _start(self) -> None:
        self._files = 0
        self._exchange = _nameless_file(_ROOM)
        self._held.callback(os.close, self._exchange)
        self._room = self._held.enter_context(mmap.mmap(self._exchange, _ROOM))
        self._control, theirs = map(self._held.enter_context, socket.socketpair())
        self._answers = self._held.enter_context(self._control.makefile("rb"))
        task = {
            "function": self._function,
            "control": theirs.fileno(),
            "exchange": self._exchange,
            "memory": self._memory,
            "processor": self._seconds,
            "clock": _PATIENCE * self._seconds,
            "parent": os.getpid(),
        }
        chosen = os.environ.get("OPJ_NUM_THREADS")
        # What decoders print may hold anything of a file, so nobody gets to see it. -P keeps the working directory off
        # the path: a stray numpy.py there must not be imported.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cxrzoo.imaging.isolation.worker", json.dumps(task)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), self._exchange),
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
                **_ENVIRONMENT,
                "OPJ_NUM_THREADS": str(self._threads) if chosen in (None, "ALL_CPUS") else chosen,
            },
        )
        theirs.close()

    def _begin(self, line: bytes, data: bytes) -> bool:
        """Hand over the request; False where the process ended before it looked at it."""
        with suppress(OSError):
            if not self._process:
                self._start()
            os.pwrite(self._exchange, data, 0)  # of any length; what is too much for a process, it says itself
            self._control.sendall(line)
            if self._hear(_START) == b"\n":
                return True
        self.stop()
        return False

    def _hear(self, seconds: float) -> bytes:
        self._control.settimeout(seconds)
        return self._answers.readline(_LONGEST_LINE)

    def _take(self, answer: dict[str, Any]) -> Reading | ImageError:
        """Return what a process answered, which may be nonsense where a file has broken it."""
        if "text" in answer:
            return ImageError(answer["text"], answer["code"], answer["stage"])
        height, width = answer["shape"]
        if answer["type"] not in ("uint8", "float32") or not height * width > 0:
            raise ValueError
        pixels = np.frombuffer(self._room, answer["type"], height * width).reshape(height, width).copy()
        report = answer["report"]
        changed = {"size": tuple(report["size"]), "notices": [Notice(**notice) for notice in report["notices"]]}
        return Reading(pixels, Report(**report | changed))

    def _late(self) -> ImageError:
        return ImageError(
            f"Reading the image took more than {self._seconds:g} s of processor time, or {_PATIENCE} times that by the "
            "clock, and was stopped. Is it one radiograph? Export it again, or allow more time.",
            "timeout",
            "worker",
        )


def _died(status: int) -> ImageError:
    how = next((end.name for end in signal.Signals if end == -status), f"exit status {status}")
    return ImageError(
        f"The process that read the image died of it ({how}): it is damaged, made to do harm, or takes more memory "
        "than there is. Export it again, or convert it to PNG.",
        "died",
        "worker",
    )


def _nameless_file(size: int) -> int:
    """Return a file in memory that is gone when nobody holds it open."""
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            os.ftruncate(file.fileno(), size)
            return os.dup(file.fileno())
    import fcntl  # absent on Windows, where this module can be imported

    number = os.memfd_create("cxrzoo", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(number, size)
    # Else a broken process could make it shorter, and this one would die of looking at what is gone.
    fcntl.fcntl(number, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return number
