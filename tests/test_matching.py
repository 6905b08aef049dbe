"""Which recipe is chosen, which weights of a file it reads, and what is said where that is not clear."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import factories
import pytest
import torch

from cxrzoo import matching, recipe
from cxrzoo.architectures import match_architecture, sketch_network
from cxrzoo.checkpoint import Tensor, open_checkpoint
from cxrzoo.errors import ArchitectureError, CheckpointError, ConversionError
from cxrzoo.fits import Fit, fit_recipe
from cxrzoo.matching import choose_fit
from cxrzoo.recipe import list_recipes, load_recipe

#: The order in which every recipe looks into what many trainings call alike; averaged weights come first.
CONTAINERS = ["state_dict_ema", "model_ema", "state_dict", "model"]


@functools.cache
def shapes_of(name: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a network's tensors, by timm's name for it."""
    return {key: tuple(value.shape) for key, value in sketch_network(name).state_dict().items()}


def weights(network: str, prefix: str = "") -> dict[str, Tensor]:
    """Return tensors without bytes under a network's names."""
    found = {}
    for key, shape in shapes_of(network).items():
        region: Any = type("Region", (), {"size": 2**40})()
        found[prefix + key] = Tensor("F32", shape, (0,) * len(shape), 0, region)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """What writes recipes into a folder that stands for conversion/."""
    monkeypatch.setattr(recipe, "RECIPES", tmp_path)
    load_recipe.cache_clear()

    def write(name: str, *rules: str, head: str = "", summary: str = "") -> None:
        body = "".join(f"[[rule]]\n{rule}\n" for rule in rules)
        path = tmp_path / f"{name}.toml"
        path.write_text(f'name = "{name}"\nsummary = "{summary or name}."\n{head}\n{body}')

    yield write
    load_recipe.cache_clear()


KEEP = "match = '(?P<n>.+)'\nrename = '{n}'"
OTHERWISE = "match = '(?P<n>.+)'\nrename = 'other.{n}'"
SIGN = "[[requires]]\nmatch = 'fc.weight'"


@pytest.mark.parametrize("name", list_recipes())
def test_all_recipes_look_in_one_order(name: str) -> None:
    """Averaged weights go first in every recipe, but in C2L, which keeps its teacher under the name of an average."""
    found = [path for path in load_recipe(name).unwrap if path in CONTAINERS]

    assert found in ([], ["model"] if name == "c2l" else CONTAINERS)


AVERAGES: dict[str, tuple[dict[str, Any], str, str]] = {
    "state_dict": (
        {"state_dict": weights("resnet18", "module."), "state_dict_ema": weights("resnet18")},
        "torchvision",
        "state_dict_ema",
    ),
    "model": ({"model": weights("resnet18", "module."), "model_ema": weights("resnet18")}, "torchvision", "model_ema"),
    "ViT": (
        {"model": weights("vit_tiny_patch16_224"), "model_ema": weights("vit_tiny_patch16_224")},
        "vit",
        "model_ema",
    ),
    "no average": ({"epoch": 3, "state_dict": weights("resnet18", "module.")}, "data-parallel", "state_dict"),
    "flat": (weights("resnet18"), "torchvision", ""),
    "elsewhere": ({"more": {"net": weights("resnet18")}}, "torchvision", "more.net"),
}


@pytest.mark.parametrize(("root", "name", "path"), AVERAGES.values(), ids=AVERAGES.keys())
def test_where_weights_are_read_from(root: dict[str, Any], name: str, path: str) -> None:
    """An average of weights is read rather than the weights beside it, and the fit knows where it read."""
    fit = choose_fit(root, None)

    assert (name, path) == (fit.recipe.name, fit.path)


def test_different_weights_are_ambiguous() -> None:
    """Where recipes fit different mappings of a file, each is named with what it reads, and naming one decides."""
    student = weights("resnet18", "encoder.module.")
    student["encoder.module.fc.weight"] = weights("resnet18")["layer1.0.conv1.weight"]
    student["encoder.module.fc.weight"] = Tensor(
        "F32", (128, 512), (0, 0), 0, student["encoder.module.fc.weight"].region
    )
    root = {"model": student, "state_dict": weights("resnet18")}

    with pytest.raises(ConversionError) as caught:
        choose_fit(root, None)

    text = str(caught.value)
    assert "read different weights" in text
    assert "c2l, read from 'model': C2L" in text
    assert "torchvision, read from 'state_dict': Networks of torchvision" in text
    assert "--recipe c2l or --recipe torchvision" in text
    assert "model" == choose_fit(root, "c2l").path
    assert "state_dict" == choose_fit(root, "torchvision").path


def test_one_mapping_under_two_names_is_no_ambiguity(folder: Callable[..., None]) -> None:
    """What lies in two places of a file is the same weights, by whichever name a recipe reads them."""
    folder("plain", KEEP, head='unwrap = ["a"]')
    folder("signed", KEEP, head=f'unwrap = ["b"]\n{SIGN}')
    state = {"fc.weight": weights("resnet18")["conv1.weight"]}

    assert "signed" == choose_fit({"a": state, "b": state}, None).recipe.name
    with pytest.raises(ConversionError, match="different weights"):
        choose_fit({"a": state, "b": dict(state)}, None)


def test_refusals_are_of_what_is_read(folder: Callable[..., None]) -> None:
    """The signs of a refused family stop a conversion where they are in the weights that are read, and not beside."""
    folder("plain", KEEP, head='unwrap = ["a"]')
    folder("refused", head=f'unwrap = ["b", "a"]\nrefuses = "no."\n{SIGN}')
    tensor = weights("resnet18")["conv1.weight"]

    assert "plain" == choose_fit({"a": {"x": tensor}, "b": {"fc.weight": tensor}}, None).recipe.name
    for chosen in (None, "plain"):
        with pytest.raises(ConversionError, match="'refused', which is refused: no"):
            choose_fit({"a": {"fc.weight": tensor}, "b": {"y": tensor}}, chosen)
    with pytest.raises(ConversionError, match="'refused', which is refused: no"):
        choose_fit({"b": {"fc.weight": tensor}}, None)


def test_two_recipes_that_fit_are_named(folder: Callable[..., None]) -> None:
    """Of two recipes that fit alike, each is named with what it means, and with how to choose it."""
    folder("first", KEEP, summary="Keeps the student")
    folder("second", OTHERWISE, summary="Keeps the teacher")

    with pytest.raises(ConversionError) as caught:
        choose_fit(weights("resnet18"), None)

    lines = str(caught.value).splitlines()
    assert "several recipes fit this checkpoint:" == lines[0]
    assert lines[1].startswith("  first: Keeps the student. It fits: all 120 keys")
    assert lines[2].startswith("  second: Keeps the teacher. It fits: all 120 keys")
    assert "Say which one is meant: --recipe first or --recipe second." == lines[3]
    assert "second" == choose_fit(weights("resnet18"), "second").recipe.name


@pytest.mark.parametrize("chosen", [None, "outer"])
def test_two_routes_that_differ_are_named(folder: Callable[..., None], chosen: str | None) -> None:
    """A recipe that can go on in two ways, which place keys otherwise, stops and names both."""
    folder("outer", "match = 'net\\.(?P<n>.+)'\nrename = '{n}'", head='then = ["one", "two"]')
    folder("one", KEEP, head='unwrap = ["one"]\ngeneral = true\n[[requires]]\nmatch = "none"')
    folder("two", OTHERWISE, head='general = true\n[[requires]]\nmatch = "none"')

    with pytest.raises(ConversionError, match="'one' and in 'two'.*'net.bn1.bias' would be 'bn1.bias' or 'other.bn1"):
        choose_fit({key: weights("resnet18")[key[4:]] for key in ("net.bn1.bias", "net.bn1.weight")}, chosen)


@pytest.mark.parametrize(
    ("second", "kept", "expected"),
    [(KEEP, (0, 0), "one"), (OTHERWISE, (3, 2), "two"), (OTHERWISE, (2, 3), "one"), (OTHERWISE, (3, 3), "one")],
    ids=["alike", "number of the second", "number of the first", "number of neither"],
)
def test_routes_that_need_no_choice(
    folder: Callable[..., None], second: str, kept: tuple[int, int], expected: str
) -> None:
    """Routes that place keys alike, or of which one leads to a network of as many tensors, leave nothing to choose."""
    heads = [f'[[architectures]]\nname = "resnet18"\nkept = {number}' for number in kept]
    folder("outer", "match = 'net\\.(?P<n>.+)'\nrename = '{n}'", head='then = ["one", "two"]')
    folder("one", KEEP, head=heads[0])
    folder("two", second, head=heads[1])
    root = {key: weights("resnet18")[key[4:]] for key in ("net.conv1.weight", "net.layer1.0.conv1.weight")}

    assert expected == choose_fit(root, "outer").route.last.name


def test_only_what_is_shown_is_looked_at_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no recipe fits, all keys are held against five recipes only, and the nearest of all is among them."""
    thorough = []

    def counted(root: object, recipe: recipe.Recipe, **options: Any) -> Fit:
        if options.get("thorough", True):
            thorough.append(recipe.name)
        return fit_recipe(root, recipe, **options)

    monkeypatch.setattr(matching, "fit_recipe", counted)
    root = weights("resnet18", "module.encoder_q.")
    root["module.predictor.weight"] = root["module.encoder_q.conv1.weight"]

    with pytest.raises(ConversionError, match=r"nearest:\n  moco: does not fit: 1 of 121 keys"):
        choose_fit(root, None)

    assert 5 == len(thorough)


def test_errors_of_recipes_are_not_kept() -> None:
    """Where no recipe finds weights, the first error is raised without the frames of where it was met."""
    with pytest.raises(CheckpointError, match="no state_dict was found") as caught:
        choose_fit({"notes": [1, 2, 3]}, None)

    assert "find" not in [entry.name for entry in caught.traceback]
    assert caught.value.__context__ is None


def test_what_a_file_holds_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many recipes find no weights, a file is described a single time."""
    from cxrzoo.checkpoint import state_dicts

    calls = []
    monkeypatch.setattr(state_dicts, "describe_root", lambda root: calls.append(root) or ["nothing"])

    with pytest.raises(CheckpointError, match="The file holds: nothing"):
        choose_fit({"notes": [1, 2, 3]}, None)

    assert 1 == len(calls)


def test_architectures_of_equal_shapes_are_named(folder: Callable[..., None], tmp_path: Path) -> None:
    """Two networks of the same names and shapes, which only an argument tells apart, stop and are both named."""
    entry = '[[architectures]]\nname = "vit_small_patch16_224"\nkept = 150'
    folder("heads", KEEP, head=f"{entry}\n{entry}\nargs = {{ num_heads = 12 }}")
    state = {key: torch.zeros(shape) for key, shape in shapes_of("vit_small_patch16_224").items()}

    with open_checkpoint(factories.save(tmp_path / "vit.pth", state)) as opened:
        fit = choose_fit(opened.root, None)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in fit.outputs()[0].items()}

    with pytest.raises(ArchitectureError, match=r"'num_heads': 12.*same names and shapes(.|\n)*Pass --architecture"):
        match_architecture(shapes, fit.route.architectures, None)
