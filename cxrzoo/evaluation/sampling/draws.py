"""Subsets of the training images at each label fraction, drawn several times."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.sampling.ordering import count_units, make_units, order_units, put_classes_first
from cxrzoo.evaluation.sampling.protocols import Protocol, Step, Subsets
from cxrzoo.evaluation.sampling.splits import DRAW_STREAM, SHARE_STREAM, TRIES, Positions, Split, describe, fulfils
from cxrzoo.evaluation.tables import LabelTable


@dataclass(frozen=True, eq=False)
class Draw:
    """One subset, the `number`-th (from 1) of its step: positions of its training and its validation images.

    `step` is the label of the step, "1 %" or "50 images".
    `lacking` are the findings that are not both present and absent in `rows`, so that nothing can be fitted.
    """

    step: str
    number: int
    rows: Positions
    valid: Positions
    lacking: tuple[str, ...]


def draw_subsets(table: LabelTable, split: Split, protocol: Protocol, seed: int) -> list[Draw]:
    """Return the draws of all steps of a protocol, the smallest step first.

    All images are drawn once, unless each draw has validation images of its own. A step that asks for more images than
    there are has no draws, where another takes all; nor has one of fewer images than the protocol's least.

    Raises:
        EvaluationError: There are too few images, or none that the protocol's bounds hold for.
    """
    train, subsets, draws = split.train, protocol.subsets, []
    labels = table.labels[train]
    # the numbers of the steps, which seed the draws, are those of the protocol
    for index, step in sorted(enumerate(protocol.steps, 1), key=lambda numbered: _aim(numbered[1], len(train))):
        if step.images is not None and step.images >= len(train):
            if any(other.whole for other in protocol.steps):
                continue
            raise EvaluationError(
                f"found {len(train)} training images, expected more than the {step.images} of a step of the protocol. "
                "Give a larger table, or another protocol."
            )
        if not step.whole and _aim(step, len(train)) < subsets.fewest:
            continue
        once = step.whole and subsets.valid_share_of_draw is None
        for number in range(1, 2 if once else step.draws + 1):
            rng = np.random.default_rng([seed, DRAW_STREAM, number, 0 if subsets.nested else index])
            drawn = np.arange(len(train)) if step.whole else _draw(labels, table.groups[train], step, subsets, rng)
            rows, valid = train[drawn], split.valid
            if subsets.valid_share_of_draw is not None:
                rng = np.random.default_rng([seed, SHARE_STREAM, number, index])
                rows, valid = _divide(table, rows, subsets.valid_share_of_draw, rng)
            drawn_labels = table.labels[rows]
            both = (drawn_labels == 1).any(axis=0) & (drawn_labels == 0).any(axis=0)
            lacking = tuple(finding for finding, has in zip(table.findings, both, strict=True) if not has)
            draws.append(Draw(step.label, number, rows, valid, lacking))
    return draws


def _aim(step: Step, images: int) -> float:
    """Return how many of these images a step asks for."""
    return step.images if step.images is not None else (step.fraction or 1) * images


def _draw(
    labels: NDArray[np.float64], groups: NDArray[np.str_], step: Step, subsets: Subsets, rng: np.random.Generator
) -> Positions:
    """Return which of these images one draw takes, in ascending order."""
    images = _aim(step, len(labels))
    if subsets.how == "balanced":
        return _take_in_turn(labels, round(images), rng)
    units = make_units(labels, groups if subsets.unit == "patient" else None)
    if subsets.how == "stratified":
        order = put_classes_first(order_units(units, rng), units)
        return units.images(order[: count_units(order, units, images)])
    for _ in range(TRIES):
        drawn = units.images(np.flatnonzero(rng.random(len(units.sizes)) < images / len(labels)))
        if subsets.redraw is None or fulfils(subsets.redraw, labels[drawn], images):
            return drawn
    raise EvaluationError(
        f"no draw of {step.label} of {len(labels)} training images in {TRIES} tries has {describe(subsets.redraw)}. "
        "This protocol is for balanced tables with one finding; use another."
    )


def _take_in_turn(labels: NDArray[np.float64], images: int, rng: np.random.Generator) -> Positions:
    """Return random images of each class in turn, a class being a finding, or none; one that runs out drops out."""
    shuffled = rng.permutation(len(labels))
    present = labels[shuffled] == 1
    classes = [*present.T, ~present.any(axis=1)]
    # the rarest begins, whatever the order in which the findings were named
    classes.sort(key=lambda members: (members.sum(), members.tobytes()))
    queues = [iter(shuffled[members].tolist()) for members in classes]
    taken: set[int] = set()
    while queues and len(taken) < images:
        queue = queues.pop(0)
        image = next((candidate for candidate in queue if candidate not in taken), None)
        if image is not None:
            taken.add(image)
            queues.append(queue)
    return np.array(sorted(taken), dtype=np.int64)


def _divide(table: LabelTable, rows: Positions, share: float, rng: np.random.Generator) -> tuple[Positions, Positions]:
    """Return training and validation images of one draw; no patient has images in both."""
    units = make_units(table.labels[rows], table.groups[rows])
    order = put_classes_first(order_units(units, rng), units)
    if len(order) < 2:
        raise EvaluationError(
            f"the {len(rows)} images of a draw are of one patient, so that none are left for validation. Give a table "
            "with more patients, or another protocol."
        )
    count = min(count_units(order, units, (1 - share) * len(rows)), len(order) - 1)
    return rows[units.images(order[:count])], rows[units.images(order[count:])]
