"""A labelled table as the images that a probe looks at while a network is trained."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from cxrzoo.evaluation.tables import read_table
from cxrzoo.evaluation.tuning.pixels import frame_images
from cxrzoo.manifest import Preprocessing
from cxrzoo.pretraining.probing import ProbeSet, leave_out


def read_probe(
    table: Path, findings: Sequence[str], *, size: int, root: Path | None = None, workers: int = 0
) -> ProbeSet:
    """Return the images of a table with labels: those of some patients are asked about, those of the others vote.

    Of a table with a column `split`, only rows for training are looked at: what is chosen on the way must not be chosen
    by images that others test on.

    Raises:
        TableError: The table can't be read.
        PretrainingError: Nothing can be measured on it.
    """
    labelled = read_table(table, findings, root=root)
    if labelled.splits is not None:
        labelled = labelled.keep(np.flatnonzero(labelled.splits == "train"))
    record = Preprocessing((1, size, size), (0,), (1,), "bilinear", 1, "center")
    frames = frame_images(labelled.files, record, workers=workers)
    read = np.setdiff1d(np.arange(len(labelled)), list(frames.failures))
    pixels = frames.pixels if frames.pixels.dtype == np.uint8 else np.rint(frames.pixels * 255).astype(np.uint8)
    return ProbeSet(torch.from_numpy(pixels[read]), labelled.labels[read], leave_out(labelled.groups.tolist())[read])
