"""A name, a folder or a Hub repository -> a timm backbone with verified weights and its own transform."""

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cxrzoo.architectures import build_network
from cxrzoo.channels import change_channels, insist_on_exact
from cxrzoo.errors import CheckpointError, DigestError, FolderError, SourceError
from cxrzoo.locations import Location, Origin, discard, locate
from cxrzoo.manifest import Preprocessing
from cxrzoo.sources import Cache
from cxrzoo.weights import read_into

if TYPE_CHECKING:
    from torch import nn

    from cxrzoo.preprocessing import Transform

    class Backbone(nn.Module):
        """What type checkers should know of a timm module that `load` returned; there is no such class at run time."""

        transform: Transform
        provenance: "Provenance"
        pretrained_cfg: dict[str, Any]


logger = logging.getLogger("cxrzoo")


@dataclass(frozen=True)
class Provenance:
    """What identifies an embedding: the model, its weights, its preprocessing and the length of the vector.

    `origin` says where the weights were found: folder, checkout, cache, hub or authors.
    """

    model: str
    origin: Origin
    weights_sha256: str
    preprocessing: str
    preprocessing_sha256: str
    dimension: int


def load(
    name: str | os.PathLike[str],
    *,
    variant: str | None = None,
    in_chans: int | None = None,
    inexact_channels: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
) -> "Backbone":
    """Return a backbone with its verified weights and its transform, in evaluation mode, without a classifier.

    The result is a plain timm model: calling it on a float32 batch (N, C, H, W) gives embeddings (N, D). Its
    attribute `transform` turns an image (path, bytes, PIL image, array, DICOM dataset) into the float32 tensor
    (C, H, W) it expects; `provenance` says which weights these are and where they were found.

    Args:
        name: A name of `list_models()`; a folder such as "./my-folder"; or "hf-hub:org/name@revision".
        variant: Preprocessing to use, by its name in the manifest; the model's default if left out.
        in_chans: 1 or 3, for tensors with that many equal channels. Refused where it would change the features.
        inexact_channels: Allow it all the same.
        cache_dir: Where converted models are kept; by default CXRZOO_HOME, or cxrzoo in the user's cache folder.

    Raises:
        UnknownModelError: No manifest has this name.
        FolderError: The folder is no model folder, or the variant or number of channels is not possible.
        DigestError: The weights are not the promised ones.
        SourceError: No place could give the model (OfflineError where the network is switched off).
        ConversionError: The authors' checkpoint could not be converted.

    Example:
        >>> backbone = load("moco-cxr-densenet121")  # doctest: +SKIP
        >>> backbone(backbone.transform("chest.dcm")[None]).shape  # doctest: +SKIP
        torch.Size([1, 1024])
    """
    from cxrzoo.preprocessing import Transform

    cache = Cache(Path(cache_dir) if cache_dir is not None else None)
    model, location = _find(os.fspath(name), cache)
    record = location.folder.record
    variant = variant or record.default_variant
    if variant not in record.preprocessing:
        raise FolderError(
            f"{record.model!r} has no preprocessing named {variant!r}, only {', '.join(sorted(record.preprocessing))}."
        )
    preprocessing = record.preprocessing[variant]
    if in_chans is not None:
        if not inexact_channels:
            insist_on_exact(preprocessing, in_chans)
        change_channels(model, location.folder.pretrained_cfg["first_conv"], in_chans)
        preprocessing = preprocessing.for_channels(in_chans)
    model.pretrained_cfg |= _timm_words(preprocessing)
    model.transform = Transform(preprocessing)
    model.provenance = Provenance(
        model=record.model,
        origin=location.origin,
        weights_sha256=record.weights.sha256,
        preprocessing=variant,
        preprocessing_sha256=preprocessing.digest,
        dimension=int(getattr(model, "head_hidden_size", None) or model.num_features),  # type: ignore[arg-type]
    )
    logger.info("%s: weights %s from %s", record.model, record.weights.sha256[:12], location.origin)
    return model


def _find(name: str, cache: Cache) -> tuple["Backbone", Location]:
    try:
        return _read(name, cache)
    except (DigestError, FolderError, CheckpointError) as error:
        place = discard(name, cache)
        if place is None:
            raise
        logger.warning("%s: the stored copy is damaged and is now %s: %s", name, place, error)
        try:
            return _read(name, cache)
        except SourceError as second:
            raise DigestError(f"{error}\nIt is now {place}. It could not be fetched again: {second}") from second


def _read(name: str, cache: Cache) -> tuple["Backbone", Location]:
    location = locate(name, cache)
    folder, promised = location.folder, location.folder.record.weights
    verification = cache.verification(folder.weights, promised.sha256)
    model = build_network(folder.architecture, pretrained_cfg=dict(folder.pretrained_cfg), **folder.model_args)
    read_into(
        model.state_dict(), folder.weights, sha256=promised.sha256, size=promised.size, verified=verification.covers
    )
    verification.record()
    return cast("Backbone", model), location


def _timm_words(preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in preprocessing.as_dict().items()
        if key not in ("intensity", "source")
    }
