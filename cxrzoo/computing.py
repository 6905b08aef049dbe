"""The tensors of a backbone after what a recipe computes; nothing is read before it is written."""

import inspect
from collections.abc import Mapping, Sequence

from cxrzoo.errors import ConversionError, RecordError
from cxrzoo.operations import OPERATIONS, Computed, Readable
from cxrzoo.recipe import Compute


def compute_all(
    computes: Sequence[Compute], tensors: Mapping[str, Readable], size: int | None
) -> tuple[dict[str, Readable], dict[str, int]]:
    """Return the tensors after all computations, and how many each operation made.

    They are done in order: one that changes a tensor is seen by those after it.

    Args:
        tensors: The tensors by the names that the rules gave them.
        size: Height and width of the network's input in pixels, None where it is not known.

    Raises:
        ConversionError: An input is missing, or two tensors would get one name.
        RecordError: No operation has such a name, or it takes other arguments.
    """
    made: dict[str, Readable] = {}
    used: set[str] = set()
    counts: dict[str, int] = {}
    for compute in computes:
        if compute.apply not in OPERATIONS:
            raise RecordError(f"no operation is named {compute.apply!r}. Known: {', '.join(sorted(OPERATIONS))}.")
        for output, inputs, beside in compute.find(tensors):
            missing = [name for name in (*inputs, *beside) if name not in tensors]
            if missing:
                raise ConversionError(
                    f"{output!r} is to be computed from {', '.join(map(repr, (*inputs, *beside)))}, but the checkpoint "
                    f"has no {missing[0]!r}. Is the file whole?"
                )
            if output in made and output not in inputs:
                raise ConversionError(f"two computations of the recipe make {output!r}. Remove one of them.")
            operands = [made.get(name, tensors[name]) for name in (*inputs, *beside)]
            made[output] = _apply(compute, operands, size)
            used.update(inputs)
            if made[output] is not operands[0]:
                counts[compute.apply] = counts.get(compute.apply, 0) + 1
    kept = {name: tensor for name, tensor in tensors.items() if name not in used}
    clash = sorted(kept.keys() & made.keys())
    if clash:
        raise ConversionError(f"{clash[0]!r} is in the checkpoint, and computed by the recipe as well.")
    return kept | made, counts


def _apply(compute: Compute, operands: Sequence[Readable], size: int | None) -> Readable:
    operation = OPERATIONS[compute.apply]
    try:
        bound = inspect.signature(operation).bind(*operands, size=size, **compute.arguments)
    except TypeError as error:
        raise RecordError(f"compute {compute.output!r}: {compute.apply} can't be applied so: {error}.") from error
    return operation(*bound.args, **bound.kwargs)


def add_counters(tensors: Mapping[str, Readable]) -> dict[str, Readable]:
    """Return the tensors with BatchNorm's counts of batches, 0 each, if there are statistics and no such count at all.

    PyTorch had none before 0.4.1, and adds them so when it loads an older file (_load_from_state_dict in
    torch/nn/modules/batchnorm.py). A network that doesn't train ignores them.
    """
    if any(name.endswith(_COUNTER) for name in tensors):
        return dict(tensors)
    norms = (name.removesuffix(_MEAN) for name in tensors if name.endswith(_MEAN))
    return dict(tensors) | {f"{norm}{_COUNTER}": Computed("I64", (), 8, lambda: bytes(8)) for norm in norms}


_COUNTER, _MEAN = ".num_batches_tracked", ".running_mean"
