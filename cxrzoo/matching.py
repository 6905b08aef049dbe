"""Which recipe fits a checkpoint, and what becomes of each of its keys."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cxrzoo.checkpoint import Tensor, find_state_dict, list_mappings
from cxrzoo.errors import (
    CheckpointError,
    ConversionError,
    KeyCollisionError,
    UnmatchedKeyError,
    UnsafeCheckpointError,
)
from cxrzoo.operations import Readable, add_counters, compute_all
from cxrzoo.recipe import Placement, Recipe, Route, list_recipes, load_recipe


@dataclass(frozen=True)
class Fit:
    """One recipe, by one route, held against one state_dict."""

    route: Route
    tensors: dict[str, Tensor]
    placements: tuple[Placement, ...]
    unmatched: tuple[str, ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe that was held against it."""
        return self.route.recipes[0]

    @property
    def kept(self) -> dict[str, Tensor]:
        """The tensors that are kept, by the names that the rules give them."""
        return {p.target: self.tensors[p.key] for p in self.placements if p.target is not None}

    def outputs(self, size: int | None = None) -> tuple[dict[str, Readable], dict[str, int]]:
        """Return the backbone's tensors, after what the recipe computes, and how many each operation made.

        Args:
            size: Height and width of the network's input in pixels, None where it is not known.

        Raises:
            ConversionError: What is to be computed lacks an input.
        """
        tensors, counts = compute_all(self.route.last.compute, self.kept, size)
        counted = add_counters(tensors)
        if len(counted) > len(tensors):
            counts["add_counters"] = len(counted) - len(tensors)
        return counted, counts

    @property
    def upstream(self) -> dict[str, Readable]:
        """The same tensors by the names they have in the network the checkpoint was made with."""
        return add_counters({p.upstream: self.tensors[p.key] for p in self.placements if p.target is not None})

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
    def lacking(self) -> list[str]:
        """Patterns of tensors that such a checkpoint must have, and this one has not."""
        return [
            sign.match
            for sign in self.recipe.requires
            if not any(sign.fits(key, tensor.shape) for key, tensor in self.tensors.items())
        ]

    @property
    def complete(self) -> bool:
        """Whether every key is accounted for, something is kept and nothing is lacking."""
        return not self.unmatched and not self.collisions and bool(self.kept) and not self.lacking

    def explain(self) -> str:
        """Return in one line why this recipe fits, or why not."""
        total = len(self.tensors)
        if self.lacking:
            return f"does not fit: no tensor of such a checkpoint is there, which would be {self.lacking[0]!r}"
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


def fit_recipe(root: object, recipe: Recipe, *, thorough: bool = True) -> Fit:
    """Hold a recipe against the contents of a checkpoint, by the route of it that goes furthest.

    Args:
        thorough: Go on after the first key that no rule matches, so that the fit names all of them.

    Raises:
        CheckpointError: There is no state_dict where the recipe looks for it.
    """
    tensors = _find_tensors(root, recipe)
    fits = []
    for route in recipe.routes:
        placements, unmatched = [], []
        for key in tensors:
            placement = route.place(key)
            if placement is not None:
                placements.append(placement)
                continue
            unmatched.append(key)
            if not thorough:
                break
        fits.append(Fit(route, tensors, tuple(placements), tuple(unmatched)))
    return min(fits, key=lambda fit: (len(fit.unmatched), -len(fit.placements)))


def _find_tensors(root: object, recipe: Recipe) -> dict[str, Tensor]:
    try:
        return find_state_dict(root, recipe.unwrap)
    except UnsafeCheckpointError:
        raise
    except CheckpointError:
        # where only one mapping can be meant, nobody has to name the key under which it lies
        mappings = [m for m in list_mappings(root).values() if len(m) >= _FEW and all(map(_is_named, m.items()))]
        if len(mappings) != 1:
            raise
        return find_state_dict(mappings[0], ())


#: A state_dict has more tensors; what an optimizer keeps for each parameter has fewer.
_FEW = 8


def _is_named(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def fit_all(root: object, *, thorough: bool = True) -> list[Fit]:
    """Hold every recipe against the contents of a checkpoint, those first that go furthest; at least one is returned.

    Raises:
        CheckpointError: No recipe finds a state_dict; the text is that of the first one.
    """
    fits, errors = [], []
    for recipe in map(load_recipe, list_recipes()):
        try:
            fits.append(fit_recipe(root, recipe, thorough=thorough))
        except UnsafeCheckpointError:
            raise
        except CheckpointError as error:
            errors.append(error)
    fits = [fit for fit in fits if fit.recipe.refuses is None or not fit.lacking]
    if not fits:
        raise errors[0]
    return sorted(fits, key=lambda fit: (not fit.complete, fit.recipe.general, bool(fit.lacking), len(fit.unmatched)))


def choose_fit(root: object, recipe: str | None) -> Fit:
    """Return the fit of the named recipe, or of the only one that fits.

    A recipe that is general, taking any key as it is, counts only where no other fits.

    Raises:
        UnmatchedKeyError: Keys match no rule.
        KeyCollisionError: Two keys would get the same name.
        ConversionError: No recipe fits, several do, nothing would be kept, or the family is refused.
    """
    if recipe is not None:
        fit = fit_recipe(root, load_recipe(recipe))
        _insist(fit)
        return fit
    fits = fit_all(root, thorough=False)
    complete = [fit for fit in fits if fit.complete]
    special = [fit for fit in complete if not fit.recipe.general]
    for fit in fits:
        if not (special and fit.recipe.general):
            _insist_on_support(fit)
    # what has the signs of a family is of it, even if a recipe without signs takes its keys as well
    special = [fit for fit in special if fit.recipe.requires] or special or complete
    if len(special) == 1:
        return special[0]
    if special:
        shown = "\n".join(f"  {fit.recipe.name}: {fit.recipe.summary} It {fit.explain()}." for fit in special)
        names = " or ".join(f"--recipe {fit.recipe.name}" for fit in special)
        raise ConversionError(f"several recipes fit this checkpoint:\n{shown}\nSay which one is meant: {names}.")
    shown = "\n".join(f"  {fit.recipe.name}: {fit.explain()}" for fit in fit_all(root)[:5])
    raise ConversionError(
        f"none of the {len(fits)} recipes fits this checkpoint. Those that come nearest:\n{shown}\n"
        "If it is of a family named here, pass --recipe to see every key that has no rule; "
        "if not, write a recipe of your own and pass its path (conversion/README.md, 'Add a checkpoint family')."
    )


def _insist_on_support(fit: Fit) -> None:
    if fit.recipe.refuses is not None:
        raise ConversionError(
            f"this is a checkpoint of the kind {fit.recipe.name!r}, which is refused: {fit.recipe.refuses}"
        )


def _insist(fit: Fit) -> None:
    where = f"conversion/{fit.recipe.name}.toml"
    _insist_on_support(fit)
    for other in map(load_recipe, list_recipes()):
        if other.refuses is not None and not other.general:
            refused = Fit(other.routes[0], fit.tensors, (), ())
            if not refused.lacking:
                _insist_on_support(refused)
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
    if fit.lacking:
        raise ConversionError(
            f"{where} is for checkpoints that have a tensor {fit.lacking[0]!r}; this one has none. "
            "`cxrzoo inspect` shows which recipe fits."
        )
    if not fit.kept:
        raise ConversionError(
            f"{where} keeps none of the {len(fit.tensors)} keys, such as {next(iter(fit.tensors))!r}. "
            "Is it the right recipe? `cxrzoo inspect` shows which one fits."
        )


_ADD_A_RULE = " Add a rule that renames or drops them, and an example of it under [examples]."
