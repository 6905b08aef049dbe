"""Orders of patients whose every beginning has about the same share of each finding as the whole."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Multiples of it, modulo 1, lie more evenly than those of any other number: of each run of consecutive ones, a share p
#: is below p, to within one or two.
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, eq=False)
class Units:
    """What is drawn as one: patients, or images. `members` is the unit of each image, `sizes` how many images each has.

    `positive` and `negative`, both (U, F), say whether a unit has an image with, and one without a finding.
    """

    members: NDArray[np.int64]
    sizes: NDArray[np.int64]
    positive: NDArray[np.bool_]
    negative: NDArray[np.bool_]

    def images(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the positions of all images of these units, in ascending order."""
        chosen = np.zeros(len(self.sizes), dtype=bool)
        chosen[units] = True
        return np.flatnonzero(chosen[self.members])


def make_units(labels: NDArray[np.float64], groups: NDArray[np.str_] | None) -> Units:
    """Return the units of some images: their groups, or without those each image by itself."""
    members = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    sizes = np.bincount(members)

    def holds(where: NDArray[np.bool_]) -> NDArray[np.bool_]:
        counts = [np.bincount(members, weights=column, minlength=len(sizes)) for column in where.T]
        return np.array(counts).reshape(-1, len(sizes)).T > 0

    return Units(members.astype(np.int64), sizes.astype(np.int64), holds(labels == 1), holds(labels == 0))


def order_units(units: Units, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random order of the units, of which every beginning and every stretch is stratified.

    The units are sorted by their labels, the rarest class first, and dealt out with golden steps.
    """
    counts = np.stack([units.positive.sum(axis=0), units.negative.sum(axis=0)])
    rare = np.where(counts[0] <= counts[1], units.positive, units.negative)
    common = np.where(counts[0] <= counts[1], units.negative, units.positive)
    kinds = 2 * rare + common
    # equally rare ones by who has them: the order must not depend on that in which the findings were named
    falling = sorted(range(kinds.shape[1]), key=lambda i: (-counts[:, i].min(), kinds[:, i].tobytes()))
    rarest_last = np.array(falling, dtype=np.int64)
    # the last key of lexsort is the first to sort by
    ranked = np.lexsort((rng.random(len(units.sizes)), units.sizes, *kinds.T[rarest_last]))
    dealt = (rng.random() + _GOLDEN * np.arange(len(ranked))) % 1
    return ranked[np.argsort(dealt)]


def put_classes_first(order: NDArray[np.int64], units: Units) -> NDArray[np.int64]:
    """Return the order with, in front, the first units that show each finding present and absent.

    A beginning that holds all classes anyway stays the same set.
    """
    shows = np.hstack([units.positive, units.negative])
    missing = set(np.flatnonzero(shows.any(axis=0)).tolist())
    front: list[int] = []
    for column in sorted(range(shows.shape[1]), key=lambda i: (shows[:, i].sum(), shows[:, i].tobytes())):
        if column in missing:
            front.append(int(order[np.argmax(shows[order, column])]))
            missing -= set(np.flatnonzero(shows[front[-1]]).tolist())
    return np.concatenate([np.array(front, dtype=np.int64), order[~np.isin(order, front)]])


def count_units(order: NDArray[np.int64], units: Units, images: float) -> int:
    """Return how many units from the beginning of an order come nearest to a number of images; at least one."""
    totals = np.cumsum(units.sizes[order])
    return int(np.argmin(np.abs(totals - images))) + 1
