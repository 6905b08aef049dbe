"""Temporary names that tell which process made them, so that what a killed process left can be told apart."""

import contextlib
import functools
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from pathlib import Path

TEMPORARY = ".tmp-"
#: Such a name can't be taken for a file of the user's, beside whose files a folder may be staged.
_OURS = re.compile(re.escape(TEMPORARY) + r"[0-9a-f]{8}-[0-9]+-[0-9a-f]+")
_WEEK = 7 * 24 * 3600.0


@functools.cache
def _host() -> str:
    """Digits that differ wherever process numbers mean different processes: host, boot and container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def owner() -> str:
    """Return a word that is unique to this call and tells which process made it: host-pid-random."""
    return f"{_host()}-{os.getpid()}-{secrets.token_hex(4)}"


def is_abandoned(word: str) -> bool:
    """Return whether the process that made an `owner` word is surely dead; False for another host's."""
    host, _, rest = word.partition("-")
    pid = rest.partition("-")[0]
    # On Windows os.kill(pid, 0) does not ask, it kills.
    if os.name == "nt" or host != _host() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def remove_orphans(folder: Path, *, age: float = 60.0) -> None:
    """Delete what killed processes left in `folder`: temporaries of dead owners, and of anyone after a week.

    A folder that can't be listed or written is left as it is.

    Args:
        age: Seconds a dead owner's temporary must have lain untouched.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if _OURS.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_orphan(entry, age)


def _remove_orphan(entry: os.DirEntry[str], age: float) -> None:
    idle = time.time() - entry.stat(follow_symlinks=False).st_mtime
    if idle <= (age if is_abandoned(entry.name.removeprefix(TEMPORARY)) else _WEEK):
        return
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        Path(entry.path).unlink()
