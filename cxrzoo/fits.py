"""One recipe held against one checkpoint: what would become of each key, and whether that makes a backbone."""

from collections import Counter
from dataclasses import dataclass

from cxrzoo.checkpoint import Tensor, find_state_dict, list_mappings
from cxrzoo.computing import add_counters, compute_all
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError
from cxrzoo.operations import Readable
from cxrzoo.recipe import Placement, Recipe, Route


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


def fit_recipe(
    root: object,
    recipe: Recipe,
    *,
    thorough: bool = True,
    found: dict[tuple[str, ...], dict[str, Tensor]] | None = None,
) -> Fit:
    """Hold a recipe against the contents of a checkpoint, by the route of it that goes furthest.

    Args:
        thorough: Go on after the first key that no rule matches, so that the fit names all of them.
        found: State_dicts of this root by where they were looked for, kept from one recipe to the next.

    Raises:
        CheckpointError: There is no state_dict where the recipe looks for it.
    """
    found = {} if found is None else found
    tensors = found[recipe.unwrap] = found.get(recipe.unwrap) or _find_tensors(root, recipe)
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
