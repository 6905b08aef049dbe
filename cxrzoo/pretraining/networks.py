"""The network that a plan trains, drawn anew or taken from a model of the zoo, with its method around it."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cxrzoo.architectures import sketch_network
from cxrzoo.errors import ArchitectureError, PretrainingError
from cxrzoo.loader import load
from cxrzoo.pretraining.cluster import Cluster, ClusterSettings
from cxrzoo.pretraining.gmml import Gmml, GmmlSettings
from cxrzoo.pretraining.method import Method
from cxrzoo.pretraining.moco import Moco, MocoSettings
from cxrzoo.pretraining.plans import Plan
from cxrzoo.pretraining.radiographs import Radiographs

Constants = tuple[float, ...]
#: Arguments of timm that shapes tell, or that are nothing to a network that is no longer trained.
_TOLD = {"in_chans", "img_size", "patch_size", "dynamic_img_size", "drop_rate", "drop_path_rate", "zero_init_last"}


@dataclass(frozen=True)
class Start:
    """What a training starts from: a network, where its weights come from, and how pixels are normalised for it.

    Constants that neither the plan nor a model states are `provisional`: .5, until the images are there to be measured.
    """

    backbone: nn.Module
    architecture: str
    origin: str
    weights_sha256: str | None
    mean: Constants
    std: Constants
    provisional: bool = False


def build_start(plan: Plan, *, seed: int) -> Start:
    """Return the network of a plan; drawn from the seed, unless the plan says from which model it starts.

    Raises:
        PretrainingError: timm can't build it, or a model to start from doesn't fit the plan.
        CxrZooError: The model to start from can't be loaded.
    """
    if plan.init:
        return _continue(plan)
    backbone = _draw(plan.architecture, plan.arguments, seed)
    channels = _count_channels(backbone)
    mean, std = _spread(plan.mean or (0.5,), channels), _spread(plan.std or (0.5,), channels)
    return Start(backbone, plan.architecture, "random", None, mean, std, provisional=not plan.mean)


def settle(start: Start, method: Method, radiographs: Radiographs) -> Start:
    """Return the start with constants measured on the images, if they were provisional; the method has them too."""
    if not start.provisional:
        return start
    mean, std = ((round(value, 4),) * len(start.mean) for value in radiographs.measure())
    method.mean, method.std = mean, std
    return replace(start, mean=mean, std=std, provisional=False)


def _continue(plan: Plan) -> Start:
    source = load(plan.init)
    architecture = str(source.pretrained_cfg["architecture"])
    if plan.architecture and plan.architecture != architecture:
        raise PretrainingError(
            f"found a plan for {plan.architecture} and {plan.init!r} to start from, which is a {architecture}. Start "
            f"from a {plan.architecture}, or change the plan: --set architecture='\"{architecture}\"'."
        )
    backbone: nn.Module = source
    if plan.arguments:
        backbone = _draw(architecture, plan.arguments, 0)
        try:
            backbone.load_state_dict(source.state_dict())
        except RuntimeError as error:
            raise PretrainingError(
                f"the weights of {plan.init!r} don't fit the plan's {architecture}: {error}. Are `arguments` those "
                "that it was built with?"
            ) from error
    record = source.transform.record
    mean, std = (plan.mean, plan.std) if plan.mean else (record.mean, record.std)
    channels = _count_channels(backbone)
    sha256 = source.provenance.weights_sha256
    return Start(backbone, architecture, plan.init, sha256, _spread(mean, channels), _spread(std, channels))


def _draw(architecture: str, arguments: dict[str, Any], seed: int) -> nn.Module:
    import timm

    if untold := sorted(arguments.keys() - _TOLD):
        raise PretrainingError(
            f"arguments: found {', '.join(untold)}, which a checkpoint doesn't tell: what is made of it would be "
            f"another network. Expected some of {', '.join(sorted(_TOLD))}, or another architecture."
        )
    try:
        sketch_network(architecture, **arguments)
    except ArchitectureError as error:
        raise PretrainingError(f"The plan's network can't be built: {error}") from error
    torch.manual_seed(seed)
    backbone: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    return backbone.float().train()


def _count_channels(backbone: nn.Module) -> int:
    facts: dict[str, Any] = backbone.pretrained_cfg  # type: ignore[assignment]
    weight = backbone.get_parameter(f"{facts['first_conv']}.weight")
    return int(weight.shape[1])


def _spread(values: Constants, channels: int) -> Constants:
    if len(values) == channels:
        return values
    if len(set(values)) != 1:
        raise PretrainingError(f"mean and std: found {len(values)} numbers, expected 1 or {channels}, one a channel.")
    return (values[0],) * channels


def build_method(plan: Plan, start: Start, *, modalities: int, findings: int, seed: int) -> Method:
    """Return the plan's method around the network, its heads drawn from the seed.

    Raises:
        PretrainingError: The method can't train this network, or not so.
    """
    torch.manual_seed(seed + 1)
    shared: dict[str, Any] = {"mean": start.mean, "std": start.std}
    if plan.method == "moco":
        moco = plan.moco or MocoSettings()
        return Moco(start.backbone, moco, plan.views, **shared, batch_size=plan.optimisation.batch_size, seed=seed)
    if plan.method == "cluster":
        cluster = plan.cluster or ClusterSettings()
        return Cluster(
            start.backbone,
            cluster,
            plan.views,
            **shared,
            modalities=modalities,
            findings=findings,
            batch_size=plan.optimisation.batch_size,
        )
    return Gmml(start.backbone, plan.gmml or GmmlSettings(), plan.views, **shared)
