"""One GET request, through proxies and safe redirects, with no way for a server to hold us for ever."""

import base64
import contextlib
import http.client
import socket
import string
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping

from cxrzoo.errors import DownloadError
from cxrzoo.sources.network import ADVICE, Limits, redacted

_REDIRECTS = {301, 302, 303, 307, 308}


class Watchdog:
    """Cuts a connection that is slower than the limits allow, in its headers as in its body.

    The timeout of a socket starts anew with every byte, so a server that drips could hold us for days.
    """

    def __init__(self, limits: Limits, deadline: float) -> None:
        self.received = 0
        self.reason = ""
        self._limits, self._deadline = limits, deadline
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._done = threading.Event()

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, name="cxrzoo-watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def open(self, connection: http.client.HTTPConnection) -> None:
        """Open `connection` and watch it from now on."""
        self._connection, self._socket = connection, None
        connection.connect()
        self._socket = connection.sock  # the connection drops its own reference once it has the headers

    def _watch(self) -> None:
        limits, seen = self._limits, 0
        while not self._done.wait(max(0.0, min(limits.window, self._deadline - time.monotonic()))):
            if time.monotonic() >= self._deadline:
                self.reason = f"it was not complete after {limits.deadline:g} s"
            elif self.received - seen < limits.least_speed * limits.window:
                self.reason = f"it gave only {self.received - seen} bytes in {limits.window:g} s"
            seen = self.received
            if self.reason:
                self._cut()
                return

    def _cut(self) -> None:
        connected = self._socket or (self._connection.sock if self._connection else None)
        if connected is not None:
            with contextlib.suppress(OSError):
                # That of the plain socket: a TLS socket would drop its state under the reader's feet.
                socket.socket.shutdown(connected, socket.SHUT_RDWR)


@contextlib.contextmanager
def open_url(
    url: str, headers: Mapping[str, str], limits: Limits, watchdog: Watchdog
) -> Iterator[http.client.HTTPResponse]:
    """Give the first answer to GET `url` that is no redirect, whatever its status.

    Raises:
        DownloadError: An address is malformed, or a redirect leads nowhere, round, or away from https.
        OSError: The network failed; so does http.client.HTTPException.
    """
    for _ in range(limits.redirects + 1):
        connection, target, own = _connection_to(url, limits.timeout)
        with contextlib.closing(connection):
            watchdog.open(connection)
            connection.request("GET", target, headers={**headers, **own})
            with connection.getresponse() as response:
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = next_url(url, response.headers.get("Location"))
    raise DownloadError(f"{redacted(url)}: found more than {limits.redirects} redirects, expected a file. {ADVICE}")


def next_url(url: str, location: str | None) -> str:
    """Return where a redirect from `url` leads.

    Raises:
        DownloadError: It has no location, names a user, or leads from https to anything else.
    """
    if not location:
        raise DownloadError(f"{redacted(url)} redirects, but does not say where to. {ADVICE}")
    # Spaces and letters outside ASCII can't be sent; browsers quote them too.
    location = urllib.parse.quote(location, safe=string.punctuation)
    _split(location)
    target = urllib.parse.urljoin(url, location)
    parts = _split(target)
    allowed = ("https",) if url.startswith("https:") else ("http", "https")
    if parts.scheme not in allowed or "@" in parts.netloc or not parts.hostname:
        raise DownloadError(
            f"{redacted(url)} redirects to {redacted(target)}, expected a plain {' or '.join(allowed)} "
            f"address. {ADVICE}"
        )
    return target


def _connection_to(url: str, timeout: float) -> tuple[http.client.HTTPConnection, str, dict[str, str]]:
    """Return an unopened connection for `url`, the target to name in the request, and headers for it alone."""
    parts = _split(url)
    tls, host = parts.scheme == "https", parts.hostname or ""
    port = parts.port or (443 if tls else 80)
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    headers = _credentials("Authorization", parts)
    proxy = _proxy_for(parts)
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    if proxy is None:
        return kind(host, port, timeout=timeout), target, headers
    connection = kind(proxy.hostname or "", proxy.port or 80, timeout=timeout)
    own = _credentials("Proxy-Authorization", proxy)
    if tls:
        connection.set_tunnel(host, port, headers=own)
        return connection, target, headers
    return connection, f"http://{parts.netloc.rpartition('@')[2]}{target}", headers | own


def _proxy_for(parts: urllib.parse.SplitResult) -> urllib.parse.SplitResult | None:
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    found = _split(proxy if "://" in proxy else f"http://{proxy}")
    if found.scheme not in ("http", "https"):
        raise DownloadError(
            f"The proxy for {parts.scheme} is a {found.scheme} proxy, expected an http one. "
            f"Set {parts.scheme.upper()}_PROXY."
        )
    return found


def _credentials(header: str, parts: urllib.parse.SplitResult) -> dict[str, str]:
    if parts.username is None:
        return {}
    pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    return {header: "Basic " + base64.b64encode(pair.encode()).decode("ascii")}


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError:
        raise DownloadError(f"An address has no valid host and port. {ADVICE}") from None
    return parts
