"""What a training leaves behind: checkpoints as the method's authors lay them out, and a model folder made of one."""

import io
import tempfile
from pathlib import Path
from typing import Any

import torch

from cxrzoo.checkpoint import open_checkpoint
from cxrzoo.converter import Conversion
from cxrzoo.errors import ConversionError, PretrainingError
from cxrzoo.manifest import Preprocessing
from cxrzoo.matching import choose_fit
from cxrzoo.pretraining.method import Method
from cxrzoo.pretraining.networks import Start
from cxrzoo.publisher import convert
from cxrzoo.sources import write_atomically
from cxrzoo.sources.files import disk_errors


def write_checkpoint(folder: Path, method: Method, epoch: int, optimizer: dict[str, Any]) -> Path:
    """Write the checkpoint after an epoch, and return where.

    Raises:
        DiskError: It can't be written; no part of it is left behind.
    """
    path = folder / method.file_name(epoch)
    write_atomically(path, _pack(method, epoch, optimizer))
    return path


def _pack(method: Method, epoch: int, optimizer: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(method.export(epoch, optimizer), buffer)
    return buffer.getvalue()


def check_convertible(method: Method, out: Path) -> None:
    """Refuse a network whose checkpoints no recipe would read, before days are spent on it.

    Args:
        out: The folder of the run, which has room for checkpoints.

    Raises:
        PretrainingError: No recipe accounts for all keys.
        DiskError: There is no room.
    """
    with tempfile.TemporaryDirectory(dir=out, prefix=".trial-") as folder:
        path = Path(folder) / "checkpoint.pth"
        with disk_errors("write", path):
            path.write_bytes(_pack(method, 0, {}))
        try:
            with open_checkpoint(path) as opened:
                choose_fit(opened.root, None)
        except ConversionError as error:
            raise PretrainingError(f"checkpoints of this network could not be converted afterwards: {error}") from error


def make_folder(checkpoint: Path, out: Path, start: Start, size: int) -> Conversion:
    """Convert a checkpoint into a model folder with the preprocessing that it was trained with.

    Raises:
        ConversionError: It can't become a backbone.
        FolderError: `out` exists already.
    """
    preprocessing = Preprocessing(
        (len(start.mean), size, size), start.mean, start.std, "bilinear", 1.0, "center", source="as in its training"
    )
    # by name, since some networks differ in what no shape tells, such as how they pad
    return convert(checkpoint, out, architecture=start.architecture, preprocessing=preprocessing)
