"""A folder ready for the Hub: weights, config.json and card, under its final name only once it is whole."""

import os
from pathlib import Path

from cxrzoo.cards import CARD, render_card
from cxrzoo.converter import Conversion, convert_into
from cxrzoo.errors import FolderError
from cxrzoo.evidence import HalfPrecision
from cxrzoo.manifest import Preprocessing
from cxrzoo.registry import describe
from cxrzoo.sources import staged_folder


def convert(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    recipe: str | None = None,
    architecture: str | None = None,
    model: str | None = None,
    preprocessing: str | Preprocessing | None = None,
    dtype: HalfPrecision | None = None,
) -> Conversion:
    """Make a model folder of a research checkpoint, and say what became of every key of it.

    The folder is an ordinary timm repository: `timm.create_model("local-dir:out", pretrained=True)`, transformers'
    `AutoModel` and `cxrzoo.load("./out")` read it. Equal checkpoints give equal bytes.

    Args:
        checkpoint: A file that PyTorch or safetensors wrote. It is read, never executed.
        out: The folder to write; it must not exist yet.
        recipe: Name of a file in conversion/, or path of a recipe of your own that ends in .toml; found from the keys
            if left out.
        architecture: timm's name of the network; found from names and shapes if left out.
        model: The model of the zoo that this checkpoint is; its facts go into the record.
        preprocessing: How images were prepared in training: a record, or a model of the zoo whose preprocessing these
            weights share ("name" or "name:variant"). May be left out where `model` says it.
        dtype: "float16" or "bfloat16" stores the weights in half the room: all tensors of two axes or more, while
            biases and the statistics of norms stay as they are. Loading gives float32 again. Refused where the
            embeddings change by more than a cosine of .9999.

    Raises:
        CheckpointError: The file can't be read, or holds more than data.
        ConversionError: It can't become a backbone; the subclass and the text say why.
        DigestError: It is not the checkpoint that `model` names.
        FolderError: `out` exists already.
    """
    target = Path(out).expanduser()
    if target.exists():
        raise FolderError(f"{target} exists already. Remove it, or choose another folder: nothing is overwritten.")
    manifest = None if model is None else describe(model)
    with staged_folder(target.absolute(), may_exist=False) as staged:
        conversion = convert_into(
            staged,
            Path(checkpoint).expanduser(),
            recipe=recipe,
            architecture=architecture,
            manifest=manifest,
            variants=_variants(preprocessing),
            dtype=dtype,
        )
        (staged / CARD).write_text(render_card(staged), encoding="utf-8")
    return Conversion(target, conversion.architecture, conversion.placements, conversion.record)


def _variants(preprocessing: str | Preprocessing | None) -> dict[str, Preprocessing] | None:
    if preprocessing is None:
        return None
    if isinstance(preprocessing, Preprocessing):
        return {"given": preprocessing}
    name, _, variant = preprocessing.partition(":")
    manifest = describe(name)
    if not manifest.preprocessing:
        raise FolderError(f"the preprocessing of {name!r} is unknown: {manifest.unknown['preprocessing']}")
    variant = variant or manifest.default_variant
    if variant not in manifest.preprocessing:
        raise FolderError(
            f"{name!r} has no preprocessing named {variant!r}, only {', '.join(sorted(manifest.preprocessing))}."
        )
    return {variant: manifest.preprocessing[variant]}
