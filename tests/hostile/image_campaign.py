"""The campaign of hostile images: each is read in a watched process, and twice by an isolated reader."""

import contextlib
import itertools
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from cxrzoo.errors import ImageError
from cxrzoo.imaging import Reading
from cxrzoo.imaging.isolation import IsolatedReader
from hostile import image_mutants, viewer
from hostile.generator import generate, list_ids
from hostile.tables import Row, count, is_right
from hostile.verdicts import IMAGE_LIMIT
from hostile.workers import Finding, Key, Pool

_MUTANTS = 10_000
_WORKERS = 2
#: In MB: what a worker may take.
MEMORY = 1536
#: Seconds between two looks at the memory of workers.
_LOOK = 0.1
#: Codes that only an isolated reader gives.
_STOPPED = ("died", "timeout", "memory")


@dataclass(frozen=True)
class Isolated:
    """What an isolated reader made of all files: a code or "read", and a digest of the pixels; and its memory in MB."""

    verdicts: list[tuple[str, str]]
    peak: float


def list_sections() -> dict[str, Callable[[], Iterable[Key]]]:
    """Return what gives the family, id and seed of the cases in each section."""

    def many(names: Iterable[str]) -> Callable[[], Iterator[Key]]:
        return lambda: (
            ("image mutants", f"mutant/{name}", seed)
            for seed, name in zip(range(_MUTANTS), itertools.cycle(names), strict=False)
        )

    return {
        "crafted DICOM": lambda: (("dicoms", case, 0) for case in list_ids("dicoms")),
        "crafted pictures": lambda: (("pictures", case, 0) for case in list_ids("pictures")),
        "honest images": lambda: (("image mutants", f"honest/{name}", 0) for name in image_mutants.NAMES),
        "mutated headers": many(image_mutants.HEADERS),
        "mutated codestreams": many(image_mutants.CODESTREAMS),
        "mutated pictures": many(image_mutants.PICTURES),
    }


def list_keys(section: str, share: float = 1) -> list[Key]:
    """Return the family, id and seed of the cases in a section, or of a share of them, drawn once and for all."""
    keys = list(list_sections()[section]())
    return keys if share == 1 else sorted(random.Random(section).sample(keys, max(1, round(len(keys) * share))))


def read_isolated(keys: Iterable[Key]) -> Isolated:
    """Read cases by an isolated reader, and return what it answered."""
    peaks, done = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch_memory, args=(peaks, done))
    with IsolatedReader(_WORKERS, seconds=IMAGE_LIMIT, memory=MEMORY * 2**20) as reader:
        watcher.start()
        try:
            verdicts = [_verdict(result) for result in reader.map(generate(*key).data for key in keys)]
        finally:
            done.set()
            watcher.join()
    return Isolated(verdicts, max(peaks))


def _verdict(result: Reading | ImageError) -> tuple[str, str]:
    if isinstance(result, ImageError):
        return result.code, ""
    return "read", viewer.digest(viewer.as_float(result.pixels))


def _watch_memory(peaks: list[float], done: threading.Event) -> None:
    """Note the most memory, in MB, that any worker ever held; one that read a large image may be ended soon after."""
    while not done.wait(_LOOK):
        for child in psutil.Process().children():
            # before it runs a program of its own, a child shows the memory of this process
            with contextlib.suppress(OSError, psutil.Error):
                if "cxrzoo.imaging.isolation.worker" in child.cmdline():
                    status = Path(f"/proc/{child.pid}/status").read_text()
                    peaks += (int(kilobytes) / 1024 for kilobytes in re.findall(r"VmHWM:\s+(\d+)", status))


def measure(share: float, keep: Path) -> list[Row]:
    """Run every section in watched processes, then all of it twice isolated, and return the lines of the table."""
    start = time.monotonic()
    keys = {section: list_keys(section, share) for section in list_sections()}
    found: dict[str, list[Finding]] = {}

    def say(what: str) -> None:
        print(f"{time.monotonic() - start:5.0f} s  {what}", file=sys.stderr)

    with Pool(images=True) as pool:
        for section in keys:
            say(f"{section}: {len(keys[section]):,} files")
            found[section] = list(pool.run(keys[section], keep))
    runs = []
    for run in ("first", "second"):
        say(f"all of them isolated, {run} run")
        runs.append(read_isolated(itertools.chain.from_iterable(keys.values())))
    for key, verdicts in list_differences(found, *runs):
        say(f"differs from run to run: {key}: {verdicts}")
    taken = time.monotonic() - start
    return [
        *tabulate(found),
        *tabulate_isolated(found, *runs),
        Row("all of it", "≤ 600 s", f"{taken:.0f} s", taken <= 600),
    ]


def list_differences(found: dict[str, list[Finding]], *runs: Isolated) -> Iterator[tuple[Key, list[tuple[str, str]]]]:
    """Yield the cases that do not meet the same verdict each time."""
    for finding, *verdicts in zip(
        itertools.chain.from_iterable(found.values()), *(run.verdicts for run in runs), strict=True
    ):
        watched = finding.result.code or finding.result.outcome, finding.result.sha256
        kept = [verdict for verdict in verdicts if verdict[0] not in _STOPPED]
        if len(set(verdicts)) > 1 or set(kept) - {watched}:
            yield finding.key, [watched, *verdicts]


def tabulate(found: dict[str, list[Finding]]) -> Iterator[Row]:
    """Yield the lines of the table for what watched processes saw, section by section."""
    everything = list(itertools.chain.from_iterable(found.values()))
    yield count("crafted DICOM files: verdict as expected", found["crafted DICOM"], is_right)
    yield count("crafted PNG, JPEG and TIFF files: verdict as expected", found["crafted pictures"], is_right)
    yield count("honest images read, without a notice", found["honest images"], is_right)
    for section in ("mutated headers", "mutated codestreams", "mutated pictures"):
        yield count(f"{section}: read, or ImageError", found[section], is_right)
    outcomes = Counter(each.result.outcome for each in everything)
    others = {outcome: outcomes[outcome] for outcome in outcomes if outcome not in ("read", "ImageError")}
    deaths = others.get("crashed", 0)
    yield Row("deaths of the process that reads", "0", str(deaths), not deaths)
    yield Row("exceptions other than ImageError", "0", str(others.get("escaped", 0)), "escaped" not in others)
    slowest = max(everything, key=lambda each: each.result.seconds)
    largest = max(everything, key=lambda each: each.result.grown)
    seconds, grown = slowest.result.seconds, largest.result.grown
    hung = others.get("hung", 0)
    measured = f"{hung} hung, {seconds:.1f} s at most ({slowest.key[1]})"
    yield Row("processor time for a file", f"≤ {IMAGE_LIMIT:.0f} s", measured, not hung and seconds <= IMAGE_LIMIT)
    measured = f"{grown:.0f} MB at most ({largest.key[1]})"
    yield Row("memory for a file", f"≤ {MEMORY} MB", measured, grown <= MEMORY)
    strays = sum(len(each.result.strays) for each in everything)
    yield Row("imports, processes, sockets, files written", "0", f"{strays} in {len(everything):,} files", strays == 0)
    read = [each for each in everything if each.result.outcome == "read"]
    yield count(
        "images that were read: finite, in [0, 1], no foreign warning", read, lambda each: not each.result.faults
    )


def tabulate_isolated(found: dict[str, list[Finding]], first: Isolated, second: Isolated) -> Iterator[Row]:
    """Yield the lines for two runs of an isolated reader over the same files."""
    watched = [
        (each.result.code or each.result.outcome, each.result.sha256)
        for each in itertools.chain.from_iterable(found.values())
    ]
    total = len(watched)
    lengths = {len(first.verdicts), len(second.verdicts)}
    yield Row(
        "isolated: one result a file, this process alive", "all", f"{min(lengths):,} of {total:,}", lengths == {total}
    )
    stopped = Counter(code for code, _ in first.verdicts if code in _STOPPED)
    yield Row("isolated: workers that died of a file, and began anew", "counted", str(stopped["died"]))
    yield Row("isolated: files stopped for their memory", "counted", str(stopped["memory"]))
    yield Row("isolated: hangs, stopped after 10 s", "0", str(stopped["timeout"]), not stopped["timeout"])
    peak = max(first.peak, second.peak)
    yield Row("isolated: memory of a worker", f"≤ {MEMORY} MB", f"{peak:.0f} MB", 0 < peak <= MEMORY)
    pairs = list(zip(first.verdicts, second.verdicts, strict=False))
    same = sum(one == other for one, other in pairs)
    yield Row("isolated: same verdicts and pixels in two runs", "all", f"{same:,} of {total:,}", same == total)
    pairs = [(one, other) for one, other in zip(watched, first.verdicts, strict=False) if other[0] not in _STOPPED]
    same = sum(one == other for one, other in pairs)
    met = same == len(pairs) > 0
    yield Row("isolated: same verdicts and pixels as in process", "all", f"{same:,} of {len(pairs):,}", met)
