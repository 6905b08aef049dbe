"""Checkpoints as torch wrote them before 1.6: five pickles one after the other, then the storages."""

from typing import Any

from cxrzoo.checkpoint.meanings import ForeignClass, Opaque
from cxrzoo.checkpoint.pickles import read_pickle
from cxrzoo.checkpoint.regions import OpenFile, Region
from cxrzoo.checkpoint.storages import parse_storage_id
from cxrzoo.checkpoint.tensors import ITEM_SIZES, Storage
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

# https://github.com/pytorch/pytorch/blob/v2.6.0/torch/serialization.py#L68-L69
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
#: Bytes of the pickles before the tree, which hold a few numbers, and of the list of storages behind it, of which
#: each takes some 20.
_MAX_SMALL = 1 << 16
_MAX_KEYS = 1 << 20


def read_legacy(file: OpenFile) -> object:
    """Return the tree of a legacy checkpoint; storages are not read.

    Raises:
        CheckpointError: It is damaged, or another kind of pickle.
        UnsafeCheckpointError: It names code, or lies about its own layout.
    """
    stream = file.stream
    stream.seek(0)
    if read_pickle(stream, limit=_MAX_SMALL) != _MAGIC:
        raise CheckpointError(
            "it is a plain pickle, not a checkpoint of torch. Load it where it was written, and save its tensors "
            "with torch.save."
        )
    if read_pickle(stream, limit=_MAX_SMALL) != _PROTOCOL:
        raise CheckpointError(f"its layout is not version {_PROTOCOL}, the only one that torch wrote.")
    system = read_pickle(stream, limit=_MAX_SMALL)
    if type(system) is not dict or system.get("little_endian", True) is not True:
        raise CheckpointError("it is of a big-endian machine. Load it there with torch, and save it again.")
    storages = _Storages(file)
    root: object = read_pickle(stream, storages.load)
    keys = read_pickle(stream, limit=_MAX_KEYS)
    storages.place(keys, stream.tell())
    return root


class _Storages:
    """The storages that the pickle promises, whose places are only known once it is read."""

    def __init__(self, file: OpenFile) -> None:
        self._file = file
        self._regions: dict[str, tuple[Region, int]] = {}
        self._views: dict[str, Storage] = {}

    def load(self, value: Any) -> object:
        match value:
            # the class of a module, with its source for whoever loads it with another; we do neither
            case ("module", ForeignClass() | Opaque(state=None) as cls, str() | None, str() | None):
                return cls
        found = parse_storage_id(value)
        if found.key not in self._regions:
            region = Region(self._file, 0, found.nbytes, f"storage {found.key!a}")
            self._regions[found.key] = (region, ITEM_SIZES[found.dtype])
        region, _ = self._regions[found.key]
        if region.size != found.nbytes:
            raise UnsafeCheckpointError(f"its pickle gives {region.label} two different sizes.")
        if found.view is None:
            return Storage(found.dtype, found.numel, region)
        key, first, length = found.view
        return self._views.setdefault(key, Storage(found.dtype, length, region, first))

    def place(self, keys: Any, position: int) -> None:
        """Find the storages, which lie in the order of `keys` and fill the rest of the file."""
        if type(keys) is not list or any(type(key) is not str for key in keys):
            raise CheckpointError("its list of storages is malformed.")
        if len(keys) != len(set(keys)) or set(keys) != set(self._regions):
            raise UnsafeCheckpointError(
                f"it lists {len(keys)} storages, and its tensors need {len(self._regions)}; they must be the same."
            )
        for key in keys:
            region, item = self._regions[key]
            # behind the number of elements, which is written as eight bytes
            numel = int.from_bytes(self._file.read(position, 8), "little", signed=True)
            if numel * item != region.size:
                raise UnsafeCheckpointError(
                    f"{region.label} holds {numel} elements, its pickle promises {region.size // item}."
                )
            region.start = position + 8
            position = region.start + region.size
        if position > self._file.size:
            raise CheckpointError(
                f"it ends too early: {position} bytes are promised, there are {self._file.size}. Download it again."
            )
        if position < self._file.size:
            raise UnsafeCheckpointError(f"it hides {self._file.size - position} bytes behind its last storage.")
