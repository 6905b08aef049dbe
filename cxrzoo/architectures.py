"""Which timm architecture a set of tensors is, told from names and shapes alone."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxrzoo.errors import ArchitectureError
from cxrzoo.evidence import Network
from cxrzoo.weights import Shapes, compare_shapes

if TYPE_CHECKING:
    from torch import nn


def build_network(architecture: str, **model_args: Any) -> "nn.Module":
    """Return a timm backbone in evaluation mode whose weights are not drawn: its memory holds anything.

    Drawing them only to overwrite them is most of what loading costs. Whoever calls this fills all of `state_dict()`.

    Raises:
        ArchitectureError: timm has no such architecture.
    """
    import timm
    import torch

    from cxrzoo.undrawn import undrawn

    if not timm.is_model(architecture):
        close = timm.list_models(f"*{architecture.split('_')[0]}*")[:5]
        hint = f" Near it: {', '.join(close)}." if close else ""
        raise ArchitectureError(f"timm has no architecture named {architecture!r}.{hint}")
    if "." in architecture:
        raise ArchitectureError(
            f"{architecture!r} names weights as well, expected an architecture: {architecture.partition('.')[0]!r}."
        )
    with undrawn():
        model: nn.Module = timm.create_model(architecture, pretrained=False, num_classes=0, **model_args)
    if torch.get_default_dtype() != torch.float32:
        model.float()
    return model.eval()


def match_architecture(shapes: Shapes, candidates: Sequence[str], requested: str | None) -> tuple["nn.Module", Network]:
    """Return the unfilled backbone whose tensors are exactly these, and timm's facts about it.

    Args:
        requested: The only architecture allowed; None tries all candidates.

    Raises:
        ArchitectureError: Tensors are missing, extra, or of another shape or kind; the first ten are named.
    """
    nearest: tuple[int, str, list[str]] | None = None
    for name in [requested] if requested else candidates:
        in_chans = _input_channels(shapes, build_network(name))
        model = build_network(name, in_chans=in_chans)
        differences = compare_shapes(shapes, model.state_dict())
        if not differences:
            return model, _describe(name, in_chans, model)
        if nearest is None or len(differences) < nearest[0]:
            nearest = len(differences), name, differences
    if nearest is None:
        raise ArchitectureError(
            "the recipe names no architecture. Pass --architecture with the name timm has for this network."
        )
    count, name, differences = nearest
    shown = "\n".join(f"  {line}" for line in differences[:10]) + ("\n  …" if count > 10 else "")
    if requested:
        fitting = [other for other in candidates if other != name and _fits(shapes, other)]
        hint = f"They are those of {fitting[0]}: pass --architecture {fitting[0]}." if fitting else (
            "Pass --architecture with the right name, or check that the file is whole."
        )  # fmt: skip
        raise ArchitectureError(f"the tensors are not those of {name}, {count} differences:\n{shown}\n{hint}")
    raise ArchitectureError(
        f"the tensors are of none of {', '.join(candidates)}. The nearest is {name}, {count} differences:\n{shown}\n"
        "Is the file whole? If it is another network, pass --architecture with the name timm has for it."
    )


def _fits(shapes: Shapes, name: str) -> bool:
    model = build_network(name, in_chans=_input_channels(shapes, build_network(name)))
    return not compare_shapes(shapes, model.state_dict())


def _input_channels(shapes: Shapes, model: "nn.Module") -> int:
    stem = shapes.get(f"{_first_conv(model)}.weight", ("", ()))[1]
    return stem[1] if len(stem) == 4 and stem[1] in (1, 3) else 3


def _first_conv(model: "nn.Module") -> str:
    first = model.pretrained_cfg.get("first_conv") or ""  # type: ignore[union-attr, operator]
    return first if isinstance(first, str) else first[0]


def _describe(name: str, in_chans: int, model: "nn.Module") -> Network:
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    pool = cfg.get("pool_size")
    return Network(
        architecture=name,
        in_chans=in_chans,
        # of an embedding: some networks have a layer between the last features and it
        num_features=int(getattr(model, "head_hidden_size", None) or model.num_features),  # type: ignore[arg-type]
        global_pool=str(getattr(getattr(model, "global_pool", None), "pool_type", "") or "avg"),
        first_conv=_first_conv(model),
        classifier=str(cfg.get("classifier") or ""),
        pool_size=None if pool is None else (int(pool[0]), int(pool[1])),
    )
