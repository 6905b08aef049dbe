"""Losses, encoders that follow, prototypes and LARC give what lightly's give, of the same vectors."""

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.cluster import Cluster, ClusterSettings, Larc
from cxrzoo.pretraining.gmml.modelling import contrast_with
from cxrzoo.pretraining.moco import Moco, MocoSettings
from cxrzoo.pretraining.views import Views

pytest.importorskip("lightly")
from lightly.loss import NTXentLoss, SwaVLoss
from lightly.models.modules import SwaVPrototypes
from lightly.models.modules.memory_bank import MemoryBankModule
from lightly.models.utils import batch_shuffle, batch_unshuffle, update_momentum
from lightly.utils.lars import LARS

BATCH, SIDE, DIMENSION = 4, 16, 5
CONSTANTS: dict[str, Any] = {"mean": (0.5,), "std": (0.25,), "batch_size": BATCH}


class Tiny(nn.Module):
    """A network of one convolution and a BatchNorm."""

    num_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 6, 3, 2), nn.BatchNorm2d(6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the mean of each map."""
        return self.bn1(self.conv1(images)).relu().mean(dim=(2, 3))


def make_moco(**settings: Any) -> Moco:
    """Return MoCo with a queue of three batches."""
    torch.manual_seed(0)
    chosen = MocoSettings(**{"queue": 3 * BATCH, "dimension": DIMENSION} | settings)
    return Moco(Tiny(), chosen, Views(SIDE, scale=(0.3, 1.0)), **CONSTANTS)


def make_batch(seed: int) -> Batch:
    """Return pictures of noise."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (BATCH, SIDE, SIDE), generator=draws, dtype=torch.uint8)
    nothing = torch.zeros(BATCH, dtype=torch.long)
    return Batch(pixels, torch.full((BATCH, 2), SIDE), nothing, torch.zeros(BATCH, 0))


def at(step: int) -> Progress:
    """Return where a training stands, with the draws of that step."""
    return Progress(step, 100, 10, torch.Generator().manual_seed(step))


def remember(module: nn.Module, *, gradients: bool = False) -> list[torch.Tensor]:
    """Return a list that holds what the module gave last."""
    given: list[torch.Tensor] = []

    def look(module: nn.Module, inputs: object, output: torch.Tensor) -> None:
        given[:] = [output]
        if gradients:
            output.retain_grad()

    module.register_forward_hook(look)
    return given


def randoms(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return normal random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_moco_loss(temperature: float) -> None:
    """Over seven steps, and twice around the queue, loss, gradient and queue are NTXentLoss's and its memory bank's.

    lightly's bank holds a key a row, ours a column; it takes keys only of queries that ask for a gradient.
    """
    moco = make_moco(temperature=temperature)
    theirs = NTXentLoss(temperature=temperature, memory_bank_size=(3 * BATCH, DIMENSION))
    theirs.memory_bank.bank = moco.queue.T.clone()
    queries, keys = remember(moco.encoder_q.head, gradients=True), remember(moco.encoder_k.head)

    for step in range(7):
        loss = moco(make_batch(step), at(step))["loss"]
        loss.backward()
        copied = queries[0].detach().requires_grad_()
        expected = theirs(copied, keys[0])
        expected.backward()

        torch.testing.assert_close(expected, loss, rtol=1e-6, atol=0)
        torch.testing.assert_close(copied.grad, queries[0].grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(theirs.memory_bank.bank.T, moco.queue, rtol=0, atol=1e-7)
        assert int(theirs.memory_bank.bank_ptr) == int(moco.pointer)


@pytest.mark.parametrize("momentum", [0.0, 0.99, 1.0])
def test_following_encoder(momentum: float) -> None:
    """After three moves, parameters are update_momentum's; neither touches BatchNorm's statistics."""
    moco = make_moco(momentum=momentum)
    theirs = copy.deepcopy(moco.encoder_k)

    for step in range(3):
        with torch.no_grad():
            for value in moco.encoder_q.state_dict().values():
                value.copy_(randoms(*value.shape, seed=step) if value.is_floating_point() else value + 1)
        moco._follow()
        update_momentum(moco.encoder_q, theirs, momentum)

    torch.testing.assert_close(theirs.state_dict(), moco.encoder_k.state_dict(), rtol=0, atol=1e-6)


def test_shuffled_keys() -> None:
    """In one process, lightly's shuffled batch has the keys and the statistics of ours, which is not shuffled."""
    moco = make_moco()
    theirs = copy.deepcopy(moco.encoder_k)
    images = randoms(BATCH, 1, SIDE, SIDE)

    keys = moco._encode_keys(images, at(0))
    torch.manual_seed(0)
    shuffled, order = batch_shuffle(images)
    expected = batch_unshuffle(theirs(shuffled)[1], order)

    assert order.tolist() != sorted(order.tolist())
    torch.testing.assert_close(expected, keys, rtol=0, atol=1e-6)
    torch.testing.assert_close(theirs.state_dict(), moco.encoder_k.state_dict(), rtol=0, atol=1e-6)


def test_contrast_of_a_batch() -> None:
    """The term on class tokens is 2 T times the mean of NTXentLoss with a bank of the other images' keys."""
    queries, keys, temperature = randoms(6, DIMENSION), randoms(6, DIMENSION, seed=1), 0.3

    losses = []
    for number in range(6):
        theirs = NTXentLoss(temperature=temperature, memory_bank_size=(5, DIMENSION))
        theirs.memory_bank.bank = functional.normalize(keys[torch.arange(6) != number], dim=1)
        losses.append(theirs(queries[number, None], keys[number, None]))

    expected = 2 * temperature * torch.stack(losses).mean()
    torch.testing.assert_close(expected, contrast_with(queries, keys, temperature))


@pytest.mark.parametrize("local_crops", [0, 2])
@pytest.mark.parametrize("queued", [False, True])
def test_clustering(local_crops: int, queued: bool) -> None:
    """Over five steps, the loss is that of SwaVPrototypes, SwaVLoss and two memory banks; prototypes stay equal.

    lightly's prototypes have a bias, ours none. A bank that is full is as good in another order.
    """
    torch.manual_seed(0)
    settings = ClusterSettings(
        prototypes=7,
        dim=DIMENSION,
        hidden=8,
        local_crops=local_crops,
        local=Views(8, scale=(0.1, 0.3)),
        queue=2 * BATCH * queued,
        queue_from=0,
        freeze=0,
        undersized=True,
    )
    method = Cluster(Tiny(), settings, Views(SIDE, scale=(0.3, 1.0)), **CONSTANTS)
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    theirs, criterion = SwaVPrototypes(DIMENSION, 7), SwaVLoss()
    banks = [MemoryBankModule((2 * BATCH, DIMENSION), feature_dim_first=False) for _ in range(2)]
    projections = remember(method.projection_head)

    for step in range(5):
        theirs.heads[0].load_state_dict({"weight": method.prototypes.sets[0].weight.detach(), "bias": torch.zeros(7)})
        loss = method(make_batch(step), at(step))["loss"]

        theirs.normalize()
        views = functional.normalize(projections[0].detach(), dim=1).split(BATCH)
        scores = [theirs(view) for view in views]
        kept = [bank(view, update=True)[1] for bank, view in zip(banks, views, strict=False)]
        earlier = [theirs(rows) for rows in kept] if queued and step >= 2 else None
        expected = criterion(scores[:2], scores[2:], earlier)

        assert 2 + local_crops == len(views)
        torch.testing.assert_close(theirs.heads[0].weight, method.prototypes.sets[0].weight, rtol=0, atol=1e-6)
        torch.testing.assert_close(expected[0], loss, rtol=1e-5, atol=1e-6)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_larc() -> None:
    """With weight decay, four steps are those of LARS, of which LARC without clipping is another name."""
    ours, theirs = (nn.Parameter(randoms(3, 2)) for _ in range(2))
    settings = {"lr": 0.7, "momentum": 0.9, "weight_decay": 0.01}
    optimizers = Larc([ours], trust=0.02, **settings), LARS([theirs], trust_coefficient=0.02, **settings)

    for step in range(4):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = randoms(3, 2, seed=10 + step)
            optimizer.step()

    assert float((theirs - randoms(3, 2)).detach().abs().min()) > 1e-3
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)
