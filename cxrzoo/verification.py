"""Check a model folder again, at any later time and without a network."""

import json
from pathlib import Path

from cxrzoo.errors import DigestError, FolderError
from cxrzoo.folders import CONFIG, read_folder, render_config
from cxrzoo.sources import sha256_of
from cxrzoo.weights import read_shapes


def verify_folder(path: Path) -> list[str]:
    """Check every byte of a model folder that has a digest, offline, and return what was found right, a line each.

    Raises:
        FolderError: A file is missing, config.json was changed, or the record contradicts itself.
        DigestError: The weights are not those that were converted.
        CheckpointError: The weights are not in the safetensors format.
    """
    folder = read_folder(path)
    record, promised = folder.record, folder.record.weights
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
    lines = [
        f"config.json unchanged, digest {record.digest}",
        f"model.safetensors unchanged, {size:,} bytes, {len(shapes)} tensors, sha256 {found}",
        f"preprocessing {record.default_variant!r} ({record.preprocessing_origin}) unchanged, "
        f"digest {record.preprocessing_sha256}",
    ]
    if record.parity is None:
        lines.append("parity was not measured: the recipe names no reference network for this architecture")
    else:
        lines.append(
            f"parity as recorded: {record.parity.max_difference:g} from {record.parity.reference} "
            f"(at most {record.parity.tolerance:g} allowed)"
        )
    return lines
