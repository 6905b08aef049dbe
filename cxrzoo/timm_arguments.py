"""The arguments of timm that a recipe or a config.json may name, and their bounds: both may come from a stranger."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cxrzoo.errors import RecordError

#: Some others open files or take classes.
# fmt: off
_NAMES = {
    "in_chans", "img_size", "patch_size", "num_heads", "embed_dim", "depth", "mlp_ratio", "init_values", "global_pool",
    "fc_norm", "pre_norm", "final_norm", "qkv_bias", "qkv_fused", "scale_mlp", "scale_attn_inner", "swiglu_mlp",
    "swiglu_align_to", "use_rot_pos_emb", "use_abs_pos_emb", "use_post_norm", "use_fc_norm", "attn_type", "reg_tokens",
    "num_reg_tokens", "no_embed_class", "class_token", "ref_feat_shape", "window_size", "layers", "channels",
    "strict_img_size", "dynamic_img_size", "norm_eps", "bn_eps", "act_layer", "norm_layer",
}
# fmt: on

#: What is computed of these (modules, tables of positions, masks) takes memory before the weights are looked at.
_MOST = {"depth": 200, "layers": 200, "window_size": 24, "img_size": 2048}
_MOST_OTHERS = 10_000
_MOST_PATCHES = 256
#: The usual patch of networks with windows, whose masks grow with the windows and with the image.
_WINDOWED_PATCH = 4
_LONGEST_LIST = 8
_WORD = re.compile(r"[A-Za-z0-9_]{1,40}")


def check_arguments(arguments: Mapping[str, Any], where: str, built_for: Sequence[int] = ()) -> None:
    """Refuse arguments that may not reach timm.

    Args:
        where: What names them, for error texts.
        built_for: Height and width in pixels that timm builds the network for, where no `img_size` says so.

    Raises:
        RecordError: One of them is unknown, no plain value or out of bounds, or there are too many patches.
    """
    for name, value in arguments.items():
        if name not in _NAMES:
            raise RecordError(f"{where}: found the argument {name!r}, expected one of {', '.join(sorted(_NAMES))}.")
        values = _listed(value)
        if not 0 < len(values) <= _LONGEST_LIST or not all(_is_plain(name, item) for item in values):
            raise RecordError(
                f"{where}: found {name} = {str(value)[:60]}, expected true, false, a word, or numbers from "
                f"{_least(name)} to {_most(name)}, at most {_LONGEST_LIST} of them."
            )
    patches = _listed(arguments.get("patch_size", _WINDOWED_PATCH if "window_size" in arguments else _most("img_size")))
    allowed = min([_most("img_size"), *(_MOST_PATCHES * side for side in patches if isinstance(side, int))])
    side = max((n for n in (*_listed(arguments.get("img_size")), *built_for) if isinstance(n, int)), default=0)
    if side > allowed:
        raise RecordError(f"{where}: found a network for images of {side} px, expected at most {allowed} px.")


def _listed(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else (value,)


def _is_plain(name: str, value: object) -> bool:
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if isinstance(value, int) and not isinstance(value, bool):
        return _least(name) <= value <= _most(name)
    # NaN is in no bounds
    return isinstance(value, bool) or (isinstance(value, float) and 0 <= value <= _most(name))


def _least(name: str) -> int:
    return 0 if name == "layers" else 1  # a stage that is left out


def _most(name: str) -> int:
    return _MOST.get(name, _MOST_OTHERS)
