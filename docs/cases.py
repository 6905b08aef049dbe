"""The files on the page: a real radiograph as it is, and rewritten so that one attribute decides what is seen."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.data import get_testdata_file

Grey = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One file, and what a reader of it must see: 0 is black, 1 is white."""

    title: str
    path: Path
    truth: Grey


def encodings() -> Iterator[Case]:
    """Yield the radiograph of the NEMA compression samples as it lies in pydicom-data, in its four encodings."""
    for name, what in (
        ("RG1_UNCR", "uncompressed"),
        ("RG1_J2KR", "JPEG 2000, lossless"),
        ("RG1_UNCI", "uncompressed, after lossy compression"),
        ("RG1_J2KI", "JPEG 2000, lossy"),
    ):
        path = Path(get_testdata_file(f"{name}.dcm", download=False))
        dataset = dcmread(path)
        center, width = float(dataset.WindowCenter), float(dataset.WindowWidth)
        # PS3.3 C.11.2.1.2.1, then MONOCHROME1
        windowed = np.clip((dataset.pixel_array - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
        yield Case(f"{name}: {what}", path, 1 - windowed)


def radiograph() -> Grey:
    """Return the same radiograph from its darkest to its brightest pixel, air dark, at half its size."""
    stored = dcmread(get_testdata_file("RG1_UNCR.dcm", download=False)).pixel_array.astype(np.float32)
    small = np.asarray(Image.fromarray(stored).reduce(2), np.float64)
    return (small.max() - small) / np.ptp(small)


def _write(path: Path, stored: NDArray[np.integer], **attributes: object) -> Path:
    """Write a DICOM file; `attributes` are those that matter, on top of a plain one of 12 bits."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.DigitalXRayImageStorageForPresentation, "2.25.1"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME2", 1
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation = 16, 12, 0
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    dataset.PixelData = stored.astype("<i2" if dataset.PixelRepresentation else "<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    dataset.save_as(path, enforce_file_format=True)
    return path


def _levels(grey: Grey, low: int, high: int) -> NDArray[np.int32]:
    return np.rint(low + grey * (high - low)).astype(np.int32)


def _window(low: int, high: int) -> dict[str, float]:
    """Return the window of which `low` is the last black and `high` the first white value."""
    return {"WindowCenter": (low + high + 1) / 2, "WindowWidth": high - low + 1}


def polarity(room: Path) -> Iterator[Case]:
    """Yield one image stored in both polarities."""
    grey, window = radiograph(), _window(0, 4095)
    stored = _levels(grey, 0, 4095)
    yield Case("MONOCHROME2", _write(room / "2.dcm", stored, **window), grey)
    inverse = _write(room / "1.dcm", 4095 - stored, PhotometricInterpretation="MONOCHROME1", **window)
    yield Case("MONOCHROME1, the same image", inverse, grey)


def windows(room: Path) -> Iterator[Case]:
    """Yield images of which the window says what their range is."""
    grey = radiograph()
    stored = _levels(grey, 1200, 2200)
    stored[40:120, 40:60] = stored[100:120, 40:90] = 4095  # a lead letter, as technicians put it on the plate
    stored[:, -25:] = 0  # the edge of the detector
    truth = np.clip((stored - 1200) / 1000, 0, 1)
    yield Case("Window 1200 to 2200 of 12 bits", _write(room / "w.dcm", stored, **_window(1200, 2200)), truth)
    stored = _levels(grey, 0, 4095)
    shallow = _write(room / "12.dcm", stored, BitsStored=16, **_window(0, 4095))
    yield Case("Window 0 to 4095, Bits Stored 16", shallow, grey)


def rescaled(room: Path) -> Iterator[Case]:
    """Yield an image whose window counts from an intercept."""
    grey = radiograph()
    values = {"RescaleSlope": 1, "RescaleIntercept": -1024, **_window(0, 1023)}
    path = _write(room / "r.dcm", _levels(grey, 1024, 2047), **values)
    yield Case("Rescale Intercept -1024, window 0 to 1023", path, grey)


def padded(room: Path) -> Iterator[Case]:
    """Yield images with what was not exposed filled up."""
    grey = radiograph()
    outside = np.ones(grey.shape, bool)
    outside[90:-60, 60:-60] = False
    truth = np.where(outside, 0, grey)
    stored = np.where(outside, 0, 4095 - _levels(grey, 0, 4095))
    values = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0, **_window(0, 4095)}
    yield Case("MONOCHROME1, Pixel Padding Value 0", _write(room / "p.dcm", stored, **values), truth)
    stored = np.where(outside, -32768, _levels(grey, 0, 4095))
    values = {"PixelRepresentation": 1, "BitsStored": 16, "PixelPaddingValue": -32768, **_window(0, 4095)}
    yield Case("Signed, Pixel Padding Value -32768", _write(room / "q.dcm", stored, **values), truth)


def pictures(room: Path) -> Iterator[Case]:
    """Yield PNG files of 16 bits."""
    grey = radiograph()
    for name, title, highest in (
        ("full", "16 bits", 65535),
        ("twelve", "12 bits in 16, which no tag says", 4095),
    ):
        out = io.BytesIO()
        Image.fromarray(_levels(grey, 0, highest).astype(np.uint16)).save(out, "PNG")
        (room / f"{name}.png").write_bytes(out.getvalue())
        yield Case(title, room / f"{name}.png", grey)
