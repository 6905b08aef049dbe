"""Networks under the names their authors gave them, and what those authors save of them.

Nothing here reads conversion/: the modules' own state_dict makes the keys.
"""

import copy
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from segmentation_models_pytorch.encoders._efficientnet import EfficientNet, get_model_params
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model

Maps = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Made:
    """A checkpoint, and what its network makes of images: the last feature maps, and the pooled features."""

    checkpoint: Any
    maps: Maps
    pooled: Maps
    size: int = 64
    in_chans: int = 3


def settle(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every norm and every bias values as training leaves them."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            module.num_batches_tracked.fill_(1000)
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.1)
        elif parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
    return network.eval()


def pool(maps: Tensor) -> Tensor:
    """Return the average over the image."""
    return maps.mean(dim=(2, 3))


def make_torchvision(name: str, *, container: str = "", size: int = 64) -> Made:
    """Return a network of torchvision with its classifier, as it lies in torchvision's own files or in a container."""
    network = settle(get_model(name, weights=None))
    state = network.state_dict()
    if "res" in name:
        maps: Maps = nn.Sequential(*list(network.children())[:-2])
    elif name.startswith("densenet"):
        maps = lambda images: functional.relu(network.features(images))  # noqa: E731
    else:
        maps = network.features
    head = network.classifier[:-2] if name.startswith("mobilenet_v3") else nn.Identity()
    return Made({container: state} if container else state, maps, lambda images: head(pool(maps(images))), size)


def make_densenet_2017(name: str = "densenet121") -> Made:
    """Return torchvision's DenseNet as its files of 2017 have it: dots in names, and norms without a counter."""
    made = make_torchvision(name)
    state = {
        key.replace("norm1", "norm.1").replace("norm2", "norm.2").replace("conv1", "conv.1").replace("conv2", "conv.2"):
        value for key, value in made.checkpoint.items() if not key.endswith("num_batches_tracked")
    }  # fmt: skip
    return Made(state, made.maps, made.pooled)


def make_lukemelas(name: str) -> Made:
    """Return EfficientNet in EfficientNet-PyTorch's own names and code, which segmentation_models_pytorch carries."""
    network = build_lukemelas(name)
    settle(network)

    def maps(images: Tensor) -> Tensor:
        return run_lukemelas(network, images)

    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    size: int = network._global_params.image_size
    return Made({"epoch": 3, "state_dict": state}, maps, lambda images: pool(maps(images)), size)


def build_lukemelas(name: str) -> nn.Module:
    """Return an EfficientNet of EfficientNet-PyTorch; "efficientnet-lite0" is B0 without attention, and with ReLU6."""
    blocks, settings = get_model_params(name.replace("lite0", "b0"), None)
    if "lite" not in name:
        return EfficientNet(blocks, settings)
    network = EfficientNet([block._replace(se_ratio=None) for block in blocks], settings)
    for module in network.modules():
        if hasattr(module, "_swish"):
            module._swish = nn.ReLU6()
    return network


def run_lukemelas(network: Any, images: Tensor) -> Tensor:
    """Return the last feature maps: stem, blocks, head, as the authors' extract_features runs them."""
    x = network._swish(network._bn0(network._conv_stem(images)))
    for block in network._blocks:
        x = block(x, 0.0)
    x = network._swish(network._bn1(network._conv_head(x)))
    assert isinstance(x, Tensor)
    return x


# ---- ResNets cut into a Sequential


def cut(name: str, *, last: int, seed: int = 0) -> nn.Sequential:
    """Return the children of a network of torchvision, up to `last`, as one Sequential."""
    return nn.Sequential(*list(settle(get_model(name, weights=None), seed).children())[:last])


def _head(width: int) -> nn.Module:
    """A projection head as lightly nests it."""
    head = nn.Module()
    head.layers = nn.Sequential(nn.Linear(width, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))
    return head


def _lightning(module: nn.Module) -> dict[str, Any]:
    state = module.state_dict()
    return {
        "epoch": 9, "global_step": 90, "pytorch-lightning_version": "2.4.0", "state_dict": state, "loops": {},
        "callbacks": {}, "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.06, "params": [0]}]}],
        "lr_schedulers": [],
    }  # fmt: skip


def _from_cut(checkpoint: Any, network: nn.Sequential, name: str) -> Made:
    maps = network[:-1] if name.startswith("res") else network
    return Made(checkpoint, maps, lambda images: pool(maps(images)))


def make_lightly(method: str, name: str = "resnet18") -> Made:
    """Return a Lightning checkpoint of lightly's examples: simclr, moco, byol or dino."""
    network, momentum = cut(name, last=-1), cut(name, last=-1, seed=1)
    module = nn.Module()
    if method == "dino":
        module.student_backbone, module.student_head = momentum, _head(512)
        module.teacher_backbone, module.teacher_head = network, _head(512)
        module.criterion = nn.Module()
        module.criterion.register_buffer("center", torch.zeros(1, 1, 32))
        return _from_cut(_lightning(module), network, name)
    module.backbone, module.projection_head = network, _head(512)
    if method in ("moco", "byol"):
        module.backbone_momentum, module.projection_head_momentum = momentum, copy.deepcopy(module.projection_head)
    if method == "byol":
        module.prediction_head = _head(32)
    if method == "moco":
        module.criterion = nn.Module()
        module.criterion.memory_bank = nn.Module()
        module.criterion.memory_bank.register_buffer("bank", torch.randn(32, 16))
        module.criterion.memory_bank.register_buffer("bank_ptr", torch.zeros(1, dtype=torch.long))
    return _from_cut(_lightning(module), network, name)


def make_lightly_benchmark(name: str = "resnet18") -> Made:
    """Return BYOL of lightly's benchmarks: the network in one piece, a teacher, a classifier trained beside it."""
    network = settle(get_model(name, weights=None))
    network.fc = nn.Identity()
    module = nn.Module()
    module.backbone, module.projection_head, module.prediction_head = network, _head(512), _head(32)
    module.teacher_backbone = settle(copy.deepcopy(network), seed=1)
    module.teacher_projection_head = _head(512)
    module.online_classifier = nn.Module()
    module.online_classifier.classification_head = nn.Linear(512, 10)
    maps = nn.Sequential(*list(network.children())[:-2])
    return Made(_lightning(module), maps, network)


def make_sequential(name: str = "resnet18") -> Made:
    """Return the numbered children alone, as people save them who only wanted a feature extractor."""
    network = cut(name, last=-1)
    return _from_cut(network.state_dict(), network, name)


def make_radimagenet(name: str) -> Made:
    """Return a network as RadImageNet's example has it: its children in a Sequential named `backbone`."""
    module = nn.Module()
    module.backbone = cut(name, last=9 if name.startswith("res") else 1)
    if name.startswith("res"):
        return _from_cut(module.state_dict(), module.backbone, name)

    def maps(images: Tensor) -> Tensor:
        return functional.relu(module.backbone(images))

    return Made(module.state_dict(), maps, lambda images: pool(maps(images)))


# ---- torchxrayvision


def make_torchxrayvision_densenet(*, whole: bool, thresholds: bool = True) -> Made:
    """Return a DenseNet-121 of torchxrayvision, as a whole module or as its tensors.

    Its class lies in a package that is gone again once the file is written.
    """
    network = settle(_build_xrv_densenet(thresholds))

    def maps(images: Tensor) -> Tensor:
        return functional.relu(network.features(images))

    return Made(
        network if whole else network.state_dict(), maps, lambda images: pool(maps(images)), size=64, in_chans=1
    )


def _build_xrv_densenet(thresholds: bool) -> nn.Module:
    """One channel, 18 findings, operating points as a buffer, and a layer without tensors for the size."""
    plain = get_model("densenet121", weights=None)
    plain.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    network = sys.modules["torchxrayvision.models"].DenseNet() if "torchxrayvision" in sys.modules else nn.Module()
    network.features = plain.features
    network.classifier = nn.Linear(1024, 18)
    network.register_buffer("op_threshs", torch.full((18,), torch.nan) if thresholds else None)
    network.upsample = nn.Upsample(size=(224, 224), mode="bilinear", align_corners=False)
    network.targets = ["Atelectasis", "Consolidation"]
    network.weights = None
    return network


def fake_torchxrayvision() -> dict[str, types.ModuleType]:
    """Return modules by the names of torchxrayvision's, with an empty class for its DenseNet, for sys.modules."""
    package, models = types.ModuleType("torchxrayvision"), types.ModuleType("torchxrayvision.models")
    models.DenseNet = type("DenseNet", (nn.Module,), {"__module__": "torchxrayvision.models"})  # type: ignore[attr-defined]
    return {"torchxrayvision": package, "torchxrayvision.models": models}


def make_torchxrayvision_resnet(*, prefix: str) -> Made:
    """Return the ResNet-50 of torchxrayvision: torchvision's own names, or as its class `ResNet` would save it."""
    network = get_model("resnet50", weights=None, num_classes=18)
    network.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    settle(network)
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    if prefix:
        state["op_threshs"] = torch.full((18,), 0.5)
    maps = nn.Sequential(*list(network.children())[:-2])
    return Made(state, maps, lambda images: pool(maps(images)), in_chans=1)


# ---- timm


def make_timm(name: str, *, prefix: str = "", container: str = "", ema: str = "", num_classes: int = 5) -> Made:
    """Return a checkpoint of timm's training scripts; `ema` names an average that lies beside other weights."""
    import timm

    network = settle(timm.create_model(name, num_classes=num_classes))
    state = {f"{prefix}{key}": value for key, value in network.state_dict().items()}
    checkpoint: Any = state
    if ema:
        other = settle(timm.create_model(name, num_classes=num_classes), seed=1)
        checkpoint = {"arch": name, "epoch": 3, container: other.state_dict(), ema: state}
    elif container:
        checkpoint = {"arch": name, "epoch": 3, container: state}

    def pooled(images: Tensor) -> Tensor:
        return network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator, no-any-return]

    return Made(checkpoint, network.forward_features, pooled)  # type: ignore[arg-type]
