"""Which timm architecture a set of tensors is, told from names and shapes alone."""

import difflib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxrzoo.errors import ArchitectureError
from cxrzoo.evidence import Network
from cxrzoo.recipe import Architecture
from cxrzoo.weights import Shapes, compare_shapes

if TYPE_CHECKING:
    from torch import nn

#: What timm and torch raise at arguments that do not go together, or that name nothing.
_REFUSALS = (TypeError, ValueError, AssertionError, RuntimeError, LookupError, ArithmeticError, AttributeError)


def build_network(architecture: str, **model_args: Any) -> "nn.Module":
    """Return a timm backbone in evaluation mode whose weights are not drawn: its memory holds anything.

    Drawing them only to overwrite them is most of what loading costs. Whoever calls this fills all of `state_dict()`.

    Raises:
        ArchitectureError: timm has no such architecture, or can't build it with these arguments.
    """
    return _build(architecture, model_args, "cpu")


def sketch_network(architecture: str, **model_args: Any) -> "nn.Module":
    """Return such a network without memory: names and shapes only.

    Raises:
        ArchitectureError: As `build_network` does.
    """
    return _build(architecture, model_args, "meta")


def _build(architecture: str, model_args: dict[str, Any], device: str) -> "nn.Module":
    import timm
    import torch

    from cxrzoo.undrawn import undrawn

    _insist_on_name(architecture)
    with undrawn(device):
        try:
            model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **model_args)
        except _REFUSALS as error:
            shown = ", ".join(f"{name}={value}" for name, value in model_args.items() if name != "pretrained_cfg")
            raise ArchitectureError(
                f"timm can't build {architecture} with {shown or 'no arguments'}: {type(error).__name__}: {error}"
            ) from error
    if torch.get_default_dtype() != torch.float32:
        model.float()
    return model.eval()


def match_architecture(
    shapes: Shapes, candidates: Sequence[Architecture], requested: str | None, size: int | None = None
) -> Network:
    """Return timm's facts about the architecture whose tensors are exactly these.

    Arguments that shapes tell are found: input channels, patch size, and the image size of a position table.

    Args:
        requested: The only architecture allowed; None tries all candidates.
        size: Height and width of the input in pixels, for networks that are built for one size.

    Raises:
        ArchitectureError: Tensors are missing, extra, or of another shape or kind, the first ten of which are named;
            or several candidates have exactly these.
    """
    known = [candidate for candidate in candidates if candidate.name == requested]
    tried = (known or [Architecture(requested)]) if requested else candidates
    found: list[Network] = []
    nearest: tuple[int, str, list[str]] | None = None
    for candidate in sorted(tried, key=lambda candidate: candidate.kept not in (0, len(shapes))):
        if found and candidate.kept not in (0, len(shapes)):
            break
        network, differences = _try(candidate, shapes, size)
        if not differences:
            found.append(network)
        elif nearest is None or len(differences) < nearest[0]:
            nearest = len(differences), candidate.name, differences
    if len(found) == 1:
        return found[0]
    if found:
        shown = " and ".join(f"{network.architecture} {network.model_args or ''}".strip() for network in found)
        raise ArchitectureError(
            f"the tensors are those of {shown}, which have the same names and shapes and differ in what no shape "
            "tells. Pass --architecture with the one these weights were trained in, or a recipe of your own that names "
            "only that one, with its args."
        )
    if nearest is None:
        raise ArchitectureError(
            "the recipe names no architecture. Pass --architecture with the name timm has for this network."
        )
    _refuse(shapes, candidates, requested, nearest)
    raise AssertionError  # _refuse never returns


def _refuse(
    shapes: Shapes, candidates: Sequence[Architecture], requested: str | None, nearest: tuple[int, str, list[str]]
) -> None:
    count, name, differences = nearest
    shown = "\n".join(f"  {line}" for line in differences[:10]) + ("\n  …" if count > 10 else "")
    if requested:
        others = [other for other in candidates if other.name != name and other.kept in (0, len(shapes))]
        fitting = [other.name for other in others if not _try(other, shapes, None)[1]]
        hint = f"They are those of {fitting[0]}: pass --architecture {fitting[0]}." if fitting else (
            "Pass --architecture with the right name, or check that the file is whole."
        )  # fmt: skip
        raise ArchitectureError(f"the tensors are not those of {name}, {count} differences:\n{shown}\n{hint}")
    names = dict.fromkeys(candidate.name for candidate in candidates)
    raise ArchitectureError(
        f"the tensors are of none of {', '.join(names)}. The nearest is {name}, {count} differences:\n{shown}\n"
        "Is the file whole? If it is another network, pass --architecture with the name timm has for it."
    )


def _try(candidate: Architecture, shapes: Shapes, size: int | None) -> tuple[Network, list[str]]:
    """Return the network that comes nearest to these shapes, and what still differs."""
    args = dict(candidate.args)
    model = sketch_network(candidate.name, **args)
    told = _tell_arguments(shapes, model, size)
    if told:
        args |= told
        model = sketch_network(candidate.name, **args)
    return _describe(candidate, args, model), compare_shapes(shapes, model.state_dict())


def _tell_arguments(shapes: Shapes, model: "nn.Module", size: int | None) -> dict[str, Any]:
    """Return the arguments of timm that these shapes ask for, where they are other than the network's own."""
    told: dict[str, Any] = {}
    state = model.state_dict()
    stem = f"{_first_conv(model)}.weight"
    found, own = shapes.get(stem, ("", ()))[1], tuple(state[stem].shape) if stem in state else ()
    if len(found) == len(own) == 4:
        if found[1] != own[1] and found[1] in (1, 3):
            told["in_chans"] = found[1]
        if found[2:] != own[2:] and "pos_embed" in state and found[2] == found[3]:
            told["patch_size"] = found[2]
    side = _image_side(shapes, model) or (size if model.pretrained_cfg.get("fixed_input_size") else None)  # type: ignore[union-attr, operator]
    if side and (told.get("patch_size") or side != _built_for(model)):
        told["img_size"] = side
    return told


def _image_side(shapes: Shapes, model: "nn.Module") -> int | None:
    """Return the height and width in pixels that a table of positions is for."""
    if "pos_embed" not in shapes or "pos_embed" not in model.state_dict():
        return None
    own_grid = model.patch_embed.num_patches  # type: ignore[union-attr]
    prefix = model.state_dict()["pos_embed"].shape[1] - int(own_grid)  # type: ignore[arg-type]
    table, patches = shapes["pos_embed"][1], shapes.get(f"{_first_conv(model)}.weight", ("", ()))[1]
    grid = math.isqrt(table[1] - prefix) if len(table) == 3 and table[1] > prefix else 0
    if len(patches) != 4 or grid * grid + prefix != table[1]:
        return None
    return grid * patches[-1]


def find_image_side(network: Network) -> int | None:
    """Return the only height and width in pixels that a network takes, None where it takes several."""
    if not network.fixed_input_size:
        return None
    return _built_for(sketch_network(network.architecture, **network.model_args))


def _built_for(model: "nn.Module") -> int | None:
    size = getattr(getattr(model, "patch_embed", None), "img_size", None)
    return int(size[-1]) if size else None


def _insist_on_name(architecture: str) -> None:
    import timm

    if "." in architecture:
        raise ArchitectureError(
            f"{architecture!r} names weights as well, expected an architecture: {architecture.partition('.')[0]!r}."
        )
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), 5)
        hint = f" Near it: {', '.join(close)}." if close else ""
        raise ArchitectureError(f"timm has no architecture named {architecture!r}.{hint}")


def _first_conv(model: "nn.Module") -> str:
    first = model.pretrained_cfg.get("first_conv") or ""  # type: ignore[union-attr, operator]
    return first if isinstance(first, str) else first[0]


def _describe(candidate: Architecture, args: dict[str, Any], model: "nn.Module") -> Network:
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    pool = cfg.get("pool_size")
    pooling = getattr(model, "global_pool", None)
    return Network(
        architecture=candidate.name,
        model_args=args,
        in_chans=int(args.get("in_chans", 3)),
        # of an embedding: some networks have a layer between the last features and it
        num_features=int(getattr(model, "head_hidden_size", None) or model.num_features),  # type: ignore[arg-type]
        global_pool=pooling if isinstance(pooling, str) else str(getattr(pooling, "pool_type", "") or "avg"),
        fixed_input_size=bool(cfg.get("fixed_input_size")),
        first_conv=_first_conv(model),
        classifier=str(cfg.get("classifier") or ""),
        pool_size=None if pool is None else (int(pool[0]), int(pool[1])),
        untold=candidate.untold,
    )
