"""Transformers: each family's checkpoint is told, accounted for and converted into the same network in timm."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import factories
import layouts_transformers as layouts
import pytest
import timm
import torch
import transformer_families as families
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

import cxrzoo
from cxrzoo.architectures import match_architecture
from cxrzoo.checkpoint import open_checkpoint
from cxrzoo.converter import Conversion, convert_into
from cxrzoo.errors import ArchitectureError, ConversionError, UnmatchedKeyError
from cxrzoo.manifest import Preprocessing
from cxrzoo.matching import choose_fit
from cxrzoo.recipe import load_recipe
from cxrzoo.undrawn import undrawn


@dataclass(frozen=True)
class Converted:
    """A family's sample, the file it was saved in, and what came of it."""

    family: families.Family
    sample: families.Sample
    file: Path
    conversion: Conversion


def preprocessing(size: int, channels: int = 3) -> Preprocessing:
    """Return a plain preprocessing for an image size."""
    return Preprocessing((channels, size, size), (0.5,) * channels, (0.25,) * channels, "bicubic", 1.0, "center")


def convert_here(file: Path, folder: Path, size: int, channels: int = 3) -> Conversion:
    """Convert in this process, which has imported timm already."""
    folder.mkdir()
    return convert_into(folder, file, variants={"x": preprocessing(size, channels)}, isolated=False)


def open_with_timm(folder: Path) -> nn.Module:
    """Return the network of a model folder as timm opens it."""
    with undrawn():  # the load is strict, so drawing weights first is time lost
        network: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    return network.eval()


def make_images(size: int, channels: int = 3) -> Tensor:
    """Return an image of noise."""
    return torch.randn(1, channels, size, size, generator=torch.Generator().manual_seed(3))


def compare(expected: Tensor, found: Tensor) -> None:
    """Insist on equal features, up to 1e-5 of the largest."""
    assert expected.shape == found.shape
    difference = float((expected - found).abs().max() / expected.abs().max())
    assert 1e-5 >= difference


def compare_networks(family: families.Family, upstream: Any, network: nn.Module, channels: int = 3) -> None:
    """Insist that all features of two networks are equal."""
    images = make_images(family.size, channels)
    with torch.inference_mode():
        expected = upstream(images)
        compare(expected.embedding, network(images))
        compare(expected.last, network.forward_features(images))
        maps = network.forward_intermediates(images, indices=list(family.indices), intermediates_only=True)
    for one, other in zip(expected.maps, maps, strict=True):
        compare(one, other)


@pytest.fixture(scope="module", params=families.FAMILIES.values(), ids=families.FAMILIES.keys())
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converted]:
    """A sample of each family in turn, converted without hints."""
    family: families.Family = request.param
    folder = tmp_path_factory.mktemp("family")
    sample = family.make()
    file = factories.save(folder / "checkpoint.pth", sample.checkpoint)
    conversion = convert_here(file, folder / "out", family.size, family.model_args.get("in_chans", 3))
    yield Converted(family, sample, file, conversion)
    file.unlink()


def test_told(converted: Converted) -> None:
    """Recipe, architecture and its arguments are told without a hint."""
    family, conversion = converted.family, converted.conversion
    config = timm.models._hub.load_model_config_from_path(conversion.folder)

    assert family.recipe == conversion.record.coverage.recipe
    assert family.architecture == conversion.architecture
    assert family.model_args == (config[2] or {})


def test_features(converted: Converted) -> None:
    """timm opens the folder, and embedding, last features and two maps on the way are the upstream network's."""
    channels = converted.family.model_args.get("in_chans", 3)

    compare_networks(converted.family, converted.sample.upstream, open_with_timm(converted.conversion.folder), channels)


def test_coverage(converted: Converted) -> None:
    """Every key is counted: kept, dropped for its reason, or used up in a computation."""
    family, coverage = converted.family, converted.conversion.record.coverage

    assert family.kept == coverage.kept
    assert family.dropped == coverage.dropped
    assert family.computed == coverage.computed


def judge(root: dict[str, Any], size: int, recipe: str | None = None) -> None:
    """Do all of a conversion that looks at names and shapes."""
    fit = choose_fit(root, recipe)
    tensors, _ = fit.outputs(size)
    shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}
    match_architecture(shapes, fit.route.architectures, None, size)


@pytest.mark.parametrize("change", ["missing", "renamed", "unknown"])
def test_every_key_counts(converted: Converted, change: str) -> None:
    """One key of the backbone missing, one renamed or one too many stops the conversion."""
    family, kept = converted.family, converted.conversion.kept
    with open_checkpoint(converted.file) as opened:
        root: Any = opened.root
        state = root[family.container] if family.container else root
        tensor = state[kept[-1]]
        if change != "unknown":
            del state[kept[-1]]
        if change != "missing":
            state[f"{kept[-1]}.adapter"] = tensor
        expected = ConversionError if change == "missing" else UnmatchedKeyError
        with pytest.raises(expected):
            judge(root, family.size, family.recipe)


@pytest.mark.slow
def test_chexfound(tmp_path: Path) -> None:
    """CheXFound's ViT-L/16, DINOv2 with registers and SwiGLU, is EVA-02 without rotary positions and opens anywhere."""
    transformers = pytest.importorskip("transformers")
    family = families.CHEXFOUND
    sample = family.make()
    file = factories.save(tmp_path / "checkpoint.pth", sample.checkpoint)

    conversion = convert_here(file, tmp_path / "out", family.size)

    assert family.architecture == conversion.architecture
    assert family.model_args == timm.models._hub.load_model_config_from_path(conversion.folder)[2]
    assert (family.kept, family.dropped, family.computed) == (
        conversion.record.coverage.kept,
        conversion.record.coverage.dropped,
        conversion.record.coverage.computed,
    )
    compare_networks(family, sample.upstream, open_with_timm(conversion.folder))
    images = make_images(family.size)
    with torch.inference_mode():
        wrapped = transformers.AutoModel.from_pretrained(conversion.folder, dtype=torch.float32).eval()
        compare(sample.upstream(images).embedding, wrapped(pixel_values=images).pooler_output)


def test_gmml_everywhere(tmp_path: Path) -> None:
    """The mean of GMML's patch tokens is the embedding in cxrzoo, timm and transformers."""
    transformers = pytest.importorskip("transformers")
    sample = families.make_gmml()
    file = factories.save(tmp_path / "checkpoint.pth", sample.checkpoint, _use_new_zipfile_serialization=False)

    folder = cxrzoo.convert(file, tmp_path / "out", preprocessing=preprocessing(64)).folder

    images = make_images(64)
    wrapped = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        expected = sample.upstream(images).embedding
        compare(expected, cxrzoo.load(str(folder))(images))
        compare(expected, open_with_timm(folder)(images))
        compare(expected, wrapped(pixel_values=images).pooler_output)


def test_heads_come_by_recipe(tmp_path: Path) -> None:
    """MoCo v3's ViT-S has 12 heads by its recipe; the same tensors in a flat file get timm's 6, which vit says."""
    sample = families.make_moco_v3_vit()
    prefix = "module.base_encoder."
    flat = {
        key.removeprefix(prefix): value
        for key, value in sample.checkpoint["state_dict"].items()
        if key.startswith(prefix) and ".head." not in key
    }
    images = make_images(64)

    conversion = convert_here(factories.save(tmp_path / "flat.pth", flat), tmp_path / "out", 64)

    assert "vit" == conversion.record.coverage.recipe
    assert "6 in ViT-S" in load_recipe("vit").summary
    with torch.inference_mode():
        found, expected = open_with_timm(conversion.folder)(images), sample.upstream(images).embedding
    assert 1e-2 < float((found - expected).abs().max())


@pytest.mark.parametrize("registers", [0, 4])
def test_other_size(registers: int, tmp_path: Path) -> None:
    """For another image size than that of training, the position table is resampled as timm does it."""
    options: dict[str, Any] = {"patch": 14, "scaled": True, "registers": registers}
    network = layouts.train(layouts.VisionTransformer(384, 6, size=56, **options))
    larger = layouts.VisionTransformer(384, 6, size=98, **options).eval()
    table = resample_abs_pos_embed(network.pos_embed.detach(), new_size=[7, 7])
    larger.load_state_dict(network.state_dict() | {"pos_embed": table})
    state = network.state_dict() | {"mask_token": torch.randn(1, 384)}
    family = families.Family(families.make_dinov2, "", "dinov2", "", 0, size=98)

    conversion = convert_here(factories.save(tmp_path / "x.pth", state), tmp_path / "out", 98)

    assert 1 == conversion.record.coverage.computed["resample_positions"]
    compare_networks(family, families.of_tokens(larger, "class token"), open_with_timm(conversion.folder))


def test_size_between_patches(tmp_path: Path) -> None:
    """An image size that no whole number of patches fills is refused, with the size that would do."""
    file = factories.save(tmp_path / "x.pth", families.make_vit().checkpoint)

    with pytest.raises(ConversionError, match="for 64 px, and the preprocessing makes images of 70 px"):
        convert_here(file, tmp_path / "out", 70)


def test_ark_plus() -> None:
    """Ark+'s Swin-L, with windows of 12, is built for the 768 px that its preprocessing states."""
    with torch.device("meta"):
        network = timm.create_model("swin_large_patch4_window12_384", num_classes=0)
    shapes = {name: ("F32", tuple(tensor.shape)) for name, tensor in network.state_dict().items()}

    found = match_architecture(shapes, load_recipe("swin").architectures, None, 768)

    assert ("swin_large_patch4_window12_384", {"img_size": 768}) == (found.architecture, found.model_args)


def test_simmim_window() -> None:
    """SimMIM's Swin-B of pre-training, with windows of 6 at 192 px, is told by its tables."""
    with torch.device("meta"):
        network = timm.create_model("swin_base_patch4_window7_224", num_classes=0, img_size=192, window_size=6)
    shapes = {name: ("F32", tuple(tensor.shape)) for name, tensor in network.state_dict().items()}

    found = match_architecture(shapes, load_recipe("swin").architectures, None, 192)

    assert {"window_size": 6, "img_size": 192} == found.model_args


def test_layouts_of_swin_are_not_mixed_up(tmp_path: Path) -> None:
    """A file in one layout of Swin is not taken for the other, though each key in between has a place in both."""
    old = families.make_swin("model").checkpoint["model"]
    both = {name: tensor for name, tensor in old.items() if not name.startswith("layers.0.downsample")}

    with pytest.raises(ConversionError), open_checkpoint(factories.save(tmp_path / "x.pth", both)) as opened:
        judge(opened.root, 224)


@pytest.mark.parametrize("half", ["registers", "positions"])
def test_registers_of_timm_are_not_taken_for_those_of_dinov2(half: str, tmp_path: Path) -> None:
    """Adding the class token's position twice is impossible: timm's own names and tables are refused."""
    with torch.device("meta"):
        network = timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0, img_size=56)
    state = {name: torch.zeros(tensor.shape) for name, tensor in network.state_dict().items()}
    if half == "positions":
        state["register_tokens"] = state.pop("reg_token")

    with (
        pytest.raises((ConversionError, ArchitectureError)),
        open_checkpoint(factories.save(tmp_path / "x.pth", state)) as opened,
    ):
        judge(opened.root, 56)


def test_no_norm_is_renamed_in_silence(tmp_path: Path) -> None:
    """A MAE whose norm comes before pooling and one whose norm comes after are two networks of the same tensors."""
    first, second = (
        convert_here(
            factories.save(tmp_path / f"{last}.pth", families.make_vit(last=last).checkpoint), tmp_path / last, 64
        )
        for last in ("norm", "fc_norm")
    )

    assert {"norm.weight", "norm.bias"} == first_names(first) - first_names(second)
    assert {"fc_norm.weight", "fc_norm.bias"} == first_names(second) - first_names(first)


def test_positions_without_a_class_token(tmp_path: Path) -> None:
    """DeiT III has no position for its class token: the table stays as it is, or is resampled as a whole."""
    network = timm.create_model("deit3_small_patch16_224", num_classes=0).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.02)
    file = factories.save(tmp_path / "deit3.pth", {"model": network.state_dict()})

    conversion = convert_here(file, tmp_path / "out", 224)
    larger = convert_here(file, tmp_path / "larger", 256)

    assert ("vit", "deit3_small_patch16_224") == (conversion.record.coverage.recipe, conversion.architecture)
    compare(network(make_images(224)), open_with_timm(tmp_path / "out")(make_images(224)))
    with undrawn():
        expected = timm.create_model("deit3_small_patch16_224", num_classes=0, img_size=256).eval()
    positions = resample_abs_pos_embed(network.pos_embed, [16, 16], num_prefix_tokens=0)
    expected.load_state_dict(network.state_dict() | {"pos_embed": positions})
    compare(expected(make_images(256)), open_with_timm(tmp_path / "larger")(make_images(256)))
    assert {"resample_positions": 1} == larger.record.coverage.computed


def first_names(conversion: Conversion) -> set[str]:
    """Return the names of the tensors of a converted model."""
    return set(open_with_timm(conversion.folder).state_dict())
