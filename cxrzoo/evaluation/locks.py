"""A backbone that is only looked at must be the same afterwards, down to the last BatchNorm statistic."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cxrzoo.errors import EvaluationError
from cxrzoo.records import digest

_SHOWN = 5


def digest_backbone(module: nn.Module) -> str:
    """Return the sha256 of all parameters and buffers: names, dtypes, shapes and bytes, wherever they lie.

    Unlike the digest of a weights file it covers what no file holds, such as buffers that are computed.
    """
    return digest(_describe_tensors(module))


@contextmanager
def locked(backbone: nn.Module) -> Iterator[str]:
    """Keep a backbone in evaluation mode and without gradients for a block, and prove that it stayed the same.

    Gives the digest, which is the backbone's before and after. The modes and flags of its parts are restored.

    Switching gradients off is not enough: in training mode BatchNorm moves its running statistics, and a "linear"
    probe is no longer one of the backbone that was asked about.

    Raises:
        EvaluationError: A parameter or buffer was changed in the block.
    """
    modes = [(module, module.training) for module in backbone.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in backbone.parameters()]
    before = _describe_tensors(backbone)
    backbone.eval().requires_grad_(False)
    try:
        yield digest(before)
        _insist_on_equal(before, _describe_tensors(backbone))
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _describe_tensors(module: nn.Module) -> dict[str, list[object]]:
    """Return dtype, shape and sha256 of every tensor by name; one that has two names stands under both."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: [str(tensor.dtype), list(tensor.shape), _sha256(tensor)] for name, tensor in named}


def _sha256(tensor: torch.Tensor) -> str:
    # as bytes, since numpy has no bfloat16; flat, since a scalar can't be viewed as bytes
    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return hashlib.sha256(flat.numpy().data).hexdigest()


def _insist_on_equal(before: dict[str, list[object]], after: dict[str, list[object]]) -> None:
    names = [name for name in before | after if before.get(name) != after.get(name)]
    if names:
        shown = ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
        raise EvaluationError(
            f"{len(names)} of {len(before)} tensors of the backbone changed while it was locked: {shown}. Expected the "
            "same bytes as before. Work on a copy (copy.deepcopy), and don't call train() on the backbone: BatchNorm "
            "moves its statistics in training mode, with gradients or without."
        )
