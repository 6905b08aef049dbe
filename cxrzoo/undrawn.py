"""Build networks without drawing the random weights that are overwritten anyway."""

from typing import Any

import torch
from torch.nn import init
from torch.overrides import TorchFunctionMode

_DRAWS = {
    torch.Tensor.normal_,
    torch.Tensor.uniform_,
    init.uniform_,
    init.normal_,
    init.trunc_normal_,
    init.kaiming_uniform_,
    init.kaiming_normal_,
    init.xavier_uniform_,
    init.xavier_normal_,
}


class Undrawn(TorchFunctionMode):
    """In its block, in this thread alone, random initialisation leaves a tensor's memory as it is.

    Everything that is computed (zeros, ones, tables of positions) is computed as ever, so that buffers which are
    stored in no file are right.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor that would have been filled, or what `func` returns."""
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
