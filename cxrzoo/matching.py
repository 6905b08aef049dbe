"""Which recipe fits a checkpoint, told from its keys and shapes alone."""

from collections import Counter
from collections.abc import Iterable

from cxrzoo.checkpoint import Tensor
from cxrzoo.errors import (
    CheckpointError,
    ConversionError,
    KeyCollisionError,
    UnmatchedKeyError,
    UnsafeCheckpointError,
)
from cxrzoo.fits import Fit, fit_recipe
from cxrzoo.recipe import list_recipes, load_recipe


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


def fit_all(root: object, *, thorough: bool = True) -> list[Fit]:
    """Hold every recipe against the contents of a checkpoint, those first that go furthest; at least one is returned.

    Raises:
        CheckpointError: No recipe finds a state_dict; the text is that of the first one.
    """
    fits, errors = [], []
    found: dict[tuple[str, ...], dict[str, Tensor]] = {}
    for recipe in map(load_recipe, list_recipes()):
        try:
            fits.append(fit_recipe(root, recipe, thorough=thorough, found=found))
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
