"""Writes the table of the images that the open weights are trained on.

Never an image that evaluations test on: neither Kermany's test split nor, of NIH's, one patient in five.
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path


def list_training(data: Path) -> Iterator[tuple[str, str]]:
    """Yield the path from `data` on, and the data set, of each image that may be trained on."""
    for row in _read(data / "kermany.csv"):
        if row["split"] == "train":
            yield row["path"], "kermany"
    for row in _read(data / "nih.csv"):
        if int(row["patient"]) % 5:
            yield row["path"], "nih"
    for row in _read(data / "hannover.csv"):
        yield row["path"], "hannover"


def _read(table: Path) -> Iterator[dict[str, str]]:
    with table.open(newline="") as file:
        yield from csv.DictReader(file)


def write_training(data: Path, table: Path) -> None:
    """Write the images to train on, and which data set each is of."""
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("path", "dataset"))
        writer.writerows(list_training(data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with kermany.csv, nih.csv and hannover.csv")
    parser.add_argument("table", type=Path, help="to write")
    arguments = parser.parse_args()
    write_training(arguments.data, arguments.table)
