"""A backbone for another number of equal input channels: exact where the constants allow it, refused where not."""

from typing import TYPE_CHECKING, Any

from cxrzoo.errors import FolderError
from cxrzoo.manifest import Preprocessing

if TYPE_CHECKING:
    from torch import nn


def change_channels(model: "nn.Module", first_conv: str, in_chans: int) -> None:
    """Make the first convolution of a network take `in_chans` equal channels.

    A convolution of equal channels is the convolution of one of them with the sum of its filters; summed in double
    precision, so that only the last rounding to float32 is left.

    Raises:
        FolderError: `in_chans` is neither 1 nor 3.
    """
    from torch import nn

    if in_chans not in (1, 3):
        raise FolderError(
            f"in_chans is {in_chans!r}, expected 1 or 3: radiographs are grey, networks take one or three."
        )
    conv: Any = model.get_submodule(first_conv)
    if conv.in_channels == in_chans:
        return
    summed = conv.weight.detach().double().sum(dim=1, keepdim=True)
    weight = (summed / in_chans).expand(-1, in_chans, -1, -1).to(conv.weight.dtype)
    conv.weight = nn.Parameter(weight.contiguous())
    conv.in_channels = in_chans


def insist_on_exact(record: Preprocessing, in_chans: int) -> None:
    """Refuse a change of channels that would change the features.

    With one mean and std for each channel, a border that is padded with zeros means another grey in each of them, and
    no single channel can stand for all.

    Raises:
        FolderError: The constants differ between the channels.
    """
    if in_chans != record.input_size[0] and not record.equal_channels:
        raise FolderError(
            f"in_chans={in_chans} would not be the same network: its channels are normalised with different constants "
            f"(mean {list(record.mean)}, std {list(record.std)}). Leave in_chans out, since grey images are repeated "
            f"to {record.input_size[0]} channels; or pass inexact_channels=True and accept other features, by percents."
        )
