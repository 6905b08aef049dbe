"""Images -> embeddings in memory, one batch after the other."""

import hashlib
import io
import json
import os
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxrzoo import framing
from cxrzoo.errors import CxrZooError, ImageError, ImageWarning
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
    device: str = "cpu",
    frame: int | None = None,
    window: str | int | None = None,
) -> NDArray[np.float32]:
    """Return one embedding an image, float32 of shape (len(images), dimension), in the given order.

    Args:
        model: What `load` returns.
        images: Whatever `model.transform` takes.
        workers: Processes that read ahead while the network runs, and that a hostile file may crash or hang without
            harm (`IsolatedReader`); with 0, images are read in this process.
        device: Where the network runs, such as "cuda", with the precision that torch is set to there; afterwards it is
            back where it was.
        frame, window: Which of several frames and windows, for all images; see `read_image`.

    Raises:
        ImageError: An image can't be read, named by its position; or an embedding is not finite.
        CxrZooError: There is no such device.
    """
    parts, before = [], 0
    batched = embed_batches(model, images, workers=workers, device=device, frame=frame, window=window)
    with on_device(model, device), closing(batched) as batches:
        for readings, part in batches:
            for position, reading in enumerate(readings, before + 1):
                if isinstance(reading, ImageError):
                    raise ImageError(f"image {position} of {len(images)}: {reading}", reading.code, reading.stage)
                for notice in reading.report.notices:
                    text = f"image {position} of {len(images)}: {notice.text}"
                    warnings.warn(ImageWarning(text, notice.code), stacklevel=2)
            parts.append(part)
            before += len(part)
    embeddings = np.concatenate(parts) if parts else np.empty((0, model.provenance.dimension), np.float32)
    if not np.isfinite(embeddings).all():
        raise ImageError("some embeddings are not finite. Are the weights in half precision on a processor without it?")
    return embeddings


def embed_batches(
    model: "Backbone", images: "Sequence[Source]", *, workers: int, device: str = "cpu", **choice: Any
) -> "Generator[tuple[list[Reading | ImageError], NDArray[np.float32]]]":
    """Yield, batch by batch, what became of each image, and one row an image: NaN where it can't be read.

    Args:
        device: Where the model is.
        choice: `frame` and `window`, as in `embed_images`.
    """
    import torch

    from cxrzoo.preprocessing import to_tensor

    record = model.transform.record
    with _framed(images, record, workers, choice) as outcomes:
        while readings := list(islice(outcomes, _BATCH)):
            rows = np.full((len(readings), model.provenance.dimension), np.nan, np.float32)
            tensors = [to_tensor(reading.pixels, record) for reading in readings if not isinstance(reading, ImageError)]
            if tensors:
                # not around the `yield`: the mode would leak into the caller
                with torch.inference_mode():
                    embeddings = model(torch.stack(tensors).to(device)).cpu().numpy()
                rows[[not isinstance(reading, ImageError) for reading in readings]] = embeddings
            yield readings, rows


@contextmanager
def on_device(model: "Backbone", device: str) -> Iterator[None]:
    """Move a network for the length of the block.

    Raises:
        CxrZooError: There is no such device.
    """
    if device == "cpu":
        yield
        return
    import torch

    home = next(model.parameters()).device
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it keeps no numbers.")
        model.to(device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise CxrZooError(f"The network can't be moved to {device!r}: {error} Use `--device cpu`.") from error
    try:
        yield
    finally:
        model.to(home)


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
