"""The bytes of a download that have come so far: one process holds them at a time, and the next goes on.

Beside `name` lies the folder `name.part` with the bytes and what the server said of them. A process takes it
by renaming it to a name of its own and gives it back by renaming; renaming is atomic, so two processes never
write to the same bytes, even where locks do not work. What a killed process held is taken over from it.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cxrzoo.errors import RecordError
from cxrzoo.records import canonical_json, decode
from cxrzoo.sources.files import disk_errors, sync_folder, write_all, write_atomically
from cxrzoo.sources.owners import is_abandoned, owner


@dataclass(frozen=True)
class Version:
    """Which bytes a server gave: `url` is a digest, for an address may hold secrets."""

    url: str
    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @property
    def validator(self) -> str | None:
        """What If-Range may name (RFC 9110, 13.1.5): a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified


class Partial:
    """A partial download that this process holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.body = folder / "body"
        self._descriptor = os.open(self.body, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        self.size = os.fstat(self._descriptor).st_size

    @property
    def version(self) -> Version | None:
        """What the bytes are a part of; None where that is not known."""
        try:
            return decode(Version, json.loads((self.folder / "version.json").read_bytes()), "version.json")
        except (OSError, ValueError, RecordError):
            return None

    def restart(self, version: Version | None = None) -> None:
        """Forget all bytes; those to come are of `version`."""
        with disk_errors("write", self.body):
            os.ftruncate(self._descriptor, 0)
            self.size = 0
        if version is not None:
            fields = {name: value for name, value in asdict(version).items() if value is not None}
            write_atomically(self.folder / "version.json", canonical_json(fields).encode())

    def append(self, data: bytes) -> None:
        """Add `data` to the bytes."""
        with disk_errors("write", self.body):
            write_all(self._descriptor, data)
        self.size += len(data)

    def publish(self, destination: Path) -> None:
        """Give the bytes the name `destination`, once they have reached the disk."""
        with disk_errors("write", destination):
            os.fsync(self._descriptor)
            self.body.replace(destination)
            sync_folder(destination.parent)

    def close(self) -> None:
        """Bring the bytes to disk and let go of them."""
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        with contextlib.suppress(OSError):
            os.close(self._descriptor)


@contextlib.contextmanager
def claim(destination: Path) -> Iterator[Partial]:
    """Give the partial download of `destination`, as far as it has come; what is left of it stays for others.

    Raises:
        DiskError: The folder can't be written.
    """
    rest = destination.with_name(f"{destination.name}.part")
    mine = destination.with_name(f"{destination.name}.part-{owner()}")
    with disk_errors("create", mine):
        mine.parent.mkdir(parents=True, exist_ok=True)
        _take(rest, mine)
    try:
        with disk_errors("open", mine):
            partial = Partial(mine)
        try:
            yield partial
        finally:
            partial.close()
    finally:
        if _held(mine) > 0:
            with contextlib.suppress(OSError):  # another process gave one back meanwhile
                mine.rename(rest)
        _remove(mine)


def _take(rest: Path, mine: Path) -> None:
    """Make `mine` out of the largest partial that nobody holds; the others that nobody holds are removed."""
    prefix = f"{rest.name}-"
    free = [rest] if rest.is_dir() else []
    for path in mine.parent.iterdir():
        if path.name.startswith(prefix) and is_abandoned(path.name.removeprefix(prefix)):
            free.append(path)
    for path in sorted(free, key=_held, reverse=True):
        if mine.is_dir():
            _remove(path)
        else:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                path.rename(mine)
    mine.mkdir(exist_ok=True)


def remove_spent(folder: Path) -> None:
    """Delete the partials of dead processes in `folder` that hold no bytes: theirs have got their name."""
    with contextlib.suppress(OSError):
        for path in list(folder.iterdir()):
            _, found, word = path.name.rpartition(".part-")
            if found and is_abandoned(word) and _held(path) <= 0:
                _remove(path)


def _held(folder: Path) -> int:
    try:
        return (folder / "body").stat().st_size
    except OSError:
        return -1


def _remove(folder: Path) -> None:
    """Delete by path, never through an open folder: another process may take and rename it this moment."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
