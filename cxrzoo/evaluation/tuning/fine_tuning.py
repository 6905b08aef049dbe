"""A linear classifier trained on a copy of a backbone by gradient descent, with the backbone or without.

As in the MoCo-CXR paper: masked cross-entropy, Adam at a constant rate, and the weights of the epoch with the best
mean AUROC on the validation images. Test images are looked at once, after that choice.
"""

import copy
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from cxrzoo.errors import EvaluationError
from cxrzoo.evaluation.locks import digest_backbone, locked
from cxrzoo.evaluation.statistics.metrics import auroc
from cxrzoo.evaluation.tuning.minibatches import Images, Inputs, Positions, Rows, compute_rows, seeded, shuffled_batches
from cxrzoo.evaluation.tuning.requirements import check_arrays, check_classes, check_settings, has_both
from cxrzoo.evaluation.tuning.snapshots import Journal
from cxrzoo.evaluation.tuning.training import Classifier, Training
from cxrzoo.imaging import Pixels

if TYPE_CHECKING:
    from cxrzoo.loader import Backbone

Floats = NDArray[np.float64]


class Epoch(NamedTuple):
    """One pass over the training images: its number from 1, mean loss, and mean AUROC on the validation images."""

    number: int
    loss: float
    auroc: float


@dataclass(frozen=True)
class FineTuning:
    """Logits (images, findings) of the validation and test images, by the weights of the best epoch.

    A finding with one class in the training images has NaN. `backbone_sha256` is the digest of the backbone in that
    epoch: that of the given one where it was frozen, another where it was trained or its statistics moved.
    """

    logits_valid: NDArray[np.float32]
    logits_test: NDArray[np.float32]
    epochs: int
    best_epoch: int
    history: tuple[Epoch, ...]
    backbone_sha256: str


def fine_tune(
    backbone: "Backbone",
    pixels: Pixels,
    labels: ArrayLike,
    *,
    train: Positions,
    valid: Positions,
    test: Positions,
    epochs: int,
    seed: int,
    learning_rate: float = 3e-5,
    batch_size: int = 16,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    mode: Literal["end-to-end", "linear"] = "end-to-end",
    bn_adapt: bool = False,
    device: str = "cpu",
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: Path | None = None,
    save_every: float = 30,
) -> FineTuning:
    """Return what a linear classifier on a copy of the backbone gives, once trained; the backbone stays as it is.

    Equal arguments give equal results on a processor, whether or not the run was interrupted; on a GPU nearly so.

    Args:
        pixels: (images, height, width) as `frame_images` gives them for the backbone's own preprocessing.
        labels: (images, findings): 1, 0, or NaN for what is not used. Those of test images are never read.
        train, valid, test: Positions of the images of each part.
        mode: "end-to-end" trains everything; "linear" the classifier alone, on embeddings of the frozen backbone.
        bn_adapt: With "linear", let the statistics of BatchNorm drift. The MoCo-CXR paper's code does so where it says
            linear: it freezes parameters, and trains in training mode (chexpert-model/train.py:66, models.py:77-83).
        on_epoch: Called after each epoch; at once for those that an earlier, interrupted run has done.
        checkpoint: File from which a run that was interrupted goes on. In the end it holds the result alone.
        save_every: Seconds between two writes of the checkpoint, at the least.

    Raises:
        EvaluationError: No finding has both classes in training and validation images, the pixels are of another
            preprocessing, the loss diverged, or the checkpoint is damaged or of another training.
        DiskError: The checkpoint can't be written.
    """
    targets = np.asarray(labels, np.float64)
    check_settings(mode, bn_adapt, epochs, batch_size)
    check_arrays(backbone, pixels, targets)
    train = train[~np.isnan(targets[train]).all(axis=1)]
    learned = has_both(targets[train])
    judged = np.flatnonzero(learned & has_both(targets[valid]))
    check_classes(len(train), learned, judged)
    # What follows sees the images of this run alone, in rows of its own
    chosen, rows = np.unique(np.concatenate([train, valid, test]), return_inverse=True)
    train_rows, valid_rows, test_rows = np.split(rows, np.cumsum([len(train), len(valid)]))
    known = targets[chosen]
    known[np.setdiff1d(test_rows, np.concatenate([train_rows, valid_rows]))] = np.nan
    digest = digest_backbone(backbone)
    identity: dict[str, object] = {
        "mode": mode, "bn_adapt": bn_adapt, "epochs": epochs, "seed": seed, "learning_rate": learning_rate,
        "batch_size": batch_size, "betas": list(betas), "weight_decay": weight_decay,
        "backbone": digest, "preprocessing": backbone.transform.record.digest, "labels": _sha256([known]),
        "parts": _sha256([train, valid, test]), "images": _sha256(pixels[i] for i in chosen) if checkpoint else "",
    }  # fmt: skip
    journal = Journal(checkpoint, identity, save_every)
    snapshot = journal.read()
    history = [Epoch(*epoch) for epoch in snapshot.epochs] if snapshot else []
    for epoch in history:
        on_epoch(epoch)
    if snapshot and "logits" in snapshot.groups:
        logits = {part: tensor.numpy().copy() for part, tensor in snapshot.groups["logits"].items()}
        return _conclude(history, logits, snapshot.backbone_sha256)
    place = torch.device(device)
    with torch.inference_mode(False), torch.enable_grad():
        trunk: nn.Module = copy.deepcopy(backbone).to(place)
        inputs: Inputs = Images(pixels, chosen, backbone.transform.record, place)
        frozen = mode == "linear" and not bn_adapt
        if frozen:  # an image has the same embedding in every epoch
            with locked(trunk):
                inputs = Rows(compute_rows(trunk, inputs, np.arange(len(chosen))))
            trunk = nn.Identity()
        network = Classifier(trunk, backbone.provenance.dimension, targets.shape[1]).to(place)
        training = Training(
            network,
            end_to_end=mode == "end-to-end",
            bn_adapt=bn_adapt,
            learning_rate=learning_rate,
            betas=betas,
            weight_decay=weight_decay,
        )
        if snapshot:
            training.restore(snapshot.groups)
        labelled = torch.from_numpy(known).to(place, torch.float32)
        for number in range(len(history) + 1, epochs + 1):
            with seeded(seed, number, place):
                loss = training.run_epoch(shuffled_batches(train_rows, batch_size, seed, number), inputs, labelled)
            _check_loss(loss, number)
            scores = compute_rows(network, inputs, valid_rows).cpu().numpy()
            epoch = Epoch(number, loss, mean_auroc(targets[valid], scores, judged))
            if epoch.auroc > max((earlier.auroc for earlier in history), default=-1.0):
                training.keep_best()
            history.append(epoch)
            journal.write(history, training.collect)
            on_epoch(epoch)
        training.return_to_best()
        found = {"valid": compute_rows(network, inputs, valid_rows), "test": compute_rows(network, inputs, test_rows)}
        for tensor in found.values():
            tensor[:, torch.from_numpy(~learned).to(place)] = torch.nan
        moved = digest if frozen else digest_backbone(network.backbone)
        journal.conclude(history, found, moved)
        return _conclude(history, {part: tensor.cpu().numpy() for part, tensor in found.items()}, moved)


def _conclude(history: list[Epoch], logits: dict[str, NDArray[np.float32]], backbone_sha256: str) -> FineTuning:
    best = max(history, key=lambda epoch: epoch.auroc)  # the first of equals
    return FineTuning(logits["valid"], logits["test"], len(history), best.number, tuple(history), backbone_sha256)


def mean_auroc(labels: Floats, logits: NDArray[np.float32], findings: Positions) -> float:
    """Return the mean AUROC of these findings; a NaN among the labels is left out."""
    used = ~np.isnan(labels)
    return float(np.mean([auroc(labels[used[:, f], f], logits[used[:, f], f]) for f in findings]))


def _sha256(arrays: Iterable[NDArray[Any]]) -> str:
    hasher = hashlib.sha256()
    for array in arrays:
        hasher.update(f"{array.dtype} {array.shape}".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return hasher.hexdigest()


def _check_loss(loss: float, epoch: int) -> None:
    if not np.isfinite(loss):
        raise EvaluationError(
            f"the loss of epoch {epoch} is {loss}, expected a finite one. Take a lower learning rate."
        )
