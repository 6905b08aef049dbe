"""One recipe held against one checkpoint: what would become of each key, and whether that makes a backbone."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property

from cxrzoo.checkpoint import Lookup, StateDict, Tensor
from cxrzoo.computing import add_counters, compute_all
from cxrzoo.errors import CheckpointError, ConversionError, UnsafeCheckpointError
from cxrzoo.operations import Readable
from cxrzoo.recipe import Placement, Recipe, Route


@dataclass(frozen=True)
class Fit:
    """One recipe, by one route, held against one state_dict.

    `path` is the dotted path of the mapping that was read, "" for the top level of the file; `rivals` are the other
    routes of the recipe that account for all keys as well, and place them otherwise.
    """

    route: Route
    tensors: dict[str, Tensor]
    placements: tuple[Placement, ...]
    unmatched: tuple[str, ...]
    path: str = ""
    rivals: tuple["Fit", ...] = ()

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

    @cached_property
    def collisions(self) -> dict[str, list[str]]:
        """Names in the backbone that more than one key would get."""
        by_target: dict[str, list[str]] = {}
        for placement in self.placements:
            if placement.target is not None:
                by_target.setdefault(placement.target, []).append(placement.key)
        return {target: keys for target, keys in by_target.items() if len(keys) > 1}

    @cached_property
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


def fit_recipe(root: object, recipe: Recipe, *, thorough: bool = True, lookup: Lookup | None = None) -> Fit:
    """Hold a recipe against the contents of a checkpoint, by the route of it that goes furthest.

    Args:
        thorough: Go on after the first key that no rule matches, so that the fit names all of them.
        lookup: What was looked up in this root before, kept from one recipe to the next.

    Raises:
        CheckpointError: There is no state_dict where the recipe looks for it.
    """
    found = _find_tensors(lookup or Lookup(root), recipe)
    fits = [_follow(route, found, thorough=thorough) for route in recipe.routes]
    best = min(fits, key=lambda fit: (len(fit.unmatched), -len(fit.placements)))
    equal = [fit for fit in fits if not fit.unmatched and not fit.collisions]
    return _decide(equal) if best in equal and len(equal) > 1 else best


def _follow(route: Route, found: StateDict, *, thorough: bool) -> Fit:
    placements, unmatched = [], []
    for key in found.tensors:
        placement = route.place(key)
        if placement is not None:
            placements.append(placement)
            continue
        unmatched.append(key)
        if not thorough:
            break
    return Fit(route, found.tensors, tuple(placements), tuple(unmatched), found.path)


def _decide(fits: list[Fit]) -> Fit:
    """Return one of several routes that account for all keys, with those as rivals that place them otherwise."""
    # the blocks of a small network have places in a larger one too, whose number of tensors is another
    likely = [fit for fit in fits if _has_right_number(fit)] or fits[:1]
    first = likely[0]
    rivals = tuple(fit for fit in likely if _targets(fit) != _targets(first))
    return replace(first, rivals=rivals)


def _targets(fit: Fit) -> list[tuple[str, str | None]]:
    return [(placement.key, placement.target) for placement in fit.placements]


def _has_right_number(fit: Fit) -> bool:
    counts = {architecture.kept for architecture in fit.route.architectures}
    try:
        return not counts or 0 in counts or len(fit.outputs()[0]) in counts
    except ConversionError:
        return False


def _find_tensors(lookup: Lookup, recipe: Recipe) -> StateDict:
    try:
        return lookup.find(recipe.unwrap)
    except UnsafeCheckpointError:
        raise
    except CheckpointError:
        # where only one mapping can be meant, nobody has to name the key under which it lies
        if lookup.only is None:
            raise
        return lookup.only
