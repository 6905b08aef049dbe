"""Time of loading a cached, verified model, against timm loading the same folder; in pairs, with equal outputs."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import timm
import torch

import cxrzoo

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import factories

PAIRS = 15


def seconds(function: Callable[[], object]) -> float:
    """Return how long one call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Print, for each network, both medians and the median of the ratios."""
    with tempfile.TemporaryDirectory() as room:
        os.environ["CXRZOO_HOME"] = str(Path(room) / "home")
        for upstream in ("resnet18", "densenet121"):
            checkpoint = factories.save(Path(room) / f"{upstream}.pth.tar", factories.make_moco(upstream))
            folder = cxrzoo.convert(checkpoint, Path(room) / upstream, preprocessing="moco-cxr-resnet18").folder
            time.sleep(0.1)  # a file younger than a tick of the clock is not recorded as verified

            def ours(folder: Path = folder) -> torch.nn.Module:
                return cxrzoo.load(folder)

            def theirs(folder: Path = folder) -> torch.nn.Module:
                return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

            images = torch.randn(1, 3, 224, 224)
            with torch.inference_mode():
                equal = torch.equal(ours()(images), theirs()(images))
            pairs = [(seconds(ours), seconds(theirs)) for _ in range(PAIRS)]
            ratios = [a / b for a, b in pairs]
            print(
                f"{upstream:12} cxrzoo.load {statistics.median(a for a, _ in pairs) * 1000:6.1f} ms   "
                f"timm local-dir {statistics.median(b for _, b in pairs) * 1000:6.1f} ms   "
                f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {PAIRS} pairs)   "
                f"outputs bit-equal: {equal}"
            )


if __name__ == "__main__":
    main()
