"""What must come of a hostile file, and whether it did."""

from dataclasses import dataclass, field
from typing import Literal

#: No file may keep the reader busy for longer, in seconds of CPU time.
HANG = 5.0


@dataclass(frozen=True)
class Verdict:
    """What is expected: to be read, to be refused by a typed error, or either; `mention` must be in the error.

    Of images, `code` is the code of the error, and `notices` are the codes of what needs a look, if that matters.
    """

    outcome: Literal["read", "refused", "either"]
    mention: str = ""
    unsafe: bool = False
    code: str = ""
    notices: tuple[str, ...] | None = None
    limit: float = HANG


READ, REFUSED, EITHER = Verdict("read"), Verdict("refused"), Verdict("either")
#: Decoding may take longer than looking at a checkpoint.
IMAGE_LIMIT = 10.0
ANY_IMAGE = Verdict("either", limit=IMAGE_LIMIT)


def shown(*notices: str) -> Verdict:
    """Return the verdict on an image that is read, with exactly these notices."""
    return Verdict("read", notices=notices, limit=IMAGE_LIMIT)


def refused(code: str) -> Verdict:
    """Return the verdict on an image that must be refused with a code."""
    return Verdict("refused", code=code, limit=IMAGE_LIMIT)


def naming(module: str, attribute: str, *, unsafe: bool = True) -> Verdict:
    """Return the verdict on a file that must be refused by the name of the global in it."""
    return Verdict("refused", f"{module}.{attribute}", unsafe)


@dataclass(frozen=True)
class Case:
    """One file, reproducible from its family, id and seed."""

    family: str
    id: str
    seed: int
    data: bytes = field(repr=False)
    expected: Verdict

    @property
    def title(self) -> str:
        """How to ask for it again."""
        return f"{self.family} {self.id!r} {self.seed}"


@dataclass(frozen=True)
class Result:
    """What a watched process saw of one file.

    `outcome` is "read", the class of a typed error, or "crashed", "hung" or "escaped"; `strays` are audited
    events that must not be; `faults` are bytes that are not those of the file, and the like; `loading` is what
    became of the file where it stands in for promised weights. Of images, `code` is the code of the error,
    `notices` are those of what needs a look, and `sha256` is that of the pixels.
    """

    outcome: str
    text: str = ""
    seconds: float = 0
    grown: float = 0
    sha256: str = ""
    strays: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    loading: str = ""
    code: str = ""
    notices: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether it met a typed error."""
        return self.outcome.endswith("Error")

    @property
    def summary(self) -> str:
        """The class of the error and its first words."""
        return f"{self.outcome}: {' '.join(self.text.split()[:12])}"


def judge(expected: Verdict, result: Result) -> list[str]:
    """Return what is wrong with a result, nothing if it is as expected."""
    wrong = [f"event: {stray}" for stray in result.strays] + list(result.faults)
    allowed = {"read": (result.outcome == "read"), "refused": result.refused}
    if not allowed.get(expected.outcome, result.outcome == "read" or result.refused):
        wrong.append(f"expected {expected.outcome}, found {result.outcome}")
    if result.seconds > expected.limit:
        wrong.append(f"it took {result.seconds:.1f} s")
    if result.refused and expected.mention not in result.text:
        wrong.append(f"the error does not name {expected.mention}")
    if result.refused and expected.unsafe and result.outcome != "UnsafeCheckpointError":
        wrong.append(f"expected UnsafeCheckpointError, found {result.outcome}")
    if result.refused and expected.code not in ("", result.code):
        wrong.append(f"expected the code {expected.code}, found {result.code} ({result.text})")
    if result.outcome == "read" and expected.notices not in (None, result.notices):
        wrong.append(f"expected the notices {expected.notices}, found {result.notices}")
    return wrong
