"""Momentum contrast: what A.11 of the facts asks, on networks small enough to compute by hand."""

import copy
from pathlib import Path

import pytest
import timm
import torch
from processes import run_processes
from torch import distributed
from torch.nn import functional

from cxrzoo.errors import PretrainingError, RecordError
from cxrzoo.pretraining.batches import Batch, Progress
from cxrzoo.pretraining.moco import Moco, MocoSettings
from cxrzoo.pretraining.views import Views

SIZE = 32


def make_moco(batch_size: int = 4, architecture: str = "resnet10t", **settings: object) -> Moco:
    """Return a small MoCo."""
    torch.manual_seed(0)
    backbone = timm.create_model(architecture, num_classes=0)
    chosen = MocoSettings(**({"queue": 8, "dimension": 16} | settings))
    return Moco(backbone, chosen, Views(SIZE), mean=(0.5,) * 3, std=(0.3,) * 3, batch_size=batch_size)


def make_batch(count: int = 4, seed: int = 0) -> Batch:
    """Return pictures of noise."""
    draws = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, SIZE, SIZE), generator=draws, dtype=torch.uint8)
    return Batch(pixels, torch.full((count, 2), SIZE), torch.zeros(count, dtype=torch.long), torch.zeros(count, 0))


def make_progress(step: int = 0) -> Progress:
    """Return where a training of a hundred steps stands."""
    return Progress(step, 100, 10, torch.Generator().manual_seed(step))


def test_queue_holds_the_latest_batches_in_a_ring() -> None:
    """With 8 columns and batches of 4, after three steps the columns hold batches 3 and 2, and the pointer is at 4."""
    moco = make_moco()
    keys = [functional.normalize(torch.randn(4, 16), dim=1) for _ in range(3)]
    pointers = []

    for batch in keys:
        moco._enqueue(batch)
        pointers.append(moco.pointer.item())

    assert torch.equal(torch.cat([keys[2], keys[1]]), moco.queue.T)
    assert [4, 0, 4] == pointers


def test_first_step_sees_the_initial_queue_only() -> None:
    """Negatives are those of the queue before the keys of the step are written."""
    moco = make_moco()
    initial, reference = moco.queue.clone(), copy.deepcopy(moco)
    batch = make_batch()

    loss = moco(batch, make_progress())["loss"]

    progress = make_progress()
    views = [reference._draw(batch, progress) for _ in range(2)]
    queries = reference.encoder_q(views[0])[1].detach().double()
    reference._follow()
    keys = reference.encoder_k(views[1])[1].double()
    expected = 0.0
    for query, key in zip(queries, keys, strict=True):
        scores = torch.stack([query @ key, *(query @ negative for negative in initial.T.double())]) / 0.2
        expected -= float(scores.log_softmax(0)[0]) / len(queries)
    assert expected == pytest.approx(loss.item(), abs=1e-6)
    assert not torch.equal(initial, moco.queue)


def test_queue_columns_have_length_one() -> None:
    """At the start and after steps."""
    moco = make_moco()
    moco(make_batch(), make_progress())

    assert torch.allclose(torch.ones(8), moco.queue.norm(dim=0), atol=1e-6)


def test_queue_is_made_a_multiple_of_the_batch() -> None:
    """24,576 keys and batches of 20 make 24,560; the official code stops there."""
    moco = make_moco(batch_size=20, queue=24_576)

    assert 24_560 == moco.queue.shape[1]


def test_a_batch_that_does_not_divide_the_queue_is_refused() -> None:
    """Three keys don't fit a queue of eight."""
    moco = make_moco()

    with pytest.raises(PretrainingError, match="batch of 3 keys and a queue of 8"):
        moco._enqueue(torch.randn(3, 16))


def test_a_batch_longer_than_the_queue_is_refused() -> None:
    """There would be no negatives."""
    with pytest.raises(PretrainingError, match="queue of 8 keys for batches of 9"):
        make_moco(batch_size=9)


def test_queue_and_pointer_are_part_of_the_state() -> None:
    """What goes on from a state has the same negatives."""
    moco = make_moco()
    moco(make_batch(), make_progress())
    other = make_moco()

    other.load_state_dict(moco.state_dict())

    assert torch.equal(moco.queue, other.queue)
    assert (4, 4) == (other.pointer.item(), other.filled.item())


def test_key_encoder_follows_by_parameters_only() -> None:
    """With momentum .5 its parameters are the midpoint, and BatchNorm's statistics are its own."""
    moco = make_moco(momentum=0.5)
    with torch.no_grad():
        for parameter in moco.encoder_q.parameters():
            parameter.add_(torch.randn_like(parameter))
        for name, buffer in moco.encoder_q.named_buffers():
            if name.endswith("running_mean"):
                buffer.fill_(7)
    before = {name: value.clone() for name, value in moco.encoder_k.named_parameters()}

    moco._follow()

    for name, value in moco.encoder_k.named_parameters():
        midpoint = (before[name] + moco.encoder_q.get_parameter(name).detach()) / 2
        torch.testing.assert_close(value.detach(), midpoint, rtol=0, atol=1e-6, msg=name)
    means = [value for name, value in moco.encoder_k.named_buffers() if name.endswith("running_mean")]
    assert not any((mean == 7).any() for mean in means)


def test_key_encoder_gets_no_gradient() -> None:
    """The loss moves queries alone."""
    moco = make_moco()
    moco(make_batch(), make_progress())["loss"].backward()

    assert all(parameter.grad is None for parameter in moco.encoder_k.parameters())
    assert all(parameter.grad is not None for parameter in moco.encoder_q.parameters())


def test_a_step_records_how_old_keys_are() -> None:
    """Two batches are in a queue of two batches, half a queue old on average."""
    moco = make_moco()

    ages = [moco(make_batch(seed=step), make_progress(step))["queue_age"].item() for step in range(4)]

    assert [0, 0.5, 1, 1] == ages


@pytest.mark.parametrize(
    ("architecture", "total", "encoder", "classifier"),
    [("resnet18", 250, 124, "fc"), ("resnet50", 646, 322, "fc"), ("densenet121", 1460, 729, "classifier")],
)
def test_checkpoints_have_the_keys_of_the_authors(architecture: str, total: int, encoder: int, classifier: str) -> None:
    """As many keys as MoCo-CXR's files, with the head under the name of the classifier."""
    with torch.device("meta"):
        backbone = timm.create_model(architecture, num_classes=0)
    settings = MocoSettings(queue=8)
    moco = Moco(backbone, settings, Views(SIZE), mean=(0.5,) * 3, std=(0.3,) * 3, batch_size=4)

    saved = moco.export(20, {})

    ours = [key for key in saved["state_dict"] if key.startswith("module.encoder_q.")]
    assert (total, encoder) == (len(saved["state_dict"]), len(ours))
    assert {f"module.encoder_q.{classifier}.{name}" for name in ("0.weight", "0.bias", "2.weight", "2.bias")} <= set(
        ours
    )
    assert {"epoch", "arch", "state_dict", "optimizer"} == set(saved)
    assert (20, architecture) == (saved["epoch"], saved["arch"])


def test_head_of_the_first_version_is_one_layer() -> None:
    """MoCo v1."""
    keys = make_moco(head="linear").export(1, {})["state_dict"]

    assert {"module.encoder_q.fc.weight", "module.encoder_q.fc.bias"} <= set(keys)


@pytest.mark.parametrize("setting", [{"head": "conv"}, {"momentum": 1.5}, {"queue": 0}, {"temperature": 0.0}])
def test_settings_that_mean_nothing_are_refused(setting: dict[str, object]) -> None:
    """A record is checked where it is made."""
    with pytest.raises(RecordError):
        MocoSettings(**setting)


def shuffle_and_share() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """Return, of this process, how far shuffled keys are off, the statistics of both encoders, and the queue."""
    moco = make_moco(batch_size=8).eval()
    inputs = torch.randn(4, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(distributed.get_rank()))
    with torch.no_grad():
        off = (moco._encode_keys(inputs, make_progress()) - moco.encoder_k(inputs)[1]).abs().max()
        moco.train()
        moco._encode_keys(inputs, make_progress())
        moco.encoder_q(inputs)
    name = "backbone.bn1.running_mean"
    statistics = torch.stack([moco.encoder_k.get_buffer(name), moco.encoder_q.get_buffer(name)])
    moco(make_batch(seed=distributed.get_rank()), make_progress())
    return off, statistics, moco.queue, int(moco.pointer)


@pytest.mark.slow
def test_two_processes_shuffle_and_share_a_queue(tmp_path: Path) -> None:
    """Keys come back to their images; their statistics are of others' images; the queue is one."""
    results = run_processes(shuffle_and_share, tmp_path)

    for off, statistics, _, pointer in results:
        assert off < 1e-5, "shuffled keys come back to other images"
        assert not torch.allclose(*statistics), "statistics of partners"
        assert 0 == pointer
    assert torch.equal(results[0][2], results[1][2]), "queues differ"
