"""The field: every model has a row, and one that can't be loaded says all that is missing."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cxrzoo import documents
from cxrzoo.catalogue import UNKNOWN, Row, group_rows, make_row, readiness
from cxrzoo.cli import main
from cxrzoo.errors import IncompleteError
from cxrzoo.loader import load
from cxrzoo.locations import locate
from cxrzoo.manifest import Manifest, Preprocessing
from cxrzoo.registry import describe, list_models
from cxrzoo.sources import Cache

INCOMPLETE = [name for name in list_models() if readiness(describe(name)) in ("by hand", "incomplete")]

#: What the survey of the field found, each with the number of its files; a name is the beginning of a manifest's.
FIELD = {
    "moco-cxr-": 7,
    "covidprognosis-": 12,
    "c2l-": 1,
    "chess-": 1,
    "medical-mae-": 3,
    "medmae-moco-": 1,
    "eva-x-": 3,
    "chexfound-": 1,
    "rad-dino": 1,
    "cxformer-": 2,
    "dinov2-base-xray-": 1,
    "ark": 3,
    "benchmark-simmim-": 4,
    "benchmark-resnet50-": 4,
    "biovil-": 2,
    "xrv-densenet121-": 7,
    "xrv-resnet50-": 1,
    "radimagenet-": 2,
    "medaug-": 4,
    "gloria-": 2,
    "convirt-": 1,
    "refers-": 1,
    "s2mts2-": 1,
    "chexzero-": 1,
    "mgca-": 1,
    "medklip-": 1,
    "simclr-resnet50": 1,
    "swav-resnet50": 1,
    "dino-vits": 2,
}


@pytest.mark.parametrize("prefix", FIELD)
def test_the_field_is_listed(prefix: str) -> None:
    """Every model that the survey found has a manifest."""
    assert FIELD[prefix] == len(list_models(f"{prefix}*"))


def test_every_model_stands_in_one_group() -> None:
    """The groups hold each model once, those that load by name first."""
    groups = group_rows(map(describe, list_models()))

    assert ["by name", "with the repository", "by hand", "incomplete"] == list(groups)
    assert list_models() == sorted(row.name for rows in groups.values() for row in rows)
    assert all(groups[name] for name in ("by name", "by hand", "incomplete"))


def test_a_row_of_what_is_known() -> None:
    """A row has the facts of the manifest in short."""
    expected = Row(
        name="swav-resnet50",
        what="ResNet-50 after SwAV on ImageNet photographs, 800 epochs: no radiograph",
        method="swav",
        architecture="resnet50",
        input="3×224×224",
        normalisation="0.485 … / 0.228 …",
        licence="not stated",
        rehost="no",
        file="dl.fbaipublicfiles.com",
        address="https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar",
    )

    assert expected == make_row(describe("swav-resnet50"))


def test_a_row_of_what_is_unknown() -> None:
    """What nobody stated is said to be unknown, not left empty."""
    row = make_row(describe("s2mts2-densenet121"))

    assert [UNKNOWN] * 3 == [row.architecture, row.input, row.normalisation]
    assert "incomplete" == readiness(describe("s2mts2-densenet121"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dino-vits8", "ImageNet"),
        ("moco-cxr-resnet18", "0.502 / 0.08558"),
        ("xrv-densenet121-all", "0.5 / 0.0004883"),
        ("biovil-resnet50", "0 / 1, min-max"),
        ("chexfound-vitl16-512", "ImageNet, min-max"),
        ("chexzero-vit-base", "0.398 / 0.3272"),
    ],
)
def test_normalisations_are_told_apart(name: str, text: str) -> None:
    """ImageNet's constants go by their name, others by their numbers."""
    assert text == make_row(describe(name)).normalisation


def test_the_scale_of_torchxrayvision_is_exact() -> None:
    """2048 x - 1024 for pixels in [0, 1] is what its mean and deviation say."""
    preprocessing = describe("xrv-densenet121-all").preprocessing["evaluation"]

    assert ((0.5,), (1 / 2048,)) == (preprocessing.mean, preprocessing.std)


@pytest.mark.parametrize(
    ("name", "resized"),
    [
        ("ark6-swin-base", 256),
        ("ark-plus-swin-large", 896),
        ("biovil-resnet50", 512),
        ("biovil-t-resnet50", 512),
        ("eva-x-tiny", 256),
        ("dino-vits16", 256),
    ],
)
def test_images_are_resized_as_upstream(name: str, resized: int) -> None:
    """The share of the crop stands for the very size that upstream resizes to."""
    from cxrzoo.geometry import resized_shape

    preprocessing: Preprocessing = describe(name).preprocessing[describe(name).default_variant]

    assert (resized, resized) == resized_shape(1000, 1000, preprocessing)


# Models that can't be loaded by their names


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection fails the test."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", INCOMPLETE)
@pytest.mark.usefixtures("no_network")
def test_what_is_missing_is_said(name: str, tmp_path: Path) -> None:
    """Who asks for a model that can't be made is told each gap, where the file is, and what to run; nothing is made."""
    manifest = describe(name)

    with pytest.raises(IncompleteError) as caught:
        locate(name, Cache(tmp_path))

    text = str(caught.value)
    for fact, known in manifest.unknown.items():
        assert f"its {fact} is missing: {known}" in text
    assert (manifest.source.page or manifest.source.url or "") in text
    assert f"cxrzoo convert FILE --model {name} --out DIR" in text
    for fact, option in (("architecture", "--architecture"), ("recipe", "--recipe"), ("preprocessing", "--size")):
        assert (f" {option} …" in text) == (fact in manifest.unknown)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("no_network")
def test_load_says_it_too() -> None:
    """`load` gives the same answer."""
    with pytest.raises(IncompleteError, match=r"rad-dino can't be loaded by its name"):
        load("rad-dino")


def test_a_refusal_waits_for_no_torch(child_environment: dict[str, str]) -> None:
    """A model that can't be loaded is refused before torch and timm are imported."""
    code = """
import sys
from pathlib import Path
from cxrzoo.errors import IncompleteError
from cxrzoo.locations import locate
from cxrzoo.sources import Cache
try:
    locate("rad-dino", Cache(Path("nowhere")))
except IncompleteError:
    print(sorted({"torch", "timm"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=child_environment, capture_output=True, text=True, check=True
    )

    assert "[]\n" == done.stdout


# `cxrzoo list` and the table in the documents


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    """Return the lines that `cxrzoo list` prints."""
    assert 0 == main(["list", *arguments])
    return capsys.readouterr().out.splitlines()


def test_list_fits_a_wide_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Every model has a line, none longer than 160 characters."""
    lines = listed(capsys)

    assert list_models() == sorted(
        found[1] for line in lines if (found := re.match(r"  ([a-z0-9.-]+)  ", line)) and found[1] != "name"
    )
    assert max(map(len, lines)) <= 160


def test_list_has_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """A line has name, method, architecture, input, normalisation, licence and where the file is."""
    lines = listed(capsys, "eva-x-tiny")

    assert "Load by name:" == lines[0]
    assert ["name", "method", "architecture", "input", "mean / std", "licence", "file"] == re.split(
        r"\s{2,}", lines[1].strip()
    )
    assert [
        "eva-x-tiny", "mim", "eva02_tiny_patch14_224", "3×224×224", "0.4919 / 0.2851", "MIT", "huggingface.co"
    ] == re.split(r"\s{2,}", lines[2].strip())  # fmt: skip


def test_list_shows_what_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    """A model with gaps stands under a heading that says so, and its cells say unknown."""
    lines = listed(capsys, "rad-dino")

    assert lines[0].startswith("Facts are missing")
    assert [
        "rad-dino", "dinov2", "vit_base_patch14_dinov2", "unknown", "unknown", "MIT, re-host", "huggingface.co"
    ] == re.split(r"\s{2,}", lines[2].strip())  # fmt: skip


@pytest.mark.parametrize(
    ("name", "answer"), [("eva-x-tiny", "yes"), ("ark6-swin-base", "no: its file"), ("rad-dino", "no: facts")]
)
def test_describe_says_whether_it_loads(name: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`describe` says whether a model loads by its name, and why not."""
    assert 0 == main(["describe", name])
    assert re.search(rf"^loads by name +{answer}", capsys.readouterr().out, re.MULTILINE)


def test_documents_begin_with_what_loads() -> None:
    """The tables in the documents stand in the order of the groups, with a link to each file."""
    text = documents.render_models()

    places = [text.index(part) for part in ("**Load by name**", "**Fetch the file by hand**", "**Facts are missing.**")]
    assert sorted(places) == places
    assert places[0] < text.index("| `eva-x-tiny` |") < places[1] < text.index("| `ark6-swin-base` |") < places[2]
    assert places[2] < text.index("| `rad-dino` |")
    assert "[forms.gle](https://forms.gle/qkoDGXNiKRPTDdCe8) |" in text


def test_a_group_without_models_has_no_table() -> None:
    """A model of one group makes a row in that group only."""
    groups = group_rows([describe("rad-dino")])

    assert ([], [], [], ["rad-dino"]) == tuple([row.name for row in rows] for rows in groups.values())


def test_what_may_be_published_again() -> None:
    """Weights may be published again only where a licence is stated for them."""
    manifests: list[Manifest] = [describe(name) for name in list_models()]

    assert all(m.licence.weights for m in manifests if m.licence.rehost)
