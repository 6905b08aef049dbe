"""What can be compared: models, networks that were never trained, and embeddings that were stored before."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cxrzoo.embedding.contents import EmbeddingStore
from cxrzoo.embedding.identity import read_identity
from cxrzoo.embedding.store import open_store
from cxrzoo.errors import EvaluationError, FolderError
from cxrzoo.evaluation.untrained import PREFIX, check_untrained, is_model, make_untrained, make_untrained_like
from cxrzoo.folders import read_folder
from cxrzoo.registry import describe, list_models

if TYPE_CHECKING:
    from cxrzoo.loader import Backbone


@dataclass(frozen=True)
class Entry:
    """One thing to compare, as it was asked for; nothing was loaded yet."""

    name: str
    asked: str
    kind: Literal["model", "untrained", "store"]
    variant: str | None = None

    def load(self) -> "Backbone":
        """Return the backbone of a model or of an untrained network."""
        from cxrzoo.loader import load

        if self.kind == "untrained":
            like = self.asked.removeprefix(PREFIX)
            return make_untrained_like(like) if is_model(like) else make_untrained(like)
        return load(self.asked, variant=self.variant)

    def open_store(self) -> EmbeddingStore:
        """Return the embeddings that were given in place of a model."""
        return open_store(Path(self.asked))


def list_entries(models: Sequence[str]) -> list[Entry]:
    """Return an entry for each of `models`, before anything is fetched: a misspelt name should not cost an hour.

    Each is a name, NAME:VARIANT, a model folder, hf-hub:org/name, untrained:ARCHITECTURE, untrained:MODEL for random
    weights in that model's network and with its preprocessing, or an embedding store. A store's name also says the
    model, "FOLDER (MODEL)", unless that is its own name, or all stores are of one model.

    Raises:
        UnknownModelError: No manifest has this name.
        FolderError: A folder is not there, or is no model folder, or a file.
        RecordError: A store doesn't say of which model it is.
        EvaluationError: A variant or an architecture is unknown, or two entries have the same name or are the same.
    """
    entries = [_entry(model) for model in models]
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EvaluationError(
            f"{twice[0]} was given {names.count(twice[0])} times, expected each model once. Leave one out; give "
            "folders names of their own."
        )
    for entry, other in itertools.combinations(entries, 2):
        if (entry.asked, entry.variant) == (other.asked, other.variant):
            raise EvaluationError(f"{entry.name} and {other.name} are the same model. Leave one out.")
    return _name_models(entries)


def _name_models(entries: Sequence[Entry]) -> list[Entry]:
    stored = {entry.name: read_identity(Path(entry.asked)).model for entry in entries if entry.kind == "store"}
    if len(stored) > 1 and len(set(stored.values())) == 1:
        return list(entries)
    return [
        replace(entry, name=f"{entry.name} ({stored[entry.name]})")
        if stored.get(entry.name, entry.name) != entry.name
        else entry
        for entry in entries
    ]


def _entry(asked: str) -> Entry:
    if asked.startswith(PREFIX):
        like = asked.removeprefix(PREFIX)
        if is_model(like):  # "untrained:MODEL", the network of that model and its preprocessing
            entry = _entry(like)
            return Entry(f"{PREFIX}{entry.name}", f"{PREFIX}{entry.asked}", "untrained")
        check_untrained(like)
        return Entry(asked, asked, "untrained")
    if asked.startswith("hf-hub:"):
        return Entry(asked, asked, "model")
    # not those of Path, which raise where there is no such user, and where a name is too long
    path = Path(os.path.expanduser(asked))  # noqa: PTH111
    if os.path.isdir(path) and asked not in list_models():  # noqa: PTH112
        # The last part alone: what stands above it is no business of a report
        return (
            Entry(path.resolve().name, str(path), "store") if (path / "store.json").exists() else _folder(asked, path)
        )
    if os.path.isfile(path) and asked not in list_models():  # noqa: PTH113
        raise FolderError(
            f"{asked} is a file, expected the name of a model or a folder. Of a checkpoint, `cxrzoo convert` makes a "
            "folder, which can be given here."
        )
    name, colon, variant = asked.partition(":")
    if "/" in asked or "\\" in asked or asked.startswith((".", "~")):
        raise FolderError(f"{asked} is no folder. Give that of a model or of an embedding store, or a name of the zoo.")
    manifest = describe(name)
    if colon and variant not in manifest.preprocessing:
        raise EvaluationError(
            f"{name} has no preprocessing named {variant!r}, only {', '.join(manifest.preprocessing) or 'none'}."
        )
    return Entry(asked, name, "model", None if variant == manifest.default_variant else variant or None)


def _folder(asked: str, path: Path) -> Entry:
    read_folder(path)  # which refuses what is none
    if "/" not in asked and not asked.startswith("."):
        asked = f"./{asked}"  # a bare name would be looked up among the models
    return Entry(path.resolve().name, asked, "model")
