"""Weights that can't be a trained network: constants, NaN, statistics and norms at their start, a dead embedding."""

import numpy as np
import pytest

from cxrzoo.errors import UntrainedError
from cxrzoo.fingerprint import make_phantom, take_fingerprint
from cxrzoo.health import Health

RANDOM = np.random.default_rng(0)


def conclude(**tensors: np.ndarray) -> str:
    """Return what the tensors, by names with __ for a dot, show together."""
    health = Health()
    for name, values in tensors.items():
        health.check(name.replace("__", "."), "F32", values.astype("<f4").tobytes())
    return health.conclude()


def test_trained_with_batchnorm() -> None:
    """Statistics that moved show that the network saw images."""
    said = conclude(conv__weight=RANDOM.normal(size=8), bn__running_mean=np.ones(2), bn__running_var=np.ones(2))

    assert "statistics of BatchNorm have moved" in said


def test_trained_with_layer_norms() -> None:
    """Norms that are not at 1 any more show a training step."""
    assert "norms have been adjusted" in conclude(fc__weight=RANDOM.normal(size=8), norm__weight=np.full(4, 1.01))


def test_without_norms_nothing_is_claimed() -> None:
    """Where nothing shows training, nothing is said to show it."""
    assert "nothing tells" in conclude(fc__weight=RANDOM.normal(size=8))


UNTRAINED = {
    "constants": ({"fc__weight": np.zeros(8), "norm__weight": np.ones(4)}, "every weight is a constant"),
    "fresh statistics": (
        {"fc__weight": RANDOM.normal(size=8), "bn__running_mean": np.zeros(4), "bn__running_var": np.ones(4)},
        "all 2 BatchNorm statistics are at their start",
    ),
    "fresh norms": (
        {"fc__weight": RANDOM.normal(size=8), "blocks__0__norm1__weight": np.ones(4)},
        "all 1 norms are at their start",
    ),
}


@pytest.mark.parametrize(("tensors", "message"), UNTRAINED.values(), ids=UNTRAINED.keys())
def test_untrained(tensors: dict[str, np.ndarray], message: str) -> None:
    """A network that never took a step is refused for what shows it."""
    with pytest.raises(UntrainedError, match=message):
        conclude(**tensors)


@pytest.mark.parametrize("embedding", [np.zeros(8), np.full(8, np.nan), np.array([1.0, np.inf])])
def test_dead_embedding(embedding: np.ndarray) -> None:
    """An embedding that is no direction has no fingerprint."""
    with pytest.raises(UntrainedError, match="all zero, or holds NaN"):
        take_fingerprint(embedding)


def test_fingerprint_survives_small_differences() -> None:
    """Differences a thousand times those of processors leave the digest alone; those of another network don't."""
    embedding = RANDOM.normal(size=512)
    fingerprint = take_fingerprint(embedding)
    noise = RANDOM.normal(size=512)

    near = take_fingerprint(embedding + 1e-5 * noise, fingerprint.offset)
    far = take_fingerprint(embedding + 0.1 * noise, fingerprint.offset)

    assert fingerprint.digest == near.digest != far.digest
    assert fingerprint.margin > 0.05


def test_fingerprint_ignores_scale_and_knows_every_number() -> None:
    """The digest is of the direction; one number that changes by much changes it."""
    embedding = RANDOM.normal(size=64)
    fingerprint = take_fingerprint(embedding)
    changed = embedding.copy()
    changed[17] += 3

    assert fingerprint.digest == take_fingerprint(embedding * 7, fingerprint.offset).digest
    assert fingerprint.digest != take_fingerprint(changed, fingerprint.offset).digest


def test_phantom_is_the_same_everywhere() -> None:
    """The synthetic radiograph is pinned to the byte, for fingerprints of all time hang on it."""
    import hashlib

    phantom = make_phantom()

    assert ((448, 384), np.uint8) == (phantom.shape, phantom.dtype)
    assert (
        "0fc2c25382347cf7af52814ba6c6cf9ecd525621b10d0182d2ef1f02df94e7c5"
        == hashlib.sha256(phantom.tobytes()).hexdigest()
    )
