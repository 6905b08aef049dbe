"""What reading an image found and did: steps in their order, and what needs a look."""

import warnings
from dataclasses import dataclass, field

from cxrzoo.errors import ImageWarning

#: Second moments of the low passes of JPEG 2000 (ITU-T T.800 Annex F): (-1, 2, 6, 2, -1) / 8, and of the 9/7 wavelet
#: 0.6029, 0.2669, -0.0782, -0.0169 and 0.0267 at the distances 0 to 4.
_MOMENT_5_3, _MOMENT_9_7 = -0.5, 0.4603


@dataclass(frozen=True)
class Notice:
    """Something about an image that needs a look; `code` is a stable word for programs."""

    code: str
    text: str


@dataclass
class Report:
    """How an image was read. Its text repeats nothing that may identify a patient; `windows` may.

    `kind` is the file's format, with its transfer syntax or mode; `size` is the whole image's (height, width), upright;
    `windows` are the explanations of the windows and VOI LUTs of a DICOM image, free text of the file, by which one may
    be chosen; they are no part of the report's own text. The pixels
    may have been made `factor` times smaller on the way, each standing for a square: for its middle, or, where
    `sampled`, for its upper left place. `spread` is the second moment of what each took up around that, in its own
    size: above 0 the picture became softer, below 0 sharper than samples of the whole one.
    """

    kind: str = ""
    size: tuple[int, int] = (0, 0)
    factor: int = 1
    sampled: bool = False
    spread: float = 0.0
    windows: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    def reduce(self, factor: int) -> None:
        """Note that each pixel is now the mean of a square of `factor` x `factor`, whose second moment is known."""
        self.factor, self.spread = factor, (1 - factor**-2) / 12

    def reduce_by_wavelet(self, levels: int, reversible: bool) -> None:
        """Note that so many levels of a wavelet were left out, with the second moment of its low passes in a row."""
        moment = _MOMENT_5_3 if reversible else _MOMENT_9_7
        self.factor, self.sampled, self.spread = 2**levels, True, moment * (1 - 4.0**-levels) / 3

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
