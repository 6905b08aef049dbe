"""Nothing about a patient leaves the input: 25 canaries in 300 files, looked for in every byte that comes out."""

import base64
import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import phantoms
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

#: What must never come back out: keyword or place -> text. All different, so that a find tells where it came from.
CANARIES = {
    "PatientName": "QUETZALCOATL^XOCHITL",
    "PatientID": "MRN7391042",
    "OtherPatientIDs": "ALT5526190",
    "PatientBirthDate": "19470823",
    "PatientBirthName": "MAIDENWRIGLEY",
    "PatientAddress": "17 Plumtree Wharf",
    "PatientTelephoneNumbers": "0049-555-83126",
    "PatientComments": "nephew of the mayor",
    "AccessionNumber": "ACC8850213",
    "StudyDate": "20310419",
    "StudyTime": "043719.83",
    "StudyDescription": "follow-up Zweigelt",
    "SeriesDescription": "portable bedside Q7",
    "StudyInstanceUID": "1.2.826.0.1.3680043.77123.4",
    "SeriesInstanceUID": "1.2.826.0.1.3680043.77123.5",
    "InstitutionName": "Klinikum Ostwald",
    "InstitutionAddress": "Hafenstrasse 114b",
    "ReferringPhysicianName": "BRAMBLETHWAITE^ADA",
    "OperatorsName": "TECHNICIAN-ODO",
    "DeviceSerialNumber": "SN-QX-661-08",
    "private tag": "PRIVATE-KESTREL",
    "overlay": "OVERLAYTEXTURA",
    "file name": "wendelmuth_file",
    "folder name": "ward-Ypsilon-9",
    "metadata of a picture": "Photo of Ferdinand Amadeus",
}
ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "latin-1": lambda text: text.encode("latin-1"),
    "utf-8": lambda text: text.encode("utf-8"),
    "utf-16le": lambda text: text.encode("utf-16le"),
    "utf-16be": lambda text: text.encode("utf-16be"),
    "base64": lambda text: base64.b64encode(text.encode())[:-4],
}
SYNTAXES = (ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, DeflatedExplicitVRLittleEndian)
FILES, FAILING = 300, 100

#: Everything a user does with files, with everything switched on that makes libraries talk.
SCRIPT = """
import contextlib, io, logging, sys, traceback, warnings
from pathlib import Path
logging.basicConfig(level=logging.DEBUG, filename=sys.argv[2])
warnings.simplefilter("always")
import pydicom
pydicom.config.debug(True)
from cxrzoo import cli
from cxrzoo.errors import ImageError
from cxrzoo.imaging import read_image
from cxrzoo.imaging.isolation import IsolatedReader
files = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.is_file())
good = []
for path in files:
    try:
        _, report = read_image(path, return_report=True)
        print(report)
        good.append(str(path))
    except ImageError as error:
        traceback.print_exc()
        print(repr(error), repr(error.__context__), repr(error.__cause__))
    cli.main(["describe", str(path)])
    with contextlib.suppress(ImageError):
        cli.main(["--debug", "describe", str(path)])
with IsolatedReader(workers=1) as reader:
    for result in reader.map(files):
        print(repr(result) if isinstance(result, Exception) else result.report)
cli.main(["embed", *good[:40], "--model", sys.argv[3], "--out", "embeddings.npy"])
cli.main(["embed", *map(str, files[:40]), "--model", sys.argv[3], "--out", "none.npy"])
print("files", len(files), "failed", len(files) - len(good))
"""


def make_dicom(number: int) -> bytes:
    """Return a file with every canary in its attributes; in what it holds and how, files differ."""
    dataset = phantoms.make_dataset(phantoms.radiograph(40, 48, bits=12, seed=number))
    for keyword, canary in CANARIES.items():
        if keyword[0].isupper():
            setattr(dataset, keyword, canary)
    private = dataset.private_block(0x0099, CANARIES["private tag"], create=True)
    private.add_new(0x01, "LO", CANARIES["private tag"])
    dataset.add_new(0x60000022, "LO", CANARIES["overlay"])
    nested = Dataset()
    nested.PatientName, nested.PatientID = CANARIES["PatientName"], CANARIES["PatientID"]
    dataset.OriginalAttributesSequence = [nested]
    dataset.preamble = CANARIES["PatientName"].encode().ljust(128, b"\0")
    data = phantoms.dicom_file(dataset, SYNTAXES[number % len(SYNTAXES)])
    return data if number % 3 and number % 7 else break_dicom(data, dataset, number // 3)


def break_dicom(data: bytes, dataset: pydicom.Dataset, kind: int) -> bytes:
    """Return the file damaged so that it can't be read."""
    match kind % 8:
        case 0:
            return data[: len(data) // 2]
        case 1:
            return data[:700]
        case 2:  # in the middle of a name
            return data[: data.find(b"QUETZ") + 9] if b"QUETZ" in data[132:] else data[:300]
        case 3:
            return data.replace(b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00PN").replace(
                b"\x02\x00\x10\x00", b"\x02\x00\x11\x00"
            )
        case 4:
            return data[:132] + data[132:].replace(b"UI", b"SQ")
        case 5:
            dataset.Rows = 4000
            del dataset.PixelData
            return phantoms.dicom_file(dataset)
        case 6:
            return data[:132] + data[132:].replace(b"MRN7391042", b"\x28\x00\x10\x00\xff\xff\xff\xff\xff\xff")
        case _:
            return b"MRN7391042," * 40


def make_png(number: int) -> bytes:
    """Return a picture with canaries in its text, in EXIF and in its colour profile."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Description", CANARIES["metadata of a picture"])
    texts.add_itxt("Author", CANARIES["PatientName"])
    exif = Image.Exif()
    exif[0x010E], exif[0x013B] = CANARIES["metadata of a picture"], CANARIES["OperatorsName"]
    buffer = io.BytesIO()
    picture = Image.fromarray(phantoms.radiograph(40, 48, seed=number))
    if number % 2:
        picture.save(buffer, "PNG", pnginfo=texts, exif=exif, icc_profile=CANARIES["InstitutionName"].encode())
    else:
        picture.save(buffer, "JPEG", exif=exif, comment=CANARIES["PatientComments"])
    data = buffer.getvalue()
    return data if number % 3 else data[: len(data) * 2 // 3]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 300 files, the names of which are canaries too."""
    root = tmp_path_factory.mktemp("archive")
    folder = root / CANARIES["folder name"]
    folder.mkdir()
    for number in range(FILES):
        data = make_png(number) if number % 5 == 4 else make_dicom(number)
        (folder / f"{CANARIES['file name']}-{number}").write_bytes(data)
    return root


def find_canaries(data: bytes) -> set[str]:
    """Return which canaries stand in some bytes, in any of the encodings, in parts too for names."""
    wanted = CANARIES | {f"{place}, in part": text.split("^")[0] for place, text in CANARIES.items() if "^" in text}
    return {
        f"{place} in {name}"
        for place, text in wanted.items()
        for name, encode in ENCODINGS.items()
        if encode(text).lower() in data.lower()
    }


def test_canaries_are_found_where_they_are(archive: Path) -> None:
    """The search finds what is in the files, so that the next test can fail."""
    content = b"".join(path.read_bytes() + str(path).encode() for path in archive.rglob("*") if path.is_file())
    places = {find.partition(" in ")[0] for find in find_canaries(content) if not find.endswith("in base64")}
    assert set(CANARIES) <= places
    for name, encode in ENCODINGS.items():
        assert f"PatientID in {name}" in find_canaries(b"..." + encode(CANARIES["PatientID"]) + b"...")


def test_nothing_of_a_patient_comes_out(archive: Path, resnet18_folder: Path, tmp_path: Path) -> None:
    """Of 300 files, 100 of which fail, no canary is in output, errors, warnings, logs at DEBUG or temporary files."""
    places = {name: tmp_path / name for name in ("home", "temporary", "cache")}
    for place in places.values():
        place.mkdir()
    environment = os.environ | {
        "HOME": str(places["home"]),
        "TMPDIR": str(places["temporary"]),
        "CXRZOO_HOME": str(places["cache"]),
    }
    log = tmp_path / "debug.log"
    command = [sys.executable, "-c", SCRIPT, str(archive), str(log), str(resnet18_folder)]
    done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path)
    out = done.stdout + done.stderr
    assert 0 == done.returncode, out[-2000:].decode()
    last = done.stdout.decode().strip().splitlines()[-1].split()
    assert FILES == int(last[1])
    assert FAILING <= int(last[3]) < FILES / 2
    # the path of the archive is the test's own, and nobody's name
    written = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"embeddings.npy", "embeddings.npy.json"} <= {path.name for path in written}
    assert set() == find_canaries(out)
    assert {} == {path.name: found for path, data in written.items() if (found := find_canaries(data))}
    assert set() == {path.name for path in written if find_canaries(path.name.encode())}
