"""Watched processes that open hostile files: kept alive, timed from outside, and started anew when they die."""

import concurrent.futures
import contextlib
import hashlib
import itertools
import json
import os
import queue
import select
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from hostile.generator import generate
from hostile.seeds import make_seed
from hostile.verdicts import Case, Result, Verdict, judge

Key = tuple[str, str, int]
_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = Path(__file__).with_name("inspector.py")
_VIEWER = Path(__file__).with_name("viewer.py")
_BATCH = 50
#: A process that spends so many seconds of CPU time on one file is hung; checking what was read takes time, too.
HANG = 15.0
#: However busy the machine is, so many seconds of the clock are too many.
_PATIENCE = 300
_STEP = 0.25


@dataclass(frozen=True)
class Finding:
    """A case, without its bytes, what became of it, and what is wrong with that."""

    key: Key
    expected: Verdict
    result: Result
    wrong: tuple[str, ...]


class Pool:
    """Processes that share the work; use it in a `with` block.

    They open checkpoints, unless they are for images or run another script.
    """

    def __init__(
        self, size: int = 2, *, loading: bool = False, images: bool = False, script: Path | None = None
    ) -> None:
        self.size = size
        self._folder = tempfile.TemporaryDirectory(prefix="cxrzoo-fuzz-")
        self._free: queue.Queue[_Worker] = queue.Queue()
        self._loading = loading
        arguments = [] if images else self._honest()
        command = [sys.executable, str(script or (_VIEWER if images else _SCRIPT)), *arguments]
        self._workers = [_Worker([*command, *["loading"] * loading]) for _ in range(size)]
        for worker in self._workers:
            self._free.put(worker)

    def _honest(self) -> list[str]:
        """Write an honest file of weights, which is opened first, and may be promised; return its path."""
        honest = make_seed("safetensors").data
        path = Path(self._folder.name) / "honest"
        path.write_bytes(honest)
        self._promised = [hashlib.sha256(honest).hexdigest(), len(honest)]
        return [str(path)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()
        self._folder.cleanup()

    def run(self, keys: Iterable[Key], keep: Path | None = None) -> Iterator[Finding]:
        """Yield what becomes of each case, in order; those that go wrong are kept as files in `keep`."""
        rest = iter(keys)
        batches = iter(lambda: list(itertools.islice(rest, _BATCH)), [])
        with concurrent.futures.ThreadPoolExecutor(self.size) as executor:
            for findings in executor.map(lambda batch: self._run_batch(batch, keep), batches):
                yield from findings

    def write_out(self, case: Case, fill: int) -> str:
        """Return the digest of what a conversion would write of a case, with memory filled beforehand."""
        return self.ask(case, {"fill": fill}).sha256

    def ask(self, case: Case, request: dict[str, object]) -> Result:
        """Return what becomes of one case."""
        worker = self._free.get()
        path = Path(self._folder.name) / f"file-{worker.number}"
        path.write_bytes(case.data)
        try:
            return worker.ask({"path": str(path)} | request)
        finally:
            self._free.put(worker)

    def _run_batch(self, batch: list[Key], keep: Path | None) -> list[Finding]:
        findings = []
        for key in batch:
            case = generate(*key)
            request: dict[str, object] = {"promised": self._promised} if self._loading else {}
            if case.family == "structures":
                request["matched"] = True
            result = self.ask(case, request)
            wrong = judge(case.expected, result)
            findings.append(Finding(key, case.expected, result, tuple(wrong)))
            if wrong and keep:
                save(keep, case, result, wrong)
        return findings


def save(folder: Path, case: Case, result: Result, wrong: list[str]) -> None:
    """Keep a case that went wrong, with how to replay it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = hashlib.sha256(case.title.encode()).hexdigest()[:16]
    (folder / stem).write_bytes(case.data)
    lines = [
        f"replay: --replay {case.family} {shlex.quote(case.id)} {case.seed}",
        f"expected: {case.expected}",
        f"found: {result}",
        *wrong,
    ]
    (folder / f"{stem}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


class _Worker:
    """One process; it is started when it is first asked, and after its death."""

    _numbers = itertools.count()

    def __init__(self, command: list[str]) -> None:
        self.number = next(self._numbers)
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, object]) -> Result:
        """Return the answer; a process that dies or hangs is an answer, too."""
        process = self._process = self._process or self._start()
        assert process.stdin
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        answer = self._wait(process)
        if isinstance(answer, str):
            self.stop()
            return Result(answer.split()[0], answer)
        lists = {name: tuple(answer.pop(name, ())) for name in ("strays", "faults", "notices")}
        return Result(**answer, **lists)

    def stop(self) -> None:
        """End the process."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _start(self) -> "subprocess.Popen[bytes]":
        paths = [str(_ROOT)] * (_ROOT / "cxrzoo").is_dir() + [str(_ROOT / "tests")]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            self._command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tempfile.gettempdir()
        )
        if self._wait(process, patience=_PATIENCE) != "ready":
            process.kill()
            raise RuntimeError("the process that opens hostile files does not start")
        return process

    def _wait(self, process: "subprocess.Popen[bytes]", patience: float | None = None) -> Any:
        """Return the next line of a process; "hung" or "crashed" where none comes."""
        assert process.stdout
        until = time.monotonic() + _PATIENCE
        spent, patience = _seconds(process.pid), patience or HANG
        while not select.select([process.stdout], [], [], _STEP)[0]:
            if _seconds(process.pid) - spent > patience or time.monotonic() > until:
                return "hung"
        line = process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else f"crashed with {process.wait()}"


def _seconds(process: int) -> float:
    """Return the CPU time a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
