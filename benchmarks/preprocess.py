"""Time from a file on disk to the tensor that a network takes, against the roads of torchxrayvision, MONAI and timm.

All roads read the same files in one run, in turn (A B C D A B C D …), in one thread, as in a worker of a DataLoader.
A ratio is a peer's time by ours: 2 means that cxrzoo takes half the time.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import peers
import radiographs
import torch

from cxrzoo.manifest import Preprocessing
from cxrzoo.preprocessing import Transform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EXACT = Preprocessing((3, peers.SIDE, peers.SIDE), MEAN, STD, "bilinear", 1.0, "center")
FAST = dataclasses.replace(EXACT, decoding="fast")
OURS: dict[str, peers.Road] = {"exact": Transform(EXACT), "fast": Transform(FAST)}


def seconds(road: peers.Road, path: Path) -> float:
    """Return how long one road takes for one file."""
    start = time.perf_counter()
    road(path)
    return time.perf_counter() - start


def can(road: peers.Road, path: Path) -> bool:
    """Whether a peer reads the file at all; which it is not is seen in the table, so any error will do."""
    try:
        road(path)
    except Exception:  # noqa: BLE001
        return False
    return True


def likeness(peer: str, theirs: torch.Tensor, path: Path) -> float:
    """Return the correlation of a peer's tensor with ours; MONAI's is neither cropped nor upright."""
    ours = Transform(dataclasses.replace(EXACT, crop_mode="squash") if peer == "MONAI" else EXACT)(path)[0]
    plane = np.asarray(theirs[0], np.float64)
    return float(np.corrcoef(ours.ravel(), (plane.T if peer == "MONAI" else plane).ravel())[0, 1])


def compare(name: str, path: Path, repeats: int) -> None:
    """Print one row."""
    roads = OURS | {peer: road for peer, road in peers.ROADS.items() if can(road, path)}
    runs = [{each: seconds(road, path) for each, road in roads.items()} for _ in range(repeats + 1)][1:]
    cells = [f"{statistics.median(run[each] for run in runs) * 1000:8.1f}" for each in OURS]
    for peer in peers.ROADS:
        if peer not in roads:
            cells.append(f"{'can not read it':>38}")
            continue
        ratios = [statistics.median(run[peer] / run[each] for run in runs) for each in OURS]
        theirs = statistics.median(run[peer] for run in runs) * 1000
        alike = likeness(peer, roads[peer](path), path)
        cells.append(f"{theirs:10.1f} {ratios[0]:8.1f} x {ratios[1]:7.1f} x {alike:7.4f}")
    print(f"{name.rpartition('.')[0]:24}", *cells)


def main() -> None:
    """Print a table: a file a row, medians in milliseconds, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="how often each road reads each file")
    parser.add_argument("--only", default="", help="files whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    peers.quiet()
    print(f"{'median, ms':24} {'exact':>8} {'fast':>8}", *[f"{peers.version(each):>38}" for each in peers.ROADS])
    print(" " * 42, *[f"{'ms':>10} {'by exact':>10} {'by fast':>9} {'alike':>6}" for _ in peers.ROADS])
    with tempfile.TemporaryDirectory() as room:
        for name, path in radiographs.make(Path(room)).items():
            if options.only in name:
                compare(name, path, options.repeats)


if __name__ == "__main__":
    main()
