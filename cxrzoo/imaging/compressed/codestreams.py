"""Compressed pixels -> what their own header says, checked before any codec sees a byte of them."""

import dataclasses
from collections.abc import Callable

from cxrzoo.errors import ImageError
from cxrzoo.imaging.compressed import rle
from cxrzoo.imaging.compressed.jpeg2000_headers import inspect_jpeg2000
from cxrzoo.imaging.compressed.jpeg_headers import inspect_jpeg
from cxrzoo.imaging.compressed.streams import Codestream, check_picture, refusal
from cxrzoo.imaging.compressed.syntaxes import SYNTAXES
from cxrzoo.imaging.report import Report

__all__ = ["Codestream", "check", "inspect"]

_READERS: dict[str, Callable[[bytes], Codestream]] = {
    "jpeg": inspect_jpeg,
    "jpeg-lossless": inspect_jpeg,
    "jpeg-ls": inspect_jpeg,
    "jpeg2000": inspect_jpeg2000,
    "rle": rle.inspect_rle,
}
_NAMES = {"jpeg": "JPEG", "jpeg-lossless": "JPEG Lossless", "jpeg-ls": "JPEG-LS", "jpeg2000": "JPEG 2000"}


def inspect(data: bytes, syntax: str) -> Codestream:
    """Return what one compressed frame says of itself. Reads markers only, and trusts no length among them.

    Raises:
        ImageError: It is damaged, cut off, a bomb, of a kind that isn't read, or not what the transfer syntax says.
    """
    expected = SYNTAXES[syntax].kind
    stream = _READERS[expected](data)
    if stream.kind != expected:
        raise refusal(
            f"are {_NAMES[stream.kind]}, but the transfer syntax says {SYNTAXES[syntax].name}", "contradiction"
        )
    return stream


def check(
    stream: Codestream, rows: int, columns: int, samples: int, allocated: int, stored: int, report: Report
) -> Codestream:
    """Return the stream as it is to be decoded, if it agrees with the attributes of the file.

    RLE, which says so little of itself, comes back with the size that the attributes give.

    Raises:
        ImageError: Codestream and attributes contradict each other.
    """
    if stream.kind == "rle":
        return _check_rle(stream, rows, columns, samples, allocated, stored)
    for keyword, told, value in (
        ("Rows", stream.height, rows),
        ("Columns", stream.width, columns),
        ("SamplesPerPixel", stream.components, samples),
    ):
        if told != value:
            raise _contradiction(keyword, value, f"say {told}")
    if stream.bits > allocated:
        raise _contradiction("BitsAllocated", allocated, f"have {stream.bits} bits a sample")
    if stream.bits != stored:
        from cxrzoo.imaging.elements import found, name

        report.warn(
            "bits",
            f"{found('BitsStored', stored)}, but the compressed pixels have {stream.bits} bits. What is beyond "
            f"{name('BitsStored')} is cut off: look whether the image is too bright or too dark.",
        )
    return stream


def _check_rle(stream: Codestream, rows: int, columns: int, samples: int, allocated: int, stored: int) -> Codestream:
    planes = samples * -(-allocated // 8)
    if stream.components != planes:
        raise _contradiction("BitsAllocated", allocated, f"have {stream.components} byte planes, expected {planes}")
    check_picture(rows, columns, samples)
    rle.check_amount(stream, rows * columns)
    return dataclasses.replace(stream, height=rows, width=columns, components=samples, bits=stored)


def _contradiction(keyword: str, value: int, told: str) -> ImageError:
    from cxrzoo.imaging.elements import found  # loads pydicom, which only a file with tags needs

    return refusal(f"{told}, but {found(keyword, value)}", "contradiction")
