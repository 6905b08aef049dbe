"""Cost of reading in a process of its own, against reading in this one, and what a second process adds; in pairs."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import radiographs

from cxrzoo.framing import frame
from cxrzoo.imaging import Reading, read
from cxrzoo.imaging.isolation import IsolatedReader
from cxrzoo.manifest import Preprocessing

PAIRS = 9
#: How many files two processes share in a run.
FILES = 8
RECORD = Preprocessing((3, 320, 320), (0.502,) * 3, (0.0856,) * 3, "bilinear", 1.0, "center")


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(first: Callable[[], object], second: Callable[[], object]) -> list[tuple[float, float]]:
    """Return the seconds of both in turn, now one ahead and now the other."""
    pairs = []
    for number in range(PAIRS):
        if number % 2:
            pairs.append((seconds(first), seconds(second)))
        else:
            pairs.append((seconds(second), seconds(first))[::-1])
    return pairs


def summary(pairs: list[tuple[float, float]]) -> str:
    """Return both medians, and the median of the ratios with their range."""
    ratios = [a / b for a, b in pairs]
    medians = "".join(f"{1000 * statistics.median(column):9.1f} ms" for column in zip(*pairs, strict=True))
    return f"{medians}   ratio {statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {PAIRS} pairs)"


def compare(files: dict[str, Path], function: Callable[..., Reading], **options: Any) -> None:
    """Print what each file costs in a process of its own, and here."""
    print(f"{function.__name__:27}{'isolated':>12}{'here':>12}")
    with IsolatedReader(function=function) as reader:
        for name, path in files.items():
            there, here = partial(reader.read, path, **options), partial(function, path, **options)
            one, other = there(), here()
            equal = np.array_equal(one.pixels, other.pixels) and one.report == other.report
            print(f"{name:27}{summary(measure(there, here))}   equal: {equal}", flush=True)


def main() -> None:
    """Print the cost of isolation for each kind of file, then the gain of a second process."""
    with tempfile.TemporaryDirectory() as room:
        files = radiographs.make(Path(room))
        compare(files, read)
        compare(files, frame, record=RECORD.as_dict())
        many = [files["JPEG 2000.dcm"]] * FILES
        # Otherwise the one process uses both processors for a single picture, as two processes together do.
        os.environ["OPJ_NUM_THREADS"] = "1"
        with IsolatedReader(1) as one, IsolatedReader(2) as two:
            for reader in (one, two):
                list(reader.map(many[:2]))
            pairs = measure(lambda: list(one.map(many)), lambda: list(two.map(many)))
        print(f"{FILES} files of JPEG 2000, one process against two\n{'':27}{summary(pairs)}")


if __name__ == "__main__":
    main()
