"""Run a function of a test module in several processes that train together, as one process a GPU would."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed


def run_processes(work: Callable[[], Any], folder: Path, count: int = 2) -> list[Any]:
    """Return what `work`, a function at the top of a test module, returns in each process, by rank."""
    module = work.__module__.rpartition(".")[2]
    command = [sys.executable, __file__, module, work.__name__, str(folder), str(count)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*command, str(number)], env=environment, stderr=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    for number, process in enumerate(started):
        _, errors = process.communicate(timeout=120)
        assert 0 == process.returncode, f"process {number}: {errors}"
    return [torch.load(folder / f"result-{number}.pt") for number in range(count)]


def _join(module: str, name: str, folder: str, count: str, number: str) -> None:
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=int(number), world_size=int(count))
    torch.save(getattr(importlib.import_module(module), name)(), Path(folder) / f"result-{number}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    _join(*sys.argv[1:])
