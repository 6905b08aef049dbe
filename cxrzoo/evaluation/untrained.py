"""A network with random weights as the honest floor of a comparison: what the pixels give without any learning."""

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from cxrzoo.architectures import sketch_network
from cxrzoo.errors import ArchitectureError, EvaluationError
from cxrzoo.evaluation.locks import digest_backbone
from cxrzoo.loader import Provenance
from cxrzoo.locations import locate, open_location
from cxrzoo.manifest import Preprocessing
from cxrzoo.preprocessing import Transform
from cxrzoo.registry import list_models
from cxrzoo.sources import Cache

if TYPE_CHECKING:
    from cxrzoo.loader import Backbone

#: What an untrained network is called: this, and its architecture, or the model that it is like.
PREFIX = "untrained:"
# The usual evaluation on ImageNet, https://github.com/pytorch/vision/blob/main/references/classification/presets.py:
# these constants, and the middle 224 of 256 pixels. No weights ask for any others here.
_MEAN, _STD, _CROP = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 0.875


def make_untrained(architecture: str, *, seed: int = 0, size: int = 224) -> "Backbone":
    """Return a timm backbone with random weights, as timm draws them, with a transform and a provenance.

    It is used like what `cxrzoo.load` returns, which never returns one of these. One seed gives one network; the
    caller's own random numbers are left as they are. Norms that timm starts at 0 start at 1 here: they would switch
    off the residual branches they end, and the floor would be that of a shallower network.

    Args:
        architecture: A name of timm without pretrained weights, such as "resnet18".
        size: Height and width of its input in pixels.

    Raises:
        EvaluationError: timm has no such architecture, or can't build it for this size.
    """
    arguments = check_untrained(architecture, size=size)
    preprocessing = Preprocessing(
        (3, size, size), _MEAN, _STD, "bilinear", _CROP, "center", source="ImageNet's, since no weights ask for any"
    )
    return _make(architecture, architecture, arguments, preprocessing, "imagenet", seed)


def make_untrained_like(model: str, *, seed: int = 0) -> "Backbone":
    """Return a network with random weights that is like a model in all else: architecture, arguments, preprocessing.

    Args:
        model: What `cxrzoo.load` takes. It is fetched where it is not at hand: its folder tells the arguments.

    Raises:
        UnknownModelError, FolderError, SourceError: As `cxrzoo.load` does.
    """
    cache = Cache(None)
    folder = open_location(locate(model, cache), cache)
    record = folder.record
    variant = record.default_variant
    return _make(record.model, folder.architecture, folder.model_args, record.preprocessing[variant], variant, seed)


def is_model(name: str) -> bool:
    """Return whether what stands after the prefix is a model or a folder of one, not an architecture."""
    return "/" in name or "\\" in name or name.startswith((".", "~")) or name in list_models()


def _make(
    name: str, architecture: str, arguments: dict[str, Any], preprocessing: Preprocessing, variant: str, seed: int
) -> "Backbone":
    import timm

    # Only the generator of the CPU draws, and it is put back.
    with torch.inference_mode(False), torch.device("cpu"), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)
    _switch_branches_on(model)
    backbone = cast("Backbone", model.float().eval())
    backbone.pretrained_cfg |= preprocessing.timm_fields
    backbone.transform = Transform(preprocessing)
    backbone.provenance = Provenance(
        model=f"{PREFIX}{name}",
        origin="untrained",
        weights_sha256=digest_backbone(backbone),
        preprocessing=variant,
        preprocessing_sha256=preprocessing.digest,
        decoding=preprocessing.decoding,
        dimension=_count_dimensions(backbone, preprocessing.input_size),
    )
    return backbone


def check_untrained(architecture: str, *, size: int = 224) -> dict[str, Any]:
    """Return the arguments that timm needs for this size, without making the network.

    Raises:
        EvaluationError: timm has no such architecture, or can't build it for this size.
    """
    try:
        arguments: dict[str, Any] = {}
        fixed = sketch_network(architecture).pretrained_cfg.get("fixed_input_size")  # type: ignore[union-attr, operator]
        if fixed:
            arguments["img_size"] = size
            sketch_network(architecture, **arguments)
    except ArchitectureError as error:
        raise EvaluationError(f"No untrained network can be made: {error}") from error
    return arguments


def _switch_branches_on(model: nn.Module) -> None:
    """Let every residual branch take part, as torchvision's networks do from the start (zero_init_residual=False)."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine and not module.weight.any():
            nn.init.ones_(module.weight)


def _count_dimensions(backbone: "Backbone", size: tuple[int, int, int]) -> int:
    """Return the length of an embedding, by making one."""
    try:
        with torch.inference_mode():
            return int(backbone(torch.zeros(1, *size)).shape[1])
    except (RuntimeError, ValueError, AssertionError) as error:
        raise EvaluationError(
            f"The untrained network takes no images of {size[1]} x {size[2]} pixels: {error}. Give another size."
        ) from error
