"""Lines of the tables that the campaigns print: what is promised, what was measured."""

import dataclasses
from collections.abc import Callable, Sequence

from hostile.workers import Finding


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a table."""

    property: str
    goal: str
    measured: str
    met: bool = True


def count(title: str, findings: list[Finding], good: Callable[[Finding], bool], share: float = 1) -> Row:
    """Return a line that says how many findings are good, and is met if that share of them is."""
    hits = sum(map(good, findings))
    goal = "all" if share == 1 else f"≥ {share:.1%}"
    return Row(title, goal, f"{hits:,} of {len(findings):,}", bool(findings) and hits >= share * len(findings))


def is_right(finding: Finding) -> bool:
    """Return whether nothing is wrong with a finding."""
    return not finding.wrong


def print_table(rows: Sequence[Row]) -> None:
    """Print a table in Markdown."""
    cells = [(row.property, row.goal, row.measured + ("" if row.met else ": MISSED")) for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in range(3)]
    for cell in [("property", "goal", "measured"), tuple("-" * width for width in widths), *cells]:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)) + " |")
