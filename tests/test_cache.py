"""The local cache: atomic files and folders, locks, pins, and the memory of what was verified."""

import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from servers import CheckpointServer

import cxrzoo
from cxrzoo.errors import DigestError, DiskError, DownloadError, RecordError
from cxrzoo.sources import Cache, sha256_of, staged_folder, write_atomically
from cxrzoo.sources.owners import TEMPORARY, is_abandoned, owner, remove_orphans

BODY = random.Random(0).randbytes(65_536)
SHA256 = hashlib.sha256(BODY).hexdigest()
#: Longer than the tick of a file system's clock, within which nothing is recorded.
TICK = 0.07
#: Child processes find cxrzoo where this one did.
IMPORTS = {"PYTHONPATH": str(Path(cxrzoo.__file__).parents[1])}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No cache, proxy or mirror of whoever runs the tests."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith(("CXRZOO_", "XDG_CACHE", "HF_")):
            monkeypatch.delenv(name)


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def read_only():
    """Give a folder and a function that makes it read-only for this process, which then is no longer root."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    user = os.geteuid()

    def protect() -> None:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        if user == 0:
            try:
                os.seteuid(65534)
            except OSError:
                pytest.skip("root can't become another user here")

    yield root, protect
    os.seteuid(user)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o755)
    shutil.rmtree(root)


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --------------------------------------------------------------------------------------------------------------
# Where it is


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CXRZOO_HOME": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/cxrzoo"),
        ({"CXRZOO_HOME": "", "XDG_CACHE_HOME": "", "HOME": "/c"}, "/c/.cache/cxrzoo"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/c"}, "/c/.cache/cxrzoo"),
        ({"CXRZOO_HOME": "~/d", "HOME": "/c"}, "/c/d"),
    ],
)
def test_the_environment_says_where_the_cache_is(monkeypatch, environment, expected):
    """CXRZOO_HOME wins over XDG_CACHE_HOME, and that over the home folder."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert Path(expected) == Cache().root


def test_without_a_home_cxrzoo_home_is_enough(monkeypatch):
    """A user without a home folder is told to set CXRZOO_HOME, and served once it is set."""
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(DiskError, match="CXRZOO_HOME"):
        Cache()
    monkeypatch.setenv("CXRZOO_HOME", "/somewhere")

    assert Path("/somewhere") == Cache().root


@pytest.mark.parametrize(
    "key", ["", ".", "..", "../evil", "a/b", "A", "a b", "a\n", "a--b", "-a", "a.", "ä", "a\0", "con:", "a" * 151]
)
def test_a_key_can_never_leave_the_cache(cache, key):
    """Only lower-case words joined by '-' or '.' name anything in the cache."""
    for use in (cache.model_folder, cache.download_path, cache.read_pin, lambda key: cache.write_pin(key, {})):
        with pytest.raises(RecordError, match="cache key"):
            use(key)
    with pytest.raises(RecordError, match="cache key"), cache.lock(key):
        raise AssertionError("The key was accepted.")

    assert not cache.root.exists()


def test_a_cache_that_is_a_file_is_told_as_such(tmp_path):
    """A file where the cache should be gives a DiskError, when reading and when writing."""
    (tmp_path / "file").write_text("no folder")
    cache = Cache(tmp_path / "file")

    with pytest.raises(DiskError, match="is no folder"):
        cache.write_pin("a", {})
    with pytest.raises(DiskError):
        cache.read_pin("a")
    with pytest.raises(DiskError), staged_folder(cache.model_folder("a")):
        raise AssertionError("A folder was made below a file.")


# --------------------------------------------------------------------------------------------------------------
# Files and folders


def test_a_file_is_replaced_in_one_step(tmp_path):
    """A reader at any moment finds the old bytes or the new ones, never fewer."""
    path = tmp_path / "file"
    old, new = b"o" * 300_000, b"n" * 300_000
    write_atomically(path, old)
    found = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            found.add(path.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        write_atomically(path, new)
        write_atomically(path, old)
    done.set()
    reader.join()

    assert found <= {old, new}
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_modes_are_those_the_umask_asks_for(tmp_path, mask, mode):
    """Others may read a shared cache, unless the user's umask says otherwise."""
    before = os.umask(mask)
    try:
        write_atomically(tmp_path / "file", b"x")
        with staged_folder(tmp_path / "folder") as folder:
            (folder / "weights").touch(mode=0o600)
    finally:
        os.umask(before)

    assert mode == (tmp_path / "file").stat().st_mode & 0o777
    assert mode == (tmp_path / "folder" / "weights").stat().st_mode & 0o777


def test_a_folder_appears_only_when_it_is_complete(tmp_path):
    """Until the block ends there is nothing under the name."""
    final = tmp_path / "models" / "a"

    with staged_folder(final) as folder:
        (folder / "config.json").write_bytes(b"{}")
        assert not final.exists()

    assert {"a/config.json": b"{}"} == files_in(final.parent)
    assert [final] == list(final.parent.iterdir())


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOENT, "no such file")])
def test_a_folder_that_fails_leaves_nothing(tmp_path, error):
    """An error in the block comes out as it is, and the folder is gone."""
    with pytest.raises(type(error)) as caught, staged_folder(tmp_path / "a") as folder:
        (folder / "half").write_bytes(b"x")
        raise error

    assert error is caught.value
    assert [] == list(tmp_path.iterdir())


def test_a_full_disk_in_the_block_is_told_as_such(tmp_path):
    """What a writer meets on a full disk becomes a DiskError that says what to do."""
    with pytest.raises(DiskError, match="Free some space"), staged_folder(tmp_path / "a") as folder:
        (folder / "half").write_bytes(b"x")
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    assert [] == list(tmp_path.iterdir())


def test_the_first_of_two_folders_stays(tmp_path):
    """Whoever comes second keeps what is there and leaves nothing of its own."""
    with staged_folder(tmp_path / "a") as second:
        (second / "file").write_bytes(b"second")
        with staged_folder(tmp_path / "a") as first:
            (first / "file").write_bytes(b"first")

    assert {"a/file": b"first"} == files_in(tmp_path)
    assert [tmp_path / "a"] == list(tmp_path.iterdir())


class FailingCalls:
    """A function of `os` that fails at its nth call and works otherwise."""

    def __init__(self, function, nth: int, number: int) -> None:
        self._function, self._nth, self._number, self.calls = function, nth, number, 0

    def __call__(self, *arguments, **keywords):
        self.calls += 1
        if self.calls == self._nth:
            raise OSError(self._number, os.strerror(self._number))
        return self._function(*arguments, **keywords)


@pytest.mark.parametrize("code", ["ENOSPC", "EROFS", "EMFILE"])
@pytest.mark.parametrize("function", ["open", "write", "fsync", "mkdir", "rename", "replace", "chmod"])
def test_a_failing_disk_leaves_no_half_and_no_temporary(tmp_path, monkeypatch, function, code):
    """Whichever call fails: a DiskError, all or nothing under each name, and the next attempt succeeds."""

    def work(folder: Path) -> None:
        write_atomically(folder / "file", BODY)
        Cache(folder).write_pin("a", {"sha256": SHA256})
        with staged_folder(folder / "models" / "a") as staged:
            (staged / "weights").write_bytes(BODY)

    expected = None
    failures = 0
    for nth in range(1, 8):
        folder = tmp_path / str(nth)
        with monkeypatch.context() as patch:
            patch.setattr(os, function, FailingCalls(getattr(os, function), nth, getattr(errno, code)))
            try:
                work(folder)
            except DiskError as error:
                failures += 1
                assert getattr(errno, code) == error.errno
                assert str(folder) in str(error)
        left = files_in(folder) if folder.exists() else {}
        assert not [name for name in left if TEMPORARY in name]
        work(folder)
        expected = expected or files_in(folder)
        assert expected == files_in(folder)
        assert left.items() <= expected.items()

    assert failures > 0


def test_short_writes_are_continued(tmp_path, monkeypatch):
    """A disk that takes a few bytes at a time gets them all."""
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:1000]))

    write_atomically(tmp_path / "file", BODY)

    assert BODY == (tmp_path / "file").read_bytes()


def test_only_what_the_dead_left_is_removed(tmp_path):
    """Temporaries of this process, of other hosts and of the last minute stay; those of the dead go."""
    child = subprocess.run(
        [sys.executable, "-c", "from cxrzoo.sources.owners import owner; print(owner())"],
        env=os.environ | IMPORTS, capture_output=True, text=True, check=True,
    )  # fmt: skip
    dead, mine = child.stdout.strip(), owner()
    for name in (f"model.part-{dead}", f"model.part-{mine}", f"other.part-{dead}"):
        (tmp_path / "downloads" / name).mkdir(parents=True)
        (tmp_path / "downloads" / name / "version.json").touch()
    write_atomically(tmp_path / "downloads" / f"other.part-{dead}" / "body", b"resumable")
    with Cache(tmp_path).lock("model"):
        found = {path.name for path in (tmp_path / "downloads").iterdir()}
        assert {f"model.part-{mine}", f"other.part-{dead}"} == found
    old = time.time() - 120
    for name in (dead, mine, "00000000-1-ab"):
        (tmp_path / f"{TEMPORARY}{name}").mkdir()
        (tmp_path / f"{TEMPORARY}{name}" / "half").touch()
        os.utime(tmp_path / f"{TEMPORARY}{name}", (old, old))
    (tmp_path / f"{TEMPORARY}{dead}-fresh").touch()
    (tmp_path / "model").touch()

    remove_orphans(tmp_path)

    assert is_abandoned(dead)
    assert not is_abandoned(mine)
    kept = {
        "downloads",
        "locks",
        f"{TEMPORARY}{mine}",
        f"{TEMPORARY}00000000-1-ab",
        f"{TEMPORARY}{dead}-fresh",
        "model",
    }
    assert kept == {path.name for path in tmp_path.iterdir()}


def test_a_week_is_enough_for_any_temporary(tmp_path):
    """Even what another host left is removed when nobody has touched it for a week."""
    path = tmp_path / f"{TEMPORARY}00000000-1-ab"
    path.touch()
    os.utime(path, (time.time() - 8 * 24 * 3600,) * 2)

    remove_orphans(tmp_path)

    assert [] == list(tmp_path.iterdir())


def test_a_folder_survives_kills(tmp_path):
    """After kill -9 while folders are made, each is complete or absent, and no temporary outlives the next lock."""
    code = """
import sys
from pathlib import Path
from cxrzoo.sources import staged_folder
for number in range(100_000):
    with staged_folder(Path(sys.argv[1]) / f"m{number}") as folder:
        (folder / "a").write_bytes(b"a" * 50_000)
        (folder / "b").write_bytes(b"b" * 50_000)
    print(flush=True)
"""
    cache = Cache(tmp_path)
    moments = random.Random(0)
    for run in range(5):
        root = tmp_path / "models" / f"run{run}"
        child = subprocess.Popen([sys.executable, "-c", code, root], env=os.environ | IMPORTS, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(moments.uniform(0, 0.02))
        child.kill()
        child.communicate()
        complete = [path for path in root.iterdir() if not path.name.startswith(TEMPORARY)]
        assert complete
        assert {(50_000, 50_000)} == {tuple(file.stat().st_size for file in path.iterdir()) for path in complete}
        remove_orphans(root, age=-1)
        assert complete == [path for path in root.iterdir()]
    with cache.lock("any"):
        assert 5 == len(list(cache.model_folder("a").parent.iterdir()))


# --------------------------------------------------------------------------------------------------------------
# Locks


def test_sixteen_processes_download_once(tmp_path, monkeypatch):
    """Whoever waits for the lock finds the file and asks for nothing."""
    code = """
import sys
from pathlib import Path
from cxrzoo.sources import Cache, download, sha256_of
cache = Cache()
path = cache.download_path("model")
with cache.lock("model"):
    if not path.exists():
        download("https://host.org/model", path, sha256=None, size=None)
print(sha256_of(path))
"""
    with CheckpointServer({"/host.org/model": BODY}) as server:
        environment = {"CXRZOO_MIRROR": server.url, "CXRZOO_HOME": str(tmp_path / "cache")}
        children = [
            subprocess.Popen([sys.executable, "-c", code], env=os.environ | IMPORTS | environment, stdout=-1)
            for _ in range(16)
        ]
        found = [child.communicate(timeout=60)[0].decode().strip() for child in children]

    assert [SHA256] * 16 == found
    assert 1 == len(server.requests)
    assert len(BODY) == server.sent["/host.org/model"]


def test_a_lock_that_is_held_too_long_is_told(cache):
    """The error names the lock; afterwards it can be had."""
    with cache.lock("a"):
        with pytest.raises(DiskError, match=r"a\.lock: another process"), cache.lock("a", timeout=0.05):
            raise AssertionError("The lock was given twice.")
        with cache.lock("b", timeout=0.05):
            pass
    with cache.lock("a", timeout=0.05):
        pass


def test_an_error_under_a_lock_comes_out_and_frees_it(cache):
    """The lock is not held beyond its block, and no error is taken for one of the lock's own."""
    with pytest.raises(DownloadError), cache.lock("a"):
        raise DownloadError("from the block")
    with cache.lock("a", timeout=0.05):
        pass


@pytest.mark.parametrize("code", ["EROFS", "EACCES", "ENOLCK", "ENOSPC", "ENOTSUP"])
def test_where_nothing_can_be_locked_work_goes_on(cache, monkeypatch, code):
    """A file system without locks costs work done twice, never a failure."""
    import fcntl

    number = getattr(errno, code)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "open") if code != "ENOLCK" else (fcntl, "flock")), refuse)

    with pytest.raises(DownloadError), cache.lock("a", timeout=1):
        raise DownloadError("from the block")


# --------------------------------------------------------------------------------------------------------------
# Pins


def test_a_pin_is_given_back(cache):
    """What was pinned is read; before, there is nothing."""
    assert cache.read_pin("a") is None

    cache.write_pin("a", {"sha256": SHA256, "size": 3})
    cache.write_pin("a", {"size": 3, "sha256": SHA256})

    assert {"sha256": SHA256, "size": 3} == cache.read_pin("a")


def test_a_pin_is_never_changed(cache):
    """Another value is refused, with both values and the file to delete; the first one stays."""
    cache.write_pin("a", {"sha256": "first"})

    with pytest.raises(DigestError) as caught:
        cache.write_pin("a", {"sha256": "second"})

    for part in ("first", "second", str(cache.root / "pins" / "a.json")):
        assert part in str(caught.value)
    assert {"sha256": "first"} == cache.read_pin("a")


def test_of_many_pins_at_once_one_wins_and_the_others_hear_of_it(cache):
    """Without any lock, exactly one of eight values is pinned and seven are refused."""
    barrier = threading.Barrier(8)
    refused = []

    def pin(number: int) -> None:
        barrier.wait()
        try:
            cache.write_pin("a", {"number": number})
        except DigestError:
            refused.append(number)

    threads = [threading.Thread(target=pin, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 7 == len(refused)
    assert {"number": (set(range(8)) - set(refused)).pop()} == cache.read_pin("a")


def test_pins_work_without_hard_links(cache, monkeypatch):
    """On a file system without hard links a pin is written, and not changed either."""
    monkeypatch.setattr(os, "link", FailingCalls(os.link, 1, errno.EPERM))
    cache.write_pin("a", {"n": 1})
    monkeypatch.setattr(os, "link", FailingCalls(os.link, 1, errno.EPERM))

    with pytest.raises(DigestError):
        cache.write_pin("a", {"n": 2})

    assert {"n": 1} == cache.read_pin("a")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_pin_is_told_and_not_ignored(cache, data):
    """A pin that can't be read stops the work, for without it any change would pass."""
    write_atomically(cache.root / "pins" / "a.json", data)

    with pytest.raises(RecordError, match=r"a\.json"):
        cache.read_pin("a")


# --------------------------------------------------------------------------------------------------------------
# Verified files


def corrupt(path: Path, number: int, *, hide: bool) -> None:
    """Damage a file in one of four ways; hidden damage leaves size-preserving changes with the old mtime."""
    status = path.stat()
    chance = random.Random(number)
    with path.open("r+b") as file:
        kind = number % 4
        if kind == 0:
            place = chance.randrange(len(BODY))
            file.seek(place)
            file.write(bytes([BODY[place] ^ (1 << chance.randrange(8))]))
        elif kind == 1:
            file.truncate(chance.randrange(len(BODY)))
        elif kind == 2:
            file.seek(0, 2)
            file.write(b"\0" * chance.randrange(1, 100))
        else:
            file.seek(chance.randrange(len(BODY) - 512))
            file.write(b"\0" * 512)
    if hide:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def read_verified(cache, path, sha256):
    """Read a file as the loader reads weights: hashed, unless this very state of it was verified before."""
    verification = cache.verification(path, sha256)
    with path.open("rb") as file:
        known = verification.covers(os.fstat(file.fileno()))
        data = file.read()
    if not known and hashlib.sha256(data).hexdigest() != sha256:
        raise DigestError(f"expected {sha256}")
    verification.record()
    return data


@pytest.mark.parametrize("hide", [False, True], ids=["plain", "with the old mtime"])
def test_two_hundred_of_two_hundred_corruptions_are_found(cache, tmp_path, hide):
    """A file that was verified and then damaged is refused, though a record says it was good."""
    paths = [tmp_path / str(number) for number in range(200)]
    for path in paths:
        path.write_bytes(BODY)
    time.sleep(TICK)
    assert all(BODY == read_verified(cache, path, SHA256) for path in paths)
    assert 200 == len(list((cache.root / "verified").iterdir()))

    detected = 0
    for number, path in enumerate(paths):
        corrupt(path, number, hide=hide)
        with pytest.raises(DigestError, match=SHA256):
            read_verified(cache, path, SHA256)
        detected += 1

    assert 200 == detected


def test_a_change_within_a_tick_of_the_clock_is_found(cache, tmp_path):
    """A file verified in the very moment it was written is hashed again: a later change may not show in its times."""
    path = tmp_path / "file"
    for _ in range(100):
        path.write_bytes(BODY)
        read_verified(cache, path, SHA256)
        with path.open("r+b") as file:
            file.write(b"\0\0\0\0")
        with pytest.raises(DigestError):
            read_verified(cache, path, SHA256)

    assert not (cache.root / "verified").exists()


def test_a_verified_file_is_not_hashed_again(cache, tmp_path, monkeypatch):
    """The record saves the hash, for this file in this state only."""
    path = tmp_path / "file"
    path.write_bytes(BODY)
    time.sleep(TICK)
    read_verified(cache, path, SHA256)
    hashed = []
    sha256 = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda data=b"": hashed.append(len(data)) or sha256(data))

    assert BODY == read_verified(cache, path, SHA256)
    assert len(BODY) not in hashed
    with pytest.raises(DigestError):
        read_verified(cache, path, "0" * 64)
    assert len(BODY) in hashed


@pytest.mark.parametrize("swap", ["replace", "copy", "link"])
def test_a_record_holds_for_one_file_only(cache, tmp_path, swap):
    """Another file under the same name, with the same size and mtime, is hashed."""
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(BODY)
    other.write_bytes(bytes(reversed(BODY)))
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    os.utime(other, ns=times)
    time.sleep(TICK)
    read_verified(cache, path, SHA256)
    if swap == "replace":
        other.replace(path)
    elif swap == "copy":
        shutil.copy2(other, path)
    else:
        path.unlink()
        path.symlink_to(other)

    with pytest.raises(DigestError):
        read_verified(cache, path, SHA256)


@pytest.mark.parametrize("data", [b"", b"{}", b"[", b"null", b"\xff\xfe"])
def test_a_damaged_record_only_costs_a_hash(cache, tmp_path, data):
    """A record that can't be read is no record."""
    path = tmp_path / "file"
    path.write_bytes(BODY)
    time.sleep(TICK)
    read_verified(cache, path, SHA256)
    (record,) = (cache.root / "verified").iterdir()
    record.write_bytes(data)

    assert BODY == read_verified(cache, path, SHA256)
    path.write_bytes(b"other")
    with pytest.raises(DigestError):
        read_verified(cache, path, SHA256)


def test_quarantine_moves_files_and_folders_out_of_the_way(cache):
    """The name is free afterwards, and the bytes are kept to be looked at; what is gone already is no error."""
    folder = cache.model_folder("a")
    for data in (b"1", b"2"):
        write_atomically(folder / "weights", data)
        moved = cache.quarantine(folder)
        assert data == (moved / "weights").read_bytes()
        assert not folder.exists()

    cache.quarantine(folder)
    assert 2 == len(list((cache.root / "quarantine").iterdir()))


# --------------------------------------------------------------------------------------------------------------
# Read-only media


def test_a_read_only_cache_serves_what_it_has(read_only):
    """Models, pins and records are read, locks are passed over, and nothing is written."""
    root, protect = read_only
    cache = Cache(root)
    with staged_folder(cache.model_folder("a")) as folder:
        (folder / "weights").write_bytes(BODY)
    cache.write_pin("a", {"sha256": SHA256})
    time.sleep(TICK)
    protect()
    before = sorted(root.rglob("*"))

    with cache.lock("a", timeout=1):
        assert BODY == read_verified(cache, cache.model_folder("a") / "weights", SHA256)
    assert {"sha256": SHA256} == cache.read_pin("a")
    assert BODY == read_verified(cache, cache.model_folder("a") / "weights", SHA256)
    assert before == sorted(root.rglob("*"))


def test_a_read_only_cache_refuses_what_must_be_written(read_only):
    """Whatever would have to be written is a DiskError that says what to set."""
    root, protect = read_only
    cache = Cache(root)
    (root / "model").write_bytes(BODY)
    protect()

    for write in (
        lambda: cache.write_pin("a", {}),
        lambda: cache.quarantine(root / "model"),
        lambda: staged_folder(cache.model_folder("a")).__enter__(),
        lambda: write_atomically(root / "file", b""),
    ):
        with pytest.raises(DiskError, match="CXRZOO_HOME"):
            write()

    assert SHA256 == sha256_of(root / "model")
