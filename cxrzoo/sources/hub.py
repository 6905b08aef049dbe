"""Files on the Hub, through its own client, which knows about tokens, mirrors (HF_ENDPOINT) and its cache.

The client checks sizes only: whoever calls this must check the digest.
"""

import threading
from pathlib import Path

from cxrzoo.errors import CxrZooError, DownloadError, OfflineError, SourceError
from cxrzoo.sources.files import WRITE_ERRNOS, disk_error, disk_errors
from cxrzoo.sources.network import is_offline, offline_switch

_ADVICE = (
    "Behind a proxy, set HTTPS_PROXY; with a mirror of the Hub, set HF_ENDPOINT; or load the model from a "
    "folder that you copied here."
)


def fetch_from_hub(
    repo_id: str,
    filename: str,
    *,
    revision: str,
    cached_only: bool = False,
    deadline: float = 7200.0,
) -> Path:
    """Return where the Hub's cache has a file, which is downloaded first if need be. Its digest is unchecked.

    Args:
        cached_only: Look in the cache, and nowhere else.
        deadline: Seconds after which to give up; the client itself has no such limit.

    Raises:
        OfflineError: The file is not in the cache, and the network is switched off.
        DownloadError: The Hub gave no usable answer.
        SourceError: The Hub's client failed for another reason.
        DiskError: The Hub's cache can't be written.
    """
    what = f"{filename} of {repo_id} at revision {revision}"
    results: list[str] = []
    errors: list[Exception] = []

    def fetch() -> None:
        try:
            from huggingface_hub import hf_hub_download

            found = hf_hub_download(repo_id, filename, revision=revision, local_files_only=cached_only or is_offline())
            results.append(found)
        except Exception as error:  # noqa: BLE001  its exceptions change with its HTTP library
            errors.append(error)

    # A daemon: a client that hangs must not keep the interpreter from ending.
    thread = threading.Thread(target=fetch, name="cxrzoo-hub", daemon=True)
    thread.start()
    thread.join(deadline)
    if errors:
        raise _explained(errors[0], what, repo_id) from errors[0]
    if not results:
        raise DownloadError(f"{what}: found nothing complete after {deadline:g} s. {_ADVICE}")
    return Path(results[0])


def _explained(error: Exception, what: str, repo_id: str) -> CxrZooError:
    """Return what an exception of the Hub's client means, in our words."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return DownloadError(
            f"{repo_id} is gated: its owners give access on request. Ask for it at "
            f"https://huggingface.co/{repo_id}, then run `hf auth login`."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadError(
            f"{repo_id}: the Hub has no such repository, or shows it to others only. "
            "Check the name; if it is private, run `hf auth login`."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return DownloadError(f"{what}: the repository has no such revision. Check the revision.")
    if isinstance(error, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
        switch = offline_switch()
        if switch or isinstance(error.__cause__ or error, errors.OfflineModeIsEnabled):
            return OfflineError(
                f"{what} is not in the Hub's cache, and {switch or 'its offline mode'} forbids the network. "
                "Unset it, or copy the cache of a machine with a network to this one."
            )
        return DownloadError(f"{what}: found no connection to the Hub. {_ADVICE}")
    if isinstance(error, errors.EntryNotFoundError):
        return DownloadError(f"{what}: the repository has no such file at this revision. Check both.")
    if isinstance(error, errors.HfHubHTTPError):
        status = getattr(error.response, "status_code", "unknown")
        return DownloadError(f"{what}: found HTTP status {status}, expected the file. {_ADVICE}")
    if isinstance(error, ValueError):
        return SourceError(f"{what}: the Hub's client refuses this name ({type(error).__name__}). Check it.")
    if isinstance(error, OSError) and error.errno in WRITE_ERRNOS and error.filename:
        return disk_error("write", Path(str(error.filename)), error)
    if isinstance(error, OSError) or type(error).__module__.startswith("http"):
        return DownloadError(f"{what}: the connection to the Hub failed ({type(error).__name__}). {_ADVICE}")
    return SourceError(f"{what}: the Hub's client failed with {type(error).__name__}. {_ADVICE}")


def evict(path: Path) -> None:
    """Remove a damaged file from the Hub's cache: the name, each link it leads through, and the bytes.

    Raises:
        DiskError: It can't be removed.
    """
    with disk_errors("remove", path):
        while path.is_symlink():
            target = path.parent / path.readlink()
            path.unlink()
            path = target
        path.unlink(missing_ok=True)
