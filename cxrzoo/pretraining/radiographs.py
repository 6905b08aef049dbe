"""The images of a training: read once, kept small and whole on the disk, and given out by rows."""

import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxrzoo.errors import ImageCode, ImageError, PretrainingError
from cxrzoo.imaging import Reading
from cxrzoo.imaging.isolation import IsolatedReader
from cxrzoo.pretraining.batches import Batch
from cxrzoo.pretraining.shrinking import shrink
from cxrzoo.records import digest
from cxrzoo.sources import staged_folder
from cxrzoo.sources.files import disk_errors

if TYPE_CHECKING:
    from cxrzoo.pretraining.listing import Listing

logger = logging.getLogger("cxrzoo")

_AHEAD = 64
#: How much of a GPU's free memory images may fill; networks, gradients and activations need the rest.
_SHARE = 0.5
_PIXELS, _INDEX = "pixels.bin", "index.json"


@dataclass(frozen=True, eq=False)
class Radiographs:
    """Grey pictures with what the table says of them.

    `pixels` are all of them, one after the other, uint8; `starts` where each begins and `sizes` (N, 2) its height and
    width. `modalities` (N,) counts from 0, `labels` (N, findings) are 1, 0 and NaN. `failures` are rows of the list
    that could not be read and are left out. `sha256` is that of the pixels and what the table says of them.
    """

    pixels: NDArray[np.uint8]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    modalities: NDArray[np.int64]
    labels: NDArray[np.float32]
    failures: Mapping[int, ImageCode]
    sha256: str

    def __len__(self) -> int:
        return len(self.starts)

    def measure(self) -> tuple[float, float]:
        """Return mean and standard deviation of all pixels in [0, 1], each picture counting by its area."""
        counts = np.zeros(256, np.int64)
        for first in range(0, len(self.pixels), 2**24):
            counts += np.bincount(self.pixels[first : first + 2**24], minlength=256)
        levels = np.arange(256) / 255
        mean = float((counts * levels).sum() / counts.sum())
        return mean, float(np.sqrt((counts * (levels - mean) ** 2).sum() / counts.sum()))

    def fetch(self, rows: NDArray[np.int64]) -> Batch:
        """Return a batch in the memory of the processor."""
        sizes = self.sizes[rows]
        pixels = np.zeros((len(rows), *sizes.max(axis=0)), np.uint8)
        for picture, start, (height, width) in zip(pixels, self.starts[rows], sizes, strict=True):
            picture[:height, :width] = self.pixels[start : start + height * width].reshape(height, width)
        return Batch(
            torch.from_numpy(pixels),
            torch.from_numpy(sizes),
            torch.from_numpy(self.modalities[rows]),
            torch.from_numpy(self.labels[rows]),
        )


def batches(radiographs: Radiographs, rows: Iterator[NDArray[np.int64]], device: torch.device) -> Iterator[Batch]:
    """Yield a batch for each entry of `rows`, on the device; a GPU that has room for all pictures gets them once."""
    if device.type == "cpu":
        yield from map(radiographs.fetch, rows)
    elif device.type == "cuda" and radiographs.pixels.nbytes <= _SHARE * torch.cuda.mem_get_info(device)[0]:
        resident = _Resident(radiographs, device)
        yield from map(resident.fetch, rows)
    else:
        with ThreadPoolExecutor(1) as thread:
            ahead = [thread.submit(_move, radiographs, chosen, device) for chosen in itertools.islice(rows, 2)]
            while ahead:
                yield ahead.pop(0).result()
                ahead += [thread.submit(_move, radiographs, chosen, device) for chosen in itertools.islice(rows, 1)]


def _move(radiographs: Radiographs, rows: NDArray[np.int64], device: torch.device) -> Batch:
    return Batch(*(tensor.to(device, non_blocking=True) for tensor in radiographs.fetch(rows)))


class _Resident:
    """All pictures in the memory of a GPU; a batch is gathered there without a word from this side."""

    def __init__(self, radiographs: Radiographs, device: torch.device) -> None:
        self._pixels = torch.from_numpy(np.array(radiographs.pixels)).to(device)
        self._starts, self._sizes, self._modalities, self._labels = (
            torch.from_numpy(array).to(device)
            for array in (radiographs.starts, radiographs.sizes, radiographs.modalities, radiographs.labels)
        )
        self._bounds = radiographs.sizes

    def fetch(self, rows: NDArray[np.int64]) -> Batch:
        height, width = self._bounds[rows].max(axis=0).tolist()
        chosen = torch.from_numpy(rows).to(self._pixels.device, non_blocking=True)
        sizes = self._sizes[chosen]
        down = torch.arange(height, device=chosen.device)[None, :, None]
        right = torch.arange(width, device=chosen.device)[None, None, :]
        inside = (down < sizes[:, 0, None, None]) & (right < sizes[:, 1, None, None])
        places = self._starts[chosen][:, None, None] + down * sizes[:, 1, None, None] + right
        pixels = self._pixels[torch.where(inside, places, 0)] * inside
        return Batch(pixels, sizes, self._modalities[chosen], self._labels[chosen])


def keep_radiographs(
    listing: "Listing",
    folder: Path,
    side: int,
    *,
    workers: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> Radiographs:
    """Return the pictures of a list, from `folder` where they were kept before, else read and kept there.

    Args:
        side: The shorter side in pixels that they are made.
        workers: Processes that read, and that a hostile file may crash or hang without harm; with 0, this one does.
        progress: Called with how many more are done.

    Raises:
        PretrainingError: No image can be read, or those in `folder` are damaged.
        DiskError: They can't be written.
    """
    identity = digest([listing.paths, listing.stamps, side])
    if folder.is_dir() and _read_index(folder)["identity"] != identity:
        logger.warning("The images are other ones than those in %s, or other files: they are read anew.", folder.name)
        shutil.rmtree(folder)
    if not folder.is_dir():
        with staged_folder(folder) as staged:
            _write(listing, staged, side, identity, workers, progress)
    return _read(listing, folder)


def _write(
    listing: "Listing", folder: Path, side: int, identity: str, workers: int, progress: Callable[[int], None]
) -> None:
    failures: dict[int, ImageCode] = {}
    sizes: list[tuple[int, ...]] = []
    hasher = hashlib.sha256()
    with ExitStack() as stack, disk_errors("write", folder / _PIXELS), (folder / _PIXELS).open("wb") as file:
        for row, outcome in enumerate(_shrink_all(listing.files, side, workers, stack)):
            if isinstance(outcome, ImageError):
                failures[row] = outcome.code
            else:
                data = np.ascontiguousarray(outcome.pixels).tobytes()
                hasher.update(data)
                file.write(data)
                sizes.append(outcome.pixels.shape)
            progress(1)
    if not sizes:
        raise PretrainingError(
            f"none of {len(listing.paths)} images can be read; the first fails with {failures[0]!r}. Paths in a table "
            "start from its own folder, or from the one that `--root` names. `cxrzoo describe FILE` shows what is "
            "wrong with one."
        )
    facts = {
        "identity": identity,
        "sizes": sizes,
        "failures": sorted(failures.items()),
        "sha256": hasher.hexdigest(),
    }
    with disk_errors("write", folder / _INDEX):
        (folder / _INDEX).write_text(json.dumps(facts), encoding="utf-8")


def _shrink_all(files: Sequence[Path], side: int, workers: int, stack: ExitStack) -> Iterator[Reading | ImageError]:
    if workers:
        reader = stack.enter_context(IsolatedReader(workers, function=shrink, ahead=_AHEAD))
        return reader.map(files, side=side)
    return (_shrink(file, side) for file in files)


def _shrink(file: Path, side: int) -> Reading | ImageError:
    try:
        return shrink(file, side)
    except ImageError as error:
        return error


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        areas = sum(height * width for height, width in facts["sizes"])
        if (folder / _PIXELS).stat().st_size != areas:
            raise ValueError("the pixels are not all there")
        return facts | {"failures": {int(row): code for row, code in facts["failures"]}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PretrainingError(
            f"the images kept in {folder} can't be read: {error}. Delete that folder: they are read anew."
        ) from error


def _read(listing: "Listing", folder: Path) -> Radiographs:
    facts = _read_index(folder)
    sizes = np.array(facts["sizes"], np.int64).reshape(-1, 2)
    areas = sizes.prod(axis=1)
    rows = np.setdiff1d(np.arange(len(listing.paths)), list(facts["failures"]))
    modalities, labels = listing.modalities[rows], listing.labels[rows]
    told = [facts["sha256"], facts["sizes"], modalities.tolist(), np.nan_to_num(labels, nan=-9).tolist()]
    return Radiographs(
        np.memmap(folder / _PIXELS, np.uint8, "r"),
        np.cumsum(areas) - areas,
        sizes,
        modalities,
        labels,
        facts["failures"],
        digest(told),
    )
