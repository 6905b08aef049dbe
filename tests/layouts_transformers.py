"""Transformers as their papers define them, under the names that upstream code gives their tensors."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Multi-head attention with one layer for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(attend(query, key, value))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (batch, tokens, width) as (batch, heads, tokens, width of a head)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(q k / sqrt(d)) v with the heads side by side again."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return (scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


class Mlp(nn.Module):
    """Two layers with GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class PackedSwiGlu(nn.Module):
    """SwiGLU whose gate and value are one layer, as in DINOv2 and in xformers."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        return self.w3(functional.silu(gate) * value)


class LayerScale(nn.Module):
    """One factor a channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


class Block(nn.Module):
    """One block of a transformer, with norms before its two parts."""

    def __init__(self, width: int, heads: int, scaled: bool, swiglu: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = PackedSwiGlu(width, swiglu) if swiglu else Mlp(width)
        self.ls1 = LayerScale(width) if scaled else nn.Identity()
        self.ls2 = LayerScale(width) if scaled else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Patches(nn.Module):
    """An image as a row of patches."""

    def __init__(self, width: int, patch: int, channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, patch, patch)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """ViT under the names of DINO, MAE and timm; with scale, registers and SwiGLU also DINOv2's.

    `last` is the name of its last norm: `norm` of all tokens, or `fc_norm` of the mean of the patch tokens.
    """

    def __init__(
        self,
        width: int = 192,
        heads: int = 3,
        *,
        depth: int = 12,
        size: int = 64,
        patch: int = 16,
        channels: int = 3,
        registers: int = 0,
        scaled: bool = False,
        swiglu: int = 0,
        last: str = "norm",
    ) -> None:
        super().__init__()
        self.last = last
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, width))
        if registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, registers, width))
        self.patch_embed = Patches(width, patch, channels)
        self.blocks = nn.ModuleList([Block(width, heads, scaled, swiglu) for _ in range(depth)])
        setattr(self, last, nn.LayerNorm(width, eps=1e-6))

    def blockwise(self, images: Tensor) -> list[Tensor]:
        """Return all tokens after each block."""
        x = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        registers = getattr(self, "register_tokens", None)
        if registers is not None:
            x = torch.cat([x[:, :1], registers.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        outputs = []
        for block in self.blocks:
            x = block(x)
            outputs.append(x)
        return outputs


class EvaAttention(nn.Module):
    """Attention with rotary positions for patch tokens, and no bias in the key.

    `apart` has a layer each for query, key and value, as EVA-02 of base width; `inner` a norm before the last layer.
    """

    def __init__(self, width: int, heads: int, apart: bool, inner: bool) -> None:
        super().__init__()
        self.heads, self.apart = heads, apart
        if apart:
            for part in "qkv":
                setattr(self, f"{part}_proj", nn.Linear(width, width, bias=False))
        else:
            self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        if inner:
            self.inner_attn_ln = nn.LayerNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        if self.apart:
            query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        else:
            query, key, value = self.qkv(x).chunk(3, dim=-1)
        query, key, value = (split_heads(part, self.heads) for part in (query + self.q_bias, key, value + self.v_bias))
        query, key = (torch.cat([part[:, :, :1], rotate(part[:, :, 1:], angles)], dim=2) for part in (query, key))
        x = attend(query, key, value)
        return self.proj(self.inner_attn_ln(x) if hasattr(self, "inner_attn_ln") else x)


def rotate(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair of neighbouring channels by its angle."""
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1).flatten(-2)


def make_angles(grid: int, reference: int, head: int) -> Tensor:
    """Return (patches, pairs): half of the pairs turn with the row, half with the column.

    Positions are stretched to a reference grid, so that other image sizes see the angles of training.
    """
    frequencies = 10000.0 ** (-torch.arange(0, head // 2, 2) / (head // 2))
    turns = torch.arange(grid)[:, None] / grid * reference * frequencies
    rows = turns[:, None].expand(grid, grid, -1)
    columns = turns[None, :].expand(grid, grid, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


class NormedSwiGlu(nn.Module):
    """SwiGLU of EVA-02 of base width: gate and value apart, and a norm before the last layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden)
        self.w2 = nn.Linear(width, hidden)
        self.ffn_ln = nn.LayerNorm(hidden, eps=1e-6)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.w3(self.ffn_ln(functional.silu(self.w1(x)) * self.w2(x)))


class EvaBlock(nn.Module):
    """One block of EVA-02."""

    def __init__(self, width: int, heads: int, apart: bool, inner: bool) -> None:
        super().__init__()
        hidden = int(width * 4 * 2 / 3)
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = EvaAttention(width, heads, apart, inner)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = NormedSwiGlu(width, hidden) if apart else PackedSwiGlu(width, hidden)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x), angles)
        return x + self.mlp(self.norm2(x))


class Eva(nn.Module):
    """EVA-02 as it is pre-trained: a mask token, a last norm and a head that predicts visual tokens."""

    def __init__(
        self, width: int = 192, heads: int = 3, *, size: int = 224, apart: bool = False, inner: bool = False
    ) -> None:
        super().__init__()
        self.angles = make_angles(size // 16, 14, width // heads)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // 16) ** 2, width))
        self.patch_embed = Patches(width, 16)
        self.blocks = nn.ModuleList([EvaBlock(width, heads, apart, inner) for _ in range(12)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.lm_head = nn.Linear(width, 32)

    def blockwise(self, images: Tensor) -> list[Tensor]:
        """Return all tokens after each block."""
        x = self.patch_embed(images)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        outputs = []
        for block in self.blocks:
            x = block(x, self.angles)
            outputs.append(x)
        return outputs


def train(network: nn.Module, seed: int = 0) -> nn.Module:
    """Return the network with no tensor at its start, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if ("norm" in name.lower() and name.endswith("weight")) or "_ln.weight" in name:
                parameter.uniform_(0.5, 1.5, generator=generator)
            elif "gamma" in name or "lambda" in name:
                parameter.uniform_(0.1, 1.0, generator=generator)
            else:
                fan = parameter[0].numel() if name.endswith("weight") else 100
                parameter.normal_(0, fan**-0.5, generator=generator)
    return network.eval()


class WindowAttention(nn.Module):
    """Attention inside windows of `side` by `side` tokens, with a learned bias for each offset between two tokens."""

    def __init__(self, width: int, heads: int, side: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * side - 1) ** 2, heads))
        rows, columns = torch.arange(side).repeat_interleave(side), torch.arange(side).repeat(side)
        offsets = [axis[:, None] - axis[None, :] + side - 1 for axis in (rows, columns)]
        self.register_buffer("relative_position_index", offsets[0] * (2 * side - 1) + offsets[1])

    def forward(self, windows: Tensor, mask: Tensor | None) -> Tensor:
        query, key, value = (split_heads(part, self.heads) for part in self.qkv(windows).chunk(3, dim=-1))
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        scores = scores + self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)
        if mask is not None:
            scores = scores + mask.repeat(len(windows) // len(mask), 1, 1)[:, None]
        return self.proj((scores.softmax(dim=-1) @ value).transpose(1, 2).flatten(2))


def cut(x: Tensor, side: int) -> Tensor:
    """Return (batch, height, width, ...) as windows: (batch * windows, side * side, ...)."""
    batch, height, width = x.shape[:3]
    x = x.reshape(batch, height // side, side, width // side, side, -1)
    return x.transpose(2, 3).reshape(-1, side * side, x.shape[-1])


class SwinBlock(nn.Module):
    """One block of Swin: windows, moved by half their side in every second block."""

    def __init__(self, width: int, heads: int, grid: int, side: int, shifted: bool) -> None:
        super().__init__()
        self.side, self.shift = min(side, grid), side // 2 if shifted and grid > side else 0
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, self.side)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width)
        self.register_buffer("attn_mask", self._mask(grid) if self.shift else None)

    def _mask(self, grid: int) -> Tensor:
        """Keep apart the tokens that the shift brings together from opposite edges."""
        places = torch.arange(grid)
        bands = (places >= grid - self.side).long() + (places >= grid - self.shift).long()
        regions = cut((3 * bands[:, None] + bands[None, :])[None, :, :, None], self.side)[..., 0]
        return (regions[:, :, None] != regions[:, None, :]) * -100.0

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, channels = x.shape
        moved = torch.roll(self.norm1(x), (-self.shift, -self.shift), (1, 2))
        windows = self.attn(cut(moved, self.side), self.attn_mask)
        windows = windows.reshape(batch, height // self.side, width // self.side, self.side, self.side, channels)
        moved = windows.transpose(2, 3).reshape(x.shape)
        x = x + torch.roll(moved, (self.shift, self.shift), (1, 2))
        return x + self.mlp(self.norm2(x))


class Merging(nn.Module):
    """Each two by two tokens become one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class SwinStage(nn.Module):
    """Blocks, and what merges patches after them: the layout of the first release."""

    def __init__(self, width: int, heads: int, grid: int, side: int, depth: int, merged: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([SwinBlock(width, heads, grid, side, bool(i % 2)) for i in range(depth)])
        self.downsample = Merging(width) if merged else None


class Swin(nn.Module):
    """Swin of tiny size under the names of Microsoft's code; with a `mask_token` as SimMIM has it."""

    def __init__(self, *, size: int = 224, side: int = 7, masked: bool = False) -> None:
        super().__init__()
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, 96, 4, 4)
        self.patch_embed.norm = nn.LayerNorm(96)
        if masked:
            self.mask_token = nn.Parameter(torch.zeros(1, 1, 96))
        self.layers = nn.ModuleList(
            [
                SwinStage(96 * 2**i, 3 * 2**i, size // 4 // 2**i, side, depth, merged=i < 3)
                for i, depth in enumerate((2, 2, 6, 2))
            ]
        )
        self.norm = nn.LayerNorm(768)

    def stagewise(self, images: Tensor) -> list[Tensor]:
        """Return the map after each stage, (batch, height, width, channels)."""
        x = self.patch_embed.norm(self.patch_embed.proj(images).permute(0, 2, 3, 1))
        outputs = []
        for stage in self.layers:
            for block in stage.blocks:
                x = block(x)
            outputs.append(x)
            x = stage.downsample(x) if stage.downsample else x
        return outputs
