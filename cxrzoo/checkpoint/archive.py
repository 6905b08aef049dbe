"""Checkpoints as torch has written them since 1.6: a zip archive of one pickle and its storages."""

import io
from typing import Any

from cxrzoo.checkpoint.arguments import MAX_PICKLE
from cxrzoo.checkpoint.pickles import read_pickle
from cxrzoo.checkpoint.regions import OpenFile, Region
from cxrzoo.checkpoint.storages import parse_storage_id
from cxrzoo.checkpoint.tensors import Storage
from cxrzoo.checkpoint.zip_records import locate_members, read_directory
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError


def read_archive(file: OpenFile) -> object:
    """Return the tree of a zip checkpoint; storages are not read.

    Raises:
        CheckpointError: It is damaged, of another kind, or of a big-endian machine.
        UnsafeCheckpointError: It names code, or lies about its own layout.
    """
    entries, end = read_directory(file)
    top = _find_top([entry.name for entry in entries])
    members = locate_members(file, entries, end)
    byteorder = _read_small(members.get(f"{top}/byteorder"), b"little")
    if byteorder != b"little":
        raise CheckpointError(
            f"its byte order is {ascii(byteorder.decode('latin-1'))[:20]}, expected little. Load it with torch "
            "on a little-endian machine, and save it again."
        )
    if members[f"{top}/data.pkl"].size > MAX_PICKLE:
        raise UnsafeCheckpointError(f"its data.pkl is larger than {MAX_PICKLE} bytes.")

    def load_storage(value: Any) -> Storage:
        found = parse_storage_id(value)
        region = members.get(f"{top}/data/{found.key}")
        if region is None or region.size != found.nbytes or found.view is not None:
            stored = "absent" if region is None else f"{region.size} bytes long"
            raise UnsafeCheckpointError(
                f"its pickle promises a storage {found.key!a} of {found.nbytes} bytes; the member is {stored}."
            )
        return Storage(found.dtype, found.numel, region)

    pickle = members[f"{top}/data.pkl"]
    stream = io.BytesIO(pickle.read(0, pickle.size))
    root: object = read_pickle(stream, load_storage)
    if stream.tell() != pickle.size:
        raise UnsafeCheckpointError(f"its data.pkl hides {pickle.size - stream.tell()} bytes behind its end.")
    return root


def _find_top(names: list[str]) -> str:
    """Return the one folder that holds everything, after proving that this is a state, not a program."""
    tops = {name.split("/")[0] for name in names}
    top = min(tops, default="")
    if not any(name.split("/")[-1] == "data.pkl" for name in names):
        raise CheckpointError(
            f"it is a zip archive without a data.pkl, so no checkpoint; it holds {', '.join(names[:5])}. If a "
            "checkpoint lies inside, extract it, and give its path."
        )
    if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
        raise CheckpointError(
            "it is a TorchScript program, not a checkpoint. Load it with torch.jit.load, and save its "
            "state_dict() with torch.save."
        )
    if len(tops) != 1 or f"{top}/data.pkl" not in names:
        raise UnsafeCheckpointError(
            f"its members lie in {len(tops)} folders; expected one folder with a data.pkl in it."
        )
    return top


def _read_small(member: Region | None, default: bytes) -> bytes:
    return default if member is None else bytes(member.read(0, member.size)[:64])
