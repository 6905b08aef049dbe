"""One compressed frame -> its samples, by the decoders that are installed."""

import importlib.util
import io
import multiprocessing
import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from cxrzoo.errors import ImageError
from cxrzoo.imaging.compressed.rle import decode_rle
from cxrzoo.imaging.compressed.streams import Codestream
from cxrzoo.imaging.compressed.syntaxes import COMMAND, SYNTAXES, DecoderName, Syntax

__all__ = ["SYNTAXES", "can_read", "decode", "require", "usable_decoders"]

_Pixels = NDArray[np.integer[Any]]

# OpenJPEG asks the environment how many threads a picture gets; the result is the same. One picture at a time gets all
# processors, unless the user has said otherwise; where processes share the work, it stays with one. Set once and never
# again: other threads may be reading the environment.
if multiprocessing.parent_process() is None:
    os.environ.setdefault("OPJ_NUM_THREADS", "ALL_CPUS")


def usable_decoders(syntax: Syntax) -> tuple[DecoderName, ...]:
    """Return the decoders of a transfer syntax that this installation has; none of them is loaded for it."""
    return tuple(name for name in syntax.decoders if _has(name, syntax.kind))


def can_read(uid: str) -> bool:
    """Whether this installation decodes a transfer syntax."""
    return uid in SYNTAXES and bool(usable_decoders(SYNTAXES[uid]))


def require(uid: str) -> None:
    """Refuse a transfer syntax that can't be decoded here.

    Raises:
        ImageError: It is none for single images, or a package is missing; the text says what adds it.
    """
    if uid not in SYNTAXES:
        # Only the standard's own may be repeated; any other may be the identifier of something else.
        standard = re.fullmatch(r"1\.2\.840\.10008\.[0-9.]{1,24}", uid)
        known = uid if standard else "none of DICOM's own"
        raise ImageError(
            f"The transfer syntax (0002,0010) is {known}, expected one that `cxrzoo doctor` lists. Convert the file "
            "first, for example with `gdcmconv --raw`.",
            "unsupported",
            "header",
        )
    if not can_read(uid):
        raise _missing_decoder(SYNTAXES[uid].name, SYNTAXES[uid].remedy)


def decode(data: bytes, stream: Codestream, reduction: int = 0) -> _Pixels:
    """Return the samples of a frame that `codestreams.inspect` and `check` let pass.

    They come as (height, width) or (height, width, components), with the codestream's own values: unsigned, or
    signed if it is so. Colour is left as it is stored, except that JPEG 2000 undoes its own transform, as its decoding
    process includes that: YBR_RCT and YBR_ICT come out as red, green and blue. A JPEG comes with the components that
    PhotometricInterpretation names: luma first for YBR_FULL and YBR_FULL_422, red first for RGB; chroma that is stored
    at half its size is enlarged.

    Args:
        reduction: How often to halve both sides, `stream.reductions` at most; odd sides are rounded up.

    Raises:
        ImageError: The decoder is missing, or what it returns isn't of the size that was announced.
    """
    if not 0 <= reduction <= stream.reductions:
        raise ValueError(f"found reduction={reduction}, expected 0 to {stream.reductions}")
    content = data[stream.start : stream.stop]
    if stream.kind == "rle":
        pixels = _decode_rle(content, stream)
    elif stream.kind == "jpeg2000":
        pixels = _decode_jpeg2000(content, stream, reduction)
    elif stream.kind == "jpeg" and stream.bits == 8:
        pixels = _decode_jpeg(content, stream, reduction)
    else:
        pixels = _decode_by_imagecodecs(content, stream)
    sides = tuple(-(-side >> reduction) for side in (stream.height, stream.width))
    expected = sides if stream.components == 1 else (*sides, stream.components)
    if pixels.shape != expected:
        raise ImageError(
            f"The decoded picture has shape {pixels.shape}, expected {expected}. The compressed pixels are damaged: "
            "export the image again.",
            "damaged",
            "decode",
        )
    return pixels


def _has(name: DecoderName, kind: str) -> bool:
    if name == "Pillow":
        return features.check("jpg_2000" if kind == "jpeg2000" else "jpg") is True
    return name == "cxrzoo" or importlib.util.find_spec(name) is not None


def _missing_decoder(what: str, remedy: str = COMMAND) -> ImageError:
    return ImageError(
        f"The pixels are encoded as {what}, which no installed package decodes. Run `{remedy}`, or convert the file "
        "first, with `gdcmconv --raw` or `dcmdjpeg`.",
        "missing-decoder",
        "header",
    )


def _decode_rle(data: bytes, stream: Codestream) -> _Pixels:
    height, width, components = stream.height, stream.width, stream.components
    if _has("imagecodecs", "rle"):
        import imagecodecs

        depth = data[0] // components  # the number of byte planes, which is checked
        size = height * width * components * depth
        try:
            plain = imagecodecs.dicomrle_decode(data, f"<u{depth}", out=size)
        except (imagecodecs.DicomrleError, ValueError):
            plain = b""
        # It refuses planes that are longer than they should be, as some writers pad them.
        if len(plain) == size:
            samples = np.frombuffer(plain, f"<u{depth}").reshape(components, height, width)
            return samples[0] if components == 1 else np.moveaxis(samples, 0, 2)
    return decode_rle(data, height, width, components)


def _decode_jpeg(data: bytes, stream: Codestream, reduction: int) -> _Pixels:
    picture = Image.open(io.BytesIO(data), formats=("JPEG",))
    if reduction:
        picture.draft(None, (stream.width >> reduction, stream.height >> reduction))
    # Pillow guesses from markers what the components are, and converts them; with the same name for both the source
    # and the target, libjpeg converts nothing (JpegDecode.c: rawmode and jpegmode).
    picture.tile = [tile._replace(args=(picture.mode, picture.mode)) for tile in picture.tile]
    return np.asarray(picture)


def _decode_jpeg2000(data: bytes, stream: Codestream, reduction: int) -> _Pixels:
    if stream.components > 1 and stream.bits > 8:
        raise ImageError(
            f"The compressed pixels have colours of {stream.bits} bits, expected 8. Export the image again.",
            "unsupported",
            "decode",
        )
    picture = Image.open(io.BytesIO(data), formats=("JPEG2000",))
    if reduction:
        # As `picture.reduce = reduction` would, but that rounds sides to the nearest where OpenJPEG rounds up.
        picture._size = (-(-stream.width >> reduction), -(-stream.height >> reduction))
        # codec, halvings, layers (0: all), file descriptor (-1: none), length
        arguments = ("j2k", reduction, 0, -1, len(data))
        picture.tile = [tile._replace(extents=(0, 0, *picture.size), args=arguments) for tile in picture.tile]
    pixels: _Pixels = np.asarray(picture)
    # Pillow spreads values to 8 or 16 bits and adds half of the range to signed ones (Jpeg2KDecode.c); both is undone.
    pixels = pixels >> (8 * pixels.itemsize - stream.bits)
    if stream.signed:
        pixels = (pixels.astype(np.int32) - (1 << (stream.bits - 1))).astype(f"i{pixels.itemsize}")
    return pixels


def _decode_by_imagecodecs(data: bytes, stream: Codestream) -> _Pixels:
    if not _has("imagecodecs", stream.kind):
        raise _missing_decoder({"jpeg-ls": "JPEG-LS", "jpeg-lossless": "JPEG Lossless"}.get(stream.kind, "12-bit JPEG"))
    import imagecodecs

    if stream.kind == "jpeg-ls":
        return np.asarray(imagecodecs.jpegls_decode(data))
    # the same name for both means that nothing is converted
    colours = "GRAYSCALE" if stream.components == 1 else "RGB"
    return np.asarray(imagecodecs.jpeg8_decode(data, colorspace=colours, outcolorspace=colours))
