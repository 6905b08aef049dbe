"""A real radiograph in the sizes and encodings that hospitals send: what `preprocess.py` reads."""

import io
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

#: The detector of most chest stands: 35 x 43 cm at 0.139 mm.
HEIGHT, WIDTH = 3056, 2544
#: Standard deviation in levels of 12 bits: what the real radiograph has at its own size, by Immerkaer's estimate.
#: Without it, the enlarged image is smoother than any detector's, and decodes faster.
NOISE = 8

Pixels = NDArray[np.unsignedinteger]

#: How one frame of so many bits is compressed without loss, by transfer syntax; None: by pydicom and its plugins.
_ENCODERS: dict[uid.UID, Callable[[Pixels, int], bytes]] = {
    uid.JPEG2000Lossless: lambda pixels, bits: imagecodecs.jpeg2k_encode(
        pixels, reversible=True, bitspersample=bits, codecformat="j2k"
    ),
    uid.HTJ2KLossless: lambda pixels, bits: imagecodecs.htj2k_encode(pixels, reversible=True),
    uid.JPEGLosslessSV1: lambda pixels, bits: imagecodecs.jpeg8_encode(
        pixels, lossless=True, predictor=1, bitspersample=bits
    ),
    uid.JPEGBaseline8Bit: lambda pixels, bits: picture(pixels, "JPEG"),
}


def real(name: str = "RG1_UNCR") -> Dataset:
    """Return a radiograph of the NEMA compression samples that pydicom-data carries: MONOCHROME1, 15 bits."""
    return dcmread(get_testdata_file(f"{name}.dcm", download=False))


def resized(pixels: NDArray[np.float32], height: int, width: int) -> Pixels:
    """Return pixels in [0, 1] at a size as 12 bits; where that enlarges them, the noise that is lost is put back."""
    plane = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)) * 4095
    if height > pixels.shape[0]:
        plane = plane + np.random.default_rng(0).normal(0, NOISE, plane.shape)
    return np.rint(plane).clip(0, 4095).astype(np.uint16)


def grey() -> NDArray[np.float32]:
    """Return the real radiograph in [0, 1], air dark."""
    return (1 - real().pixel_array / np.float32(2**15 - 1)).clip(0, 1).astype(np.float32)


def dicom(pixels: Pixels, bits: int, syntax: uid.UID = uid.ExplicitVRLittleEndian) -> bytes:
    """Return a DICOM file with so many bits stored, and a window over all of them."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, "2.25.1"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8 * pixels.itemsize, bits, bits - 1
    dataset.PixelRepresentation = 0
    dataset.WindowCenter, dataset.WindowWidth = 2 ** (bits - 1), 2**bits
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if bits == 8 else "OW"
    if syntax in _ENCODERS:
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.PixelData = encapsulate([_ENCODERS[syntax](pixels, bits)])
        dataset["PixelData"].VR = "OB"
    elif syntax.is_compressed:  # RLE by pydicom, JPEG-LS by pyjpegls
        dataset.compress(syntax, generate_instance_uid=False)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def picture(pixels: Pixels, kind: str) -> bytes:
    """Return a PNG or JPEG file."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return out.getvalue()


def make(room: Path) -> dict[str, Path]:
    """Write one file a row of the benchmark, by what it is called there."""
    large, small, tiny = (resized(grey(), *size) for size in ((HEIGHT, WIDTH), (1024, 1024), (512, 512)))
    eight = (large >> 4).astype(np.uint8)
    files = {
        "JPEG 2000.dcm": dicom(large, 12, uid.JPEG2000Lossless),
        "uncompressed.dcm": dicom(large, 12),
        "RLE.dcm": dicom(large, 12, uid.RLELossless),
        "JPEG Lossless SV1.dcm": dicom(large, 12, uid.JPEGLosslessSV1),
        "JPEG-LS.dcm": dicom(large, 12, uid.JPEGLSLossless),
        "HTJ2K, 16 bits.dcm": dicom(large << 4, 16, uid.HTJ2KLossless),  # the encoder knows no 12 bits
        "JPEG Baseline, 8 bits.dcm": dicom(eight, 8, uid.JPEGBaseline8Bit),
        "1024 px, 8 bits.png": picture((small >> 4).astype(np.uint8), "PNG"),
        "1024 px, 16 bits.png": picture(small << 4, "PNG"),
        "512 px.jpg": picture((tiny >> 4).astype(np.uint8), "JPEG"),
    }
    for name, data in files.items():
        (room / name).write_bytes(data)
    return {name: room / name for name in files}
