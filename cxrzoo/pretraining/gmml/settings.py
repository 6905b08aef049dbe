"""What group-masked modelling adds to a plan."""

from dataclasses import dataclass
from typing import Literal

from cxrzoo.errors import RecordError
from cxrzoo.records import check_choices

Kind = Literal["noise", "zeros", "alien"]


@dataclass(frozen=True)
class GmmlSettings:
    """How images are corrupted, and what the network must tell of them; the defaults are those of GMML's code.

    One kind of corruption, of `types`, is drawn for each image: "noise" and "zeros" hide `drop_perc` of it, or down to
    half of it, and "alien" puts `replace` of another image in its place. Blocks have sides of `align` pixels or more,
    and less than `max_block` of the image's; positions and sides are multiples of `align`. The rule "paper" puts a
    block's upper left corner anywhere, so that blocks rarely reach the upper and left border; with "uniform" every
    pixel is as likely to be hidden.

    Pixels are told from patch tokens averaged over `blocks`, counted from 1; where none are named, from those at 6, 8,
    10 and 12 twelfths of the depth, and with the contrastive term from the last. That term, SiT's, compares class
    tokens with those of a teacher, and `weight` is that of the reconstruction beside it.
    """

    types: tuple[Kind, ...] = ("noise", "alien")
    drop_perc: float = 0.75  # GMML, main.py:50 of 6724686; SiT hides .5 by zeros
    replace: float = 0.3  # main.py:51
    align: int = 1  # main.py:53
    max_block: float = 0.3  # datasets/datasets_utils.py:120
    rule: Literal["paper", "uniform"] = "paper"
    blocks: tuple[int, ...] = ()  # main.py:47
    contrastive: bool = False
    weight: float = 1.0  # SiT, main.py:36 of e895aaf (lmbda); its README has 5 for small data
    momentum: float = 0.996  # main.py:41, then to 1 along a cosine
    temperature: float = 0.2  # main.py:40
    hidden: int = 4096  # vision_transformer.py, CLSHead
    dimension: int = 256  # main.py:39
    clip: float = 3.0  # GMML, main.py:75, for each tensor by itself

    def __post_init__(self) -> None:
        check_choices(self)
        known = ("noise", "zeros", "alien")
        if not self.types or not set(self.types) <= set(known) or len(set(self.types)) < len(self.types):
            raise RecordError(f"gmml: types: found {self.types}, expected some of {known}, each once.")
        for name in ("drop_perc", "replace"):
            # With the paper's rule, the pixels of the upper left corner take thousands of blocks.
            if not 0 < getattr(self, name) <= 0.9:
                raise RecordError(f"gmml: {name}: found {getattr(self, name):g}, expected above 0 and .9 at most.")
        if self.align < 1 or not 0 < self.max_block <= 1:
            raise RecordError(
                f"gmml: found align {self.align} and max_block {self.max_block:g}, expected a number of pixels above 0 "
                "and a share of the side."
            )
        if sorted(set(self.blocks)) != list(self.blocks) or min(self.blocks, default=1) < 1:
            raise RecordError(f"gmml: blocks: found {self.blocks}, expected numbers from 1 that go up.")
        if not 0 <= self.momentum <= 1:
            raise RecordError(f"gmml: momentum: found {self.momentum:g}, expected a number from 0 to 1.")
        if min(self.temperature, self.clip, self.hidden, self.dimension) <= 0 or self.weight < 0:
            raise RecordError(
                "gmml: temperature, clip, hidden and dimension must be above 0, and weight must not be negative."
            )
