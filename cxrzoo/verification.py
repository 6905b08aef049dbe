"""Prove a model folder again, at any later time and without a network."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cxrzoo.architectures import build_network, match_architecture
from cxrzoo.checkpoint import Tensor, open_checkpoint
from cxrzoo.converter import convert_into
from cxrzoo.errors import DigestError, FolderError
from cxrzoo.fingerprint import make_phantom, take_fingerprint
from cxrzoo.folders import CONFIG, WEIGHTS, Folder, build_config, read_folder, render_config
from cxrzoo.health import Health
from cxrzoo.precision import count_narrow
from cxrzoo.recipe import Architecture, list_recipes
from cxrzoo.sources import sha256_of
from cxrzoo.weights import read_into, read_shapes


def verify_folder(path: Path, checkpoint: Path | None = None, recipe: str | None = None) -> Iterator[str]:
    """Check every byte of a model folder that has a digest and prove what can be proven without the network.

    Yields what was found right, a line each: bytes first, then the network that is built of them.

    Args:
        checkpoint: What it was converted from; it is converted once more, and must give the same bytes.
        recipe: Path of the recipe, where it was one of the user's own.

    Raises:
        FolderError: A file is missing, config.json was changed, or the record contradicts itself.
        DigestError: The weights, or what they give, are not those that were converted.
        CheckpointError: The weights are not in the safetensors format.
        ConversionError: They hold NaN, or don't fill the network.
    """
    folder = read_folder(path)
    yield from _check_bytes(folder)
    yield from _check_network(folder)
    others = sorted(entry.name for entry in path.iterdir() if entry.name not in (CONFIG, WEIGHTS))
    if others:
        yield f"no digest covers {', '.join(others)}, which nothing is loaded from"
    if checkpoint is not None:
        yield from _convert_again(folder, checkpoint, recipe)


def _check_bytes(folder: Folder) -> Iterator[str]:
    path, record, promised = folder.path, folder.record, folder.record.weights
    if (path / CONFIG).read_text(encoding="utf-8") != render_config(json.loads((path / CONFIG).read_bytes())):
        raise FolderError(f"{path / CONFIG} is not laid out as it was written: some byte was changed. Convert again.")
    size = folder.weights.stat().st_size
    if size != promised.size:
        raise DigestError(f"{folder.weights} has {size} bytes, expected {promised.size}. Convert or fetch it again.")
    found = sha256_of(folder.weights)
    if found != promised.sha256:
        raise DigestError(
            f"{folder.weights}: the sha256 is {found}, expected {promised.sha256}. "
            "The file is damaged or was replaced. Convert or fetch it again."
        )
    shapes = read_shapes(folder.weights)
    if len(shapes) != promised.tensors:
        raise FolderError(f"{folder.weights} holds {len(shapes)} tensors, the record says {promised.tensors}.")
    default = record.preprocessing[record.default_variant]
    if record.preprocessing_sha256 != default.digest:
        raise FolderError(f"{path / CONFIG}: the digest of the preprocessing does not match it. Convert again.")
    if record.narrowing is not None and record.narrowing.tensors != count_narrow(shapes, record.narrowing.dtype):
        raise FolderError(
            f"{folder.weights} does not hold {record.narrowing.tensors} tensors in {record.narrowing.dtype}, as the "
            "record says. Convert again."
        )
    yield f"config.json unchanged, digest {record.digest}"
    yield f"model.safetensors unchanged, {size:,} bytes, {len(shapes)} tensors, sha256 {found}"
    yield (
        f"preprocessing {record.default_variant!r} ({record.preprocessing_origin}) unchanged, "
        f"digest {record.preprocessing_sha256}"
    )


def _check_network(folder: Folder) -> Iterator[str]:
    import torch

    from cxrzoo.preprocessing import Transform

    record = folder.record
    health = Health()
    with open_checkpoint(folder.weights) as opened:
        assert isinstance(opened.root, dict)  # a safetensors file is nothing else
        for name, tensor in opened.root.items():
            assert isinstance(tensor, Tensor)
            health.check(name, tensor.dtype, tensor.read())
    yield health.conclude()
    shapes = read_shapes(folder.weights)
    candidate = Architecture(folder.architecture, args=folder.model_args)
    network = match_architecture(shapes, [candidate], None, max(folder.pretrained_cfg["input_size"][1:]))
    found_config = json.loads((folder.path / CONFIG).read_bytes())
    expected = build_config(network, replace(record, digest=""))
    wrong = [name for name, value in expected.items() if value != found_config.get(name)]
    if wrong:
        raise FolderError(f"{folder.path / CONFIG}: {', '.join(wrong)} contradict weights and record. Convert again.")
    model = build_network(folder.architecture, **folder.model_args)
    read_into(model.state_dict(), folder.weights, sha256=record.weights.sha256, size=record.weights.size)
    yield f"they fill timm's {folder.architecture} strictly: nothing is missing, nothing is left over"
    promised = record.fingerprint
    transform = Transform(record.preprocessing[record.default_variant])
    with torch.inference_mode():
        found = take_fingerprint(model(transform(make_phantom())[None])[0].numpy(), promised.offset)
    if (found.phantom, found.digest) != (promised.phantom, promised.digest):
        raise DigestError(
            f"{folder.path}: the embedding of the phantom {promised.phantom!r} has the fingerprint {found.digest}, "
            f"expected {promised.digest}. The weights are unchanged, so this installation computes something else: "
            "compare the versions of torch, timm and Pillow with those of a machine where it agrees."
        )
    yield f"fingerprint {found.digest}, as at the conversion"
    if record.parity is None:
        yield "parity was not measured at the conversion: no reference network was at hand"
    else:
        yield (
            f"parity as recorded: {record.parity.max_difference:g} from {record.parity.reference} "
            f"(at most {record.parity.tolerance:g} allowed)"
        )
    if record.narrowing is not None:
        yield f"half precision as recorded: {record.narrowing}"


def _convert_again(folder: Folder, checkpoint: Path, recipe: str | None) -> Iterator[str]:
    record = folder.record
    with open_checkpoint(checkpoint) as opened:
        found = opened.sha256
    if found != record.source_sha256:
        raise DigestError(
            f"{checkpoint} has the sha256 {found}; {folder.path} was made of {record.source_sha256}. Give that file."
        )
    if recipe is None and record.coverage.recipe not in list_recipes():
        raise FolderError(
            f"{folder.path} was made with a recipe that is not in conversion/, {record.coverage.recipe!r}. Pass the "
            "path of its file as well: --recipe FILE.toml."
        )
    default = {record.default_variant: record.preprocessing[record.default_variant]}
    with tempfile.TemporaryDirectory() as scratch:
        again = convert_into(
            Path(scratch),
            checkpoint,
            recipe=recipe or record.coverage.recipe,
            architecture=folder.architecture,
            variants=default,
            dtype=record.narrowing.dtype if record.narrowing else None,
            isolated=False,
        ).record
    if again.weights != record.weights or again.coverage != record.coverage:
        raise DigestError(
            f"{checkpoint} gives other weights now ({again.weights.sha256}) than those in {folder.path}. Was the "
            f"recipe {again.coverage.recipe!r} changed since? Its digest is {again.coverage.recipe_sha256}, in the "
            f"record {record.coverage.recipe_sha256}."
        )
    yield f"converted again from {checkpoint.name}: the same bytes, {record.coverage.kept} keys kept"
    if again.narrowing is not None:
        yield f"half precision measured again: {again.narrowing}"
    if again.parity is not None:
        yield f"parity measured again: {again.parity.max_difference:g} from {again.parity.reference}"
