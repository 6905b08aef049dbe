"""A checkout with a model of its own in it, and what must hold of every such model."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import cxrzoo
from cxrzoo import registry
from cxrzoo._paths import MANIFESTS
from cxrzoo.account import CURVES
from cxrzoo.cards import CARD, render_card
from cxrzoo.errors import CxrZooError
from cxrzoo.folders import CONFIG, WEIGHTS, read_folder
from cxrzoo.sources import sha256_of
from cxrzoo.verification import verify_folder

NAME = "moco-small-resnet18"

#: A manifest as ours are, but for its size; {checkpoint} is the sha256 of what was trained.
MANIFEST = """\
name = "moco-small-resnet18"
summary = "ResNet-18 after MoCo on radiographs with open licences. A second sentence."
architecture = "resnet18"
method = "moco"
recipe = "moco"
tags = ["chest-x-ray"]
intended_use = "Research. Not for diagnosis."
training_data = ["Open radiographs"]
paper = "https://arxiv.org/abs/2010.05352"
repository = "https://example.org/cxrzoo"
default_variant = "pretrain"
reproduces = "The method of arXiv:2010.05352, on other and fewer images: in the manner of it, not a reproduction."
limits = ["Children were not among the images.", "Nobody tried lateral views."]

[licence]
weights = "CC-BY-4.0"
code = "Apache-2.0"
data = "CC0-1.0 and CC-BY-4.0"
rehost = true

[source]
command = "cxrzoo pretrain moco --plan moco-small-resnet18 --data open.csv --out small"
sha256 = "{checkpoint}"

[training]
plan = "moco-small-resnet18"
images = 12000
epochs = 20
steps = 3750
size = 64
init = "random"
hours = 1.5
hardware = "1 GPU with 80 GB"
kwh = 1.05
co2_grams = 420
assumes = "700 W all the time, 400 g a kWh"
knn = "PA or AP, 500 held-out images, 20 neighbours: accuracy 0.91"
seed = 0
version = "0.1.0"
commit = "19c7b12"
date = "2026-11-22"

[[training_source]]
name = "First set"
images = 10000
licence = "CC0-1.0"
attribution = "The first hospital"
url = "https://huggingface.co/datasets/first/set"

[[training_source]]
name = "Second set"
images = 5000
licence = "CC-BY-4.0"
attribution = "Second, Third et al., 2020"

[preprocessing.pretrain]
input_size = [3, 64, 64]
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
interpolation = "bilinear"
crop_pct = 1.0
crop_mode = "center"
source = "the plan"
"""


def make_checkout(root: Path, checkpoint: Path) -> Path:
    """Fill a folder with what a checkout has of a model of its own, and return the model's folder."""
    hub = root / "hub"
    hub.mkdir(parents=True)
    (hub / "card.md").write_text((MANIFESTS / "card.md").read_text())
    manifest = hub / f"{NAME}.toml"
    manifest.write_text(MANIFEST.format(checkpoint=sha256_of(checkpoint)))
    with pytest.MonkeyPatch.context() as patch:
        for _ in use_checkout(root, patch):
            folder = hub / NAME
            weights = cxrzoo.convert(checkpoint, folder, model=NAME, dtype="float16").record.weights
            with manifest.open("a") as file:
                file.write(f'\n[weights]\nsha256 = "{weights.sha256}"\nsize = {weights.size}\n')
            (folder / CURVES).write_text("<svg/>")
            registry.describe.cache_clear()
            (folder / CARD).write_text(render_card(folder))
    return folder


def use_checkout(root: Path, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let cxrzoo believe that this is the checkout it runs from, until the iterator goes on."""
    patch.setattr("cxrzoo.registry.MANIFESTS", root / "hub")
    patch.setattr("cxrzoo.cards.MANIFESTS", root / "hub")
    patch.setattr("cxrzoo.locations.CHECKOUT", root)
    registry.describe.cache_clear()
    yield
    registry.describe.cache_clear()


def edit(manifest: Path, pattern: str, new: str) -> None:
    """Replace what matches once in a manifest, and have it read again."""
    text, count = re.subn(pattern, new, manifest.read_text(), flags=re.MULTILINE)
    assert count == 1
    manifest.write_text(text)
    registry.describe.cache_clear()


def list_faults(folder: Path) -> list[str]:
    """Return what is wrong with a model folder beside the manifests, as the registry knows them."""
    faults: list[str] = []
    try:
        faults.extend(_find_faults(folder))  # what was found before an error stays
    except CxrZooError as error:
        faults.append(f"{type(error).__name__}: {error}")
    return faults


def _find_faults(folder: Path) -> Iterator[str]:
    names = {entry.name for entry in folder.iterdir()}
    if not {CONFIG, WEIGHTS, CARD} <= names <= {CONFIG, WEIGHTS, CARD, CURVES}:
        yield f"holds {', '.join(sorted(names))}"
    manifest, record = cxrzoo.describe(folder.name), read_folder(folder).record
    if not manifest.licence.weights or not manifest.licence.rehost:
        yield "no licence lets the weights be published"
    if manifest.source.command is not None and not (manifest.training and manifest.training_source and manifest.limits):
        yield "training, training_source or limits are missing"
    if manifest.weights is None or (manifest.weights.sha256, manifest.weights.size) != (
        record.weights.sha256,
        record.weights.size,
    ):
        yield "[weights] are not those of config.json"
    for fact in ("method", "source", "licence", "preprocessing", "default_variant"):
        if getattr(manifest, fact) != getattr(record, fact):
            yield f"{fact} differs between manifest and config.json"
    for line in verify_folder(folder):
        assert line
    model = cxrzoo.load(folder.name)
    if ("checkout", record.weights.sha256) != (model.provenance.origin, model.provenance.weights_sha256):
        yield f"found by its name in {model.provenance.origin}"
    if {torch.float32} != {parameter.dtype for parameter in model.parameters()}:
        yield "not all is float32 once loaded"
    if CARD in names and (folder / CARD).read_text(encoding="utf-8") != render_card(folder):
        yield "the card is stale: run `python -m cxrzoo.documents hub`"
