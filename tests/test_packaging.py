"""The wheel: what is in it, how large it is, and that the data folders are not importable."""

import importlib.metadata
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout, built with the setuptools that is installed here."""
    if not (ROOT / "setup.cfg").exists():
        pytest.skip("only a checkout can be built")
    import shutil

    # a copy: building leaves folders behind, and two workers must not share them
    room = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "demo")
    shutil.copytree(ROOT, room / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run([*command, "-w", str(room)], cwd=room / "source", check=True)
    (built,) = room.glob("*.whl")
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
