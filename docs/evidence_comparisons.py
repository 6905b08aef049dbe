"""Questions of the evidence that `cxrzoo compare` answers: linear probes by number of labels, and on other patients."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from evidence_bench import PROTOCOL, SEED, WORK, Bench
from evidence_tables import write_drift, write_nih

from cxrzoo.cli import main
from cxrzoo.evaluation.comparison import Comparison, read_comparison
from cxrzoo.evaluation.statistics.metrics import auroc
from cxrzoo.evaluation.tables import read_table

#: One folder for all comparisons: an image is embedded once, whatever table it stands in.
COMPARED = WORK / "comparisons"


@dataclass(frozen=True)
class Labels:
    """A table of labels, and how it is read; `folder` is where its paths start."""

    table: Path
    folder: Path
    label: str
    against: str | None = None
    per_split: bool = False

    def list_options(self) -> list[str]:
        """Return the options of `cxrzoo compare`."""
        options = ["--data", str(self.table), "--root", str(self.folder), "--label", self.label]
        options += ["--against", self.against] if self.against else []
        return options + ["--patients-per-split"] * self.per_split

    def judge_file_sizes(self) -> str:
        """Return as a sentence how well the size of a test image's file alone would tell its label.

        Compression makes larger files of noise and of sharp edges: what it tells is of the machine, not of the patient.
        """
        patients = "per-split" if self.per_split else "global"
        table = read_table(self.table, [self.label], against=self.against, root=self.folder, patient_ids=patients)
        tested = np.flatnonzero(table.splits == "test")
        sizes = np.array([table.files[position].stat().st_size for position in tested], np.float64)
        found = auroc(table.labels[tested, 0], sizes)
        return (
            f"The size of the image file alone, which tells of the machine rather than of the patient, has an AUROC of "
            f"{max(found, 1 - found):.3f} here."
        )


def compare(bench: Bench, labels: Labels) -> dict[str, Any]:
    """Compare all with the first reference, then each network with its own random and other weights, on equal draws."""
    groups = [(bench.references[0], bench.everything)]
    groups += [(reference, [*models, reference]) for reference, models in bench.kin.items()]
    for floor in dict.fromkeys(bench.floors.values()):
        groups.append((floor, [*(model for model, below in bench.floors.items() if below == floor), floor]))
    compared = tuple(_compare(bench, baseline, models, labels.list_options()) for baseline, models in groups)
    return {"comparisons": compared, "notes": (labels.judge_file_sizes(),)}


def _compare(bench: Bench, baseline: str, models: list[str], options: list[str]) -> Comparison:
    status = main(
        [
            *("--verbose", "compare", *models, "--baseline", baseline, "--protocol", str(PROTOCOL)),
            *("--out", str(COMPARED), "--seed", str(SEED), "--no-pictures", "--workers", str(bench.workers)),
            *("--device", bench.device, *options),
        ]
    )
    if status:
        sys.exit(status)
    return read_comparison(COMPARED / "results.json")


def compare_kermany(bench: Bench) -> dict[str, Any]:
    """Pneumonia in children."""
    return compare(bench, Labels(bench.data / "kermany.csv", bench.data, "pneumonia=label", per_split=True))


def compare_nih(bench: Bench, label: str, against: str | None = None) -> dict[str, Any]:
    """A finding in patients that no pretraining has seen."""
    table = COMPARED / "nih.csv"
    write_nih(bench.data, table)
    return compare(bench, Labels(table, bench.data, label, against))


def compare_drift(bench: Bench) -> dict[str, Any]:
    """Pneumonia learnt on children, tested on adults."""
    table = COMPARED / "drift.csv"
    write_drift(bench.data, table)
    return compare(bench, Labels(table, bench.data, "pneumonia"))
