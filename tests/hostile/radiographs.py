"""One small radiograph in every encoding that is read; honest, and what mutants and lies are made of."""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from phantoms import radiograph, saved
from pydicom import uid

from hostile.elements import Dataset, Element, dicom, elements, encapsulate, encapsulated
from hostile.seeds import Seed

ROWS, COLUMNS = 64, 48
EIGHT, TWELVE, SIXTEEN = (radiograph(ROWS, COLUMNS, bits=bits) for bits in (8, 12, 16))


@dataclass(frozen=True)
class Encoding:
    """How one radiograph is stored; `shown` is what must be read, and `tolerance` how far that may differ."""

    syntax: str
    dataset: Dataset
    shown: np.ndarray = field(repr=False)
    tolerance: float = 0

    @property
    def data(self) -> bytes:
        """The whole file."""
        return dicom(self.dataset, self.syntax)


def radiograph_elements(stored: int = 12, **values: object) -> Dataset:
    """Return a dataset that describes a grey radiograph and lacks only its pixels; None takes an element out."""
    plain = {
        "SOPClassUID": uid.DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "2.25.1",
        "Modality": "DX",
        "PatientName": "CANARY^NAME",
        "PatientID": "CANARY-ID",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": ROWS,
        "Columns": COLUMNS,
        "BitsAllocated": 8 if stored == 8 else 16,
        "BitsStored": stored,
        "HighBit": stored - 1,
        "PixelRepresentation": 0,
    }
    return elements(**{key: value for key, value in (plain | values).items() if value is not None})


def native(pixels: np.ndarray = TWELVE, stored: int = 12, **values: object) -> Dataset:
    """Return a dataset with its pixels as they are."""
    return radiograph_elements(stored, **values) | {
        "PixelData": Element("OB" if stored == 8 else "OW", pixels.tobytes())
    }


def compressed(frame: bytes, stored: int = 12, **values: object) -> Dataset:
    """Return a dataset with its pixels compressed, in a single fragment."""
    return radiograph_elements(stored, **values) | {"PixelData": encapsulated(encapsulate([frame]))}


def run_lengths(*planes: bytes) -> bytes:
    """Return an RLE frame (PS3.5 G) of the bytes of each plane."""
    segments = []
    for plane in planes:
        runs = ((value, len(list(run))) for value, run in itertools.groupby(plane))
        packed = b"".join(
            bytes([257 - min(128, length - start), value]) if length - start > 1 else bytes([0, value])
            for value, length in runs
            for start in range(0, length, 128)
        )
        segments.append(packed + b"\0" * (len(packed) % 2))
    starts = itertools.accumulate(map(len, segments), initial=64)
    table = [len(segments), *itertools.islice(starts, len(segments)), *[0] * (15 - len(segments))]
    return np.array(table, "<u4").tobytes() + b"".join(segments)


@functools.cache
def frames() -> dict[str, bytes]:
    """Return the radiograph's codestreams, by how they were made."""
    import imagecodecs

    wide, narrow = TWELVE, EIGHT
    return {
        "rle": run_lengths((wide >> 8).astype(np.uint8).tobytes(), (wide & 255).astype(np.uint8).tobytes()),
        "rle 8": run_lengths(narrow.tobytes()),
        "jpeg": saved(narrow, "JPEG", quality=95),
        "jpeg 12": imagecodecs.jpeg8_encode(wide, bitspersample=12, level=98),
        "jpeg lossless": imagecodecs.jpeg8_encode(wide, bitspersample=12, lossless=True, predictor=4),
        "jpeg lossless 1": imagecodecs.jpeg8_encode(wide, bitspersample=12, lossless=True, predictor=1),
        "jpeg-ls": imagecodecs.jpegls_encode(SIXTEEN),
        "jpeg-ls near": imagecodecs.jpegls_encode(SIXTEEN, level=2),
        "j2k": _j2k(wide, reversible=True),
        "j2k lossy": _j2k(wide, level=60, reversible=False),
        "j2k 8": _j2k(narrow, bits=8, reversible=True),
        "htj2k": imagecodecs.htj2k_encode(SIXTEEN),
        "htj2k lossy": imagecodecs.htj2k_encode(SIXTEEN, level=0.0001, reversible=False),
    }


def _j2k(pixels: np.ndarray, bits: int = 12, level: int = 0, *, reversible: bool) -> bytes:
    import imagecodecs

    return bytes(
        imagecodecs.jpeg2k_encode(
            pixels, level=level, codecformat="j2k", bitspersample=bits, reversible=reversible, numthreads=1
        )
    )


def _colour(planar: int) -> Dataset:
    pixels = np.stack([EIGHT] * 3, axis=0 if planar else 2)
    return native(
        pixels, 8, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=planar, Modality="OT"
    )


def _palette() -> Dataset:
    ramp = np.arange(256, dtype="<u2") * 257
    tables = {
        f"{colour}PaletteColorLookupTable{part}": Element(vr, value)
        for colour in ("Red", "Green", "Blue")
        for part, vr, value in (("Descriptor", "US", [256, 0, 16]), ("Data", "OW", ramp.tobytes()))
    }
    return native(EIGHT, 8, PhotometricInterpretation="PALETTE COLOR", Modality="OT") | tables


def _luma() -> Dataset:
    pixels = np.stack([EIGHT, *[np.full_like(EIGHT, 128)] * 2], axis=2)
    return native(
        pixels, 8, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL", PlanarConfiguration=0, Modality="OT"
    )


@functools.cache
def encodings() -> dict[str, Encoding]:
    """Return the radiograph in every encoding, by name."""
    wide, narrow, widest = TWELVE / 4095, EIGHT / 255, SIXTEEN / 65535
    made = frames()
    inverse = native(4095 - TWELVE, PhotometricInterpretation="MONOCHROME1")
    centred = native((TWELVE.astype("<i2") - 2048), PixelRepresentation=1)
    plain: dict[str, Callable[[], Encoding]] = {
        "explicit": lambda: Encoding(uid.ExplicitVRLittleEndian, native(), wide),
        "explicit 8": lambda: Encoding(uid.ExplicitVRLittleEndian, native(EIGHT, 8), narrow),
        "implicit": lambda: Encoding(uid.ImplicitVRLittleEndian, native(), wide),
        "big endian": lambda: Encoding(uid.ExplicitVRBigEndian, native(TWELVE.astype(">u2")), wide),
        "deflated": lambda: Encoding(uid.DeflatedExplicitVRLittleEndian, native(), wide),
        "rle": lambda: Encoding(uid.RLELossless, compressed(made["rle"]), wide),
        "rle 8": lambda: Encoding(uid.RLELossless, compressed(made["rle 8"], 8), narrow),
        "jpeg": lambda: Encoding(uid.JPEGBaseline8Bit, compressed(made["jpeg"], 8), narrow, 0.05),
        "jpeg 12": lambda: Encoding(uid.JPEGExtended12Bit, compressed(made["jpeg 12"]), wide, 0.05),
        "jpeg lossless": lambda: Encoding(uid.JPEGLossless, compressed(made["jpeg lossless"]), wide),
        "jpeg lossless 1": lambda: Encoding(uid.JPEGLosslessSV1, compressed(made["jpeg lossless 1"]), wide),
        "jpeg-ls": lambda: Encoding(uid.JPEGLSLossless, compressed(made["jpeg-ls"], 16), widest),
        "jpeg-ls near": lambda: Encoding(
            uid.JPEGLSNearLossless, compressed(made["jpeg-ls near"], 16), widest, 2.1 / 65535
        ),
        "j2k": lambda: Encoding(uid.JPEG2000Lossless, compressed(made["j2k"]), wide),
        "j2k lossy": lambda: Encoding(uid.JPEG2000, compressed(made["j2k lossy"]), wide, 0.05),
        "j2k 8": lambda: Encoding(uid.JPEG2000Lossless, compressed(made["j2k 8"], 8), narrow),
        "htj2k": lambda: Encoding(uid.HTJ2KLossless, compressed(made["htj2k"], 16), widest),
        "htj2k lossy": lambda: Encoding(uid.HTJ2K, compressed(made["htj2k lossy"], 16), widest, 0.05),
        "monochrome1": lambda: Encoding(uid.ExplicitVRLittleEndian, inverse, wide),
        "signed": lambda: Encoding(uid.ExplicitVRLittleEndian, centred, wide),
        "palette": lambda: Encoding(uid.ExplicitVRLittleEndian, _palette(), narrow),
        "rgb": lambda: Encoding(uid.ExplicitVRLittleEndian, _colour(0), narrow),
        "rgb planar": lambda: Encoding(uid.ExplicitVRLittleEndian, _colour(1), narrow),
        "ybr": lambda: Encoding(uid.ExplicitVRLittleEndian, _luma(), narrow),
    }
    return {name: make() for name, make in plain.items()}


@functools.cache
def make_seed(part: str, name: str) -> Seed:
    """Return an honest file of which mutants change the "header" or the "codestream": all before or in the pixels."""
    encoding = encodings()[name]
    data = encoding.data
    rest = {key: each for key, each in encoding.dataset.items() if key != "PixelData"}
    # deflated, everything behind the header of the file is one stream, and that header starts with its own length
    first = _start(data) if encoding.syntax == uid.DeflatedExplicitVRLittleEndian else len(dicom(rest, encoding.syntax))
    return Seed(data, ((first, len(data)),) if part == "header" else ((0, first),))


def _start(data: bytes) -> int:
    return 144 + int.from_bytes(data[140:144], "little")


#: Mutants are made of these.
NAMES = (
    "explicit", "explicit 8", "implicit", "big endian", "deflated", "rle", "jpeg", "jpeg 12", "jpeg lossless",
    "jpeg-ls", "jpeg-ls near", "j2k", "j2k lossy", "htj2k", "palette", "rgb planar", "ybr",
)  # fmt: skip
COMPRESSED = (
    "deflated", "rle", "jpeg", "jpeg 12", "jpeg lossless", "jpeg-ls", "jpeg-ls near", "j2k", "j2k lossy", "htj2k",
)  # fmt: skip
