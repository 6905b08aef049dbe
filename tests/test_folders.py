"""A config.json may come from a stranger: whatever it says of the network is bounded, or an error that explains it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import cxrzoo
from cxrzoo.architectures import build_network
from cxrzoo.errors import ArchitectureError, FolderError, RecordError
from cxrzoo.folders import read_folder
from cxrzoo.recipe import list_recipes, load_recipe
from cxrzoo.records import digest
from cxrzoo.timm_arguments import check_arguments


def rewrite(folder: Path, whole: Path, change: dict[str, Any]) -> Path:
    """Return a copy of a folder whose config.json says `change`, with the digest that fits."""
    shutil.copytree(whole, folder)
    config = json.loads((folder / "config.json").read_text())
    for path, value in change.items():
        *parents, name = path.split(".")
        table = config
        for parent in parents:
            table = table[parent]
        table[name] = value
    config["cxrzoo"]["digest"] = digest(config | {"cxrzoo": config["cxrzoo"] | {"digest": ""}})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


OUT_OF_BOUNDS = {
    "too deep": {"depth": 3000},
    "no patches": {"patch_size": 0},
    "no heads": {"num_heads": 0},
    "negative": {"reg_tokens": -5},
    "too wide": {"embed_dim": 192_000},
    "a huge image": {"img_size": 100_000},
    "a huge image beside another": {"img_size": [224, 100_000]},
    "too many patches": {"img_size": 1024, "patch_size": 1},
    "too many windows": {"img_size": 2048, "window_size": 24},
    "a huge window": {"window_size": 256},
    "too many layers": {"layers": [3, 4, 3000, 3]},
    "a zero beside layers": {"channels": [64, 0]},
    "a long list": {"channels": [64] * 9},
    "an empty list": {"layers": []},
    "a list of lists": {"layers": [[3], [4]]},
    "a long text": {"norm_layer": "a" * 41},
    "a dotted text": {"norm_layer": "torch.nn.LayerNorm"},
    "an empty text": {"global_pool": ""},
    "a huge fraction": {"mlp_ratio": 1e9},
    "a negative fraction": {"bn_eps": -1e-5},
    "nothing": {"init_values": None},
}


@pytest.mark.parametrize("arguments", OUT_OF_BOUNDS.values(), ids=OUT_OF_BOUNDS.keys())
def test_arguments_out_of_bounds(arguments: dict[str, Any], resnet18_folder: Path, tmp_path: Path) -> None:
    """Arguments of timm that are out of bounds are refused before anything is built."""
    folder = rewrite(tmp_path / "mine", resnet18_folder, {"model_args": arguments})

    with pytest.raises(FolderError, match=r"config\.json: model_args: found .* expected .*Convert the model again"):
        read_folder(folder)


IMAGES = {
    "for timm": {"pretrained_cfg.fixed_input_size": True, "pretrained_cfg.input_size": [3, 100_000, 224]},
    "for the transform": {"cxrzoo.preprocessing.pretrain.input_size": [3, 100_000, 224]},
    "before the crop": {"cxrzoo.preprocessing.pretrain.crop_pct": 1e-6},
}


@pytest.mark.parametrize("change", IMAGES.values(), ids=IMAGES.keys())
def test_huge_images(change: dict[str, Any], resnet18_folder: Path, tmp_path: Path) -> None:
    """Images of a size that no network was trained with are refused: they would take memory freely."""
    folder = rewrite(tmp_path / "mine", resnet18_folder, change)

    with pytest.raises(FolderError, match=r"images of|input_size: found"):
        read_folder(folder)


def test_recipes_are_within_bounds() -> None:
    """What the recipes of the zoo say to timm may stand in a config.json, and a stage may be left out."""
    found = [a.args for name in list_recipes() for a in load_recipe(name).architectures if a.args]

    for arguments in found:
        check_arguments(arguments, "recipe")

    assert {"layers", "num_heads", "window_size", "global_pool", "bn_eps"} <= {name for args in found for name in args}
    assert any(0 in args.get("layers", ()) for args in found)
    with pytest.raises(RecordError, match="found a network for images of 1025 px"):
        check_arguments({"patch_size": 4, "img_size": 1025}, "recipe")


UNBUILDABLE = {
    "unknown norm": ("vit_tiny_patch16_224", {"norm_layer": "foo"}, "norm_layer=foo: KeyError"),
    "unknown activation": ("vit_tiny_patch16_224", {"act_layer": "foo"}, "act_layer=foo: KeyError"),
    "one stage": ("resnet18", {"layers": [1]}, r"layers=\[1\]: ZeroDivisionError"),
    "no patches": ("vit_tiny_patch16_224", {"patch_size": 0}, "patch_size=0: ZeroDivisionError"),
    "a fraction of layers": ("vit_tiny_patch16_224", {"depth": 0.5}, "depth=0.5: TypeError"),
}


@pytest.mark.parametrize(("name", "arguments", "message"), UNBUILDABLE.values(), ids=UNBUILDABLE.keys())
def test_arguments_that_timm_refuses(name: str, arguments: dict[str, Any], message: str) -> None:
    """Whatever timm raises at arguments becomes an error that names the architecture and the arguments."""
    with pytest.raises(ArchitectureError, match=f"timm can't build {name} with {message}"):
        build_network(name, **arguments)


def test_loading_a_folder_that_timm_refuses(resnet18_folder: Path, tmp_path: Path) -> None:
    """`load` of a folder with a norm that does not exist ends in one of our errors."""
    folder = rewrite(
        tmp_path / "mine", resnet18_folder, {"model_args": {"norm_layer": "foo"}, "cxrzoo.model": "resnet18-mine"}
    )

    with pytest.raises(ArchitectureError, match="norm_layer=foo"):
        cxrzoo.load(folder)


def test_memory_of_the_largest_network_in_bounds() -> None:
    """Computed tables of a network at the bounds, which are all that is touched before the weights, stay small."""
    code = (
        "import resource\n"
        "from cxrzoo.architectures import build_network\n"
        "from cxrzoo.timm_arguments import check_arguments\n"
        "import torch, timm\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for name, args in (\n"
        "    ('eva02_tiny_patch14_224', {'img_size': 1024, 'patch_size': 4}),\n"
        "    ('swin_tiny_patch4_window7_224', {'img_size': 1024, 'window_size': 24}),\n"
        "    ('vit_tiny_patch16_224', {'depth': 200}),\n"
        "):\n"
        "    check_arguments(args, name)\n"
        "    build_network(name, **args)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    unit = 1 if sys.platform == "darwin" else 1024
    print(f"{int(done.stdout) * unit / 1e6:.0f} MB")
    assert int(done.stdout) * unit < 1e9
