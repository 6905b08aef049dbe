"""Reads untrusted files in processes of their own, which a file may crash, hang or fill without harm to this one."""

import inspect
import os
import queue
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cxrzoo.errors import CxrZooError, ImageError
from cxrzoo.imaging import Reading, read
from cxrzoo.imaging.guard import guarded
from cxrzoo.imaging.isolation.processes import WorkerProcess
from cxrzoo.imaging.samples import image_in

if TYPE_CHECKING:
    from cxrzoo.imaging import Source

#: What is read in a process of its own: a path, or the bytes of a file.
_FILE = (str, os.PathLike, bytes, bytearray, memoryview)


class IsolatedReader:
    """Reads images in processes that are started once, and are limited in memory and time.

    A path or the bytes of a file are read there. What is an object of this process already (an array, a tensor, a
    picture, a dataset) is read here. Several threads may use a reader, but only the process that made it.

    Example:
        >>> with IsolatedReader(workers=2) as reader:  # doctest: +SKIP
        ...     for reading in reader.map(files):
        ...         print(reading.code if isinstance(reading, ImageError) else reading.pixels.shape)
    """

    def __init__(
        self,
        workers: int = 1,
        *,
        function: Callable[..., Reading] = read,
        memory: float = 1.5 * 2**30,
        seconds: float = 10,
        ahead: int = 0,
    ) -> None:
        """Start the processes.

        Args:
            function: What is done with a source and the options; it stands at the top level of a module.
            memory: Bytes of address space that each process may take.
            seconds: Processor time that each file may take; asleep, a process may take three times as long.
            ahead: How many results `map` may hold ready, beside one a process.

        Raises:
            CxrZooError: The system is not Linux or macOS, or the function is not at the top level of a module.
        """
        if os.name != "posix":
            raise CxrZooError("Processes can't be limited on this system, expected Linux or macOS. Read without them.")
        self._function = function
        self._owner, self._closed, self._ahead = os.getpid(), False, workers + ahead
        threads = max(1, (os.cpu_count() or 1) // workers)  # for decoders that can use several
        self._workers = [WorkerProcess(_address(function), int(memory), seconds, threads) for _ in range(workers)]
        self._free: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(workers, "cxrzoo-reader")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, source: "Source", **options: Any) -> Reading:
        """Return what the function makes of one source, as if it had been called here.

        Raises:
            ImageError: What the function raised; or the code is "timeout", "memory" or "died".
            CxrZooError: The reader is closed, or another process made it.
        """
        result = self._attempt(source, options)
        if isinstance(result, ImageError):
            raise result
        return result

    def map(self, sources: "Iterable[Source]", **options: Any) -> "Iterator[Reading | ImageError]":
        """Yield one result a source, in order: what `read` returns for it, or the ImageError that it raises.

        Raises:
            CxrZooError: The reader is closed, or another process made it.
        """
        self._check()
        pending: deque[Future[Reading | ImageError]] = deque()
        try:
            for source in sources:
                pending.append(self._threads.submit(self._attempt, source, options))
                if len(pending) > self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

    def close(self) -> None:
        """End all processes, also those that are at work."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._workers:
            worker.kill()
        for worker in [self._free.get() for _ in self._workers]:  # waits for whoever holds one
            worker.stop()
            self._free.put(worker)
        self._threads.shutdown()

    def _check(self) -> None:
        if os.getpid() != self._owner:
            raise CxrZooError(
                "Found a reader that another process made, expected one of this process. Make it after the fork: for "
                "a DataLoader, in its worker_init_fn."
            )
        if self._closed:
            raise CxrZooError("Found a reader that is closed, expected an open one. Use it inside its `with` block.")

    def _attempt(self, source: "Source", options: dict[str, Any]) -> Reading | ImageError:
        self._check()
        inspect.signature(self._function).bind(source, **options)  # a misspelt option is no fault of the file
        if not isinstance(source, _FILE):
            try:
                with guarded("The image", "open"):
                    source = image_in(source)
                    if not isinstance(source, _FILE):
                        return self._function(source, **options)
            except ImageError as error:
                error.__context__ = None  # as `read` does
                return error
        if isinstance(source, (str, os.PathLike)):
            # Absolute, since the process may have been started in another folder
            return self._ask({"path": str(Path(source).absolute()), "options": options}, b"")
        data = bytes(source)
        return self._ask({"size": len(data), "options": options}, data)

    def _ask(self, request: dict[str, Any], data: bytes) -> Reading | ImageError:
        worker = self._free.get()
        try:
            self._check()
            return worker.ask(request, data)
        except BaseException:  # such as Ctrl-C: an answer that comes later must not pass for that of the next file
            worker.stop()
            raise
        finally:
            self._free.put(worker)


def _address(function: Callable[..., Reading]) -> str:
    """Return "module:function", by which another process finds a function."""
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or getattr(sys.modules[module], name, None) is not function:
        raise CxrZooError(f"Found the function {name}, expected one at the top level of a module that can be imported.")
    return f"{module}:{name}"
