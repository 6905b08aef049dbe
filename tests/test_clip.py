"""CLIP in the names of OpenAI's code, as CheXzero's files have them, becomes timm's ViT."""

from collections import OrderedDict
from pathlib import Path

import factories
import pytest
import timm
import torch
from torch import Tensor, nn

from cxrzoo.architectures import match_architecture
from cxrzoo.checkpoint import find_state_dict, open_checkpoint
from cxrzoo.converter import convert_into
from cxrzoo.errors import ArchitectureError, UnmatchedKeyError
from cxrzoo.manifest import Preprocessing
from cxrzoo.matching import choose_fit

PREPROCESSING = Preprocessing((3, 224, 224), (0.398,) * 3, (0.327,) * 3, "bicubic", 1.0, "center")


class QuickGELU(nn.Module):
    """The approximation of GELU that OpenAI's code has."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """A residual block of CLIP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        layers = nn.Linear(width, 4 * width), QuickGELU(), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(zip(("c_fc", "gelu", "c_proj"), layers, strict=True)))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Visual(nn.Module):
    """CLIP's image tower, a ViT-B/32, up to its projection."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 768, 32, 32, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(768))
        self.positional_embedding = nn.Parameter(torch.randn(50, 768))
        self.ln_pre, self.ln_post = nn.LayerNorm(768), nn.LayerNorm(768)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.Sequential(*(Block(768, 12) for _ in range(12)))
        self.proj = nn.Parameter(torch.randn(768, 512))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_embedding.expand(len(images), 1, -1), patches], dim=1)
        return self.ln_post(self.transformer.resblocks(self.ln_pre(tokens + self.positional_embedding)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """The image tower of a CLIP whose norms and biases are not at their start, and its file in half precision."""
    torch.manual_seed(0)
    clip = nn.Module()
    clip.visual = Visual()
    clip.transformer = nn.Module()
    clip.transformer.resblocks = nn.Sequential(Block(8, 2))
    clip.token_embedding, clip.ln_final = nn.Embedding(10, 8), nn.LayerNorm(8)
    clip.positional_embedding = nn.Parameter(torch.randn(4, 8))
    clip.text_projection, clip.logit_scale = nn.Parameter(torch.randn(8, 512)), nn.Parameter(torch.ones([]))
    for name, parameter in clip.named_parameters():
        if name.endswith("bias") or ".ln_" in name:
            nn.init.normal_(parameter, float("ln_" in name and name.endswith("weight")), 0.1)
    clip.half()
    path = factories.save(tmp_path_factory.mktemp("clip") / "chexzero.pt", clip.state_dict())
    return clip.visual.float().eval(), path


def test_features_are_the_upstream_ones(made: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """With its architecture named, CLIP's image tower gives timm the same tokens; all else goes for a reason."""
    visual, path = made

    conversion = convert_into(
        tmp_path,
        path,
        architecture="vit_base_patch32_clip_quickgelu_224",
        variants={"x": PREPROCESSING},
        isolated=False,
    )

    coverage = conversion.record.coverage
    assert ("clip", 151, {"add_first_axes": 2}) == (coverage.recipe, coverage.kept, coverage.computed)
    assert {"projection head": 1, "temperature of the loss": 1, "text tower": 17} == coverage.dropped
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    backbone = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    with torch.inference_mode():
        expected, tokens, pooled = visual(images), backbone.forward_features(images), backbone(images)
    assert float((tokens - expected).abs().max()) <= 1e-5
    assert float((pooled - expected[:, 0]).abs().max()) <= 1e-5


def test_activation_must_be_named(made: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """Since no key tells one activation from the other, the architecture is asked for."""
    with pytest.raises(ArchitectureError, match="differ in what no shape tells. Pass --architecture"):
        convert_into(tmp_path, made[1], variants={"x": PREPROCESSING}, isolated=False)


def test_changed_keys_are_refused(made: tuple[nn.Module, Path]) -> None:
    """A key of the image tower that is unknown stops the conversion, and one that is missing is missed by name."""
    known = "visual.transformer.resblocks.5.mlp.c_fc.weight"
    with open_checkpoint(made[1]) as opened:
        state = find_state_dict(opened.root, [])
        unknown = known.replace("c_fc", "fc")
        renamed = {unknown if key == known else key: value for key, value in state.items()}
        for changed in (renamed, state | {unknown: state[known]}):
            with pytest.raises(UnmatchedKeyError, match=unknown):
                choose_fit(changed, "clip")
        fit = choose_fit({key: value for key, value in state.items() if key != known}, None)
        shapes = {name: (tensor.dtype, tensor.shape) for name, tensor in fit.outputs()[0].items()}

    with pytest.raises(ArchitectureError, match="missing: blocks.5.mlp.fc1.weight"):
        match_architecture(shapes, fit.route.architectures, None)
