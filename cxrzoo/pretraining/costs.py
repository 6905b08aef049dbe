"""What a training will take, measured on a few of its steps, and what it took: hours, memory, electricity."""

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from cxrzoo.errors import PretrainingError

#: Seconds between two looks at the memory. Pages are given out at a few GB a second: what is missed is small.
_PAUSE = 0.005


@dataclass(frozen=True)
class Costs:
    """What a training of so many `steps` takes: all its seconds, and at most so many bytes, of the GPU's if on one."""

    steps: int
    step_seconds: float
    seconds: float
    peak_bytes: int
    on_gpu: bool = False


def estimate_costs(
    run_step: Callable[[], None],
    steps: int,
    *,
    warm_up: int = 2,
    measured: int = 5,
    extra_seconds: float = 0.0,
    device: str = "cpu",
) -> Costs:
    """Return what `steps` steps take, going by the median of a few.

    Args:
        run_step: Takes a step, of a copy that is thrown away afterwards.
        warm_up: Steps before, not timed since the first ones set things up; their memory counts.
        measured: Steps that are timed.
        extra_seconds: What comes on top, such as probes on the way.
        device: Where the steps run. On a GPU the bytes are those of its tensors, else those of this whole process.

    Raises:
        PretrainingError: There is nothing to do.
    """
    if steps < 1:
        raise PretrainingError(f"found a training of {steps} steps, expected 1 or more. Give more epochs.")
    on_gpu = torch.device(device).type == "cuda"
    seconds = []
    with (_watch_gpu if on_gpu else _watch_process)(device) as peak:
        for number in range(warm_up + measured):
            start = time.perf_counter()
            run_step()
            if on_gpu:
                torch.cuda.synchronize(device)
            if number >= warm_up:
                seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    return Costs(steps, median, median * steps + extra_seconds, peak[0], on_gpu)


def describe_costs(costs: Costs) -> str:
    """Return costs as a sentence: About 2 h 10 min (1,920 steps of 4.1 s) and 3.2 GB of memory."""
    steps = f"{costs.steps:,} steps" if costs.steps > 1 else "1 step"
    step, peak = _show(costs.step_seconds, ("s", "ms")), _show(costs.peak_bytes / 1e9, ("GB", "MB"))
    return f"About {_show_time(costs.seconds)} ({steps} of {step}) and {peak} of {'GPU ' * costs.on_gpu}memory."


@contextmanager
def _watch_gpu(device: str) -> Iterator[list[int]]:
    torch.cuda.reset_peak_memory_stats(device)
    peak = [0]
    yield peak
    peak[0] = torch.cuda.max_memory_allocated(device)


@contextmanager
def _watch_process(_: str) -> Iterator[list[int]]:
    """Give a list whose entry is, after the block, the most memory that this process had resident in it."""
    peak, done, before = [_read_resident()], threading.Event(), _read_high_water()

    def watch() -> None:
        while not done.wait(_PAUSE):
            peak[0] = max(peak[0], _read_resident())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        # The system's own mark is exact where the block raised it, and all there is without /proc.
        after = _read_high_water()
        peak[0] = after if after > before or not peak[0] else max(peak[0], _read_resident())


def _read_resident() -> int:
    """Return the bytes of this process in memory now, 0 where the system has no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _read_high_water() -> int:
    """Return the most bytes of this process that were ever in memory, 0 where the system doesn't count them."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # getrusage(2): macOS counts bytes, Linux kilobytes


def _show_time(seconds: float) -> str:
    """Return a duration in its two largest units."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    minutes = round(seconds / 60)
    parts = zip((minutes // 1440, minutes // 60 % 24, minutes % 60), ("d", "h", "min"), strict=True)
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2])


def _show(value: float, units: tuple[str, str]) -> str:
    """Return two digits of a value with its unit; the second one is a thousandth of the first."""
    return f"{_round(value)} {units[0]}" if value >= 1 else f"{_round(value * 1000)} {units[1]}"


def _round(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.9g}"


class Spent(NamedTuple):
    """Seconds of all processors together, and seconds that went by."""

    processor_seconds: float = 0.0
    wall_seconds: float = 0.0


class Meter:
    """Counts what this process and its ended children spend from now on, on top of what an earlier one did."""

    def __init__(self, before: Spent = Spent()) -> None:  # noqa: B008 - it can't be changed
        self._before, self._start = before, _read_clocks()

    def read(self) -> Spent:
        """Return what was spent so far."""
        now = _read_clocks()
        return Spent(*(old + new - start for old, new, start in zip(self._before, now, self._start, strict=True)))


def _read_clocks() -> Spent:
    times = os.times()
    return Spent(times.user + times.system + times.children_user + times.children_system, time.monotonic())


@dataclass(frozen=True)
class Assumptions:
    """What electricity is reckoned from, nothing of it measured here.

    `watts_per_core` is a core's share of its processor's thermal design power, `accelerator_watts` that of all GPUs,
    taken for busy all the time; `overhead` is what a data centre draws for each watt of its computers, and
    `grams_per_kwh` what the grid emits, in CO2 equivalents.
    """

    watts_per_core: float = 12.0  # "Any" processor of Green Algorithms (doi:10.1002/advs.202100707, data/TDP_cpu.csv)
    accelerator_watts: float = 0.0
    overhead: float = 1.56  # average of Uptime Institute's Global Data Center Survey 2024
    grams_per_kwh: float = 475.0  # the world's average: IEA, Global Energy & CO2 Status Report 2019


class Carbon(NamedTuple):
    """Electricity and CO2 equivalents of a training; `text` says both, and what was assumed."""

    kwh: float
    kilograms: float
    text: str


def estimate_carbon(spent: Spent, assumptions: Assumptions = Assumptions()) -> Carbon:
    """Return an estimate of electricity and emissions: hours times assumed watts times assumed intensity."""
    told, hours, wall = assumptions, spent.processor_seconds / 3600, spent.wall_seconds / 3600
    kwh = (hours * told.watts_per_core + wall * told.accelerator_watts) * told.overhead / 1000
    kilograms = kwh * told.grams_per_kwh / 1000
    gpus = f", {_round(wall)} hours of GPUs at {told.accelerator_watts:g} W" if told.accelerator_watts else ""
    return Carbon(
        kwh,
        kilograms,
        f"About {_round(kwh)} kWh and {_show(kilograms, ('kg', 'g'))} of CO2 equivalents. This is an estimate from "
        f"assumptions, no measurement: {_round(hours)} processor-hours at {told.watts_per_core:g} W a core{gpus}, "
        f"{told.overhead:g} W drawn for each of them, {told.grams_per_kwh:g} g of CO2 equivalents a kWh.",
    )
