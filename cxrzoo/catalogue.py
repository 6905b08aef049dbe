"""The field in rows: what each model is, what of it is unknown, and whether it loads by its name."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from cxrzoo.manifest import Manifest, Preprocessing, first_sentence

#: What it takes to have a model: its name; its name and the repository it was trained in, beside which its weights lie;
#: a file fetched by hand; or facts that nobody stated as well.
Readiness = Literal["by name", "with the repository", "by hand", "incomplete"]

#: timm/data/constants.py, IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Row:
    """A model in short texts, one a column; `unknown` stands where nobody stated a fact."""

    name: str
    what: str
    method: str
    architecture: str
    input: str
    normalisation: str
    licence: str
    rehost: str
    file: str
    address: str | None


def make_row(manifest: Manifest) -> Row:
    """Return a model's row, of its default preprocessing."""
    preprocessing = manifest.preprocessing.get(manifest.default_variant)
    return Row(
        name=manifest.name,
        what=first_sentence(manifest.summary),
        method=manifest.method,
        architecture=manifest.architecture or UNKNOWN,
        input="×".join(map(str, preprocessing.input_size)) if preprocessing else UNKNOWN,
        normalisation=_name_normalisation(preprocessing) if preprocessing else UNKNOWN,
        licence=manifest.licence.weights or "not stated",
        rehost="yes" if manifest.licence.rehost else "no",
        file=manifest.hosted.removeprefix("by hand: "),
        address=f"hub/{manifest.name}" if manifest.source.command else manifest.source.url or manifest.source.page,
    )


def readiness(manifest: Manifest) -> Readiness:
    """Return what it takes to have a model; what is unknown weighs more than a file to be fetched by hand."""
    if manifest.unknown:
        return "incomplete"
    if manifest.source.command is not None and manifest.hub is None:
        return "with the repository"
    return "by name" if manifest.source.page is None else "by hand"


def group_rows(manifests: Iterable[Manifest]) -> dict[Readiness, list[Row]]:
    """Return the rows by readiness, the models that load by name first; a group may be empty."""
    groups: dict[Readiness, list[Row]] = {"by name": [], "with the repository": [], "by hand": [], "incomplete": []}
    for manifest in manifests:
        groups[readiness(manifest)].append(make_row(manifest))
    return groups


def _name_normalisation(preprocessing: Preprocessing) -> str:
    mean, std = preprocessing.mean, preprocessing.std
    contrast = f", {preprocessing.contrast.method}" if preprocessing.contrast else ""
    if (mean, std) == _IMAGENET:
        return f"ImageNet{contrast}"
    more = "" if preprocessing.equal_channels else " …"
    return f"{mean[0]:.4g}{more} / {std[0]:.4g}{more}{contrast}"
