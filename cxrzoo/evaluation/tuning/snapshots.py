"""Where a training stands, in one file: always whole, and read back without unpickling anything."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cxrzoo.errors import EvaluationError
from cxrzoo.sources import write_atomically

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Snapshot:
    """The epochs so far, a row each, and tensors by group and name: what it takes to go on, or the "logits" found."""

    epochs: list[list[Any]]
    groups: dict[str, Tensors]
    backbone_sha256: str = ""


class Journal:
    """Keeps the snapshot of one training in a file, if there is one.

    Args:
        identity: Which training this is: its settings and the digests of what it reads.
        pause: Seconds between two writes, at the least: a file may take longer to write than a short epoch to run.
        called: What errors call it; the file's own name if left out.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, object], pause: float, called: str = "") -> None:
        self._path, self._identity, self._pause = path, dict(identity), pause
        self._called = called or (path.name if path is not None else "")
        self._written = time.monotonic()

    def read(self) -> Snapshot | None:
        """Return the snapshot in the file, None where there is no file.

        Raises:
            EvaluationError: The file is damaged, or is of another training.
        """
        if self._path is None or not self._path.exists():
            return None
        try:
            with safe_open(self._path, "pt") as file:
                facts = json.loads((file.metadata() or {})["facts"])
                groups: dict[str, Tensors] = {}
                for key in file.keys():  # noqa: SIM118 - it is no mapping
                    group, _, name = key.partition("/")
                    groups.setdefault(group, {})[name] = file.get_tensor(key)
            found, snapshot = facts["identity"], Snapshot(facts["epochs"], groups, facts["backbone_sha256"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise EvaluationError(
                f"{self._called} can't be read as the snapshot of a training: {error}. Delete it to start from the "
                "beginning."
            ) from error
        differing = [name for name in found | self._identity if found.get(name) != self._identity.get(name)]
        if differing:
            raise EvaluationError(
                f"{self._called} is the snapshot of another training: {', '.join(differing)} differ. Expected one "
                "of the same images, labels and settings. Delete it, or choose another place."
            )
        return snapshot

    def write(self, epochs: Sequence[Sequence[Any]], collect: Callable[[], dict[str, Tensors]]) -> None:
        """Write the state after an epoch, unless the last was written a moment ago.

        Raises:
            DiskError: The file could not be written; the one before is still there.
        """
        if time.monotonic() - self._written >= self._pause:
            self._write(Snapshot([list(epoch) for epoch in epochs], collect()))
            self._written = time.monotonic()

    def conclude(self, epochs: Sequence[Sequence[Any]], logits: Tensors, backbone_sha256: str) -> None:
        """Write what was found in place of the state, which is many times as large.

        Raises:
            DiskError: The file could not be written; the one before is still there.
        """
        self._write(Snapshot([list(epoch) for epoch in epochs], {"logits": logits}, backbone_sha256))

    def _write(self, snapshot: Snapshot) -> None:
        if self._path is None:
            return
        tensors = {
            # each in memory of its own: safetensors refuses tensors that share theirs
            f"{group}/{name}": tensor.detach().to("cpu", copy=True).contiguous()
            for group, members in snapshot.groups.items()
            for name, tensor in members.items()
        }
        facts = {
            "identity": self._identity,
            "epochs": snapshot.epochs,
            "backbone_sha256": snapshot.backbone_sha256,
        }
        write_atomically(self._path, save(tensors, {"facts": json.dumps(facts)}))
