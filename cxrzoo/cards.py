"""The card of a model folder, made from its record."""

from collections.abc import Sequence
from pathlib import Path
from string import Template

from cxrzoo._paths import MANIFESTS
from cxrzoo.account import CURVES, render_account
from cxrzoo.evidence import FolderRecord
from cxrzoo.figures import make_model_index, make_table, render_measured, render_results
from cxrzoo.folders import Folder, read_folder
from cxrzoo.front_matter import render_licence, render_origins, render_tags
from cxrzoo.manifest import Licence, Manifest, Preprocessing
from cxrzoo.registry import describe, list_models
from cxrzoo.results import Measurement

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
    # a manifest's figures are of one file of weights, and this folder may hold another of that name
    measured = [row for row in manifest.measured if row.weights_sha256 == record.weights.sha256] if manifest else []
    trained = manifest if manifest and _is_of(manifest, record) else None
    return (
        Template((MANIFESTS / "card.md").read_text(encoding="utf-8"))
        .substitute(
            licence_front_matter=render_licence(record.licence.weights) + (render_origins(trained) if trained else ""),
            tags=render_tags(record),
            model_index=make_model_index(record.model, measured),
            model=record.model,
            summary=record.summary,
            dimension=folder.num_features,
            use=f"It is no finding and no diagnosis. {record.intended_use}".strip(),
            where=where,
            folder=record.model if manifest else "this-folder",
            origin=_ORIGINS[record.preprocessing_origin],
            preprocessing=_render_variants(record.preprocessing, record.default_variant) + _render_beyond_timm(record),
            provenance=_render_provenance(folder),
            account=render_account(trained, curves=(path / CURVES).is_file()) if trained else "",
            proof=_render_proof(folder),
            licences=_render_licences(record.licence),
            results=_render_figures(manifest, measured) if manifest else "",
        )
        .rstrip()
        + "\n"
    )


def _is_of(manifest: Manifest, record: FolderRecord) -> bool:
    """Whether the weights are those that the manifest tells of, and not another training under its name."""
    if manifest.weights is None or record.source_proof == "digest":
        return True
    return manifest.weights.sha256 == record.weights.sha256


def _render_figures(manifest: Manifest, measured: Sequence[Measurement]) -> str:
    parts = [render_results(manifest)] if manifest.results else []
    if measured:
        parts.append(render_measured(manifest.name, measured))
    elif manifest.measured:
        parts.append(
            f"### {manifest.name}: measured by this project\n\nOther weights of this name were measured, of sha256 "
            f"`{manifest.measured[0].weights_sha256}`: their figures are left out here.\n"
        )
    return "\n" + "\n".join(parts) if parts else ""


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
        f"- {'Origin' if source and source.command else 'Released as'}: {released}{proofs[record.source_proof]}",
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
    if record.narrowing is not None:
        lines.append(f"- Stored in half precision: {record.narrowing}. Vectors are not, and loading gives float32.")
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
