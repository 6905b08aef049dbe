"""Weights that were never trained, or went wrong in training, are no backbone."""

import numpy as np

from cxrzoo.errors import UntrainedError
from cxrzoo.numbers import as_floats


class Health:
    """Looks at each tensor of a network as it passes, and at the end says whether it was ever trained."""

    def __init__(self) -> None:
        self._statistics = 0
        self._moved = False

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
        for suffix, start in ((".running_mean", 0.0), (".running_var", 1.0)):
            if name.endswith(suffix):
                self._statistics += 1
                self._moved = self._moved or bool((values != start).any())

    def conclude(self) -> None:
        """Look at what all tensors together show.

        Raises:
            UntrainedError: BatchNorm saw no image.
        """
        if self._statistics and not self._moved:
            raise UntrainedError(
                f"all {self._statistics} BatchNorm statistics are at their start (mean 0, variance 1): this network "
                "never saw an image. Take a checkpoint written after training."
            )
