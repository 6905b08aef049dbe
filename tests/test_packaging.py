"""Wheel and sdist: what is in them, how large they are, and that the data folders are not importable."""

import importlib.metadata
import importlib.util
import random
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


#: A folder with weights beside the manifests, as models of this project have one.
SHIPPED = "hub/moco-shipped-resnet18"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, with one model more that lies in it."""
    if not (ROOT / "setup.cfg").exists():
        pytest.skip("only a checkout can be built")
    import shutil

    # a copy: building leaves folders behind, and two workers must not share them
    room = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "demo")
    shutil.copytree(ROOT, room / "source", ignore=ignored)
    shipped = room / "source" / SHIPPED
    shipped.mkdir()
    (shipped / "model.safetensors").write_bytes(random.Random(0).randbytes(2_000_000))
    for name in ("config.json", "README.md", "training.svg"):
        (shipped / name).write_text("of a model that is not there")
    return room / "source"


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built with the setuptools that is installed here."""
    room = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "-w", str(room)], cwd=source, check=True)
    (built,) = room.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def sdist(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution of this checkout."""
    room = tmp_path_factory.mktemp("sdist")
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(room)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (built,) = room.glob("*.tar.gz")
    return built


def test_wheel_is_small(wheel: Path) -> None:
    """The wheel stays under one megabyte: weights never ride in it."""
    assert wheel.stat().st_size < 1_000_000


def test_wheel_holds_everything(wheel: Path) -> None:
    """The wheel has every module, manifest and recipe, the card's template and the typing marker."""
    names = set(zipfile.ZipFile(wheel).namelist())

    for path in (ROOT / "cxrzoo").rglob("*.py"):
        assert str(path.relative_to(ROOT)) in names
    for folder in ("hub", "conversion"):
        for path in [*(ROOT / folder).glob("*.toml"), *(ROOT / folder).glob("*.md")]:
            assert f"cxrzoo/_data/{folder}/{path.name}" in names
    assert "cxrzoo/py.typed" in names


def test_wheel_holds_no_weights(wheel: Path) -> None:
    """Nothing of the folders that models of this project have beside their manifests is in the wheel."""
    names = zipfile.ZipFile(wheel).namelist()

    assert not [name for name in names if name.endswith((".safetensors", ".svg")) or "config.json" in name]
    assert {"cxrzoo/_data/hub/README.md"} == {name for name in names if name.endswith("hub/README.md")}
    assert not [name for name in names if name.startswith("cxrzoo/_data/") and name.count("/") > 3]


def test_sdist_holds_what_a_wheel_is_built_of(sdist: Path) -> None:
    """The sdist has every manifest and recipe and stays small: the folders with weights are not in it either."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]

    for folder in ("hub", "conversion"):
        expected = {f"{folder}/{path.name}" for path in (ROOT / folder).iterdir() if path.suffix in (".toml", ".md")}
        assert expected == {name for name in names if name.startswith(f"{folder}/")}
    assert sdist.stat().st_size < 2_000_000


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    """Nothing but the package and its metadata lands in site-packages."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}

    assert {"cxrzoo"} == {top for top in tops if not top.endswith(".dist-info")}


@pytest.mark.parametrize("name", ["hub", "conversion"])
def test_data_folders_are_not_importable(name: str) -> None:
    """`import hub` and `import conversion` stay impossible away from the checkout."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"

    assert 0 == subprocess.run([sys.executable, "-I", "-c", code], cwd="/").returncode


def test_import_from_above_the_checkout() -> None:
    """From the folder that holds the checkout, `import cxrzoo` finds the package, not the folder of that name."""
    code = "import cxrzoo; print(cxrzoo.list_models()[0])"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT.parent, capture_output=True, text=True)

    assert "" == done.stderr
    assert done.stdout.strip()


def test_requirements_are_plain_ranges() -> None:
    """Every requirement is a name with a lower bound: no address, no exact pin."""
    requirements = importlib.metadata.requires("cxrzoo") or []

    for requirement in requirements:
        assert "@" not in requirement
        assert "==" not in requirement.partition(";")[0]
    assert {"torch", "timm", "huggingface_hub", "safetensors", "torchvision", "pydicom"} <= {
        requirement.partition(">")[0] for requirement in requirements
    }
