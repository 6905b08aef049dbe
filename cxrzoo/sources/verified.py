"""Remember which files were hashed, so that a large file need not be hashed again at every start.

A record is believed only while the file is the same by device, inode, size, mtime and ctime; a ctime can't be
set back by ordinary means. One hole is left, known from git as "racy" timestamps: the clocks of file systems
tick (10 ms or less on Linux, seconds on others), and a file changed twice within one tick looks the same after
the second change. So nothing is recorded of a file that had changed less than a tick before it was opened; the
price is one more hash the next time. Out of reach stay a writer who has mapped the file into memory, and one
who may set the clock of the machine.
"""

import hashlib
import json
import os
import time
from pathlib import Path

from cxrzoo.errors import DiskError
from cxrzoo.records import canonical_json
from cxrzoo.sources.files import write_atomically

#: Five ticks of the slowest clock Linux is built with (CONFIG_HZ=100).
_TICK_NS = 50_000_000
#: FAT counts in two seconds. Whole seconds in both times are the sign of such a file system.
_COARSE_TICK_NS = 2_100_000_000


class Verification:
    """One reading of one file. Make it before the file is opened: what changes later must show in its times."""

    def __init__(self, folder: Path, path: Path, sha256: str) -> None:
        self._sha256 = sha256
        # One record a path: that of its latest state.
        self._record = folder / f"{hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()}.json"
        self._made_ns = time.time_ns()
        self._unknown: dict[str, str | int] | None = None

    def covers(self, status: os.stat_result) -> bool:
        """Return whether the open file of this status, in this very state, was found to have the digest."""
        state = self._state(status)
        try:
            known = bool(json.loads(self._record.read_bytes()) == state)
        except (OSError, ValueError):
            known = False
        coarse = status.st_mtime_ns % 1_000_000_000 == status.st_ctime_ns % 1_000_000_000 == 0
        age = self._made_ns - max(status.st_mtime_ns, status.st_ctime_ns)
        settled = age > (_COARSE_TICK_NS if coarse else _TICK_NS)
        self._unknown = state if settled and not known else None
        return known

    def record(self) -> None:
        """Remember that the file, as `covers` saw it, has the digest. Call it once that is proven.

        Does nothing where that is known or not safe to remember, or the cache is read-only: a miss costs one hash.
        """
        if self._unknown is not None:
            try:
                write_atomically(self._record, canonical_json(self._unknown).encode())
            except DiskError:
                return

    def _state(self, status: os.stat_result) -> dict[str, str | int]:
        return {
            "device": status.st_dev,
            "inode": status.st_ino,
            "size": status.st_size,
            "mtime_ns": status.st_mtime_ns,
            "ctime_ns": status.st_ctime_ns,
            "sha256": self._sha256,
        }
