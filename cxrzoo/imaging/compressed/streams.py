"""What the compressed pixels of one frame say of themselves, and the words for refusing them."""

from dataclasses import dataclass
from typing import Literal

from cxrzoo.errors import ImageCode, ImageError
from cxrzoo.imaging.arrays import check_size

StreamKind = Literal["jpeg", "jpeg-lossless", "jpeg-ls", "jpeg2000", "rle"]

_ADVICE: dict[ImageCode, str] = {
    "damaged": "Export the image again, or open it in a viewer to see whether it is whole.",
    "truncated": "The file is cut off: copy it or export it again.",
    "unsupported": "Decompress the file first (`gdcmconv --raw`), or export it again.",
    "too-large": "Export the image again, as one plain radiograph.",
    "contradiction": "The file contradicts itself: export it again.",
}


@dataclass(frozen=True)
class Codestream:
    """The size of a picture by its own header, and where in the data it lies.

    `bits` is how many bits of a sample are its value. `reductions` is how often a decoder can halve the picture at
    hardly any cost; JPEG 2000 does so by the 5/3 wavelet if it is `reversible`, else by the 9/7. RLE says nothing of
    its size: until `codestreams.check` has filled it in from the tags, `height`, `width` and `bits` are 0 and
    `components` counts byte planes. `luma_first` says of three components whether they are luma and chroma, or red,
    green and blue, as they come from the decoder; None: the stream doesn't say.
    """

    kind: StreamKind
    height: int
    width: int
    components: int
    bits: int
    signed: bool
    reductions: int
    start: int
    stop: int
    reversible: bool = False
    luma_first: bool | None = None


def refusal(found: str, code: ImageCode) -> ImageError:
    """Return the error for compressed pixels of which `found` is true; it continues "The compressed pixels"."""
    return ImageError(f"The compressed pixels {found}. {_ADVICE[code]}", code, "codestream")


def number(data: bytes, at: int, size: int) -> int:
    """Return the big-endian number of `size` bytes at an offset.

    Raises:
        ImageError: The data end before.
    """
    if at + size > len(data):
        raise refusal(f"end within a header, after {len(data)} bytes", "truncated")
    return int.from_bytes(data[at : at + size], "big")


def segment_at(data: bytes, at: int) -> bytes:
    """Return the content of the marker segment whose length stands at an offset, as JPEG and JPEG 2000 have them.

    Raises:
        ImageError: The length is impossible, or the data end before.
    """
    length = number(data, at, 2)
    if length < 2:
        raise refusal(f"have a segment of {length} bytes, expected at least 2", "damaged")
    if at + length > len(data):
        raise refusal("end within a segment", "truncated")
    return data[at + 2 : at + length]


def check_picture(height: int, width: int, components: int) -> None:
    """Refuse what no radiograph is, before anything is spent on it.

    Raises:
        ImageError: No pixels, too many, or neither grey nor red, green and blue.
    """
    if not (height and width):
        raise refusal(f"are {height} x {width} by their own header, expected at least one pixel", "damaged")
    try:
        check_size(height, width)
    except ImageError as error:
        raise ImageError(f"In the header of the compressed pixels: {error}", "too-large", "codestream") from None
    if components not in (1, 3):
        raise refusal(f"have {components} components, expected 1 (grey) or 3 (colour)", "unsupported")


def halvings(height: int, width: int, most: int) -> int:
    """Return how often a picture can be halved, `most` at best, before nothing is left of a side."""
    return min(most, min(height, width).bit_length() - 1)


def check_end(data: bytes, stop: int) -> None:
    """Refuse anything but padding behind the end.

    One byte of padding is the standard's (PS3.5 A.4); writers differ in its value, and in how many they add.

    Raises:
        ImageError: There is something else.
    """
    rest = data[stop:]
    if len(rest) > 1 and rest.strip(b"\x00\xff"):
        raise refusal(f"go on for {len(rest)} bytes behind their end, expected padding", "damaged")
