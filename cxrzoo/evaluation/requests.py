"""What was asked of a comparison, checked before anything is embedded."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar, get_args

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.comparison import MACRO, Mode
from cxrzoo.evaluation.contenders import Entry
from cxrzoo.evaluation.sampling.protocols import Protocol
from cxrzoo.evaluation.tables import LabelTable
from cxrzoo.evaluation.untrained import PREFIX

#: What neither XML nor UTF-8 can hold; but blanks of all kinds may be in a name.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

Word = TypeVar("Word", bound=str)


def list_words(words: Sequence[Word] | Word) -> Sequence[Word]:
    """Return words as a sequence, of one where one was given."""
    return [words] if isinstance(words, str) else words


def share_out(plan: Protocol, share: float, table: LabelTable, *, replayed: bool = False) -> Protocol:
    """Return the protocol with another share of test images."""
    if replayed or table.splits is not None:
        found = "a split that is replayed (`--split`, Python: split)" if replayed else "a table that gives the split"
        raise EvaluationError(
            f"test share: found {share:g} together with {found}, expected a split that is drawn. Leave `--test-share` "
            "(Python: test_share) out"
            + ("." if replayed else ", or say `--column split=` (Python: columns={'split': ''}) to draw one.")
        )
    return replace(plan, split=replace(plan.split, test=share))


def find_baseline(entries: Sequence[Entry], asked: str | None) -> str:
    """Return the name of the entry that was asked for as the baseline, the first if none was.

    Raises:
        EvaluationError: There is no such entry, or none at all.
    """
    names = [entry.name for entry in entries]
    if not names:
        raise EvaluationError("found no model, expected at least one. `cxrzoo list` shows all.")
    if asked is None:
        return names[0]
    # the very name first: NAME is another model than NAME:VARIANT, which was asked for by it
    found = [entry.name for entry in entries if asked == entry.name]
    found += [entry.name for entry in entries if asked == entry.asked]
    found += [entry.name for entry in entries if entry.kind == "store" and entry.name.startswith(f"{asked} (")]
    if not found:
        raise EvaluationError(f"baseline: found {asked!r}, expected one of the models: {', '.join(names)}.")
    return found[0]


def check_counts(**counts: int) -> None:
    """Refuse numbers below 0."""
    for name, count in counts.items():
        if count < 0:
            raise EvaluationError(f"{name}: found {count}, expected 0 or more.")


def check_names(names: Sequence[str], findings: Sequence[str]) -> None:
    """Refuse what no report could show."""
    for name in (*names, *findings):
        if _UNWRITABLE.search(name):
            raise EvaluationError(
                f"found the name {name!r}, expected letters that can be shown. Rename it; to a column, `--label "
                "NAME=COLUMN` gives another name."
            )
    if MACRO in findings and len(findings) > 1:
        raise EvaluationError(
            f"found a finding named {MACRO!r}, which stands for the mean over all findings. Give it another name: "
            f"`--label NAME={MACRO}`."
        )


def check_modes(entries: Sequence[Entry], modes: Sequence[Mode]) -> None:
    """Refuse modes that are none, and those that embeddings alone don't allow."""
    unknown = [mode for mode in modes if mode not in get_args(Mode)]
    if unknown or not modes:
        raise EvaluationError(f"modes: found {', '.join(map(repr, unknown)) or 'none'}, expected {get_args(Mode)}.")
    stores = [entry.name for entry in entries if entry.kind == "store"]
    tuned = [mode for mode in modes if mode not in ("linear", "knn")]
    if stores and tuned:
        raise EvaluationError(
            f"{stores[0]} is an embedding store, which can't be trained ({', '.join(tuned)}). Give the model "
            "itself, or leave that mode out."
        )


def check_floor(floor: str) -> None:
    """Refuse a floor that is no untrained network; "" is none."""
    if floor and not floor.startswith(PREFIX):
        raise EvaluationError(
            f"floor: found {floor!r}, expected {PREFIX}ARCHITECTURE. Say `--floor {PREFIX}{floor}` (Python: "
            f"floor={PREFIX + floor!r})."
        )
