"""A checkpoint of each transformer family as its authors' code saves it, and what the upstream network makes of it."""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import factories
import layouts_transformers as layouts
import torch
from torch import Tensor, nn

Images = Tensor
State = dict[str, Tensor]


@dataclass(frozen=True)
class Features:
    """What a network makes of some images: all tokens or the last map, two maps on the way, and the embedding."""

    last: Tensor
    maps: list[Tensor]
    embedding: Tensor


@dataclass(frozen=True)
class Sample:
    """A checkpoint, and the network it was made from."""

    checkpoint: dict[str, Any]
    upstream: Callable[[Images], Features]


@dataclass(frozen=True)
class Family:
    """How to make a sample, and what its conversion must say.

    `container` is the key under which the tensors lie that count.
    """

    make: Callable[[], Sample]
    container: str
    recipe: str
    architecture: str
    kept: int
    size: int = 64
    model_args: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    computed: dict[str, int] = field(default_factory=dict)
    indices: tuple[int, int] = (5, 11)


def prefixed(prefix: str, network: nn.Module) -> State:
    """Return a network's tensors under a prefix."""
    return {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}


def settings() -> dict[str, Any]:
    """Return what most training scripts save beside the weights."""
    adam = {"state": {0: {"step": 10, "exp_avg": torch.randn(3), "exp_avg_sq": torch.rand(3)}}, "param_groups": []}
    return {"optimizer": adam, "epoch": 100, "args": argparse.Namespace(arch="vit_tiny", lr=5e-4, data_path="x")}


def as_map(tokens: Tensor) -> Tensor:
    """Return patch tokens (batch, patches, width) as a square map."""
    return tokens.transpose(1, 2).unflatten(2, 2 * [math.isqrt(tokens.shape[1])])


def of_tokens(network: nn.Module, pooling: str, indices: tuple[int, int] = (5, 11)) -> Callable[[Images], Features]:
    """Return what computes the features of a transformer; `pooling` is the class token or the mean of the patches."""

    def compute(images: Images) -> Features:
        outputs = network.blockwise(images)
        prefix = 1 + (network.register_tokens.shape[1] if hasattr(network, "register_tokens") else 0)
        maps = [as_map(outputs[index][:, prefix:]) for index in indices]
        if pooling == "norm of mean":
            norm = getattr(network, "fc_norm", None) or network.norm
            return Features(outputs[-1], maps, norm(outputs[-1][:, prefix:].mean(dim=1)))
        tokens = network.norm(outputs[-1])
        return Features(tokens, maps, tokens[:, 0] if pooling == "class token" else tokens[:, prefix:].mean(dim=1))

    return compute


def of_resnet(network: nn.Module) -> Callable[[Images], Features]:
    """Return what computes the features of a ResNet of torchvision."""

    def compute(images: Images) -> Features:
        x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        maps = []
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
            maps.append(x)
        return Features(x, [maps[1], maps[3]], x.mean(dim=(2, 3)))

    return compute


def of_swin(network: layouts.Swin) -> Callable[[Images], Features]:
    """Return what computes the features of a Swin transformer."""

    def compute(images: Images) -> Features:
        outputs = network.stagewise(images)
        last = network.norm(outputs[-1])
        return Features(last, [outputs[i].permute(0, 3, 1, 2) for i in (1, 3)], last.mean(dim=(1, 2)))

    return compute


def make_projector(layers: int, width: int) -> nn.Sequential:
    """Return MoCo v3's heads: linear layers without bias, each with BatchNorm, the last one's without weights."""
    parts: list[nn.Module] = []
    for last in [False] * (layers - 1) + [True]:
        parts += [nn.Linear(width, width, bias=False), nn.BatchNorm1d(width, affine=not last)]
        parts += [] if last else [nn.ReLU()]
    return nn.Sequential(*parts)


def make_dino_head(width: int) -> State:
    """Return the tensors of DINO's head: three layers, and a last one with weight and length apart."""
    mlp = nn.Sequential(nn.Linear(width, 8), nn.GELU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 4))
    last = {"last_layer.weight_g": torch.ones(16, 1), "last_layer.weight_v": torch.randn(16, 4)}
    return prefixed("mlp.", mlp) | last


def make_reconstruction(width: int) -> nn.Module:
    """Return GMML's and SiT's reconstruction head."""
    head = nn.Module()
    head.mlp = nn.Sequential(*(nn.Linear(width, width) if i % 2 == 0 else nn.GELU() for i in range(6)))
    head.convTrans = nn.ConvTranspose2d(width, 3, 16, 16)
    return head


def make_vit(**options: Any) -> Sample:
    network = layouts.train(layouts.VisionTransformer(**options))
    pooling = "class token" if network.last == "norm" else "norm of mean"
    state = dict(network.state_dict())
    if network.last == "fc_norm":
        state |= prefixed("head.", nn.Linear(state["cls_token"].shape[-1], 14))
    return Sample({"model": state, **settings()}, of_tokens(network, pooling))


def make_moco_v3_vit() -> Sample:
    network, momentum = (layouts.train(layouts.VisionTransformer(384, 12), seed) for seed in (0, 1))
    state = prefixed("module.base_encoder.", network) | prefixed("module.base_encoder.head.", make_projector(3, 384))
    state |= prefixed("module.momentum_encoder.", momentum)
    state |= prefixed("module.momentum_encoder.head.", make_projector(3, 384))
    state |= prefixed("module.predictor.", make_projector(2, 384))
    return Sample({"arch": "vit_small", "state_dict": state, **settings()}, of_tokens(network, "class token"))


def make_moco_v3_resnet() -> Sample:
    network, momentum = (factories.make_network("resnet50", seed=seed) for seed in (0, 1))
    network.fc, momentum.fc = make_projector(2, 2048), make_projector(2, 2048)
    state = prefixed("module.base_encoder.", network) | prefixed("module.momentum_encoder.", momentum)
    state |= prefixed("module.predictor.", make_projector(2, 256))
    return Sample({"arch": "resnet50", "state_dict": state}, of_resnet(network))


def make_dino() -> Sample:
    teacher, student = (layouts.train(layouts.VisionTransformer(), seed) for seed in (0, 1))
    heads = {f"head.{name}": tensor for name, tensor in make_dino_head(192).items()}
    student_state = prefixed("module.backbone.", student) | {f"module.{k}": v for k, v in heads.items()}
    checkpoint = {"student": student_state, "teacher": prefixed("backbone.", teacher) | heads, **settings()}
    return Sample(checkpoint | {"dino_loss": {"center": torch.zeros(1, 16)}}, of_tokens(teacher, "class token"))


def make_dino_student() -> Sample:
    network = factories.make_network("resnet50")
    heads = {f"module.head.{name}": tensor for name, tensor in make_dino_head(2048).items()}
    network.fc = nn.Identity()
    return Sample({"student": prefixed("module.backbone.", network) | heads}, of_resnet(network))


def chunked(network: nn.Module, prefix: str, size: int) -> State:
    """Return DINOv2's tensors as training stores them: blocks in chunks, numbered through."""
    state: State = {}
    for name, tensor in network.state_dict().items():
        if name.startswith("blocks."):
            number = int(name.split(".")[1])
            name = f"blocks.{number // size}.{name.removeprefix('blocks.')}"
        state[f"{prefix}{name}"] = tensor
    return state | {f"{prefix}mask_token": torch.randn(1, network.cls_token.shape[-1])}


def make_dinov2() -> Sample:
    network = layouts.train(layouts.VisionTransformer(384, 6, size=56, patch=14, scaled=True))
    state = chunked(network, "backbone.", 3)
    for head in ("dino_head", "ibot_head"):
        state |= {f"{head}.{name}": tensor for name, tensor in make_dino_head(384).items()}
    return Sample({"teacher": state, "iteration": 1249}, of_tokens(network, "class token"))


def make_dinov2_hub() -> Sample:
    network = layouts.train(layouts.VisionTransformer(384, 6, size=56, patch=14, scaled=True, registers=4))
    return Sample(network.state_dict() | {"mask_token": torch.randn(1, 384)}, of_tokens(network, "class token"))


def make_chexfound() -> Sample:
    network = layouts.VisionTransformer(1024, 16, depth=24, scaled=True, registers=4, swiglu=2736)
    # half precision, which holds half of the bytes and of the time
    network = layouts.train(network).half().float()
    state = {name: tensor.half() for name, tensor in chunked(network, "backbone.", 6).items()}
    for head in ("dino_head", "ibot_head"):
        state |= {f"{head}.{name}": tensor for name, tensor in make_dino_head(1024).items()}
    return Sample({"teacher": state}, of_tokens(network, "class token", (11, 23)))


NEW_NAMES = {
    "attention.attention.query.": "attention.q_proj.",
    "attention.attention.key.": "attention.k_proj.",
    "attention.attention.value.": "attention.v_proj.",
    "attention.output.dense.": "attention.o_proj.",
}


def make_transformers(*, new: bool, registers: bool = False, prefix: str = "") -> Sample:
    """Return DINOv2 as transformers saves it, with the names of its version 5 or of those before."""
    import transformers

    options = {"hidden_size": 384, "num_attention_heads": 6, "patch_size": 14, "image_size": 56}
    if registers:
        network = transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(**options))
    else:
        network = transformers.Dinov2Model(transformers.Dinov2Config(**options))
    layouts.train(network)
    state = {}
    for name, tensor in network.state_dict().items():
        for old_name, new_name in NEW_NAMES.items():
            name = name.replace(old_name, new_name) if new else name.replace(new_name, old_name)
        state[f"{prefix}{name}"] = tensor
    skipped = 5 if registers else 1

    def compute(images: Images) -> Features:
        outputs = network(pixel_values=images, output_hidden_states=True)
        maps = [as_map(outputs.hidden_states[index][:, skipped:]) for index in (6, 12)]
        return Features(outputs.last_hidden_state, maps, outputs.pooler_output)

    if prefix:
        state |= prefixed("classifier.", nn.Linear(768, 2))
    return Sample(state, compute)


def make_mae() -> Sample:
    network = layouts.train(layouts.VisionTransformer())
    decoder = layouts.train(layouts.VisionTransformer(64, 2, depth=1), 1)
    state = dict(network.state_dict()) | {"mask_token": torch.randn(1, 1, 64)}
    state |= {"decoder_pos_embed": decoder.pos_embed.detach()} | prefixed("decoder_blocks.", decoder.blocks)
    for name, part in {"embed": nn.Linear(192, 64), "norm": decoder.norm, "pred": nn.Linear(64, 768)}.items():
        state |= prefixed(f"decoder_{name}.", part)
    return Sample({"model": state, "scaler": {"scale": 65536.0}, **settings()}, of_tokens(network, "class token"))


def make_gmml() -> Sample:
    network = layouts.train(layouts.VisionTransformer())
    state = prefixed("module.backbone.", network) | prefixed("module.head_recons.", make_reconstruction(192))
    checkpoint = {"SiT_model": state, "fp16_scaler": {"scale": 65536.0}, **settings()}
    return Sample(checkpoint, of_tokens(network, "mean of patches"))


def make_sit() -> Sample:
    checkpoint = settings()
    networks = {}
    for seed, name in enumerate(("student", "teacher")):
        networks[name] = layouts.train(layouts.VisionTransformer(), seed)
        checkpoint[name] = prefixed("module.backbone.", networks[name])
        checkpoint[name] |= prefixed("module.head.mlp.", make_projector(3, 192))
        checkpoint[name] |= prefixed("module.head_recons.", make_reconstruction(192))
    return Sample(checkpoint, of_tokens(networks["teacher"], "mean of patches"))


def make_eva(*options: int, container: str = "model", **more: Any) -> Sample:
    network = layouts.train(layouts.Eva(*options, size=96, **more))
    state = dict(network.state_dict())
    for place in ["", *(f"blocks.{i}.attn." for i in range(12))]:
        state |= {f"{place}rope.freqs_cos": network.angles.cos(), f"{place}rope.freqs_sin": network.angles.sin()}
    return Sample({container: state}, of_tokens(network, "norm of mean"))


def make_swin(container: str, **options: Any) -> Sample:
    network = layouts.train(layouts.Swin(**options))
    state = dict(network.state_dict()) | prefixed("head.", nn.Linear(768, 14))
    return Sample({container: state}, of_swin(network))


def make_ark() -> Sample:
    teacher, student = (layouts.train(layouts.Swin(), seed) for seed in (0, 1))
    checkpoint: dict[str, Any] = {"epoch": 3, "lossMIN": 0.5}
    for name, network in {"state_dict": student, "teacher": teacher}.items():
        checkpoint[name] = prefixed("module.", network) | prefixed("module.projector.", nn.Linear(768, 1376))
        for number in range(6):
            checkpoint[name] |= prefixed(f"module.omni_heads.{number}.", nn.Linear(1376, 14))
    return Sample(checkpoint, of_swin(teacher))


def make_simmim() -> Sample:
    network = layouts.train(layouts.Swin(masked=True))
    state = prefixed("encoder.", network) | prefixed("decoder.0.", nn.Conv2d(768, 3072, 1))
    return Sample({"model": state, **settings()}, of_swin(network))


def make_swin_timm() -> Sample:
    sample = make_swin("state_dict")
    state = {}
    for name, tensor in sample.checkpoint["state_dict"].items():
        if "relative_position_index" in name or "attn_mask" in name:
            continue
        if ".downsample." in name:
            name = f"layers.{int(name.split('.')[1]) + 1}.{name.split('.', 2)[2]}"
        state[name.replace("head.", "head.fc.")] = tensor
    return Sample({"state_dict": state, "state_dict_ema": state}, sample.upstream)


_CONTRASTIVE = {"momentum encoder": 166, "prediction head": 10, "projection head": 16}
_V2_HEADS = {"mask token": 1, "projection head of DINO": 8, "projection head of iBOT": 8}
_MEAN = {"global_pool": "avg", "fc_norm": False, "img_size": 64}
_ROTARY = {"head that predicts tokens": 2, "mask token": 1, "table that is computed": 26}
_EVA_ARGS = {"ref_feat_shape": [14, 14], "patch_size": 16, "img_size": 96}
_CHEXFOUND_ARGS = {
    "global_pool": "token", "num_reg_tokens": 4, "no_embed_class": True, "use_rot_pos_emb": False, "qkv_fused": True,
    "scale_mlp": False, "mlp_ratio": 2.671875, "init_values": 1e-5, "patch_size": 16, "img_size": 64,
}  # fmt: skip
_REGISTERS = {"add_class_position": 1, "drop_class_position": 1}
_QKV = {"concatenate": 24}

# fmt: off
FAMILIES = {
    "vit": Family(make_vit, "model", "vit", "vit_tiny_patch16_224", 150, model_args={"img_size": 64}),
    "vit-average": Family(
        lambda: make_vit(last="fc_norm"), "model", "vit", "vit_tiny_patch16_224", 150,
        model_args={"global_pool": "avg", "img_size": 64}, dropped={"classifier": 2},
    ),
    "vit-patch8-grey": Family(
        lambda: make_vit(patch=8, channels=1), "model", "vit", "vit_tiny_patch16_224", 150,
        model_args={"img_size": 64, "patch_size": 8, "in_chans": 1},
    ),
    "moco-v3-vit": Family(
        make_moco_v3_vit, "state_dict", "moco-v3", "vit_small_patch16_224", 150,
        model_args={"num_heads": 12, "img_size": 64}, dropped=_CONTRASTIVE,
    ),
    "moco-v3-resnet": Family(
        make_moco_v3_resnet, "state_dict", "moco-v3", "resnet50", 318, indices=(2, 4),
        dropped={"momentum encoder": 328, "prediction head": 10, "projection head": 10},
    ),
    "dino": Family(
        make_dino, "teacher", "dino", "vit_tiny_patch16_224", 150,
        model_args={"img_size": 64}, dropped={"projection head": 8},
    ),
    "dino-student-resnet": Family(
        make_dino_student, "student", "dino", "resnet50", 318, indices=(2, 4), dropped={"projection head": 8},
    ),
    "dinov2": Family(
        make_dinov2, "teacher", "dinov2", "vit_small_patch14_dinov2", 174, size=56,
        model_args={"img_size": 56}, dropped=_V2_HEADS,
    ),
    "dinov2-hub": Family(
        make_dinov2_hub, "", "dinov2", "vit_small_patch14_reg4_dinov2", 175, size=56,
        model_args={"img_size": 56}, dropped={"mask token": 1}, computed=_REGISTERS,
    ),
    "dinov2-hf": Family(
        lambda: make_transformers(new=True), "", "dinov2-hf", "vit_small_patch14_dinov2", 222, size=56,
        model_args={"img_size": 56}, dropped={"mask token": 1}, computed=_QKV,
    ),
    "dinov2-hf-old": Family(
        lambda: make_transformers(new=False, prefix="dinov2."), "", "dinov2-hf", "vit_small_patch14_dinov2", 222,
        size=56, model_args={"img_size": 56}, dropped={"classifier": 2, "mask token": 1}, computed=_QKV,
    ),
    "dinov2-hf-registers": Family(
        lambda: make_transformers(new=False, registers=True), "", "dinov2-hf", "vit_small_patch14_reg4_dinov2", 223,
        size=56, model_args={"img_size": 56}, dropped={"mask token": 1}, computed=_QKV | _REGISTERS,
    ),
    "mae": Family(
        make_mae, "model", "mae", "vit_tiny_patch16_224", 150,
        model_args={"img_size": 64}, dropped={"decoder": 19, "mask token": 1},
    ),
    "gmml": Family(
        make_gmml, "SiT_model", "gmml", "vit_tiny_patch16_224", 150,
        model_args=_MEAN, dropped={"reconstruction head": 8},
    ),
    "sit": Family(
        make_sit, "teacher", "sit", "vit_tiny_patch16_224", 150,
        model_args=_MEAN, dropped={"projection head": 16, "reconstruction head": 8},
    ),
    "eva02": Family(
        make_eva, "model", "eva02", "eva02_tiny_patch14_224", 162, size=96, model_args=_EVA_ARGS, dropped=_ROTARY,
    ),
    "eva02-base": Family(
        lambda: make_eva(768, 12, apart=True, container="module"), "module", "eva02-base", "eva02_base_patch14_224",
        234, size=96, model_args=_EVA_ARGS, dropped=_ROTARY,
    ),
    "eva02-base-inner": Family(
        lambda: make_eva(768, 12, apart=True, inner=True), "model", "eva02-base", "eva02_base_patch14_224",
        258, size=96, model_args=_EVA_ARGS | {"scale_attn_inner": True}, dropped=_ROTARY,
    ),
    "swin": Family(
        lambda: make_swin("model"), "model", "swin", "swin_tiny_patch4_window7_224", 171, size=224, indices=(1, 3),
        dropped={"classifier": 2, "table that is computed": 17},
    ),
    "ark": Family(
        make_ark, "teacher", "swin", "swin_tiny_patch4_window7_224", 171, size=224, indices=(1, 3),
        dropped={"classifier": 12, "projector": 2, "table that is computed": 17},
    ),
    "simmim": Family(
        make_simmim, "model", "simmim", "swin_tiny_patch4_window7_224", 171, size=224, indices=(1, 3),
        dropped={"decoder": 2, "mask token": 1, "table that is computed": 17},
    ),
    "swin-timm": Family(
        make_swin_timm, "state_dict_ema", "swin-timm", "swin_tiny_patch4_window7_224", 171, size=224, indices=(1, 3),
        dropped={"classifier": 2},
    ),
}
CHEXFOUND = Family(
    make_chexfound, "teacher", "dinov2", "eva02_large_patch14_224", 343,
    model_args=_CHEXFOUND_ARGS, dropped=_V2_HEADS, computed={"chunk": 48} | _REGISTERS, indices=(11, 23),
)
# fmt: on
