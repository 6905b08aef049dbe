"""Lookup tables of a DICOM dataset (PS3.3 C.11.1.1 and C.11.2.1.1)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxrzoo.imaging.elements import get


@dataclass(frozen=True)
class LookupTable:
    """Entries for the inputs from `first` on; inputs beyond either end get the outermost entry."""

    entries: NDArray[np.uint16]
    first: int
    white: int

    def look_up(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the entry of each value; fractions, which only a rescale slope makes, are rounded."""
        first = self.first
        if first >= 2**15 and values.max() < first:
            # Many writers give the negative start of a signed image as an unsigned number.
            first -= 2**16
        index = (np.rint(values) - first).clip(0, self.entries.size - 1)
        return self.entries[index.astype(np.intp)].astype(np.float64)


def read_table(item: Dataset, little_endian: bool) -> LookupTable | None:
    """Return the table in an item, or None where it contradicts itself."""
    descriptor, data = get(item, "LUTDescriptor"), get(item, "LUTData")
    try:
        count, first, bits = (int(number) for number in descriptor)
        # 65,536 entries do not fit in the descriptor's 16 bits: they are written as 0.
        count = count or 2**16
        words = _words(data, count, bits, little_endian)
    except (TypeError, ValueError, OverflowError):
        return None
    if not 8 <= bits <= 16 or words.size < count or int(words.min()) < 0 or int(words.max()) >= 2**bits:
        return None
    return LookupTable(words[:count].astype(np.uint16), first, 2**bits - 1)


def _words(data: Any, count: int, bits: int, little_endian: bool) -> NDArray[Any]:
    """Return the entries of a table stored as numbers (US), as words (OW), or as bytes packed two to a word."""
    if not isinstance(data, bytes):
        return np.atleast_1d(np.asarray(data, dtype=np.int64))
    words = np.frombuffer(data, dtype="<u2" if little_endian else ">u2")
    if bits == 8 and words.size < count:
        return words.astype("<u2").view(np.uint8)
    return words
