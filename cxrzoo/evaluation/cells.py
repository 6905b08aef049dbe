"""Figures as the tables of the evidence show them."""

import math
from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from cxrzoo.evaluation.comparison import Interval

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)


def group(items: Iterable[T], key: Callable[[T], K]) -> list[tuple[K, list[T]]]:
    """Return the items in groups of equal keys, in the order in which the keys come first."""
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def show_auroc(found: Interval) -> str:
    """Return an AUROC with its interval."""
    return f"{found.value:.3f} ({found.lower:.3f}, {found.upper:.3f})"


def show_lead(found: Interval) -> str:
    """Return a difference with its sign, its interval, and the mark of what that excludes."""
    return f"{show_signed(found)}{mark(found)}"


def show_signed(found: Interval) -> str:
    """Return a difference with its sign and its interval."""
    # + 0.0: no -0.000
    value, lower, upper = (round(figure, 3) + 0.0 for figure in (found.value, found.lower, found.upper))
    return f"{value:+.3f} ({lower:+.3f}, {upper:+.3f})"


def show_saved(found: Interval) -> str:
    """Return a share of steps saved, in per cent, with the lowest and the highest."""
    value, lower, upper = (
        "never there" if math.isinf(share) else f"{share:.0%}" for share in (found.value, found.lower, found.upper)
    )
    return f"{value} ({lower}, {upper})"


def mark(found: Interval | None) -> str:
    """Return an arrow where an interval excludes 0, nothing elsewhere."""
    if found is None:
        return ""
    return " ▲" if found.lower > 0 else " ▼" if found.upper < 0 else ""
