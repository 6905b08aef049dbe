"""Compares the models that need no download on real radiographs, and draws the figures of README.md.

Reports go to report/, figures into the models' manifests, curves to docs/. What was embedded before is kept in report/.
"""

import argparse
import csv
import sys
from pathlib import Path

from cxrzoo.cli import main
from cxrzoo.evaluation.comparison import Comparison, read_comparison
from cxrzoo.evaluation.report import draw_curves
from cxrzoo.evaluation.saving import save_results

DOCS = Path(__file__).resolve().parent
REPORTS = DOCS.parent / "report"
MODELS = ["imagenet-mobilenetv2", "imagenet-efficientnet-lite0"]
#: Where the tables come from, by the digital object identifiers or pages of their publishers.
KERMANY, NIH = "https://doi.org/10.17632/rscbjbr9sj.2", "https://nihcc.app.box.com/v/ChestXray-NIHCC"


def write_nih_split(table: Path, split: Path) -> None:
    """Write which images are for what: of five patients one is for testing, one for validation, three for training."""
    parts = ["test", "valid", "train", "train", "train"]
    with table.open(newline="") as source, split.open("w", newline="") as target:
        writer = csv.writer(target, lineterminator="\n")
        writer.writerow(("path", "split"))
        for row in csv.DictReader(source):
            if "1" in (row["pneumonia"], row["no_finding"]):
                writer.writerow((row["path"], parts[int(row["patient"]) % 5]))


def compare(name: str, *options: str) -> Comparison:
    """Run the command that a user would run, and draw its curves."""
    out = REPORTS / name
    status = main(["compare", *MODELS, "--mode", "linear", "--mode", "knn", "--out", str(out), *options])
    if status:
        sys.exit(status)
    comparison = read_comparison(out / "results.json")
    picture = draw_curves(comparison, comparison.findings[0], "linear", standalone=True)
    (DOCS / f"label-efficiency-{name}.svg").write_text(picture, encoding="utf-8")
    return comparison


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with kermany.csv and nih.csv")
    data = parser.parse_args().data
    REPORTS.mkdir(exist_ok=True)
    kermany = compare(
        "kermany",
        *("--data", str(data / "kermany.csv"), "--label", "pneumonia=label", "--patients-per-split"),
        *("--title", "Pneumonia in children: Kermany, 5,808 radiographs"),
    )
    write_nih_split(data / "nih.csv", REPORTS / "nih-split.csv")
    nih = compare(
        "nih",
        *("--data", str(data / "nih.csv"), "--label", "pneumonia", "--against", "no_finding"),
        *("--split", str(REPORTS / "nih-split.csv")),
        *("--title", "Pneumonia in adults: NIH ChestX-ray14, 570 radiographs"),
    )
    # After both, since manifests that were changed make another state of the code
    save_results(kermany, "Kermany", dataset_url=KERMANY)
    save_results(nih, "NIH ChestX-ray14 (570 images)", dataset_url=NIH)
