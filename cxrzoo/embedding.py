"""Images -> embeddings with a frozen backbone; what is written carries what identifies it."""

import hashlib
import io
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxrzoo import framing
from cxrzoo.errors import ImageError, ImageWarning
from cxrzoo.imaging.isolation import IsolatedReader
from cxrzoo.manifest import Preprocessing
from cxrzoo.records import digest
from cxrzoo.sources import write_atomically

if TYPE_CHECKING:
    from cxrzoo.imaging import Reading, Source
    from cxrzoo.loader import Backbone

_BATCH = 16


def embed_images(
    model: "Backbone",
    images: "Sequence[Source]",
    *,
    workers: int = 0,
    frame: int | None = None,
    window: str | int | None = None,
) -> NDArray[np.float32]:
    """Return one embedding an image, float32 of shape (len(images), dimension), in the given order.

    Args:
        model: What `load` returns.
        images: Whatever `model.transform` takes.
        workers: Processes that read ahead while the network runs, and that a hostile file may crash or hang without
            harm (`IsolatedReader`); with 0, images are read in this process.
        frame, window: Which of several frames and windows, for all images; see `read_image`.

    Raises:
        ImageError: An image can't be read, named by its position; or an embedding is not finite.
    """
    import torch

    from cxrzoo.preprocessing import to_tensor

    record = model.transform.record
    parts, batch = [], []
    choice = {"frame": frame, "window": window}
    with torch.inference_mode(), _framed(images, record, workers, choice) as readings:
        for position, reading in enumerate(readings, 1):
            if isinstance(reading, ImageError):
                raise ImageError(f"image {position} of {len(images)}: {reading}", reading.code, reading.stage)
            for notice in reading.report.notices:
                text = f"image {position} of {len(images)}: {notice.text}"
                warnings.warn(ImageWarning(text, notice.code), stacklevel=2)
            batch.append(to_tensor(reading.pixels, record))
            if len(batch) == _BATCH or position == len(images):
                parts.append(model(torch.stack(batch)).numpy())
                batch.clear()
    embeddings = np.concatenate(parts) if parts else np.empty((0, model.provenance.dimension), np.float32)
    if not np.isfinite(embeddings).all():
        raise ImageError("some embeddings are not finite. Are the weights in half precision on a processor without it?")
    return embeddings


@contextmanager
def _framed(
    images: "Sequence[Source]", record: Preprocessing, workers: int, choice: dict[str, Any]
) -> "Iterator[Iterator[Reading | ImageError]]":
    """Yield what becomes of each image, in order: read here, or two batches ahead in processes of their own."""
    if not workers:
        yield (_frame(image, record, choice) for image in images)
        return
    with IsolatedReader(workers, function=framing.frame, ahead=2 * _BATCH) as reader:
        yield reader.map(images, record=record.as_dict(), **choice)


def _frame(image: "Source", record: Preprocessing, choice: dict[str, Any]) -> "Reading | ImageError":
    try:
        return framing.frame(image, record, **choice)
    except ImageError as error:
        return error


def digest_embedding(embedding: NDArray[np.float32]) -> str:
    """Return a sha256 of an embedding rounded to three significant digits.

    Processors round the last bits of a sum differently; three digits survive that but for rare ties.
    """
    return digest([f"{value:.2e}" for value in embedding.ravel().tolist()])


def write_embeddings(path: str | os.PathLike[str], embeddings: NDArray[np.float32], model: "Backbone") -> None:
    """Write `embeddings` to a .npy file, and what identifies them beside it: `e.npy` and `e.npy.json`.

    The second holds the sha256 of the first, so that one left over from another run does not pass for its own.

    Raises:
        DiskError: A file could not be written; no part of one is left behind.
    """
    buffer = io.BytesIO()
    np.save(buffer, embeddings)
    target, data = Path(path), buffer.getvalue()
    facts = asdict(model.provenance) | {"images": len(embeddings), "sha256": hashlib.sha256(data).hexdigest()}
    write_atomically(target, data)
    beside = target.with_name(f"{target.name}.json")
    write_atomically(beside, (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
