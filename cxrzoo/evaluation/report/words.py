"""Figures, intervals and names as a reader sees them; the same words in charts and tables."""

import re

from markupsafe import Markup

from cxrzoo.evaluation.comparison import MACRO, Interval, Mode

_MODES: dict[Mode, str] = {
    "linear": "linear probe",
    "knn": "nearest neighbours",
    "end-to-end": "fine-tuning",
    "linear-bn-adapt": "linear, BatchNorm adapting",
}
_MINUS = "−"
_SPACE, _NARROW = "\u00a0", "\u202f"  # at which no line breaks
_BREAKS = re.compile(r"(?<=[-_:/.@])(?=\w)")


def name_mode(mode: Mode) -> str:
    """Return what a mode is called in headings."""
    return _MODES[mode]


def name_finding(finding: str) -> str:
    """Return a finding in words: `pleural_effusion` is "pleural effusion", and the macro mean says what it is."""
    return "mean over all findings" if finding == MACRO else finding.replace("_", " ").strip()


def capitalise(text: str) -> str:
    """Return the text with its first letter in upper case, and the others as they are."""
    return text[:1].upper() + text[1:]


def show_name(name: str) -> Markup:
    """Return the name of a model as HTML that may break after its hyphens and the like, and only there."""
    return Markup("<wbr>").join(_BREAKS.split(name))


def show_text(text: str) -> str:
    """Return a sentence in which no line breaks between a number and its sign or its per cent."""
    return re.sub(r"(?<=\d) %", f"{_SPACE}%", re.sub(r"(?<=[\s(])-(?=[\d.])", _MINUS, text))


def show_number(value: float) -> str:
    """Return a count, which may be a mean over draws, with a comma at thousands: 5,216 or 2.4."""
    return f"{round(value):,}" if value >= 10 else f"{value:.1f}".removesuffix(".0")


def show_figure(value: float, digits: int = 3) -> str:
    """Return a figure between -1 and 1 as statisticians print it, without the zero: .883, −.012."""
    text = f"{abs(value):.{digits}f}".removeprefix("0")
    return f"{_MINUS}{text}" if value < 0 and float(text) else text


def show_signed(value: float, digits: int = 3) -> str:
    """Return a difference with its sign: +.012, −.012, and .000 for none."""
    text = show_figure(value, digits)
    return f"+{text}" if value > 0 and float(text) else text


def show_interval(interval: Interval) -> str:
    """Return an interval of figures, without its value: .861–.902."""
    digits = _count_digits(interval)
    return f"{show_figure(interval.lower, digits)}–{show_figure(interval.upper, digits)}"


def show_value(interval: Interval) -> str:
    """Return the figure itself, to as many digits as its interval is shown."""
    return show_figure(interval.value, _count_digits(interval))


def show_difference(interval: Interval) -> str:
    """Return the interval of a difference, without its value: −.003 to +.021."""
    digits = _count_digits(interval)
    return f"{show_signed(interval.lower, digits)} to {show_signed(interval.upper, digits)}"


def show_difference_value(interval: Interval) -> str:
    """Return the difference itself, to as many digits as its interval is shown."""
    return show_signed(interval.value, _count_digits(interval))


def show_tick(value: float, _: object = None) -> str:
    """Return the label of a tick with no more digits than it needs: .85, .9, 1."""
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return text.removeprefix("0") or "0"


def show_tick_signed(value: float) -> str:
    """Return the label of a tick on an axis of differences: −.05, +.05."""
    return f"{_MINUS if value < 0 else '+'}{show_tick(abs(value))}"


def show_share(share: float) -> str:
    """Return a share in per cent; only none is 0 % and only all is 100 %."""
    if 0 < share < 0.01:
        return f"<{_NARROW}1{_SPACE}%"
    if 0.99 < share < 1:
        return f">{_NARROW}99{_SPACE}%"
    return f"{share * 100:.0f}{_SPACE}%"


def shorten(name: str, longest: int = 28) -> str:
    """Return a name that fits a chart: what is too long loses its middle, since names differ at their ends."""
    if len(name) <= longest:
        return name
    head = (longest - 1) // 2
    return f"{name[:head]}…{name[head + 1 - longest :]}"


def _count_digits(interval: Interval) -> int:
    """Three digits, or four where three would let a bound touch 0, or the figure be 1, and it isn't so."""
    touches = any(0 < abs(bound) < 0.0005 for bound in (interval.lower, interval.upper))
    return 4 if touches or 0.9995 <= interval.value < 1 else 3
