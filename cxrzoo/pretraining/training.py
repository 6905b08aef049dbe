"""The loop that all methods share: steps, records, monitors, and a state that survives the process."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.history import History
from cxrzoo.pretraining.method import Method
from cxrzoo.pretraining.monitors import measure_spread
from cxrzoo.pretraining.plans import Optimisation
from cxrzoo.pretraining.radiographs import Radiographs, batches
from cxrzoo.pretraining.ranks import add_up, rank, world_size
from cxrzoo.pretraining.schedules import Schedule, build_optimizer
from cxrzoo.pretraining.states import States

#: Lines of the record in each epoch, at the least, and steps between two of them, at the most: states are written at
#: lines alone.
_LINES, _STEPS = 10, 100
#: Seconds between two states on the disk, at the least: writing one takes about one.
_PAUSE = 60.0


@dataclass(frozen=True)
class Hooks:
    """What a run does on the way, each after the steps of an epoch or a line of the record.

    `probe` returns figures to be recorded after an epoch, `keep` writes a checkpoint; `advance` is told of each step.
    """

    probe: Callable[[int], dict[str, float]] = field(default=lambda epoch: {})
    keep: Callable[[int], None] = field(default=lambda epoch: None)
    advance: Callable[[int], None] = field(default=lambda step: None)


class Training:
    """A method with its optimizer, taken through its epochs.

    One process on a CPU, with as many threads, gives the same weights again from the same seed; stopped at any moment,
    a run goes on from its last state and records what it would have recorded.
    """

    def __init__(
        self,
        method: Method,
        optimisation: Optimisation,
        radiographs: Radiographs,
        fabric: Fabric,
        *,
        seed: int,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Make the optimizer, and move all to where the fabric computes.

        Args:
            weights: Of each image (N,), how often it is drawn against others; all as often if left out.

        Raises:
            PretrainingError: The images are fewer than a batch, or processes can't share one.
        """
        batch_size = optimisation.batch_size
        if batch_size % world_size():
            raise PretrainingError(
                f"found batches of {batch_size} for {world_size()} processes, expected as many images for each. Choose "
                "another number of processes, or another batch_size."
            )
        self.steps_per_epoch = len(radiographs) // batch_size
        if not self.steps_per_epoch:
            raise PretrainingError(
                f"found {len(radiographs)} images for batches of {batch_size}, expected one batch at least. Give more "
                "images, or a smaller batch_size."
            )
        self.steps = self.steps_per_epoch * optimisation.epochs
        self.every = min(max(self.steps_per_epoch // _LINES, 1), _STEPS)
        self._seed, self._radiographs, self._fabric = seed, radiographs, fabric
        self._weights = np.ones(len(radiographs)) if weights is None else weights
        if fabric.world_size > 1 and optimisation.synchronised:
            if fabric.device.type != "cuda":
                raise PretrainingError(
                    "found statistics of BatchNorm that several processes of a CPU should share, which torch can do on "
                    "GPUs alone. Train on one process, or with --set optimisation.synchronised=false."
                )
            # timm's own: torch's drops the activations that are part of some of timm's norms
            convert_sync_batchnorm(method)  # type: ignore[no-untyped-call]
        method.to(memory_format=torch.channels_last)
        if fabric.device.type == "cpu":
            _unfuse_attention(method)
        self.optimizer = build_optimizer(method, optimisation)
        self.schedule = Schedule(self.optimizer, optimisation, self.steps_per_epoch)
        self._module, self._optimizer = fabric.setup(method, self.optimizer)
        self.method = method
        self.batch_size = batch_size // world_size()
        self.draws = torch.Generator(fabric.device)

    def run(
        self,
        states: States,
        history: History,
        hooks: Hooks | None = None,
        *,
        pause: float = _PAUSE,
        last: int | None = None,
    ) -> None:
        """Take all steps that are left, or those up to step `last`.

        Raises:
            PretrainingError: The loss is no number any more.
            DiskError: A file can't be written.
        """
        hooks = hooks or Hooks()
        first = states.read(self.method, self.optimizer)
        if rank() == 0:
            history.resume(first)
            if not history.rows() and (floor := hooks.probe(0)):
                history.append({"step": 0, "epoch": 0.0} | floor)
        hooks.advance(first)
        written = started = time.monotonic()
        total, count = torch.zeros((), device=self._fabric.device), 0
        gathered: dict[str, torch.Tensor] = {}
        end = self.steps if last is None else min(last, self.steps)
        for step, batch in zip(range(first, end), self.batches(first), strict=False):
            result = self.take_step(step, batch)
            total, count = total + result["loss"].detach(), count + 1
            for name, value in result.items():
                if name not in ("loss", "embeddings"):
                    gathered[name] = gathered.get(name, 0) + value.detach().float()
            hooks.advance(1)
            done = step + 1
            if done % self.every and done % self.steps_per_epoch:
                continue
            scalars = {name: float(add_up(value) / (count * world_size())) for name, value in gathered.items()}
            row = {
                "step": done,
                "epoch": done / self.steps_per_epoch,
                "seconds": round(time.monotonic() - started, 3),
                "loss": float(add_up(total) / (count * world_size())),
                "learning_rate": self.optimizer.param_groups[0]["lr"],
                "spread": measure_spread(result["embeddings"]),
            } | scalars
            total, count, gathered = torch.zeros_like(total), 0, {}
            if not math.isfinite(row["loss"]):
                raise PretrainingError(
                    f"the loss is {row['loss']} after step {done}. The last state is from before that. Lower the "
                    "learning rate, warm up longer, or compute in full precision (precision = '32-true')."
                )
            ended = done % self.steps_per_epoch == 0
            if ended:
                row |= hooks.probe(done // self.steps_per_epoch)
            if rank() == 0:
                history.append(row)
            if ended:  # before the state, which would not come back to it
                hooks.keep(done // self.steps_per_epoch)
            if self._is_time(written, pause) or done == end:
                states.write(done, self.method, self.optimizer)
                written = time.monotonic()

    def take_step(self, step: int, batch: Batch) -> dict[str, torch.Tensor]:
        """Move the weights once, and return what the method returned."""
        self.draws.manual_seed(_number(self._seed, step, rank(), 0))
        torch.manual_seed(_number(self._seed, step, rank(), 1))  # dropped paths and dropout know no other generator
        progress = Progress(step, self.steps, self.steps_per_epoch, self.draws)
        self.schedule.set(step)
        self._module.train()
        result: dict[str, torch.Tensor] = self._module(batch, progress)
        self._optimizer.zero_grad()
        self._fabric.backward(result["loss"])
        self.method.adjust_gradients(progress)
        self._optimizer.step()
        self.method.follow(progress)
        return result

    def batches(self, first: int) -> Iterator[Batch]:
        """Yield the batches of this process from a step on; the order of an epoch follows from the seed."""
        return batches(self._radiographs, self._rows(first), self._fabric.device)

    def _rows(self, first: int) -> Iterator[NDArray[np.int64]]:
        order, whose = np.empty(0, np.int64), -1
        for step in range(first, self.steps):
            epoch, within = divmod(step, self.steps_per_epoch)
            if epoch != whose:
                order, whose = draw_order(self._weights, np.random.default_rng([self._seed, epoch])), epoch
            start = (within * world_size() + rank()) * self.batch_size
            yield order[start : start + self.batch_size]

    def _is_time(self, written: float, pause: float) -> bool:
        """Whether to write a state; all processes do as the first one says."""
        due = torch.tensor(float(rank() == 0 and time.monotonic() - written >= pause), device=self._fabric.device)
        return bool(add_up(due))


def draw_order(weights: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.int64]:
    """Return as many rows as there are weights, each as often as its weight says, up to rounding, in random order.

    Systematic sampling: how often a row comes differs by less than one from its share, and equal weights give each row
    once.
    """
    order = draws.permutation(len(weights))
    ends = np.cumsum(weights[order])
    places = (np.arange(len(weights)) + draws.random()) * (ends[-1] / len(weights))
    chosen = order[np.minimum(np.searchsorted(ends, places, side="right"), len(weights) - 1)]
    return draws.permutation(chosen)


def _unfuse_attention(network: nn.Module) -> None:
    """Let timm's transformers multiply matrices: on CPUs, torch's fused attention has a backward pass far slower."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            setattr(module, "fused_attn", False)  # noqa: B010 - a bool, which mypy takes for a tensor


def _number(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


@contextmanager
def private_draws() -> Iterator[None]:
    """Put the global generators back after the block: they are the caller's."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
