"""How the keys of one family of checkpoints become those of a timm backbone: data, and where one key goes."""

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

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
        groups = _compile(self.match, "rule").groupindex
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
class Sign:
    """A tensor by which a family of checkpoints is told: its key, and its shape as text such as "64,3,7,7".

    Both are regular expressions for the whole of it.
    """

    match: str
    shape: str = ".*"

    def __post_init__(self) -> None:
        for pattern in (self.match, self.shape):
            _compile(pattern, "sign")

    def fits(self, key: str, shape: tuple[int, ...]) -> bool:
        """Whether a tensor is such a one."""
        return bool(re.fullmatch(self.match, key) and re.fullmatch(self.shape, ",".join(map(str, shape))))


@dataclass(frozen=True)
class Compute:
    """Tensors of the backbone that are computed from others: `apply` names an operation of operations.py.

    `inputs` and `output` are names as the rules give them; `{block}` stands for any text without a dot. Inputs are
    used up, those `beside` are only looked at.
    """

    output: str
    apply: str
    inputs: tuple[str, ...]
    beside: tuple[str, ...] = ()
    arguments: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise RecordError(f"compute {self.output!r}: inputs is empty, expected one name or more.")
        known = set(re.findall(r"\{(\w+)\}", self.inputs[0]))
        used = set(re.findall(r"\{(\w+)\}", " ".join((self.output, *self.inputs, *self.beside))))
        if not used <= known:
            raise RecordError(
                f"compute {self.output!r}: {', '.join(sorted(used - known))} does not stand in its first input."
            )

    def find(self, names: Iterable[str]) -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield output, inputs and what lies beside for each time that this applies: for each match of input one."""
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^.]+)", re.escape(self.inputs[0]))
        for name in names:
            found = re.fullmatch(pattern, name)
            if found:
                parts = found.groupdict()
                inputs, beside = ([text.format_map(parts) for text in texts] for texts in (self.inputs, self.beside))
                yield self.output.format_map(parts), inputs, beside


@dataclass(frozen=True)
class Architecture:
    """One timm architecture a recipe can fill, with the number of tensors it has.

    `args` go to timm where they are other than its defaults and can't be told from shapes. `upstream` and `classifier`
    are the reference network's own name and that of its last layer.
    """

    name: str
    kept: int = 0
    args: dict[str, Any] = field(default_factory=dict)
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
    rule: tuple[Rule, ...] = ()
    examples: dict[str, str] = field(default_factory=dict)
    method: str = ""
    unwrap: tuple[str, ...] = ()
    then: tuple[str, ...] = ()
    requires: tuple[Sign, ...] = ()
    refuses: str | None = None
    general: bool = False
    compute: tuple[Compute, ...] = ()
    reference: Literal["torchvision"] | None = None
    architectures: tuple[Architecture, ...] = ()

    def __post_init__(self) -> None:
        if self.refuses is not None and not self.requires:
            raise RecordError("refuses: expected `requires` beside it, which says what is refused.")
        if self.compute and self.then:
            raise RecordError("compute: expected in the recipe at the end of a chain, which has no `then`.")

    def place(self, key: str) -> Placement | None:
        """Return what becomes of `key` by the first route that knows it, None if none does."""
        return next(filter(None, (route.place(key) for route in self.routes)), None)

    @property
    def routes(self) -> list["Route"]:
        """All ways through `then`, each ending in a recipe that has none."""
        if not self.then:
            return [Route((self,))]
        return [Route((self, *rest.recipes)) for name in self.then for rest in load_recipe(name).routes]

    @property
    def digest(self) -> str:
        """The sha256 over all that decides about the backbone, of this recipe and of those it goes on in."""
        own = {name: value for name, value in asdict(self).items() if name not in _TEXTS}
        return digest([own, [load_recipe(name).digest for name in self.then]])


#: Fields of a recipe that say something, and change nothing of what comes out.
_TEXTS = ("name", "summary", "examples", "method", "reference")


@dataclass(frozen=True)
class Route:
    """A recipe and those it goes on in: wrapping is stripped by the first, names are mapped by the last."""

    recipes: tuple[Recipe, ...]

    @property
    def last(self) -> Recipe:
        """The recipe that knows the network's own names."""
        return self.recipes[-1]

    @property
    def architectures(self) -> tuple[Architecture, ...]:
        """The networks this route can fill: the outermost recipe that names some knows best."""
        return next((recipe.architectures for recipe in self.recipes if recipe.architectures), ())

    def place(self, key: str) -> Placement | None:
        """Return what becomes of `key`: in each recipe the first rule that matches all of it decides."""
        name = upstream = key
        for recipe in self.recipes:
            upstream = name
            for rule in recipe.rule:
                found = rule.apply(name)
                if found is not None:
                    break
            else:
                return None
            if rule.drop is not None:
                return Placement(key, upstream, None, rule.drop)
            name = found
        return Placement(key, upstream, name, None)


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
    """Return the recipe of conversion/ with this name, or the one in a TOML file of one's own.

    Args:
        name: A name of `list_recipes()`, or a path that ends in .toml.

    Raises:
        RecordError: No recipe has this name, or its file is malformed.
    """
    if name.endswith(".toml"):
        path = Path(name).expanduser()
        if not path.is_file():
            raise RecordError(f"{path} is no file. Give the path of a recipe, or the name of one in conversion/.")
        return read_recipe(path)
    if name not in list_recipes():
        raise RecordError(f"no recipe is named {name!r}. Known recipes: {', '.join(list_recipes())}.")
    return read_recipe(RECIPES / f"{name}.toml")


def _compile(pattern: str, what: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise RecordError(f"{what} {pattern!r} is not a regular expression: {error}.") from error
