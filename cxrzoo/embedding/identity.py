"""Whose embeddings a store holds: `store.json`, and which differences from a model matter."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cxrzoo.errors import FolderError, RecordError
from cxrzoo.records import decode
from cxrzoo.sources import write_atomically
from cxrzoo.sources.files import disk_errors

if TYPE_CHECKING:
    from cxrzoo.loader import Provenance

SCHEMA = 1
_RECORD = "store.json"
#: What makes two embeddings of one image comparable. Where the weights were found does not.
_IDENTITY = ("model", "weights_sha256", "preprocessing_sha256", "decoding", "dimension")


def read_identity(folder: Path) -> "Provenance":
    """Return what the store in `folder` says that its embeddings are of.

    Raises:
        RecordError: The folder is no store, or what it says is malformed.
    """
    from cxrzoo.loader import Provenance

    path = folder / _RECORD
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:  # the last of brackets without end
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error
        raise RecordError(
            f"{path} can't be read: {reason}. Expected a folder that `cxrzoo embed --data` wrote. Where only this file "
            "is lost, delete what is left of it and embed the table again: the parts are kept."
        ) from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise RecordError(f"{path}: found schema {found!r}, expected {SCHEMA}. Embed into another folder.")
    return decode(Provenance, content.get("provenance"), _RECORD)


def claim(folder: Path, provenance: "Provenance") -> None:
    """Make `folder` a store of this model, or check that it is one.

    Raises:
        FolderError: It holds embeddings of another model, other weights or another preprocessing; or something else.
        RecordError: What it says of itself is malformed.
        DiskError: It can't be read or written.
    """
    record = folder / _RECORD
    if record.exists():
        insist_on(provenance, read_identity(folder))
        return
    with disk_errors("list", folder):
        foreign = [path for path in folder.iterdir() if not path.name.startswith((".", "part-"))]
    if foreign:
        raise FolderError(
            f"{folder} holds {len(foreign)} files that are of no embedding store. Give a folder that is new or empty, "
            "or such a store."
        )
    facts = {"schema": SCHEMA, "provenance": asdict(provenance)}
    write_atomically(record, (json.dumps(facts, indent=2) + "\n").encode())


def insist_on(expected: "Provenance", found: "Provenance") -> None:
    """Check that embeddings of two provenances may stand side by side.

    Raises:
        FolderError: They are of another model, other weights or another preprocessing.
    """
    if difference := describe_difference(expected, found):
        raise FolderError(
            f"The embedding store is not of this model: {difference}. Give each model and preprocessing a folder of "
            "its own, or load the model as it was."
        )


def describe_difference(expected: "Provenance", found: "Provenance") -> str:
    """Return what keeps embeddings of two provenances from being compared, "" where nothing does."""
    pairs = ((name, getattr(found, name), getattr(expected, name)) for name in _IDENTITY)
    return "; ".join(f"found {name} {_short(a)}, expected {_short(b)}" for name, a, b in pairs if a != b)


def _short(value: object) -> str:
    return str(value)[:12] if len(str(value)) == 64 else str(value)
