"""Download one file over HTTPS: resumed where it broke off, checked, and only then given its name."""

import hashlib
import http.client
import random
import ssl
import time
from http.client import HTTPResponse
from pathlib import Path

from cxrzoo.errors import CxrZooError, DigestError, DownloadError
from cxrzoo.sources.answers import content_range, is_web_page, retry_after, unusable
from cxrzoo.sources.connection import Watchdog, open_url
from cxrzoo.sources.files import disk_errors, sha256_of
from cxrzoo.sources.network import ADVICE, Limits, mirrored, redacted, refuse_offline
from cxrzoo.sources.partial import Partial, Version, claim

DEFAULT_LIMITS = Limits()
_CHUNK = 1 << 16
#: A failure after this many new bytes is the first in a row again.
_PROGRESS = 1 << 20


def download(
    url: str, destination: Path, *, sha256: str | None, size: int | None, limits: Limits = DEFAULT_LIMITS
) -> None:
    """Put the file at `url` under the name `destination`, which no other bytes ever bear.

    What came before a failure stays beside `destination`, and the next call goes on from there.

    Args:
        sha256: The promised digest; None where none is known yet.
        size: The promised size in bytes; None where none is known yet.

    Raises:
        OfflineError: The network is switched off.
        DownloadError: The network gave no usable answer.
        DigestError: The file had another digest than the promised one, twice.
        DiskError: The file could not be written.
    """
    refuse_offline(redacted(url))
    with claim(destination) as partial:
        transfer = _Transfer(url, partial, sha256=sha256, size=size, limits=limits)
        for _ in range(2):
            transfer.run()
            with disk_errors("read", partial.body):
                found = sha256_of(partial.body)
            if sha256 in (None, found):
                partial.publish(destination)
                return
            partial.restart()
    raise DigestError(
        f"{redacted(url)}: found the sha256 {found}, expected {sha256}, in two downloads; both were deleted. "
        "The file was changed at its source, or something on the way changes it. Ask its authors, or copy a "
        "file you trust here and use `cxrzoo convert`."
    )


class _TryAgainError(Exception):
    """This attempt failed, the next may not; `wait` is what the server asked for, in seconds."""

    def __init__(self, found: str, wait: float = 0.0) -> None:
        super().__init__(found)
        self.wait = wait


class _Transfer:
    """The attempts to complete one partial download."""

    def __init__(self, url: str, partial: Partial, *, sha256: str | None, size: int | None, limits: Limits) -> None:
        self._address = mirrored(url)
        if self._address == url and not url.startswith("https://"):
            raise DownloadError(f"{redacted(url)}: found this address, expected one that starts with https://.")
        self._id = hashlib.sha256(url.encode()).hexdigest()
        self._partial, self._sha256, self._size, self._limits = partial, sha256, size, limits
        self._deadline = time.monotonic() + limits.deadline

    def run(self) -> None:
        """Attempt until all bytes are there, or the limits are used up."""
        failures = 0
        while True:
            before = self._partial.size
            try:
                self._attempt()
                return
            except _TryAgainError as error:
                failures = 1 if self._partial.size - before >= _PROGRESS else failures + 1
                backoff = min(self._limits.backoff * 2 ** (failures - 1), 30.0) * random.uniform(0.5, 1.5)
                wait = max(backoff, error.wait)
                if failures > self._limits.retries or time.monotonic() + wait >= self._deadline:
                    raise self._refusal(f"{error} (failure {failures} in a row)") from error
                time.sleep(wait)

    def _refusal(self, found: str) -> DownloadError:
        expected = "the file" if self._size is None else f"a file of {self._size} bytes"
        return DownloadError(f"{redacted(self._address)}: found {found}, expected {expected}. {ADVICE}")

    def _resumable(self) -> Version | None:
        """Return what the partial bytes are a part of; bytes that can't be continued are dropped."""
        version = self._partial.version
        if self._partial.size and version and version.url == self._id:
            goal = version.total if self._size is None else self._size
            # Without a validator only a promised digest tells whether both parts are of one file.
            if (version.validator or self._sha256) and self._partial.size <= (goal or self._limits.largest):
                return version
        self._partial.restart()
        return None

    def _attempt(self) -> None:
        version = self._resumable()
        headers = {"Accept-Encoding": "identity", "User-Agent": "cxrzoo"}
        if version is not None:
            if self._partial.size == (version.total if self._size is None else self._size):
                return
            headers["Range"] = f"bytes={self._partial.size}-"
            if version.validator is not None:
                headers["If-Range"] = version.validator
        watchdog = Watchdog(self._limits, self._deadline)
        try:
            with watchdog, open_url(self._address, headers, self._limits, watchdog) as response:
                self._check_status(response, ranged=version is not None)
                total = self._start(response) if response.status == 200 else self._resume(response, version)
                self._receive(response, total, watchdog)
        except CxrZooError:
            raise
        except ssl.SSLCertVerificationError as error:
            raise self._refusal(
                f"a certificate that can't be verified ({error.verify_message}; for an authority of your own, "
                "set SSL_CERT_FILE)"
            ) from error
        except http.client.InvalidURL:
            raise self._refusal("an address that can't be sent") from None
        except (OSError, http.client.HTTPException) as error:
            told = f"{type(error).__name__} {error.strerror or error}" if isinstance(error, OSError) else ""
            raise _TryAgainError(watchdog.reason or told or type(error).__name__) from error

    def _check_status(self, response: HTTPResponse, *, ranged: bool) -> None:
        status = response.status
        if status == 416 and ranged:
            self._partial.restart()
            raise _TryAgainError("that the rest of the file is not there (HTTP status 416)")
        if status in (408, 429) or status >= 500:
            wait = retry_after(response, longest=self._limits.longest_wait)
            raise _TryAgainError(f"HTTP status {status}", wait)
        reason = unusable(response, ranged=ranged)
        if reason is not None:
            raise self._refusal(reason)

    def _resume(self, response: HTTPResponse, version: Version | None) -> int:
        """Return the total size if the answer continues our bytes."""
        start, total = content_range(response) or (-1, -1)
        etag = response.headers.get("ETag")
        changed = version and version.etag and etag and etag != version.etag
        other = version and version.total is not None and version.total != total
        if changed or other or start != self._partial.size:
            self._partial.restart()
            raise _TryAgainError("another part of the file, or of another file, than asked for")
        self._check_total(total)
        return total

    def _start(self, response: HTTPResponse) -> int | None:
        """Begin anew with the first bytes of the answer; return the total size if the server tells it."""
        total = response.length
        self._check_total(total)
        chunked = response.headers.get("Transfer-Encoding") is not None
        if total is None and not chunked and self._size is None and self._sha256 is None:
            raise self._refusal("a body of unknown length, whose end can't be told from a broken connection")
        head = response.read(64)
        if is_web_page(head):
            raise self._refusal("a web page (its first character is '<'), perhaps a log-in page on the way")
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        self._partial.restart(Version(url=self._id, etag=etag, modified=modified, total=total))
        self._save(head, total)
        return total

    def _check_total(self, total: int | None) -> None:
        if total is not None and total != (total if self._size is None else self._size):
            raise self._refusal(f"a file of {total} bytes")
        if self._size is None and (total or 0) > self._limits.largest:
            raise self._refusal(f"a file of {total} bytes, above the limit of {self._limits.largest}")

    def _receive(self, response: HTTPResponse, total: int | None, watchdog: Watchdog) -> None:
        while chunk := response.read1(_CHUNK):
            self._save(chunk, total)
            watchdog.received += len(chunk)
        goal = total if self._size is None else self._size
        # A connection that was cut looks like the end where no length was told.
        if watchdog.reason or not self._partial.size or self._partial.size < (goal or 0):
            raise _TryAgainError(watchdog.reason or f"an end after {self._partial.size} bytes of {goal or 'unknown'}")

    def _save(self, data: bytes, total: int | None) -> None:
        limit = self._size if self._size is not None else total
        limit = self._limits.largest if limit is None else limit
        if self._partial.size + len(data) > limit:
            self._partial.restart()
            raise self._refusal(f"more than {limit} bytes")
        self._partial.append(data)
