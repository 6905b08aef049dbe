"""A vision transformer with the heads that group-masked modelling trains it by."""

from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import nn

from cxrzoo.errors import PretrainingError
from cxrzoo.pretraining.gmml.heads import ProjectionHead, ReconstructionHead
from cxrzoo.pretraining.gmml.settings import GmmlSettings

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


class Outputs(NamedTuple):
    """Mean patch tokens (B, D); painted images (B, C, H, W); projections (B, dimension) if there is a head for them."""

    embeddings: torch.Tensor
    images: torch.Tensor
    projections: torch.Tensor | None


class Network(nn.Module):
    """A backbone, the head that paints images, and with the contrastive term the one on the class token."""

    backbone: "VisionTransformer"

    def __init__(self, backbone: nn.Module, settings: GmmlSettings, channels: int) -> None:
        from timm.models.vision_transformer import VisionTransformer  # 8 s, which a plan alone needn't take

        super().__init__()
        if not isinstance(backbone, VisionTransformer) or backbone.cls_token is None:
            raise PretrainingError(
                f"found a {type(backbone).__name__} for gmml, expected a vision transformer of timm with a class "
                "token, such as vit_small_patch16_224."
            )
        if isinstance(backbone.norm, nn.Identity):
            raise PretrainingError(
                "found a vision transformer without norm on its tokens, which is what gmml trains. Create it with "
                "fc_norm = false."
            )
        # Only patch tokens learn in GMML (its vision_transformer.py, the end of forward): they are the embedding.
        backbone.reset_classifier(0, "avg")
        self.backbone = backbone
        self.blocks = choose_blocks(settings, len(backbone.blocks))
        self.head_recons = ReconstructionHead(backbone.num_features, channels, backbone.patch_embed.patch_size)
        sizes = (backbone.num_features, settings.hidden, settings.dimension)
        self.head = ProjectionHead(*sizes) if settings.contrastive else None

    def forward(self, images: torch.Tensor) -> Outputs:
        """Return what the heads make of images (B, C, H, W)."""
        indices = [block - 1 for block in self.blocks]
        outputs = self.backbone.forward_intermediates(images, indices=indices, output_fmt="NLC")
        final, layers = cast(tuple[torch.Tensor, list[torch.Tensor]], outputs)
        patches = final[:, self.backbone.num_prefix_tokens :]
        tokens = self.backbone.norm(sum(layers) / len(layers)) if len(layers) > 1 else patches
        painted = self.head_recons(tokens, self.backbone.patch_embed.grid_size)
        return Outputs(patches.mean(dim=1), painted, self.head(final[:, 0]) if self.head else None)

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """Return the projections of images alone."""
        assert self.head is not None
        return self.head(self.backbone.forward_features(images)[:, 0])  # type: ignore[no-any-return]


def choose_blocks(settings: GmmlSettings, depth: int) -> tuple[int, ...]:
    """Return the blocks whose tokens are averaged, counted from 1.

    Raises:
        PretrainingError: They are none of this network's, or leave the last ones untrained.
    """
    if settings.blocks:
        if settings.blocks[-1] != depth:
            raise PretrainingError(
                f"gmml: blocks: found {settings.blocks[-1]} as the last of {depth} blocks, expected {depth}: blocks "
                "after the last one named learn nothing."
            )
        return settings.blocks
    if settings.contrastive:
        return (depth,)
    if depth % 6:
        raise PretrainingError(
            f"found a network of {depth} blocks, none of which stand at 6, 8, 10 and 12 twelfths. Name gmml's blocks."
        )
    return tuple(depth * twelfths // 12 for twelfths in (6, 8, 10, 12))
