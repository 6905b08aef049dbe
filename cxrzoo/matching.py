"""Which recipe fits a checkpoint, told from its keys and shapes alone."""

from collections import Counter
from collections.abc import Iterable

from cxrzoo.checkpoint import Lookup
from cxrzoo.errors import (
    CheckpointError,
    ConversionError,
    KeyCollisionError,
    UnmatchedKeyError,
    UnsafeCheckpointError,
)
from cxrzoo.fits import Fit, fit_recipe
from cxrzoo.recipe import list_recipes, load_recipe

#: Keys that tell which recipes come near, where none fits.
_FEW = 50


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


def fit_all(root: object, *, thorough: bool = True, lookup: Lookup | None = None) -> list[Fit]:
    """Hold every recipe against the contents of a checkpoint, those first that go furthest; at least one is returned.

    Raises:
        CheckpointError: No recipe finds a state_dict; the text is that of the first one.
    """
    fits = []
    first: CheckpointError | None = None
    lookup = lookup or Lookup(root)
    for recipe in map(load_recipe, list_recipes()):
        try:
            fits.append(fit_recipe(root, recipe, thorough=thorough, lookup=lookup))
        except UnsafeCheckpointError:
            raise
        except CheckpointError as error:
            first = first or error.with_traceback(None)  # whose frames would keep all that was looked at
    fits = [fit for fit in fits if fit.recipe.refuses is None or not fit.lacking]
    if not fits and first is not None:
        raise first
    return sorted(fits, key=_distance)


def _distance(fit: Fit) -> tuple[bool, bool, bool, int]:
    return not fit.complete, fit.recipe.general, bool(fit.lacking), len(fit.unmatched)


def _guess_distance(fit: Fit) -> tuple[bool, bool, int]:
    """Return the same as told from a few keys, which lie all over the file."""
    keys = list(fit.tensors)
    some = keys[:: len(keys) // _FEW + 1]
    return fit.recipe.general, bool(fit.lacking), sum(fit.recipe.place(key) is None for key in some)


def choose_fit(root: object, recipe: str | None) -> Fit:
    """Return the fit of the named recipe, or of the only one that fits.

    Recipes that fit different mappings of a file mean different weights, and none goes before another. Of those that
    fit the same mapping, one that is general, taking any key as it is, counts only where no other fits, and one whose
    signs are there goes before one that asks for none.

    Raises:
        UnmatchedKeyError: Keys match no rule.
        KeyCollisionError: Two keys would get the same name.
        ConversionError: No recipe fits, several do, nothing would be kept, or the family is refused.
    """
    lookup = Lookup(root)
    if recipe is not None:
        fit = fit_recipe(root, load_recipe(recipe), lookup=lookup)
        _insist(fit)
        return fit
    fits = fit_all(root, thorough=False, lookup=lookup)
    by_mapping: dict[int, list[Fit]] = {}
    for fit in fits:
        if fit.complete:
            by_mapping.setdefault(id(fit.tensors), []).append(fit)
    if not by_mapping:
        raise _explain_misfit(fits, root, lookup)
    best = [fit for complete in by_mapping.values() for fit in _prefer(complete)]
    if len(by_mapping) == 1:
        _insist_on_support(best[0], general=best[0].recipe.general)
    if len(best) > 1:
        raise _explain_ambiguity(best)
    _insist_on_one_route(best[0])
    return best[0]


def _prefer(complete: list[Fit]) -> list[Fit]:
    """Return those that know best among the fits of one mapping."""
    special = [fit for fit in complete if not fit.recipe.general] or complete
    # what has the signs of a family is of it, even if a recipe without signs takes its keys as well
    return [fit for fit in special if fit.recipe.requires] or special


def _explain_ambiguity(fits: list[Fit]) -> ConversionError:
    shown = "\n".join(f"  {_titled(fit, fits)}: {fit.recipe.summary} It {fit.explain()}." for fit in fits)
    names = " or ".join(f"--recipe {fit.recipe.name}" for fit in fits)
    what = "several recipes fit this checkpoint" + (", and read different weights of it" if _differ(fits) else "")
    return ConversionError(f"{what}:\n{shown}\nSay which one is meant: {names}.")


def _explain_misfit(fits: list[Fit], root: object, lookup: Lookup) -> ConversionError:
    for fit in fits:
        if fit.recipe.refuses is not None:
            return _refuse(fit)
    # only those that are shown are held against all keys
    likely = sorted(fits, key=_guess_distance)[:5]
    nearest = [fit_recipe(root, fit.recipe, lookup=lookup) for fit in likely]
    shown = "\n".join(f"  {_titled(fit, nearest)}: {fit.explain()}" for fit in sorted(nearest, key=_distance))
    return ConversionError(
        f"none of the {len(fits)} recipes fits this checkpoint. Those that come nearest:\n{shown}\n"
        "If it is of a family named here, pass --recipe to see every key that has no rule; "
        "if not, write a recipe of your own and pass its path (conversion/README.md, 'Add a checkpoint family')."
    )


def _titled(fit: Fit, fits: list[Fit]) -> str:
    """Return the recipe's name, with the path it reads where that is not the same for all."""
    where = f", read from {fit.path!r}" if fit.path else ", read from the top level"
    return fit.recipe.name + (where if _differ(fits) else "")


def _differ(fits: list[Fit]) -> bool:
    return len({id(fit.tensors) for fit in fits}) > 1


def _refuse(fit: Fit) -> ConversionError:
    return ConversionError(
        f"this is a checkpoint of the kind {fit.recipe.name!r}, which is refused: {fit.recipe.refuses}"
    )


def _insist_on_support(fit: Fit, *, general: bool) -> None:
    """Raise if what a recipe reads has the signs of a family that is refused, or of one refused in `general`."""
    for other in map(load_recipe, list_recipes()):
        if other.refuses is not None and (general or not other.general):
            refused = Fit(other.routes[0], fit.tensors, (), ())
            if not refused.lacking:
                raise _refuse(refused)


def _insist_on_one_route(fit: Fit) -> None:
    if not fit.rivals:
        return
    other = fit.rivals[0]
    ends = [each.route.recipes[1].name for each in (fit, other)]
    key, ours, theirs = next(
        (one.key, one.target, two.target)
        for one, two in zip(fit.placements, other.placements, strict=True)
        if one.target != two.target
    )
    raise ConversionError(
        f"the recipe {fit.recipe.name!r} can go on in {ends[0]!r} and in {ends[1]!r}, which both account for all keys, "
        f"and differ: {key!r} would be {_named(ours)} or {_named(theirs)}. Pass the path of a copy of it, with only "
        "the one that is meant in `then`."
    )


def _named(target: str | None) -> str:
    return "dropped" if target is None else repr(target)


def _insist(fit: Fit) -> None:
    name = fit.recipe.name
    where = f"conversion/{name}.toml" if name in list_recipes() else f"your recipe {name!r}"
    if fit.recipe.refuses is not None:
        raise _refuse(fit)
    _insist_on_support(fit, general=False)
    if fit.unmatched:
        some = ", ".join(map(repr, fit.unmatched[:10])) + (", …" if len(fit.unmatched) > 10 else "")
        others = [other.recipe.name for other in fit_all(fit.tensors, thorough=False) if other.complete]
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
    _insist_on_one_route(fit)


_ADD_A_RULE = " Add a rule that renames or drops them, and an example of it under [examples]."
