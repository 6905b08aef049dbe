"""Digests of backbones and the lock that proves a backbone was only looked at."""

import copy
import hashlib
import json
from collections.abc import Callable

import pytest
import torch
from torch import nn

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.locks import digest_backbone, locked


def make_backbone() -> nn.Sequential:
    """Return a convolution and a BatchNorm with a buffer that no file holds."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten())
    backbone.register_buffer("table", torch.arange(3.0), persistent=False)
    return backbone


def test_digest_is_of_names_types_shapes_and_bytes() -> None:
    """The digest can be computed anew from what it says it covers."""
    module = nn.Module()
    module.weight = nn.Parameter(torch.tensor([[1.0, 2.0]]))
    module.register_buffer("count", torch.tensor(3))
    facts = {
        "weight": ["torch.float32", [1, 2], hashlib.sha256(bytes.fromhex("0000803f00000040")).hexdigest()],
        "count": ["torch.int64", [], hashlib.sha256((3).to_bytes(8, "little")).hexdigest()],
    }

    expected = hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    assert expected == digest_backbone(module)


def next_float(backbone: nn.Sequential) -> None:
    """Change one weight in its last bit."""
    weight = backbone[0].weight.data.view(-1)
    weight[0] = torch.nextafter(weight[0], torch.tensor(9.0))


@pytest.mark.parametrize(
    "change",
    [
        next_float,
        lambda b: b[1].running_mean.add_(1e-6),
        lambda b: b[1].running_var.mul_(1.001),
        lambda b: b[1].num_batches_tracked.add_(1),
        lambda b: b.table.neg_(),
        lambda b: setattr(b[0], "weight", nn.Parameter(b[0].weight.data.reshape(4, 3, 1, 3))),
        lambda b: b.table.__setattr__("data", b.table.data.view(torch.int32)),
        lambda b: b.register_buffer("more", torch.zeros(0)),
        lambda b: b.append(nn.Linear(1, 1)),
    ],
    ids=["weight", "running mean", "running variance", "batches", "buffer", "shape", "dtype", "empty", "added"],
)
def test_digest_sees_every_change(change: Callable[[nn.Sequential], object]) -> None:
    """A change of any bit, shape, dtype or name of a parameter or buffer changes the digest."""
    backbone = make_backbone()
    before = digest_backbone(backbone)

    change(backbone)

    assert before != digest_backbone(backbone)


def test_digest_is_of_content_alone() -> None:
    """A copy has the digest of its original, whatever its mode, flags and layout in memory."""
    backbone = make_backbone()
    other = copy.deepcopy(backbone).eval().requires_grad_(False).to(memory_format=torch.channels_last)

    assert digest_backbone(backbone) == digest_backbone(other)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64, torch.uint8])
def test_digest_of_any_dtype(dtype: torch.dtype) -> None:
    """Tensors of types that NumPy lacks, scalars and empty ones are digested too."""
    digests = set()
    for value in (0, 1):
        module = nn.Module()
        for name, shape in (("scalar", ()), ("empty", (0, 2)), ("many", (2, 3))):
            module.register_buffer(name, torch.full(shape, value, dtype=dtype))
        digests.add(digest_backbone(module))

    assert 2 == len(digests)


def test_lock_freezes_and_restores() -> None:
    """Inside the block nothing trains; afterwards each part has the mode and each parameter the flag it had."""
    backbone = make_backbone().train()
    backbone[0].eval()
    backbone[1].bias.requires_grad_(False)
    before = [m.training for m in backbone.modules()], [p.requires_grad for p in backbone.parameters()]

    with locked(backbone) as digest:
        inside = [m.training for m in backbone.modules()], [p.requires_grad for p in backbone.parameters()]
        backbone(torch.randn(2, 1, 8, 8))

    assert ([False] * 4, [False] * 3) == inside
    assert before == ([m.training for m in backbone.modules()], [p.requires_grad for p in backbone.parameters()])
    assert digest == digest_backbone(backbone)


def test_lock_catches_drifting_statistics() -> None:
    """A forward pass in training mode moves BatchNorm's statistics without any gradient, and the lock says so."""
    backbone = make_backbone()

    text = r"3 of 7 tensors .* 1\.running_mean, 1\.running_var, 1\.num_batches"
    with pytest.raises(EvaluationError, match=text), locked(backbone), torch.no_grad():
        backbone.train()(torch.randn(2, 1, 8, 8))


def test_lock_catches_changed_weights() -> None:
    """A weight that is changed in the block is named, also where the tensor itself was replaced."""
    backbone = make_backbone()

    text = r"1 of 7 tensors of the backbone changed while it was locked: 0\.weight\."
    with pytest.raises(EvaluationError, match=text), locked(backbone):
        backbone[0].weight = nn.Parameter(backbone[0].weight + 1)


def test_lock_passes_errors_on() -> None:
    """An error in the block comes out as it is, with modes and flags restored."""
    backbone = make_backbone().train()

    with pytest.raises(ZeroDivisionError), locked(backbone):
        backbone.train()(torch.randn(2, 1, 8, 8))
        raise ZeroDivisionError

    assert all(m.training for m in backbone.modules()) and all(p.requires_grad for p in backbone.parameters())
