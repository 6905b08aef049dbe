"""Downloads over HTTPS and from the Hub, and files of installed distributions."""

import errno
import functools
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from servers import PAGE, CheckpointServer, Fault, HubServer, TunnelProxy, closed_port

import cxrzoo
from cxrzoo.errors import DigestError, DiskError, DownloadError, OfflineError, SourceError
from cxrzoo.sources import Limits, download, evict, find_in_distribution, mirrored
from cxrzoo.sources.connection import next_url

BODY = b"PK\x03\x04" + random.Random(0).randbytes(300_000)
SHA256 = hashlib.sha256(BODY).hexdigest()
URL = "https://storage.googleapis.com/moco-cxr/model.pth.tar?signature=canary"
PATH = "/storage.googleapis.com/moco-cxr/model.pth.tar"
LIMITS = Limits(
    timeout=2, least_speed=4000, window=0.4, deadline=8, retries=2, backoff=0.01, longest_wait=0.1, redirects=5
)
#: 1 MiB above the file's size is what a fault may cost on disk.
SLACK = 1 << 20
#: Child processes find cxrzoo where this one did.
IMPORTS = {"PYTHONPATH": str(Path(cxrzoo.__file__).parents[1])}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No proxy, mirror, token or switch of whoever runs the tests."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith(("CXRZOO_", "HF_", "SSL_CERT", "TRANSFORMERS_")):
            monkeypatch.delenv(name)


@pytest.fixture
def server(monkeypatch):
    with CheckpointServer({PATH: BODY}) as running:
        monkeypatch.setenv("CXRZOO_MIRROR", running.url)
        yield running


def fetch(folder: Path, *, pinned: bool = True, limits: Limits = LIMITS) -> Path:
    destination = folder / "downloads" / "model"
    promise = {"sha256": SHA256, "size": len(BODY)} if pinned else {"sha256": None, "size": None}
    download(URL, destination, limits=limits, **promise)
    return destination


def bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def run_child(code: str, *arguments: object, check: bool = True, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code in a process of its own, with what this one can import."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | IMPORTS | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
    )


# --------------------------------------------------------------------------------------------------------------
# Plain HTTPS: what a server may do


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
def test_a_download_gives_the_very_bytes_and_leaves_nothing_else(server, tmp_path, pinned):
    """A good answer ends as the one file under the one name, with the mode the umask asks for."""
    path = fetch(tmp_path, pinned=pinned)

    assert BODY == path.read_bytes()
    assert [path] == list(path.parent.iterdir())
    assert 0o666 & ~umask() == path.stat().st_mode & 0o777


def umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


HALF = len(BODY) // 2
OK = "the file"
#: fault, outcome where it happens once, outcome where it never ends; an outcome is the file or a part of the error
FAULTS = {
    "500": (Fault("status", 500), OK, "HTTP status 500"),
    "502": (Fault("status", 502), OK, "HTTP status 502"),
    "503 wait a day": (Fault("status", 503, "86400"), OK, "HTTP status 503"),
    "429": (Fault("status", 429), OK, "HTTP status 429"),
    "429 wait until 2099": (Fault("status", 429, "Fri, 31 Dec 2099 23:59:59 GMT"), OK, "HTTP status 429"),
    "429 wait less than nothing": (Fault("status", 429, "-5"), OK, "HTTP status 429"),
    "429 wait nonsense": (Fault("status", 429, "soon"), OK, "HTTP status 429"),
    "408": (Fault("status", 408), OK, "HTTP status 408"),
    "400": (Fault("status", 400), "HTTP status 400", "HTTP status 400"),
    "401": (Fault("status", 401), "HTTP status 401", "HTTP status 401"),
    "403": (Fault("status", 403), "HTTP status 403", "HTTP status 403"),
    "404": (Fault("status", 404), "HTTP status 404", "HTTP status 404"),
    "410": (Fault("status", 410), "HTTP status 410", "HTTP status 410"),
    "416": (Fault("status", 416), "HTTP status 416", "HTTP status 416"),
    "204": (Fault("status", 204), "HTTP status 204", "HTTP status 204"),
    "206 unasked": (Fault("status", 206), "HTTP status 206", "HTTP status 206"),
    "reset before the body": (Fault("reset", 0), OK, "failure 3 in a row"),
    "reset in the body": (Fault("reset", HALF), OK, OK),
    "end before the body": (Fault("truncate", 0), OK, "failure 3 in a row"),
    "end in the body": (Fault("truncate", HALF), OK, OK),
    "longer than told": (Fault("length", 1000), "1000 bytes", "1000 bytes"),
    "shorter than told": (Fault("length", 400_000), "400000 bytes", "400000 bytes"),
    "length of no number": (Fault("length", -3), OK, OK),
    "no length": (Fault("no length"), OK, OK),
    "no length and cut": (Fault("no length", HALF), OK, OK),
    "chunked": (Fault("chunked"), OK, OK),
    "broken chunks": (Fault("bad chunks"), OK, "failure"),
    "gzip": (Fault("gzip"), "encoding 'gzip'", "encoding 'gzip'"),
    "transfer encoding": (Fault("encoding"), "encoding 'gzip'", "encoding 'gzip'"),
    "log-in page": (Fault("page"), "web page", "web page"),
    "log-in page without a type": (Fault("unnamed page"), "bytes", "bytes"),
    "drip": (Fault("drip", 500), OK, "bytes in 0.4 s"),
    "drip of headers": (Fault("drip headers"), OK, "0 bytes in 0.4 s"),
    "stall before the body": (Fault("stall", 0), OK, "0 bytes in 0.4 s"),
    "stall in the body": (Fault("stall", HALF), OK, OK),
    "redirect to itself": (Fault("redirect"), OK, "redirects"),
    "redirect to a file": (Fault("redirect", text="file:///etc/passwd"), "redirects to file", "redirects to file"),
    "redirect to ftp": (Fault("redirect", text="ftp://host/x"), "redirects to ftp", "redirects to ftp"),
    "redirect with user": (Fault("redirect", text="http://me:canary@host/x"), "redirects to", "redirects to"),
    "redirect to no port": (Fault("redirect", text="http://host:99999/x"), "no valid host", "no valid host"),
    "more than promised": (Fault("extra"), "more than 300004 bytes", "more than 300004 bytes"),
    "no HTTP": (Fault("garbage"), OK, "failure 3 in a row"),
    "empty": (Fault("empty"), "0 bytes", "0 bytes"),
}
#: What ends differently where neither size nor digest is promised.
UNPINNED = {
    "shorter than told": (OK, "failure"),
    "length of no number": ("unknown length", "unknown length"),
    "no length": ("unknown length", "unknown length"),
    "no length and cut": ("unknown length", "unknown length"),
    "log-in page without a type": ("web page", "web page"),
    "empty": (OK, "failure 3 in a row"),
}
#: A server that lies about the length, and nothing to hold against it: no client can know.
UNKNOWABLE = {"longer than told", "more than promised"}


def cases():
    """Yield every fault, once and for ever, with and without a promise."""
    for pinned in (True, False):
        for name, (fault, once, always) in FAULTS.items():
            if not pinned and name in UNKNOWABLE:
                continue
            once, always = (once, always) if pinned else UNPINNED.get(name, (once, always))
            yield pytest.param(pinned, fault, False, once, id=f"{name}-once-{'pinned' if pinned else 'unpinned'}")
            yield pytest.param(pinned, fault, True, always, id=f"{name}-always-{'pinned' if pinned else 'unpinned'}")


@pytest.mark.parametrize(("pinned", "fault", "always", "outcome"), list(cases()))
def test_every_fault_ends_in_the_file_or_in_an_error_that_names_it(server, tmp_path, pinned, fault, always, outcome):
    """Whatever a server does: right bytes or a DownloadError, in time, with little disk and no secret told."""
    if always:
        server.always[PATH] = fault
    else:
        server.fail(PATH, fault)
    began = time.monotonic()

    if outcome == OK:
        assert BODY == fetch(tmp_path, pinned=pinned).read_bytes()
    else:
        with pytest.raises(DownloadError) as caught:
            fetch(tmp_path, pinned=pinned)
        assert outcome in str(caught.value)
        assert "canary" not in str(caught.value)
        assert "cxrzoo convert" in str(caught.value)
        assert not (tmp_path / "downloads" / "model").exists()
    assert time.monotonic() - began < LIMITS.deadline
    assert bytes_on_disk(tmp_path) <= len(BODY) + SLACK


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_final_status_is_asked_for_once(server, tmp_path, status):
    """What another attempt can't change is not attempted again."""
    server.always[PATH] = Fault("status", status)

    with pytest.raises(DownloadError):
        fetch(tmp_path)

    assert 1 == len(server.asked(PATH))


def test_a_file_larger_than_the_limit_is_refused_where_no_size_is_promised(server, tmp_path):
    """Without a promised size, the largest size allowed holds, told by the server or not."""
    for fault in (Fault("status", 0), Fault("chunked")):
        if fault.kind == "chunked":
            server.always[PATH] = fault
        with pytest.raises(DownloadError, match="1000"):
            fetch(tmp_path, pinned=False, limits=Limits(largest=1000))

    assert bytes_on_disk(tmp_path) <= 1000 + SLACK


def test_the_deadline_holds_for_the_whole_download(server, tmp_path):
    """A server that is just fast enough for every other limit is cut off at the deadline."""
    server.always[PATH] = Fault("drip", 20_000)
    limits = Limits(deadline=1, least_speed=10, window=0.2)
    began = time.monotonic()

    with pytest.raises(DownloadError, match="not complete after 1 s"):
        fetch(tmp_path, limits=limits)

    assert time.monotonic() - began < 2


def test_a_wrong_digest_is_downloaded_once_more_and_then_refused(server, tmp_path):
    """Bytes other than the promised ones never get the name, and are not kept."""
    server.files[PATH] = BODY[:-1] + bytes([BODY[-1] ^ 1])

    with pytest.raises(DigestError, match=SHA256):
        fetch(tmp_path)

    assert 2 == len(server.asked(PATH))
    assert [] == list((tmp_path / "downloads").iterdir())


def test_bytes_that_were_damaged_on_the_way_once_are_mended(server, tmp_path):
    """One download with a flipped bit does not end the matter: the second one counts."""
    damaged = tmp_path / "downloads" / "model.part"
    server.fail(PATH, Fault("truncate", HALF))
    with pytest.raises(DownloadError):
        fetch(tmp_path, limits=Limits(retries=0))
    body = bytearray((damaged / "body").read_bytes())
    body[1000] ^= 1
    (damaged / "body").write_bytes(body)

    assert BODY == fetch(tmp_path).read_bytes()


# --------------------------------------------------------------------------------------------------------------
# Plain HTTPS: going on where it broke off


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path, pinned):
    """After a reset, only the rest is asked for, on condition that the file is still the same."""
    server.fail(PATH, Fault("reset", 200_000))

    path = fetch(tmp_path, pinned=pinned)

    first, second = server.asked(PATH)
    assert BODY == path.read_bytes()
    assert first.range is None
    assert second.range is not None
    assert second.if_range is not None
    assert server.sent[PATH] < 1.5 * len(BODY)


def test_a_later_call_goes_on_where_an_earlier_one_failed(server, tmp_path):
    """What came before an error is used by the next call, and gone after it."""
    server.fail(PATH, Fault("truncate", 200_000))
    with pytest.raises(DownloadError):
        fetch(tmp_path, limits=Limits(retries=0))

    path = fetch(tmp_path)

    assert BODY == path.read_bytes()
    assert "bytes=200000-" == server.asked(PATH)[1].range
    assert len(BODY) == server.sent[PATH]
    assert [path] == list(path.parent.iterdir())


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "unpinned"])
@pytest.mark.parametrize("kind", ["ignore range", "wrong range", "range 416", "page", "chunked", "gzip"])
def test_a_wrong_answer_to_a_range_never_gives_a_wrong_file(server, tmp_path, kind, pinned):
    """A part that is not the one asked for is thrown away, and a page does not cost what is already there."""
    server.fail(PATH, Fault("truncate", 200_000), Fault(kind))

    if kind in ("page", "gzip"):
        with pytest.raises(DownloadError):
            fetch(tmp_path, pinned=pinned)
    path = fetch(tmp_path, pinned=pinned)

    assert BODY == path.read_bytes()
    if kind == "page":
        assert len(BODY) == server.sent[PATH] - len(PAGE)


@pytest.mark.parametrize("kind", ["status", "ignore range"])
def test_a_file_that_changes_between_two_attempts_is_never_mixed(server, tmp_path, kind):
    """Half of the old file and half of the new one do not make a file, with no digest to tell either."""
    server.fail(PATH, Fault("truncate", 200_000), *([Fault(kind)] if kind != "status" else []))
    with pytest.raises(DownloadError):
        fetch(tmp_path, pinned=False, limits=Limits(retries=0))
    new = server.files[PATH] = bytes(reversed(BODY))

    path = fetch(tmp_path, pinned=False)

    assert new == path.read_bytes()


def test_a_server_that_ignores_if_range_does_not_get_files_mixed(server, tmp_path, monkeypatch):
    """The ETag of a part is compared with that of the first part."""
    server.fail(PATH, Fault("truncate", 200_000))
    with pytest.raises(DownloadError):
        fetch(tmp_path, pinned=False, limits=Limits(retries=0))
    record = tmp_path / "downloads" / "model.part" / "version.json"
    known = json.loads(record.read_text())
    new = server.files[PATH] = bytes(reversed(BODY))
    etag = hashlib.sha256(new).hexdigest()[:16]
    # If-Range names the new file, so the server sends its second half; the ETag we know is the old one's.
    record.write_text(json.dumps(known | {"etag": "W/" + known["etag"], "modified": f'"{etag}"'}))

    path = fetch(tmp_path, pinned=False)

    assert new == path.read_bytes()
    assert "bytes=200000-" == server.asked(PATH)[1].range


@pytest.mark.parametrize(("pinned", "expected"), [(True, "bytes=200000-"), (False, None)], ids=["pinned", "unpinned"])
def test_without_a_validator_only_a_promised_digest_allows_to_go_on(server, tmp_path, pinned, expected):
    """If nothing can tell whether both parts are of one file, the download starts anew."""
    server.etags = False
    server.fail(PATH, Fault("truncate", 200_000))

    assert BODY == fetch(tmp_path, pinned=pinned).read_bytes()
    assert expected == server.asked(PATH)[1].range


def test_a_complete_partial_needs_no_request(server, tmp_path):
    """A process that dies after the last byte leaves nothing to download."""
    part = tmp_path / "downloads" / "model.part"
    part.mkdir(parents=True)
    (part / "body").write_bytes(BODY)
    (part / "version.json").write_text(json.dumps({"url": hashlib.sha256(URL.encode()).hexdigest()}))

    assert BODY == fetch(tmp_path).read_bytes()
    assert [] == server.requests


@pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"url": 3}', b'{"url": "x", "extra": 1}', None])
def test_a_damaged_record_of_a_partial_starts_anew(server, tmp_path, record):
    """A partial that can't be told apart is not used."""
    part = tmp_path / "downloads" / "model.part"
    part.mkdir(parents=True)
    (part / "body").write_bytes(b"x" * 1000)
    if record is not None:
        (part / "version.json").write_bytes(record)

    assert BODY == fetch(tmp_path).read_bytes()
    assert server.asked(PATH)[0].range is None


CHILD = """
import sys
from pathlib import Path
from cxrzoo.sources import download
url, destination, sha256, size = sys.argv[1:]
download(url, Path(destination), sha256=None if sha256 == "-" else sha256, size=None if size == "-" else int(size))
"""


def test_a_download_survives_twenty_kills(server, tmp_path):
    """After kill -9 at any moment the name holds nothing or the right file, and the next run goes on."""
    body = server.files[PATH] = b"PK" + random.Random(1).randbytes(3_000_000)
    sha256 = hashlib.sha256(body).hexdigest()
    destination = tmp_path / "downloads" / "model"
    server.always[PATH] = Fault("drip", 500_000)
    environment = os.environ | IMPORTS
    moments = random.Random(2)

    for _ in range(20):
        asked = len(server.requests)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, URL, destination, sha256, str(len(body))], env=environment
        )
        # half of the kills while it starts, half in the body
        if moments.random() < 0.5:
            while len(server.requests) == asked and child.poll() is None:
                time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.3))
        child.kill()
        child.wait()
        if destination.exists():
            assert body == destination.read_bytes()
            destination.unlink()
    del server.always[PATH]
    run_child(CHILD, URL, destination, sha256, len(body))

    assert body == destination.read_bytes()
    assert [destination] == list(destination.parent.iterdir())
    assert any(request.range for request in server.requests)


def test_processes_without_a_lock_never_mix_their_bytes(server, tmp_path):
    """Eight processes at one name, on a flaky network and with no digest promised, end in the right file."""
    server.fail(PATH, *[Fault("reset", 100_000), Fault("truncate", 50_000)] * 6)
    environment = os.environ | IMPORTS
    destination = tmp_path / "downloads" / "model"

    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, URL, destination, "-", "-"], env=environment) for _ in range(8)
    ]

    assert [0] * 8 == [child.wait(60) for child in children]
    assert BODY == destination.read_bytes()
    assert [destination] == [path for path in destination.parent.iterdir() if not path.name.endswith(".part")]


# --------------------------------------------------------------------------------------------------------------
# Plain HTTPS: addresses, proxies, TLS, the offline switch


@pytest.mark.parametrize(
    ("url", "location", "expected"),
    [
        ("https://a/x", "/y", "https://a/y"),
        ("https://a/x", "https://b/y?z=1", "https://b/y?z=1"),
        ("https://a/x", "//b/y", "https://b/y"),
        ("https://a/x", "/ü y", "https://a/%C3%BC%20y"),
        ("http://a/x", "http://b/y", "http://b/y"),
        ("http://a/x", "https://b/y", "https://b/y"),
        ("https://a/x", "http://a/y", None),
        ("https://a/x", "file:///etc/passwd", None),
        ("https://a/x", "ftp://a/y", None),
        ("https://a/x", "https://user:password@b/y", None),
        ("https://a/x", "https://[::1/y", None),
        ("https://a/x", "", None),
        ("https://a/x", None, None),
    ],
)
def test_a_redirect_never_leaves_https(url, location, expected):
    """From https only to https; from a plain mirror to a plain one; never to a file, or with a password."""
    if expected is None:
        with pytest.raises(DownloadError):
            next_url(url, location)
    else:
        assert expected == next_url(url, location)


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        ("", "https://host.org/a/b?c=d"),
        ("http://mirror:8080", "http://mirror:8080/host.org/a/b?c=d"),
        ("https://mirror/prefix/", "https://mirror/prefix/host.org/a/b?c=d"),
    ],
)
def test_a_mirror_is_asked_for_host_and_path(monkeypatch, mirror, expected):
    """CXRZOO_MIRROR stands before host and path of the address."""
    monkeypatch.setenv("CXRZOO_MIRROR", mirror)

    assert expected == mirrored("https://host.org/a/b?c=d")


def test_a_mirror_that_is_no_address_is_refused(monkeypatch):
    """CXRZOO_MIRROR without http:// or https:// is an error, not ignored."""
    monkeypatch.setenv("CXRZOO_MIRROR", "mirror.example")

    with pytest.raises(DownloadError, match="CXRZOO_MIRROR"):
        mirrored("https://host.org/a")


def test_an_address_without_tls_is_refused_outside_a_mirror(tmp_path):
    """Only whoever sets a mirror may choose plain http."""
    with pytest.raises(DownloadError, match="https://"):
        download("http://127.0.0.1:1/x", tmp_path / "x", sha256=None, size=None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("CXRZOO_OFFLINE", "1"), ("CXRZOO_OFFLINE", "true"), ("HF_HUB_OFFLINE", "YES"), ("HF_HUB_OFFLINE", "on")],
)
def test_offline_nothing_is_asked(server, tmp_path, monkeypatch, name, value):
    """The error names the variable that forbids the network, and no request is made."""
    monkeypatch.setenv(name, value)

    with pytest.raises(OfflineError, match=f"{name}={value}"):
        fetch(tmp_path)

    assert [] == server.requests
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("value", ["0", "false", "no", ""])
def test_a_switch_that_says_no_leaves_the_network_on(server, tmp_path, monkeypatch, value):
    """CXRZOO_OFFLINE=0 is not offline."""
    monkeypatch.setenv("CXRZOO_OFFLINE", value)

    assert BODY == fetch(tmp_path).read_bytes()


def test_a_server_that_is_not_there_gives_an_error_with_advice(tmp_path, monkeypatch):
    """A refused connection is told as such, with what to do about it."""
    with closed_port() as port:
        monkeypatch.setenv("CXRZOO_MIRROR", f"http://127.0.0.1:{port}")
        with pytest.raises(DownloadError, match=r"(?s)refused.*HTTPS_PROXY"):
            fetch(tmp_path)


def test_a_plain_proxy_is_used_with_its_password(server, tmp_path, monkeypatch):
    """HTTP_PROXY carries the request for a plain mirror; its password goes to the proxy and nowhere else."""
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("://", "://me:canary@"))
    monkeypatch.setenv("CXRZOO_MIRROR", "http://mirror.invalid")

    assert BODY == fetch(tmp_path).read_bytes()
    assert "Basic bWU6Y2FuYXJ5" == server.requests[0].headers["proxy-authorization"]
    assert "mirror.invalid" == server.requests[0].headers["host"]


def test_a_proxy_is_not_used_for_hosts_it_is_not_for(server, tmp_path, monkeypatch):
    """NO_PROXY is obeyed."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    assert BODY == fetch(tmp_path).read_bytes()


def test_the_password_of_a_mirror_is_sent_and_not_told(server, tmp_path, monkeypatch):
    """User and password of CXRZOO_MIRROR go into a header, and into no error."""
    monkeypatch.setenv("CXRZOO_MIRROR", server.url.replace("://", "://me:canary@"))
    assert BODY == fetch(tmp_path).read_bytes()
    assert "Basic bWU6Y2FuYXJ5" == server.requests[0].headers["authorization"]
    server.always[PATH] = Fault("status", 403)

    with pytest.raises(DownloadError) as caught:
        fetch(tmp_path)

    assert "canary" not in str(caught.value)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for 127.0.0.1, with its key, that nobody trusts."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext"
    try:
        subprocess.run(
            [*command.split(), "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("needs the command openssl")
    path.write_bytes(path.read_bytes() + Path(f"{path}.crt").read_bytes())
    return path


@pytest.fixture
def tls_server(certificate, monkeypatch):
    with CheckpointServer({PATH: BODY}, certificate=certificate) as running:
        monkeypatch.setenv("CXRZOO_MIRROR", running.url)
        yield running


def test_tls_works_with_an_authority_of_ones_own(tls_server, certificate, tmp_path, monkeypatch):
    """SSL_CERT_FILE is obeyed, and a broken connection goes on over TLS too."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_server.fail(PATH, Fault("truncate", 200_000))

    assert BODY == fetch(tmp_path).read_bytes()
    assert "bytes=200000-" == tls_server.asked(PATH)[1].range


def test_an_unknown_certificate_is_refused_at_once(tls_server, tmp_path):
    """Nothing is asked of a server that can't prove who it is, and the error says what to set."""
    with pytest.raises(DownloadError, match="SSL_CERT_FILE"):
        fetch(tmp_path, limits=Limits(backoff=100))

    assert [] == tls_server.requests


def test_tls_is_never_left_by_a_redirect(tls_server, server, certificate, tmp_path, monkeypatch):
    """A redirect from https to http ends in an error, and the other server is never asked."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    monkeypatch.setenv("CXRZOO_MIRROR", tls_server.url)
    tls_server.fail(PATH, Fault("redirect", text=server.url + PATH))

    with pytest.raises(DownloadError, match="redirects to http:"):
        fetch(tmp_path)

    assert [] == server.requests


@pytest.mark.parametrize("fault", [Fault("drip", 500), Fault("drip headers"), Fault("stall", 1000)])
def test_a_slow_server_is_cut_off_over_tls_too(tls_server, certificate, tmp_path, monkeypatch, fault):
    """The watch over speed works through the encryption."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    tls_server.fail(PATH, fault)

    assert BODY == fetch(tmp_path).read_bytes()
    assert 2 == len(tls_server.asked(PATH))


def test_a_proxy_tunnels_tls(tls_server, certificate, tmp_path, monkeypatch):
    """HTTPS_PROXY is asked to CONNECT; the certificate is still that of the server behind it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    port = int(tls_server.url.rpartition(":")[2])
    with TunnelProxy(port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:canary@"))

        assert BODY == fetch(tmp_path).read_bytes()
        assert "CONNECT" == proxy.requests[0].method
        assert "Basic bWU6Y2FuYXJ5" == proxy.requests[0].headers["proxy-authorization"]
        assert "proxy-authorization" not in tls_server.requests[0].headers


# --------------------------------------------------------------------------------------------------------------
# Plain HTTPS: the disk


ERRNOS = ["EDQUOT", "EACCES", "EIO"]


class FailingCalls:
    """A function of `os` that fails at its nth call and works otherwise."""

    def __init__(self, function, nth: int, number: int) -> None:
        self._function, self._nth, self._number, self.calls = function, nth, number, 0

    def __call__(self, *arguments, **keywords):
        self.calls += 1
        if self.calls == self._nth:
            raise OSError(self._number, os.strerror(self._number))
        return self._function(*arguments, **keywords)


@pytest.mark.parametrize("code", ERRNOS)
@pytest.mark.parametrize("function", ["open", "write", "fsync", "mkdir", "replace", "ftruncate"])
def test_a_failing_disk_gives_a_disk_error_and_no_wrong_file(server, tmp_path, monkeypatch, function, code):
    """Whichever call fails: a DiskError or the right file, no temporary left, and the next run succeeds."""
    number = getattr(errno, code)
    failures = 0
    for nth in range(1, 6):
        folder = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            failing = FailingCalls(getattr(os, function), nth, number)
            patch.setattr(os, function, failing)
            try:
                fetch(folder)
            except DiskError as error:
                failures += 1
                assert error.errno == number
                assert "CXRZOO_HOME" in str(error)
        left = {path.name for path in folder.glob("downloads/*")}
        assert left <= {"model", "model.part"}
        assert BODY == fetch(folder).read_bytes()

    assert failures > 0


def test_a_full_disk_is_told_by_the_kernel_too(server, tmp_path):
    """With no room for the file (a limit of the kernel, not a fake), there is a DiskError and no file."""
    code = """
import resource, sys
from pathlib import Path
from cxrzoo.errors import DiskError
from cxrzoo.sources import download
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    download(sys.argv[1], Path(sys.argv[2]), sha256=None, size=None)
except DiskError as error:
    print(error)
"""
    destination = tmp_path / "downloads" / "model"

    found = run_child(code, URL, destination)

    assert "Free some space" in found.stdout
    assert not destination.exists()
    assert BODY == fetch(tmp_path).read_bytes()


# --------------------------------------------------------------------------------------------------------------
# The Hub, through its own client


REPO, COMMIT = "radiology/tiny", HubServer.COMMIT
HUB_CHILD = """
import sys, traceback
from pathlib import Path
from cxrzoo.errors import CxrZooError
from cxrzoo.sources import evict, fetch_from_hub
repo, file, revision, *rest = sys.argv[1:]
try:
    path = fetch_from_hub(repo, file, revision=revision, deadline=float(rest[0]) if rest else 30)
except CxrZooError as error:
    print(type(error).__name__, error)
else:
    print(path)
"""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    repos = {REPO: {"model.safetensors": BODY, "config.json": b"{}"}, "radiology/gated": {"config.json": b"{}"}}
    with HubServer(repos, gated=("radiology/gated",)) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
        monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        yield running


hub_child = functools.partial(run_child, HUB_CHILD)


def test_the_hub_gives_a_file_once_and_then_the_cache_does(hub):
    """The real client downloads from HF_ENDPOINT, and asks nothing when it has the commit already."""
    first = hub_child(REPO, "model.safetensors", COMMIT).stdout.strip()
    asked = len(hub.requests)
    second = hub_child(REPO, "model.safetensors", COMMIT, HF_HUB_OFFLINE="1").stdout.strip()

    assert BODY == Path(first).read_bytes()
    assert first == second
    assert asked == len(hub.requests)


@pytest.mark.parametrize(
    ("repo", "file", "revision", "kind", "text"),
    [
        (REPO, "missing.bin", COMMIT, "DownloadError", "no such file"),
        ("radiology/none", "config.json", COMMIT, "DownloadError", "no such repository"),
        ("radiology/gated", "config.json", COMMIT, "DownloadError", "gated"),
        (REPO, "config.json", "f" * 40, "DownloadError", "no such revision"),
        ("no/valid/name", "config.json", COMMIT, "SourceError", "refuses this name"),
        (REPO, "../../evil", COMMIT, "", ""),
    ],
    ids=["file", "repository", "gated", "revision", "name", "traversal"],
)
def test_what_the_hub_refuses_is_told_in_our_words(hub, tmp_path, repo, file, revision, kind, text):
    """Each refusal is one of our errors and says what to do."""
    found = hub_child(repo, file, revision).stdout

    assert "Error" in found.split()[0]
    assert found.startswith(kind)
    assert text in found
    assert [] == [path for path in tmp_path.rglob("evil*")]


def test_offline_the_hub_is_not_asked(hub):
    """CXRZOO_OFFLINE alone, which the Hub's client does not know, keeps it off the network."""
    found = hub_child(REPO, "model.safetensors", COMMIT, CXRZOO_OFFLINE="1").stdout

    assert found.startswith("OfflineError")
    assert "CXRZOO_OFFLINE=1" in found
    assert [] == hub.requests


def test_a_hub_that_is_not_there_gives_an_error_in_time(hub):
    """No connection is a DownloadError with advice, even if the client would try on and on."""
    with closed_port() as port:
        found = hub_child(REPO, "config.json", COMMIT, 4, HF_ENDPOINT=f"http://127.0.0.1:{port}").stdout

    assert found.startswith("DownloadError")
    assert "HF_ENDPOINT" in found


def test_a_hub_that_keeps_us_waiting_is_given_up_at_the_deadline(hub):
    """The deadline holds for the Hub's client, which has none of its own."""
    path = f"/{REPO}/resolve/{COMMIT}/config.json"
    hub.always[path] = Fault("status", 429)
    began = time.monotonic()

    found = hub_child(REPO, "config.json", COMMIT, 2).stdout

    assert found.startswith("DownloadError")
    assert time.monotonic() - began < 10


def test_a_damaged_file_of_the_hub_can_be_evicted_and_fetched_again(hub):
    """The client takes a damaged cache for good; once evicted, the right bytes come."""
    path = Path(hub_child(REPO, "model.safetensors", COMMIT).stdout.strip())
    path.resolve().write_bytes(BODY[:-1] + b"?")
    assert BODY != Path(hub_child(REPO, "model.safetensors", COMMIT).stdout.strip()).read_bytes()

    evict(path)
    again = Path(hub_child(REPO, "model.safetensors", COMMIT).stdout.strip())

    assert BODY == again.read_bytes()


def test_evicting_removes_the_name_every_link_and_the_bytes(tmp_path):
    """Nothing of a chain of links stays behind, and a second time is no error."""
    (tmp_path / "bytes").write_bytes(b"x")
    (tmp_path / "blob").symlink_to("bytes")
    (tmp_path / "name").symlink_to(tmp_path / "blob")

    evict(tmp_path / "name")
    evict(tmp_path / "name")

    assert [] == list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------------------
# Installed distributions


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """A distribution that must not be imported."""
    (tmp_path / "tiny_weights").mkdir()
    (tmp_path / "tiny_weights" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "tiny_weights" / "model.pth").write_bytes(b"weights")
    information = tmp_path / "tiny_weights-1.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_file_of_a_distribution_is_found_without_importing_it(distribution):
    """The path comes from the metadata alone."""
    found = find_in_distribution("tiny-weights", "tiny_weights/model.pth")

    assert b"weights" == found.read_bytes()
    assert "tiny_weights" not in sys.modules


@pytest.mark.parametrize(
    ("name", "file", "text"),
    [
        ("no-such-distribution-here", "x", "pip install no-such-distribution-here"),
        ("tiny-weights", "tiny_weights/other.pth", "tiny-weights 1.5 has no file"),
        ("tiny-weights", "../secret", "expected a path inside"),
        ("tiny-weights", "/etc/passwd", "expected a path inside"),
        ("", "x", "not installed"),
    ],
)
def test_a_missing_distribution_or_file_says_what_to_install(distribution, name, file, text):
    """The error names the distribution and the command."""
    with pytest.raises(SourceError, match=text):
        find_in_distribution(name, file)
