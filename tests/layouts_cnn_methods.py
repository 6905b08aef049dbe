"""Checkpoints of methods that train convolutional backbones, and the networks inside, built from the authors' code.

Nothing here reads conversion/: modules are nested and named as upstream's, and their own state_dict makes the keys.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from factories import make_network
from torch import Tensor, nn
from torch.nn import functional

Maps = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class Made:
    """A checkpoint, the keys on the way to its state_dict, and what its network makes of images: feature maps."""

    checkpoint: dict[str, Any]
    path: tuple[str, ...]
    maps: Maps
    in_chans: int = 3

    @property
    def state(self) -> dict[str, Tensor]:
        """The state_dict itself."""
        state: Any = self.checkpoint
        for key in self.path:
            state = state[key]
        return state


def _module(**children: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, child in children.items():
        module.add_module(name, child)
    return module


def _settle(module: nn.Module) -> nn.Module:
    """Give every norm values as training leaves them."""
    for norm in module.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            if norm.affine:
                nn.init.uniform_(norm.weight, 0.5, 1.5)
                nn.init.normal_(norm.bias, std=0.1)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            norm.num_batches_tracked.fill_(1000)
    return module.eval()


def _mlp(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))


def _stages(network: nn.Module) -> Maps:
    """Return what runs a ResNet and gives the map after each of its stages."""

    def maps(images: Tensor) -> list[Tensor]:
        x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
        found = []
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
            found.append(x)
        return found

    return maps


def _dense(network: nn.Module) -> Maps:
    return lambda images: [functional.relu(network.features(images))]


def _text_tower() -> nn.Module:
    embeddings = _module(word_embeddings=nn.Embedding(10, 8), LayerNorm=nn.LayerNorm(8))
    embeddings.register_buffer("position_ids", torch.arange(4)[None])
    return _module(model=_module(embeddings=embeddings, pooler=_module(dense=nn.Linear(8, 8))))


def make_moco_lightning() -> Made:
    """CovidPrognosis: a LightningModule whose `model` is a MoCo v1 of DenseNets; metrics and arguments beside it."""
    moco = _module(encoder_q=make_network("densenet121"), encoder_k=make_network("densenet121", seed=1))
    network = moco.encoder_q
    for encoder in (moco.encoder_q, moco.encoder_k):
        encoder.classifier = nn.Linear(1024, 64)
    moco.register_buffer("queue", torch.randn(64, 16))
    moco.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
    checkpoint = {
        "epoch": 199,
        "global_step": 1000,
        "pytorch-lightning_version": "1.0.8",
        "state_dict": _module(model=moco).state_dict(),
        "hyper_parameters": {"arch": "densenet121", "feature_dim": 64, "queue_size": 16, "use_mlp": False},
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.03}]}],
    }
    return Made(checkpoint, ("state_dict",), _dense(network))


def make_simclr() -> Made:
    """sthalles' SimCLR: the head is two linear layers in the place of `fc`."""
    network = make_network("resnet18")
    network.fc = _mlp(512, 128)
    checkpoint = {"epoch": 100, "arch": "resnet18", "state_dict": _module(backbone=network).state_dict()}
    return Made(checkpoint, ("state_dict",), _stages(network))


class _Selective(nn.Module):
    """SimCLR v2's selective kernels, as far as their names go."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.main_conv = nn.Sequential(nn.Conv2d(width, 2 * width, 3, bias=False), _norm_relu(2 * width))
        self.mixing_conv = nn.Sequential(nn.Conv2d(width, 32, 1), _norm_relu(32), nn.Conv2d(32, 2 * width, 1))


def _norm_relu(width: int, relu: bool = True) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(width), nn.ReLU() if relu else nn.Identity())


class _SimCLRBlock(nn.Module):
    def __init__(self, before: int, width: int, stride: int, first: bool, selective: bool) -> None:
        super().__init__()
        self.projection: nn.Module = nn.Identity()
        if first:
            shortcut = nn.Conv2d(before, 4 * width, 1, stride, bias=False)
            self.projection = _module(shortcut=shortcut, bn=_norm_relu(4 * width, relu=False))
        middle = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.net = nn.Sequential(
            nn.Conv2d(before, width, 1, bias=False),
            _norm_relu(width),
            *([_Selective(width)] if selective else [middle, _norm_relu(width)]),
            nn.Conv2d(width, 4 * width, 1, bias=False),
            _norm_relu(4 * width, relu=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if not isinstance(self.projection, nn.Identity):
            shortcut = self.projection.bn(self.projection.shortcut(x))
        return functional.relu(shortcut + self.net(x))


def make_simclr_separius(width: int = 1, selective: bool = False) -> Made:
    """SimCLR v2's ResNet-50 in the modules of Separius' conversion, which leaves all counters at 0."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 64 * width, 7, 2, 3, bias=False), _norm_relu(64 * width), nn.MaxPool2d(3, 2, 1))
    if selective:
        stem[0] = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
    stages: list[nn.Module] = [stem]
    before = 64 * width
    for inner, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        blocks = nn.ModuleList()
        for i in range(count):
            blocks.append(_SimCLRBlock(before, inner * width, stride if i == 0 else 1, i == 0, selective))
            before = 4 * inner * width
        stages.append(_module(blocks=blocks))
    network = _settle(_module(net=nn.Sequential(*stages), fc=nn.Linear(2048 * width, 10)))
    for norm in network.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.num_batches_tracked.zero_()
    head = _module(layers=nn.ModuleList([nn.Linear(2048 * width, 8, bias=False), nn.BatchNorm1d(8)]))

    def maps(images: Tensor) -> list[Tensor]:
        x, found = network.net[0](images), []
        for stage in network.net[1:]:
            for block in stage.blocks:
                x = block(x)
            found.append(x)
        return found

    return Made({"resnet": network.state_dict(), "head": head.state_dict()}, ("resnet",), maps)


def make_vissl(counters: bool = True, width: int = 1) -> Made:
    """VISSL: the trunk deep in what Classy Vision saves, with the head beside it; older files have no counters."""
    network = make_network("resnet50")
    if width != 1:
        network.conv1 = nn.Conv2d(3, 64 * width, 7, 2, 3, bias=False)
    blocks = _module(**{name: child for name, child in network.named_children() if name not in ("avgpool", "fc")})
    trunk = _module(_feature_blocks=blocks).state_dict()
    if not counters:
        trunk = {key: value for key, value in trunk.items() if not key.endswith("num_batches_tracked")}
    heads = _module(**{"0": _module(clf=_mlp(16, 8))}).state_dict()
    checkpoint = {
        "phase_idx": 99,
        "loss": {"name": "simclr_info_nce_loss"},
        "classy_state_dict": {
            "train": True,
            "base_model": {"model": {"trunk": trunk, "heads": heads}},
            "optimizer": {"optim": {"state": {}, "param_groups": [{"lr": 4.8}]}},
        },
    }
    return Made(checkpoint, ("classy_state_dict", "base_model", "model", "trunk"), _stages(network))


def make_vissl_dump() -> Made:
    """VISSL: the older plain dump, whole model in one state_dict, without counters."""
    made = make_vissl(counters=False)
    state = {f"trunk.{key}": value for key, value in made.state.items()} | {"heads.0.clf.0.weight": torch.ones(8, 8)}
    return Made({"model_state_dict": state}, ("model_state_dict",), made.maps)


def make_swav(sets: int = 1, width: int = 1, wrapped: bool = True) -> Made:
    """SwAV: an explicit padding before a stem that pads less, head, and one set of prototypes or several."""
    network = make_network("resnet50")
    network.conv1 = nn.Conv2d(3, 64 * width, 7, 2, 2, bias=False)
    network.fc = nn.Identity()
    network.padding = nn.ConstantPad2d(1, 0.0)
    network.projection_head = _settle(
        nn.Sequential(nn.Linear(2048, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
    )
    network.prototypes = nn.Linear(8, 30, bias=False)
    if sets > 1:
        network.prototypes = _module(**{f"prototypes{i}": nn.Linear(8, 30, bias=False) for i in range(sets)})
    state = _module(module=network).state_dict()
    maps = _stages(network)
    if wrapped:
        checkpoint = {"epoch": 400, "arch": "resnet50", "state_dict": state, "optimizer": {"state": {}}}
        return Made(checkpoint, ("state_dict",), lambda images: maps(network.padding(images)))
    return Made(state, (), lambda images: maps(network.padding(images)))


def make_c2l(upstream: str = "resnet18") -> Made:
    """C2L: each network inside a DataParallel; the teacher's entry and the queue's beside the student's."""

    network = make_network(upstream)
    last, name = ("fc", "encoder") if upstream.startswith("resnet") else ("classifier", "densenet121")
    setattr(network, last, nn.Linear(getattr(network, last).in_features, 128))
    student = _module(**{name: _module(module=network)}).state_dict()
    checkpoint = {
        "opt": argparse.Namespace(model=upstream, moco=True, nce_k=16384),
        "model": student,
        "contrast": {"params": torch.tensor([16384.0]), "memory": torch.randn(4, 128)},
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.03}]},
        "epoch": 240,
        "model_ema": {key: value / 2 for key, value in student.items()},
    }
    return Made(checkpoint, ("model",), _stages(network) if upstream.startswith("resnet") else _dense(network))


def make_chess() -> Made:
    """CheSS: MoCo v2 with a ResNet-50 that takes one channel."""
    encoders = [make_network("resnet50", seed=seed, in_chans=1) for seed in (0, 1)]
    for encoder in encoders:
        encoder.fc = _mlp(2048, 128)
    moco = _module(encoder_q=encoders[0], encoder_k=encoders[1])
    moco.register_buffer("queue", torch.randn(128, 16))
    moco.register_buffer("queue_ptr", torch.zeros(1, dtype=torch.long))
    checkpoint = {"epoch": 200, "arch": "resnet50", "state_dict": _module(module=moco).state_dict()}
    return Made(checkpoint, ("state_dict",), _stages(encoders[0]), in_chans=1)


def make_biovil(temporal: bool = False) -> Made:
    """BioViL, and BioViL-T with its pooler of two images: a torchvision ResNet-50, ImageNet's classifier included."""
    network = make_network("resnet50")
    encoder = _module(encoder=network)
    if temporal:
        attention = _module(**{name: nn.Linear(8, 8, bias=False) for name in ("proj_q", "proj_k", "proj_v")})
        block = _module(norm1=nn.LayerNorm(8), attn=attention, mlp=_module(fc1=nn.Linear(8, 8)))
        pooler = _module(blocks=nn.ModuleList([block]), norm_post=nn.LayerNorm(8))
        pooler.type_embed = nn.Parameter(torch.zeros(2, 1, 8))
        encoder.backbone_to_vit = nn.Conv2d(2048, 8, 1, bias=False)
        encoder.vit_pooler = pooler
        encoder.missing_previous_emb = nn.Parameter(torch.zeros(1, 8, 1, 1))
    convolutions = nn.Conv2d(2048, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1)
    projector = _settle(_module(model=nn.Sequential(*convolutions)))
    return Made(dict(_module(encoder=encoder, projector=projector).state_dict()), (), _stages(network))


def _embedding(width: int, convolution: bool) -> nn.Module:
    layers = (nn.Conv1d(width, 8, 1), nn.Conv1d(8, 4, 1)) if convolution else (nn.Linear(width, 8), nn.Linear(8, 4))
    norms = nn.BatchNorm1d(8), nn.BatchNorm1d(4, affine=False)
    return _module(head=nn.Sequential(layers[0], norms[0], nn.ReLU(), layers[1], norms[1]))


def make_mgca() -> Made:
    """MGCA: Lightning's file of both towers, the attention between them and the prototypes."""
    network = make_network("resnet18")
    network.fc = nn.Identity()
    embeddings = {"global_embed": _embedding(512, False), "local_embed": _embedding(256, True)}
    text = _text_tower()
    text.global_embed = _embedding(8, False)
    whole = _module(
        img_encoder_q=_module(model=network, **embeddings),
        text_encoder_q=text,
        patch_local_atten_layer=nn.MultiheadAttention(4, 1, batch_first=True),
        word_local_atten_layer=nn.MultiheadAttention(4, 1, batch_first=True),
        prototype_layer=nn.Linear(4, 10, bias=False),
    )
    checkpoint = {"state_dict": whole.state_dict(), "hyper_parameters": {"img_encoder": "resnet_18", "emb_dim": 128}}
    return Made(checkpoint, ("state_dict",), _stages(network))


def make_medklip() -> Made:
    """MedKLIP: the children of a ResNet-50 up to its third stage, numbered; query decoder and the rest beside them."""
    network = make_network("resnet50")
    layer = nn.TransformerDecoderLayer(8, 2, 16)
    whole = _module(
        disease_embedding_layer=nn.Linear(768, 8),
        cl_fc=nn.Linear(8, 768),
        res_features=nn.Sequential(*list(network.children())[:-3]),
        res_l1=nn.Linear(1024, 1024),
        res_l2=nn.Linear(1024, 8),
        decoder=_module(layers=nn.ModuleList([layer]), norm=nn.LayerNorm(8)),
        classifier=nn.Linear(8, 2),
    )
    checkpoint = {"model": _module(module=whole).state_dict(), "config": {"res_base_model": "resnet50"}, "epoch": 60}
    stages = _stages(network)
    return Made(checkpoint, ("model",), lambda images: stages(images)[:3])


def make_gloria() -> Made:
    """GLoRIA: Lightning's file with both towers below `gloria`."""
    network = make_network("resnet18")
    network.fc = nn.Identity()
    image = _module(model=network, global_embedder=nn.Linear(512, 8), local_embedder=nn.Conv2d(256, 8, 1, bias=False))
    whole = _module(gloria=_module(text_encoder=_text_tower(), img_encoder=image))
    checkpoint = {"state_dict": whole.state_dict(), "hyper_parameters": {"model": {"vision": {"freeze_cnn": False}}}}
    return Made(checkpoint, ("state_dict",), _stages(network))


def make_s2mts2(prefix: str = "encoder_q.") -> Made:
    """S2MTS2: MoCo without a wrapper, with a second head; its DenseNet has leaky activations, which no key tells."""
    network = make_network("densenet121")
    network.classifier = nn.Linear(1024, 1024)
    network.classifier_group = _mlp(1024, 128)
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    return Made({"epoch": 99, "state_dict": state}, ("state_dict",), _dense(network))


def make_mae_cnn() -> Made:
    """medical_mae's masked autoencoder of a DenseNet: the U-Net of segmentation_models_pytorch itself."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    unet = _settle(smp.Unet(encoder_name="densenet121", encoder_weights=None, in_channels=3, classes=3))
    checkpoint = {
        "model": _module(model=unet).state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1.5e-4}]},
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(model="densenet121", mask_ratio=0.75),
    }
    return Made(checkpoint, ("model",), lambda images: [functional.relu(unet.encoder(images)[-1])])
