"""Write files and folders so that others find all of them or nothing, whatever happens in between."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from cxrzoo.errors import CxrZooError, DiskError, FolderError
from cxrzoo.sources.owners import TEMPORARY, owner, remove_orphans

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NOT_A_FOLDER = {errno.ENOTDIR, errno.EEXIST}
#: These come from writing alone; any other OSError may be about a file that was only read.
WRITE_ERRNOS = _FULL | {errno.EROFS}


@contextlib.contextmanager
def disk_errors(operation: str, where: Path) -> Iterator[None]:
    """Turn every OSError that is not one of ours into a DiskError that names `operation` and `where`."""
    try:
        yield
    except CxrZooError:
        raise
    except OSError as error:
        raise disk_error(operation, where, error) from error


def disk_error(operation: str, where: Path, error: OSError) -> DiskError:
    """Return the DiskError that says what could not be done, why, and what to do; its errno is kept."""
    if error.errno in _FULL:
        advice = "Free some space there, or choose a folder on another disk"
    elif error.errno in _REFUSED:
        advice = "Choose a folder you may write to"
    elif error.errno in _NOT_A_FOLDER:
        advice = "Something that is no folder is in the way: move it, or choose another folder"
    else:
        advice = "Check the disk, or choose a folder on another one"
    wrapped = DiskError(
        f"Could not {operation} {where}: {error.strerror or error}. {advice} (for the cache: CXRZOO_HOME)."
    )
    wrapped.errno = error.errno
    return wrapped


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however many calls it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` under the name `path`: a reader, or a crash, finds the old file or the new, never a part.

    Raises:
        DiskError: The folder can't be made or written; nothing is left behind.
    """
    with disk_errors("write", path):
        with _written(path, data) as temporary:
            temporary.replace(path)
        sync_folder(path.parent)


def write_once(path: Path, data: bytes) -> bool:
    """Put `data` under the name `path` unless that name is taken; return whether it was free.

    Raises:
        DiskError: The folder can't be made or written; nothing is left behind.
    """
    with disk_errors("write", path):
        with _written(path, data) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links, where a lock has to do
                if path.exists():
                    return False
                temporary.replace(path)
        sync_folder(path.parent)
    return True


@contextlib.contextmanager
def _written(path: Path, data: bytes) -> Iterator[Path]:
    """Give a temporary beside `path` that holds `data` and has reached the disk; it is gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{owner()}"
    # 0o666 less the umask: others may read a shared cache, which the 0o600 of `tempfile` would forbid.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_folder(final: Path, *, may_exist: bool = True) -> Iterator[Path]:
    """Give an empty folder beside `final` that takes the name `final` once the block ends well.

    If the block does not end well, the folder is removed. If another process made `final` meanwhile, that one
    stays and this one is removed. What killed processes left beside `final` goes first.

    Args:
        may_exist: The other one is as good; otherwise it is an error.

    Raises:
        FolderError: `final` exists, and may not.
        DiskError: The folder can't be made, filled or renamed.
    """
    remove_orphans(final.parent, age=0.0)
    temporary = final.parent / f"{TEMPORARY}{owner()}"
    with disk_errors("create", temporary):
        temporary.mkdir(parents=True)
    try:
        try:
            yield temporary
        except OSError as error:
            if isinstance(error, CxrZooError) or error.errno not in WRITE_ERRNOS:
                raise
            raise disk_error("write the files of", final, error) from error
        with disk_errors("create", final):
            _sync_tree(temporary)
            try:
                temporary.rename(final)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not final.is_dir():
                    raise
                if not may_exist:
                    raise FolderError(f"{final} was made by another process meanwhile; nothing was changed.") from error
            sync_folder(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    """Bring a folder to disk, its files with the modes the umask asks for: safetensors writes 0o600."""
    mode = stat.S_IMODE(folder.stat().st_mode) & 0o666
    for parent, _, names in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in names):
            path.chmod(mode)
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(parent))


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to disk, where the file system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that may be written but not listed, or Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # network file systems that can't
            raise
    finally:
        os.close(descriptor)
