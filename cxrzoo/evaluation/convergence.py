"""How soon fine-tuning gets somewhere: steps to a share of what the same network reaches without pretraining.

The learning rate is constant and the same for both, and so is the order of the images. The level that both must reach
is a share of the best validation AUROC of the run without pretraining.
"""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import ArrayLike

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.proofs import Race, Trace
from cxrzoo.evaluation.tuning.fine_tuning import mean_auroc
from cxrzoo.evaluation.tuning.minibatches import Images, Positions, compute_rows, seeded, shuffled_batches
from cxrzoo.evaluation.tuning.requirements import check_arrays, check_classes, has_both
from cxrzoo.evaluation.tuning.training import Classifier, Training
from cxrzoo.imaging import Pixels

if TYPE_CHECKING:
    from cxrzoo.loader import Backbone

#: The share of the best AUROC without pretraining that counts as having got there.
SHARE = 0.95


def space_looks(last: int, first: int = 10) -> tuple[int, ...]:
    """Return numbers of steps up to `last`: one by one to `first`, then each about a tenth more than the one before."""
    looks = list(range(1, min(first, last) + 1))
    while looks[-1] < last:
        looks.append(min(last, looks[-1] + max(1, round(looks[-1] / 10))))
    return tuple(looks)


def trace(
    backbone: "Backbone",
    pixels: Pixels,
    labels: ArrayLike,
    *,
    train: Positions,
    valid: Positions,
    looks: Sequence[int],
    seed: int,
    learning_rate: float,
    batch_size: int = 16,
    device: str = "cpu",
    on_look: Callable[[int, float], None] = lambda step, auroc: None,
) -> Trace:
    """Return how the validation AUROC rises while a copy of the backbone is fine-tuned; the backbone stays as it is.

    One seed gives one order of the images, whatever the backbone. Validation is in evaluation mode: a network that
    starts without statistics of its own for BatchNorm has to gather them on the way, as in any training from scratch.

    Args:
        pixels: (images, height, width) as `frame_images` gives them for the backbone's own preprocessing.
        labels: (images, findings): 1, 0, or NaN for what is not used.
        looks: After how many steps to look, ascending.
        on_look: Called at each look, with the number of steps and the AUROC.

    Raises:
        EvaluationError: No finding has both classes in both parts, or the loss is no longer finite.
    """
    targets = np.asarray(labels, np.float64)
    check_arrays(backbone, pixels, targets)
    learned = has_both(targets[train])
    judged = np.flatnonzero(learned & has_both(targets[valid]))
    check_classes(len(train), learned, judged)
    place = torch.device(device)
    losses: list[float] = []
    aurocs: list[float] = []
    with torch.inference_mode(False), torch.enable_grad():
        inputs = Images(pixels, np.arange(len(pixels)), backbone.transform.record, place)
        network = Classifier(copy.deepcopy(backbone).to(place), backbone.provenance.dimension, targets.shape[1])
        training = Training(
            network.to(place),
            end_to_end=True,
            bn_adapt=False,
            learning_rate=learning_rate,
            betas=(0.9, 0.999),
            weight_decay=0.0,
        )
        labelled = torch.from_numpy(targets).to(place, torch.float32)
        batches = _batches(train, batch_size, seed)
        for number, (before, step) in enumerate(itertools.pairwise((0, *looks)), 1):
            with seeded(seed, number, place):
                loss = training.run_epoch(itertools.islice(batches, step - before), inputs, labelled)
            if not np.isfinite(loss):
                raise EvaluationError(
                    f"the loss is {loss} after {step} steps, expected a finite one. Take a lower learning rate."
                )
            losses.append(loss)
            aurocs.append(mean_auroc(targets[valid], compute_rows(network, inputs, valid).cpu().numpy(), judged))
            on_look(step, aurocs[-1])
    return Trace(backbone.provenance.model, seed, tuple(looks), tuple(losses), tuple(aurocs))


def race(model: Trace, baseline: Trace, share: float = SHARE) -> Race:
    """Return how many steps a model saves on the way to a share of the best that the baseline reaches.

    Raises:
        EvaluationError: The two were not looked at after the same steps, or are of different seeds.
    """
    if (model.seed, model.steps) != (baseline.seed, baseline.steps):
        raise EvaluationError(
            f"found seeds {model.seed} and {baseline.seed}, and {len(model.steps)} and {len(baseline.steps)} looks, "
            "expected the same of both. Trace both with the same arguments."
        )
    best = max(baseline.aurocs)
    steps, theirs = _arrive(model, share * best), _arrive(baseline, share * best)
    assert theirs is not None  # its own best is above a share of it
    gain = None if steps is None else 1 - steps / theirs
    return Race(model.model, baseline.model, model.seed, best, share * best, steps, theirs, gain)


def _arrive(found: Trace, level: float) -> int | None:
    """Return after how many steps a trace is at a level for the first time."""
    return next((step for step, auroc in zip(found.steps, found.aurocs, strict=True) if auroc >= level), None)


def _batches(rows: Positions, size: int, seed: int) -> Iterator[Positions]:
    """Yield the batches of one epoch after the other, without end."""
    for epoch in itertools.count(1):
        yield from shuffled_batches(rows, size, seed, epoch)
