"""Small made-up radiographs: seeded arrays, DICOM datasets and files, PNG and JPEG files, all in memory."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import UID, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

#: Stands for anything that may identify a patient; must never come back out.
CANARY = "CANARY"

IDENTIFYING = {
    "PatientName": f"{CANARY}^NAME",
    "PatientID": f"{CANARY}-ID",
    "PatientComments": f"{CANARY} comments",
    "InstitutionName": f"{CANARY} hospital",
    "AccessionNumber": f"{CANARY}-ACC",
    "StudyDescription": f"{CANARY} study",
}


def radiograph(height: int, width: int, *, bits: int = 8, seed: int = 0) -> np.ndarray:
    """Return a bright body with two dark lungs, an edge and noise, over the whole range of `bits`."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = np.exp(-(x**2) * 1.5 - y**2 * 0.3)
    lungs = sum(np.exp(-((x - side) ** 2) * 12 - (y + 0.1) ** 2 * 3) for side in (-0.45, 0.45))
    noise = np.random.default_rng(seed).normal(0, 0.03, (height, width))
    picture = body - 0.6 * lungs + 0.3 * (x + y > 0.9) + noise
    picture = (picture - picture.min()) / max(float(np.ptp(picture)), 1e-9)
    return np.rint(picture * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def make_dataset(pixels: Any, *, stored: int = 12, **elements: Any) -> FileDataset:
    """Return a DICOM image of `pixels` (signed where one is negative); `elements` are set last, None removes."""
    pixels = np.atleast_2d(np.asarray(pixels))
    signed = int(pixels.min() < 0)
    allocated = 8 if stored == 8 else 16
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["phantom"])
    dataset = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "DX"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, stored - 1
    dataset.PixelRepresentation = signed
    data = pixels.astype(f"<{'i' if signed else 'u'}{allocated // 8}").tobytes()
    dataset.PixelData = data + bytes(len(data) % 2)
    dataset["PixelData"].VR = "OB" if allocated == 8 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


def make_table(entries: list[int], *, first: int = 0, bits: int = 8, packed: bool = False) -> list[Dataset]:
    """Return the value of a Modality or VOI LUT Sequence with one table."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    if packed:
        item.add_new("LUTData", "OW", np.array(entries, dtype=np.uint8).tobytes())
    else:
        item.add_new("LUTData", "US", entries)
    return [item]


def dicom_file(dataset: Dataset, syntax: UID | str = ExplicitVRLittleEndian, *, preamble: bool = True) -> bytes:
    """Return the dataset as the bytes of a file, compressed or re-encoded to `syntax`."""
    syntax = UID(syntax)
    if syntax.is_compressed and not syntax.is_deflated:
        dataset.compress(syntax, generate_instance_uid=False)
    elif not syntax.is_little_endian and dataset.BitsAllocated == 16:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    buffer = io.BytesIO()
    if preamble:
        dataset.save_as(buffer, enforce_file_format=True)
    else:
        del dataset.file_meta, dataset.preamble
        dataset.save_as(buffer, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return buffer.getvalue()


def saved(picture: Image.Image | np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    """Return a PIL image or array as the bytes of an image file."""
    buffer = io.BytesIO()
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(buffer, format=format, **options)
    return buffer.getvalue()


def bare_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Return a PNG with any header over any data, for what Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
