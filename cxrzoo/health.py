"""Weights that were never trained, or went wrong in training, are no backbone."""

import numpy as np

from cxrzoo.errors import UntrainedError
from cxrzoo.numbers import as_floats


class Health:
    """Looks at each tensor of a network as it passes, and at the end says whether it was ever trained."""

    def __init__(self) -> None:
        self._varies = False
        self._statistics = 0
        self._seen = False
        self._norms = 0
        self._adjusted = False

    def check(self, name: str, dtype: str, data: bytes | bytearray) -> None:
        """Look at one tensor, given by its name, its dtype in the words of safetensors, and its bytes.

        Raises:
            UntrainedError: It holds NaN or infinity.
        """
        if "F" not in dtype:
            return
        values = as_floats(dtype, data)
        if not np.isfinite(values).all():
            bad = int((~np.isfinite(values)).sum())
            raise UntrainedError(
                f"{name}: {bad} of {values.size} values are NaN or infinite. Training diverged or the file was "
                "damaged before it was saved; take an earlier checkpoint."
            )
        if values.size > 1 and name.endswith(".weight"):
            self._varies = self._varies or bool((values != values[0]).any())
        for suffix, start in ((".running_mean", 0.0), (".running_var", 1.0)):
            if name.endswith(suffix):
                self._statistics += 1
                self._seen = self._seen or bool((values != start).any())
        if "norm" in name.rpartition(".")[0] and name.endswith(".weight"):
            self._norms += 1
            # every optimizer moves them with its first step
            self._adjusted = self._adjusted or bool((values != 1).any())

    def conclude(self) -> str:
        """Return what all tensors together show, in a sentence.

        Raises:
            UntrainedError: The weights are constants, BatchNorm saw no image, or no norm was ever adjusted.
        """
        if not self._varies:
            raise UntrainedError("every weight is a constant: nothing was trained, or the file was emptied.")
        if self._statistics and not self._seen:
            raise UntrainedError(
                f"all {self._statistics} BatchNorm statistics are at their start (mean 0, variance 1): this network "
                "never saw an image. Take a checkpoint written after training."
            )
        if self._norms and not self._statistics and not self._adjusted:
            raise UntrainedError(
                f"the weights of all {self._norms} norms are at their start (1): this network took no training step. "
                "Take a checkpoint written after training."
            )
        if self._statistics:
            return "all values are finite, and the statistics of BatchNorm have moved"
        if self._norms:
            return "all values are finite, and the norms have been adjusted"
        return "all values are finite; without a norm nothing tells whether the network was trained"
