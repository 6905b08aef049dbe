"""Images and their order in training: batches on the device, normalised there, shuffled by the user's seed alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from cxrzoo.imaging import Pixels
from cxrzoo.manifest import Preprocessing

Positions = NDArray[np.int64]
#: Gives the rows at some positions, on the device.
Inputs = Callable[[Positions], torch.Tensor]

#: Rows that go through a network at once where nothing is learned.
_ROWS = 64
#: How much of a GPU's free memory images may fill; the network and its gradients need the rest.
_SHARE = 0.5


class Images:
    """Gives batches (n, channels, height, width), normalised on the device from the pixels of the chosen images.

    On a GPU with room for them, the pixels are moved there once.
    """

    def __init__(self, pixels: Pixels, chosen: Positions, record: Preprocessing, device: torch.device) -> None:
        self._pixels, self._chosen, self._device = pixels, chosen, device
        self._channels = record.input_size[0]
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=device)[:, None, None]
            for values in (record.mean, record.std)
        )
        self._moved: torch.Tensor | None = None
        size = pixels[:1].nbytes * len(chosen)
        if device.type == "cuda" and size <= _SHARE * torch.cuda.mem_get_info(device)[0]:
            self._moved = torch.cat([self._fetch(rows) for rows in _slices(len(chosen))])

    def __call__(self, rows: Positions) -> torch.Tensor:
        planes = self._fetch(rows) if self._moved is None else self._moved[torch.from_numpy(rows).to(self._device)]
        planes = planes.to(torch.float32).div(255) if planes.dtype == torch.uint8 else planes
        return planes[:, None].expand(-1, self._channels, -1, -1).sub(self._mean).div_(self._std)

    def _fetch(self, rows: Positions) -> torch.Tensor:
        return torch.from_numpy(self._pixels[self._chosen[rows]]).to(self._device)


class Rows:
    """Gives rows of a tensor that is computed already, where it lies."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __call__(self, rows: Positions) -> torch.Tensor:
        return self._tensor[torch.from_numpy(rows).to(self._tensor.device)]


def compute_rows(function: Callable[[torch.Tensor], torch.Tensor], inputs: Inputs, rows: Positions) -> torch.Tensor:
    """Return what a network gives for some rows, without gradients, on its device."""
    # not inference_mode: some networks keep what they compute, and could not be trained afterwards
    with torch.no_grad():
        return torch.cat([function(inputs(rows[part])) for part in _slices(len(rows))])


def shuffled_batches(rows: Positions, size: int, seed: int, epoch: int) -> list[Positions]:
    """Return the rows in the order of an epoch, which follows from seed and number: any epoch can be the first.

    A last batch of one row joins the one before: BatchNorm has no variance to divide by.
    """
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    starts = list(range(size, len(order), size))
    if starts and len(order) == starts[-1] + 1:
        starts.pop()
    return np.split(order, starts)


@contextmanager
def seeded(seed: int, epoch: int, device: torch.device) -> Iterator[None]:
    """Let what networks draw (dropout, dropped paths) follow from seed and epoch, and put the generators back."""
    number = int(np.random.default_rng([seed, epoch, 1]).integers(2**63))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.default_generator.manual_seed(number)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(number)
        yield


def _slices(count: int) -> list[Positions]:
    return [np.arange(start, min(start + _ROWS, count)) for start in range(0, max(count, 1), _ROWS)]
