"""Training a backbone without labels: what is read, what is kept, and what survives a killed process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import cxrzoo
from cxrzoo.cli import main
from cxrzoo.errors import PretrainingError, RecordError
from cxrzoo.pretraining.listing import list_images
from cxrzoo.pretraining.plans import Optimisation, list_plans, load_plan
from cxrzoo.pretraining.radiographs import keep_radiographs
from cxrzoo.pretraining.schedules import learning_rate, weight_decay
from cxrzoo.pretraining.training import draw_order

SHAPES = [(40, 40), (40, 60), (70, 50), (64, 64)]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 24 noisy pictures of several shapes, the last two of which are for testing."""
    folder = tmp_path_factory.mktemp("radiographs")
    draws = np.random.default_rng(0)
    rows = []
    for number in range(24):
        height, width = SHAPES[number % 4]
        waves = np.outer(np.sin(np.arange(height) / (3 + number % 5)), np.cos(np.arange(width) / (2 + number % 7)))
        pixels = np.clip(128 + 80 * waves + draws.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
        rows.append(
            {
                "path": f"{number:02}.png",
                "patient": number,
                "effusion": number % 2,
                "kind": "ap" if number % 3 else "pa",
                "split": "test" if number > 21 else "train",
            }
        )
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


#: A plan small enough for a second an epoch.
PLAN = """
name = "small"
summary = "A plan for tests."
method = "moco"
source = "tests"
architecture = "resnet10t"
side = 36

[views]
size = 32
scale = [0.3, 1.0]
flip = 0.5
gamma = 1.5

[moco]
queue = 16
momentum = 0.9

[optimisation]
optimizer = "sgd"
learning_rate = 0.02
batch_size = 4
epochs = 4
schedule = "cosine"
"""

METHODS = {
    "cluster": PLAN.replace('"moco"', '"cluster"')
    .replace(
        "[moco]\nqueue = 16\nmomentum = 0.9",
        "[cluster]\nprototypes = 6\nhidden = 16\ndim = 8\nqueue = 8\nqueue_from = 1\nfreeze = 3\nlocal_crops = 2\n"
        "[cluster.local]\nsize = 32\nscale = [0.05, 0.3]",
    )
    .replace('"resnet10t"', '"resnet18"'),
    "gmml": PLAN.replace('"moco"', '"gmml"')
    .replace("[moco]\nqueue = 16\nmomentum = 0.9", "[gmml]\nalign = 4")
    .replace('"resnet10t"', '"vit_tiny_patch16_224"\narguments = { img_size = 32 }')
    .replace('"sgd"', '"adamw"'),
    "moco": PLAN,
}


def write_plan(folder: Path, text: str = PLAN) -> Path:
    """Write a plan under the name it bears."""
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


def pretrain(plan: Path, table: Path, out: Path, *options: str, method: str = "moco") -> int:
    """Run the command as a user does."""
    return main(
        ["pretrain", method, "--plan", str(plan), "--data", str(table), "--out", str(out), "--workers", "0", *options]
    )


def read_losses(out: Path) -> list[tuple[int, float]]:
    """Return step and loss of each line of a record."""
    lines = (out / "history.jsonl").read_text().splitlines()
    return [(row["step"], row["loss"]) for row in map(json.loads, lines)]


# Images


def test_only_rows_for_training_are_taken(table: Path) -> None:
    """What others test on stays unseen."""
    assert [f"{number:02}.png" for number in range(22)] == list(list_images(table).paths)


def test_a_folder_is_walked(table: Path, tmp_path: Path) -> None:
    """All pictures below it, whatever the depth; hidden files and tables are none."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    for place in ("x.png", "a/y.PNG", "a/b/z", ".hidden.png", "a/notes.txt"):
        (tmp_path / place).write_bytes((table.parent / "00.png").read_bytes())

    assert ("a/b/z", "a/y.PNG", "x.png") == list_images(tmp_path).paths


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """There is nothing to learn from."""
    with pytest.raises(PretrainingError, match="no images"):
        list_images(tmp_path)


def test_modalities_are_counted_by_name(table: Path) -> None:
    """In the order of their names."""
    listing = list_images(table, modality="kind")

    assert ("ap", "pa") == listing.modality_names
    assert [1, 0, 0, 1] == listing.modalities[:4].tolist()


def test_rows_without_labels_stay(table: Path, tmp_path: Path) -> None:
    """They are NaN: the supervised term leaves them out, the others need them."""
    frame = pd.read_csv(table)
    frame["effusion"] = frame["effusion"].astype(float)
    frame.loc[3, "effusion"] = np.nan
    frame.to_csv(tmp_path / "gaps.csv", index=False)

    labels = list_images(tmp_path / "gaps.csv", findings=["effusion"], root=table.parent).labels

    np.testing.assert_array_equal([[0], [1], [0], [np.nan], [0]], labels[:5])


def test_pictures_keep_their_shape(table: Path, tmp_path: Path) -> None:
    """The shorter side is as asked for; the pixels are those of Pillow, and black where a batch is larger."""
    kept = keep_radiographs(list_images(table), tmp_path / "images", 20)

    batch = kept.fetch(np.array([0, 1, 2]))

    assert [[20, 20], [20, 30], [28, 20]] == batch.sizes.tolist()
    assert (3, 28, 30) == tuple(batch.pixels.shape)
    picture = Image.open(table.parent / "01.png").resize((30, 20), Image.Resampling.BILINEAR)
    assert np.array_equal(np.asarray(picture), batch.pixels[1, :20, :30].numpy())
    assert not batch.pixels[1, 20:].any()


def test_pictures_are_read_once(table: Path, tmp_path: Path) -> None:
    """The second time, what was kept is taken."""
    first = keep_radiographs(list_images(table), tmp_path / "images", 20)
    counted: list[int] = []

    second = keep_radiographs(list_images(table), tmp_path / "images", 20, progress=counted.append)

    assert ([], first.sha256) == (counted, second.sha256)


@pytest.mark.parametrize("change", ["side", "image"])
def test_pictures_of_another_list_are_read_anew(table: Path, tmp_path: Path, change: str) -> None:
    """What was kept of other files, or at another size, is not taken."""
    for file in [table, *table.parent.glob("*.png")]:
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = keep_radiographs(list_images(tmp_path / "table.csv"), tmp_path / "images", 20)
    if change == "image":
        Image.new("L", (50, 50)).save(tmp_path / "03.png")

    second = keep_radiographs(list_images(tmp_path / "table.csv"), tmp_path / "images", 24 if change == "side" else 20)

    assert first.sha256 != second.sha256
    assert (24 if change == "side" else 20) == second.sizes[0].min()


def test_the_digest_is_of_pixels_and_not_of_files(table: Path, tmp_path: Path) -> None:
    """Images that were copied, with other times, are the same images."""
    for file in [table, *table.parent.glob("*.png")]:
        (tmp_path / file.name).write_bytes(file.read_bytes())

    first = keep_radiographs(list_images(table), tmp_path / "a", 20)
    second = keep_radiographs(list_images(tmp_path / "table.csv"), tmp_path / "b", 20)

    assert first.sha256 == second.sha256


def test_a_bad_file_is_left_out(table: Path, tmp_path: Path) -> None:
    """It is told of by its row, and the others go on."""
    frame = pd.read_csv(table).head(5)
    for path in frame["path"]:
        (tmp_path / path).write_bytes((table.parent / path).read_bytes())
    (tmp_path / "02.png").write_bytes(b"no picture at all")
    frame.to_csv(tmp_path / "table.csv", index=False)

    kept = keep_radiographs(list_images(tmp_path / "table.csv", findings=["effusion"]), tmp_path / "images", 20)

    assert ([2], 4) == (list(kept.failures), len(kept))
    assert [0, 1, 1, 0] == kept.labels[:, 0].tolist()


def test_a_list_of_bad_files_alone_is_refused(tmp_path: Path) -> None:
    """And nothing is kept of it."""
    (tmp_path / "a.png").write_bytes(b"no picture")

    with pytest.raises(PretrainingError, match="none of 1 images can be read"):
        keep_radiographs(list_images(tmp_path), tmp_path / "kept", 20)
    assert not (tmp_path / "kept").exists()


def test_damaged_pictures_are_refused(table: Path, tmp_path: Path) -> None:
    """A file cut short is not silently black."""
    keep_radiographs(list_images(table), tmp_path / "images", 20)
    (tmp_path / "images" / "pixels.bin").write_bytes(b"abc")

    with pytest.raises(PretrainingError, match="Delete that folder"):
        keep_radiographs(list_images(table), tmp_path / "images", 20)


def test_measured_levels_are_those_of_all_pixels(table: Path, tmp_path: Path) -> None:
    """Mean and standard deviation in [0, 1]."""
    kept = keep_radiographs(list_images(table), tmp_path / "images", 20)
    pixels = np.array(kept.pixels) / 255

    assert (pixels.mean(), pixels.std()) == pytest.approx(kept.measure(), abs=1e-9)


# Plans and schedules


@pytest.mark.parametrize("name", list_plans())
def test_plans_of_the_package_are_valid(name: str) -> None:
    """Each reads, says where it is from, and belongs to a method."""
    plan = load_plan(name)

    assert plan.source
    assert plan.method in ("moco", "cluster", "gmml")


def test_the_plan_of_moco_cxr_is_what_was_launched() -> None:
    """The middle column of the table in the facts: not the defaults of the code, not the text of the paper."""
    plan = load_plan("moco-cxr")

    assert plan.moco is not None
    assert (24_576, 0.999, 0.2, "mlp", 128) == (
        plan.moco.queue,
        plan.moco.momentum,
        plan.moco.temperature,
        plan.moco.head,
        plan.moco.dimension,
    )
    rates = [learning_rate(plan.optimisation, epoch, 1) for epoch in (0, 11, 12, 17, 18, 19)]
    assert [1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6] == pytest.approx(rates)
    assert (16, 20, "adam", 1e-4) == (
        plan.optimisation.batch_size,
        plan.optimisation.epochs,
        plan.optimisation.optimizer,
        plan.optimisation.weight_decay,
    )
    assert ((0.5020,), (0.085585,), 320) == (plan.mean, plan.std, plan.views.size)


def test_changes_of_a_plan_are_checked() -> None:
    """A field that there is not is an error, and one that there is, is changed."""
    assert 7 == load_plan("moco-cxr", {"optimisation.epochs": 7}).optimisation.epochs
    with pytest.raises(RecordError, match="unknown field 'epoch'. Did you mean 'epochs'"):
        load_plan("moco-cxr", {"optimisation.epoch": 7})


def test_an_unknown_plan_is_named_with_those_that_are_near() -> None:
    """A slip of the finger is answered."""
    with pytest.raises(RecordError, match="Did you mean 'moco-cxr'"):
        load_plan("moco-crx")


def test_warm_up_and_cosine() -> None:
    """Linear from .1 to 1 in two epochs of ten steps, then half a cosine down to .2 at the end of ten."""
    optimisation = Optimisation("sgd", 1.0, 4, 10, "cosine", warmup_epochs=2, warmup_from=0.1, final_learning_rate=0.2)

    rates = [learning_rate(optimisation, step, 10) for step in (0, 10, 20, 60, 100)]

    assert [0.1, 0.55, 1.0, 0.6, 0.2] == pytest.approx(rates)


def test_weight_decay_rises() -> None:
    """From .04 to .4 along a cosine."""
    optimisation = Optimisation("adamw", 1.0, 4, 10, "cosine", weight_decay=0.04, final_weight_decay=0.4)

    assert [0.04, 0.22, 0.4] == pytest.approx([weight_decay(optimisation, step, 10) for step in (0, 50, 100)])


# Runs


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_a_model_that_loads(method: str, table: Path, tmp_path: Path) -> None:
    """The folder loads, with the preprocessing of the training; the checkpoint is of the authors' kind."""
    plan = write_plan(tmp_path, METHODS[method])

    assert 0 == pretrain(plan, table, tmp_path / "out", "--epochs", "1", method=method)

    model = cxrzoo.load(tmp_path / "out" / "model")
    assert (3, 32, 32) == tuple(model.transform(table.parent / "01.png").shape)
    facts = json.loads((tmp_path / "out" / "training.json").read_text())
    assert (22, 5, "random") == (facts["images"], facts["steps"], facts["init"])
    assert (tmp_path / "out" / "training.svg").read_text().startswith("<")


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_was_stopped_goes_on_exactly(method: str, table: Path, tmp_path: Path) -> None:
    """Stopped after an epoch of three, the record and the weights are those of a run that was not."""
    plan = write_plan(tmp_path, METHODS[method])
    options = ("--epochs", "3")

    assert 0 == pretrain(plan, table, tmp_path / "whole", *options, method=method)
    assert 0 == pretrain(plan, table, tmp_path / "parts", *options, "--stop-after", "1", method=method)
    assert not (tmp_path / "parts" / "model").exists()
    assert 0 == pretrain(plan, table, tmp_path / "parts", *options, method=method)

    assert read_losses(tmp_path / "whole") == read_losses(tmp_path / "parts")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]


def test_equal_seeds_give_equal_weights_and_others_do_not(table: Path, tmp_path: Path) -> None:
    """On one process of the CPU."""
    plan = write_plan(tmp_path)
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert 0 == pretrain(plan, table, tmp_path / name, "--epochs", "1", "--seed", seed)

    first, second, other = ((tmp_path / name / "model" / "model.safetensors").read_bytes() for name in "abc")
    assert first == second
    assert first != other


@pytest.mark.slow
def test_a_killed_run_goes_on_exactly(table: Path, tmp_path: Path) -> None:
    """Killed without warning twice, its record is that of a run that was not."""
    plan = write_plan(tmp_path)
    command = [sys.executable, "-c", _CHILD, str(plan), str(table)]
    subprocess.run([*command, str(tmp_path / "whole")], check=True, timeout=300)
    for lines in (3, 9):
        child = subprocess.Popen([*command, str(tmp_path / "killed")])
        wait_for_lines(tmp_path / "killed" / "history.jsonl", lines, child)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert len(read_losses(tmp_path / "killed")) < 20

    subprocess.run([*command, str(tmp_path / "killed")], check=True, timeout=300)

    assert read_losses(tmp_path / "whole") == read_losses(tmp_path / "killed")


#: A run that writes its state after each line, and is slow enough to be killed in its middle.
_CHILD = """
import functools, sys, time, torch
from cxrzoo.pretraining import running, training
torch.set_num_threads(1)
running.Training.run = functools.partialmethod(training.Training.run, pause=0.0)
step = training.Training.take_step
def slowly(self, *arguments):
    time.sleep(.05)
    return step(self, *arguments)
training.Training.take_step = slowly
from cxrzoo.cli import main
plan, data, out = sys.argv[1:]
sys.exit(main(["pretrain", "moco", "--plan", plan, "--data", data, "--out", out, "--workers", "0"]))
"""


def wait_for_lines(path: Path, count: int, child: "subprocess.Popen[bytes]") -> None:
    """Wait until a record has so many lines."""
    for _ in range(1200):
        assert child.poll() is None, "the run ended before it was killed"
        if path.exists() and path.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.05)
    raise AssertionError("the run wrote too little in a minute")


def test_a_state_of_another_training_is_refused(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another plan in the same folder would go on from weights that it did not make."""
    plan = write_plan(tmp_path)
    assert 0 == pretrain(plan, table, tmp_path / "out", "--stop-after", "1")

    assert 1 == pretrain(plan, table, tmp_path / "out", "--set", "moco.temperature=0.1")

    assert "another training: plan differ" in capsys.readouterr().err


def test_it_starts_from_a_model(table: Path, tmp_path: Path) -> None:
    """With the weights and the constants of a folder; the facts say which."""
    plan = write_plan(tmp_path)
    assert 0 == pretrain(plan, table, tmp_path / "first", "--epochs", "1")
    start = tmp_path / "first" / "model"

    assert 0 == pretrain(plan, table, tmp_path / "second", "--epochs", "1", "--init", str(start))

    facts = json.loads((tmp_path / "second" / "training.json").read_text())
    model = cxrzoo.load(start)
    assert model.provenance.weights_sha256 == facts["init_sha256"]
    assert list(model.transform.record.mean) == facts["mean"]


def test_a_probe_is_recorded(table: Path, tmp_path: Path) -> None:
    """Before the first step, and after each epoch that is asked for, the neighbours of labelled images."""
    plan = write_plan(tmp_path)

    assert 0 == pretrain(
        plan, table, tmp_path / "out", "--probe", str(table), "--probe-label", "effusion", "--probe-every", "2"
    )

    rows = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert [0, 10, 20] == [row["step"] for row in rows if "knn" in row]
    assert all(0 <= row["knn"] <= 1 for row in rows if "knn" in row)


def test_costs_are_said_before_it_starts(table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Time and memory, from a few steps of a copy."""
    assert 0 == pretrain(write_plan(tmp_path), table, tmp_path / "out", "--epochs", "1")

    assert any(message.startswith("About ") and "of memory" in message for message in caplog.messages)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("optimisation.batch_size=24 moco.queue=48", "22 images for batches of 24"),
        ("architecture=resnet99", "can't be built"),
        ("moco.queue=2", "queue of 2 keys for batches of 4"),
        ("views.size=0", "expected"),
        ("arguments.output_stride=8", "doesn't tell"),
        ("optimisation.learning_rate=nan", "learning_rate: found nan"),
        ("optimisation.momentum=5.0", "below 1"),
        ("optimisation.warmup_epochs=4", "expected fewer"),
        ("kept_after=[9]", "epoch 9"),
        ("optimisation.schedule=linear", "expected one of 'steps', 'cosine'"),
    ],
)
def test_what_cannot_be_trained_is_refused(
    change: str, text: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a sentence, before anything is trained."""
    changes = [word for each in change.split() for word in ("--set", each)]

    assert 1 == pretrain(write_plan(tmp_path), table, tmp_path / "out", *changes)

    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--label", "effusion"], "cluster.supervised"),
        (["--modality", "kind"], "cluster.per_modality"),
        (["--set", "weights.pa=5"], "--modality"),
        (["--set", "weights.lateral=5", "--modality", "kind"], "expected some of ap, pa"),
        (["--set", "weights.pa=0", "--modality", "kind"], "above 0"),
        (["--probe-label", "effusion"], "expected both"),
    ],
)
def test_what_the_plan_has_no_use_for_is_refused(
    options: list[str], text: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Labels that nobody looks at would be thought to have been learned."""
    assert 1 == pretrain(write_plan(tmp_path), table, tmp_path / "out", *options)

    assert text in capsys.readouterr().err


def test_weights_say_how_often_images_are_drawn() -> None:
    """Within one of their share in every epoch, in an order of its own; equal weights give each image once."""
    weights = np.repeat([1.0, 5.0, 2.5], [50, 6, 4])
    share = weights / weights.sum() * len(weights)

    for seed in range(20):
        order = draw_order(weights, np.random.default_rng(seed))
        counts = np.bincount(order, minlength=len(weights))
        assert len(weights) == len(order)
        assert (abs(counts - share) < 1).all()

    total = sum(np.bincount(draw_order(weights, np.random.default_rng(seed)), minlength=60) for seed in range(1000))
    assert np.allclose(total / 1000, share, atol=0.06)
    assert list(range(60)) == sorted(draw_order(np.full(60, 0.1), np.random.default_rng(1)))


def test_a_run_draws_by_the_weights_of_its_plan(table: Path, tmp_path: Path) -> None:
    """Other weights make another run, which a state is not taken into."""
    plan, options = write_plan(tmp_path), ("--epochs", "1", "--modality", "kind", "--set")

    for name, weight in (("even", "1"), ("uneven", "5")):
        assert 0 == pretrain(plan, table, tmp_path / name, *options, f"weights.pa={weight}")

    assert read_losses(tmp_path / "even") != read_losses(tmp_path / "uneven")
    assert 1 == pretrain(plan, table, tmp_path / "even", *options, "weights.pa=5")


def test_labels_and_modalities_are_learned_beside(table: Path, tmp_path: Path) -> None:
    """With a weight for labels and prototypes a modality, the record has the supervised term."""
    plan = write_plan(tmp_path, METHODS["cluster"])
    changes = ("--set", "cluster.supervised=1.0", "--set", "cluster.per_modality=true", "--set", "cluster.prototypes=4")

    assert 0 == pretrain(
        plan, table, tmp_path / "out", "--epochs", "1", *changes, "--label", "effusion", "--modality", "kind",
        method="cluster",
    )  # fmt: skip

    rows = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert all(row["supervised"] > 0 for row in rows)


def test_a_cpu_multiplies_matrices_for_attention(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's fused attention would take longer there, backward."""
    fused, learning = torch.nn.functional.scaled_dot_product_attention, []

    def attend(*arguments: torch.Tensor, **options: float) -> torch.Tensor:
        learning.append(torch.is_grad_enabled())
        return fused(*arguments, **options)

    monkeypatch.setattr("torch.nn.functional.scaled_dot_product_attention", attend)
    assert 0 == pretrain(write_plan(tmp_path, METHODS["gmml"]), table, tmp_path / "out", "--epochs", "1", method="gmml")
    assert not any(learning)

    cxrzoo.load(tmp_path / "out" / "model")(torch.rand(1, 3, 32, 32))
    assert any(learning)  # a model that was loaded does fuse it: it was the right name that was watched


def test_a_plan_of_another_method_is_refused(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what the plan is for."""
    assert 1 == pretrain(write_plan(tmp_path), table, tmp_path / "out", method="gmml")

    assert "cxrzoo pretrain moco" in capsys.readouterr().err


def test_a_diverging_run_stops(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the step, and what to do."""
    options = ("--set", "optimisation.learning_rate=1e30")

    assert 1 == pretrain(write_plan(tmp_path), table, tmp_path / "out", *options)

    assert "Lower the learning rate" in capsys.readouterr().err.replace("\n", " ")


def test_the_callers_random_numbers_are_left_alone(table: Path, tmp_path: Path) -> None:
    """A training in the middle of somebody's program does not move its generator."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    assert 0 == pretrain(write_plan(tmp_path), table, tmp_path / "out", "--epochs", "1")

    assert torch.equal(expected, torch.rand(3))


@pytest.mark.slow
def test_two_processes_train_one_network(table: Path, tmp_path: Path) -> None:
    """By gloo, each with half of the batch: one record, one model; a second start goes on from both states."""
    plan = write_plan(tmp_path)
    command = [
        *(sys.executable, "-m", "cxrzoo", "pretrain", "moco", "--plan", str(plan), "--data", str(table)),
        *("--out", str(tmp_path / "out"), "--workers", "0", "--devices", "2", "--epochs", "2"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    subprocess.run([*command, "--stop-after", "1"], check=True, timeout=300, env=environment)
    states = sorted(path.name for path in (tmp_path / "out" / "state").rglob("*.safetensors"))
    subprocess.run(command, check=True, timeout=300, env=environment)

    assert ["rank-0.safetensors", "rank-1.safetensors"] == states
    assert [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] == [step for step, _ in read_losses(tmp_path / "out")]
    cxrzoo.load(tmp_path / "out" / "model")
