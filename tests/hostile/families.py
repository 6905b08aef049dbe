"""A family of crafted files, made group by group and kept no longer than needed."""

import functools
from collections.abc import Callable, Iterable

from hostile.verdicts import Verdict

Crafted = tuple[bytes, Verdict]
Groups = dict[str, Callable[[], Iterable[tuple[str, Crafted]]]]


class Family:
    """Crafted files by "group/title"; the last group that was asked for is kept."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._make_group = functools.lru_cache(maxsize=1)(lambda name: dict(groups[name]()))
        self.list_ids = functools.cache(self._list_ids)

    def make(self, case: str, seed: int) -> Crafted:
        """Return a crafted file and the verdict on it; `seed` changes nothing."""
        group, title = case.split("/", 1)
        return self._make_group(group)[title]

    def _list_ids(self) -> list[str]:
        """Return the id of every crafted file, each once."""
        return [f"{group}/{title}" for group, faults in self._groups.items() for title, _ in faults()]
