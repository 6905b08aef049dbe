"""How far embeddings move when images are made smaller while they are decoded: cosines of "fast" with "exact".

The images are the shared radiographs, as they are and once more as large JPEG 2000 in DICOM, and the real radiograph of
pydicom-data in its four encodings. The networks are real ones where they are at hand, and one that is not trained.
"""

import argparse
import csv
import dataclasses
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pydicom.data
import radiographs
import timm
import torch
from numpy.typing import NDArray

import cxrzoo
from cxrzoo.manifest import Preprocessing
from cxrzoo.preprocessing import Transform

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
LEAST = 0.999
BATCH = 16
Picture = Path | bytes
IMAGENET = Preprocessing((3, 224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bilinear", 0.875, "center")


def networks() -> dict[str, tuple[torch.nn.Module, Preprocessing]]:
    """Return each network with the record of its images."""
    torch.manual_seed(0)
    found = {"resnet18, not trained": (timm.create_model("resnet18", num_classes=0).eval(), IMAGENET)}
    for name in ("imagenet-mobilenetv2", "imagenet-efficientnet-lite0"):
        model = cxrzoo.load(name)
        found[name] = model, model.transform.record
    return found


def tables(kermany: int) -> dict[str, list[Picture]]:
    """Return the shared radiographs by their table; of Kermany's, which are 224 px already, a sample."""
    found: dict[str, list[Picture]] = {}
    for name in ("nih", "hannover", "lungs", "kermany"):
        with (DATA / f"{name}.csv").open(newline="") as table:
            found[name] = [DATA / (row.get("path") or row["image"]) for row in csv.DictReader(table)]
    found["kermany"] = random.Random(0).sample(found["kermany"], kermany)
    return found


def enlarged(paths: Iterable[Picture]) -> Iterator[bytes]:
    """Yield each picture as a DICOM file of 3056 x 2544 pixels and 12 bits in JPEG 2000."""
    for path in paths:
        pixels = radiographs.resized(cxrzoo.read_image(path), radiographs.HEIGHT, radiographs.WIDTH)
        yield radiographs.dicom(pixels, 12, pydicom.uid.JPEG2000Lossless)


def cosines(pictures: Iterable[Picture], model: torch.nn.Module, record: Preprocessing) -> NDArray[np.float64]:
    """Return the cosine of the two embeddings of each picture."""
    roads = [Transform(dataclasses.replace(record, decoding=decoding)) for decoding in ("exact", "fast")]
    found, batch = [], []
    for picture in (*pictures, None):
        if picture is not None:
            batch.append([road(picture) for road in roads])
        if batch and (picture is None or len(batch) == BATCH):
            with torch.inference_mode():
                exact, fast = (model(torch.stack(tensors)).double() for tensors in zip(*batch, strict=True))
            found += torch.nn.functional.cosine_similarity(exact, fast).tolist()
            batch = []
    return np.array(found)


def main() -> int:
    """Print a row for each set of pictures and network; exit with 1 if one picture's cosine is too low."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", type=int, default=60, help="how many pictures are enlarged and put into DICOM")
    parser.add_argument("--every", type=int, default=1, help="take only each n-th of the shared pictures")
    options = parser.parse_args()
    sets: dict[str, list[Picture]] = {
        f"RG1, {name[4:]}": [pydicom.data.get_testdata_file(f"{name}.dcm", download=False)]
        for name in ("RG1_UNCR", "RG1_UNCI", "RG1_J2KR", "RG1_J2KI")
    }
    if DATA.is_dir():
        sets |= {name: pictures[:: options.every] for name, pictures in tables(kermany=100).items()}
        pool = [picture for name in ("nih", "hannover", "lungs") for picture in sets[name]]
        sample = random.Random(1).sample(pool, min(options.large, len(pool)))
        sets["3056 x 2544, J2K"] = list(enlarged(sample))
    least = 1.0
    print(f"{'pictures':18} {'network':28} {'n':>4} {'least':>9} {'1st pct':>9} {'median':>9}  below {LEAST}")
    for name, pictures in sets.items():
        for network, (model, record) in networks().items():
            found = cosines(pictures, model, record)
            least = min(least, found.min())
            figures = " ".join(f"{value:9.6f}" for value in (found.min(), np.percentile(found, 1), np.median(found)))
            print(f"{name:18} {network:28} {len(found):4} {figures}  {(found < LEAST).sum()}", flush=True)
    print(f"least of all: {least:.6f}, {'at least' if least >= LEAST else 'BELOW'} {LEAST}")
    return 0 if least >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
