"""Networks under the names of torchvision, timm, lightly and others become timm's, and what can't is refused."""

import functools
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import factories
import layouts_networks as layouts
import pytest
import timm
import torch
from layouts_networks import Made

from cxrzoo.architectures import match_architecture
from cxrzoo.checkpoint import Tensor, find_state_dict, open_checkpoint
from cxrzoo.cli import main
from cxrzoo.converter import Conversion, convert_into
from cxrzoo.errors import ArchitectureError, ConversionError, UnmatchedKeyError
from cxrzoo.manifest import Preprocessing
from cxrzoo.matching import choose_fit
from cxrzoo.publisher import convert

#: Tensors of a projection head and of a copy of the ResNet-18, here.
HEAD, COPY = 8, 120

Row = tuple[str, str, Callable[[], Made], str, int, dict[str, int], dict[str, int]]
#: what it is, recipe, builder, architecture, kept, dropped, computed
ROWS: list[Row] = [
    ("ResNet-34", "torchvision", functools.partial(layouts.make_torchvision, "resnet34"), "resnet34", 216,
     {"classifier": 2}, {}),
    ("DenseNet-121 of 2017", "densenet-2017", layouts.make_densenet_2017, "densenet121", 604, {"classifier": 2},
     {"add_counters": 121}),
    ("MobileNetV3 Large", "mobilenetv3-large", functools.partial(layouts.make_torchvision, "mobilenet_v3_large"),
     "mobilenetv3_large_100", 310, {"classifier": 2}, {"as_convolution": 1}),
    ("MobileNetV3 Small", "mobilenetv3-small",
     functools.partial(layouts.make_torchvision, "mobilenet_v3_small", container="state_dict"),
     "mobilenetv3_small_100", 242, {"classifier": 2}, {"as_convolution": 1}),
    ("EfficientNet-B1 of torchvision", "efficientnet-torchvision",
     functools.partial(layouts.make_torchvision, "efficientnet_b1"), "efficientnet_b1", 506, {"classifier": 2}, {}),
    ("EfficientNet-B0", "efficientnet-lukemelas", functools.partial(layouts.make_lukemelas, "efficientnet-b0"),
     "tf_efficientnet_b0", 358, {"classifier": 2}, {}),
    ("EfficientNet-B1", "efficientnet-lukemelas", functools.partial(layouts.make_lukemelas, "efficientnet-b1"),
     "tf_efficientnet_b1", 506, {"classifier": 2}, {}),
    ("EfficientNet-B3", "efficientnet-lukemelas", functools.partial(layouts.make_lukemelas, "efficientnet-b3"),
     "tf_efficientnet_b3", 572, {"classifier": 2}, {}),
    ("lightly, SimCLR", "lightly", functools.partial(layouts.make_lightly, "simclr"), "resnet18", 120,
     {"projection head": HEAD}, {}),
    ("lightly, MoCo", "lightly", functools.partial(layouts.make_lightly, "moco"), "resnet18", 120,
     {"copy of the network": COPY, "loss": 2, "projection head": 2 * HEAD}, {}),
    ("lightly, BYOL", "lightly", functools.partial(layouts.make_lightly, "byol"), "resnet18", 120,
     {"copy of the network": COPY, "prediction head": HEAD, "projection head": 2 * HEAD}, {}),
    ("lightly, BYOL of its benchmarks", "lightly", layouts.make_lightly_benchmark, "resnet18", 120,
     {"classifier": 2, "copy of the network": COPY, "prediction head": HEAD, "projection head": 2 * HEAD},
     {}),
    ("lightly, DINO", "lightly-dino", functools.partial(layouts.make_lightly, "dino"), "resnet18", 120,
     {"loss": 1, "projection head": 2 * HEAD, "student": COPY}, {}),
    ("ResNet in a Sequential", "sequential", layouts.make_sequential, "resnet18", 120, {}, {}),
    ("RadImageNet, ResNet-50", "radimagenet", functools.partial(layouts.make_radimagenet, "resnet50"), "resnet50",
     318, {}, {}),
    ("RadImageNet, DenseNet-121", "radimagenet", functools.partial(layouts.make_radimagenet, "densenet121"),
     "densenet121", 725, {}, {}),
    ("torchxrayvision, whole DenseNet without operating points", "torchxrayvision",
     functools.partial(layouts.make_torchxrayvision_densenet, whole=True, thresholds=False), "densenet121", 725,
     {"classifier": 2}, {}),
    ("torchxrayvision, DenseNet", "torchxrayvision",
     functools.partial(layouts.make_torchxrayvision_densenet, whole=False), "densenet121", 725,
     {"classifier": 2, "operating points": 1}, {}),
    ("torchxrayvision, ResNet-50", "torchxrayvision",
     functools.partial(layouts.make_torchxrayvision_resnet, prefix=""), "resnet50", 318, {"classifier": 2}, {}),
    ("torchxrayvision, its class ResNet", "torchxrayvision",
     functools.partial(layouts.make_torchxrayvision_resnet, prefix="model."), "resnet50", 318,
     {"classifier": 2, "operating points": 1}, {}),
    ("timm, ResNet-18-D", "timm", functools.partial(layouts.make_timm, "resnet18d", prefix="module.",
     container="state_dict"), "resnet18d", 132, {"classifier": 2}, {}),
    ("timm, ConvNeXt V2", "timm", functools.partial(layouts.make_timm, "convnextv2_nano", container="model"),
     "convnextv2_nano", 158, {"classifier": 2}, {}),
    ("timm, RegNet without classifier", "timm", functools.partial(layouts.make_timm, "regnety_016", num_classes=0,
     prefix="model."), "regnety_016", 624, {}, {}),
    ("timm, average beside the weights", "timm", functools.partial(layouts.make_timm, "mobilenetv4_conv_small",
     container="state_dict", ema="state_dict_ema"), "mobilenetv4_conv_small", 276, {"classifier": 2}, {}),
    ("timm's ResNet-18, average beside the weights", "torchvision", functools.partial(layouts.make_timm, "resnet18",
     container="state_dict", ema="state_dict_ema"), "resnet18", 120, {"classifier": 2}, {}),
]  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """A row of the table, with its checkpoint made, saved and converted."""

    recipe: str
    architecture: str
    kept: int
    dropped: dict[str, int]
    computed: dict[str, int]
    made: Made
    path: Path
    conversion: Conversion


def preprocessing(made: Made) -> Preprocessing:
    """Return some preprocessing for the size the network was built for."""
    channels = made.in_chans
    size = (channels, made.size, made.size)
    return Preprocessing(size, (0.5,) * channels, (0.25,) * channels, "bilinear", 1.0, "center")


@pytest.fixture(scope="module", params=ROWS, ids=[row[0] for row in ROWS])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converted]:
    """Each row of the table in turn, gone from the disk before the next one comes."""
    _, recipe, build, architecture, kept, dropped, computed = request.param
    folder = tmp_path_factory.mktemp("network")
    with pytest.MonkeyPatch.context() as patch:  # torchxrayvision is there while its file is written, and gone after
        for name, module in layouts.fake_torchxrayvision().items():
            patch.setitem(sys.modules, name, module)
        made = build()
        path = factories.save(folder / "c.pth", made.checkpoint)
    (folder / "out").mkdir()
    conversion = convert_into(folder / "out", path, variants={"x": preprocessing(made)}, isolated=False)
    yield Converted(recipe, architecture, kept, dropped, computed, made, path, conversion)
    shutil.rmtree(folder)


def test_every_key_is_accounted_for(converted: Converted) -> None:
    """Without any hint the recipe and the architecture are found, and as many keys are kept and dropped as expected."""
    coverage = converted.conversion.record.coverage

    assert (converted.recipe, converted.architecture) == (coverage.recipe, converted.conversion.architecture)
    assert (converted.kept, converted.dropped, converted.computed) == (
        coverage.kept,
        coverage.dropped,
        coverage.computed,
    )


def test_features_are_the_upstream_ones(converted: Converted) -> None:
    """The backbone that timm loads gives the feature maps and the pooled features of the network in the checkpoint."""
    made = converted.made
    images = torch.randn(1, made.in_chans, made.size, made.size, generator=torch.Generator().manual_seed(1))
    backbone = timm.create_model(f"local-dir:{converted.conversion.folder}", pretrained=True).eval()

    with torch.inference_mode():
        for found, expected in (
            (backbone.forward_features(images), made.maps(images)),
            (backbone(images), made.pooled(images)),
        ):
            scale = float(expected.abs().max())
            assert scale > 1e-3
            assert float((found - expected).abs().max()) <= 1e-5 * max(1, scale)


def change(converted: Converted, wanted: str) -> tuple[dict[str, Tensor], str]:
    """Return the tensors of a checkpoint, of which one that is kept is gone, has another name, or is joined by one."""
    with open_checkpoint(converted.path) as opened:
        state = dict(find_state_dict(opened.root, ("state_dict_ema", "state_dict", "model")))
    key = [key for key in converted.conversion.kept if not key.endswith("num_batches_tracked")][10]
    if wanted == "missing":
        del state[key]
    elif wanted == "renamed":
        state = {name if name != key else f"{key}.old": tensor for name, tensor in state.items()}
    else:
        state["surprise.weight"] = state[key]
    return state, key


def test_a_missing_key_is_named(converted: Converted) -> None:
    """A checkpoint that lacks one tensor of the network is none, and the tensor is named."""
    state, _ = change(converted, "missing")

    fit = choose_fit(state, converted.recipe)
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in fit.outputs()[0].items()}
    with pytest.raises(ArchitectureError, match=rf"not those of {converted.architecture}, 1 diff.*\n  missing: "):
        match_architecture(shapes, fit.route.architectures, converted.architecture, converted.made.size)


@pytest.mark.parametrize("wanted", ["renamed", "extra"])
def test_an_unknown_key_stops_it(converted: Converted, wanted: str) -> None:
    """A key under another name, or one more, stops the conversion, with or without the recipe named."""
    state, key = change(converted, wanted)
    unknown = f"{key}.old" if wanted == "renamed" else "surprise.weight"

    for recipe in (converted.recipe, None):
        with pytest.raises(ConversionError) as caught:
            fit = choose_fit(state, recipe)
            shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in fit.outputs()[0].items()}
            match_architecture(shapes, fit.route.architectures, converted.architecture, converted.made.size)
        if recipe and wanted == "extra":
            assert isinstance(caught.value, UnmatchedKeyError)
            assert repr(unknown) in str(caught.value)


def test_torchvision_is_measured(converted: Converted) -> None:
    """Where the keys are torchvision's in the end, its own network was run beside timm's during the conversion."""
    parity = converted.conversion.record.parity
    by_name = converted.recipe in ("timm", "efficientnet-lukemelas")

    assert by_name == (parity is None)
    assert by_name or (parity is not None and parity.reference.startswith("torchvision "))


def test_through_the_child(tmp_path: Path) -> None:
    """The whole road, with the proof in a process of its own, works for a network that takes arguments of timm."""
    made = layouts.make_torchvision("mobilenet_v3_small")
    path = factories.save(tmp_path / "c.pth", made.checkpoint, _use_new_zipfile_serialization=False)

    conversion = convert(path, tmp_path / "out", preprocessing=preprocessing(made))

    assert "mobilenetv3_small_100" == conversion.architecture
    assert conversion.record.parity is not None
    assert conversion.record.parity.max_difference <= 1e-6


def test_counters_are_all_there_or_none(tmp_path: Path) -> None:
    """A file that lacks only some of its norms' counters is damaged, and not one from before there were any."""
    state = factories.make_network("resnet18").state_dict()
    del state["layer4.1.bn2.num_batches_tracked"]
    path = factories.save(tmp_path / "c.pth", state)
    (tmp_path / "out").mkdir()
    made = Made(state, nn_identity, nn_identity)

    with pytest.raises(ArchitectureError, match=r"missing: layer4\.1\.bn2\.num_batches_tracked"):
        convert_into(
            tmp_path / "out", path, variants={"x": preprocessing(made)}, architecture="resnet18", isolated=False
        )


def nn_identity(images: torch.Tensor) -> torch.Tensor:
    """Stand in where nothing is run."""
    return images


def test_twins_are_told_apart_by_name(tmp_path: Path) -> None:
    """EfficientNet-B0 and its twin with TensorFlow's padding share all shapes: the error asks which one it is."""
    path = factories.save(tmp_path / "c.pth", layouts.make_timm("tf_efficientnet_b0").checkpoint)
    variants = {"x": Preprocessing((3, 64, 64), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0, "center")}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    with pytest.raises(ArchitectureError, match="efficientnet_b0 and tf_efficientnet_b0.*Pass --architecture"):
        convert_into(tmp_path / "a", path, variants=variants, isolated=False)

    named = convert_into(tmp_path / "b", path, variants=variants, architecture="tf_efficientnet_b0", isolated=False)
    assert "tf_efficientnet_b0" == named.architecture


# ---- neighbours


NEIGHBOURS: dict[str, tuple[str, Callable[[], Any]]] = {
    "MoCo": ("moco", lambda: factories.make_moco("resnet18")),
    "MoCo's DenseNet": ("moco", lambda: factories.make_moco("densenet121")),
    "torchvision": ("torchvision", lambda: factories.make_network("resnet18").state_dict()),
    "torchvision, one channel": ("torchvision", lambda: factories.make_network("resnet18", in_chans=1).state_dict()),
    "torchvision's MNASNet": ("torchvision", lambda: factories.make_network("mnasnet1_0").state_dict()),
    "torchvision's MobileNetV2": ("torchvision", lambda: factories.make_network("mobilenet_v2").state_dict()),
    "one channel, other findings": (
        "torchvision",
        lambda: {**factories.make_network("resnet50", in_chans=1).state_dict(), "fc.weight": torch.zeros(14, 2048)},
    ),
}


@pytest.mark.parametrize(("recipe", "build"), NEIGHBOURS.values(), ids=NEIGHBOURS.keys())
def test_neighbours_are_left_alone(recipe: str, build: Callable[[], Any], tmp_path: Path) -> None:
    """A checkpoint of another family is still found to be of that family alone."""
    with open_checkpoint(factories.save(tmp_path / "c.pth", build())) as opened:
        assert recipe == choose_fit(opened.root, None).recipe.name


# ---- refusals


def _wide(width: int, prefix: str = "module.") -> dict[str, torch.Tensor]:
    shapes = {"conv1.weight": (64 * width, 3, 7, 7), "layer4.0.conv1.weight": (512 * width, 8, 1, 1)}
    return {f"{prefix}{name}": torch.randn(shape) for name, shape in shapes.items()}


def _prepared_for_quantisation() -> dict[str, torch.Tensor]:
    state = factories.make_network("resnet18").state_dict()
    return state | {
        "conv1.weight_fake_quant.scale": torch.ones(64),
        "conv1.weight_fake_quant.zero_point": torch.zeros(64, dtype=torch.int32),
        "fc.activation_post_process.min_val": torch.tensor(0.0),
    }


def _keras() -> dict[str, torch.Tensor]:
    state = factories.make_network("resnet50").state_dict()
    return state | {f"{k.removesuffix('weight')}bias": torch.zeros(len(v)) for k, v in state.items() if "conv" in k}


def _two_towers(text: str, image: str) -> dict[str, Any]:
    return {"state_dict": {text: torch.randn(10, 8), image: torch.randn(4, 4), "logit_scale": torch.tensor(1.0)}}


REFUSED: dict[str, tuple[str, Any, str]] = {
    "SwAV w2": ("resnet-widened", lambda: _wide(2), "Take the variant of width 1"),
    "SwAV w4": ("resnet-widened", lambda: _wide(4), "Take the variant of width 1"),
    "MedicalNet": (
        "volumes",
        lambda: {"state_dict": {"module.conv1.weight": torch.randn(64, 1, 7, 7, 7), "module.fc.bias": torch.ones(2)}},
        "Take a network that was trained on images",
    ),
    "a video transformer": (
        "volumes",
        lambda: {"model": {"patch_embed.proj.weight": torch.randn(8, 3, 2, 16, 16), "cls_token": torch.zeros(1, 1, 8)}},
        "Take a network that was trained on images",
    ),
    "CLIP": (
        "two-towers",
        lambda: _two_towers("token_embedding.weight", "visual.tower.weight"),
        "Save the image tower alone",
    ),
    "OpenCLIP after DDP, another text tower": (
        "two-towers",
        lambda: _two_towers("module.text.transformer.embeddings.word.weight", "module.visual.tower.weight"),
        "Save the image tower alone",
    ),
    "prepared for quantisation": ("quantised", _prepared_for_quantisation, "Take the checkpoint from before, in float"),
    "RadImageNet from Keras": ("resnet-keras", _keras, "Take the authors' own PyTorch file"),
}  # fmt: skip


@pytest.fixture(params=REFUSED.values(), ids=REFUSED.keys())
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, str]:
    """Each kind of checkpoint that is refused: the recipe that does, the file, and the advice."""
    recipe, build, advice = request.param
    return recipe, factories.save(tmp_path / "c.pth", build()), advice


@pytest.mark.parametrize("named", [False, True], ids=["recipe found", "recipe named"])
def test_refused_by_convert(
    refused: tuple[str, Path, str], named: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`convert` refuses a checkpoint that can't become a backbone, says why and what to take instead."""
    recipe, path, advice = refused
    options = ["--size", "64", "--mean", "0.5", "--std", "0.25", *(["--recipe", recipe] if named else [])]

    assert 1 == main(["convert", str(path), "--out", str(tmp_path / "out"), *options])

    error = capsys.readouterr().err
    assert f"this is a checkpoint of the kind {recipe!r}, which is refused: " in error
    assert advice in error
    assert not (tmp_path / "out").exists()


def test_refused_by_inspect(refused: tuple[str, Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    """`inspect` shows the keys of such a checkpoint, and then refuses it alike."""
    recipe, path, advice = refused

    assert 1 == main(["inspect", str(path)])

    printed = capsys.readouterr()
    assert re.search(r"tensors .*by prefix:", printed.out)
    assert f"of the kind {recipe!r}, which is refused: " in printed.err
    assert advice in printed.err


def test_another_recipe_does_not_get_around_a_refusal(tmp_path: Path) -> None:
    """Naming a recipe whose rules would take the keys doesn't help: the checkpoint is still refused."""
    with open_checkpoint(factories.save(tmp_path / "c.pth", _wide(2, ""))) as opened, pytest.raises(
        ConversionError, match="'resnet-widened', which is refused"
    ):  # fmt: skip
        choose_fit(opened.root, "torchvision")


def test_a_text_tower_alone_refuses_nothing(tmp_path: Path) -> None:
    """A recipe that knows the image tower and drops the text tower goes before the refusal of all such files."""
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'name = "mine"\nsummary = "Image tower only."\nunwrap = ["state_dict"]\n'
        "[[rule]]\nmatch = 'visual\\.(?P<name>.+)'\nrename = '{name}'\n"
        "[[rule]]\nmatch = '(?:token_embedding|logit_scale).*'\ndrop = \"text tower\"\n"
    )
    path = factories.save(tmp_path / "c.pth", _two_towers("token_embedding.weight", "visual.tower.weight"))

    with open_checkpoint(path) as opened:
        fit = choose_fit(opened.root, str(recipe))

    assert {"text tower": 2} == fit.dropped
    assert ["tower.weight"] == list(fit.kept)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_tensors_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that holds quantised tensors themselves is refused by the reader, which says so."""
    values = torch.quantize_per_tensor(torch.randn(4, 4), 0.1, 0, torch.qint8)
    path = factories.save(tmp_path / "c.pth", {"conv1.weight": values, "conv1.scale": torch.tensor(0.1)})

    for command in (["inspect", str(path)], ["convert", str(path), "--out", str(tmp_path / "out")]):
        assert 1 == main(command)
        assert "quantised tensor" in capsys.readouterr().err
