"""The bytes of a DICOM file -> the attributes that an image takes, and no others."""

import io
import zlib
from typing import Literal

from pydicom import DataElement, Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxrzoo.errors import ImageError
from cxrzoo.imaging.dicom.encapsulation import find_end
from cxrzoo.imaging.elements import name
from cxrzoo.imaging.guard import guarded

#: Whatever is not in this list is never parsed: it costs time, and most of it is about the patient.
NEEDED = [
    "SOPClassUID",
    "Modality",
    "PresentationIntentType",
    "BodyPartExamined",
    "ViewPosition",
    "ViewCodeSequence",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "PixelAspectRatio",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelIntensityRelationship",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "WindowCenterWidthExplanation",
    "VOILUTFunction",
    "VOILUTSequence",
    "PresentationLUTShape",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData",
    "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
]
#: Float, Double Float and plain Pixel Data, of which a file has one.
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_UNDEFINED = 0xFFFFFFFF

#: How many short attributes may come before Specific Character Set.
_BEFORE_CHARACTER_SET = 8

#: A deflated file may grow a thousandfold; the largest picture that is read has 200 MB.
_MAX_INFLATED = 300 * 2**20


def parse(data: bytes) -> Dataset:
    """Return the needed attributes in the bytes of a DICOM file, with or without the 128-byte preamble.

    Raises:
        ImageError: The bytes are damaged, or end too early.
    """
    with guarded("The DICOM file", "parse"):
        file = io.BytesIO(data)
        read_preamble(file, force=True)
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_beyond_meta)
        start = file.tell()
        deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
        if deflated:
            data, start = _inflate(data[start:]), 0
        file = io.BytesIO(data)
        _blank_character_set(file, data, start)
        if deflated:
            tags: list[BaseTag | int] = [Tag(keyword) for keyword in NEEDED]
            dataset = read_dataset(file, False, True, stop_when=_at_pixels, specific_tags=tags)
            dataset.file_meta = FileMetaDataset(meta)
        else:
            dataset = dcmread(file, force=True, specific_tags=NEEDED, stop_before_pixels=True)
        _add_pixels(dataset, data, file.tell())
    return dataset


def _beyond_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag in _PIXELS


def _blank_character_set(file: io.BytesIO, data: bytes, start: int) -> None:
    """Overwrite Specific Character Set with blanks: pydicom would import the module of Python that it names.

    No attribute that is needed holds text in another alphabet. Only lengths of groups and of the file come before it.
    """
    order: Literal["little", "big"] = "big" if data[start : start + 2] == b"\x00\x08" else "little"
    for _ in range(_BEFORE_CHARACTER_SET):
        group, element = (int.from_bytes(data[at : at + 2], order) for at in (start, start + 2))
        explicit = data[start + 4 : start + 6].isalpha()
        length = int.from_bytes(data[start + 6 if explicit else start + 4 : start + 8], order)
        if (group, element) == (0x0008, 0x0005):
            file.seek(start + 8)
            file.write(b" " * min(length, len(data) - start - 8))
            file.seek(0)
        if (group, element) >= (0x0008, 0x0005) or length > _BEFORE_CHARACTER_SET * 8:
            return
        start += 8 + length


def _add_pixels(dataset: Dataset, data: bytes, start: int) -> None:
    """Add the element at `start`, the first that holds pixels, without another copy of the file in between."""
    if start >= len(data):
        return
    implicit, little = dataset.original_encoding
    order: Literal["little", "big"] = "little" if little else "big"
    group, number = (int.from_bytes(data[start + at : start + at + 2], order) for at in (0, 2))
    if (group << 16 | number) not in _PIXELS:
        return
    size = 8 if implicit else 12
    vr = "OW" if implicit else data[start + 4 : start + 6].decode("ascii")
    length = int.from_bytes(data[start + size - 4 : start + size], order)
    value, undefined = data[start + size :], length == _UNDEFINED
    if undefined:
        value = value[: find_end(value)]
    elif length > len(value):
        raise ImageError(
            f"{name('PixelData')} has {len(value)} bytes, expected {length}: the file is cut off. Copy it again.",
            "truncated",
            "parse",
        )
    else:
        value = value[:length]
    dataset[group << 16 | number] = DataElement(
        group << 16 | number, vr, value, is_undefined_length=undefined, already_converted=True
    )


def _inflate(data: bytes) -> bytes:
    """Return deflated bytes in full, but never more than the largest picture takes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = inflater.decompress(data, _MAX_INFLATED)
    if inflater.unconsumed_tail:
        raise ImageError(
            f"The deflated DICOM file holds more than {_MAX_INFLATED // 2**20} MiB, expected one radiograph. "
            "Export it without compression.",
            "too-large",
            "parse",
        )
    if not inflater.eof:
        raise ImageError("The deflated DICOM file ends too early. Copy it again.", "truncated", "parse")
    return inflated
