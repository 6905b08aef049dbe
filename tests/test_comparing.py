"""From a table of labels to the report: by the command line, from Python, and from arrays."""

import csv
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cxrzoo
import cxrzoo.evaluation
from cxrzoo.cli import main
from cxrzoo.cli.comparing import describe_command
from cxrzoo.embedding import embed_table
from cxrzoo.errors import EvaluationError, FolderError, RecordError, TableError, UnknownModelError
from cxrzoo.evaluation.bars import bar
from cxrzoo.evaluation.comparison import Comparison, read_comparison
from cxrzoo.evaluation.contenders import list_entries

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
    assert comparison.fractions == ("20 %", "100 %")  # of 48 images, less would be too few
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


def test_a_bad_image_is_a_row_in_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A damaged image is left out for all models, listed by its row and told of first, and the rest is compared."""
    data = make_table(tmp_path / "data", damaged=(3, 150))
    (tmp_path / "data" / "images" / "Meyer^Anna_9.png").unlink()
    arguments = ["compare", "untrained:resnet10t", "--no-floor", "--data", str(data), "--label", "pneumonia"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0

    comparison = read_comparison(tmp_path / "out" / "results.json")
    assert set(comparison.setting.unreadable) == {"4", "10", "151"}
    assert "1 of 160 images could not be read (missing): row 10." in comparison.notes[:2]
    assert [note for note in comparison.notes[:2] if note.endswith("rows 4, 151.")]
    assert "cxrzoo: warning: 1 of 160 images could not be read (missing): row 10\n" in capsys.readouterr().err
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
        (["moco-cxr-resnet18:"], {}, EvaluationError, "no preprocessing named ''"),
        (["moco-cxr-resnet18", "moco-cxr-resnet18:pretrain"], {}, EvaluationError, "are the same model"),
        (["untrained:nosuch"], {}, EvaluationError, "no architecture named 'nosuch'"),
        (["TABLE"], {}, FolderError, "is a file, expected .* `cxrzoo convert` makes a folder"),
        (["STORE"], {"floor": "resnet10t"}, EvaluationError, "`--floor untrained:resnet10t`"),
        (["STORE"], {"test_share": 0.4}, EvaluationError, "a table that gives the split"),
        (["STORE"], {"test_share": 0.4, "split": "split.csv"}, EvaluationError, "a split that is replayed"),
        (["STORE"], {"test_share": 1.5, "columns": {"split": ""}}, RecordError, "split: test: found 1.5"),
        (["./nosuch"], {}, FolderError, "is no folder"),
        (["~nosuch/model"], {}, FolderError, "is no folder"),
        (["x" * 300], {}, UnknownModelError, "no model is named"),
        (["STORE"], {"seed": -1}, EvaluationError, "seed: found -1"),
        (["STORE"], {"workers": -1}, EvaluationError, "workers: found -1"),
        (["STORE"], {"title": "bell \a"}, EvaluationError, "letters that can be shown"),
        (["STORE"], {"findings": ["macro=pneumonia", "other"]}, EvaluationError, "a finding named 'macro'"),
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
    given = [{"STORE": stores[0], "TABLE": str(table)}.get(model, model) for model in models]
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


def test_an_array_may_be_the_floor() -> None:
    """Embeddings that are called untrained:… are the floor, and never what is recommended."""
    random = np.random.default_rng(0)
    labels = np.arange(COUNT * 3) % 2
    arrays = {
        "untrained:mine": labels[:, None] + random.normal(0, 1, (len(labels), 2)),
        "mine": random.normal(size=(len(labels), 2)),
    }
    found = cxrzoo.label_efficiency(arrays, labels, patients=np.arange(len(labels)))

    assert [contender.kind for contender in found.contenders] == ["untrained", "store"]
    assert found.recommendation.startswith("Take none of these yet")


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


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("Meyer/out", "out"),
        ("--out=Meyer/out", "--out=out"),
        ("~nosuch/model", "model"),
        ("/" + "x" * 300, "x" * 300),
        ("/", "/"),
        ("table\udcff.csv", "'table?.csv'"),
    ],
)
def test_any_word_makes_a_command(word: str, expected: str) -> None:
    """A folder that is yet to be made is a path too; no word is too long, or of too strange a name, to be written."""
    assert describe_command([word], Path("Meyer/out")) == f"cxrzoo {expected}"


def test_the_baseline_is_the_model_of_that_name(
    table: Path, stores: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A baseline is found by its name first, and only then by how another model was asked for."""
    monkeypatch.chdir(tmp_path)
    noisy, clean = stores
    Path("clean").symlink_to(noisy)  # a store named noisy, asked for as "clean"

    assert (
        cxrzoo.compare(["clean", clean], table, ["pneumonia"], out="out", baseline="clean", **QUICK).baseline == "clean"
    )


def test_a_store_of_other_images_is_refused(tmp_path: Path, stores: list[str]) -> None:
    """A store whose images had the same names but are others is refused, by the first row that shows it."""
    data = make_table(tmp_path / "data")
    image = data.parent / "images" / "Meyer^Anna_6.png"
    image.write_bytes(image.read_bytes() + b"more")

    with pytest.raises(EvaluationError, match="noisy: 1 of 160 images have another size.*row 7 the first"):
        cxrzoo.compare(stores, data, ["pneumonia"], out=tmp_path / "out", **QUICK)


def test_a_store_of_another_table_is_refused(tmp_path: Path, stores: list[str]) -> None:
    """A store that lacks images is refused by the first row of the table that it lacks."""
    data = make_table(tmp_path / "data")
    lines = data.read_text().replace("Meyer^Anna_6.png", "elsewhere.png").replace("Anna_8.png", "Anna_8.dcm")
    data.write_text(lines)

    with pytest.raises(EvaluationError, match="noisy: 2 of 160 images are not .* row 7 of .*cxrzoo embed --data TABLE"):
        cxrzoo.compare(stores, data, ["pneumonia"], out=tmp_path / "out", **QUICK)


def test_images_that_need_a_look_are_told(tmp_path: Path) -> None:
    """Notices of given stores are told once for each code, by the first rows, as a warning and among the notes."""
    from test_store import make_model

    from cxrzoo.embedding import open_store
    from cxrzoo.embedding.parts import Row

    data = make_table(tmp_path / "data")
    with data.open() as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    folders = [str(tmp_path / name) for name in ("one", "two")]
    for number, folder in enumerate(folders):
        model = make_model(weights_sha256=str(number) * 64)
        embed_table(model, data.parent, paths, folder, workers=0)
        store = open_store(folder)
        chosen = paths[3 + number : 10 + number]
        rows = [Row(path, (data.parent / path).stat().st_size, 0, notices=("view",)) for path in chosen]
        store.add(rows, store.read(chosen)[0])

    with pytest.warns(
        cxrzoo.ImageWarning, match=r"8 of 160 images should be looked at \(view\): rows 4, 5, 6, 7, 8, …"
    ):
        found = cxrzoo.compare(folders, data, "pneumonia", out=tmp_path / "out", modes="knn", **QUICK)

    assert found.notes[0] == "8 of 160 images should be looked at (view): rows 4, 5, 6, 7, 8, …"


def test_stores_say_their_model(table: Path, stores: list[str], tmp_path: Path) -> None:
    """A store bears the name of its model beside its own, if they differ, and is the baseline by its own alone."""
    from test_store import make_images, make_model

    names = make_images(tmp_path / "images", 2)
    for folder, model in (("emb", "net"), ("net", "net"), ("other", "mean")):
        embed_table(make_model(model=model), tmp_path / "images", names, tmp_path / folder, workers=0)

    def name(*folders: str) -> list[str]:
        return [entry.name for entry in list_entries([str(tmp_path / folder) for folder in folders])]

    assert name("emb", "other") == ["emb (net)", "other (mean)"]
    assert name("net") == ["net"]
    assert name("emb", "net") == ["emb", "net"]  # of one model: told apart by their folders
    found = cxrzoo.compare(stores[:1], table, ["pneumonia"], out=tmp_path / "out", baseline="noisy", **QUICK)
    assert (found.baseline, found.title) == ("noisy (mean)", "pneumonia: 1 model compared")


def test_the_share_of_the_test_part(tmp_path: Path, stores: list[str]) -> None:
    """`--test-share` draws so many test images in place of the protocol's, and `--column split=` draws at all."""
    data = make_table(tmp_path / "data")
    words = ["compare", stores[0], "--data", str(data), "--label", "pneumonia", "--no-floor", "--no-pictures"]

    assert main([*words, "--column", "split=", "--test-share", ".6", "--out", str(tmp_path / "out")]) == 0
    found = read_comparison(tmp_path / "out" / "results.json")
    assert {part.name: part.images for part in found.setting.parts}["test"] == pytest.approx(0.6 * COUNT, abs=2)
    assert found.setting.protocol["split"]["test"] == 0.6


def test_a_column_without_a_role(capsys: pytest.CaptureFixture[str]) -> None:
    """`--column` needs a role and an equals sign."""
    for word in ("split", "=split"):
        with pytest.raises(SystemExit):
            main(["compare", "a", "--data", "b", "--label", "c", "--column", word])
        assert "expected ROLE=NAME" in capsys.readouterr().err


@pytest.mark.parametrize("shown", [False, True])
def test_bars(shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar counts what was done before, hidden or shown, and is as wide as 80 columns where none are known."""
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((0, 0)))
    monkeypatch.delenv("COLUMNS", raising=False)

    with bar("probes", 10, "draws", shown=shown) as advance:
        advance(4, before=True)
        advance(6)

    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if line.strip()]
    assert bool(lines) == shown
    assert not shown or ("10/10" in lines[-1] and 70 < len(lines[-1]) <= 80)


def test_figures_are_saved(
    table: Path, stores: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--save` hands the figures over with name and address; what no manifest may hold is refused before the work."""
    saved: list[Any] = []
    monkeypatch.setattr("cxrzoo.evaluation.saving.check_place", lambda: None)
    monkeypatch.setattr(
        "cxrzoo.evaluation.saving.save_results",
        lambda comparison, dataset, *, dataset_url: saved.append((dataset, dataset_url)) or [Path("hub/a.toml")],
    )
    words = ["compare", *stores, "--data", str(table), "--label", "pneumonia", "--no-floor", "--no-pictures", "--out"]

    assert main([*words, str(tmp_path / "one"), "--save", "two\nlines"]) == 1
    assert main([*words, str(tmp_path / "one"), "--save", "Set", "--save-url", "ftp://example.org"]) == 1
    assert not (tmp_path / "one").exists()
    assert main([*words, str(tmp_path / "two"), "--save", "Set", "--save-url", "https://example.org"]) == 0
    assert saved == [("Set", "https://example.org")]
    assert "hub/a.toml: results written" in capsys.readouterr().out


def test_without_the_package_that_saves(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the package is missing that writes manifests, `--save` says how to install it."""
    monkeypatch.setitem(sys.modules, "tomlkit", None)
    monkeypatch.delitem(sys.modules, "cxrzoo.evaluation.saving", raising=False)
    monkeypatch.delattr(cxrzoo.evaluation, "saving", raising=False)

    assert main(["compare", "a", "--data", str(table), "--label", "b", "--out", str(tmp_path), "--save", "Set"]) == 1
    assert "takes the package tomlkit" in capsys.readouterr().err


def test_other_schemas_are_refused(compared: tuple[Comparison, Path], tmp_path: Path) -> None:
    """A file of another schema, or none at all, is no comparison."""
    content = dataclasses.asdict(compared[0]) | {"schema": 0}
    (tmp_path / "old.json").write_text(json.dumps(content))
    with pytest.raises(cxrzoo.CxrZooError, match="found schema 0, expected"):
        read_comparison(tmp_path / "old.json")
    with pytest.raises(cxrzoo.CxrZooError, match="can't be read as JSON"):
        read_comparison(tmp_path / "none.json")


def make_arrays(images: int = 600, *, per_patient: int = 2) -> tuple[dict[str, np.ndarray], np.ndarray, list[str]]:
    """Return embeddings of two models, labels of a common finding, and the patient of each image."""
    random = np.random.default_rng(4)
    labels = (random.random(images) < 0.4).astype(float)
    arrays = {name: random.normal(size=(images, 6)) + labels[:, None] * gain for name, gain in (("a", 1), ("b", 0.5))}
    return arrays, labels, [f"p{i // per_patient}" for i in range(images)]


def test_images_without_a_label_are_left_out() -> None:
    """Embeddings of images that have no label at all are left out together with them."""
    arrays, labels, patients = make_arrays(900)
    gaps = labels.copy()
    gaps[::7] = np.nan
    used = np.flatnonzero(~np.isnan(gaps))
    found = cxrzoo.label_efficiency(arrays, gaps, patients=patients)
    fewer = cxrzoo.label_efficiency(
        {name: array[used] for name, array in arrays.items()}, labels[used], patients=[patients[i] for i in used]
    )

    assert found.points == fewer.points


def test_few_patients_with_a_finding_are_told() -> None:
    """Many images of few patients are told of; too few for every replicate are refused, by the finding."""
    arrays, labels, _ = make_arrays()
    labels = np.repeat([1.0, 0.0], 300)
    splits = ["train"] * 100 + ["test"] * 200 + ["train"] * 60 + ["valid"] * 40 + ["test"] * 200
    owners = {
        count: [f"p{i // (200 // count)}" if 100 <= i < 300 else f"q{i}" for i in range(600)] for count in (4, 20)
    }

    found = cxrzoo.label_efficiency(arrays, labels, patients=owners[20], splits=splits)
    assert [note for note in found.notes if "Fewer than 40 test patients" in note and "finding 1 20" in note]
    with pytest.raises(EvaluationError, match=r"finding 1: found \d+ of 2000 replicates without a positive"):
        cxrzoo.label_efficiency(arrays, labels, patients=owners[4], splits=splits)


def test_one_may_be_given_as_it_is() -> None:
    """A finding and a mode alone need no list; embeddings without names are refused, saying what to give."""
    arrays, labels, patients = make_arrays()
    options: dict[str, Any] = {"patients": patients, "test_share": 0.5}

    found = cxrzoo.label_efficiency(arrays, labels, findings="edema", modes="knn", **options)

    assert (found.findings, found.modes) == (("edema",), ("knn",))
    assert {part.name: part.images for part in found.setting.parts}["test"] == pytest.approx(300, abs=2)
    with pytest.raises(EvaluationError, match=r"found ndarray, expected arrays by name. Give {'name': array}"):
        cxrzoo.label_efficiency(arrays["a"], labels, **options)


def test_a_finding_that_cannot_be_learned_is_refused() -> None:
    """A finding that no training image has is refused by its name, and not left to be NaN."""
    arrays, labels, patients = make_arrays()
    labels[:300] = 0
    splits = ["train"] * 250 + ["valid"] * 50 + ["test"] * 300

    with pytest.raises(EvaluationError, match="finding 1: at every label fraction a draw has no training image"):
        cxrzoo.label_efficiency(arrays, labels, patients=patients, splits=splits)


def test_images_taken_one_by_one_are_drawn_one_by_one() -> None:
    """Where each image is a patient of its own, the setting says that replicates draw rows."""
    arrays, labels, _ = make_arrays()

    assert cxrzoo.label_efficiency(arrays, labels, image_level=True).setting.clusters == "row"


def test_departures_from_a_protocol_are_told() -> None:
    """A step that is larger than the table, and studies that it doesn't name, are told of."""
    arrays, labels, patients = make_arrays()
    notes = [
        " ".join(cxrzoo.label_efficiency(arrays, labels, patients=patients, protocol=protocol).notes)
        for protocol in ("dvme", "moco-cxr")
    ]

    assert "Left out, since of 480 training images it would be too few, or all: 500 images." in notes[0]
    assert "the table names none" in notes[1]


def test_temperature_is_fitted_on_studies() -> None:
    """Where studies are scored, the temperature is that of the validation studies, too."""
    from cxrzoo.evaluation.comparison import Contender
    from cxrzoo.evaluation.sampling.draws import draw_subsets
    from cxrzoo.evaluation.sampling.protocols import load_protocol
    from cxrzoo.evaluation.sampling.splits import make_split
    from cxrzoo.evaluation.statistics.metrics import fit_temperature
    from cxrzoo.evaluation.tables import table_of_arrays
    from cxrzoo.evaluation.trials import Trial, conclude, probe

    arrays, labels, patients = make_arrays()
    splits = ["train"] * 150 + ["valid"] * 150 + ["test"] * 300
    table = table_of_arrays(labels, patients=patients, studies=patients, splits=splits)
    protocol = load_protocol("moco-cxr")
    split = make_split(table, protocol, 0)
    trial = Trial(table, split, draw_subsets(table, split, protocol, 0), protocol, 0)
    probed = probe(trial, {"a": arrays["a"].astype(np.float32)}, ("linear",), shown=False)
    found = conclude(trial, probed, [Contender("a", "store", "", "", "", 6)], "a").calibration[0]

    logits = probed["a", "linear"][-1].valid[:, 0].reshape(-1, 2).max(axis=1)
    assert found.temperature == fit_temperature(labels[150:300].reshape(-1, 2).max(axis=1), logits)
