"""Protocols: the constants of the papers, and what a protocol of one's own may say."""

from pathlib import Path

import pytest

from cxrzoo.errors import RecordError
from cxrzoo.evaluation.sampling import protocols
from cxrzoo.evaluation.sampling.protocols import Step, list_protocols, load_protocol

DEFAULT = Path(protocols.__file__).resolve().parent / "protocols" / "default.toml"


@pytest.mark.parametrize("name", list_protocols())
def test_every_protocol_is_complete(name: str) -> None:
    """Each protocol is read, bears the name of its file, and says in words what it does and where it is from."""
    protocol = load_protocol(name)

    assert name == protocol.name
    assert protocol.summary.endswith(".") and protocol.source
    assert all(protocol.epochs(step.label) > 0 for step in protocol.steps)


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("default", [("1 %", 5, 96), ("5 %", 5, 54), ("20 %", 5, 32), ("100 %", 1, 18)]),
        ("moco-cxr", [("0.1 %", 5, 220), ("1 %", 5, 95), ("10 %", 5, 41), ("100 %", 1, 18)]),
        ("moco-cxr-shenzhen", [("6.25 %", 8, 49), ("25 %", 4, 30), ("100 %", 1, 18)]),
        ("dvme", [("50 images", 5, 50), ("500 images", 5, 50), ("100 %", 5, 50)]),
    ],
)
def test_steps(name: str, steps: list[tuple[str, int, int]]) -> None:
    """Fractions, draws and epochs are those of the papers."""
    protocol = load_protocol(name)

    assert steps == [(step.label, step.draws, protocol.epochs(step.label)) for step in protocol.steps]


@pytest.mark.parametrize("name", ["default", "moco-cxr-shenzhen"])
def test_epochs_follow_the_papers_curve(name: str) -> None:
    """Epochs that no paper states are 18 * r^-.3637, to the nearest."""
    protocol = load_protocol(name)

    for step in protocol.steps:
        assert round(18 * (step.fraction or 1) ** -0.3637) == protocol.epochs(step.label)


def test_the_papers_bootstrap() -> None:
    """MoCo-CXR draws 500 replicates of rows, and takes sorted positions and the bootstrap's mean."""
    for name in ("moco-cxr", "moco-cxr-shenzhen"):
        bootstrap = load_protocol(name).bootstrap

        assert (500, "row", "positions", "bootstrap mean") == (
            bootstrap.replicates,
            bootstrap.clusters,
            bootstrap.rule,
            bootstrap.estimate,
        )


def test_default_is_by_patient() -> None:
    """The default draws patients, nested, and clusters its bootstrap by patient."""
    protocol = load_protocol("default")

    assert (True, "patient", "stratified") == (protocol.subsets.nested, protocol.subsets.unit, protocol.subsets.how)
    assert (2000, "patient", "percentile", "plain") == (
        protocol.bootstrap.replicates,
        protocol.bootstrap.clusters,
        protocol.bootstrap.rule,
        protocol.bootstrap.estimate,
    )


@pytest.mark.parametrize(
    ("step", "label"),
    [
        (Step(1), "100 %"),
        (Step(1, fraction=1.0), "100 %"),
        (Step(1, fraction=0.0625), "6.25 %"),
        (Step(1, fraction=0.07), "7 %"),
        (Step(1, images=50), "50 images"),
    ],
)
def test_labels_of_steps(step: Step, label: str) -> None:
    """A step is shown as percent or as a number of images."""
    assert label == step.label


def test_unknown_protocol() -> None:
    """An unknown name is answered with the nearest ones and all of them."""
    with pytest.raises(RecordError, match="no protocol is named 'defualt'. Did you mean 'default'.*dvme.*\\.toml"):
        load_protocol("defualt")


def test_missing_file(tmp_path: Path) -> None:
    """A path without a file is said to be one."""
    with pytest.raises(RecordError, match="mine.toml is no file"):
        load_protocol(tmp_path / "mine.toml")


def test_protocol_of_ones_own(tmp_path: Path) -> None:
    """A protocol may be a TOML file of one's own."""
    path = tmp_path / "mine.toml"
    path.write_text(DEFAULT.read_text(encoding="utf-8").replace('name = "default"', 'name = "mine"'), encoding="utf-8")

    assert "mine" == load_protocol(path).name
    assert load_protocol("default").steps == load_protocol(str(path)).steps


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fraction = 0.01", "fraction = 1.5", "fraction: found 1.5, expected above 0, at most 1"),
        ("fraction = 0.01", "fraction = 0.01\nimages = 5", "found fraction and images"),
        ("fraction = 0.01", "images = 0", "images: found 0, expected at least 1"),
        ("fraction = 0.01", "fraction = 0.05", "none twice"),
        ("draws = 1", "draws = 0", "draws: found 0"),
        ("epochs = 96", "epochs = 0", "epochs: found 0"),
        ("test = 0.20", "test = 1.0", "split: test: found 1.0"),
        ("valid = 0.15", "valid = 0.8", "split: valid: found 0.8"),
        ("replicates = 2000", "replicates = 39", "replicates: found 39, expected at least 40"),
        ("strengths = [1e-5,", "strengths = [0.0,", "strengths"),
        ("folds = 5", "folds = 1", "folds: found 1"),
        ("batch_size = 16", "batch_size = 0", "batch_size: found 0"),
        ("learning_rate = 3e-5", "learning_rate = 0.0", "learning_rate: found 0.0"),
        ("specificity = 0.90", "specificity = 1.0", "specificity: found 1.0"),
        ('how = "stratified"', 'how = "balanced"', "balanced subsets are drawn by image"),
        ('how = "stratified"', 'how = "stratified"\nredraw = { ratio = [0.9, 1.2] }', "only independent coins"),
        ('how = "stratified"', 'how = "stratified"\nvalid_share_of_draw = 1.0', "valid_share_of_draw: found 1.0"),
        ("valid = 0.15", "valid = 0.15\nredraw = { ratio = [0.9, 1.2] }", "split: only coins are drawn anew"),
        ('unit = "patient"', 'unit = "hospital"', "found 'hospital', expected one of 'patient', 'image'"),
        ("nested = true", "nestled = true", "unknown field 'nestled'. Did you mean 'nested'"),
        ("name = ", "name ", "not valid TOML"),
    ],
)
def test_malformed_protocols(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A value that makes no sense is refused with the file, the field and what was expected."""
    text = DEFAULT.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "default.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(RecordError, match=f"default.toml.*{message}"):
        load_protocol(path)
