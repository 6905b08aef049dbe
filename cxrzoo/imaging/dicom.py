"""A DICOM file or dataset -> the grey image that a reader sees. Never reads an attribute about the patient."""

import io
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000TransferSyntaxes,
)

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import check_size
from cxrzoo.imaging.display import displayed
from cxrzoo.imaging.elements import found, integer, name, value_of
from cxrzoo.imaging.guard import guarded

_SUBJECT = "The DICOM file"


@dataclass(frozen=True)
class _Layout:
    """The attributes that say how pixels are stored (PS3.3 C.7.6.3)."""

    rows: int
    columns: int
    allocated: int
    stored: int
    signed: int

    @property
    def lowest(self) -> int:
        return -(1 << (self.stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        return self.lowest + (1 << self.stored) - 1


def parse(data: bytes) -> Dataset:
    """Return the dataset in the bytes of a DICOM file, with or without the 128-byte preamble.

    Raises:
        ImageError: The bytes are damaged.
    """
    with guarded(_SUBJECT):
        return dcmread(io.BytesIO(data), force=True)


def from_dataset(dataset: Dataset) -> NDArray[np.float32]:
    """Return the image as (rows, columns) in [0, 1], air dark. The dataset is left as it was.

    Raises:
        ImageError: It holds no single grey image of 8 to 16 bits, or is damaged.
    """
    with guarded(_SUBJECT):
        _check_kind(dataset)
        layout = _layout(dataset)
        pixels = decode(dataset, layout)
        return displayed(pixels, dataset, layout.lowest, layout.highest)


def decode(dataset: Dataset, layout: _Layout) -> NDArray[np.integer]:
    """Return the stored values, all of them in the range that the stored bits allow."""
    syntax = _transfer_syntax(dataset)
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = layout.rows, layout.columns
    image.BitsAllocated, image.BitsStored = layout.allocated, layout.stored
    image.HighBit, image.PixelRepresentation = layout.stored - 1, layout.signed
    image["PixelData"] = dataset["PixelData"]
    if not syntax.is_encapsulated:
        _check_length(len(dataset["PixelData"].value), layout)
    # Pillow also offers to read JPEG 2000, but not with more than 8 bits and a sign.
    pixels: NDArray[Any] = pixel_array(image, decoding_plugin="pylibjpeg" if syntax in JPEG2000TransferSyntaxes else "")
    if pixels.shape != (layout.rows, layout.columns):
        raise ImageError(
            f"The decoded picture has shape {pixels.shape}, but {found('Rows', layout.rows)} and "
            f"{found('Columns', layout.columns)}. The file contradicts itself: export it again."
        )
    if pixels.min() < layout.lowest or pixels.max() > layout.highest:
        warnings.warn(
            f"Some pixels lie outside of what {found('BitsStored', layout.stored)} allows and were clipped to "
            f"{layout.lowest}..{layout.highest}.",
            stacklevel=2,
        )
        pixels = pixels.clip(layout.lowest, layout.highest)
    return pixels


#: Computed, digital and film radiography, fluoroscopy, angiography, and what was scanned or photographed
#: (PS3.3 C.7.3.1.1.1). Files without the attribute pass.
_RADIOGRAPHS = ("CR", "DX", "RG", "RF", "XA", "OT", "SC", None)


def _check_kind(dataset: Dataset) -> None:
    """Refuse whatever is not one grey picture, by the reason that helps most."""
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise ImageError("The pixels are floating-point numbers, expected (7FE0,0010) Pixel Data.")
        raise ImageError(
            f"{name('PixelData')} is missing: this DICOM file is not an image, but for example a report or a "
            "presentation state. Give the file of the radiograph."
        )
    interpretation = value_of(dataset, "PhotometricInterpretation")
    if interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(
            f"{found('PhotometricInterpretation', interpretation)}; a chest X-ray must be MONOCHROME1 or "
            "MONOCHROME2. Is this a secondary capture? Export the original image, or convert it to a "
            "greyscale PNG first."
        )
    modality = value_of(dataset, "Modality")
    if modality not in _RADIOGRAPHS:
        expected = ", ".join(filter(None, _RADIOGRAPHS))
        # a code of the standard is shown; anything else may be somebody's text
        code = modality if isinstance(modality, str) and modality.isalpha() and len(modality) <= 4 else "no such code"
        warnings.warn(f"{name('Modality')} is {code}; a radiograph is expected ({expected}).", stacklevel=2)
    integer(dataset, "SamplesPerPixel", 1, 1)
    frames = value_of(dataset, "NumberOfFrames")
    if frames not in (None, 1):
        raise ImageError(
            f"{found('NumberOfFrames', frames)}, expected one frame. Export the frame of interest as an image "
            "of its own."
        )


def _layout(dataset: Dataset) -> _Layout:
    rows, columns = integer(dataset, "Rows", 1, 2**16), integer(dataset, "Columns", 1, 2**16)
    check_size(rows, columns)
    allocated = integer(dataset, "BitsAllocated", 8, 16)
    if allocated not in (8, 16):
        raise ImageError(f"{found('BitsAllocated', allocated)}, expected 8 or 16. Export the image again.")
    stored = integer(dataset, "BitsStored", 8, allocated)
    high_bit = value_of(dataset, "HighBit")
    if high_bit not in (None, stored - 1):
        warnings.warn(
            f"{found('HighBit', high_bit)}, expected {stored - 1}, one less than {name('BitsStored')}; "
            "the lowest bits are used.",
            stacklevel=2,
        )
    return _Layout(rows, columns, allocated, stored, integer(dataset, "PixelRepresentation", 0, 1))


def _transfer_syntax(dataset: Dataset) -> UID:
    """Return how the pixels are encoded; files without a header tell by how they were read."""
    syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if syntax is None:
        implicit, little = getattr(dataset, "original_encoding", (None, None))
        if little is None:
            raise ImageError(f"{found('TransferSyntaxUID', None)}. Set it in the dataset's file_meta.")
        native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        return ImplicitVRLittleEndian if implicit else native
    syntax = UID(syntax)
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise ImageError(
            f"{found('TransferSyntaxUID', syntax)} ({syntax.name}), which no installed decoder reads. Install "
            "pylibjpeg-libjpeg for JPEG and JPEG-LS, or decompress the file (`gdcmconv --raw`, `dcmdjpeg`)."
        )
    return syntax


def _check_length(length: int, layout: _Layout) -> None:
    """Refuse pixel data that does not fit the header; up to a row of padding at the end is common."""
    row = layout.columns * layout.allocated // 8
    expected = layout.rows * row
    if not 0 <= length - expected < max(row, 2):
        raise ImageError(
            f"{name('PixelData')} has {length} bytes, expected {expected} for {layout.rows} rows and "
            f"{layout.columns} columns of {layout.allocated} bits. The file is cut off, or its header is "
            "wrong: export it again."
        )
