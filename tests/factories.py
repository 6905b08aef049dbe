"""Small checkpoints of the shapes that researchers release, made on the spot from seeded random networks."""

import io
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import nn

HEADS = {"resnet18": "fc", "resnet50": "fc", "densenet121": "classifier", "mnasnet1_0": "classifier"}
QUEUE = 128


def make_network(upstream: str, *, seed: int = 0, in_chans: int = 3, trained: bool = True) -> nn.Module:
    """Return a torchvision network; where `trained`, no norm and no bias is at its start."""
    torch.manual_seed(seed)
    network: nn.Module = torchvision.models.get_model(upstream, weights=None)
    if in_chans != 3:
        conv = network.conv1
        network.conv1 = nn.Conv2d(in_chans, conv.out_channels, 7, 2, 3, bias=False)
    if trained:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                module.num_batches_tracked.fill_(1000)
    return network.eval()


def make_moco(
    upstream: str = "resnet18",
    *,
    head: str = "mlp",
    prefix: str = "module.",
    seed: int = 0,
    in_chans: int = 3,
    trained: bool = True,
    optimizer: bool = False,
    queue: int = QUEUE,
) -> dict[str, Any]:
    """Return what MoCo-CXR's training saves: epoch, arch, state_dict and, where asked for, Adam's state.

    Args:
        head: "mlp" for MoCo v2, "linear" for v1, "none" for a file whose head was cut off.
    """
    encoders = {
        name: make_network(upstream, seed=seed + i, in_chans=in_chans, trained=trained)
        for i, name in enumerate(("encoder_q", "encoder_k"))
    }
    state: dict[str, torch.Tensor] = {}
    for name, network in encoders.items():
        last = HEADS[upstream]
        features = _features(network, last)
        setattr(network, last, _make_head(head, features))
        state |= {f"{prefix}{name}.{key}": value for key, value in network.state_dict().items()}
    state[f"{prefix}queue"] = nn.functional.normalize(torch.randn(128, queue), dim=0)
    state[f"{prefix}queue_ptr"] = torch.zeros(1, dtype=torch.long)
    checkpoint: dict[str, Any] = {"epoch": 20, "arch": upstream, "state_dict": state}
    if optimizer:
        parameters = list(encoders["encoder_q"].parameters())
        adam = torch.optim.Adam(parameters, lr=1e-4, weight_decay=1e-4)
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        # its own first step, with the weights put back afterwards, so that exp_avg and exp_avg_sq are real
        before = [parameter.detach().clone() for parameter in parameters]
        adam.step()
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
        checkpoint["optimizer"] = adam.state_dict()
    return checkpoint


def _features(network: nn.Module, last: str) -> int:
    classifier = getattr(network, last)
    linear = classifier[-1] if isinstance(classifier, nn.Sequential) else classifier
    return int(linear.in_features)


def _make_head(kind: str, features: int) -> nn.Module:
    if kind == "mlp":
        return nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, 128))
    return nn.Linear(features, 128) if kind == "linear" else nn.Identity()


def save(path: Path, checkpoint: object, **options: Any) -> Path:
    """Write a checkpoint as PyTorch does, and return its path."""
    torch.save(checkpoint, path, **options)
    return path


def as_bytes(checkpoint: object) -> bytes:
    """Return the file that PyTorch would write."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()
