"""What `compare` measured: into the manifests, and from there into cards, documents and the Hub's metadata."""

import dataclasses
import json
import logging
import os
import shutil
import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml

import cxrzoo
from cxrzoo import documents
from cxrzoo._paths import MANIFESTS, RECIPES
from cxrzoo.errors import CxrZooError, DigestError, EvaluationError, RecordError, UnknownModelError
from cxrzoo.evaluation.comparison import (
    MACRO,
    Comparison,
    Contender,
    Difference,
    Interval,
    Mode,
    Part,
    Point,
    Setting,
    write_comparison,
)
from cxrzoo.evaluation.saving import save_results
from cxrzoo.figures import make_model_index, render_measured, render_overview
from cxrzoo.folders import read_folder
from cxrzoo.locations import cache_key
from cxrzoo.manifest import read_manifest
from cxrzoo.registry import describe, list_models
from cxrzoo.results import Measurement
from cxrzoo.sources import Cache

MOCO, PHOTOS = "moco-cxr-resnet18", "imagenet-mobilenetv2"
FLOOR = "untrained:resnet18"
FRACTIONS = ("1 %", "100 %")

SETTING = Setting(
    command="cxrzoo compare moco-cxr-resnet18 imagenet-mobilenetv2 --data labels.csv --label pneumonia --save Kermany",
    created="2025-11-22T10:00:00+00:00",
    seed=7,
    protocol={"name": "default", "summary": "…"},
    table_sha256="a" * 64,
    split_sha256="b" * 64,
    split_origin="given",
    grouped_by="patient",
    uncertain="ignore",
    against=None,
    parts=(
        Part("train", 5000, 2000, {"pneumonia": 3000, "edema": 9}, {"pneumonia": 2000, "edema": 9}),
        Part("test", 624, 400, {"pneumonia": 390, "edema": 100}, {"pneumonia": 230, "edema": 200}),
    ),
    unreadable={},
    replicates=2000,
    clusters="patient",
    specificity=0.9,
    versions={"cxrzoo": "0.1.0", "numpy": "2.4"},
    commit="c" * 40,
)


def contender(model: str, /, **changes: Any) -> Contender:
    """Return a model of the zoo as `compare` describes it, as its manifest says; weights that it leaves open are d…."""
    manifest = describe(model.partition(":")[0])
    variant = model.partition(":")[2] or manifest.default_variant
    made = Contender(
        name=model,
        kind="model",
        weights_sha256=manifest.weights.sha256 if manifest.weights else "d" * 64,
        preprocessing=variant,
        preprocessing_sha256=manifest.preprocessing[variant].digest,
        dimension=512,
        architecture=manifest.architecture,
    )
    return dataclasses.replace(made, **changes)


def untrained() -> Contender:
    """Return the floor."""
    return contender(MOCO, name=FLOOR, kind="untrained", weights_sha256="e" * 64, preprocessing="imagenet")


def make_comparison(
    contenders: tuple[Contender, ...] | None = None,
    *,
    finding: str = "pneumonia",
    mode: Mode = "linear",
    start: float = 0.9,
    **setting: Any,
) -> Comparison:
    """Return a comparison of two models and the floor, whose AUROC are 0.9, 0.95; 0.88, 0.93; 0.86, 0.91."""
    contenders = contenders or (contender(MOCO), contender(PHOTOS), untrained())
    points, differences = [], []
    for i, entry in enumerate(contenders):
        for j, fraction in enumerate(FRACTIONS):
            value = start - 0.02 * i + 0.05 * j
            auroc = Interval(value, value - 0.012345, value + 0.01)
            points.append(Point(entry.name, mode, finding, fraction, (52.4, 5000)[j], 30, 5, auroc, auroc))
            if entry.name != PHOTOS:
                interval = Interval(0.02, 0.01 - 0.02 * j, 0.03) if i == 0 else Interval(-0.02, -0.03, -0.01)
                differences.append(Difference(entry.name, PHOTOS, mode, finding, fraction, interval, j == 0, False))
    return Comparison(
        title="Kermany",
        findings=("pneumonia", "edema"),
        fractions=FRACTIONS,
        modes=(mode,),
        baseline=PHOTOS,
        recommendation="Take it.",
        contenders=contenders,
        points=tuple(points),
        differences=tuple(differences),
        ranking=(),
        calibration=(),
        misses=(),
        notes=(),
        setting=dataclasses.replace(SETTING, **setting),
    )


EXPECTED = Measurement(
    dataset="Kermany",
    finding="pneumonia",
    protocol="default",
    mode="linear",
    metric="AUROC",
    label_fractions=FRACTIONS,
    images=(52.4, 5000.0),
    value=((0.9, 0.8877, 0.91), (0.95, 0.9377, 0.96)),
    test_images=620,
    grouped_by="patient",
    seed=7,
    preprocessing="pretrain",
    preprocessing_sha256=describe(MOCO).preprocessing["pretrain"].digest,
    weights_sha256="d" * 64,
    table_sha256="a" * 64,
    split_sha256="b" * 64,
    command=SETTING.command,
    version="0.1.0",
    commit="c" * 40,
    date="2025-11-22",
    dataset_url="https://example.org/kermany",
    baseline_name=PHOTOS,
    difference=((0.02, 0.01, 0.03), (0.02, -0.01, 0.03)),
    floor_name=FLOOR,
    floor=((0.86, 0.8477, 0.87), (0.91, 0.8977, 0.92)),
)


def copy_hub(target: Path) -> Path:
    """Copy hub/ without its own figures, so that no invented one reaches it and none of its own gets in the way."""
    target.mkdir(parents=True)
    for path in MANIFESTS.iterdir():
        if path.is_file():  # the folders beside them hold weights
            shutil.copy(path, target)
    for path in target.glob("*.toml"):
        path.write_bytes(path.read_bytes().partition(b"\n[[measured]]")[0])
    return target


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """A copy of hub/ in which nothing was measured."""
    return copy_hub(tmp_path / "hub")


def contents(hub: Path) -> dict[str, bytes]:
    """Return what the files of a folder hold."""
    return {path.name: path.read_bytes() for path in hub.iterdir()}


# Into the manifests


def test_figures_are_read_back(hub: Path) -> None:
    """A manifest that was written holds every figure of the comparison, and all that tells how it was measured."""
    written = save_results(make_comparison(), "Kermany", dataset_url="https://example.org/kermany", folder=hub)

    assert [hub / f"{MOCO}.toml", hub / f"{PHOTOS}.toml"] == written
    assert (EXPECTED,) == read_manifest(written[0]).measured


def test_the_baseline_has_no_difference(hub: Path) -> None:
    """The row of the baseline itself names no baseline, and still has the floor beside it."""
    _, path = save_results(make_comparison(), "Kermany", folder=hub)

    (row,) = read_manifest(path).measured
    assert ("", (), FLOOR) == (row.baseline_name, row.difference, row.floor_name)


def test_the_rest_stays_byte_for_byte(hub: Path) -> None:
    """In every manifest of hub/ the figures come after all that was there, comments included."""
    names = [name for name in list_models() if describe(name).preprocessing]
    before = contents(hub)

    written = []
    for name in names:
        written += save_results(make_comparison((contender(name),)), "Kermany", folder=hub)

    assert len(names) == len(written) > 50
    for path in written:
        assert path.read_bytes().startswith(before[path.name] + b"\n[[measured]]\n")
    assert {path.name for path in written} == {name for name, text in contents(hub).items() if text != before[name]}


def test_saving_twice_changes_nothing(hub: Path) -> None:
    """The same comparison saved again gives the same bytes."""
    save_results(make_comparison(), "Kermany", folder=hub)
    before = contents(hub)

    save_results(make_comparison(), "Kermany", folder=hub)

    assert before == contents(hub)


def test_a_newer_figure_replaces_the_older(hub: Path) -> None:
    """A row of the same task is replaced where it stands; its comment and the rows around it stay as they were."""
    path = hub / f"{MOCO}.toml"
    for dataset in ("NIH", "Kermany", "Shenzhen"):
        save_results(make_comparison(), dataset, folder=hub)
    commented = path.read_text().replace('\n[[measured]]\ndataset = "K', '\n# Mine.\n[[measured]]\ndataset = "K')
    path.write_text(commented)

    save_results(make_comparison(start=0.8, seed=8), "Kermany", folder=hub)

    rows = read_manifest(path).measured
    assert [("NIH", 0.9, 7), ("Kermany", 0.8, 8), ("Shenzhen", 0.9, 7)] == [
        (row.dataset, row.value[0][0], row.seed) for row in rows
    ]
    first, second, third = commented.split('[[measured]]\ndataset = "')[1:]
    text = path.read_text()
    assert text.startswith(commented.partition('# Mine.\n[[measured]]\ndataset = "Kermany"\n')[0])
    assert text.endswith(third) and "# Mine.\n" in first and second not in text
    assert "\n\n# Mine.\n[[measured]]\n" in text


@pytest.mark.parametrize(
    "other",
    [
        make_comparison(finding="edema"),
        make_comparison(mode="knn"),
        make_comparison(protocol={"name": "moco-cxr"}),
        make_comparison(against="no_finding"),
        make_comparison((contender(f"{MOCO}:paper_finetune"),)),
    ],
    ids=["finding", "mode", "protocol", "against", "preprocessing"],
)
def test_other_tasks_stand_beside(hub: Path, other: Comparison) -> None:
    """A row of another finding, mode, protocol, control or preprocessing is added, not replaced."""
    save_results(make_comparison(), "Kermany", folder=hub)
    before = read_manifest(hub / f"{MOCO}.toml").measured

    save_results(other, "Kermany", folder=hub)

    after = read_manifest(hub / f"{MOCO}.toml").measured
    assert (before, 2) == (after[:1], len(after))


def test_both_variants_of_one_model(hub: Path) -> None:
    """Two preprocessings of one model, compared at once, give its manifest a row each."""
    both = (contender(MOCO), contender(f"{MOCO}:paper_finetune"))

    (path,) = save_results(make_comparison(both), "Kermany", folder=hub)

    assert ["pretrain", "paper_finetune"] == [row.preprocessing for row in read_manifest(path).measured]


def test_the_mean_of_all_findings(hub: Path) -> None:
    """The mean over findings says which they are, and counts all test images."""
    path, _ = save_results(make_comparison(finding=MACRO), "Kermany", folder=hub)

    (row,) = read_manifest(path).measured
    assert (("pneumonia", "edema"), 624, "mean of 2 findings") == (row.findings, row.test_images, row.task)


def test_modes_are_those_of_compare() -> None:
    """A manifest can hold a figure of every mode that `compare` has."""
    assert typing.get_args(Mode) == typing.get_args(typing.get_type_hints(Measurement)["mode"])


def test_what_is_not_of_the_zoo_is_left_alone(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder or a store of the user's own is not saved, and a warning says so; the floor goes without one."""
    others = (contender(MOCO), contender(MOCO, name="my-folder"), contender(PHOTOS, kind="store"), untrained())
    before = contents(hub)

    with caplog.at_level(logging.WARNING, "cxrzoo"):
        written = save_results(make_comparison(others), "Kermany", folder=hub)

    assert [f"{MOCO}.toml"] == [path.name for path in written]
    assert {f"{MOCO}.toml"} == {name for name, text in contents(hub).items() if text != before[name]}
    warned = [record.getMessage().partition(" ")[0] for record in caplog.records]
    assert ["my-folder", PHOTOS] == warned


@pytest.mark.parametrize("name", ["my-folder", "../hub/moco-cxr-resnet18", "README"])
def test_no_model_of_the_zoo(hub: Path, name: str) -> None:
    """Where no model of the zoo was compared there is nothing to save, which is an error; no path gets around it."""
    with pytest.raises(UnknownModelError, match="expected a model of the zoo"):
        save_results(make_comparison((contender(MOCO, name=name), untrained())), "Kermany", folder=hub)


def test_a_figure_needs_a_commit(hub: Path) -> None:
    """A comparison by code of no known commit is not saved."""
    with pytest.raises(EvaluationError, match="Run the comparison in a git checkout"):
        save_results(make_comparison(commit=None), "Kermany", folder=hub)


@pytest.mark.parametrize(
    ("changes", "telling"),
    [
        ({"architecture": "resnet34"}, "found the architecture 'resnet34', expected 'resnet18'"),
        ({"preprocessing_sha256": "0" * 64}, f"digest {'0' * 64}, expected {EXPECTED.preprocessing_sha256}"),
        ({"preprocessing": "given"}, "the preprocessing 'given' with digest"),
    ],
)
def test_a_namesake_is_refused(hub: Path, changes: dict[str, Any], telling: str) -> None:
    """A network or preprocessing that only shares a name with a model of the zoo is refused, and no file changes."""
    before = contents(hub)

    with pytest.raises(DigestError) as caught:
        save_results(make_comparison((contender(PHOTOS), contender(MOCO, **changes))), "Kermany", folder=hub)

    assert telling in str(caught.value)
    assert before == contents(hub)


def pin_on_the_hub(path: Path) -> None:
    """Pin other weights in the manifest."""
    text = f'\n[hub]\nrepo_id = "o/n"\nrevision = "{"0" * 40}"\nsha256 = "{"f" * 64}"\nsize = 1\n'
    path.write_text(path.read_text() + text)


def pin_in_the_cache(path: Path) -> None:
    """Pin other weights as the first conversion on this machine does."""
    Cache().write_pin(cache_key(read_manifest(path)), {"weights_sha256": "f" * 64})


def measure_before(path: Path) -> None:
    """Save figures of other weights, of another data set."""
    save_results(make_comparison((contender(MOCO, weights_sha256="f" * 64),)), "NIH", folder=path.parent)


@pytest.mark.parametrize(
    ("prepare", "telling"),
    [
        (pin_on_the_hub, "as pinned under [hub]"),
        (pin_in_the_cache, "as pinned at the first conversion here"),
        (measure_before, "as measured before"),
    ],
)
def test_other_weights_are_refused(hub: Path, prepare: Any, telling: str) -> None:
    """Figures of weights that contradict what is known of the model's are refused, and no file changes."""
    prepare(hub / f"{MOCO}.toml")
    before = contents(hub)

    with pytest.raises(DigestError) as caught:
        save_results(make_comparison(), "Kermany", folder=hub)

    assert f"found weights with sha256 {'d' * 64}, expected {'f' * 64}, {telling}" in str(caught.value)
    assert before == contents(hub)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("cxrzoo compare a --data labels.csv  --seed 1", "cxrzoo compare a --data labels.csv  --seed 1"),
        ("cxrzoo compare a --data /home/me/labels.csv", "cxrzoo compare a --data labels.csv"),
        ("cxrzoo compare a --data=~me/x/labels.csv", "cxrzoo compare a --data=labels.csv"),
        ("cxrzoo compare a --data '/home/my name/a b.csv'", "cxrzoo compare a --data 'a b.csv'"),
        (r"cxrzoo compare a --data 'C:\Users\me\labels.csv'", "cxrzoo compare a --data labels.csv"),
        ("cxrzoo compare ../shared/folder --column path=image", "cxrzoo compare ../shared/folder --column path=image"),
    ],
)
def test_the_command_names_no_folder_of_this_machine(hub: Path, given: str, expected: str) -> None:
    """What stands above a file given by its whole path does not reach a manifest, which is published."""
    path, _ = save_results(make_comparison(command=given), "Kermany", folder=hub)

    assert expected == read_manifest(path).measured[0].command


@pytest.mark.parametrize(
    ("changes", "telling"),
    [
        ({"versions": {}}, "version: found '', expected one line"),
        ({"protocol": {}}, "protocol: found '', expected one line"),
        ({"command": "cxrzoo compare 'a"}, "which no shell reads"),
        ({"created": "today"}, "date: found 'today', expected year-month-day"),
        ({"table_sha256": "a"}, "sha256: found 'a'"),
    ],
)
def test_what_no_manifest_may_hold_is_not_written(hub: Path, changes: dict[str, Any], telling: str) -> None:
    """A comparison that lacks what a row needs is refused, and no file changes."""
    before = contents(hub)

    with pytest.raises(RecordError) as caught:
        save_results(make_comparison(**changes), "Kermany", folder=hub)

    assert telling in str(caught.value)
    assert before == contents(hub)


def test_measured_rows_come_last(hub: Path) -> None:
    """A manifest with something after its measured rows is refused rather than rewritten."""
    path, _ = save_results(make_comparison(), "Kermany", folder=hub)
    text = path.read_text()
    table = text[text.index("[licence]") : text.index("# README.md:48")]
    path.write_text(text.replace(table, "") + "\n" + table)
    before = contents(hub)

    with pytest.raises(RecordError, match="Move the measured rows to the end"):
        save_results(make_comparison(), "Kermany", folder=hub)

    assert before == contents(hub)


@pytest.mark.parametrize(
    ("old", "new", "telling"),
    [
        ('dataset = "Kermany"', 'dataset = ""', "dataset: found '', expected one line of text"),
        ('dataset = "Kermany"', 'dataset = "a\\nb"', "dataset: found 'a\\nb', expected one line of text"),
        ('mode = "linear"', 'mode = "guess"', "mode: found 'guess', expected one of 'linear', 'knn'"),
        ('metric = "AUROC"', 'metric = "accuracy"', "metric: found 'accuracy', expected one of 'AUROC'"),
        ('["1 %", "100 %"]', '["1 %"]', "images has 2 entries for 1 label fractions"),
        ("[0.9, 0.8877, 0.91]", "[0.9, 0.8877]", "value[0]: found 2 values, expected 3"),
        ("[0.9, 0.8877, 0.91]", "[0.9, 0.92, 0.91]", "value: found [0.9, 0.92, 0.91], expected [value, lower"),
        ("[0.9, 0.8877, 0.91]", "[90.0, 88.77, 91.0]", "value: found [90, 88.77, 91], expected"),
        ("[0.9, 0.8877, 0.91]", "[nan, nan, nan]", "value: found [nan, nan, nan], expected"),
        ("difference = [[0.02, 0.01, 0.03], ", "difference = [", "difference has 1 entries for 2 label fractions"),
        (f'baseline_name = "{PHOTOS}"\n', "", "baseline_name: found '', expected it beside its figures"),
        ("floor = [[0.86, 0.8477, 0.87], [0.91, 0.8977, 0.92]]", "", "floor_name: found 'untrained:resnet18'"),
        ("test_images = 620", "test_images = 0", "test_images: found 0, expected at least 1"),
        ('date = "2025-11-22"', 'date = "22.11.2025"', "date: found '22.11.2025', expected year-month-day"),
        ('weights_sha256 = "d', 'weights_sha256 = "x', "expected 64 lower-case hexadecimal digits"),
        ('commit = "c', 'origin = "c', "unknown field 'origin'"),
        ('url = "https://example', 'url = "http://example', "expected an address that starts with https://"),
        ('preprocessing = "pretrain"', 'preprocessing = "paper_finetune"', "is none of pretrain, paper_finetune"),
        ("mean = [0.5020, ", "mean = [0.5021, ", "the preprocessing 'pretrain' with digest"),
    ],
)
def test_a_wrong_field_is_refused(hub: Path, old: str, new: str, telling: str) -> None:
    """A manifest with one wrong field in a measured row is refused, and the text names file and field."""
    path, _ = save_results(make_comparison(), "Kermany", dataset_url="https://example.org/kermany", folder=hub)
    above, header, row = path.read_text().partition("[[measured]]")
    assert old in above + row
    text = above + header + row.replace(old, new, 1) if old in row else above.replace(old, new, 1) + header + row
    path.write_text(text)

    with pytest.raises(RecordError) as caught:
        read_manifest(path)

    assert str(caught.value).startswith(f"hub/{MOCO}.toml: ")
    assert telling in str(caught.value)


def test_rows_of_two_weights_are_refused(hub: Path) -> None:
    """A manifest whose measured rows are of two files of weights is refused; so is one with a row twice."""
    path, _ = save_results(make_comparison(), "Kermany", folder=hub)
    text = path.read_text()
    row = text[text.index("[[measured]]") :]

    path.write_text(f"{text}\n{row.replace('d' * 64, 'f' * 64)}")
    with pytest.raises(RecordError, match="found figures of the weights d{16} and f{16}, expected one"):
        read_manifest(path)

    path.write_text(f"{text}\n{row}")
    with pytest.raises(RecordError, match="Kermany, pneumonia, linear: found twice with one protocol"):
        read_manifest(path)


# Out of the manifests


def test_rows_of_a_model() -> None:
    """A model's section has a line for each label fraction, with interval, difference and floor."""
    text = render_measured(MOCO, [EXPECTED])

    assert f"### {MOCO}: measured by this project\n" in text
    assert "**[Kermany](https://example.org/kermany)**, protocol `default`, split by patient, preprocessing " in text
    line = "| pneumonia | linear | 1 % | 52 | 620 | 0.900 (0.888, 0.910) | 0.020 (0.010, 0.030) to imagenet-mobilenetv2"
    assert f"{line} | 0.860 (0.848, 0.870) |\n" in text
    assert f"```sh\n{SETTING.command}\n```" in text
    assert f"at commit `{'c' * 40}`, 2025-11-22" in text


def test_runs_are_kept_apart() -> None:
    """Rows of two runs have a table and a command each."""
    later = dataclasses.replace(EXPECTED, dataset="NIH", dataset_url="", command="cxrzoo compare b", against="normal")

    text = render_measured(MOCO, [EXPECTED, later])

    assert 2 == text.count("| finding |") == text.count("```sh")
    assert "**NIH**" in text and "| pneumonia against normal |" in text


def test_no_minus_zero() -> None:
    """A difference that rounds to nothing has no sign."""
    row = dataclasses.replace(EXPECTED, difference=((-0.0004, -0.0004, 0.0004),) * 2)

    assert "0.000 (0.000, 0.000) to" in render_measured(MOCO, [row])
    assert "-0.000" not in render_measured(MOCO, [row])


def test_overview(hub: Path) -> None:
    """All models of a comparison stand in one table, the floor last; a mark only where the interval excludes 0."""
    third = contender("biovil-resnet50")
    paths = save_results(make_comparison((contender(MOCO), contender(PHOTOS), third, untrained())), "K", folder=hub)

    text = render_overview([read_manifest(path) for path in paths])

    *_, table = text.strip().split("\n\n")
    assert table.splitlines() == [
        "| model | 1 % (52 images) | 100 % (5,000 images) |",
        "| --- | --- | --- |",
        "| `moco-cxr-resnet18` | 0.900 (0.888, 0.910) ▲ | 0.950 (0.938, 0.960) |",
        "| `imagenet-mobilenetv2` | 0.880 (0.868, 0.890) | 0.930 (0.918, 0.940) |",
        "| `biovil-resnet50` | 0.860 (0.848, 0.870) ▼ | 0.910 (0.898, 0.920) ▼ |",
        "| *untrained:resnet18, random weights* | 0.840 (0.828, 0.850) | 0.890 (0.878, 0.900) |",
    ]
    assert "**K: pneumonia**, linear, protocol `default`, split by patient, 620 test images, baseline" in text


def test_overview_compares_like_with_like(hub: Path) -> None:
    """Models that were measured on other splits stand in tables of their own; another variant says its name."""
    save_results(make_comparison((contender(MOCO),)), "Kermany", folder=hub)
    save_results(make_comparison((contender(PHOTOS),), split_sha256="0" * 64), "Kermany", folder=hub)
    save_results(make_comparison((contender(f"{MOCO}:paper_finetune"),)), "Kermany", folder=hub)

    text = render_overview(read_manifest(hub / f"{name}.toml") for name in (MOCO, PHOTOS))

    tables = text.split("**Kermany: ")[1:]
    assert [[f"| `{MOCO}` |", f"| `{MOCO}:paper_finetune` |"], [f"| `{PHOTOS}` |"]] == [
        [line[: line.index("|", 1) + 1] for line in table.splitlines() if line.startswith("| `")] for table in tables
    ]


def test_overview_of_nothing(hub: Path) -> None:
    """Without any figure the overview says so."""
    assert "Nothing has been measured yet.\n" == render_overview([read_manifest(hub / f"{MOCO}.toml")])


def test_metadata_of_the_hub() -> None:
    """huggingface_hub reads the metadata back: each finding apart, each fraction a metric with its interval."""
    from huggingface_hub import ModelCardData

    tricky = dataclasses.replace(EXPECTED, dataset='Küste: "#1"', finding="no: [x]", dataset_url="")
    data = yaml.safe_load(make_model_index(MOCO, [EXPECTED, tricky]))

    card = ModelCardData(**data)

    assert MOCO == card.model_name
    assert [("Kermany", "kermany", "pneumonia")] * 2 + [('Küste: "#1"', "k-ste-1", "no: [x]")] * 2 == [
        (result.dataset_name, result.dataset_type, result.dataset_config) for result in card.eval_results
    ]
    first = card.eval_results[0]
    assert ("image-classification", "roc_auc", 0.9) == (first.task_type, first.metric_type, first.metric_value)
    assert "AUROC (linear, labels: 1 %, protocol default)" == first.metric_name
    assert [0.8877, 0.91] == first.metric_args["interval"]


def test_a_data_set_on_the_hub_has_its_name() -> None:
    """A data set that lies on the Hub is named as there."""
    row = dataclasses.replace(EXPECTED, dataset_url="https://huggingface.co/datasets/owner/kermany")

    assert "type: owner/kermany\n" in make_model_index(MOCO, [row])


def test_no_figures_no_metadata() -> None:
    """Without figures the front matter has no model-index."""
    assert "" == make_model_index(MOCO, [])


# In a checkout, from end to end

CHILD = """
import io, json, sys, contextlib
from pathlib import Path
from cxrzoo import documents
from cxrzoo.cards import render_card
from cxrzoo.cli import main
from cxrzoo.evaluation.comparison import read_comparison
from cxrzoo.evaluation.saving import save_results

folder, *comparisons = sys.argv[1:]
out = {}
for path in comparisons:
    name = Path(path).stem
    try:
        out[f"{name} written"] = [str(path) for path in save_results(read_comparison(Path(path)), name)]
    except Exception as error:
        out[f"{name} error"] = f"{type(error).__name__}: {error}"
    out[f"{name} card"] = render_card(Path(folder))
parts = ("measured", "measurements")
text = "".join(f"<!-- made by `make docs`: {part} -->\\nold\\n<!-- end of {part} -->\\n" for part in parts)
out["documents"] = documents.refresh(text)
with contextlib.redirect_stdout(io.StringIO()) as printed:
    out["status"] = main(["describe", "moco-cxr-resnet18"])
out["describe"] = printed.getvalue()
print(json.dumps(out))
"""


def run_checkout(root: Path, data: Path, *arguments: Path) -> dict[str, Any]:
    """Return what the child above finds, with a copy of the package in `root` and of hub/ and conversion/ in `data`."""
    ignored = shutil.ignore_patterns("_data", "__pycache__")
    shutil.copytree(Path(cxrzoo.__file__).parent, root / "cxrzoo", ignore=ignored)
    copy_hub(data / "hub")
    shutil.copytree(RECIPES, data / "conversion")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "CXRZOO_HOME": str(root / "home")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def write_comparisons(folder: Path, model: Path) -> list[Path]:
    """Write a comparison of other weights than the model folder's, as "others", and one of just these, as "Kermany"."""
    sha256 = read_folder(model).record.weights.sha256
    made = {"others": ("f" * 64,), "Kermany": (sha256,)}
    for name, (weights,) in made.items():
        both = (contender(MOCO, weights_sha256=weights), contender(PHOTOS), untrained())
        write_comparison(folder / f"{name}.json", make_comparison(both))
    return [folder / f"{name}.json" for name in made]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, resnet18_folder: Path) -> dict[str, Any]:
    """What a checkout makes of figures that were saved in it."""
    root = tmp_path_factory.mktemp("checkout")
    _, comparison = write_comparisons(root, resnet18_folder)
    return run_checkout(root, root, resnet18_folder, comparison) | {"root": str(root)}


def test_a_checkout_saves_in_its_hub(checkout: dict[str, Any]) -> None:
    """Without a folder the figures go into hub/ of the checkout that runs."""
    root = Path(checkout["root"])

    assert [str(root / "hub" / f"{name}.toml") for name in (MOCO, PHOTOS)] == checkout["Kermany written"]
    assert "Kermany" == read_manifest(root / "hub" / f"{MOCO}.toml").measured[0].dataset


def test_the_card_has_the_figures(checkout: dict[str, Any]) -> None:
    """The card of a folder shows what was measured of its weights, apart from what its authors published."""
    card = checkout["Kermany card"]

    published = card.index(f"### {MOCO}: what its authors published")
    measured = card.index(f"### {MOCO}: measured by this project")
    assert published < measured < card.index("| pneumonia | linear | 1 % | 52 | 620 | 0.900 (0.888, 0.910) |")


def test_the_card_is_read_by_the_hub(checkout: dict[str, Any]) -> None:
    """The front matter with the figures is what huggingface_hub reads, and the rest of it is as before."""
    from huggingface_hub import ModelCard

    data = ModelCard(checkout["Kermany card"]).data

    assert [0.9, 0.95] == [result.metric_value for result in data.eval_results]
    assert (MOCO, "timm", "other") == (data.model_name, data.library_name, data.license)
    assert "moco" in data.tags


def test_the_documents_have_the_figures(checkout: dict[str, Any]) -> None:
    """`make docs` writes the tables of all comparisons, and the sections of all models that were measured."""
    overview, sections = checkout["documents"].split("<!-- end of measured -->")

    assert f"| `{MOCO}` | 0.900 (0.888, 0.910) ▲ |" in overview and f"| `{PHOTOS}` |" in overview
    assert [f"### {name}: measured by this project" for name in (PHOTOS, MOCO)] == [
        line for line in sections.splitlines() if line.startswith("###")
    ]
    assert "\nold\n" not in checkout["documents"]


def test_describe_shows_the_figures(checkout: dict[str, Any]) -> None:
    """`cxrzoo describe` shows what was measured, with intervals and the command, after what was published."""
    lines = checkout["describe"].splitlines()

    assert 0 == checkout["status"]
    shown = "1 %: 0.900 (0.888 to 0.910), 100 %: 0.950 (0.938 to 0.960)"
    assert [f"measured           Kermany, pneumonia, linear, AUROC at {shown}"] == lines[-2:-1]
    assert f"{'':18} protocol default, 620 test images, 2025-11-22: {SETTING.command}" == lines[-1]


def test_the_card_leaves_out_figures_of_other_weights(tmp_path: Path, resnet18_folder: Path) -> None:
    """A folder whose weights are not those that were measured shows none of the figures, and says so."""
    others, _ = write_comparisons(tmp_path, resnet18_folder)

    card = run_checkout(tmp_path, tmp_path, resnet18_folder, others)["others card"]

    assert f"Other weights of this name were measured, of sha256 `{'f' * 64}`" in card
    assert "0.900 (0.888" not in card and "model-index" not in card


def test_an_installed_package_is_not_written_to(tmp_path: Path, resnet18_folder: Path) -> None:
    """An installed package has no hub/ to save in, and says what to do."""
    _, comparison = write_comparisons(tmp_path, resnet18_folder)

    found = run_checkout(tmp_path, tmp_path / "cxrzoo" / "_data", resnet18_folder, comparison)

    assert found["Kermany error"].startswith("EvaluationError: found an installed package, expected a checkout")
    assert "Nothing has been measured yet." in found["documents"]


def test_empty_parts_of_the_documents() -> None:
    """The parts of the documents can be made from the real hub/ too."""
    part = "<!-- made by `make docs`: {0} -->\n<!-- end of {0} -->\n"

    text = documents.refresh(part.format("measured") + part.format("measurements"))

    assert any(describe(name).measured for name in list_models()) != ("Nothing has been measured yet." in text)


def test_errors_are_ours(hub: Path) -> None:
    """A manifest that is broken already is refused as such."""
    (hub / f"{MOCO}.toml").write_text("name =")

    with pytest.raises(CxrZooError, match="is not valid TOML"):
        save_results(make_comparison(), "Kermany", folder=hub)
