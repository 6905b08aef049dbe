"""What reading an image found and did: steps in their order, and what needs a look."""

import warnings
from dataclasses import dataclass, field

from cxrzoo.errors import ImageWarning


@dataclass(frozen=True)
class Notice:
    """Something about an image that needs a look; `code` is a stable word for programs."""

    code: str
    text: str


@dataclass
class Report:
    """How an image was read. It repeats nothing that may identify a patient.

    `kind` is the file's format, with its transfer syntax or mode; `size` is the whole image's (height, width), upright;
    `windows` are the explanations of the windows and VOI LUTs of a DICOM image, of which one may be chosen. The pixels
    may have been made `factor` times smaller on the way: each is then the mean of a square, or, where `sampled`, the
    upper left place of it, as wavelets have it.
    """

    kind: str = ""
    size: tuple[int, int] = (0, 0)
    factor: int = 1
    sampled: bool = False
    windows: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def step(self, text: str) -> None:
        """Note a step that ran."""
        self.steps.append(text)

    def warn(self, code: str, text: str) -> None:
        """Note what needs a look."""
        self.notices.append(Notice(code, text))

    def emit_warnings(self) -> None:
        """Give each notice as a Python warning, to whoever called the caller."""
        for notice in self.notices:
            warnings.warn(ImageWarning(notice.text, notice.code), stacklevel=3)

    def __str__(self) -> str:
        height, width = self.size
        lines = [f"{self.kind}, {height} x {width} pixels"]
        lines += [f"  {number}. {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join(lines + [f"  warning [{notice.code}]: {notice.text}" for notice in self.notices])
