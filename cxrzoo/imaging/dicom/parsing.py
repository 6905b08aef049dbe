"""The bytes of a DICOM file -> the attributes that an image takes, and no others."""

import io
import zlib

from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxrzoo.errors import ImageError
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
    "FloatPixelData",
    "DoubleFloatPixelData",
    "PixelData",
]

#: A deflated file may grow a thousandfold; the largest picture that is read has 200 MB.
_MAX_INFLATED = 300 * 2**20


def parse(data: bytes) -> Dataset:
    """Return the needed attributes in the bytes of a DICOM file, with or without the 128-byte preamble.

    Raises:
        ImageError: The bytes are damaged.
    """
    with guarded("The DICOM file", "parse"):
        file = io.BytesIO(data)
        read_preamble(file, force=True)
        meta = read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=_beyond_meta)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return dcmread(io.BytesIO(data), force=True, specific_tags=NEEDED)
        inflated = io.BytesIO(_inflate(data[file.tell() :]))
        tags: list[BaseTag | int] = [Tag(keyword) for keyword in NEEDED]
        dataset = read_dataset(inflated, is_implicit_VR=False, is_little_endian=True, specific_tags=tags)
        dataset.file_meta = FileMetaDataset(meta)
        return dataset


def _beyond_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != 2


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
