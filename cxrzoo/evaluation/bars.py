"""Progress bars with the time left, on stderr."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm


class Advance(Protocol):
    """Takes how many more are done; those that were done `before` this run don't count for its speed."""

    def __call__(self, count: int, *, before: bool = False) -> None: ...


@contextmanager
def bar(title: str, total: int, unit: str, *, shown: bool) -> Iterator[Advance]:
    """Show a bar while the block runs, if `shown`; the block calls what it is given after each step."""
    # not tqdm's own dynamic_ncols: in a terminal that says it has 0 columns, that prints empty lines
    columns = shutil.get_terminal_size().columns
    with tqdm(total=total, desc=title, unit=f" {unit}", disable=not shown, ncols=columns) as progress:

        def advance(count: int, *, before: bool = False) -> None:
            if before and shown:  # one that is not shown has no such attribute
                progress.initial += count
            progress.update(count)

        yield advance
