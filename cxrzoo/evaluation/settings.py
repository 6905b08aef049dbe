"""What it takes to repeat a comparison: versions, commit, how many images each part of the split has."""

import importlib.metadata
import platform
import subprocess

import numpy as np
from numpy.typing import NDArray

from cxrzoo import __version__
from cxrzoo._paths import CHECKOUT
from cxrzoo.evaluation.comparison import Part
from cxrzoo.evaluation.sampling.splits import Split
from cxrzoo.evaluation.tables import LabelTable

_DISTRIBUTIONS = ("torch", "timm", "numpy", "scikit-learn", "pillow", "pydicom")


def list_versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    versions = {"cxrzoo": __version__, "python": platform.python_version()}
    return versions | {name: importlib.metadata.version(name) for name in _DISTRIBUTIONS}


def find_commit() -> str | None:
    """Return the commit of the checkout that this code is of, with "+changes" where files differ; None elsewhere."""
    if CHECKOUT is None:
        return None
    try:
        head, changes = (
            subprocess.run(
                ["git", "-C", str(CHECKOUT), *command], capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}+changes" if changes else head


def describe_parts(table: LabelTable, split: Split) -> tuple[Part, ...]:
    """Return how many images, patients, positives and negatives each part of the split has."""
    parts = (("train", split.train), ("valid", split.valid), ("test", split.test))
    return tuple(_describe(name, table, rows) for name, rows in parts)


def _describe(name: str, table: LabelTable, rows: NDArray[np.int64]) -> Part:
    labels = table.labels[rows]

    def counted(value: int) -> dict[str, int]:
        return {finding: int((labels[:, i] == value).sum()) for i, finding in enumerate(table.findings)}

    return Part(name, len(rows), len(np.unique(table.groups[rows])), counted(1), counted(0))
