"""Where a training stands, kept in a folder: always whole, whatever process dies when, and never unpickled."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cxrzoo.errors import PretrainingError
from cxrzoo.evaluation.tuning.snapshots import Journal, Tensors
from cxrzoo.pretraining.method import Method
from cxrzoo.pretraining.ranks import barrier, rank, world_size
from cxrzoo.sources.files import disk_errors

_NAME = re.compile(r"step-(\d+)")


class States:
    """The latest state of a training, a file for each process in a folder that is renamed once all are written.

    Args:
        identity: Which training this is: its plan, its images, its seed, the number of processes.
    """

    def __init__(self, folder: Path, identity: Mapping[str, object]) -> None:
        self._folder, self._identity = folder, identity

    def find_step(self) -> int:
        """Return how many steps the latest state has behind it, 0 without any; nothing of it is read."""
        latest = self._latest()
        return 0 if latest is None else int(latest.name.removeprefix("step-"))

    def read(self, method: Method, optimizer: torch.optim.Optimizer) -> int:
        """Fill method and optimizer with the latest state, and return how many steps were done; 0 without any.

        Raises:
            EvaluationError: It is damaged, or of another training.
        """
        latest = self._latest()
        if latest is None:
            return 0
        snapshot = self._journal(latest).read()
        if snapshot is None:
            raise PretrainingError(
                f"{latest.name} has no state of process {rank()} of {world_size()}. Go on with as many processes as "
                "before, or delete the folder `state` to start from the beginning."
            )
        method.load_state_dict(snapshot.groups["method"])
        _fill(optimizer, snapshot.groups.get("optimizer", {}))
        return int(snapshot.epochs[0][0])

    def write(self, step: int, method: Method, optimizer: torch.optim.Optimizer) -> None:
        """Keep the state after so many steps, and let go of the one before.

        Raises:
            DiskError: It can't be written; the one before is still there.
        """
        staged = self._folder / f".step-{step:09d}"
        final = self._folder / f"step-{step:09d}"
        with disk_errors("write", staged):
            if rank() == 0:
                shutil.rmtree(staged, ignore_errors=True)
                staged.mkdir(parents=True)
            barrier()
            self._journal(staged).write(
                [[step]], lambda: {"method": method.state_dict(), "optimizer": _flatten(optimizer)}
            )
            barrier()
            if rank() == 0:
                older = [path for path in self._folder.iterdir() if path != staged]
                staged.rename(final)
                for path in older:
                    shutil.rmtree(path, ignore_errors=True)
            barrier()

    def _latest(self) -> Path | None:
        found = [path for path in self._folder.glob("step-*") if _NAME.fullmatch(path.name)]
        return max(found, key=lambda path: path.name, default=None)

    def _journal(self, folder: Path) -> Journal:
        # what users see is the folder of the run
        called = f"the folder {self._folder.name} in {self._folder.parent}"
        return Journal(folder / f"rank-{rank()}.safetensors", self._identity, pause=0, called=called)


def _flatten(optimizer: torch.optim.Optimizer) -> Tensors:
    return {
        f"{number}.{name}": value
        for number, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def _fill(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
