"""The local cache: converted folders, downloads, pins, records of verified files, and locks.

    <root>/models/<key>/      converted folders
    <root>/downloads/<key>    files as their authors released them, and parts of them
    <root>/pins/<key>.json    what was first seen where no digest was promised
    <root>/verified/          which files need not be hashed again
    <root>/quarantine/        files that were not what they should be
    <root>/locks/<key>.lock

Whatever is there may be read from a read-only medium. Locks only save work: that nobody finds half a file rests
on renaming alone, since on some network file systems locks do nothing.
"""

import contextlib
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from cxrzoo.errors import DigestError, DiskError, RecordError
from cxrzoo.manifest import NAME
from cxrzoo.records import canonical_json
from cxrzoo.sources.files import disk_errors, write_once
from cxrzoo.sources.owners import remove_orphans
from cxrzoo.sources.partial import remove_spent
from cxrzoo.sources.verified import Verification

logger = logging.getLogger("cxrzoo")

_LONGEST_KEY = 150


class Cache:
    """One cache folder. Making the object touches no file; every folder is made when it is first written."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (default_root() if root is None else root).absolute()

    def model_folder(self, key: str) -> Path:
        """Return where the converted folder of `key` is, or will be."""
        return self.root / "models" / _checked(key)

    def download_path(self, key: str) -> Path:
        """Return where the released file of `key` is, or will be."""
        return self.root / "downloads" / _checked(key)

    @contextlib.contextmanager
    def lock(self, key: str, *, timeout: float = 14_400.0) -> Iterator[None]:
        """Keep other processes from the same work meanwhile; where files can't be locked, go on without.

        Not for nesting: a second lock of one key in one process waits for the first.

        Raises:
            DiskError: Another process held the lock for `timeout` seconds.
        """
        path = self.root / "locks" / f"{_checked(key)}.lock"
        # 0o666 less the umask, so that users who share a cache share its locks.
        lock = filelock.FileLock(path, timeout=timeout, mode=0o666)
        with contextlib.ExitStack() as held:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock)
            except filelock.Timeout as error:
                raise DiskError(
                    f"{path}: another process has held this lock for {timeout:g} s. "
                    "Wait until it is done, or stop it; the lock ends with it."
                ) from error
            except (OSError, NotImplementedError) as error:
                logger.debug("%s can't be locked, going on without: %s", path, error)
            else:
                for name in ("models", "pins", "verified"):
                    remove_orphans(self.root / name)
                remove_spent(self.root / "downloads")
            yield

    def read_pin(self, key: str) -> dict[str, Any] | None:
        """Return what was pinned for `key`; None if nothing was.

        Raises:
            RecordError: The pin is damaged.
            DiskError: The pin can't be read.
        """
        path = self.pin_path(key)
        try:
            with disk_errors("read", path):
                found = json.loads(path.read_bytes())
        except DiskError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise
        except ValueError as error:
            raise RecordError(
                f"{path}: found bytes that are no JSON, expected a pin. "
                "Delete the file if you accept whatever comes next."
            ) from error
        if not isinstance(found, dict):
            raise RecordError(f"{path}: found no table, expected a pin. Delete the file to pin anew.")
        return found

    def write_pin(self, key: str, pin: Mapping[str, Any]) -> None:
        """Remember `pin` for `key`, for ever; the same pin again is welcome.

        Raises:
            DigestError: Something else is pinned.
            DiskError: The pin can't be written.
        """
        path = self.pin_path(key)
        if write_once(path, (canonical_json(dict(pin)) + "\n").encode()):
            return
        pinned = self.read_pin(key)
        if pinned is not None and canonical_json(pinned) != canonical_json(dict(pin)):
            raise DigestError(
                f"{key}: found {canonical_json(dict(pin))}, expected {canonical_json(pinned)}, which was pinned "
                f"when it first came. If you know why it changed and accept that, delete {path}."
            )

    def quarantine(self, path: Path) -> Path:
        """Move a file or folder that is not what it should be out of the way; return where it is now.

        Raises:
            DiskError: It can't be moved.
        """
        target = self.root / "quarantine" / f"{path.name}-{secrets.token_hex(4)}"
        with disk_errors("move to quarantine", path):
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another process moved it
                path.rename(target)
        return target

    def verification(self, path: Path, sha256: str) -> Verification:
        """Return what tells whether `path` was found to have this digest before, and remembers that it has.

        Make it before the file is opened, ask `covers` with the status of the open file, and call `record` once
        its bytes were hashed and its status is still the same.
        """
        return Verification(self.root / "verified", path, sha256)

    def pin_path(self, key: str) -> Path:
        """Return the file that pins `key`, or would."""
        return self.root / "pins" / f"{_checked(key)}.json"


def default_root() -> Path:
    """Return CXRZOO_HOME, else cxrzoo in XDG_CACHE_HOME, else ~/.cache/cxrzoo.

    Raises:
        DiskError: None of them is known.
    """
    home, shared = os.environ.get("CXRZOO_HOME"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if home:
            return Path(home).expanduser()
        if Path(shared).is_absolute():  # a relative one is to be ignored, says the XDG specification
            return Path(shared, "cxrzoo")
        return Path.home() / ".cache" / "cxrzoo"
    except RuntimeError as error:
        raise DiskError(
            "Found no home folder, expected one for the cache. Set CXRZOO_HOME to a folder you may write to."
        ) from error


def _checked(key: str) -> str:
    if not NAME.fullmatch(key) or len(key) > _LONGEST_KEY:
        raise RecordError(
            f"cache key: found {key[:60]!r}, expected at most {_LONGEST_KEY} lower-case letters and digits, "
            "joined by '-' or '.'."
        )
    return key
