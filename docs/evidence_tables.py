"""The tables that evidence is measured on: who learns from what, and which images no training of ours has seen."""

import csv
from collections.abc import Iterator
from pathlib import Path

#: What whitens the lungs. Images without any of these, but with another finding, are among the controls: those without
#: any finding at all come from other machines than the rest, so that telling these apart takes no look at the lungs.
OPACITIES = ("pneumonia", "infiltration", "consolidation", "effusion", "edema", "atelectasis")
#: The children of NIH's table are left out where adults are asked for.
ADULT = 18


def write_nih(data: Path, table: Path) -> None:
    """Write NIH's images with some labels of theirs: one patient in five is for testing, the others for training.

    Those are the patients that no pretraining of ours has seen.
    """
    _write(
        table,
        (
            {
                "path": row["path"],
                "patient": row["patient"],
                "lung_opacity": int(any(row[name] == "1" for name in OPACITIES)),
                "any_finding": 1 - int(row["no_finding"]),
                "pneumonia": row["pneumonia"],
                "no_finding": row["no_finding"],
                "split": "test" if _is_left_out(row) else "train",
            }
            for row in _read(data / "nih.csv")
        ),
    )


def write_drift(data: Path, table: Path) -> None:
    """Write children to learn pneumonia from (Kermany's training part), and adults to be tested on (NIH's left-out)."""
    _write(table, [*_list_children(data), *_list_adults(data)])


def _list_children(data: Path) -> Iterator[dict[str, object]]:
    for row in _read(data / "kermany.csv"):
        if row["split"] == "train":
            patient = f"kermany {row['patient']}"
            yield {"path": row["path"], "patient": patient, "pneumonia": row["label"], "split": "train"}


def _list_adults(data: Path) -> Iterator[dict[str, object]]:
    for row in _read(data / "nih.csv"):
        told = "1" in (row["pneumonia"], row["no_finding"])
        if told and _is_left_out(row) and int(row["age"]) >= ADULT:
            patient = f"nih {row['patient']}"
            yield {"path": row["path"], "patient": patient, "pneumonia": row["pneumonia"], "split": "test"}


def _is_left_out(row: dict[str, str]) -> bool:
    return int(row["patient"]) % 5 == 0


def _read(table: Path) -> Iterator[dict[str, str]]:
    with table.open(newline="") as file:
        yield from csv.DictReader(file)


def _write(table: Path, rows: "Iterator[dict[str, object]] | list[dict[str, object]]") -> None:
    rows = list(rows)
    table.parent.mkdir(parents=True, exist_ok=True)
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
