"""Single values of a DICOM dataset, and how a text names them."""

import math
from typing import Any

from pydicom import Dataset
from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from cxrzoo.errors import ImageError

#: Words of the standard, which may be repeated; any other text may be somebody's.
_TERMS = (
    *("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "YBR_FULL", "YBR_FULL_422"),
    *("YBR_PARTIAL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT", "XYB", "LINEAR", "LINEAR_EXACT", "SIGMOID"),
)

#: Values of technical attributes are short; anything longer is not what the attribute is for.
_SHOWN = 24

#: The longest value is a table of 65,536 entries of 16 bits.
_LONGEST = 2**18


def name(keyword: str) -> str:
    """Return the tag and the name of an attribute, as `(0028,0004) Photometric Interpretation`."""
    tag = tag_for_keyword(keyword)
    assert tag is not None  # keywords are literals of this package
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X}) {dictionary_description(tag)}"


def found(keyword: str, value: Any) -> str:
    """Return the attribute with its value, for technical attributes only."""
    if value is None:
        return f"{name(keyword)} is missing"
    if isinstance(value, str) and not isinstance(value, (int, float)) and value not in _TERMS:
        return f"{name(keyword)} holds something else"
    return f"{name(keyword)} is {str(value)[:_SHOWN]!r}"


def get(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute; None where it is absent, or so long that it is not what it should be."""
    if keyword in dataset:
        raw = dataset.get_item(keyword)
        # Not yet converted: millions of numbers in text would take gigabytes.
        if isinstance(raw, RawDataElement) and raw.VR != "SQ" and len(raw.value or b"") > _LONGEST:
            return None
    return dataset.get(keyword)


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value, or the first of several; None where the attribute is absent or empty."""
    value = get(dataset, keyword)
    if isinstance(value, (MultiValue, list)):
        value = value[0] if len(value) else None
    return None if value == "" else value


def list_items(dataset: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence, none where it is absent or no sequence."""
    items = get(dataset, keyword)
    return [item for item in items if isinstance(item, Dataset)] if isinstance(items, Sequence) else []


def integer(dataset: Dataset, keyword: str, low: int, high: int) -> int:
    """Return a whole number that must lie in low..high.

    Raises:
        ImageError: It is missing, no whole number, or out of range.
    """
    value = value_of(dataset, keyword)
    if not isinstance(value, int) or not low <= value <= high:
        raise ImageError(
            f"{found(keyword, value)}, expected {low} to {high}. The file is not a radiograph of "
            "8 to 16 bits, or its header is damaged: export it again.",
            "header",
            "header",
        )
    return int(value)


def integers(dataset: Dataset, keyword: str) -> list[int] | None:
    """Return the whole numbers of an attribute, or None where it is absent, empty, or holds anything else."""
    values = get(dataset, keyword)
    several = list(values) if isinstance(values, (MultiValue, list)) else [values]
    return [int(value) for value in several] if several and all(isinstance(value, int) for value in several) else None


def number(dataset: Dataset, keyword: str) -> float | None:
    """Return a finite number, NaN for a value that is none, or None where the attribute is absent or empty."""
    several = numbers(dataset, keyword)
    return several[0] if several else None


def numbers(dataset: Dataset, keyword: str) -> list[float] | None:
    """Return all numbers of an attribute, NaN for a value that is none, or None where it is absent or empty."""
    try:
        values = get(dataset, keyword)
        if values is None or values == "":
            return None
        return [float(value) for value in (values if isinstance(values, (MultiValue, list)) else [values])]
    except (ValueError, TypeError, OverflowError):  # what pydicom raises for text that is no number
        return [math.nan]
