"""Evidence: kept and read back, judged by its figures alone, shown as tables and curves, and of the weights at hand."""

import importlib.util
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest

import cxrzoo
from cxrzoo import documents
from cxrzoo.errors import RecordError
from cxrzoo.evaluation.claims import PLAN, Target, Verdict, judge, read_plan, render_targets
from cxrzoo.evaluation.comparison import Comparison, Contender, Difference, Interval
from cxrzoo.evaluation.exhibits import render_evidence
from cxrzoo.evaluation.plates import draw_evidence
from cxrzoo.evaluation.proofs import (
    FOUND,
    Evidence,
    Race,
    Shift,
    Trace,
    read_all,
    read_evidence,
    summarise,
    write_evidence,
)
from cxrzoo.registry import describe, list_models

DOCS = Path(__file__).resolve().parents[1] / "docs"
OURS, FLOOR = "ours", "untrained:ours"
PLAN_TEXT = """
name = "evidence"
models = ["ours"]
references = ["theirs"]

[[targets]]
claim = "more with few labels"
evidence = "labels"
model = "ours"
baseline = "untrained:ours"
fractions = ["20 %", "100 %", "3 images"]
at_least = 0.08

[[targets]]
claim = "sooner"
evidence = "speed"
model = "ours"
baseline = "untrained:ours"
at_least = 0.5
"""


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """A model that sees the finding, and one that hardly does."""
    random = np.random.default_rng(0)
    labels = (random.random(600) < 0.5).astype(float)
    arrays = {FLOOR: random.normal(size=(600, 3)), OURS: random.normal(size=(600, 3))}
    arrays[OURS][:, 0] += 2 * labels
    arrays[FLOOR][:, 0] += 0.5 * labels
    return cxrzoo.label_efficiency(arrays, labels, findings=["pneumonia"], patients=[*range(600)])


def make_evidence(name: str, **found: object) -> Evidence:
    """Return evidence with these figures."""
    model = Contender(OURS, "model", "a" * 64, "default", "b" * 64, 512)
    models = (model, replace(model, name=FLOOR, kind="untrained"))
    whole = Evidence(name, f"About {name}", "c" * 64, "make it", "2026-01-01T00:00:00", 0, "d" * 40, {}, {}, models)
    return replace(whole, data={"table.csv": "e" * 64}, **found)


def make_race(steps: int | None, seed: int = 0) -> Race:
    """Return a race against a baseline that takes 40 steps."""
    return Race(OURS, FLOOR, seed, 1.0, 0.95, steps, 40, None if steps is None else 1 - steps / 40)


def make_docs(folder: Path, evidence: Sequence[Evidence]) -> Path:
    """Write a plan and evidence as they lie in docs/."""
    (folder / FOUND).mkdir(parents=True)
    (folder / PLAN).write_text(PLAN_TEXT)
    for entry in evidence:
        write_evidence(folder / FOUND, entry)
    return folder


@pytest.fixture(scope="module")
def everything(comparison: Comparison) -> list[Evidence]:
    """One piece of evidence of each kind."""
    traces = [Trace(name, 0, (1, 10, 20), (0.7, 0.5, 0.4), (0.5, 0.8, 0.9)) for name in (OURS, FLOOR)]
    some = Interval(0.9, 0.8, 0.95)
    less, ahead = Interval(-0.05, -0.1, -0.01), Interval(0.03, 0.01, 0.05)
    shifts = [
        shift
        for kind in ("gamma", "rotation")
        for shift in (
            Shift(OURS, kind, 2.0, some, less, FLOOR, ahead, ahead),
            Shift(FLOOR, kind, 2.0, some, less),
        )
    ]
    return [
        make_evidence("labels", comparisons=(comparison,)),
        make_evidence("shifts", shifts=tuple(shifts)),
        make_evidence("speed", traces=tuple(traces), races=(make_race(20), make_race(10, seed=1))),
    ]


def test_evidence_is_read_back(everything: list[Evidence], tmp_path: Path) -> None:
    """What was written is what is read, and the second time the bytes are the same."""
    for evidence in everything:
        path = write_evidence(tmp_path, evidence)
        before = path.read_bytes()

        assert evidence == read_evidence(path)
        assert before == write_evidence(tmp_path, read_evidence(path)).read_bytes()


@pytest.mark.parametrize(("text", "found"), [("{", "can't be read as JSON"), ('{"schema": 7}', "schema 7")])
def test_what_is_no_evidence(text: str, found: str, tmp_path: Path) -> None:
    """A damaged file, or one of another schema, is an error that says what to do."""
    (tmp_path / "x.json").write_text(text)

    with pytest.raises(RecordError, match="Make the evidence anew") as caught:
        read_evidence(tmp_path / "x.json")

    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("found", "met"),
    [
        (Interval(0.08, 0.001, 0.2), True),
        (Interval(0.0799, 0.05, 0.2), False),  # too small
        (Interval(0.09, -0.001, 0.2), False),  # could be nothing
        (Interval(0.09, 0.0, 0.2), False),
        (None, False),
    ],
)
def test_a_target_is_met_by_value_and_interval(found: Interval | None, met: bool) -> None:
    """The difference must be as large as was claimed, and its interval must exclude 0."""
    assert met == Verdict(Target("", "", "", "", 0.08), "20 %", found).met


def test_leads_come_from_the_differences(comparison: Comparison) -> None:
    """At each label fraction the paired difference of that pair is judged; where there is none, nothing was found."""
    target = Target("", "labels", OURS, FLOOR, 0.08, ("20 %", "3 images"))

    first, second = judge(target, [make_evidence("labels", comparisons=(comparison,)), make_evidence("other")])

    (expected,) = [row for row in comparison.differences if (row.model, row.fraction) == (OURS, "20 %")]
    assert (expected.difference, None) == (first.found, second.found)
    assert first.met and not second.met
    assert (
        judge(replace(target, baseline="theirs"), [make_evidence("labels", comparisons=(comparison,))])[0].found is None
    )


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([10, 20, 30], Interval(0.5, 0.25, 0.75)),
        ([10, None, 20], Interval(0.5, -math.inf, 0.75)),
        ([None, None, 20], Interval(-math.inf, -math.inf, 0.5)),
    ],
)
def test_gains_of_seeds_are_summed_up_by_the_median(steps: list[int | None], expected: Interval) -> None:
    """A run that never got there is worse than any other, in the median, too."""
    assert expected == summarise([make_race(step, seed) for seed, step in enumerate(steps)])


def lead(value: float, lower: float, upper: float, fraction: str) -> Difference:
    """Return a difference as a comparison has it."""
    return Difference(OURS, FLOOR, "linear", "pneumonia", fraction, Interval(value, lower, upper), lower > 0, False)


@pytest.mark.parametrize(
    ("few", "many", "steps", "words"),
    [
        ((0.1, 0.05, 0.2), (0.09, 0.01, 0.2), 20, ["met", "met", "not measured yet", "met"]),
        (
            (0.07, 0.05, 0.2),
            (0.09, -0.01, 0.2),
            30,
            ["missed by 0.010", "interval includes 0", "not", "25%"],
        ),
        ((-0.1, -0.2, -0.05), (0.0, 0.0, 0.0), None, ["missed by 0.180", "missed by 0.080", "not", "never got there"]),
    ],
)
def test_verdicts_in_words(
    few: tuple[float, float, float],
    many: tuple[float, float, float],
    steps: int | None,
    words: list[str],
    comparison: Comparison,
    tmp_path: Path,
) -> None:
    """The table of targets says of each whether it was met, or by how much it was missed."""
    judged = replace(comparison, differences=(lead(*few, "20 %"), lead(*many, "100 %")))
    evidence = [make_evidence("labels", comparisons=(judged,)), make_evidence("speed", races=(make_race(steps),))]

    lines = render_targets(make_docs(tmp_path / "docs", evidence)).splitlines()[2:]
    verdicts = [verdict for line in lines for verdict in line.split("|")[-2].split("<br>")]

    assert len(words) == len(verdicts)
    for word, verdict in zip(words, verdicts, strict=True):
        assert word in verdict


def test_tables_show_all_that_was_found(everything: list[Evidence], tmp_path: Path) -> None:
    """Each piece of evidence is a section with its figures, its curves, its digests and its command."""
    docs = make_docs(tmp_path / "docs", everything)

    text = render_evidence(docs)

    for evidence in everything:
        assert f"### {evidence.title}" in text and f"{FOUND}/{evidence.name}.json" in text
        assert [name in text for name in draw_evidence(evidence)] == [True] * len(draw_evidence(evidence))
    assert "Tables: table.csv `eeeeeeeeeeee`." in text
    assert "| `ours` | 0.950 | 0.900 ▲ | +0.030 (+0.010, +0.050) ▲ at 2 |" in text
    assert "| `ours` | `untrained:ours` | 0.950 | 15 | 40 | 62% (50%, 75%) |" in text
    assert "`ours`: the difference to `untrained:ours` is largest with" in text


def test_a_model_that_does_harm_is_said_to(comparison: Comparison, tmp_path: Path) -> None:
    """Where the interval lies below 0 the sentence says worse, and where it includes 0 that nothing is shown."""
    rows = (lead(-0.05, -0.1, -0.01, "20 %"), lead(0.01, -0.01, 0.02, "100 %"))
    rows = (replace(rows[0], significant=True), rows[1])
    evidence = make_evidence("labels", comparisons=(replace(comparison, differences=rows),))

    text = render_evidence(make_docs(tmp_path / "docs", [evidence]))

    assert "largest with all images" in text and "not told from 0 with all images; worse with 20 %." in text


def test_no_difference_is_said_to_be_none(comparison: Comparison, tmp_path: Path) -> None:
    """Where every interval includes 0, no figure is called the largest."""
    rows = (lead(0.05, -0.1, 0.2, "20 %"), lead(0.01, -0.01, 0.02, "100 %"))
    evidence = make_evidence("labels", comparisons=(replace(comparison, differences=rows),))

    text = render_evidence(make_docs(tmp_path / "docs", [evidence]))

    assert "`ours` is not told from `untrained:ours` with any number of labels." in text and "largest" not in text


def test_curves_are_pictures(everything: list[Evidence]) -> None:
    """Every curve is SVG that names the models, and equal figures give equal bytes."""
    for evidence in everything:
        pictures = draw_evidence(evidence)
        for picture in pictures.values():
            ElementTree.fromstring(picture)
            assert "ours" in picture
        assert pictures == draw_evidence(evidence)
    assert ["shifts-gamma.svg", "shifts-rotation.svg"] == list(draw_evidence(everything[1]))


def test_documents_show_the_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`make docs` fills the part between the markers from the plan and the evidence of the checkout."""
    make_docs(tmp_path / "docs", [])
    monkeypatch.setattr("cxrzoo.documents.CHECKOUT", tmp_path)
    text = "".join(f"<!-- made by `make docs`: {part} --><!-- end of {part} -->" for part in ("targets", "evidence"))

    fresh = documents.refresh(text)

    assert "not measured yet" in fresh and "Nothing has been measured yet." in fresh


@pytest.mark.skipif(not DOCS.is_dir(), reason="not in a checkout")
def test_plan_names_models_of_its_own() -> None:
    """Each target of the plan is about one of its models, and about another one beside it."""
    plan = read_plan(DOCS)
    known = {*plan.models, *plan.references, *(f"untrained:{model}" for model in plan.models)}

    for target in plan.targets:
        assert target.model in plan.models and target.baseline in known - {target.model}


@pytest.mark.parametrize("path", sorted((DOCS / FOUND).glob("*.json")), ids=lambda path: path.stem)
def test_evidence_is_of_the_weights_at_hand(path: Path) -> None:
    """No figure is of other weights than those that are handed out, nor of a table that is not named."""
    evidence = read_evidence(path)
    promised = {name: weights.sha256 for name in list_models() if (weights := describe(name).weights)}

    assert {} == {
        model.name: model.weights_sha256
        for model in evidence.models
        if model.name in promised and model.weights_sha256 != promised[model.name]
    }
    assert evidence.data and evidence.name == path.stem
    for name, picture in draw_evidence(evidence).items():
        assert (path.parent / name).read_text(encoding="utf-8") == picture + "\n"


@pytest.fixture
def tables() -> ModuleType:
    """The script that writes the tables of the evidence."""
    path = DOCS / "evidence_tables.py"
    if not path.is_file():
        pytest.skip("not in a checkout")
    spec = importlib.util.spec_from_file_location("evidence_tables", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_left_out_patients_are_for_testing_alone(tables: ModuleType, tmp_path: Path) -> None:
    """One patient in five is tested on, all others are learnt from; of the drift's adults none is a child."""
    (tmp_path / "nih.csv").write_text(
        f"path,patient,age,no_finding,{','.join(tables.OPACITIES)}\n"
        "a,10,40,0,1,0,0,0,0,0\nb,10,40,1,0,0,0,0,0,0\nc,15,17,0,1,0,0,0,0,0\n"
        "d,11,60,0,1,0,0,0,0,1\ne,20,18,1,0,0,0,0,0,0\nf,25,50,0,0,0,0,0,0,0\n"
    )
    (tmp_path / "kermany.csv").write_text("path,label,patient,split\ng,1,10,train\nh,0,7,test\n")

    tables.write_nih(tmp_path, tmp_path / "out" / "nih.csv")
    tables.write_drift(tmp_path, tmp_path / "out" / "drift.csv")

    nih = [line.split(",") for line in (tmp_path / "out" / "nih.csv").read_text().splitlines()[1:]]
    assert ["test", "test", "test", "train", "test", "test"] == [row[-1] for row in nih]
    assert [["1", "1"], ["0", "0"], ["1", "1"], ["1", "1"], ["0", "0"], ["0", "1"]] == [row[2:4] for row in nih]
    drift = [line.split(",") for line in (tmp_path / "out" / "drift.csv").read_text().splitlines()[1:]]
    assert [["g", "train"], ["a", "test"], ["b", "test"], ["e", "test"]] == [[row[0], row[-1]] for row in drift]
    assert not {row[1] for row in drift if row[-1] == "train"} & {row[1] for row in drift if row[-1] == "test"}


def test_evidence_is_listed_by_name(everything: list[Evidence], tmp_path: Path) -> None:
    """All files of the folder are read, in the order of their names, and hold plain JSON."""
    docs = make_docs(tmp_path / "docs", everything[::-1])

    assert ["labels", "shifts", "speed"] == [evidence.name for evidence in read_all(docs)]
    assert "labels" == json.loads((docs / FOUND / "labels.json").read_text())["name"]


#: What each of ours is held against in the README's table, which is written by hand.
STARTS = {
    "moco-opencxr-efficientnet-lite0": "imagenet-efficientnet-lite0:112px",
    "moco-opencxr-resnet18": "untrained:moco-opencxr-resnet18",
    "cluster-opencxr-resnet18": "untrained:moco-opencxr-resnet18",
    "gmml-opencxr-vit": "untrained:gmml-opencxr-vit",
}


@pytest.mark.parametrize("name", STARTS)
def test_the_readme_has_the_figures_of_the_evidence(name: str) -> None:
    """Those with 50 labels, and the median of the steps saved."""
    readme = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    figure = r"\.(\d{3})"
    row = re.search(
        rf"^\| `{name}` \|.*\| {figure}; .* {figure} \| {figure}; .* {figure} \| (.+) \|$", readme, re.MULTILINE
    )
    assert row is not None

    points = [
        point
        for question in ("few-labels-kermany", "few-labels-nih")
        for model in (name, STARTS[name])
        for point in read_evidence(DOCS / FOUND / f"{question}.json").comparisons[0].points
        if (point.model, point.fraction) == (model, "50 images")
    ]
    assert [f"{point.auroc.value:.3f}"[2:] for point in points] == list(row.groups()[:4])

    races = read_evidence(DOCS / FOUND / "convergence.json").races
    saved = summarise([race for race in races if race.model == name])
    assert f"{saved.value * 100:.0f} %" == row[5]
