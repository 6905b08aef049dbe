"""Servers on 127.0.0.1 that play a file host and the Hub, keep books of what they sent, and fail on request."""

import contextlib
import gzip
import hashlib
import http.server
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal[
    "status",  # answer with the status `value` and the header Retry-After: `text`, if given
    "reset",  # reset the connection after `value` bytes of the body
    "truncate",  # end the body after `value` bytes, whatever Content-Length says
    "length",  # say that Content-Length is `value`, and send the whole body
    "no length",  # no Content-Length; the body ends after `value` bytes, or whole where that is 0
    "chunked",
    "bad chunks",  # chunked, with a size that is no number after the first chunk
    "gzip",  # Content-Encoding: gzip, asked for or not
    "encoding",  # the plain body, called Transfer-Encoding: gzip
    "page",  # a log-in page as text/html
    "unnamed page",  # a log-in page that claims to be a checkpoint
    "drip",  # `value` bytes a second
    "drip headers",  # one byte of the headers a second
    "stall",  # nothing more after `value` bytes
    "redirect",  # to the address `text`; to itself where that is ""
    "ignore range",  # the whole file with 200
    "wrong range",  # a part that starts elsewhere than was asked for
    "range 416",  # range not satisfiable
    "extra",  # more bytes than the file has: chunked, so that no length gives it away
    "garbage",  # no HTTP at all
    "empty",
]

PAGE = b"<!DOCTYPE html><html><body>Please log in to the hospital network.</body></html>" * 20


@dataclass(frozen=True)
class Fault:
    """One way to fail."""

    kind: Kind
    value: int = 0
    text: str = ""


@dataclass(frozen=True)
class Request:
    """One line of the log."""

    method: str
    path: str
    range: str | None
    if_range: str | None
    headers: dict[str, str] = field(compare=False, repr=False)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # as many clients as a test likes may knock at once
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that leave early are what these tests are about."""


class _Local:
    """What both servers have in common."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.sent: Counter[str] = Counter()
        self.faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self.always: dict[str, Fault] = {}
        self._closing = threading.Event()
        outer = self

        class Handler(_Handler):
            server_state = outer

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            self._scheme = "https"

    @property
    def url(self) -> str:
        """The address of the server, without a slash at the end."""
        return f"{self._scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def fail(self, path: str, *faults: Fault) -> None:
        """Let the next requests for `path` fail, one after the other."""
        self.faults[path].extend(faults)

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        """Return the requests for `path`, in order."""
        return [request for request in self.requests if (request.path, request.method) == (path, method)]

    def next_fault(self, path: str) -> Fault | None:
        queue = self.faults[path]
        return queue.popleft() if queue else self.always.get(path)

    def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end of the test."""
        if self._closing.wait(seconds):
            raise ConnectionError("The server is closing.")

    def answer(self, handler: "_Handler") -> None:
        raise NotImplementedError


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_state: _Local

    def log_message(self, *_: object) -> None:
        """The log is `requests`."""

    def do_GET(self) -> None:
        self._do()

    def do_HEAD(self) -> None:
        self._do()

    def do_CONNECT(self) -> None:
        self._do()

    def _do(self) -> None:
        # an http proxy is asked for whole addresses
        self.path = re.sub(r"^http://[^/]*", "", self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.partition("?")[0]
        self.server_state.requests.append(
            Request(self.command, path, headers.get("range"), headers.get("if-range"), headers)
        )
        with contextlib.suppress(OSError):
            self.server_state.answer(self)

    def start(self, status: int, headers: dict[str, object]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def send_body(self, path: str, body: bytes, *, speed: int = 0, piece: int = 1 << 14) -> None:
        """Send bytes and count them; at `speed` bytes a second if given."""
        if self.command == "HEAD":
            return
        if speed:
            piece = max(1, speed // 50)
        for start in range(0, len(body), piece):
            part = body[start : start + piece]
            self.wfile.write(part)
            self.server_state.sent[path] += len(part)
            if speed:
                self.server_state.sleep(len(part) / speed)

    def reset(self) -> None:
        """Close the connection as a crash would, with RST."""
        time.sleep(0.02)  # what was sent shall arrive first
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


class CheckpointServer(_Local):
    """A file host as CXRZOO_MIRROR sees it: files by /host/path, with ranges and ETags, and scripted faults."""

    def __init__(self, files: dict[str, bytes], *, etags: bool = True, certificate: Path | None = None) -> None:
        super().__init__(certificate)
        self.files = files
        self.etags = etags

    def answer(self, handler: _Handler) -> None:
        path = handler.path.partition("?")[0]
        fault = self.next_fault(path)
        body = self.files.get(path)
        if fault is not None and self._fail_before_body(handler, path, fault):
            return
        if body is None:
            handler.start(404, {"Content-Length": 0})
            return
        etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        headers: dict[str, object] = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if self.etags:
            headers["ETag"] = etag
        status, start = 200, 0
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        fresh = handler.headers.get("If-Range", etag) == etag
        if match and fresh and not (fault and fault.kind == "ignore range"):
            start = int(match[1])
            if start >= len(body) or (fault and fault.kind == "range 416"):
                handler.start(416, {"Content-Length": 0, "Content-Range": f"bytes */{len(body)}"})
                return
            status = 206
            shown = start + 7 if fault and fault.kind == "wrong range" else start
            headers["Content-Range"] = f"bytes {shown}-{len(body) - 1}/{len(body)}"
        self._send(handler, path, status, headers, body[start:], fault or Fault("status", 200))

    def _fail_before_body(self, handler: _Handler, path: str, fault: Fault) -> bool:
        """Return whether the fault was the whole answer."""
        if fault.kind == "status":
            handler.start(fault.value, {"Content-Length": 0} | ({"Retry-After": fault.text} if fault.text else {}))
        elif fault.kind == "page":
            handler.start(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": len(PAGE)})
            handler.send_body(path, PAGE)
        elif fault.kind == "unnamed page":
            handler.start(200, {"Content-Length": len(PAGE)})
            handler.send_body(path, PAGE)
        elif fault.kind == "redirect":
            handler.start(302, {"Location": fault.text or handler.path, "Content-Length": 0})
        elif fault.kind == "empty":
            handler.start(200, {"Content-Length": 0})
        elif fault.kind == "garbage":
            handler.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            handler.close_connection = True
        elif fault.kind == "drip headers":
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 10_000:
                handler.wfile.write(bytes([byte]))
                self.sleep(0.2)
        else:
            return False
        return True

    def _send(
        self, handler: _Handler, path: str, status: int, headers: dict[str, object], body: bytes, fault: Fault
    ) -> None:
        headers["Content-Length"] = fault.value if fault.kind == "length" else len(body)
        if fault.kind in ("chunked", "bad chunks", "extra", "no length"):
            del headers["Content-Length"]
        if fault.kind in ("chunked", "bad chunks", "extra"):
            headers["Transfer-Encoding"] = "chunked"
        if fault.kind == "gzip":
            body = gzip.compress(body)
            headers |= {"Content-Encoding": "gzip", "Content-Length": len(body)}
        if fault.kind == "encoding":
            headers["Transfer-Encoding"] = "gzip"
        if fault.kind != "status":
            headers["Connection"] = "close"
            handler.close_connection = True
        handler.start(status, headers)
        if "Transfer-Encoding" in headers and fault.kind != "encoding":
            self._send_chunks(handler, path, body + b"x" * (200_000 if fault.kind == "extra" else 0), fault)
        elif fault.kind in ("reset", "truncate", "stall"):
            handler.send_body(path, body[: fault.value])
            if fault.kind == "stall":
                self.sleep(60)
            if fault.kind == "reset":
                handler.reset()
        elif fault.kind == "no length" and fault.value:
            handler.send_body(path, body[: fault.value])
        else:
            handler.send_body(path, body, speed=fault.value if fault.kind == "drip" else 0)

    def _send_chunks(self, handler: _Handler, path: str, body: bytes, fault: Fault) -> None:
        for start in range(0, len(body), 50_000):
            part = body[start : start + 50_000]
            handler.wfile.write(b"%x\r\n" % len(part))
            handler.send_body(path, part)
            handler.wfile.write(b"\r\n")
            if fault.kind == "bad chunks":
                handler.wfile.write(b"zz\r\n")
                return
        handler.wfile.write(b"0\r\n\r\n")


class HubServer(_Local):
    """The part of the Hub that its client needs to download: `repos` holds the files of each repository.

    Faults are scripted by the path of the GET or HEAD, /org/name/resolve/revision/file; of their kinds it knows
    "status" and "truncate". A repository in `gated` asks for access, as the Hub does.
    """

    COMMIT = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, repos: dict[str, dict[str, bytes]], *, gated: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.repos = repos
        self.gated = gated

    def answer(self, handler: _Handler) -> None:
        path = handler.path.partition("?")[0]
        match = re.fullmatch(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)", path)
        listed = re.fullmatch(r"/api/models/(?P<repo>[^/]+/[^/]+?)(/revision/[^/]+)?(?P<tree>/tree/.+)?", path)
        fault = self.next_fault(path)
        if fault is not None and fault.kind == "status":
            handler.start(fault.value, {"Content-Length": 0})
        elif match is not None:
            self._send_file(handler, path, match["repo"], match["revision"], match["file"], fault)
        elif listed is not None and listed["repo"] in self.repos:
            self._list(handler, path, listed["repo"], tree=listed["tree"] is not None)
        else:
            handler.start(401, {"Content-Length": 0, "X-Error-Code": "RepoNotFound"})

    def _send_file(
        self, handler: _Handler, path: str, repo: str, revision: str, file: str, fault: Fault | None
    ) -> None:
        files = self.repos.get(repo)
        common = {"Content-Length": 0, "X-Repo-Commit": self.COMMIT}
        if files is None:
            handler.start(401, {"Content-Length": 0, "X-Error-Code": "RepoNotFound"})
        elif repo in self.gated:
            handler.start(403, {"Content-Length": 0, "X-Error-Code": "GatedRepo"})
        elif revision not in ("main", self.COMMIT):
            handler.start(404, {"Content-Length": 0, "X-Error-Code": "RevisionNotFound"})
        elif file not in files:
            handler.start(404, {**common, "X-Error-Code": "EntryNotFound"})
        else:
            body = files[file]
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
            start = int(match[1]) if match else 0
            headers = {
                **common,
                "Content-Length": len(body) - start,
                "Content-Type": "application/octet-stream",
                "ETag": etag,
                "X-Linked-Etag": etag,
                "X-Linked-Size": len(body),
            }
            if match:
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            handler.start(206 if match else 200, headers)
            short = fault is not None and fault.kind == "truncate"
            handler.send_body(path, body[start : fault.value if fault and short else None])
            handler.close_connection = short

    def _list(self, handler: _Handler, path: str, repo: str, *, tree: bool) -> None:
        files = self.repos[repo]
        entries = [
            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for name, body in files.items()
        ]
        info = {
            "id": repo,
            "modelId": repo,
            "sha": self.COMMIT,
            "private": False,
            "tags": [],
            "downloads": 0,
            "siblings": [{"rfilename": name} for name in files],
        }
        body = json.dumps(entries if tree else info).encode()
        handler.start(200, {"Content-Length": len(body), "Content-Type": "application/json"})
        handler.send_body(path, body)


class TunnelProxy(_Local):
    """An HTTP proxy for https addresses: every CONNECT, whatever its host, leads to `port` of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    def answer(self, handler: _Handler) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as upstream:
            handler.start(200, {})
            back = threading.Thread(target=_pump, args=(upstream, handler.connection), daemon=True)
            back.start()
            _pump(handler.connection, upstream)
            back.join(5)
        handler.close_connection = True


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Give a port of 127.0.0.1 at which nobody answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
