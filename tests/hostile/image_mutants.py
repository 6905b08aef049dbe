"""Family "image mutants": honest radiographs, and pictures, with some of their bytes changed."""

import functools
import random
import struct
import zlib

from phantoms import saved
from PIL import Image

from hostile import picture_files, radiographs
from hostile.mutants import mutate
from hostile.radiographs import EIGHT, SIXTEEN
from hostile.seeds import Seed
from hostile.verdicts import ANY_IMAGE, Verdict, shown

#: Edits hit the elements before the pixels; or the pixels.
HEADERS = tuple(f"header/{name}" for name in radiographs.NAMES)
CODESTREAMS = tuple(f"codestream/{name}" for name in radiographs.COMPRESSED)
#: The sums of a PNG's chunks are right again in those that are mended, or hardly a mutant would come any further.
PICTURES = tuple(
    f"picture/{name}"
    for name in (
        "png 8", "png 16", "png palette", "png rgba", "png interlaced", "jpeg", "jpeg colour", "jpeg progressive",
        "tiff 8", "tiff 16", "tiff lzw", "png 8 mended", "png 16 mended", "png palette mended", "png rgba mended",
    )
)  # fmt: skip
NAMES = (*HEADERS, *CODESTREAMS, *PICTURES)


def list_ids() -> list[str]:
    """Return the id of every kind of mutant, and of every honest file; the seed says which mutant."""
    return [f"{kind}/{name}" for name in NAMES for kind in ("honest", "mutant")]


def make(case: str, seed: int) -> tuple[bytes, Verdict]:
    """Return a file and the verdict on it."""
    kind, name = case.split("/", 1)
    honest = make_seed(name)
    if kind == "honest":
        return honest.data, shown()
    generator, mutant = random.Random(f"{case}/{seed}"), honest.data
    while mutant == honest.data:  # mending may take back what was changed
        mutant = mutate(honest, generator)
        mutant = mend(mutant) if name.endswith("mended") else mutant
    return mutant, ANY_IMAGE


@functools.cache
def make_seed(title: str) -> Seed:
    """Return the honest file of a kind of mutants."""
    part, name = title.split("/")
    if part != "picture":
        return radiographs.make_seed(part, name)
    grey, name = Image.fromarray(EIGHT), name.removesuffix(" mended")
    exif = Image.Exif()
    exif[0x0112] = 6
    match name:
        case "png 8":
            data = saved(grey)
        case "png 16":
            data = saved(SIXTEEN)
        case "png palette":
            data = saved(grey.convert("P"))
        case "png rgba":
            data = saved(grey.convert("RGBA"))
        case "png interlaced":
            data = picture_files.interlaced()
        case "tiff 8":
            data = saved(grey, "TIFF")
        case "tiff 16":
            data = saved(SIXTEEN, "TIFF")
        case "tiff lzw":
            data = saved(grey, "TIFF", compression="tiff_lzw")
        case "jpeg colour":
            data = saved(grey.convert("RGB"), "JPEG", quality=95, exif=exif.tobytes())
        case _:
            data = saved(grey, "JPEG", quality=95, progressive="progressive" in name)
    return Seed(data, (_data_of(data),))


def _data_of(data: bytes) -> tuple[int, int]:
    """Return about where the pixels are: most of a file, but for its two ends."""
    markers = {b"\x89P": b"IDAT", b"\xff\xd8": b"\xff\xda"}
    if data[:2] in markers:
        return data.index(markers[data[:2]]) + 10, len(data) - 12
    directory = int.from_bytes(data[4:8], "little")
    return (8, directory) if directory > len(data) // 2 else (directory + 200, len(data))


def mend(data: bytes) -> bytes:
    """Return a PNG whose chunks have the sums that they should have, as far as there are chunks."""
    mended, position = bytearray(data), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 8 + length
        if end + 4 > len(data):
            break
        mended[end : end + 4] = struct.pack(">I", zlib.crc32(data[position + 4 : end]))
        position = end + 4
    return bytes(mended)
