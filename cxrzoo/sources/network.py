"""What a user may say about the network: limits, the offline switch, the mirror. No request is made here."""

import os
import urllib.parse
from dataclasses import dataclass

from cxrzoo.errors import DownloadError, OfflineError

_SWITCHES = ("CXRZOO_OFFLINE", "HF_HUB_OFFLINE")
ADVICE = (
    "Behind a proxy, set HTTPS_PROXY; with a mirror, set CXRZOO_MIRROR; "
    "or copy the file here by other means and use `cxrzoo convert`."
)


@dataclass(frozen=True)
class Limits:
    """How long, how often and how much a download may be. Times are in seconds, sizes in bytes.

    `timeout` bounds each connect and each read, `deadline` the whole download. A connection that gives less
    than `least_speed` bytes a second over `window` seconds is cut. `retries` counts failures in a row;
    `longest_wait` caps what a server may ask us to wait. `largest` holds where no size is known.
    """

    timeout: float = 30.0
    least_speed: float = 1024.0
    window: float = 30.0
    deadline: float = 7200.0
    retries: int = 4
    backoff: float = 1.0
    longest_wait: float = 60.0
    redirects: int = 10
    largest: int = 4 << 30


def offline_switch() -> str | None:
    """Return the setting that switches the network off, as NAME=value; None where it is on."""
    for name in _SWITCHES:
        value = os.environ.get(name, "")
        if value.strip().lower() in ("1", "true", "yes", "on"):
            return f"{name}={value}"
    return None


def is_offline() -> bool:
    """Return whether CXRZOO_OFFLINE or HF_HUB_OFFLINE switches the network off."""
    return offline_switch() is not None


def refuse_offline(wanted: str) -> None:
    """Raise OfflineError where the network is switched off; `wanted` is what it was needed for."""
    switch = offline_switch()
    if switch is not None:
        raise OfflineError(
            f"{wanted} is not on this machine, and {switch} forbids the network. Unset "
            f"{switch.partition('=')[0]}, or copy the cache of a machine with a network to this one."
        )


def redacted(url: str) -> str:
    """Return `url` without what may be secret: no user, no password, no query."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def mirrored(url: str) -> str:
    """Return where to ask for `url`: CXRZOO_MIRROR followed by its host and path, or `url` itself.

    Raises:
        DownloadError: CXRZOO_MIRROR is no http or https URL.
    """
    mirror = os.environ.get("CXRZOO_MIRROR", "").rstrip("/")
    if not mirror:
        return url
    if urllib.parse.urlsplit(mirror).scheme not in ("http", "https"):
        raise DownloadError(
            "CXRZOO_MIRROR: found a value that does not start with http:// or https://; "
            "expected one like https://mirror.hospital.example/weights."
        )
    return f"{mirror}/{url.partition('://')[2]}"
