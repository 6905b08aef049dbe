"""The card of a model folder, made from its record."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from cxrzoo._paths import MANIFESTS
from cxrzoo.evidence import FolderRecord
from cxrzoo.folders import Folder, read_folder
from cxrzoo.manifest import Licence, Manifest, Preprocessing, Result
from cxrzoo.registry import describe, list_models

CARD = "README.md"

_ORIGINS = {
    "manifest": "These constants are part of the weights: other ones give other embeddings.",
    "stated": "These constants were stated by whoever converted the checkpoint. Other ones give other embeddings.",
}

_LEVELS = {"window": "window", "full_range": "full range"}


def render_card(path: Path) -> str:
    """Return the card of the model folder at `path`: Markdown with the front matter that the Hub reads.

    It does not depend on what the folder is called, so that equal checkpoints give equal cards.
    """
    folder = read_folder(path)
    record = folder.record
    manifest = describe(record.model) if record.model in list_models() else None
    where = record.model if manifest else "./this-folder"
    return (
        Template((MANIFESTS / "card.md").read_text(encoding="utf-8"))
        .substitute(
            licence_front_matter=_front_matter(record.licence),
            tags="\n".join(f"- {tag}" for tag in _tags(record)),
            model=record.model,
            summary=record.summary,
            dimension=folder.num_features,
            use=f"It is no finding and no diagnosis. {record.intended_use}".strip(),
            where=where,
            folder=record.model if manifest else "this-folder",
            origin=_ORIGINS[record.preprocessing_origin],
            preprocessing=_render_variants(record.preprocessing, record.default_variant) + _render_beyond_timm(record),
            provenance=_render_provenance(folder),
            proof=_render_proof(folder),
            licences=_render_licences(record.licence),
            results="\n" + render_results(manifest) if manifest and manifest.results else "",
        )
        .rstrip()
        + "\n"
    )


def _tags(record: FolderRecord) -> list[str]:
    return list(
        dict.fromkeys(filter(None, ["timm", "transformers", "image-feature-extraction", record.method, *record.tags]))
    )


def _front_matter(licence: Licence) -> str:
    if licence.weights is None:
        return "license: other\nlicense_name: not-stated-by-the-authors"
    return f"license: {licence.weights.lower()}"


def _render_variants(variants: dict[str, Preprocessing], default: str) -> str:
    rows = [
        [
            f"`{name}`" + (" (default)" if name == default else ""),
            " × ".join(map(str, variant.input_size)),
            f"{variant.interpolation}, {variant.crop_mode} crop {variant.crop_pct:g}",
            _LEVELS[variant.intensity] + (f", {variant.contrast}" if variant.contrast else ""),
            ", ".join(f"{value:g}" for value in variant.mean),
            ", ".join(f"{value:g}" for value in variant.std),
            variant.source,
        ]
        for name, variant in variants.items()
    ]
    return make_table(["variant", "input", "geometry", "grey levels", "mean", "std", "source of the constants"], rows)


def _render_beyond_timm(record: FolderRecord) -> str:
    """Return what the default preprocessing asks for and timm has no words for, as a paragraph; empty if nothing."""
    preprocessing = record.preprocessing[record.default_variant]
    missing = [f"the contrast of each image ({preprocessing.contrast})"] if preprocessing.contrast else []
    if preprocessing.crop_mode == "pad":
        missing.append("the black border, in whose place timm puts a grey one")
    if not missing:
        return ""
    return (
        f"\n\n`pretrained_cfg`, which timm and transformers read, has no words for {' and '.join(missing)}. Their "
        "transforms leave that out **without a warning**, and give other embeddings: use `backbone.transform`, or do "
        "it yourself."
    )


def _render_provenance(folder: Folder) -> str:
    record = folder.record
    source = record.source
    released = "a checkpoint given by its user"
    if source is not None:
        released = str(source)
    proofs = {
        "digest": "",
        "fetched": ", fetched from there when it was converted",
        "stated": ", by the word of whoever converted it" if source else "",
    }
    lines = [
        f"- Method: {record.method or 'not stated'}",
        f"- Trained on: {', '.join(record.training_data) or 'not stated'}",
        f"- Released as: {released}{proofs[record.source_proof]}",
        f"- Checkpoint: {record.source_size:,} bytes, sha256 `{record.source_sha256}`",
        f"- Weights: {record.weights.size:,} bytes, sha256 `{record.weights.sha256}`",
    ]
    lines += [f"- Paper: {record.paper}"] if record.paper else []
    lines += [f"- Code: {record.repository}"] if record.repository else []
    return "\n".join(lines)


def _render_proof(folder: Folder) -> str:
    record = folder.record
    dropped = "".join(f", {count} dropped ({reason})" for reason, count in record.coverage.dropped.items())
    place = f"`{record.coverage.path}` in the checkpoint" if record.coverage.path else "the checkpoint"
    computed = "".join(f" {count} tensors are made by `{name}`." for name, count in record.coverage.computed.items())
    lines = [
        f"- Every key of {place} is accounted for by recipe `{record.coverage.recipe}`: "
        f"{record.coverage.kept} kept{dropped}.{computed}",
        f"- The weights load strictly into timm's `{folder.architecture}`, and all are finite.",
    ]
    if record.untold:
        lines.append(f"- Not proven, since no shape tells it: {record.untold}.")
    parity = record.parity
    if parity is None:
        lines.append("- Parity was not measured at this conversion: no reference network for it was at hand.")
    else:
        lines.append(
            f"- Pooled features of {parity.reference} and of this backbone differ by at most {parity.max_difference:g} "
            f"at {parity.input_size[-1]} px (allowed: {parity.tolerance:g}; largest feature: {parity.scale:.3g})."
        )
    fingerprint = record.fingerprint
    lines.append(f"- Fingerprint, the embedding of a synthetic radiograph rounded: `{fingerprint.digest}`.")
    return "\n".join(lines)


def _render_licences(licence: Licence) -> str:
    def stated(value: str | None) -> str:
        return value or "nothing is stated"

    lines = [
        f"- Weights: {stated(licence.weights)}",
        f"- Code they were trained with: {stated(licence.code)}",
        f"- Data they were trained on: {stated(licence.data)}",
    ]
    if not licence.rehost:
        lines.append("- These weights are converted locally and not hosted again by this project.")
    return "\n".join(lines + ([f"- {licence.note}"] if licence.note else []))


def render_results(manifest: Manifest) -> str:
    """Return a section with the figures that the authors of a model published."""
    header = ["data", "finding", "mode", "label fraction", "metric", manifest.name, "baseline", "difference"]
    # a row may stand in two tables of a paper; once is enough here
    rows = list(dict.fromkeys(tuple(row) for result in manifest.results for row in _result_rows(result)))
    return (
        f"### {manifest.name}: what its authors published\n\nValue (95 % interval), not measured by this project. "
        f"Paper: {manifest.paper}\n\n{make_table(header, rows)}\n"
    )


def _result_rows(result: Result) -> list[list[str]]:
    def cell(values: tuple[tuple[float, ...], ...], index: int, name: str = "") -> str:
        if not values:
            return "–"
        middle, *interval = (f"{value:.3f}" for value in values[index])
        return f"{name} {middle}".strip() + (f" ({interval[0]}, {interval[1]})" if interval else "")

    return [
        [
            result.dataset,
            result.finding,
            result.mode,
            f"{fraction * 100:g} %",
            result.metric,
            cell(result.value, i),
            cell(result.baseline, i, result.baseline_name),
            cell(result.difference, i),
        ]
        for i, fraction in enumerate(result.label_fractions)
    ]


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
