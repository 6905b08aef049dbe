"""What JPEG and TIFF files say of themselves, checked before a decoder sees their pixels."""

from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import check_size

#: Markers of frames, coded by Huffman or arithmetic, and of a scan with its least length (ITU-T T.81, B).
_SEQUENTIAL, _PROGRESSIVE = (0xC0, 0xC1, 0xC9), (0xC2, 0xCA)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
_SCAN, _SCAN_HEADER = 0xDA, 10
_COMPONENTS = {1: "grey", 3: "colour", 4: "CMYK"}

#: A camera writes some dozens; keeps a file of empty segments from taking minutes.
_MAX_SEGMENTS = 2**14

#: Every scan of a progressive JPEG goes over the whole picture: ten at 100 megapixels, and twice that to be safe.
_MAX_SCANNED = 2 * 10**9

#: TIFF 6.0 and its supplements: how strips may be compressed.
_COMPRESSIONS = {1: "uncompressed", 5: "LZW", 8: "Deflate", 32946: "Deflate", 32773: "PackBits"}
_PHOTOMETRIC = {0: "grey", 1: "grey", 2: "colour", 3: "palette", 5: "CMYK"}
_FORMATS = {1: "", 3: " float"}


def check_jpeg(data: bytes) -> str:
    """Return what kind of JPEG it is, once its headers make sense and its end is there.

    Raises:
        ImageError: The file is damaged, cut short, too large, or coded in a way that is not read.
    """
    position, frame = 2, 0
    for _ in range(_MAX_SEGMENTS):
        if position + 4 > len(data):
            raise _truncated_jpeg()
        mark, marker = data[position], data[position + 1]
        if mark != 0xFF:
            raise _damaged("JPEG", "has no segment where one should begin")
        if marker == 0xFF:  # a marker may be padded
            position += 1
            continue
        if marker in (*_SEQUENTIAL, *_PROGRESSIVE, *_OTHER_FRAMES):
            frame = position
        if marker == _SCAN:
            if not frame:
                raise _damaged("JPEG", "has no header of its picture")
            # In compressed data 0xFF is followed by 0: this is the end, and no coincidence.
            if data.rfind(b"\xff\xd9", position + _SCAN_HEADER) < 0:
                raise _truncated_jpeg()
            return _check_frame(data, frame, position)
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    raise _damaged("JPEG", f"has more than {_MAX_SEGMENTS:,} segments")


def _check_frame(data: bytes, frame: int, scan: int) -> str:
    """Check the header of the frame (B.2.2) whose first scan (B.2.3) is given, and name the kind."""
    marker, bits, components = data[frame + 1], data[frame + 4], data[frame + 9]
    height, width = int.from_bytes(data[frame + 5 : frame + 7]), int.from_bytes(data[frame + 7 : frame + 9])
    if marker in _OTHER_FRAMES or bits != 8 or components not in _COMPONENTS:
        coding = "lossless or hierarchical" if marker in _OTHER_FRAMES else f"{bits}-bit"
        raise ImageError(
            f"Found a {coding} JPEG of {components} components, expected 8 bits and 1, 3 or 4 components. Save the "
            "radiograph as a PNG, or give the DICOM file.",
            "unsupported",
            "header",
        )
    check_size(height, width)
    several = marker in _PROGRESSIVE or data[scan + 4] < components
    if several and data.count(b"\xff\xda", scan) * height * width > _MAX_SCANNED:
        raise ImageError(
            "Found a JPEG that goes over its picture more often than any program writes. Save it anew.",
            "too-large",
            "header",
        )
    # No code is shorter than a bit (T.81 C.2): a block of 8 x 8 takes two, in the first progressive scan one.
    blocks = -(-height // 8) * -(-width // 8)
    if 8 * (len(data) - scan) < blocks * (1 if marker in _PROGRESSIVE else 2):
        raise _truncated_jpeg()
    return f"JPEG, {bits}-bit {_COMPONENTS[components]}"


def check_tiff(picture: Image.Image, size: int) -> str:
    """Return what kind of TIFF the opened page is, once its tags make sense and its strips lie in the file.

    Raises:
        ImageError: The page is damaged, cut short, too large, or stored in a way that is not read.
    """
    assert isinstance(picture, TiffImageFile)
    tags = picture.tag_v2
    check_size(picture.height, picture.width)
    samples, bits = tags.get(277, 1), tags.get(258, (1,))[0]
    compression, photometric = tags.get(259, 1), tags.get(262, 0)
    number = (tags.get(339, (1,)))[0]
    if (
        compression not in _COMPRESSIONS
        or photometric not in _PHOTOMETRIC
        or number not in _FORMATS
        or (samples > 1 and (bits != 8 or tags.get(284, 1) != 1))
        or (number == 1 and bits > 16)
    ):
        raise ImageError(
            f"Found a TIFF of {samples} samples of {bits} bits (photometric interpretation {photometric}, compression "
            f"{compression}, sample format {number}), expected grey of up to 16 bits or of 32-bit floats, or 8-bit "
            "RGB, uncompressed or with LZW, Deflate or PackBits. Save the radiograph as a 16-bit grey PNG.",
            "unsupported",
            "header",
        )
    _check_strips(tags, size, picture.width * picture.height * samples * bits // 8 if compression == 1 else 0)
    return f"TIFF, {bits}-bit{_FORMATS[number]} {_PHOTOMETRIC[photometric]}, {_COMPRESSIONS[compression]}"


def _check_strips(tags: Any, size: int, least: int) -> None:
    """Refuse a page whose strips or tiles don't cover it, or lie beyond the file: Pillow leaves them black."""
    width, height = tags[256], tags[257]
    if 322 in tags:
        across, down, offsets, counts = tags.get(322), tags.get(323), tags.get(324), tags.get(325)
    else:
        across, down, offsets, counts = width, tags.get(278, height), tags.get(273), tags.get(279)
    if not (isinstance(across, int) and isinstance(down, int) and across > 0 and down > 0 and offsets and counts):
        raise _damaged("TIFF", "does not say where its pixels are")
    if len(offsets) != len(counts) or len(offsets) < -(-width // across) * -(-height // down):
        raise _damaged("TIFF", "has pixels for a part of its picture only")
    if sum(counts) < least or any(offset + count > size for offset, count in zip(offsets, counts, strict=True)):
        raise ImageError("The TIFF file ends before its picture does. Copy or download it again.", "truncated", "parse")


def _truncated_jpeg() -> ImageError:
    return ImageError("The JPEG file ends before its picture does. Copy or download it again.", "truncated", "parse")


def _damaged(name: str, what: str) -> ImageError:
    return ImageError(f"The {name} file {what}. Copy or download it again, or save it anew.", "damaged", "parse")
