"""Which recipe fits a checkpoint, and what becomes of each of its keys."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cxrzoo.checkpoint import Tensor, find_state_dict
from cxrzoo.errors import (
    CheckpointError,
    ConversionError,
    KeyCollisionError,
    UnmatchedKeyError,
    UnsafeCheckpointError,
)
from cxrzoo.recipe import Placement, Recipe, list_recipes, load_recipe


@dataclass(frozen=True)
class Fit:
    """One recipe held against one state_dict."""

    recipe: Recipe
    tensors: dict[str, Tensor]
    placements: tuple[Placement, ...]
    unmatched: tuple[str, ...]

    @property
    def kept(self) -> dict[str, Tensor]:
        """The backbone's tensors by their new names."""
        return {p.target: self.tensors[p.key] for p in self.placements if p.target is not None}

    @property
    def upstream(self) -> dict[str, Tensor]:
        """The same tensors by the names they have in the network the checkpoint was made with."""
        return {p.upstream: self.tensors[p.key] for p in self.placements if p.target is not None}

    @property
    def dropped(self) -> dict[str, int]:
        """How many keys were dropped, by reason."""
        return dict(sorted(Counter(p.reason for p in self.placements if p.reason is not None).items()))

    @property
    def collisions(self) -> dict[str, list[str]]:
        """Names in the backbone that more than one key would get."""
        by_target: dict[str, list[str]] = {}
        for placement in self.placements:
            if placement.target is not None:
                by_target.setdefault(placement.target, []).append(placement.key)
        return {target: keys for target, keys in by_target.items() if len(keys) > 1}

    @property
    def complete(self) -> bool:
        """Whether every key is accounted for and something is kept."""
        return not self.unmatched and not self.collisions and bool(self.kept)

    def explain(self) -> str:
        """Return in one line why this recipe fits, or why not."""
        total = len(self.tensors)
        if self.unmatched:
            return f"does not fit: {len(self.unmatched)} of {total} keys match no rule, such as {self.unmatched[0]!r}"
        if self.collisions:
            return f"does not fit: several keys would become {next(iter(self.collisions))!r}"
        if not self.kept:
            return f"does not fit: none of the {total} keys would be kept"
        dropped = "".join(f", {count} {reason}" for reason, count in self.dropped.items())
        return f"fits: all {total} keys are accounted for ({len(self.kept)} kept{dropped})"


def group_keys(keys: Iterable[str], most: int = 20) -> dict[str, int]:
    """Return the prefixes under which keys lie, with how many lie under each; as deep as `most` groups allow."""
    split = [key.split(".") for key in keys]
    groups: Counter[str] = Counter()
    for depth in range(1, max(map(len, split), default=0) + 1):
        deeper = Counter(".".join(parts[:depth]) + ("." if len(parts) > depth else "") for parts in split)
        if groups and len(deeper) > most:
            break
        groups = deeper
    return dict(sorted(groups.items()))


def fit_recipe(root: object, recipe: Recipe) -> Fit:
    """Hold a recipe against the contents of a checkpoint.

    Raises:
        CheckpointError: There is no state_dict where the recipe looks for it.
    """
    tensors = find_state_dict(root, recipe.unwrap)
    placements = {key: recipe.place(key) for key in tensors}
    return Fit(
        recipe,
        tensors,
        tuple(p for p in placements.values() if p is not None),
        tuple(key for key, p in placements.items() if p is None),
    )


def fit_all(root: object) -> list[Fit]:
    """Hold every recipe against the contents of a checkpoint; there is at least one result.

    Raises:
        CheckpointError: No recipe finds a state_dict; the text is that of the first one.
    """
    fits, errors = [], []
    for name in list_recipes():
        try:
            fits.append(fit_recipe(root, load_recipe(name)))
        except UnsafeCheckpointError:
            raise
        except CheckpointError as error:
            errors.append(error)
    if not fits:
        raise errors[0]
    return fits


def choose_fit(root: object, recipe: str | None) -> Fit:
    """Return the fit of the named recipe, or of the only one that fits.

    Raises:
        UnmatchedKeyError: Keys match no rule.
        KeyCollisionError: Two keys would get the same name.
        ConversionError: No recipe fits, several do, or nothing would be kept.
    """
    if recipe is not None:
        fit = fit_recipe(root, load_recipe(recipe))
        _insist(fit)
        return fit
    fits = fit_all(root)
    complete = [fit for fit in fits if fit.complete]
    if len(complete) == 1:
        return complete[0]
    shown = "\n".join(f"  {fit.recipe.name}: {fit.explain()}" for fit in fits)
    if complete:
        names = " or ".join(f"--recipe {fit.recipe.name}" for fit in complete)
        raise ConversionError(f"several recipes fit this checkpoint:\n{shown}\nSay which one is meant: {names}.")
    raise ConversionError(
        f"no recipe fits this checkpoint:\n{shown}\n"
        "If it is of a family named here, pass --recipe to see every key that has no rule; "
        "if not, add a recipe (CONTRIBUTING.md, 'Add a checkpoint family')."
    )


def _insist(fit: Fit) -> None:
    where = f"conversion/{fit.recipe.name}.toml"
    if fit.unmatched:
        some = ", ".join(map(repr, fit.unmatched[:10])) + (", …" if len(fit.unmatched) > 10 else "")
        others = [other.recipe.name for other in fit_all(fit.tensors) if other.complete]
        hint = f" The recipe {others[0]!r} fits: pass --recipe {others[0]}." if others else ""
        raise UnmatchedKeyError(
            f"{len(fit.unmatched)} of {len(fit.tensors)} keys match no rule of {where}: {some}.{hint or _ADD_A_RULE}"
        )
    if fit.collisions:
        target, keys = next(iter(fit.collisions.items()))
        raise KeyCollisionError(
            f"{len(keys)} keys would all become {target!r} by {where}: {', '.join(map(repr, keys))}. "
            "The file holds two networks; add a rule that drops one of them, with its reason."
        )
    if not fit.kept:
        raise ConversionError(
            f"{where} keeps none of the {len(fit.tensors)} keys, such as {next(iter(fit.tensors))!r}. "
            "Is it the right recipe? `cxrzoo inspect` shows which one fits."
        )


_ADD_A_RULE = " Add a rule that renames or drops them, and an example of it under [examples]."
