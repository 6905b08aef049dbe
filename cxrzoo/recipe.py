"""How the keys of one family of checkpoints become those of a timm backbone: data, and where one key goes."""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cxrzoo._paths import RECIPES
from cxrzoo.errors import RecordError
from cxrzoo.records import digest, read_toml


@dataclass(frozen=True)
class Rule:
    """A pattern for a whole key, and what becomes of it: a new name, or dropped for a reason.

    `rename` is a template: `{stage}` stands for what the group named `stage` matched, translated through
    `words` where a table of that name exists; a word missing in its table means the rule does not match.
    """

    match: str
    rename: str | None = None
    drop: str | None = None
    words: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.rename is None) == (self.drop is None):
            raise RecordError(f"rule {self.match!r}: give either rename or drop.")
        try:
            groups = re.compile(self.match).groupindex
        except re.error as error:
            raise RecordError(f"rule {self.match!r} is not a regular expression: {error}.") from error
        unknown = set(self.words) | set(re.findall(r"\{(\w*)\}", self.rename or ""))
        if not unknown <= set(groups):
            raise RecordError(f"rule {self.match!r}: no group is named {', '.join(sorted(unknown - set(groups)))}.")

    def apply(self, key: str) -> str | None:
        """Return the new name of `key`, "" where it is dropped, None where the rule does not match."""
        found = re.fullmatch(self.match, key)
        if found is None:
            return None
        parts = {name: text or "" for name, text in found.groupdict().items()}
        for name, table in self.words.items():
            if parts[name] not in table:
                return None
            parts[name] = table[parts[name]]
        return "" if self.rename is None else self.rename.format_map(parts)


@dataclass(frozen=True)
class Architecture:
    """One timm architecture a recipe can fill, with the number of tensors it must keep.

    `upstream` and `classifier` are the reference network's own name and that of its last layer.
    """

    name: str
    kept: int
    upstream: str = ""
    classifier: str = ""


@dataclass(frozen=True)
class Placement:
    """What becomes of one key: `target` in the backbone, or dropped for `reason`.

    `upstream` is the key's name in the network the checkpoint was made with, after wrapping is stripped.
    """

    key: str
    upstream: str
    target: str | None
    reason: str | None


@dataclass(frozen=True)
class Recipe:
    """One file of conversion/; its fields are described in conversion/README.md."""

    name: str
    summary: str
    rule: tuple[Rule, ...]
    examples: dict[str, str]
    method: str = ""
    unwrap: tuple[str, ...] = ()
    then: str | None = None
    assumes: str | None = None
    reference: Literal["torchvision"] | None = None
    architectures: tuple[Architecture, ...] = ()

    def place(self, key: str) -> Placement | None:
        """Return what becomes of `key`: the first rule that matches all of it decides, None if none does."""
        for rule in self.rule:
            name = rule.apply(key)
            if name is None:
                continue
            if rule.drop is not None:
                return Placement(key, key, None, rule.drop)
            if self.then is None:
                return Placement(key, key, name, None)
            inner = load_recipe(self.then).place(name)
            return inner and Placement(key, inner.upstream, inner.target, inner.reason)
        return None

    @property
    def last(self) -> "Recipe":
        """The recipe at the end of the chain of `then`: it names architectures and the reference network."""
        return self if self.then is None else load_recipe(self.then).last

    @property
    def digest(self) -> str:
        """The sha256 over `unwrap` and the rules of the whole chain: equal digests give equal backbones."""
        rules = [[rule.match, rule.rename, rule.drop, rule.words] for rule in self.rule]
        return digest([list(self.unwrap), rules, self.then and load_recipe(self.then).digest])


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a TOML file, whose stem must be the recipe's name.

    Raises:
        RecordError: The file is no TOML, or a field is unknown, missing or of the wrong type.
    """
    return read_toml(Recipe, path, f"conversion/{path.name}")


def list_recipes() -> list[str]:
    """Return the names of all recipes, sorted."""
    return sorted(path.stem for path in RECIPES.glob("*.toml"))


@functools.cache
def load_recipe(name: str) -> Recipe:
    """Return the recipe `name`.

    Raises:
        RecordError: There is no such recipe.
    """
    if name not in list_recipes():
        raise RecordError(f"no recipe is named {name!r}. Known recipes: {', '.join(list_recipes())}.")
    return read_recipe(RECIPES / f"{name}.toml")
