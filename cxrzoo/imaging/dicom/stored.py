"""Pixel Data of a DICOM file -> the samples of one frame, as they are stored (PS3.5 8 and Annex A.4)."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from cxrzoo.errors import ImageError
from cxrzoo.imaging.arrays import Shrink
from cxrzoo.imaging.compressed import codecs, codestreams
from cxrzoo.imaging.compressed.streams import Codestream
from cxrzoo.imaging.dicom.encapsulation import find_codestream
from cxrzoo.imaging.dicom.layout import Layout
from cxrzoo.imaging.elements import found, name
from cxrzoo.imaging.report import Report

#: Photometric interpretations whose first sample is luma where a decoder leaves them as they are.
_LUMA_FIRST = ("YBR_FULL", "YBR_FULL_422")

_Cells = NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True)
class Samples:
    """The cells of one frame, (rows, columns) or (rows, columns, 3), and the stored value of each bit pattern.

    `cells` are uint8 or uint16. `values` has one entry for each of their 256 or 65,536 patterns: bits that
    are no part of the value are gone, and the sign is taken into account. Three samples are luma and chroma if
    `luma_first`, else red, green and blue.
    """

    cells: _Cells
    values: NDArray[np.int64]
    luma_first: bool = False


def read_samples(dataset: Dataset, layout: Layout, report: Report, shrink: Shrink | None) -> Samples:
    """Return one frame, made smaller by at most what `shrink` allows where that saves time.

    Raises:
        ImageError: Pixel Data contradict the attributes, are damaged, or no installed decoder reads them.
    """
    codecs.require(layout.syntax)
    factor = shrink(layout.rows, layout.columns) if shrink else 1
    data = _bytes_of(dataset, layout)
    if layout.syntax.is_encapsulated:
        return _decompress(dataset, data, layout, report, factor)
    cells = _native(data, dataset, layout)
    values = _patterns(cells, layout.stored, layout.signed, _alignment(cells, layout, report))
    return _averaged(Samples(cells, values, layout.interpretation in _LUMA_FIRST), layout, report, factor)


def _alignment(cells: _Cells, layout: Layout, report: Report) -> int:
    """Return by how many bits values are shifted to the left: 0, or as High Bit says where pixels agree with it.

    The standard has allowed High Bit to be anything but one less than Bits Stored in old editions only (PS3.5 8.1.1).
    Many files say so by mistake: then there are values where none should be.
    """
    used = int(np.bitwise_or.reduce(cells, axis=None))
    shift = layout.high_bit + 1 - layout.stored
    aligned = 0 < shift <= layout.allocated - layout.stored and used >> layout.stored > 0 == used & ((1 << shift) - 1)
    if shift:
        bits = "values are taken from the bits that it names" if aligned else "the lowest bits are used"
        report.warn(
            "high-bit",
            f"{found('HighBit', layout.high_bit)}, expected {layout.stored - 1}, one less than {name('BitsStored')}; "
            f"{bits}.",
        )
    elif used >> layout.stored and not layout.signed:
        # overlays of old files, or leftovers (PS3.5 8.1.1)
        report.step(f"bits above the {layout.stored} stored ones left out")
    return shift if aligned else 0


def _averaged(samples: Samples, layout: Layout, report: Report, factor: int) -> Samples:
    """Return means over squares, where patterns are numbers: no sign, and no bits that mean other things."""
    cells = samples.cells
    if factor < 2 or cells.ndim > 2 or layout.signed or int(cells.max()) > layout.highest:
        return samples
    report.reduce(factor)
    report.step(f"averaged over squares of {factor} x {factor} stored pixels")
    return dataclasses.replace(samples, cells=reduce_area(cells, factor))


def reduce_area(cells: _Cells, factor: int) -> _Cells:
    """Return the rounded means of squares of `factor` x `factor` pixels; those across the far edges repeat the last."""
    height, width = (-(-side // factor) for side in cells.shape)
    if cells.shape != (height * factor, width * factor):
        missing = height * factor - cells.shape[0], width * factor - cells.shape[1]
        cells = np.pad(cells, ((0, missing[0]), (0, missing[1])), mode="edge")
    rows = cells.reshape(height, factor, width * factor)
    sums = np.add.reduce(rows, axis=1, dtype=np.uint32).reshape(height, width, factor).sum(axis=2, dtype=np.uint32)
    means: _Cells = ((sums + factor * factor // 2) // (factor * factor)).astype(cells.dtype)
    return means


def _bytes_of(dataset: Dataset, layout: Layout) -> bytes:
    element = dataset["PixelData"]
    if element.is_undefined_length and not layout.syntax.is_encapsulated:
        raise ImageError(
            f"{name('PixelData')} comes in fragments, as compressed pixels do, but the transfer syntax says "
            f"{layout.syntax.name}. The file contradicts itself: export it again.",
            "contradiction",
            "header",
        )
    if element.is_buffered:
        element.value.seek(0)
        return bytes(element.value.read())
    if isinstance(element.value, bytes):
        return element.value
    raise ImageError(f"{name('PixelData')} is empty. Export the image again.", "truncated", "header")


def _native(data: bytes, dataset: Dataset, layout: Layout) -> _Cells:
    """Return the samples of uncompressed pixels."""
    _check_length(len(data), layout)
    start = layout.frame * layout.frame_bytes
    little = layout.syntax.is_little_endian
    if layout.allocated == 16:
        flat = np.frombuffer(data, "<u2" if little else ">u2", layout.frame_bytes // 2, start)
        if not little:
            flat = flat.astype("<u2")
        return flat.reshape(layout.rows, layout.columns)
    if not little and dataset["PixelData"].VR == "OW":
        # Two samples of 8 bits share a word, whose bytes are swapped (PS3.5 7.3).
        data = np.frombuffer(data, ">u2", len(data) // 2).astype("<u2").tobytes()
    flat = np.frombuffer(data, np.uint8, layout.frame_bytes, start)
    if layout.subsampled:
        # Two lumas and the colour they share (PS3.3 C.7.6.3.1.2)
        groups = flat.reshape(-1, 4)
        colour = groups[:, 2:].repeat(2, axis=0)
        return np.concatenate((groups[:, :2].reshape(-1, 1), colour), axis=1).reshape(layout.rows, layout.columns, 3)
    if layout.samples == 1:
        return flat.reshape(layout.rows, layout.columns)
    if layout.planar:
        return np.moveaxis(flat.reshape(3, layout.rows, layout.columns), 0, 2)
    return flat.reshape(layout.rows, layout.columns, 3)


def _check_length(length: int, layout: Layout) -> None:
    """Refuse pixel data that does not fit the header; up to a row of padding at the end is common."""
    expected = layout.frame_bytes * layout.frames
    row = layout.frame_bytes // layout.rows
    if not 0 <= length - expected < max(row, 2):
        raise ImageError(
            f"{name('PixelData')} has {length} bytes, expected {expected} for {layout.rows} rows and "
            f"{layout.columns} columns of {layout.allocated} bits"
            + (f", {layout.frames} frames" if layout.frames > 1 else "")
            + ". The file is cut off, or its header is wrong: export it again.",
            "truncated" if length < expected else "contradiction",
            "header",
        )


def _decompress(dataset: Dataset, data: bytes, layout: Layout, report: Report, factor: int) -> Samples:
    """Return the samples of a compressed frame, checked against the header before any codec sees it."""
    offsets = dataset.get("ExtendedOffsetTable")
    offsets = offsets if isinstance(offsets, bytes) else None
    codestream = find_codestream(data, layout.frames, layout.frame, offsets)
    stream = codestreams.inspect(codestream, layout.syntax)
    stream = codestreams.check(
        stream, layout.rows, layout.columns, layout.samples, layout.allocated, layout.stored, report
    )
    # Patterns of a sign that the codestream does not know of are no numbers to filter.
    reduction = min(factor.bit_length() - 1, stream.reductions) if stream.signed == layout.signed else 0
    decoded = codecs.decode(codestream, stream, reduction)
    if reduction:
        if stream.kind == "jpeg2000":
            report.reduce_by_wavelet(reduction, stream.reversible)
        else:
            report.reduce(2**reduction)
        report.step(f"decoded at 1/{report.factor} of its size")
    # Codecs extend the sign: back to the bit pattern, which PixelRepresentation gives its meaning.
    cells: _Cells = decoded.view(f"u{decoded.itemsize}")
    # The sign stands in the highest stored bit, also where the codestream has more bits and knows of no sign.
    bits = min(stream.bits, layout.stored) if layout.signed and not stream.signed else stream.bits
    values = _patterns(cells, bits, layout.signed)
    # Not masked: a codestream deeper than the header says holds real values, which are too bright, not overlays.
    luma_first = _has_luma_first(stream, layout, report)
    samples = Samples(cells, values.clip(layout.lowest, layout.highest), luma_first)
    return samples if stream.reductions else _averaged(samples, layout, report, factor)


def _has_luma_first(stream: Codestream, layout: Layout, report: Report) -> bool:
    """Return whether the first of three samples is luma; the codestream knows better than the attributes."""
    said = layout.interpretation in _LUMA_FIRST
    if stream.luma_first in (None, said) or layout.samples == 1:
        return said
    report.warn(
        "colour-model",
        f"{found('PhotometricInterpretation', layout.interpretation)}, but the compressed pixels are "
        f"{'luma and chroma' if stream.luma_first else 'red, green and blue'}, and are read so.",
    )
    return not said


def _patterns(cells: NDArray[Any], bits: int, signed: bool, shift: int = 0) -> NDArray[np.int64]:
    """Return the value of each bit pattern that a cell may hold, of which `bits` count, the lowest but for `shift`."""
    patterns = np.arange(2 ** (8 * cells.itemsize), dtype=np.int64) >> shift & ((1 << bits) - 1)
    return np.where(patterns >> (bits - 1), patterns - (1 << bits), patterns) if signed else patterns
