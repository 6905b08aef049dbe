"""How the pixels of a DICOM image are stored: the attributes of PS3.3 C.7.6.3, checked before anything is decoded."""

from dataclasses import dataclass

from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import check_size
from cxrzoo.imaging.elements import found, integer, name, value_of

GREY = ("MONOCHROME1", "MONOCHROME2")
#: In colour, luma is what counts; all of these have it, or red, green and blue (PS3.3 C.7.6.3.1.2).
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
PALETTE = "PALETTE COLOR"
_MAX_FRAMES = 2**31 - 1


@dataclass(frozen=True)
class Layout:
    """The attributes that say how pixels are stored; `frame` counts from 0."""

    syntax: UID
    interpretation: str
    rows: int
    columns: int
    samples: int
    planar: bool
    allocated: int
    stored: int
    high_bit: int
    signed: bool
    frames: int
    frame: int

    @property
    def lowest(self) -> int:
        """The least value that the stored bits can hold."""
        return -(1 << (self.stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The greatest value that the stored bits can hold."""
        return self.lowest + (1 << self.stored) - 1

    @property
    def subsampled(self) -> bool:
        """Whether two pixels share their colour, as native pixels of YBR_FULL_422 do."""
        return self.interpretation == "YBR_FULL_422" and not self.syntax.is_encapsulated

    @property
    def frame_bytes(self) -> int:
        """The size of one frame of native pixels."""
        samples = 2 if self.subsampled else self.samples
        return self.rows * self.columns * samples * self.allocated // 8


def read_layout(dataset: Dataset, frame: int | None) -> Layout:
    """Return how the pixels are stored.

    Raises:
        ImageError: It is no image, of a kind that is not read, or an attribute makes no sense.
    """
    _check_pixels(dataset)
    interpretation = value_of(dataset, "PhotometricInterpretation")
    if interpretation not in (*GREY, *COLOUR, PALETTE):
        raise ImageError(
            f"{found('PhotometricInterpretation', interpretation)}, expected one of "
            f"{', '.join((*GREY, PALETTE, *COLOUR))}. Export the original image, or save it as a grey PNG.",
            "header" if interpretation is None else "unsupported",
            "header",
        )
    samples = integer(dataset, "SamplesPerPixel", 1, 3)
    if samples != (3 if interpretation in COLOUR else 1):
        raise ImageError(
            f"{found('SamplesPerPixel', samples)} and {found('PhotometricInterpretation', interpretation)}, which "
            "contradict each other. Export the image again.",
            "contradiction",
            "header",
        )
    rows, columns = integer(dataset, "Rows", 1, 2**16), integer(dataset, "Columns", 1, 2**16)
    check_size(rows, columns)
    allocated = integer(dataset, "BitsAllocated", 1, 64)
    if allocated not in ((8, 16) if samples == 1 else (8,)):
        expected = "8 or 16" if samples == 1 else "8 for colour"
        raise ImageError(
            f"{found('BitsAllocated', allocated)}, expected {expected}. Export the image again, with 8 to 16 bits.",
            "unsupported",
            "header",
        )
    stored = integer(dataset, "BitsStored", 8, allocated)
    high_bit = value_of(dataset, "HighBit")
    high_bit = high_bit if isinstance(high_bit, int) else stored - 1
    signed = integer(dataset, "PixelRepresentation", 0, 1) == 1
    if signed and interpretation not in GREY:
        raise ImageError(
            f"{found('PixelRepresentation', 1)} and {found('PhotometricInterpretation', interpretation)}: colours "
            "have no sign. Export the image again.",
            "contradiction",
            "header",
        )
    planar = samples == 3 and integer(dataset, "PlanarConfiguration", 0, 1) == 1
    frames, chosen = _choose_frame(dataset, frame)
    return Layout(
        _transfer_syntax(dataset),
        interpretation,
        rows,
        columns,
        samples,
        planar,
        allocated,
        stored,
        high_bit,
        signed,
        frames,
        chosen,
    )


def _check_pixels(dataset: Dataset) -> None:
    if "PixelData" in dataset:
        return
    if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
        raise ImageError(
            "The pixels are floating-point numbers, expected (7FE0,0010) Pixel Data. Export the image with integers.",
            "unsupported",
            "header",
        )
    if "Rows" in dataset:
        raise ImageError(
            f"{name('PixelData')} is missing, though {name('Rows')} is there: the file is cut off, or its pixels were "
            "taken out. Copy it again.",
            "truncated",
            "header",
        )
    if not any(keyword in dataset for keyword in ("SOPClassUID", "Modality")):
        raise ImageError(
            "The DICOM file holds none of the attributes of an image: it is damaged, or cut off. Copy it again.",
            "damaged",
            "header",
        )
    raise ImageError(
        f"{name('PixelData')} is missing: this DICOM file is not an image, but for example a report or a "
        "presentation state. Give the file of the radiograph.",
        "not-an-image",
        "header",
    )


def _choose_frame(dataset: Dataset, frame: int | None) -> tuple[int, int]:
    """Return the number of frames, and the one to read."""
    frames = 1 if value_of(dataset, "NumberOfFrames") is None else integer(dataset, "NumberOfFrames", 1, _MAX_FRAMES)
    if frame is None and frames > 1:
        raise ImageError(
            f"{found('NumberOfFrames', frames)}, expected one frame. Name one, from frame=0 to frame={frames - 1}, "
            "or export the frame of interest as an image of its own.",
            "several-images",
            "header",
        )
    chosen = frame or 0
    if not 0 <= chosen < frames:
        raise ImageError(
            f"Found frame={chosen} for an image with {frames} frame{'s' * (frames > 1)}, expected 0 to {frames - 1}.",
            "several-images",
            "header",
        )
    return frames, chosen


def _transfer_syntax(dataset: Dataset) -> UID:
    """Return how the pixels are encoded; files without a header tell by how they were read."""
    syntax = getattr(dataset, "file_meta", {}).get("TransferSyntaxUID")
    if syntax:
        return UID(syntax)
    implicit, little = getattr(dataset, "original_encoding", (None, None))
    if little is None:
        raise ImageError(f"{found('TransferSyntaxUID', None)}. Set it in the dataset's file_meta.", "header", "header")
    native = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return ImplicitVRLittleEndian if implicit else native
