"""A name, a folder or a Hub repository -> a timm backbone with verified weights and its own transform."""

import functools
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cxrzoo.architectures import build_network
from cxrzoo.channels import change_channels, insist_on_exact
from cxrzoo.errors import CheckpointError, CxrZooError, DigestError, DiskError, FolderError, SourceError
from cxrzoo.folders import Folder
from cxrzoo.locations import Location, Origin, locate, mend, open_location
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

#: Mending once is enough, but for other processes that meddle with the same cache at the same time.
_TRIES = 3


@dataclass(frozen=True)
class Provenance:
    """What identifies an embedding: the model, its weights, its preprocessing and the length of the vector.

    `origin` says where the weights were found: folder, checkout, cache, hub or authors; "untrained" is said by those
    networks alone that comparisons take for a floor, and never by what `load` returns.
    """

    model: str
    origin: Literal[Origin, "untrained"]
    weights_sha256: str
    preprocessing: str
    preprocessing_sha256: str
    decoding: Literal["exact", "fast"]
    dimension: int


def load(
    name: str | os.PathLike[str],
    *,
    variant: str | None = None,
    in_chans: int | None = None,
    inexact_channels: bool = False,
    decoding: Literal["exact", "fast"] | None = None,
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
        decoding: "fast" reads large images at a lower resolution that is still above the model's, for features that
            are nearly the same; by default as the model's record says, which is "exact" unless it says otherwise.
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
    model, folder, origin = _find(name, cache)
    record = folder.record
    variant = variant or record.default_variant
    if variant not in record.preprocessing:
        raise FolderError(
            f"{record.model!r} has no preprocessing named {variant!r}, only {', '.join(sorted(record.preprocessing))}."
        )
    preprocessing = record.preprocessing[variant]
    if in_chans is not None:
        if not inexact_channels:
            insist_on_exact(preprocessing, in_chans)
        change_channels(model, folder.pretrained_cfg["first_conv"], in_chans)
        preprocessing = preprocessing.for_channels(in_chans)
    if decoding is not None:
        preprocessing = replace(preprocessing, decoding=decoding)
    model.pretrained_cfg |= preprocessing.timm_fields
    model.transform = Transform(preprocessing)
    model.provenance = Provenance(
        model=record.model,
        origin=origin,
        weights_sha256=record.weights.sha256,
        preprocessing=variant,
        preprocessing_sha256=preprocessing.digest,
        decoding=preprocessing.decoding,
        dimension=folder.num_features,
    )
    logger.info("%s: weights %s from %s", record.model, record.weights.sha256[:12], origin)
    return model


def _find(name: str | os.PathLike[str], cache: Cache) -> tuple["Backbone", Folder, Origin]:
    damage: CxrZooError | None = None
    for _ in range(_TRIES):
        try:
            location = locate(name, cache)
        except SourceError as error:
            if damage is None:
                raise
            raise DigestError(f"{damage}\nIt could not be fetched again: {error}") from error
        try:
            return *_read(location, cache), location.origin
        except (DigestError, FolderError, CheckpointError) as error:
            # on the Hub only bytes that differ from their digest can have been damaged here
            if location.origin == "hub" and isinstance(error, FolderError):
                raise
            damage = error
            try:
                if not mend(location, functools.partial(_read, location, cache), cache):
                    raise
            except DiskError as second:
                raise DigestError(f"{error}\nIt could not be moved out of the way: {second}") from second
    assert damage is not None
    raise damage


def _read(location: Location, cache: Cache) -> tuple["Backbone", Folder]:
    folder = open_location(location, cache)
    promised = folder.record.weights
    verification = cache.verification(folder.weights, promised.sha256)
    model = build_network(folder.architecture, pretrained_cfg=dict(folder.pretrained_cfg), **folder.model_args)
    read_into(
        model.state_dict(), folder.weights, sha256=promised.sha256, size=promised.size, verified=verification.covers
    )
    verification.record()
    return cast("Backbone", model), folder
