"""What a run says of itself: how long it will take, what neighbours tell on the way, curves, and signs of collapse."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from cxrzoo.account import CURVES
from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.asking import Request
from cxrzoo.pretraining.checkpoints import write_checkpoint
from cxrzoo.pretraining.costs import Meter, describe_costs, estimate_costs
from cxrzoo.pretraining.curves import draw_training
from cxrzoo.pretraining.history import History
from cxrzoo.pretraining.monitors import judge
from cxrzoo.pretraining.networks import Start
from cxrzoo.pretraining.outcomes import write_spent
from cxrzoo.pretraining.probing import ProbeSet, probe_backbone
from cxrzoo.pretraining.ranks import rank
from cxrzoo.pretraining.training import Hooks, Training
from cxrzoo.sources import write_atomically

logger = logging.getLogger("cxrzoo")


class Watch:
    """Looks at a training on the way; what it writes goes into the folder of the run, by the first process alone."""

    def __init__(self, request: Request, history: History, meter: Meter, start: Start, probe: ProbeSet | None) -> None:
        self._request, self._history, self._meter = request, history, meter
        self._start, self._probe = start, probe
        self._said: set[str] = set()

    def make_hooks(self, training: Training, advance: Callable[[int], None]) -> Hooks:
        """Return what the training calls after its steps and epochs."""
        return Hooks(lambda epoch: self._ask(training, epoch), lambda epoch: self._keep(training, epoch), advance)

    def forecast(self, trial: Training, done: int) -> None:
        """Say what the run will take after `done` steps, measured on a few steps of a copy, which `trial` trains."""
        request = self._request
        end = min((request.stop_after or request.plan.optimisation.epochs) * trial.steps_per_epoch, trial.steps)
        left = end - done
        if left < 1:
            return
        batches = iter(trial.batches(0))
        steps = iter(range(trial.steps))

        def step() -> None:
            trial.take_step(next(steps), next(batches))

        extra = 0.0
        few = min(5, left)
        if self._probe is not None:
            before = time.perf_counter()
            self._measure(trial, self._probe)
            extra = (time.perf_counter() - before) * (left / trial.steps_per_epoch / request.probe_every)
        costs = estimate_costs(
            step, left, warm_up=min(2, few - 1), measured=max(few - 2, 1), extra_seconds=extra, device=request.device
        )
        logger.warning("%s", describe_costs(costs))

    def _ask(self, training: Training, epoch: int) -> dict[str, float]:
        last = self._request.plan.optimisation.epochs
        if self._probe is None or rank() or (epoch % self._request.probe_every and epoch != last):
            return {}
        return self._measure(training, self._probe)

    def _measure(self, training: Training, probe: ProbeSet) -> dict[str, float]:
        found = probe_backbone(training.method.backbone, probe, mean=self._start.mean, std=self._start.std)
        return {"knn": found.knn, "rank": found.rank}

    def _keep(self, training: Training, epoch: int) -> None:
        if rank():
            return
        out = self._request.out
        write_spent(out, self._meter.read())
        self._draw(out)
        for warning in judge(self._history.rows()):
            sign = warning.partition(":")[0]  # once each, though its figures change
            if sign not in self._said:
                logger.warning("%s", warning)
            self._said.add(sign)
        if epoch in self._request.plan.kept_after:
            write_checkpoint(out, training.method, epoch, training.optimizer.state_dict())

    def _draw(self, out: Path) -> None:
        try:
            picture = draw_training(self._history.columns())
        except PretrainingError:  # nothing to draw yet
            return
        write_atomically(out / CURVES, picture.encode())
