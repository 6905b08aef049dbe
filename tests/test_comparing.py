"""From a table of labels to the report: by the command line, from Python, and from arrays."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cxrzoo
from cxrzoo.cli import main
from cxrzoo.embedding import embed_table
from cxrzoo.errors import EvaluationError, TableError, UnknownModelError
from cxrzoo.evaluation.command import describe_command
from cxrzoo.evaluation.comparison import Comparison, read_comparison

TRAIN, VALID, TEST = 48, 12, 100
COUNT = TRAIN + VALID + TEST
QUICK = {"floor": "", "workers": 0}


def make_table(folder: Path, *, split: bool = True, damaged: tuple[int, ...] = ()) -> Path:
    """Write a table and its images, in which every second patient has a bright lung; return the table."""
    random = np.random.default_rng(5)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(COUNT):
        label = number // 2 % 2
        pixels = random.integers(0, 80, (48, 40), np.uint8)
        pixels[10:30, 5:20] += np.uint8(label * random.integers(0, 90))
        path = folder / "images" / f"Meyer^Anna_{number}.png"
        Image.fromarray(pixels).save(path)
        if number in damaged:
            path.write_bytes(path.read_bytes()[:60])
        part = "train" if number < TRAIN else "valid" if number < TRAIN + VALID else "test"
        row = {"path": f"images/{path.name}", "patient": f"p{number // 2}", "pneumonia": label, "other": number % 2}
        rows.append(row | ({"split": part} if split else {}))
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of 160 images with a split."""
    return make_table(tmp_path_factory.mktemp("table") / "secret-hospital")


@pytest.fixture(scope="module")
def stores(table: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Embedding stores of two networks that look at brightness, one of them through much noise."""
    from test_store import Mean, make_model

    class Noisy(Mean):
        def forward(self, images: Any) -> Any:
            clean = super().forward(images)
            noise = np.random.default_rng(self.seen).normal(0, 2, clean.shape)
            return clean + clean.new_tensor(noise)

    with table.open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    folder = tmp_path_factory.mktemp("stores")
    models = {"noisy": Noisy(make_model(weights_sha256="c" * 64).provenance), "clean": make_model()}
    for name, model in models.items():
        embed_table(model, table.parent, paths, folder / name, workers=0)
    return [str(folder / name) for name in models]


@pytest.fixture(scope="module")
def compared(table: Path, stores: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    """The comparison of the two stores, and its folder."""
    out = tmp_path_factory.mktemp("compared")
    return cxrzoo.compare(stores, table, ["pneumonia"], out=out, modes=("linear", "knn"), **QUICK), out


def test_the_command(table: Path, resnet18_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One command gives report, figures and split; the backbones are what they were before, and nothing is named."""
    out = tmp_path / "out"
    status = main(["compare", str(resnet18_folder), "--data", str(table), "--label", "pneumonia", "--out", str(out)])
    printed = capsys.readouterr()

    assert (status, printed.err) == (0, "")
    comparison = read_comparison(out / "results.json")
    model, floor = comparison.contenders
    assert printed.out.startswith(comparison.recommendation)
    assert (model.name, model.kind, model.architecture) == ("resnet18", "model", "resnet18")
    assert (floor.name, floor.kind) == ("untrained:resnet18", "untrained")
    loaded = cxrzoo.load(resnet18_folder)
    assert model.weights_sha256 == loaded.provenance.weights_sha256
    assert comparison.fractions == ("1 %", "5 %", "20 %", "100 %")
    assert len(list(csv.DictReader((out / "split.csv").open()))) == COUNT
    texts = [(out / name).read_text() for name in ("report.html", "results.json")]
    for text in texts:
        assert not [word for word in ("Meyer", "secret-hospital", str(tmp_path.parent)) if word in text]
    assert "cxrzoo compare resnet18 --data labels.csv --label pneumonia --out out" in texts[0]


def test_figures(compared: tuple[Comparison, Path]) -> None:
    """The model that sees the finding is found to be better, by an interval that excludes 0, in both modes."""
    comparison, _ = compared
    assert comparison.ranking[0].model == "clean"
    assert comparison.recommendation.startswith("Take clean (")
    whole = [d for d in comparison.differences if d.fraction == "100 %"]
    assert {(d.model, d.baseline, d.mode, d.significant) for d in whole} == {
        ("clean", "noisy", mode, True) for mode in ("linear", "knn")
    }
    assert {part.name: part.images for part in comparison.setting.parts} == {
        "train": TRAIN, "valid": VALID, "test": TEST
    }  # fmt: skip
    assert {miss.label for miss in comparison.misses} <= {0, 1}
    assert all((miss.probability > 0.5) != bool(miss.label) for miss in comparison.misses)


def test_json_holds_all_figures(compared: tuple[Comparison, Path]) -> None:
    """results.json read back is the very comparison."""
    comparison, out = compared
    assert read_comparison(out / "results.json") == comparison


def test_same_again(compared: tuple[Comparison, Path], table: Path, stores: list[str], tmp_path: Path) -> None:
    """The same call gives the same figures; another seed gives others."""
    comparison, _ = compared
    again, other = (
        cxrzoo.compare(stores, table, ["pneumonia"], out=tmp_path, modes=("linear", "knn"), seed=seed, **QUICK)
        for seed in (0, 1)
    )

    assert again.points == comparison.points
    assert again.differences == comparison.differences
    assert again.setting.split_sha256 == comparison.setting.split_sha256
    assert other.points != comparison.points


def test_drawn_split_is_replayed(tmp_path: Path, stores: list[str]) -> None:
    """A split that was drawn is saved, and another run with it has the same images and figures, whatever its seed."""
    data = make_table(tmp_path / "data", split=False)
    protocol = tmp_path / "half.toml"
    text = (Path(cxrzoo.__file__).parent / "evaluation/sampling/protocols/default.toml").resolve().read_text()
    text = text.replace('name = "default"', 'name = "half"').replace("test = 0.20", "test = 0.55")
    protocol.write_text(text)
    options: dict[str, Any] = {"protocol": str(protocol), **QUICK}
    first = cxrzoo.compare(stores, data, ["pneumonia"], out=tmp_path / "one", **options)
    second = cxrzoo.compare(
        stores, data, ["pneumonia"], out=tmp_path / "two", split=tmp_path / "one" / "split.csv", seed=0, **options
    )

    assert (first.setting.split_origin, second.setting.split_origin) == ("drawn", "replayed")
    assert first.setting.split_sha256 == second.setting.split_sha256
    assert first.points == second.points


def test_a_bad_image_is_a_row_in_the_report(tmp_path: Path) -> None:
    """A damaged image is left out for all models and listed by its row, and the rest is compared."""
    data = make_table(tmp_path / "data", damaged=(3, 150))
    arguments = ["compare", "untrained:resnet10t", "--no-floor", "--data", str(data), "--label", "pneumonia"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0

    comparison = read_comparison(tmp_path / "out" / "results.json")
    assert set(comparison.setting.unreadable) == {"4", "151"}
    assert {part.name: part.images for part in comparison.setting.parts}["test"] == TEST - 1


def test_too_few_cases_are_refused_before_the_work(table: Path, tmp_path: Path) -> None:
    """Fewer than 40 positives among the test images is an error that says what to do, and nothing was embedded."""
    few = tmp_path / "few.csv"
    few.write_text("\n".join(table.read_text().splitlines()[: TRAIN + VALID + 60]))

    with pytest.raises(
        EvaluationError, match=r"pneumonia: found \d+ positive and \d+ negative test images.*at least 40"
    ):
        cxrzoo.compare(["untrained:resnet10t"], few, ["pneumonia"], out=tmp_path / "out", **QUICK)

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("models", "options", "error", "says"),
    [
        (["moco-cxr-resnet19"], {}, UnknownModelError, "Did you mean"),
        (["untrained:resnet10t", "untrained:resnet10t"], {}, EvaluationError, "given 2 times"),
        (["moco-cxr-resnet18:nosuch"], {}, EvaluationError, "no preprocessing named 'nosuch'"),
        (["untrained:resnet10t"], {"baseline": "other"}, EvaluationError, "baseline: found 'other'"),
        (["STORE"], {"modes": ("end-to-end",)}, EvaluationError, "can't be trained"),
        (["STORE"], {"modes": ("logistic",)}, EvaluationError, "modes: found 'logistic'"),
        (["STORE"], {"findings": ["pneumona"]}, TableError, "Did you mean 'pneumonia'"),
        ([], {}, EvaluationError, "no model"),
    ],
)
def test_what_is_refused(
    models: list[str],
    options: dict[str, Any],
    error: type[Exception],
    says: str,
    table: Path,
    stores: list[str],
    tmp_path: Path,
) -> None:
    """What can't be compared is refused before anything is embedded, by a text that says what to do."""
    given = [stores[0] if model == "STORE" else model for model in models]
    findings = options.pop("findings", ["pneumonia"])

    with pytest.raises(error, match=says):
        cxrzoo.compare(given, table, findings, out=tmp_path / "out", **(QUICK | options))

    assert not (tmp_path / "out").exists()


def test_fine_tuning_goes_on(table: Path, tmp_path: Path) -> None:
    """End-to-end and adapting modes are curves of their own; a second run finds what the first has trained."""
    text = (Path(cxrzoo.__file__).parent / "evaluation/sampling/protocols/default.toml").resolve().read_text()
    head, _, tail = text.partition("[[steps]]")
    tail = tail[tail.index("[subsets]") :]
    protocol = tmp_path / "one.toml"
    protocol.write_text(head.replace('"default"', '"one"') + "[[steps]]\ndraws = 1\nepochs = 1\n\n" + tail)
    options: dict[str, Any] = {"protocol": str(protocol), "modes": ("end-to-end", "linear-bn-adapt"), **QUICK}
    out = tmp_path / "out"
    first = cxrzoo.compare(["untrained:resnet10t"], table, ["pneumonia"], out=out, **options)
    states = {path: path.stat().st_mtime_ns for path in (out / "fine-tuned").iterdir()}
    second = cxrzoo.compare(["untrained:resnet10t"], table, ["pneumonia"], out=out, **options)

    assert {point.mode for point in first.points} == {"end-to-end", "linear-bn-adapt"}
    assert len(states) == 2
    assert states == {path: path.stat().st_mtime_ns for path in (out / "fine-tuned").iterdir()}
    assert first.points == second.points


def test_arrays_give_the_same_figures(compared: tuple[Comparison, Path], table: Path, stores: list[str]) -> None:
    """The figures of arrays are those of the stores with the same embeddings, patients and split."""
    from cxrzoo.embedding import open_store

    with table.open() as file:
        rows = list(csv.DictReader(file))
    arrays = {Path(store).name: open_store(store).read([row["path"] for row in rows])[0] for store in stores}
    found = cxrzoo.label_efficiency(
        arrays,
        [float(row["pneumonia"]) for row in rows],
        findings=["pneumonia"],
        patients=[row["patient"] for row in rows],
        splits=[row["split"] for row in rows],
        modes=("linear", "knn"),
    )

    assert found.points == compared[0].points
    assert found.ranking == compared[0].ranking


@pytest.mark.parametrize(
    ("embeddings", "says"),
    [
        (np.zeros((9, 3)), "found an array of shape"),
        (np.full((COUNT, 2), np.nan), "not finite"),
        (np.zeros(COUNT), "found an array of shape"),
    ],
)
def test_arrays_that_do_not_fit(embeddings: np.ndarray, says: str) -> None:
    """Embeddings of another shape, or with NaN, are refused."""
    with pytest.raises(EvaluationError, match=says):
        cxrzoo.label_efficiency({"a": embeddings}, np.arange(COUNT) % 2, patients=np.arange(COUNT))


def test_command_says_no_folders(tmp_path: Path) -> None:
    """In the command that a report repeats, of every path the last part stays; names and options stay as they are."""
    (tmp_path / "my").mkdir()
    words = ["compare", "moco-cxr-resnet18:pretrain", str(tmp_path / "my"), f"--data={tmp_path}/t.csv", "--seed", "3"]

    assert describe_command(words) == "cxrzoo compare moco-cxr-resnet18:pretrain my --data=t.csv --seed 3"
    assert describe_command(["compare", "hf-hub:org/name"]) == "cxrzoo compare hf-hub:org/name"


def test_other_schemas_are_refused(compared: tuple[Comparison, Path], tmp_path: Path) -> None:
    """A file of another schema, or none at all, is no comparison."""
    content = dataclasses.asdict(compared[0]) | {"schema": 0}
    (tmp_path / "old.json").write_text(json.dumps(content))
    with pytest.raises(cxrzoo.CxrZooError, match="found schema 0, expected"):
        read_comparison(tmp_path / "old.json")
    with pytest.raises(cxrzoo.CxrZooError, match="can't be read as JSON"):
        read_comparison(tmp_path / "none.json")
