"""Models of this project: each folder in hub/ is whole, agrees with its manifest and loads; and how they travel."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import shipped
import yaml
from shipped import NAME

import cxrzoo
from cxrzoo import documents, front_matter, locations
from cxrzoo._paths import CHECKOUT, MANIFESTS
from cxrzoo.cards import render_card
from cxrzoo.catalogue import make_row, readiness
from cxrzoo.cli import main
from cxrzoo.errors import DigestError, IncompleteError
from cxrzoo.front_matter import render_licence
from cxrzoo.locations import cache_key, locate
from cxrzoo.manifest import HubFile, Manifest
from cxrzoo.sources import Cache

#: Of all folders together: more would make every clone slow.
MOST_BYTES = 80_000_000
FOLDERS = sorted(path for path in MANIFESTS.iterdir() if path.is_dir() and path.name != "__pycache__")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_shipped_model(folder: Path) -> None:
    """Each folder in hub/ holds what its manifest promises, loads by its name, verifies, and has a fresh card."""
    assert [] == shipped.list_faults(folder)


def test_all_of_them_are_small() -> None:
    """All folders in hub/ together have at most 80 MB."""
    assert sum(file.stat().st_size for folder in FOLDERS for file in folder.rglob("*")) <= MOST_BYTES


def test_what_is_promised_is_there() -> None:
    """A checkout has the folder of each model whose manifest promises weights, and the manifest of each folder."""
    promised = {name for name in cxrzoo.list_models() if cxrzoo.describe(name).weights}

    assert CHECKOUT is None or {folder.name for folder in FOLDERS} == promised


# The same of a model that is made here


@pytest.fixture(scope="module")
def original(resnet18_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a model in it, not to be changed."""
    root = tmp_path_factory.mktemp("original")
    shipped.make_checkout(root, resnet18_checkpoint)
    return root


@pytest.fixture
def checkout(original: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That checkout, as the one that cxrzoo runs from."""
    for _ in shipped.use_checkout(original, monkeypatch):
        yield original


@pytest.fixture
def copied(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The model's folder in a copy of that checkout, which may be changed."""
    shutil.copytree(original, tmp_path / "copy")
    for _ in shipped.use_checkout(tmp_path / "copy", monkeypatch):
        yield tmp_path / "copy" / "hub" / NAME


def test_a_model_as_it_should_be(checkout: Path) -> None:
    """A model that was converted and documented as hub/README.md says has no fault."""
    assert [] == shipped.list_faults(checkout / "hub" / NAME)


def _flip(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[5_000_000] ^= 1
    path.write_bytes(data)


def _edit(pattern: str, new: str) -> Callable[[Path], None]:
    return lambda folder: shipped.edit(folder.with_suffix(".toml"), pattern, new)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (_flip, "DigestError: .*the sha256 is"),
    "other weights promised": (_edit('(?<=\\[weights\\]\nsha256 = ").{8}', "00000000"), r"\[weights\] are not those"),
    "another size promised": (_edit("(?<=^size = )2.*", "7"), r"\[weights\] are not those"),
    "no weights promised": (_edit(r"^\[weights\]\n.*\n.*\n", ""), r"\[weights\] are not those"),
    "a file more": (lambda folder: (folder / "notes.txt").touch(), "holds .*notes.txt"),
    "a card less": (lambda folder: (folder / "README.md").unlink(), "holds config.json, model.safetensors"),
    "an edited card": (lambda folder: (folder / "README.md").write_text("Mine"), "the card is stale"),
    "a picture less": (lambda folder: (folder / "training.svg").unlink(), "the card is stale"),
    "another preprocessing": (_edit("^crop_pct = 1.0", "crop_pct = 0.9"), "preprocessing differs"),
    "another licence": (_edit("^weights = .*", 'weights = "MIT"'), "licence differs"),
    "no licence": (_edit("^rehost = true", ""), "no licence lets the weights be published"),
    "another command": (_edit("open.csv", "closed.csv"), "source differs"),
    "another method": (_edit("^method = .*", 'method = "mocov3"'), "method differs"),
    "another length of the training": (_edit("^epochs = 20", "epochs = 30"), "the card is stale"),
    "no limits": (_edit("^limits = .*", ""), "limits are missing"),
    "no manifest": (lambda folder: _remove(folder.with_suffix(".toml")), "UnknownModelError: no model is named"),
}


def _remove(manifest: Path) -> None:
    manifest.unlink()
    cxrzoo.describe.cache_clear()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("damage", "telling"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_are_found(damage: Callable[[Path], None], telling: str, copied: Path) -> None:
    """Whatever is wrong with a folder in hub/, the test over all of them notices."""
    damage(copied)

    assert any(re.search(telling, fault) for fault in shipped.list_faults(copied))


# By name


def test_found_beside_the_manifest(checkout: Path) -> None:
    """In a checkout the name is enough: the weights lie beside the manifest."""
    location = locate(NAME, Cache())

    assert ("checkout", checkout / "hub" / NAME) == (location.origin, location.path)


def test_other_weights_than_promised(copied: Path) -> None:
    """Weights beside the manifest that are not those it promises are refused before they are read."""
    shipped.edit(copied.with_suffix(".toml"), '(?<=\\[weights\\]\nsha256 = ").{8}', "00000000")

    with pytest.raises(DigestError, match=r"expected 0{8}.*, as promised by hub/.*\.toml beside it\. Take both"):
        cxrzoo.load(NAME)


def test_a_damaged_folder_is_left_alone(copied: Path) -> None:
    """Damaged weights in a checkout are refused, and neither moved nor fetched: the folder is the user's."""
    _flip(copied)

    with pytest.raises(DigestError, match="the sha256 is"):
        cxrzoo.load(NAME)
    assert {"config.json", "model.safetensors", "README.md", "training.svg"} == {p.name for p in copied.iterdir()}


@pytest.mark.parametrize("installed", [True, False], ids=["from a wheel", "in a checkout"])
def test_weights_that_are_not_there(installed: bool, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the weights are not, the error says with what they travel, how to get them, and how to train them anew."""
    shutil.rmtree(copied)
    if installed:
        monkeypatch.setattr(locations, "CHECKOUT", None)
    found = "lie in the repository, not in the installed package"

    with pytest.raises(IncompleteError) as caught:
        cxrzoo.load(NAME)

    text = str(caught.value)
    assert (found if installed else f"are not in this checkout, which has no folder hub/{NAME}") in text
    assert "clone https://example.org/cxrzoo and install the clone with `pip install --editable .`" in text
    assert f"load the folder hub/{NAME} of any clone by its path" in text
    assert "`cxrzoo pretrain moco --plan moco-small-resnet18 --data open.csv --out small`" in text
    assert f"`cxrzoo convert FILE --model {NAME} --out DIR`" in text
    assert not Cache().root.exists() or not any(Cache().root.rglob("*.safetensors"))


def test_the_folder_by_its_path(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package loads the folder of any clone by its path."""
    monkeypatch.setattr(locations, "CHECKOUT", None)

    assert "folder" == cxrzoo.load(checkout / "hub" / NAME).provenance.origin


def test_names_in_the_cache_stay(checkout: Path) -> None:
    """What a manifest says of trainings and promised weights changes no name in the cache."""
    import dataclasses

    manifest = cxrzoo.describe(NAME)
    bare = dataclasses.replace(manifest, weights=None, training=None, training_source=(), reproduces="", limits=())

    assert cache_key(bare) == cache_key(manifest)


# What is said of them


def test_describe(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`describe` says where the model is from, on which images it was trained, how, and what it can't do."""
    assert 0 == main(["describe", NAME])

    lines = [re.sub(r"\s+", " ", line) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "loads by name in a clone of the repository, which holds the weights",
        "released as trained by this project with `cxrzoo pretrain moco --plan moco-small-resnet18 --data open.csv "
        "--out small`",
        "trained on First set: 10,000 images, CC0-1.0, The first hospital, https://huggingface.co/datasets/first/set",
        "trained on Second set: 5,000 images, CC-BY-4.0, Second, Third et al., 2020",
        f"reproduces {cxrzoo.describe(NAME).reproduces}",
        "training started from: random weights",
        "training time: 1.5 hours",
        "training energy and carbon: 1.05 kWh, 420 g of CO2 equivalent; an estimate: 700 W all the time, 400 g a kWh",
        "training code: cxrzoo 0.1.0, commit 19c7b12, 2026-11-22",
        "limits Nobody tried lateral views.",
    ):
        assert line in lines


def test_list_and_tables(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`list` and the tables show such models in a group of their own, with this repository as where they are from."""
    assert 0 == main(["list"])
    listed = capsys.readouterr().out
    table = documents.render_models()

    assert listed.startswith("Load by name in a clone of the repository")
    assert "CC-BY-4.0, re-host  this repository" in listed
    assert f"[this repository](hub/{NAME}) |" in table
    assert "**Load by name in a clone of the repository**" in table


def test_on_the_hub_the_name_is_enough(checkout: Path) -> None:
    """Such a model that was published on the Hub too loads by its name anywhere."""
    import dataclasses

    manifest = cxrzoo.describe(NAME)
    assert manifest.weights is not None
    hub = HubFile("someone/small", "0" * 40, manifest.weights.sha256, manifest.weights.size)

    assert "with the repository" == readiness(manifest)
    assert "by name" == readiness(dataclasses.replace(manifest, hub=hub))
    assert "this repository" == make_row(manifest).file


def test_demo_says_where_it_is_from(checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`demo` says that the weights are this checkout's, and how they were trained."""
    from PIL import Image

    Image.linear_gradient("L").save(tmp_path / "chest.png")

    assert 0 == main(["demo", "--model", NAME, "--image", str(tmp_path / "chest.png"), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert f"{NAME}, from this checkout" in said
    assert "trained by this project with `cxrzoo pretrain moco" in said


# The card


def head_of(card: str) -> dict[str, object]:
    """Return the front matter of a card, as the Hub parses it."""
    found: dict[str, object] = yaml.safe_load(card.split("---\n")[1])
    return found


def test_card(checkout: Path) -> None:
    """The card has the training, its estimate, the picture, the images with licences and whom to name, and limits."""
    card = (checkout / "hub" / NAME / "README.md").read_text()

    for text in (
        "## How it was trained\n\nThe method of arXiv:2010.05352, on other and fewer images: in the manner of it, not",
        "- Images: 12,000\n- Epochs: 20\n- Steps: 3,750\n- Image size: 64 px\n- Seed: 0\n- Time: 1.5 hours\n",
        "- Energy and carbon: 1.05 kWh, 420 g of CO2 equivalent; an estimate: 700 W all the time, 400 g a kWh\n",
        "```sh\ncxrzoo pretrain moco --plan moco-small-resnet18 --data open.csv --out small\n```",
        "](training.svg)",
        "| [First set](https://huggingface.co/datasets/first/set) | 10,000 | CC0-1.0 | The first hospital |",
        "| Second set | 5,000 | CC-BY-4.0 | Second, Third et al., 2020 |",
        "## Limits\n\n- Children were not among the images.\n- Nobody tried lateral views.\n\n## What was proven",
        "- Origin: trained by this project with `cxrzoo pretrain",
        "- Stored in half precision: 20 tensors in float16",
    ):
        assert text in card
    assert "not hosted again" not in card


def test_card_metadata(checkout: Path) -> None:
    """What the Hub reads has licence and data sets by its own names, tags, and no model that this one began with."""
    head = head_of((checkout / "hub" / NAME / "README.md").read_text())

    assert {"library_name", "pipeline_tag", "license", "datasets", "tags"} == set(head)
    assert ("timm", "image-feature-extraction", "cc-by-4.0") == (
        head["library_name"],
        head["pipeline_tag"],
        head["license"],
    )
    assert ["first/set"] == head["datasets"]
    assert ["timm", "transformers", "image-feature-extraction", "moco", "chest-x-ray"] == head["tags"]


@pytest.mark.parametrize(
    ("init", "expected"),
    [("random", None), ("timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"), (NAME, None), ("torchvision's", None)],
)
def test_weights_at_the_start(init: str, expected: str | None, copied: Path) -> None:
    """A repository of the Hub that the training began with is the base model; what the Hub can't know is none."""
    shipped.edit(copied.with_suffix(".toml"), '^init = "random"', f'init = "{init}"')

    card = render_card(copied)

    assert expected == head_of(card).get("base_model")
    assert ("- Started from: random weights" if init == "random" else f"- Started from: {init}") in card


def test_a_published_model_at_the_start(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of the zoo that the training began with is the base model by its name on the Hub, if it is there."""
    import dataclasses

    manifest = cxrzoo.describe(NAME)
    assert manifest.weights is not None and manifest.training is not None
    hub = HubFile("someone/start", "0" * 40, "0" * 64, 1)
    started = dataclasses.replace(manifest, training=dataclasses.replace(manifest.training, init=NAME))
    monkeypatch.setattr(front_matter, "describe", lambda name: dataclasses.replace(manifest, weights=None, hub=hub))

    assert front_matter.render_origins(started).endswith("\nbase_model: someone/start")


def test_a_training_of_ones_own(copied: Path) -> None:
    """A folder of that name with other weights, trained by somebody else, has nothing of our training in its card."""
    shipped.edit(copied.with_suffix(".toml"), '(?<=\\[weights\\]\nsha256 = ").{8}', "00000000")
    config = json.loads((copied / "config.json").read_text())
    config["cxrzoo"]["source_proof"] = "stated"
    from cxrzoo.folders import _own_digest, render_config

    config["cxrzoo"]["digest"] = _own_digest(config)
    (copied / "config.json").write_text(render_config(config))

    card = render_card(copied)

    assert "## How it was trained" not in card and "datasets" not in head_of(card)
    assert ", by the word of whoever converted it" in card


@pytest.mark.parametrize(
    ("licence", "lines"),
    [
        ("Apache-2.0", "license: apache-2.0"),
        ("CC-BY-NC-4.0", "license: cc-by-nc-4.0"),
        ("Some Terms, 2nd ed.", "license: other\nlicense_name: some-terms-2nd-ed."),
        (None, "license: other\nlicense_name: not-stated-by-the-authors"),
    ],
)
def test_licences_in_the_words_of_the_hub(licence: str | None, lines: str) -> None:
    """A licence that the Hub has a name for goes by it; any other is `other` with its name."""
    assert lines == render_licence(licence)


def test_cards_of_other_models_stay(resnet18_folder: Path) -> None:
    """A model that others trained has no section on training, images or limits in its card."""
    titles = re.findall("^## (.*)", (resnet18_folder / "README.md").read_text(), re.MULTILINE)

    assert ["Use", "Preprocessing", "Where it comes from", "What was proven at conversion", "Licences"] == titles


# The command that keeps cards fresh


def run_documents(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run `python -m cxrzoo.documents` in this process."""
    monkeypatch.setattr("sys.argv", ["documents", *arguments])
    return documents._main()


def test_cards_are_made_anew(copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The documents command finds a stale card in a folder of folders, and writes it anew; a missing one too."""
    hub, card = str(copied.parent), copied / "README.md"
    fresh = card.read_text()
    card.write_text("stale")

    assert 1 == run_documents(monkeypatch, hub, "--check")
    assert f"{NAME}/README.md is stale. Run `make docs`.\n" == capsys.readouterr().err
    assert 0 == run_documents(monkeypatch, hub)
    assert fresh == card.read_text()
    card.unlink()
    assert 0 == run_documents(monkeypatch, hub)
    assert fresh == card.read_text()
    assert 0 == run_documents(monkeypatch, hub, "--check")


def test_documents_beside_folders_have_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without model folders has no cards to make."""
    (tmp_path / "README.md").write_text("mine")

    assert 0 == run_documents(monkeypatch, str(tmp_path))
    assert "mine" == (tmp_path / "README.md").read_text()


def test_example_is_read(checkout: Path) -> None:
    """Every field that is for models of this project is in the manifest of these tests."""
    manifest: Manifest = cxrzoo.describe(NAME)

    assert manifest.training is not None
    assert all(value not in (None, "") for value in vars(manifest.training).values())
    assert manifest.weights and manifest.reproduces and manifest.limits and len(manifest.training_source) == 2
