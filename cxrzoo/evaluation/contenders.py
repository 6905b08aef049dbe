"""What can be compared: models, networks that were never trained, and embeddings that were stored before."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cxrzoo.embedding.contents import EmbeddingStore
from cxrzoo.embedding.store import open_store
from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.untrained import PREFIX, make_untrained
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
            return make_untrained(self.asked.removeprefix(PREFIX))
        return load(self.asked, variant=self.variant)

    def open_store(self) -> EmbeddingStore:
        """Return the embeddings that were given in place of a model."""
        return open_store(Path(self.asked))


def list_entries(models: Sequence[str]) -> list[Entry]:
    """Return an entry for each of `models`, before anything is fetched: a misspelt name should not cost an hour.

    Each is a name, NAME:VARIANT, a model folder, hf-hub:org/name, untrained:ARCHITECTURE, or an embedding store.

    Raises:
        UnknownModelError: No manifest has this name.
        EvaluationError: A variant is unknown, or two entries have the same name.
    """
    entries = [_entry(model) for model in models]
    names = [entry.name for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise EvaluationError(
            f"{twice[0]} was given {names.count(twice[0])} times, expected each model once. Leave one out; give "
            "folders names of their own."
        )
    return entries


def _entry(asked: str) -> Entry:
    if asked.startswith(PREFIX):
        return Entry(asked, asked, "untrained")
    if asked.startswith("hf-hub:"):
        return Entry(asked, asked, "model")
    path = Path(asked).expanduser()
    if path.is_dir() and asked not in list_models():
        # The last part alone: what stands above it is no business of a report
        return (
            Entry(path.resolve().name, str(path), "store") if (path / "store.json").exists() else _folder(asked, path)
        )
    name, _, variant = asked.partition(":")
    if "/" in asked or "\\" in asked or asked.startswith((".", "~")):
        return Entry(path.name, asked, "model")  # which load refuses, and says why
    manifest = describe(name)
    if variant and variant not in manifest.preprocessing:
        raise EvaluationError(
            f"{name} has no preprocessing named {variant!r}, only {', '.join(manifest.preprocessing) or 'none'}."
        )
    return Entry(asked, name, "model", variant or None)


def _folder(asked: str, path: Path) -> Entry:
    if "/" not in asked and not asked.startswith("."):
        asked = f"./{asked}"  # a bare name would be looked up among the models
    return Entry(path.resolve().name, asked, "model")
