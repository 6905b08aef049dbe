"""How the keys of one family of checkpoints become those of a timm backbone: data, and where one key goes."""

import functools
import itertools
import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cxrzoo._paths import RECIPES
from cxrzoo.errors import RecordError
from cxrzoo.records import digest, read_toml, suggest
from cxrzoo.timm_arguments import check_arguments

#: A recipe may come from a stranger, and must neither grow nor go on without end.
_LONGEST_TEXT = 500
_LONGEST_CHAIN = 8
_MOST_ROUTES = 100


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
        unknown = set(self.words) | _fields(self.rename or "", f"rule {self.match!r}")
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
        where = f"compute {self.output!r}"
        known = set(_compile(self._pattern, where).groupindex)
        used = set().union(*(_fields(text, where) for text in (self.output, *self.inputs, *self.beside)))
        if not used <= known:
            raise RecordError(
                f"compute {self.output!r}: {', '.join(sorted(used - known))} does not stand in its first input."
            )

    @property
    def _pattern(self) -> str:
        return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^.]+)", re.escape(self.inputs[0]))

    def find(self, names: Iterable[str]) -> Iterator[tuple[str, list[str], list[str]]]:
        """Yield output, inputs and what lies beside for each time that this applies: for each match of input one."""
        pattern = self._pattern
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
    are the reference network's own name and that of its last layer. `untold` says what is taken for granted, where
    another network with other features has the same names and shapes.
    """

    name: str
    kept: int = 0
    args: dict[str, Any] = field(default_factory=dict)
    upstream: str = ""
    classifier: str = ""
    untold: str = ""

    def __post_init__(self) -> None:
        check_arguments(self.args, f"architecture {self.name!r}: args")


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
        """All ways through `then`, each ending in a recipe that has none.

        Raises:
            RecordError: A chain leads back to itself or is too long, or there are too many.
        """
        found = list(itertools.islice(_follow((self,)), _MOST_ROUTES + 1))
        if len(found) > _MOST_ROUTES:
            raise RecordError(f"recipe {self.name!r}: `then` leads on in more than {_MOST_ROUTES} ways. Name fewer.")
        return found

    @property
    def digest(self) -> str:
        """The sha256 over all that decides about the backbone, of this recipe and of those it goes on in."""
        _ = self.routes  # a chain without end has no digest
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
        return read_toml(Recipe, path, str(path))
    if name not in list_recipes():
        hint = suggest(name, list_recipes())
        raise RecordError(
            f"no recipe is named {name!r}. {hint}Known recipes: {', '.join(list_recipes())}. One of your own is named "
            "by its path, which ends in .toml."
        )
    return read_recipe(RECIPES / f"{name}.toml")


def _follow(chain: tuple[Recipe, ...]) -> Iterator[Route]:
    if not chain[-1].then:
        yield Route(chain)
        return
    if len(chain) == _LONGEST_CHAIN:
        raise RecordError(
            f"recipe {chain[0].name!r}: found more than {_LONGEST_CHAIN} recipes one after the other, "
            f"{' > '.join(recipe.name for recipe in chain)}. Does one lead back to itself? A chain ends in a recipe "
            "without `then`."
        )
    for name in chain[-1].then:
        yield from _follow((*chain, load_recipe(name)))


def _compile(pattern: str, what: str) -> re.Pattern[str]:
    _insist_on_length(pattern, what)
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise RecordError(f"{what} {pattern!r} is not a regular expression: {error}.") from error


def _fields(template: str, what: str) -> set[str]:
    """Return the names in braces; a format, a conversion or an attribute would be carried out by `str.format`."""
    _insist_on_length(template, what)
    try:
        parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise RecordError(f"{what}: {template!r} is no template: {error}. Braces hold the name of a group.") from error
    for name, form, conversion in parts:
        if form or conversion or not str(name).isidentifier():
            raise RecordError(f"{what}: found {template!r}, expected nothing but the name of a group in braces.")
    return {str(name) for name, _, _ in parts}


def _insist_on_length(text: str, what: str) -> None:
    if len(text) > _LONGEST_TEXT:
        raise RecordError(
            f"{what}: found {text[:60]!r} and more, {len(text)} characters; expected at most {_LONGEST_TEXT}."
        )
