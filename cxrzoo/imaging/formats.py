"""What a file is, judged by its first bytes; its name is never asked."""

from typing import Literal

from cxrzoo.errors import ImageError

Raster = Literal["PNG", "JPEG", "TIFF"]

#: How each kind of raster begins. TIFF: both byte orders, and both again with offsets of 64 bits (BigTIFF).
_RASTERS: dict[Raster, tuple[bytes, ...]] = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "TIFF": (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"),
}

#: Offset, bytes and name of what people hand in by mistake.
_OTHERS = (
    (0, b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file outside of DICOM"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 codestream outside of DICOM"),
    (0, b"%PDF", "a PDF"),
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (8, b"WEBP", "a WebP"),
    (4, b"ftyp", "a HEIF, AVIF or MP4"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (0, b"NRRD", "an NRRD volume"),
    (344, b"n+1\x00", "a NIfTI volume"),
    (0, b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull` for the image)"),
)
_MARKUP = ((b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"), (b"<?xml", "an XML file"))


def kind(data: bytes) -> Literal["dicom", "raster"]:
    """Return which reader takes the file.

    Raises:
        ImageError: It is neither DICOM nor a PNG, JPEG or TIFF; the text says what it looks like.
    """
    # First, since the 128 bytes before the mark may hold anything, even the header of a TIFF (PS3.10 7.1)
    if data[128:132] == b"DICM":
        return "dicom"
    if raster(data):
        return "raster"
    for offset, magic, name in _OTHERS:
        if data[offset:].startswith(magic) if offset == 0 else data[offset : offset + len(magic)] == magic:
            raise _unsupported(name)
    text = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, name in _MARKUP:
        if text.startswith(start):
            raise _unsupported(name)
    if _bare_dicom(data):
        return "dicom"
    raise _unsupported("a file of unknown kind" if data else "an empty file")


def raster(data: bytes) -> Raster | None:
    """Return which kind of raster the file says it is."""
    return next((name for name, starts in _RASTERS.items() if data.startswith(starts)), None)


def _bare_dicom(data: bytes) -> bool:
    """Whether the file starts with a DICOM element, as files from before 1993 and some exports do."""
    if data[:2] in (b"\x02\x00", b"\x08\x00"):
        length = int.from_bytes(data[4:8], "little")
        implicit = length % 2 == 0 and length <= min(1024, len(data) - 8)
    else:
        implicit = False
    explicit = data[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08") and data[4:6] in _VALUE_REPRESENTATIONS
    return implicit or explicit


#: Those that elements (0008,0000) to (0008,0018) and (0002,0000) to (0002,0010) have.
_VALUE_REPRESENTATIONS = (b"UL", b"CS", b"SH", b"DA", b"TM", b"UI", b"OB", b"LO")


def _unsupported(found: str) -> ImageError:
    return ImageError(f"Found {found}, expected a DICOM, PNG, JPEG or TIFF file with one radiograph.", "unknown-kind")
