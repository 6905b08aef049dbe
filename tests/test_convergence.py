"""How soon fine-tuning gets somewhere: traces of the validation AUROC, and the steps that pretraining saves."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from phantoms import radiograph
from torch import nn

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.convergence import race, space_looks, trace
from cxrzoo.evaluation.locks import digest_backbone
from cxrzoo.evaluation.proofs import Race, Trace
from cxrzoo.evaluation.untrained import make_untrained

SIZE = 48
TRAIN, VALID = np.arange(40), np.arange(40, 80)
LABELS = (np.random.default_rng(0).random((80, 1)) < 0.5).astype(float)
SETTINGS = {"train": TRAIN, "valid": VALID, "seed": 3, "learning_rate": 2e-3, "batch_size": 8}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    """A small network with random weights."""
    return make_untrained("test_resnet", size=SIZE)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Phantoms, of which those with the finding have a bright square."""
    images = np.stack([radiograph(SIZE, SIZE, seed=number) for number in range(80)])
    images[LABELS[:, 0] == 1, 8:20, 8:20] = 255
    return images


def made_up(model: str, aurocs: list[float]) -> Trace:
    """Return a trace with these figures, after 10, 20, … steps."""
    steps = tuple(10 * number for number in range(1, len(aurocs) + 1))
    return Trace(model, 0, steps, (0.5,) * len(aurocs), tuple(aurocs))


@pytest.mark.parametrize(
    ("pretrained", "steps", "gain"),
    [
        ([0.94, 0.95, 0.99, 0.99], 20, 0.5),  # 0.95 is 95 % of the scratch run's best, 1.0, and counts
        ([0.96, 0.90, 0.90, 0.90], 10, 0.75),  # the first time counts, whatever comes later
        ([0.60, 0.70, 0.80, 0.97], 40, 0.0),
        ([0.60, 0.70, 0.80, 0.90], None, None),
    ],
    ids=["half", "at once", "no sooner", "never"],
)
def test_gain_is_the_share_of_steps_saved(pretrained: list[float], steps: int | None, gain: float | None) -> None:
    """The gain is 1 - steps / baseline's steps, each to 95 % of the best that the baseline reaches."""
    baseline = made_up("scratch", [0.50, 0.80, 0.94, 1.00])

    found = race(made_up("ours", pretrained), baseline)

    assert Race("ours", "scratch", 0, 1.0, 0.95, steps, 40, gain) == found


def test_a_run_that_is_slower_has_a_negative_gain() -> None:
    """Twice as many steps as the baseline are a gain of -1, not of 0."""
    found = race(made_up("ours", [0.5, 0.99, 0.99]), made_up("scratch", [0.99, 0.99, 0.99]))

    assert (-1.0, 20, 10) == (found.gain, found.steps, found.baseline_steps)


@pytest.mark.parametrize("change", [{"seed": 1}, {"steps": (1, 2)}])
def test_only_like_is_compared_with_like(change: dict[str, object]) -> None:
    """Traces of another seed, or with other looks, are refused."""
    ours, baseline = made_up("ours", [0.9, 0.9]), made_up("scratch", [0.9, 0.9])

    with pytest.raises(EvaluationError, match="Trace both with the same arguments"):
        race(replace(ours, **change), baseline)


@pytest.mark.parametrize("last", [1, 7, 200])
def test_looks_are_dense_at_first(last: int) -> None:
    """Looks rise to the last step, and no two are more than a tenth apart, or one step."""
    looks = space_looks(last)
    gaps = np.diff(looks)

    assert (1, last) == (looks[0], looks[-1])
    assert (gaps <= np.maximum(1, np.round(np.array(looks[:-1]) / 10))).all() and (gaps >= 1).all()


def test_trace_rises_and_leaves_the_backbone_alone(backbone: nn.Module, pixels: np.ndarray) -> None:
    """A finding that can be seen is learned within the looks, and the backbone keeps every byte."""
    before = digest_backbone(backbone)

    found = trace(backbone, pixels, LABELS, looks=(1, 5, 25), **SETTINGS)

    assert ((1, 5, 25), 3, "untrained:test_resnet") == (found.steps, found.seed, found.model)
    assert found.aurocs[-1] > 0.95 and found.losses[-1] < found.losses[0]
    assert before == digest_backbone(backbone)


def test_looking_more_often_changes_nothing(backbone: nn.Module, pixels: np.ndarray) -> None:
    """The weights after some steps do not depend on how often they were looked at on the way."""
    often = trace(backbone, pixels, LABELS, looks=(2, 4, 7, 9), **SETTINGS)
    seldom = trace(backbone, pixels, LABELS, looks=(9,), **SETTINGS)

    assert often.aurocs[-1] == seldom.aurocs[-1]


def test_validation_images_teach_nothing(backbone: nn.Module, pixels: np.ndarray) -> None:
    """Other labels of validation images give the same losses."""
    turned = LABELS.copy()
    turned[VALID] = 1 - turned[VALID]

    first, second = (trace(backbone, pixels, labels, looks=(1, 6), **SETTINGS) for labels in (LABELS, turned))

    assert first.losses == second.losses
    np.testing.assert_allclose([1 - auroc for auroc in first.aurocs], second.aurocs)


def test_a_rate_that_is_too_high_is_an_error(backbone: nn.Module, pixels: np.ndarray) -> None:
    """A loss that is no longer finite stops the run, with a way out."""
    with pytest.raises(EvaluationError, match="lower learning rate"):
        trace(backbone, pixels, LABELS, looks=(1, 30), **SETTINGS | {"learning_rate": 1e30})
