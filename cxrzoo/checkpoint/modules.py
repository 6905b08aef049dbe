"""Whole modules, as `torch.save(model)` pickles them: their tensors by the names of `model.state_dict()`.

A module is an object with the attributes `_parameters`, `_buffers` and `_modules`, whatever its class. Which
of them make up the state_dict, and in which order, is that of torch.nn.Module.state_dict:
https://github.com/pytorch/pytorch/blob/v2.6.0/torch/nn/modules/module.py#L2046-L2078
No code is run, so what a class changes by its own `state_dict` or hooks, or adds by `get_extra_state`, is not known.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, TypeGuard

from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.tensors import Tensor, check_name
from cxrzoo.checkpoint.trees import MAX_DEPTH
from cxrzoo.errors import UnsafeCheckpointError

#: Ways from the outermost module to one that holds anything; networks share some of theirs.
_MAX_PATHS = 16


@dataclass
class Budget:
    """How many more parameters, buffers and modules may be looked at; a DenseNet-201 has 5,000."""

    left: int = 20_000

    def spend(self, count: int) -> None:
        """Raise if there are more than that."""
        self.left -= count
        if self.left < 0:
            raise UnsafeCheckpointError("its modules hold more parameters, buffers and modules than any network.")


def is_module(value: object) -> TypeGuard[Opaque]:
    """Return whether this is a pickled nn.Module."""
    found = value.attributes if isinstance(value, Opaque) else {}
    return type(found.get("_parameters")) is dict and type(found.get("_modules")) is dict


def gather_tensors(module: Opaque, budget: Budget) -> dict[str, Tensor]:
    """Return the tensors of a module and of the modules inside it, as its `state_dict()` would.

    Raises:
        UnsafeCheckpointError: A module contains itself, or what is in it is none of what torch puts there.
    """
    found: dict[str, Tensor] = {}
    paths: Counter[int] = Counter()
    pending: list[tuple[str, object, int]] = [("", module, 1)]
    while pending:
        prefix, current, depth = pending.pop()
        if not is_module(current):
            raise UnsafeCheckpointError(f"{_named(prefix)} is a {_kind(current)}, where a module must be.")
        own = current.attributes
        parameters, buffers, modules = own["_parameters"], own.get("_buffers", {}), own["_modules"]
        if type(buffers) is not dict:
            raise UnsafeCheckpointError(f"{_named(prefix)} has buffers that are no dict.")
        count = len(parameters) + len(buffers) + len(modules)
        if not count:
            continue  # an activation; one may serve a whole network
        budget.spend(count)
        paths[id(current)] += 1
        if paths[id(current)] > _MAX_PATHS or depth > MAX_DEPTH:
            raise UnsafeCheckpointError(
                f"{_named(prefix)} lies more than {MAX_DEPTH} modules deep, is used in more than {_MAX_PATHS} places, "
                "or contains itself."
            )
        hidden = _non_persistent(own, buffers, prefix)
        for entries, left_out in ((parameters, frozenset[str]()), (buffers, hidden)):
            for key, value in entries.items():
                if value is not None and key not in left_out:
                    _add(found, _joined(prefix, key), value)
        children = [
            (f"{_joined(prefix, key)}.", child, depth + 1) for key, child in modules.items() if child is not None
        ]
        pending += reversed(children)
    return found


def _add(found: dict[str, Tensor], name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise UnsafeCheckpointError(
            f"{name!r}, a parameter or buffer of its module, is a {_kind(value)} and no tensor."
        )
    if name in found:
        raise UnsafeCheckpointError(f"two tensors of its module have the name {name!r}.")
    found[name] = value


def _joined(prefix: str, key: Any) -> str:
    name = f"{prefix}{key}" if type(key) is str else key
    check_name(name)
    return str(name)


def _non_persistent(own: dict[Any, Any], buffers: dict[Any, Any], prefix: str) -> frozenset[str]:
    names = own.get("_non_persistent_buffers_set", ())  # a set, which modules of torch before 1.5 don't have
    if type(names) not in (list, tuple) or len(names) > len(buffers) or any(type(name) is not str for name in names):
        raise UnsafeCheckpointError(f"{_named(prefix)} has names of non-persistent buffers that are none of its own.")
    return frozenset(names)


def _named(prefix: str) -> str:
    return f"its module {prefix[:-1]!r}" if prefix else "its outermost module"


def _kind(value: object) -> str:
    return str(value) if isinstance(value, Opaque) else type(value).__name__
