"""Time until `cxrzoo list` and `cxrzoo --help` have answered, against importing timm alone; in pairs."""

import statistics
import subprocess
import sys
import time

PAIRS = 7


def seconds(*command: str) -> float:
    """Return how long a command takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], capture_output=True, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print both medians for each command."""
    for command in ("list", "--help"):
        seconds("-m", "cxrzoo", command)
        pairs = [(seconds("-m", "cxrzoo", command), seconds("-c", "import timm")) for _ in range(PAIRS)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(
            f"cxrzoo {command:7} {ours:.2f} s   import timm {theirs:.2f} s   ratio {ours / theirs:.3f} ({PAIRS} pairs)"
        )


if __name__ == "__main__":
    main()
