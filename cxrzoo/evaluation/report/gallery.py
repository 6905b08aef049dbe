"""The failure gallery: each image on which a model was confidently wrong, once a finding."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import Comparison, Miss

_KINDS = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG\r\n\x1a\n": "image/png"}


@dataclass(frozen=True)
class Card:
    """One image: where it stands in the table, its picture as a data URI ("" without one), and who was wrong."""

    row: int
    picture: str
    misses: tuple[Miss, ...]


@dataclass(frozen=True)
class Wall:
    """The images of one finding: those that have it and were judged not to, and the reverse."""

    finding: str
    missed: tuple[Card, ...]
    alarms: tuple[Card, ...]


def hang_pictures(comparison: Comparison, pictures: Mapping[int, bytes]) -> list[Wall]:
    """Return the gallery, one wall a finding, the most confident errors first.

    Raises:
        EvaluationError: A picture is neither JPEG nor PNG.
    """
    walls = []
    for finding in comparison.findings:
        chosen = [miss for miss in comparison.misses if miss.finding == finding]
        missed = [miss for miss in chosen if miss.label == 1]
        alarms = [miss for miss in chosen if miss.label == 0]
        if chosen:
            walls.append(Wall(finding, _make_cards(missed, pictures), _make_cards(alarms, pictures)))
    return walls


def _make_cards(misses: list[Miss], pictures: Mapping[int, bytes]) -> tuple[Card, ...]:
    order = sorted(misses, key=lambda miss: -abs(miss.label - miss.probability))
    rows = dict.fromkeys(miss.row for miss in order)
    return tuple(
        Card(row, _encode(row, pictures.get(row)), tuple(miss for miss in order if miss.row == row)) for row in rows
    )


def _encode(row: int, picture: bytes | None) -> str:
    if picture is None:
        return ""
    for start, kind in _KINDS.items():
        if picture.startswith(start):
            return f"data:{kind};base64,{base64.b64encode(picture).decode()}"
    raise EvaluationError(
        f"the picture of row {row} begins with {picture[:4]!r}, expected a JPEG or PNG file. Encode it as one of these."
    )
