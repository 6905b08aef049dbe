"""Storages by the persistent ids with which torch's pickles refer to them."""

from dataclasses import dataclass
from typing import Any

from cxrzoo.checkpoint.meanings import Opaque
from cxrzoo.checkpoint.tensors import ITEM_SIZES
from cxrzoo.checkpoint.vocabulary import STORAGES
from cxrzoo.errors import UnsafeCheckpointError

_MAX_KEY = 100


@dataclass(frozen=True)
class StorageId:
    """What a persistent id says; `view` is the key, first element and length of a part, in old files."""

    dtype: str
    key: str
    numel: int
    view: tuple[str, int, int] | None

    @property
    def nbytes(self) -> int:
        """The size of the whole storage in bytes."""
        return self.numel * ITEM_SIZES[self.dtype]


def parse_storage_id(value: Any) -> StorageId:
    """Return what a persistent id says.

    Raises:
        UnsafeCheckpointError: It is not one that torch writes.
    """
    match value:
        case ("storage", Opaque(module, name, None), str() as key, str() | None, int() as numel, *rest):
            dtype = STORAGES.get((module, name))
            view = rest[0] if rest else None
            known = dtype is not None and len(key) <= _MAX_KEY and 0 <= numel < 2**63 and len(rest) <= 1
            if known and (view is None or _is_view(view, numel)):
                return StorageId(str(dtype), key, numel, view)
    raise UnsafeCheckpointError(
        "its pickle refers to a storage in a way that torch never writes, or of a type that is not known."
    )


def _is_view(view: object, numel: int) -> bool:
    match view:
        case (str() as key, int() as first, int() as length) if type(view) is tuple and len(key) <= _MAX_KEY:
            return 0 <= first <= first + length <= numel and length >= 0
    return False
