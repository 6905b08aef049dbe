"""Writes the tables of the open weights: images to train on, and labelled ones to watch the training by.

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


def list_probe(data: Path) -> Iterator[tuple[str, str, str]]:
    """Yield path, label and patient of each labelled image that may be trained on."""
    for row in _read(data / "kermany.csv"):
        if row["split"] == "train":
            yield row["path"], row["label"], row["patient"]


def _read(table: Path) -> Iterator[dict[str, str]]:
    with table.open(newline="") as file:
        yield from csv.DictReader(file)


def _write(table: Path, names: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> None:
    with table.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(rows)


def write_tables(data: Path, out: Path) -> None:
    """Write opencxr.csv and probe.csv to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "opencxr.csv", ("path", "dataset"), list_training(data))
    _write(out / "probe.csv", ("path", "pneumonia", "patient"), list_probe(data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with kermany.csv, nih.csv and hannover.csv")
    parser.add_argument("out", type=Path, help="folder to write opencxr.csv and probe.csv to")
    arguments = parser.parse_args()
    write_tables(arguments.data, arguments.out)
