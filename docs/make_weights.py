"""Trains the open weights, and puts them into hub/: one model, by its name, which is that of its plan.

Runs lie in runs/ and go on where they were stopped. The manifest hub/NAME.toml stands before; what a run finds out is
written into it: digests, constants, time. The folder hub/NAME/ gets weights in half precision, their proof, the card
and the curves.
"""

import argparse
import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import tomlkit
from evidence_tables import write_nih
from make_open_tables import write_training

from cxrzoo.cli import main
from cxrzoo.pretraining.plans import load_plan
from cxrzoo.registry import describe

ROOT = Path(__file__).resolve().parent.parent
RUNS, HUB = ROOT / "runs", ROOT / "hub"


def train(name: str, data: Path) -> Path:
    """Run or go on with the training that the manifest names, and return its folder."""
    plan = load_plan(name)
    out = RUNS / name
    write_training(data, RUNS / "opencxr.csv")
    write_nih(data, RUNS / "probe.csv")  # of which only the patients for training are looked at
    status = main(
        [
            *("--verbose", "pretrain", plan.method, "--plan", name, "--data", str(RUNS / "opencxr.csv")),
            *("--root", str(data), "--out", str(out), "--modality", "dataset"),
            *("--probe", str(RUNS / "probe.csv"), "--probe-label", "lung_opacity", "--probe-every", "3"),
        ]
    )
    if status:
        sys.exit(status)
    return out


def record(name: str, run: Path) -> None:
    """Write into the manifest what the training found out."""
    path, facts = HUB / f"{name}.toml", json.loads((run / "training.json").read_text())
    manifest = tomlkit.parse(path.read_text(encoding="utf-8"))
    checkpoint = run / facts["checkpoint"]
    manifest["source"]["sha256"] = _digest(checkpoint)
    manifest["source"]["size"] = checkpoint.stat().st_size
    for variant in manifest["preprocessing"].values():
        variant["mean"], variant["std"] = list(facts["mean"]), list(facts["std"])
        variant["input_size"] = [len(facts["mean"]), facts["size"], facts["size"]]
    manifest["training"] = _describe_training(facts)
    manifest.pop("weights", None)
    _write(path, manifest)


def _describe_training(facts: dict[str, Any]) -> dict[str, Any]:
    names = ("plan", "images", "epochs", "steps", "size", "init", "hours", "hardware", "kwh", "co2_grams")
    told = {name: facts[name] for name in (*names, "seed", "version", "date")}
    if facts["commit"]:
        told["commit"] = facts["commit"]
    told["assumes"] = facts["carbon"].partition(": ")[2]
    told["knn"] = f"lung opacity, NIH's training images, of patients that don't vote: AUROC {facts['knn']:.3f}"
    for name in ("kwh", "co2_grams"):
        told[name] = float(f"{told[name]:.2g}")
    return told


def ship(name: str, run: Path) -> None:
    """Make hub/NAME/ anew, and promise its weights in the manifest."""
    folder, facts = HUB / name, json.loads((run / "training.json").read_text())
    shutil.rmtree(folder, ignore_errors=True)
    checkpoint = run / facts["checkpoint"]
    status = main(["convert", str(checkpoint), "--model", name, "--dtype", "float16", "--out", str(folder)])
    if status:
        sys.exit(status)
    weights, path = folder / "model.safetensors", HUB / f"{name}.toml"
    manifest = tomlkit.parse(path.read_text(encoding="utf-8"))
    manifest["weights"] = {"sha256": _digest(weights), "size": weights.stat().st_size}
    _write(path, manifest)
    shutil.copyfile(run / "training.svg", folder / "training.svg")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, manifest: tomlkit.TOMLDocument) -> None:
    staged = path.with_suffix(".new")
    staged.write_text(tomlkit.dumps(manifest), encoding="utf-8")
    os.replace(staged, path)  # noqa: PTH105
    describe.cache_clear()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the model and its plan")
    parser.add_argument("data", type=Path, help="folder with kermany.csv, nih.csv and hannover.csv")
    arguments = parser.parse_args()
    run = train(arguments.name, arguments.data)
    record(arguments.name, run)
    ship(arguments.name, run)
