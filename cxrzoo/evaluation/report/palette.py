"""Colours and markers: one pair of colours a role, for light and for dark pages."""

from collections.abc import Sequence
from dataclasses import dataclass

from cxrzoo.evaluation.comparison import Comparison, Contender

#: The page's own colours, light and dark.
ROLES = {
    "paper": ("#ffffff", "#14181d"),
    "wash": ("#f4f5f2", "#1c2128"),
    "ink": ("#1b2026", "#e6e8ea"),
    "soft": ("#59616b", "#a4adb7"),
    "rule": ("#d9dcd8", "#343b44"),
    "grid": ("#e7e9e6", "#282e36"),
    "floor": ("#6f757e", "#959ca6"),
    "accent": ("#0b5a7d", "#7cc7ea"),
}
# Picked by a greedy search over CIELAB for the largest smallest distance between any two of them and the grey of the
# floor, as seen with normal sight and with protanopia, deuteranopia and tritanopia (matrices of Machado et al. 2009),
# at a contrast of at least 3 to the page (WCAG 1.4.11). With many models the markers tell them apart.
_MODELS = (
    ("#0065b0", "#5aaef2"),
    ("#cf4a0c", "#ff8a4c"),
    ("#0b5730", "#caedae"),
    ("#b07f45", "#fed32b"),
    ("#8878f0", "#a183c4"),
    ("#0297b8", "#6de8f7"),
    ("#7f1051", "#f8377f"),
    ("#1431b0", "#7f78fa"),
    ("#b2414e", "#f96560"),
    ("#5a4a0f", "#f2e582"),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
# The same markers for the keys in HTML; the disc has no corners.
_SHAPES = {
    "s": "2,2 10,2 10,10 2,10",
    "^": "6,1 11,10.5 1,10.5",
    "D": "6,.5 11.5,6 6,11.5 .5,6",
    "v": "1,1.5 11,1.5 6,11",
    "P": "4,1 8,1 8,4 11,4 11,8 8,8 8,11 4,11 4,8 1,8 1,4 4,4",
    "X": "3.5,1 6,3.5 8.5,1 11,3.5 8.5,6 11,8.5 8.5,11 6,8.5 3.5,11 1,8.5 3.5,6 1,3.5",
    "<": "1,6 10.5,1 10.5,11",
    ">": "1.5,1 11,6 1.5,11",
    "p": "6,.8 11.2,4.6 9.2,10.8 2.8,10.8 .8,4.6",
    "h": "6,.6 10.8,3.3 10.8,8.7 6,11.4 1.2,8.7 1.2,3.3",
}


@dataclass(frozen=True)
class Look:
    """How a contender is drawn: `key` names its colour in the style sheet and its class in the charts."""

    key: str
    colour: str
    marker: str
    floor: bool

    @property
    def corners(self) -> str:
        """The marker in a square of 12 units, as SVG points; "" for a disc."""
        return _SHAPES.get(self.marker, "")

    @property
    def variable(self) -> str:
        """The colour as a CSS value that follows the theme of the page."""
        return name_colours()[self.colour]


def assign_looks(comparison: Comparison) -> dict[str, Look]:
    """Return the look of each contender of a comparison."""
    return list_looks(comparison.contenders)


def list_looks(contenders: Sequence[Contender]) -> dict[str, Look]:
    """Return the look of each contender; untrained networks are grey, the others get colours in their order."""
    looks: dict[str, Look] = {}
    number = 0
    for contender in contenders:
        if contender.kind == "untrained":
            earlier = sum(look.floor for look in looks.values())
            looks[contender.name] = Look(f"floor{earlier or ''}", ROLES["floor"][0], "o", True)
            continue
        turn = number // len(_MODELS)  # an eleventh model has the first one's colour and another marker
        colour = _MODELS[number % len(_MODELS)][0]
        looks[contender.name] = Look(f"m{number}", colour, _MARKERS[(number + turn) % len(_MARKERS)], False)
        number += 1
    return looks


def list_variables(dark: bool) -> str:
    """Return all colours of one theme as CSS custom properties."""
    roles = {**ROLES, **{f"m{number}": pair for number, pair in enumerate(_MODELS)}}
    return ";".join(f"--{name}:{pair[dark]}" for name, pair in roles.items())


def name_colours() -> dict[str, str]:
    """Return, for each colour of the light theme, the CSS value that follows the theme of the page."""
    roles = {**ROLES, **{f"m{number}": pair for number, pair in enumerate(_MODELS)}}
    return {light: f"var(--{name},{light})" for name, (light, _) in roles.items()}
