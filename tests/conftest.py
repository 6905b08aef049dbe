"""Fixtures that several files share: no network but this machine's own, and checkpoints made once a run."""

import os
from pathlib import Path

import factories
import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def _private_places(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every test a cache of its own, so that none reads what another wrote or what the user has."""
    monkeypatch.setenv("CXRZOO_HOME", str(tmp_path_factory.mktemp("home") / "cxrzoo"))
    for name in ("CXRZOO_OFFLINE", "CXRZOO_MIRROR", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that are made once and read by many tests."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="session")
def resnet18_checkpoint(made: Path) -> Path:
    """A MoCo-CXR-shaped ResNet-18 checkpoint with a v2 head, without optimizer."""
    return factories.save(made / "resnet18.pth.tar", factories.make_moco("resnet18"))


@pytest.fixture(scope="session")
def resnet18_folder(made: Path, resnet18_checkpoint: Path) -> Path:
    """That checkpoint, converted as moco-cxr-resnet18."""
    import cxrzoo

    return cxrzoo.convert(resnet18_checkpoint, made / "resnet18", model="moco-cxr-resnet18").folder


@pytest.fixture(scope="session")
def one_channel_folder(made: Path) -> Path:
    """A ResNet-18 whose first convolution takes one channel, converted with MoCo-CXR's preprocessing."""
    import cxrzoo

    checkpoint = factories.save(made / "one.pth.tar", factories.make_moco("resnet18", in_chans=1))
    return cxrzoo.convert(checkpoint, made / "one-channel", preprocessing="moco-cxr-resnet18").folder


@pytest.fixture
def child_environment(_private_places: None) -> dict[str, str]:
    """The environment as this test has set it so far, for children that import cxrzoo and the tests' helpers."""
    root = Path(__file__).resolve().parents[1]
    paths = [str(root), str(root / "tests")] if (root / "cxrzoo").is_dir() else [str(root / "tests")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
