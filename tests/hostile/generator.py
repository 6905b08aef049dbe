"""Every hostile file by its family, id and seed, together with what must come of it.

A case is the same bytes every time, and none holds a working payload: what must not be called is a name
with inert arguments.
"""

from collections.abc import Callable

from hostile import calls, dicoms, headers, image_mutants, lies, mutants, pictures, structures, surgery
from hostile.verdicts import Case, Verdict

_Make = Callable[[str, int], tuple[bytes, Verdict]]
FAMILIES: dict[str, tuple[Callable[[], list[str]], _Make]] = {
    "calls": (calls.list_ids, calls.make),
    "structures": (structures.list_ids, structures.make),
    "lies": (lies.list_ids, lies.make),
    "surgery": (surgery.list_ids, surgery.make),
    "headers": (headers.list_ids, headers.make),
    "mutants": (mutants.list_ids, mutants.make),
    "dicoms": (dicoms.list_ids, dicoms.make),
    "pictures": (pictures.list_ids, pictures.make),
    "image mutants": (image_mutants.list_ids, image_mutants.make),
}

#: What these give is an image, or is said to be one.
IMAGES = ("dicoms", "pictures", "image mutants")


def generate(family: str, case: str, seed: int = 0) -> Case:
    """Return one hostile file and the verdict on it."""
    _, make = FAMILIES[family]
    data, expected = make(case, seed)
    return Case(family, case, seed, data, expected)


def list_ids(family: str) -> list[str]:
    """Return the ids of a family, in an order that never changes."""
    ids, _ = FAMILIES[family]
    return ids()
