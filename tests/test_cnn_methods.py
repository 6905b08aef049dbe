"""Checkpoints of methods that train convolutional backbones become those backbones, and nothing else does."""

import functools
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import factories
import layouts_cnn_methods as layouts
import pytest
import timm
import torch
from layouts_cnn_methods import Made

from cxrzoo.architectures import match_architecture
from cxrzoo.checkpoint import Tensor, find_state_dict, open_checkpoint
from cxrzoo.converter import Conversion, convert_into
from cxrzoo.errors import ArchitectureError, ConversionError, UnmatchedKeyError
from cxrzoo.manifest import Preprocessing
from cxrzoo.matching import choose_fit
from cxrzoo.publisher import convert

KEYS, QUEUE = "key encoder", "queue of negatives"

Row = tuple[str, str, Callable[[], Made], str, int, dict[str, int], dict[str, int]]
#: what it is, recipe, builder, architecture, kept, dropped, computed
ROWS: list[Row] = [
    ("CovidPrognosis", "moco-lightning", layouts.make_moco_lightning, "densenet121", 725,
     {"projection head": 2, KEYS: 727, QUEUE: 2}, {}),
    ("SimCLR", "simclr", layouts.make_simclr, "resnet18", 120, {"projection head": 4}, {}),
    ("SimCLR v2", "simclr-separius", layouts.make_simclr_separius, "resnet50", 318, {"classifier": 2}, {}),
    ("VISSL", "vissl", layouts.make_vissl, "resnet50", 318, {}, {}),
    ("VISSL, plain dump", "vissl", layouts.make_vissl_dump, "resnet50", 265, {"projection head": 1},
     {"add_counters": 53}),
    ("SwAV", "swav", layouts.make_swav, "resnet50", 318, {"projection head": 9, "prototypes": 1}, {}),
    ("DeepCluster-v2, flat", "swav", functools.partial(layouts.make_swav, 3, wrapped=False), "resnet50", 318,
     {"projection head": 9, "prototypes": 3}, {}),
    ("C2L", "c2l", layouts.make_c2l, "resnet18", 120, {"projection head": 2}, {}),
    ("C2L, DenseNet", "c2l", functools.partial(layouts.make_c2l, "densenet121"), "densenet121", 725,
     {"projection head": 2}, {}),
    ("CheSS", "moco", layouts.make_chess, "resnet50", 318, {KEYS: 322, "projection head": 4, QUEUE: 2}, {}),
    ("BioViL", "biovil", layouts.make_biovil, "resnet50", 318, {"classifier": 2, "projection head": 8}, {}),
    ("BioViL-T", "biovil", functools.partial(layouts.make_biovil, temporal=True), "resnet50", 318,
     {"classifier": 2, "comparison with an earlier image": 12, "projection head": 8}, {}),
    ("MGCA", "mgca", layouts.make_mgca, "resnet18", 120,
     {"attention between image and text": 8, "projection head": 24, "prototypes": 1, "text tower": 18}, {}),
    ("MedKLIP", "medklip", layouts.make_medklip, "resnet50", 258,
     {"classifier": 2, "decoder": 20, "embedding of text": 4, "projection head": 4}, {}),
    ("GLoRIA", "gloria", layouts.make_gloria, "resnet18", 120, {"projection head": 3, "text tower": 6}, {}),
    ("medical_mae", "mae-cnn", layouts.make_mae_cnn, "densenet121", 725,
     {"decoder": 60, "segmentation head": 2}, {}),
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


def preprocessing(in_chans: int) -> Preprocessing:
    """Return some preprocessing for small images."""
    return Preprocessing((in_chans, 64, 64), (0.5,) * in_chans, (0.25,) * in_chans, "bilinear", 1.0, "center")


@pytest.fixture(scope="module", params=ROWS, ids=[row[0] for row in ROWS])
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Converted]:
    """Each row of the table in turn, gone from the disk before the next one comes."""
    _, recipe, build, architecture, kept, dropped, computed = request.param
    folder = tmp_path_factory.mktemp("method")
    made = build()
    path = factories.save(folder / "c.pth", made.checkpoint)
    (folder / "out").mkdir()
    conversion = convert_into(folder / "out", path, variants={"x": preprocessing(made.in_chans)}, isolated=False)
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
    assert len(converted.made.state) == coverage.kept + sum(coverage.dropped.values())


def test_features_are_the_upstream_ones(converted: Converted) -> None:
    """The backbone that timm loads gives the feature maps and the pooled features of the network in the checkpoint."""
    images = torch.randn(1, converted.made.in_chans, 64, 64, generator=torch.Generator().manual_seed(1))
    backbone = timm.create_model(f"local-dir:{converted.conversion.folder}", pretrained=True).eval()

    with torch.inference_mode():
        maps = converted.made.maps(images)
        found = backbone.forward_features(images)
        pooled = backbone(images)
        # timm's first map is that of the stem
        stages = backbone.forward_intermediates(images, intermediates_only=True)[1 : 1 + len(maps)]

    expected = maps[-1]
    scale = float(expected.abs().max())
    assert scale > 1e-3
    assert float((found - expected).abs().max()) <= 1e-5 * max(1, scale)
    assert float((pooled - expected.mean(dim=(2, 3))).abs().max()) <= 1e-5 * max(1, scale)
    for stage, map_ in zip(stages, maps, strict=True) if len(maps) > 1 else ():
        assert float((stage - map_).abs().max()) <= 1e-5 * max(1, float(map_.abs().max()))


def _wrap(state: dict[str, Tensor], path: tuple[str, ...]) -> object:
    return functools.reduce(lambda inner, key: {key: inner}, reversed(path), state)


def test_unknown_keys_are_refused(converted: Converted) -> None:
    """A key that was renamed or added stops the conversion, with and without the recipe's name."""
    with open_checkpoint(converted.path) as opened:
        state = find_state_dict(opened.root, [".".join(converted.made.path)])
        known = [key for key in converted.conversion.kept if key.endswith(".weight")][10]
        unknown = known.replace(".weight", "x.weight")
        renamed = {unknown if key == known else key: tensor for key, tensor in state.items()}
        extra = state | {unknown: state[known]}

        for changed in (renamed, extra):
            root = _wrap(changed, converted.made.path)
            with pytest.raises(UnmatchedKeyError, match=re.escape(unknown)):
                choose_fit(root, converted.recipe)
            with pytest.raises(ConversionError, match="none of the .* recipes fits"):
                choose_fit(root, None)


def test_missing_keys_are_refused(converted: Converted) -> None:
    """A tensor of the backbone that is not in the file is missed by name."""
    with open_checkpoint(converted.path) as opened:
        state = find_state_dict(opened.root, [".".join(converted.made.path)])
        gone = next(p for p in reversed(converted.conversion.placements) if p.target and p.target.endswith(".bias"))
        fit = choose_fit(_wrap({k: v for k, v in state.items() if k != gone.key}, converted.made.path), None)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in fit.outputs()[0].items()}

    with pytest.raises(ArchitectureError, match=rf"missing: {gone.target} "):
        match_architecture(shapes, fit.route.architectures, converted.architecture)


def test_a_folder_is_written(tmp_path: Path) -> None:
    """What a user calls writes a whole folder, whose card says how far the features of MedKLIP go."""
    path = factories.save(tmp_path / "medklip.pth", layouts.make_medklip().checkpoint)

    folder = convert(path, tmp_path / "out", preprocessing=preprocessing(3)).folder

    card = (folder / "README.md").read_text(encoding="utf-8")
    assert ["README.md", "config.json", "model.safetensors"] == sorted(p.name for p in folder.iterdir())
    assert "features are of stride 16 and 1024 channels" in card


WIDE = "'resnet-widened', which is refused: it is a ResNet of which all layers are wider"
LEAKY = "'s2mts2', which is refused: all activations of its DenseNet are leaky"
SELECTIVE = "'simclr-sk', which is refused: its network has selective kernels"
REFUSED = {
    "S2MTS2": (layouts.make_s2mts2, "moco", LEAKY),
    "S2MTS2, wrapped": (functools.partial(layouts.make_s2mts2, "module.encoder_q."), "moco", LEAKY),
    "SimCLR v2, SK": (functools.partial(layouts.make_simclr_separius, selective=True), "simclr-separius", SELECTIVE),
    "SimCLR v2, 2x": (functools.partial(layouts.make_simclr_separius, 2), "simclr-separius", WIDE),
    "SwAV, 4x": (functools.partial(layouts.make_swav, width=4), "swav", WIDE),
    "VISSL, 2x": (functools.partial(layouts.make_vissl, width=2), "vissl", WIDE),
}


@pytest.mark.parametrize(("build", "recipe", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(build: Callable[[], Made], recipe: str, message: str, tmp_path: Path) -> None:
    """A network that has no counterpart in timm is refused with the reason, also where a recipe is named."""
    path = factories.save(tmp_path / "c.pth", build().checkpoint)

    with open_checkpoint(path) as opened:
        for name in (None, recipe):
            with pytest.raises(ConversionError, match=message):
                choose_fit(opened.root, name)
