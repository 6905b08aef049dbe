"""Build networks without drawing the random weights that are overwritten anyway."""

import contextlib
from collections.abc import Iterator
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


class _Undrawn(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """In the block, in this thread alone, random initialisation leaves a tensor's memory as it is.

    Everything that is computed (zeros, ones, tables of positions) is computed as ever, so that buffers which are
    stored in no file are right. Networks come out on the processor and ready for gradients, whatever device and mode
    the caller has set for their own tensors.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_Undrawn())
        yield
