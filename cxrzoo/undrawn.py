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


#: What timm and torch do to numbers they have just drawn, to give them another distribution.
_SHAPES = {torch.Tensor.erfinv_, torch.Tensor.mul_, torch.Tensor.add_, torch.Tensor.clamp_}


class _Undrawn(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self._drawn: object = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        target = args[0] if args else (kwargs or {}).get("tensor")
        if func in _DRAWS or (func in _SHAPES and target is self._drawn):
            self._drawn = target
            return target
        self._drawn = None
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def undrawn(device: str = "cpu") -> Iterator[None]:
    """In the block, in this thread alone, random initialisation leaves a tensor's memory as it is.

    Everything that is computed (zeros, ones, tables of positions) is computed as ever, so that buffers which are
    stored in no file are right. Networks come out on the given device and ready for gradients, whatever device and
    mode the caller has set for their own tensors.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != device:
            stack.enter_context(torch.device(device))
        stack.enter_context(_Undrawn())
        yield
