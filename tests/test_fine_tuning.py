"""Classifiers trained by gradient descent: the loss, what stays frozen, the choice of the epoch, and going on."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from phantoms import make_dataset, radiograph, saved
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score
from torch import nn

from cxrzoo import framing
from cxrzoo.errors import DiskError, EvaluationError
from cxrzoo.evaluation.locks import digest_backbone
from cxrzoo.evaluation.sampling.draws import Draw
from cxrzoo.evaluation.sampling.protocols import load_protocol
from cxrzoo.evaluation.sampling.splits import make_split
from cxrzoo.evaluation.tables import table_of_arrays
from cxrzoo.evaluation.tuning.draws import check_draws, tune_draws
from cxrzoo.evaluation.tuning.fine_tuning import Epoch, FineTuning, fine_tune
from cxrzoo.evaluation.tuning.minibatches import Images, shuffled_batches
from cxrzoo.evaluation.tuning.pixels import frame_images
from cxrzoo.evaluation.tuning.training import Training, masked_loss
from cxrzoo.evaluation.untrained import make_untrained
from cxrzoo.preprocessing import to_tensor

SIZE = 64
TRAIN, VALID, TEST = np.split(np.arange(110), [50, 80])
LINEAR = {"mode": "linear", "learning_rate": 0.02}
ADAPTED = {"mode": "linear", "bn_adapt": True, "learning_rate": 0.02}
END_TO_END = {"mode": "end-to-end", "learning_rate": 1e-3}
MODES = pytest.mark.parametrize("options", [LINEAR, ADAPTED, END_TO_END], ids=["linear", "bn_adapt", "end-to-end"])


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks are no faster with several threads, and far slower where other tests want the same cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def backbone() -> nn.Module:
    """A small network with BatchNorm."""
    return make_untrained("test_resnet", size=SIZE)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Phantoms, on which the first finding is a bright square at the upper left and the second a dark one."""
    images = np.stack([radiograph(SIZE, SIZE, seed=number) for number in range(110)])
    images[complete()[:, 0] == 1, 10:22, 10:22] = 255
    images[complete()[:, 1] == 1, 40:54, 30:50] = 60
    return images


def complete() -> np.ndarray:
    """Return labels of two findings, none missing."""
    return (np.random.default_rng(0).random((110, 2)) < 0.4).astype(float)


def missing_some() -> np.ndarray:
    """Return these labels with one in eight missing."""
    labels = complete()
    labels[np.random.default_rng(1).random(labels.shape) < 0.125] = np.nan
    return labels


def tune(backbone: nn.Module, pixels: np.ndarray, labels: np.ndarray | None = None, **options: Any) -> FineTuning:
    """Fine-tune for three epochs on the usual parts, or as the options say."""
    parts = {"train": TRAIN, "valid": VALID, "test": TEST, "epochs": 3, "seed": 7, "save_every": 0}
    return fine_tune(backbone, pixels, missing_some() if labels is None else labels, **(parts | options))


def figures(result: FineTuning) -> tuple[Any, ...]:
    """Return all that a run found, as plain values that can be compared."""
    return result.history, result.best_epoch, result.logits_valid.tolist(), result.logits_test.tolist()


def test_loss_is_the_mean_over_known_labels() -> None:
    """The loss is the cross-entropy written out in double precision, over the entries with a label alone."""
    logits = np.random.default_rng(0).normal(0, 4, (6, 3))
    labels = np.random.default_rng(1).choice([0.0, 1.0, np.nan], (6, 3))
    terms = [
        -math.log(1 / (1 + math.exp(-logit))) if label == 1 else -math.log(1 - 1 / (1 + math.exp(-logit)))
        for logit, label in zip(logits.ravel(), labels.ravel(), strict=True)
        if not math.isnan(label)
    ]

    found = masked_loss(torch.from_numpy(logits), torch.from_numpy(labels))

    assert 0 < len(terms) < 18
    assert math.isclose(sum(terms) / len(terms), found.item(), rel_tol=1e-12)


def test_missing_labels_pull_at_nothing() -> None:
    """An entry without a label has no gradient, even where its logit is infinite."""
    logits = torch.tensor([[1.0, float("inf")], [2.0, -3.0]], requires_grad=True)

    masked_loss(logits, torch.tensor([[1.0, float("nan")], [float("nan"), 0.0]])).backward()

    expected = [[(torch.sigmoid(torch.tensor(1.0)).item() - 1) / 2, 0.0], [0.0, torch.sigmoid(torch.tensor(-3.0)) / 2]]
    torch.testing.assert_close(logits.grad, torch.tensor(expected))


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_batches_are_what_the_transform_gives(backbone: nn.Module, kind: type, channels: int) -> None:
    """Pixels normalised in a batch are, to the bit, the tensors of the backbone's own preprocessing."""
    record = replace(backbone.transform.record, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.3)).for_channels(channels)
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE)).astype(np.uint8)
    pixels = pixels if kind is np.uint8 else pixels.astype(np.float32) / 255
    images = Images(pixels, np.array([1, 2, 4]), record, torch.device("cpu"))

    expected = torch.stack([to_tensor(pixels[position], record) for position in (4, 1)])

    assert torch.equal(expected, images(np.array([2, 0])))


@MODES
def test_the_given_backbone_stays_as_it_is(backbone: nn.Module, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """No mode changes a parameter, a statistic, a flag or the mode of the backbone that was given."""
    digest = digest_backbone(backbone)
    flags = [p.requires_grad for p in backbone.parameters()] + [m.training for m in backbone.modules()]

    tune(backbone, pixels, **options)

    assert digest == digest_backbone(backbone)
    assert flags == [p.requires_grad for p in backbone.parameters()] + [m.training for m in backbone.modules()]


def test_linear_leaves_statistics_alone(backbone: nn.Module, pixels: np.ndarray) -> None:
    """In the linear mode the backbone behind the logits is the given one, statistics of BatchNorm included."""
    assert digest_backbone(backbone) == tune(backbone, pixels, **LINEAR).backbone_sha256


@pytest.mark.parametrize(
    ("options", "moved"),
    [(ADAPTED, {"running_mean", "running_var", "num_batches_tracked"}), (END_TO_END, {"weight", "bias"})],
    ids=["bn_adapt", "end-to-end"],
)
def test_what_moves(
    backbone: nn.Module, pixels: np.ndarray, tmp_path: Path, options: dict[str, Any], moved: set[str]
) -> None:
    """With bn_adapt the statistics drift and nothing else; end to end the weights move as well."""
    path = tmp_path / "state.safetensors"
    with pytest.raises(StoppedError):
        tune(backbone, pixels, checkpoint=path, on_epoch=stop_after(3), **options)
    before = backbone.state_dict()
    after = {
        name.removeprefix("best/backbone."): tensor
        for name, tensor in load_file(path).items()
        if name.startswith("best/backbone.")
    }

    changed = {name.rpartition(".")[2] for name in before if not torch.equal(before[name], after[name])}

    assert set(before) == set(after) and moved <= changed
    assert changed <= {"running_mean", "running_var", "num_batches_tracked"} or options is END_TO_END
    assert digest_backbone(backbone) != tune(backbone, pixels, **options).backbone_sha256


def test_linear_training_written_out(backbone: nn.Module, pixels: np.ndarray) -> None:
    """The linear mode is Adam on the mean cross-entropy of embeddings, from zero, in the order that the seed gives."""
    with torch.no_grad():
        embeddings = backbone(torch.stack([to_tensor(image, backbone.transform.record) for image in pixels]))
    head, labels = zero_head(embeddings.shape[1]), torch.from_numpy(complete()).float()
    adam = torch.optim.Adam(head.parameters(), lr=0.02)
    losses, logits = [], []
    for epoch in (1, 2, 3):
        order, total = np.random.default_rng([7, epoch]).permutation(TRAIN), 0.0
        for rows in (order[:16], order[16:32], order[32:48], order[48:]):
            adam.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(head(embeddings[rows]), labels[rows])
            loss.backward()
            adam.step()
            total += loss.item() * len(rows)
        losses.append(total / 50)
        logits.append(head(embeddings[TEST]).detach())

    result = tune(backbone, pixels, complete(), **LINEAR)

    np.testing.assert_allclose(losses, [epoch.loss for epoch in result.history], rtol=1e-4)
    np.testing.assert_allclose(logits[result.best_epoch - 1], result.logits_test, rtol=1e-3, atol=1e-5)


def test_end_to_end_training_written_out(backbone: nn.Module, pixels: np.ndarray) -> None:
    """The end-to-end mode is Adam on all weights, in training mode, its logits those of the network afterwards."""
    network = nn.Sequential(copy.deepcopy(backbone), zero_head(backbone.provenance.dimension)).train()
    batch = torch.stack([to_tensor(image, backbone.transform.record) for image in pixels])
    labels = torch.from_numpy(complete()).float()
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    order = np.random.default_rng([7, 1]).permutation(TRAIN)
    for rows in (order[:25], order[25:]):
        adam.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(network(batch[rows]), labels[rows]).backward()
        adam.step()

    result = tune(backbone, pixels, complete(), **END_TO_END, epochs=1, batch_size=25)

    with torch.no_grad():
        np.testing.assert_allclose(network.eval()(batch[TEST]), result.logits_test, rtol=1e-3, atol=1e-5)


def zero_head(dimension: int) -> nn.Linear:
    """Return a linear layer for two findings that starts at zero."""
    head = nn.Linear(dimension, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def test_end_to_end_learns(backbone: nn.Module, pixels: np.ndarray) -> None:
    """Squares that are in the pictures are found on images that were not trained on."""
    result = tune(backbone, pixels, **END_TO_END, epochs=6)

    assert [True, True] == [roc_auc_score(complete()[TEST, f], result.logits_test[:, f]) > 0.95 for f in (0, 1)]


def test_the_best_epoch_is_taken(backbone: nn.Module, pixels: np.ndarray) -> None:
    """The logits are those of the epoch with the best mean AUROC on validation images, not of the last."""
    result = tune(backbone, pixels, mode="linear", learning_rate=0.5, epochs=8)
    labels = missing_some()[VALID]
    used = ~np.isnan(labels)
    found = np.mean([roc_auc_score(labels[used[:, f], f], result.logits_valid[used[:, f], f]) for f in (0, 1)])
    best = max(result.history, key=lambda epoch: epoch.auroc)

    assert best.number < 8 == result.epochs == len(result.history)
    assert best.number == result.best_epoch
    assert math.isclose(best.auroc, found, abs_tol=1e-12)
    assert (
        result.logits_test.tolist()
        == tune(backbone, pixels, mode="linear", learning_rate=0.5, epochs=best.number).logits_test.tolist()
    )


@MODES
def test_equal_seeds_give_equal_results(backbone: nn.Module, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """A seed gives one result, whatever the caller's random numbers are, which stay as they were; another does not."""
    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)

    first = tune(backbone, pixels, **options)

    assert expected == torch.rand(2).tolist()
    assert figures(first) == figures(tune(backbone, pixels, **options))
    assert figures(first) != figures(tune(backbone, pixels, **options, seed=8))


class StoppedError(Exception):
    """Stands for whatever ends a run early."""


def stop_after(number: int) -> Callable[[Epoch], None]:
    """Return a callback that ends the run after some epoch."""

    def stop(epoch: Epoch) -> None:
        if epoch.number == number:
            raise StoppedError

    return stop


@MODES
def test_going_on_equals_not_stopping(
    backbone: nn.Module, pixels: np.ndarray, tmp_path: Path, options: dict[str, Any]
) -> None:
    """A run that was stopped and goes on from its checkpoint gives what an uninterrupted one gives, to the bit."""
    path = tmp_path / "state.safetensors"
    for number in (1, 3):
        with pytest.raises(StoppedError):
            tune(backbone, pixels, **options, epochs=4, checkpoint=path, on_epoch=stop_after(number))
    seen: list[Epoch] = []

    resumed = tune(backbone, pixels, **options, epochs=4, checkpoint=path, on_epoch=seen.append)

    whole = tune(backbone, pixels, **options, epochs=4)
    assert figures(whole) == figures(resumed)
    assert list(whole.history) == seen


@MODES
def test_no_epoch_runs_twice(
    backbone: nn.Module, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """A run that goes on runs the epochs that are left, and a finished one none: its result is read, and small."""
    path = tmp_path / "state.safetensors"
    with pytest.raises(StoppedError):
        tune(backbone, pixels, **options, checkpoint=path, on_epoch=stop_after(2))
    state, ran = path.stat().st_size, []
    monkeypatch.setattr(Training, "run_epoch", counted(Training.run_epoch, ran))

    first, second = (tune(backbone, pixels, **options, checkpoint=path) for _ in range(2))

    assert 1 == len(ran)
    assert (figures(first), first.backbone_sha256) == (figures(second), second.backbone_sha256)
    assert path.stat().st_size < max(state / 2, 6000)


def counted(function: Callable[..., float], calls: list[None]) -> Callable[..., float]:
    """Return the function, noting each call."""

    def wrapped(*arguments: Any) -> float:
        calls.append(None)
        return function(*arguments)

    return wrapped


def test_checkpoints_wait(backbone: nn.Module, pixels: np.ndarray, tmp_path: Path) -> None:
    """Between two writes of the checkpoint lies some time: a short run writes its result alone."""
    path = tmp_path / "state.safetensors"
    seen: list[bool] = []

    tune(backbone, pixels, **LINEAR, checkpoint=path, save_every=600, on_epoch=lambda epoch: seen.append(path.exists()))

    assert ([False] * 3, True) == (seen, path.exists())


def test_going_on_with_dropout(pixels: np.ndarray, tmp_path: Path) -> None:
    """What a network draws while it trains follows from seed and epoch, so that going on changes nothing."""
    network = make_untrained("test_vit", size=SIZE)
    dropped = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    undropped = tune(network, pixels, **END_TO_END, epochs=2)
    for module in dropped:
        module.p = 0.3
    path = tmp_path / "state.safetensors"
    with pytest.raises(StoppedError):
        tune(network, pixels, **END_TO_END, epochs=2, checkpoint=path, on_epoch=stop_after(1))
    torch.rand(5)

    resumed = tune(network, pixels, **END_TO_END, epochs=2, checkpoint=path)

    assert figures(tune(network, pixels, **END_TO_END, epochs=2)) == figures(resumed)
    assert figures(undropped) != figures(resumed)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 8}, "seed"),
        ({"learning_rate": 0.1}, "learning_rate"),
        ({"epochs": 5}, "epochs"),
        ({"train": TRAIN[1:]}, "labels, parts, images"),
        ({"labels": complete()}, "labels"),
        ({"pixels": "inverted"}, "images"),
    ],
    ids=["seed", "rate", "epochs", "parts", "labels", "pixels"],
)
def test_another_runs_checkpoint_is_refused(
    backbone: nn.Module, pixels: np.ndarray, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    """A checkpoint of other settings, labels or images is an error that names what differs."""
    path = tmp_path / "state.safetensors"
    tune(backbone, pixels, **LINEAR, checkpoint=path)
    options = LINEAR | {"checkpoint": path} | {k: v for k, v in change.items() if k != "pixels"}

    with pytest.raises(EvaluationError, match=f"state.safetensors is the snapshot of another training: {named} differ"):
        tune(backbone, 255 - pixels if "pixels" in change else pixels, **options)


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"cut"], ids=["empty", "pickle", "cut"])
def test_a_damaged_checkpoint_is_refused(
    backbone: nn.Module, pixels: np.ndarray, tmp_path: Path, content: bytes
) -> None:
    """A checkpoint that is no whole safetensors file is an error that says to delete it; none is unpickled."""
    path = tmp_path / "state.safetensors"
    tune(backbone, pixels, **LINEAR, checkpoint=path)
    path.write_bytes(path.read_bytes()[:-1] if content == b"cut" else content)

    with pytest.raises(EvaluationError, match="can't be read as the snapshot of a training.*Delete it"):
        tune(backbone, pixels, **LINEAR, checkpoint=path)


def test_a_checkpoint_that_can_not_be_written(backbone: nn.Module, pixels: np.ndarray, tmp_path: Path) -> None:
    """Where the checkpoint can't be written, the run stops and says so."""
    (tmp_path / "file").write_text("")

    with pytest.raises(DiskError):
        tune(backbone, pixels, **LINEAR, checkpoint=tmp_path / "file" / "state.safetensors")


def test_test_labels_are_never_read(backbone: nn.Module, pixels: np.ndarray) -> None:
    """Whatever the labels of the test images are, epoch and logits are the same."""
    labels = missing_some()
    labels[TEST] = 1 - labels[TEST]

    assert figures(tune(backbone, pixels, **LINEAR)) == figures(tune(backbone, pixels, labels, **LINEAR))


def test_a_finding_with_one_class_has_no_logits(backbone: nn.Module, pixels: np.ndarray) -> None:
    """A finding of which the training images show one class has NaN and no part in the choice of the epoch."""
    labels = complete()
    labels[TRAIN, 1] = 0
    result = tune(backbone, pixels, labels, **LINEAR)
    alone = roc_auc_score(labels[VALID, 0], result.logits_valid[:, 0])

    assert [False, True] == np.isnan(result.logits_test).all(axis=0).tolist()
    assert math.isclose(alone, max(epoch.auroc for epoch in result.history), abs_tol=1e-12)


def test_a_finding_with_one_class_in_validation(backbone: nn.Module, pixels: np.ndarray) -> None:
    """A finding of which the validation images show one class is trained, but has no part in the choice."""
    labels = complete()
    labels[VALID, 1] = 0
    result = tune(backbone, pixels, labels, **LINEAR)

    assert not np.isnan(result.logits_test).any()
    assert math.isclose(
        roc_auc_score(labels[VALID, 0], result.logits_valid[:, 0]),
        max(epoch.auroc for epoch in result.history),
        abs_tol=1e-12,
    )


def test_a_last_batch_of_one(pixels: np.ndarray) -> None:
    """Seventeen images in batches of sixteen train, though BatchNorm sees one value a channel of each image."""
    network = make_untrained("test_resnet", size=32)

    result = tune(network, pixels[:, ::2, ::2].copy(), **END_TO_END, train=TRAIN[:17])

    assert np.isfinite(result.logits_test).all()


@given(st.integers(0, 200), st.integers(2, 40), st.integers(0, 5), st.integers(1, 5))
def test_batches_hold_every_row_once(count: int, size: int, seed: int, epoch: int) -> None:
    """An epoch shows every row once, in full batches but for the last, and never a single row beside others."""
    rows = np.arange(count) * 3
    batches = shuffled_batches(rows, size, seed, epoch)

    assert rows.tolist() == sorted(np.concatenate(batches).tolist())
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches[-1]) <= size + 1 and (len(batches[-1]) != 1 or count == 1)


def test_images_without_labels_train_nothing(backbone: nn.Module, pixels: np.ndarray) -> None:
    """A training image without any label changes no result."""
    labels = missing_some()
    labels[TRAIN[:5]] = np.nan

    assert figures(tune(backbone, pixels, labels, **LINEAR, train=TRAIN[5:])) == figures(
        tune(backbone, pixels, labels, **LINEAR)
    )


def test_gradients_may_be_off(backbone: nn.Module, pixels: np.ndarray) -> None:
    """Training works where the caller has switched gradients off."""
    with torch.inference_mode():
        inside = tune(backbone, pixels, **END_TO_END)

    assert figures(tune(backbone, pixels, **END_TO_END)) == figures(inside)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mode": "bitfit"}, "mode: found 'bitfit'"),
        ({"bn_adapt": True}, "bn_adapt: found with 'end-to-end'"),
        ({"epochs": 0}, "found 0 epochs of batches of 16"),
        ({"batch_size": 1}, "batches of 1"),
        ({"pixels": np.zeros((110, 8, 8), np.uint8)}, r"pixels of shape \(110, 8, 8\), expected uint8 or float32"),
        ({"pixels": np.zeros((110, SIZE, SIZE))}, "found float64 pixels"),
        ({"labels": complete()[:50]}, r"labels of shape \(50, 2\) for 110 images"),
        ({"labels": complete() * 2}, "labels of shape .* expected .* of 1, 0 and NaN"),
        ({"labels": np.zeros((110, 2))}, "both classes in the training images"),
        ({"train": TRAIN[:0]}, "both classes in the training images .0 training images have a label"),
        ({"valid": VALID[:1]}, "both classes in the validation images"),
        ({"learning_rate": 1e30}, "the loss of epoch . is (nan|inf), expected a finite one"),
    ],
)
def test_what_can_not_be_trained(backbone: nn.Module, pixels: np.ndarray, change: dict[str, Any], text: str) -> None:
    """Settings, arrays and parts that can't give an answer are errors that say what was expected."""
    change = dict(change)
    images, labels = change.pop("pixels", pixels), change.pop("labels", None)

    with pytest.raises(EvaluationError, match=text):
        tune(backbone, images, labels, **change)


@pytest.mark.parametrize("workers", [0, 1])
def test_frames_and_failures(backbone: nn.Module, tmp_path: Path, workers: int) -> None:
    """Each file becomes what a network is shown; a bad one is an entry among the failures, and its image black."""
    record = backbone.transform.record
    good, bad = tmp_path / "a.png", tmp_path / "b.png"
    good.write_bytes(saved(radiograph(80, 90)))
    bad.write_bytes(b"no picture")
    seen: list[tuple[int, int]] = []
    files = [good, bad, tmp_path / "none.png", good]

    frames = frame_images(files, record, workers=workers, progress=lambda done, total: seen.append((done, total)))

    expected = framing.frame(good, record).pixels
    assert (np.uint8, (4, SIZE, SIZE)) == (frames.pixels.dtype, frames.pixels.shape)
    assert [True, False, False, True] == [np.array_equal(expected, image) for image in frames.pixels]
    assert {1: "unknown-kind", 2: "missing"} == {p: error.code for p, error in frames.failures.items()}
    assert [(1, 4), (2, 4), (3, 4), (4, 4)] == seen


def test_frames_of_both_kinds(backbone: nn.Module) -> None:
    """One image of more than 8 bits makes all of them float32 in [0, 1], each what it is alone."""
    record = backbone.transform.record
    sources = [saved(radiograph(80, 90)), make_dataset(radiograph(80, 90, bits=12)), saved(radiograph(70, 70))]

    frames = frame_images(sources, record)

    alone = [framing.frame(source, record).pixels for source in sources]
    assert [np.uint8, np.float32, np.uint8] == [image.dtype for image in alone]
    assert np.float32 == frames.pixels.dtype
    for expected, image in zip(alone, frames.pixels, strict=True):
        assert torch.equal(to_tensor(expected, record), to_tensor(image, record))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@MODES
def test_a_gpu_gives_nearly_the_same(backbone: nn.Module, pixels: np.ndarray, options: dict[str, Any]) -> None:
    """On a GPU the first epoch's loss is that of a processor, within single precision."""
    processor, gpu = (tune(backbone, pixels, **options, epochs=1, device=device) for device in ("cpu", "cuda"))

    assert math.isclose(processor.history[0].loss, gpu.history[0].loss, rel_tol=1e-2)
    assert processor.logits_test.shape == gpu.logits_test.shape


@pytest.fixture
def tune_all(backbone: nn.Module, pixels: np.ndarray, tmp_path: Path) -> Callable[..., Any]:
    """Fine-tunes for one epoch on draws of all training images, one for each number, and keeps snapshots in ft/."""
    names = [f"{number}.png" for number in range(len(pixels))]
    for name, image in zip(names, pixels, strict=True):
        (tmp_path / name).write_bytes(saved(image))
    parts = np.repeat(["train", "valid", "test"], [len(TRAIN), len(VALID), len(TEST)])
    table = table_of_arrays(complete(), paths=names, splits=parts, image_level=True)
    table = replace(table, root=tmp_path)
    split = make_split(table, load_protocol("default"), 0)
    entry = SimpleNamespace(name="small", load=lambda: backbone)

    def run(*numbers: int, epochs: int = 1) -> Any:
        protocol = load_protocol("default")
        settings = replace(protocol.fine_tuning, epochs=epochs)
        steps = tuple(replace(step, epochs=None) for step in protocol.steps)
        protocol = replace(protocol, fine_tuning=settings, steps=steps)
        draws = [Draw("100 %", number, split.train, split.valid, ()) for number in numbers]
        options: dict[str, Any] = {"seed": 0, "workers": 0, "device": "cpu", "shown": False}
        return tune_draws(entry, table, split, draws, protocol, "linear-bn-adapt", tmp_path / "ft", **options)  # type: ignore[arg-type]

    return run


def test_equal_draws_have_snapshots_of_their_own(tune_all: Callable[..., Any], tmp_path: Path) -> None:
    """Two draws that happen to be of the same images are two trainings, each with its own seed and snapshot."""
    one, two = tune_all(1, 2)

    assert len(list((tmp_path / "ft").iterdir())) == 2
    assert (one.test != two.test).any()


def test_what_changed_is_trained_again(tune_all: Callable[..., Any], tmp_path: Path) -> None:
    """Where a protocol or an image changed since the last run, the same command trains anew instead of stopping."""
    (first,) = tune_all(1)
    tune_all(1, epochs=2)
    (tmp_path / "0.png").write_bytes(saved(radiograph(SIZE, SIZE, seed=500)))
    (replaced,) = tune_all(1)

    assert len(list((tmp_path / "ft").iterdir())) == 3
    assert (first.test != replaced.test).any()


def test_snapshots_of_killed_runs_are_removed(tune_all: Callable[..., Any], tmp_path: Path) -> None:
    """What a killed process left half-written goes with the next run: it is as large as the network."""
    (tmp_path / "ft").mkdir()
    code = "from cxrzoo.sources.owners import TEMPORARY, owner; print(TEMPORARY + owner(), end='')"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    (tmp_path / "ft" / name).write_bytes(b"half")

    tune_all(1)

    assert not (tmp_path / "ft" / name).exists()


def test_draws_that_cannot_be_judged_are_refused_at_once() -> None:
    """Validation images of one class are found before anything is trained; a draw that is left out doesn't matter."""
    table = table_of_arrays([1, 0, 1, 1, 0, 1], image_level=True)
    good = Draw("100 %", 1, np.array([0, 1]), np.array([2, 4]), ())
    lacking = Draw("1 %", 1, np.array([0]), np.array([2, 3]), table.findings)

    check_draws(table, [good, lacking])
    with pytest.raises(EvaluationError, match="both classes in the validation images"):
        check_draws(table, [good, replace(good, valid=np.array([2, 3]))])
