"""Time and memory of a training, estimated from a few steps, and electricity from stated assumptions."""

import time

import numpy as np
import pytest

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining import costs
from cxrzoo.pretraining.costs import (
    Assumptions,
    Costs,
    Meter,
    Spent,
    describe_costs,
    estimate_carbon,
    estimate_costs,
)

LARGE = 300_000_000


def allocate() -> None:
    """Take 300 MB for a moment, as a step does for its activations."""
    block = np.ones(LARGE, np.uint8)
    time.sleep(0.02)
    del block


def test_time_of_a_sleeping_step() -> None:
    """The estimate for many steps of a known length is right within a quarter, and what is extra comes on top."""
    found = estimate_costs(lambda: time.sleep(0.04), 1000, extra_seconds=60)

    assert 40 == pytest.approx(found.seconds - 60, rel=0.25)
    assert 0.04 == pytest.approx(found.step_seconds, rel=0.25)
    assert 1000 == found.steps


def test_slow_first_steps_and_outliers_are_no_measure() -> None:
    """Warming up is not timed, and one slow step among those timed doesn't count."""
    pauses = iter([0.2, 0.2, 0.2, 0.02, 0.3, 0.02])

    found = estimate_costs(lambda: time.sleep(next(pauses)), 100, warm_up=3, measured=3)

    assert 2 == pytest.approx(found.seconds, rel=0.25)


@pytest.mark.parametrize("before", [False, True], ids=["at its peak", "after a higher peak"])
def test_memory_of_a_step(before: bool) -> None:
    """A step that takes 300 MB raises the estimate by that within a quarter, whatever the process took before."""
    if before:
        np.ones(3 * LARGE, np.uint8)
    idle = estimate_costs(lambda: time.sleep(0.01), 10).peak_bytes

    found = estimate_costs(allocate, 10).peak_bytes

    assert LARGE == pytest.approx(found - idle, rel=0.25)


def test_memory_of_warming_up_counts() -> None:
    """What the first step takes must be there too."""
    steps = iter([allocate, *[lambda: time.sleep(0.01)] * 6])
    idle = estimate_costs(lambda: time.sleep(0.01), 10).peak_bytes

    found = estimate_costs(lambda: next(steps)(), 10).peak_bytes

    assert LARGE == pytest.approx(found - idle, rel=0.25)


def test_memory_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without /proc the most that the process ever had is taken, which is no less."""
    seen = estimate_costs(allocate, 10).peak_bytes
    monkeypatch.setattr(costs, "_read_resident", lambda: 0)

    assert estimate_costs(allocate, 10).peak_bytes >= 0.95 * seen


def test_a_step_that_fails_leaves_no_thread() -> None:
    """An error of the step comes through, and the memory is watched no longer."""
    before = costs.threading.active_count()

    with pytest.raises(ZeroDivisionError):
        estimate_costs(lambda: 1 // 0, 10)

    assert before == costs.threading.active_count()


def test_no_steps_are_refused() -> None:
    """A training without steps has no costs."""
    with pytest.raises(PretrainingError, match="found a training of 0 steps, expected 1 or more"):
        estimate_costs(lambda: None, 0)


def test_steps_run_as_often_as_said() -> None:
    """Only the steps to warm up and to measure are taken."""
    taken = []

    estimate_costs(lambda: taken.append(1), 1000, warm_up=1, measured=3)

    assert 4 == len(taken)


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (
            Costs(1920, 4.1, 7800, 3_200_000_000),
            "About 2 h 10 min (1,920 steps of 4.1 s) and 3.2 GB of memory.",
        ),
        (
            Costs(1, 0.0123, 0.0123, 512_000_000, on_gpu=True),
            "About 1 s (1 step of 12 ms) and 510 MB of GPU memory.",
        ),
        (Costs(50, 0.9, 45, 12_300_000_000), "About 45 s (50 steps of 900 ms) and 12 GB of memory."),
        (Costs(60, 59.9, 3599, 10**9), "About 1 h (60 steps of 60 s) and 1 GB of memory."),
        (Costs(10**6, 0.3, 3e5, 10**9), "About 3 d 11 h (1,000,000 steps of 300 ms) and 1 GB of memory."),
        (Costs(100, 120, 12_000, 10**11), "About 3 h 20 min (100 steps of 120 s) and 100 GB of memory."),
    ],
)
def test_costs_in_words(found: Costs, text: str) -> None:
    """Costs are a sentence with units that fit."""
    assert text == describe_costs(found)


def test_meter_counts_work_and_waiting() -> None:
    """Processor time is that of work, time on the wall that of waiting too, on top of what went before."""
    meter = Meter(Spent(1000, 2000))
    time.sleep(0.3)
    start = time.process_time()
    while time.process_time() - start < 0.2:
        pass

    spent = meter.read()

    assert 0.2 == pytest.approx(spent.processor_seconds - 1000, abs=0.06)
    assert 0.48 < spent.wall_seconds - 2000


def test_carbon_is_hours_times_assumptions() -> None:
    """Electricity and emissions follow from hours and assumptions, which the text repeats and calls an estimate."""
    told = Assumptions(watts_per_core=10, accelerator_watts=300, overhead=1.5, grams_per_kwh=400)

    carbon = estimate_carbon(Spent(3600 * 200, 3600 * 20), told)

    assert (12.0, 4.8) == pytest.approx((carbon.kwh, carbon.kilograms))
    assert (
        "About 12 kWh and 4.8 kg of CO2 equivalents. This is an estimate from assumptions, no measurement: 200 "
        "processor-hours at 10 W a core, 20 hours of GPUs at 300 W, 1.5 W drawn for each of them, 400 g of CO2 "
        "equivalents a kWh."
    ) == carbon.text


def test_carbon_of_a_small_run_is_in_grams() -> None:
    """Two processor-hours, with the constants of the module, are 37 Wh and 18 g; no GPU is spoken of."""
    carbon = estimate_carbon(Spent(7200, 3600))

    assert carbon.text.startswith("About 0.037 kWh and 18 g of CO2 equivalents.")
    assert "GPU" not in carbon.text
