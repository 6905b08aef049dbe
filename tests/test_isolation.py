"""Files are read in processes of their own: with the same result, and whatever they do, only these processes suffer."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import misbehaving
import numpy as np
import psutil
import pytest
from phantoms import dicom_file, make_dataset, radiograph, saved
from pydicom.uid import RLELossless

from cxrzoo.cli import main
from cxrzoo.embedding import embed_images
from cxrzoo.errors import CxrZooError, ImageError, ImageWarning
from cxrzoo.imaging import Reading, isolation, read
from cxrzoo.imaging.isolation import IsolatedReader, processes
from cxrzoo.manifest import Preprocessing

PNG = saved(radiograph(40, 30))
TWELVE_BITS = radiograph(40, 30, bits=12)
LATERAL = make_dataset(TWELVE_BITS, PhotometricInterpretation="MONOCHROME1", ViewPosition="LL")
FILES = {
    "png-8": PNG,
    "png-16": saved(radiograph(40, 30, bits=16)),
    "jpeg": saved(radiograph(40, 30), "JPEG"),
    "dicom": dicom_file(make_dataset(TWELVE_BITS)),
    "dicom-rle": dicom_file(make_dataset(TWELVE_BITS), RLELossless),
    "dicom-with-notices": dicom_file(LATERAL),
}
#: Processor time that suffices for the small files here.
SECONDS = 1.0


@pytest.fixture(scope="module")
def reader() -> Iterator[IsolatedReader]:
    """A reader as users have it."""
    with IsolatedReader() as reader:
        yield reader


@pytest.fixture(scope="module")
def obeying() -> Iterator[IsolatedReader]:
    """A reader that does what a file asks for, in two processes."""
    with IsolatedReader(2, function=misbehaving.obey, seconds=SECONDS) as reader:
        yield reader


def caught(call: Callable[[], Any]) -> tuple[str, str, str]:
    """Return text, code and stage of the error that a call raises."""
    with pytest.raises(ImageError) as error:
        call()
    return str(error.value), error.value.code, error.value.stage


def facts(reading: Reading | ImageError) -> dict[str, Any]:
    """Return what `misbehaving.tell` told."""
    assert isinstance(reading, Reading), reading
    told: dict[str, Any] = json.loads(reading.report.steps[0])
    return told


def children() -> set[int]:
    """Return the processes that this one has started, dead ones that nobody asked after among them."""
    return {process.pid for process in psutil.Process().children(recursive=True)}


def open_files() -> int:
    """Return how many files this process holds open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    """Return whether a condition comes true in time."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("as_path", [False, True], ids=["bytes", "path"])
@pytest.mark.parametrize("name", FILES)
def test_a_good_file_reads_alike(reader: IsolatedReader, tmp_path: Path, name: str, as_path: bool) -> None:
    """Pixels, their type, and the whole report are those of a reading in this process."""
    path = tmp_path / name
    path.write_bytes(FILES[name])
    source = path if as_path else FILES[name]
    expected, found = read(source), reader.read(source)
    assert expected.report == found.report
    assert expected.pixels.dtype == found.pixels.dtype
    assert np.array_equal(expected.pixels, found.pixels)


def test_notices_travel(reader: IsolatedReader) -> None:
    """What needs a look arrives as data, with its code, and warns nobody on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notices = reader.read(FILES["dicom-with-notices"]).report.notices
    assert notices and all(notice.code for notice in notices)


@pytest.mark.parametrize("source", [b"", b"hello", PNG[:100], FILES["dicom"][:900], "no-such-file", os.sep, "a\0b"])
def test_an_error_reads_alike(reader: IsolatedReader, source: str | bytes) -> None:
    """Text, code and stage of an error are those of a reading in this process."""
    assert caught(lambda: read(source)) == caught(lambda: reader.read(source))


@pytest.mark.parametrize("source", [radiograph(20, 20), np.zeros((2, 2, 2, 2)), {"image": PNG}, {"label": 1}, 7])
def test_other_sources_read_alike(reader: IsolatedReader, source: Any) -> None:
    """Arrays, samples and what is no image at all fare as in a reading without a reader."""
    try:
        expected = read(source)
    except ImageError as error:
        assert (str(error), error.code, error.stage) == caught(lambda: reader.read(source))
    else:
        assert np.array_equal(expected.pixels, reader.read(source).pixels)


def test_options_travel(reader: IsolatedReader) -> None:
    """Options reach the function; one that it does not have is a mistake of the caller, and no file's."""
    assert caught(lambda: read(FILES["dicom"], frame=5)) == caught(lambda: reader.read(FILES["dicom"], frame=5))
    with pytest.raises(TypeError, match="windwo"):
        reader.read(PNG, windwo=1)


def test_a_relative_path_is_this_process_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is meant from where the caller is, not from where the reader was made."""
    (tmp_path / "x.png").write_bytes(PNG)
    with IsolatedReader() as reader:
        monkeypatch.chdir(tmp_path)
        assert (40, 30) == reader.read("x.png").pixels.shape


@pytest.mark.parametrize(
    ("deed", "code"),
    [
        ("abort", "died"),
        ("segfault", "died"),
        ("exit", "died"),
        ("close everything", "died"),
        ("talk nonsense", "died"),
        ("spin", "timeout"),
        ("sleep", "timeout"),
        ("allocate", "memory"),
        ("StopIteration", "damaged"),
        ("PanicException", "damaged"),
        ("SystemExit", "damaged"),
        ("KeyboardInterrupt", "damaged"),
        ("GeneratorExit", "damaged"),
        ("RecursionError", "damaged"),
    ],
)
def test_a_misdeed_is_one_error(obeying: IsolatedReader, deed: str, code: str) -> None:
    """Whatever a file does to its process is one ImageError without its words, and the next file is read."""
    first, second, third = obeying.map([deed.encode(), PNG, PNG])
    assert isinstance(first, ImageError)
    assert (code, "worker") == (first.code, first.stage)
    assert "Doe" not in str(first) and first.__cause__ is first.__context__ is None
    for reading in (second, third):
        assert isinstance(reading, Reading) and np.array_equal(read(PNG).pixels, reading.pixels)


@pytest.mark.parametrize("deed", ["print", "close stdin"])
def test_streams_are_nobody_s(obeying: IsolatedReader, deed: str, capfd: pytest.CaptureFixture[str]) -> None:
    """What a decoder prints is neither seen nor taken for an answer, and it may close what it printed to."""
    assert "nothing" == obeying.read(deed.encode()).report.kind
    assert ("", "") == tuple(capfd.readouterr())


def test_late_death_is_not_the_next_file_s() -> None:
    """A process that dies after its answer costs the next file nothing."""
    with IsolatedReader(function=misbehaving.obey) as reader:
        assert "nothing" == reader.read(b"die later").report.kind
        assert (40, 30) == reader.read(PNG).pixels.shape


def test_the_parent_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that hangs and hears no signal is killed all the same."""
    monkeypatch.setattr(processes, "_GRACE", 0.1)
    with IsolatedReader(function=misbehaving.obey, seconds=0.2) as reader:
        assert "timeout" == caught(lambda: reader.read(b"shut ears"))[1]


def test_a_busy_machine_is_no_hang() -> None:
    """Time that a process does not get, or sleeps for a while, is not held against its file."""
    with IsolatedReader(function=misbehaving.wait, seconds=SECONDS) as reader:
        assert (40, 30) == reader.read(PNG, seconds=1.5 * SECONDS).pixels.shape


def test_what_fills_a_process_goes_with_it() -> None:
    """A large picture arrives whole, and its process is replaced; so is one that ran out of memory."""
    large = saved(np.zeros((9000, 9000), np.uint8))
    with IsolatedReader(function=misbehaving.obey) as reader:
        first = reader._workers[0]._process
        assert not reader.read(large).pixels.any()
        assert first is not None and first.poll() is not None
        assert (40, 30) == reader.read(PNG).pixels.shape


def test_map_is_never_short(obeying: IsolatedReader) -> None:
    """There is one result a source, in order, wherever the misdeeds stand; also for what is read in this process."""
    broken = types.MappingProxyType({"label": 1})
    for sources in ([b"StopIteration"], [], [PNG, b"abort", PNG, broken, b"exit", np.zeros((5, 6), np.uint8), b""] * 3):
        results = list(obeying.map(sources))
        assert len(sources) == len(results)
        assert ["abort", "exit"] * (len(sources) // 7) == [
            source.decode()
            for source, result in zip(sources, results, strict=True)
            if isinstance(result, ImageError) and result.code == "died" and isinstance(source, bytes)
        ]


def test_map_reads_ahead_within_bounds() -> None:
    """No more sources are taken than there are processes and results to be held ready."""
    taken = []

    def sources() -> Iterator[bytes]:
        for number in range(20):
            taken.append(number)
            yield PNG

    with IsolatedReader(2, ahead=3) as reader:
        results = reader.map(sources())
        next(results)
        assert 6 == len(taken)
        results.close()  # type: ignore[attr-defined]
        assert (40, 30) == reader.read(PNG).pixels.shape


def test_a_process_is_limited_and_alone() -> None:
    """A worker has its limits, one thread, no torch, and streams that lead nowhere."""
    with IsolatedReader(function=misbehaving.tell, memory=2**30) as reader:
        told = facts(reader.read(b""))
    assert {"RLIMIT_AS": 2**30, "RLIMIT_CORE": 0, "RLIMIT_FSIZE": 0} == told["limits"]
    assert (False, "1", ["/dev/null"] * 3) == (told["torch"], told["threads"], told["open"])


def test_processes_are_warm_and_retired(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process reads file after file, and is replaced before what decoders leak adds up."""
    monkeypatch.setattr(processes, "_LIFE", 3)
    with IsolatedReader(function=misbehaving.tell) as reader:
        found = [facts(result)["pid"] for result in reader.map([b""] * 7)]
    assert [found[0]] * 3 + [found[3]] * 3 + [found[6]] == found
    assert 3 == len(set(found))


def test_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """After 200 files, deaths among them, there is no process, zombie, open file or temporary file more than before."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = children(), open_files()
    with IsolatedReader(2, function=misbehaving.obey) as reader:
        results = list(reader.map(([b"abort"] + [PNG] * 49) * 4))
        assert 2 == len(children() - before[0])
    assert 196 == sum(isinstance(result, Reading) for result in results)
    assert before == (children(), open_files())
    assert [] == list(tmp_path.iterdir())


def test_many_open_files() -> None:
    """A reader works in a program that has more files open than select() can look at."""
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("this shell does not allow that many")
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(Path(os.devnull).open())
        with IsolatedReader() as reader:
            assert (40, 30) == reader.read(PNG).pixels.shape


PARENT = """
import os, signal, sys, time
import misbehaving
from cxrzoo.imaging.isolation import IsolatedReader
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # some shells ignore it for what they start
    with IsolatedReader(2, function=misbehaving.wait if sys.argv[1] == "wait" else misbehaving.obey) as reader:
        print(*[worker._process.pid for worker in reader._workers], flush=True)
        if sys.argv[1] == "fork" and os.fork() == 0:
            time.sleep(60)
        options = {"seconds": 60} if sys.argv[1] == "wait" else {}
        list(reader.map([sys.argv[2].encode()] * 5, **options))
        print("ready", flush=True)
        time.sleep(60)
"""


@contextlib.contextmanager
def started(environment: dict[str, str], *arguments: str) -> "Iterator[tuple[subprocess.Popen[str], list[int]]]":
    """Start a program with a reader in a process group of its own; yield it, and its workers."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        try:
            yield process, [int(word) for word in process.stdout.readline().split()]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize(("arguments", "idle"), [(("obey", "hello"), True), (("obey", "spin"), False)])
def test_workers_die_with_their_parent(
    child_environment: dict[str, str], tmp_path: Path, arguments: tuple[str, str], idle: bool
) -> None:
    """After a kill -9 of the parent no worker lives on, not even one that hangs, and no file is left."""
    environment = child_environment | {"TMPDIR": str(tmp_path)}
    with started(environment, *arguments) as (process, found):
        assert process.stdout and (not idle or "ready\n" == process.stdout.readline())
        process.kill()
        assert wait_until(lambda: not any(map(psutil.pid_exists, found)), 60)
    assert [] == list(tmp_path.iterdir())


def test_workers_die_though_a_fork_lives(child_environment: dict[str, str]) -> None:
    """A child that the parent forked holds the other end of the socket open; the workers leave all the same."""
    with started(child_environment, "fork", "hello") as (process, found):
        assert process.stdout and "ready\n" == process.stdout.readline()
        process.kill()
        assert wait_until(lambda: not any(map(psutil.pid_exists, found)), 60)


def test_ctrl_c_ends_it(child_environment: dict[str, str]) -> None:
    """Ctrl-C, which a terminal sends to all processes, raises KeyboardInterrupt in the parent and ends the workers."""
    with started(child_environment, "wait", "hello") as (process, found):
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        _, complaint = process.communicate(timeout=60)
        assert -signal.SIGINT == process.returncode
        assert 1 == complaint.count("Traceback") == complaint.count("KeyboardInterrupt\n")
        assert not any(map(psutil.pid_exists, found))


def test_many_threads_and_two_readers(reader: IsolatedReader, obeying: IsolatedReader) -> None:
    """Threads that share readers each get the answer to their own file."""
    expected = {bytes(data): read(data).pixels for data in FILES.values()}
    wrong: list[str] = []

    def work(shared: IsolatedReader) -> None:
        for data in list(expected) * 3:
            if not np.array_equal(expected[data], shared.read(data).pixels):
                wrong.append("pixels of another file")

    threads = [threading.Thread(target=work, args=(shared,)) for shared in (reader, obeying) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == wrong


def test_a_closed_reader_says_so() -> None:
    """Reading with a closed reader is an error of its own, and closing twice is none."""
    with IsolatedReader() as reader:
        reader.close()
    with pytest.raises(CxrZooError, match="closed"):
        reader.read(PNG)
    with pytest.raises(CxrZooError, match="closed"):
        next(iter(reader.map([PNG])))


class InWorkers:
    """A dataset as torch's DataLoader takes it, which reads with a given reader or with one of its own."""

    def __init__(self, reader: IsolatedReader | None) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> str:
        try:
            self.reader = self.reader or IsolatedReader()
            return str(self.reader.read(PNG).pixels.shape)
        except CxrZooError as error:
            return str(error)


def test_in_a_data_loader(reader: IsolatedReader) -> None:
    """In a forked worker of a DataLoader a reader made there reads; one made before the fork says that it can't."""
    from torch.utils.data import DataLoader

    for given, expected in ((None, "(40, 30)"), (reader, "another process made")):
        dataset: Any = InWorkers(given)
        loader = DataLoader(dataset, num_workers=1, multiprocessing_context="fork", collate_fn=list)
        assert all(expected in text for batch in loader for text in batch)
    assert (40, 30) == reader.read(PNG).pixels.shape


def test_what_can_not_be_isolated(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that another process would not find, and a system without limits, are refused."""
    with pytest.raises(CxrZooError, match="top level"):
        IsolatedReader(function=lambda source: read(source))
    monkeypatch.setattr(isolation, "os", types.SimpleNamespace(name="nt"))
    with pytest.raises(CxrZooError, match="Linux or macOS"):
        IsolatedReader()


def test_a_process_that_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process comes up, each file has an error that says so."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with IsolatedReader() as reader:
        codes = [(str(result)[:46], getattr(result, "code", "")) for result in reader.map([PNG, PNG])]
    assert [("The process that reads images does not start.", "died")] * 2 == [
        (text.strip(), code) for text, code in codes
    ]


class Mean:
    """In the place of a backbone: one number an image."""

    transform = types.SimpleNamespace(record=Preprocessing((1, 20, 20), (0.5,), (0.1,), "bilinear", 1.0, "center"))
    provenance = types.SimpleNamespace(dimension=1)

    def __call__(self, images: Any) -> Any:
        return images.mean(dim=(2, 3))


@pytest.mark.parametrize("count", [0, 1, 16, 37])
def test_embedding_is_the_same(count: int) -> None:
    """Embeddings are equal bit by bit, whether images are read here or in other processes."""
    images = [saved(radiograph(40, 30, seed=seed)) for seed in range(count)]
    model: Any = Mean()
    here, there = embed_images(model, images), embed_images(model, images, workers=2)
    assert (count, 1) == here.shape
    assert np.array_equal(here, there)


@pytest.mark.parametrize("count", [0, 2])
def test_embedding_names_the_bad_image(count: int) -> None:
    """The first image that can't be read is named by its position, and keeps its code and stage."""
    model: Any = Mean()
    text, code, stage = caught(lambda: embed_images(model, [PNG] * 20 + [b"", PNG], workers=count))
    assert text.startswith("image 21 of 22: Found an empty file")
    assert ("unknown-kind", "open") == (code, stage)


def test_numbers_of_numpy() -> None:
    """A frame may be a number of NumPy, here as in this process."""
    with IsolatedReader() as reader:
        results = list(reader.map([PNG], frame=np.int64(0)))
    np.testing.assert_array_equal(read(PNG, frame=np.int64(0)).pixels, results[0].pixels)


def test_embedding_warns_once() -> None:
    """What needs a look in an image that another process has read is a warning in this one, once, by its position."""
    model: Any = Mean()
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        embed_images(model, [PNG, FILES["dicom-with-notices"]], workers=1)
    notices = read(FILES["dicom-with-notices"]).report.notices
    expected = [(f"image 2 of 2: {notice.text}", notice.code) for notice in notices]
    assert expected == [(str(w.message), w.message.code) for w in given if isinstance(w.message, ImageWarning)]


def test_workers_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The number of workers is a whole number."""
    with pytest.raises(SystemExit):
        main(["embed", "a.png", "--model", "x", "--workers", "-1"])
    assert "expected a whole number" in capsys.readouterr().err
