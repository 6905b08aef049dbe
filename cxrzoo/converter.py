"""Recipe + checkpoint -> a model folder, with every key accounted for and the proof beside the weights."""

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from cxrzoo.checkpoint import Checkpoint, open_checkpoint
from cxrzoo.errors import ArchitectureError, ConversionError, DigestError
from cxrzoo.evidence import Coverage, FolderRecord, HalfPrecision, PreprocessingOrigin, SourceProof, WeightsFile
from cxrzoo.fits import Fit
from cxrzoo.folders import CONFIG, SCHEMA, WEIGHTS, build_config, render_config
from cxrzoo.health import Health
from cxrzoo.manifest import Licence, Manifest, Preprocessing
from cxrzoo.matching import choose_fit
from cxrzoo.parity import Claim, Proof, Prover, prove
from cxrzoo.precision import narrow
from cxrzoo.recipe import Placement
from cxrzoo.registry import describe, list_models
from cxrzoo.weights import write_weights


@dataclass(frozen=True)
class Conversion:
    """What a conversion did: where every key went, and the record that now lies beside the weights."""

    folder: Path
    architecture: str
    placements: tuple[Placement, ...] = field(repr=False)
    record: FolderRecord

    @property
    def kept(self) -> tuple[str, ...]:
        """Keys of the checkpoint that became tensors of the backbone."""
        return tuple(p.key for p in self.placements if p.target is not None)

    @property
    def dropped(self) -> dict[str, str]:
        """Keys of the checkpoint that were left out, with the reason."""
        return {p.key: p.reason for p in self.placements if p.reason is not None}


def convert_into(
    folder: Path,
    checkpoint: Path,
    *,
    recipe: str | None = None,
    architecture: str | None = None,
    manifest: Manifest | None = None,
    variants: dict[str, Preprocessing] | None = None,
    dtype: HalfPrecision | None = None,
    fetched: bool = False,
    isolated: bool = True,
) -> Conversion:
    """Fill an existing empty `folder` with config.json and model.safetensors made from a checkpoint.

    Args:
        manifest: The model this checkpoint is, with the facts that go into the record.
        variants: Preprocessing by name, the default first; by default the manifest's.
        dtype: Store tensors of two axes or more in half precision; as they are if left out.
        fetched: The checkpoint was just taken from where the manifest says.
        isolated: Prove in a child process, which keeps the networks out of this one's memory.

    Raises:
        CheckpointError: The file can't be read.
        ConversionError: It can't become a backbone; the subclass says why.
        DigestError: It is not the file that the manifest names.
    """
    weights = folder / WEIGHTS
    with open_checkpoint(checkpoint) as opened:
        manifest = manifest or _recognise(opened)
        if manifest is not None:
            _insist_on_source(opened, manifest, architecture)
            recipe, architecture = recipe or manifest.recipe, architecture or manifest.architecture
        fit = choose_fit(opened.root, recipe or None)
        origin: PreprocessingOrigin = "stated" if variants else "manifest"
        variants = variants or _variants(fit, manifest)
        preprocessing = next(iter(variants.values()))
        opened.start_hashing()
        with Prover() if isolated else contextlib.nullcontext() as prover:
            tensors, computed = fit.outputs(max(preprocessing.input_size[1:]))
            if dtype is not None:
                tensors = narrow(tensors, dtype)
            health = Health()
            written = WeightsFile(write_weights(weights, tensors, health.check), weights.stat().st_size, len(tensors))
            health.conclude()
            source = _Checked(opened.sha256, opened.size, _source_proof(manifest, fetched))
            claim = Claim(
                str(checkpoint),
                str(weights),
                written,
                recipe or fit.recipe.name,
                architecture or None,
                preprocessing,
                dtype,
            )
            try:
                proof = prover.prove(claim) if prover else prove(claim)
            except ArchitectureError as error:
                if manifest is None:
                    raise
                shown = "\n".join(str(error).split("\n")[:4])  # without its advice, which is for files of one's own
                raise ArchitectureError(
                    f"this is not the checkpoint that {manifest.name!r} names, which is a {manifest.architecture}: "
                    f"{shown}\nGive that file, or leave out --model and state the preprocessing of this one."
                ) from error
    coverage = Coverage(fit.recipe.name, fit.recipe.digest, len(fit.kept), fit.dropped, computed, fit.path)
    record = _record(fit, proof, manifest, variants, source, written, origin, coverage)
    config = build_config(proof.network, record)
    (folder / CONFIG).write_text(render_config(config), encoding="utf-8")
    record = replace(record, digest=config["cxrzoo"]["digest"])
    return Conversion(folder, proof.network.architecture, fit.placements, record)


@dataclass(frozen=True)
class _Checked:
    """The checkpoint that was read, and how it is known to be the authors'."""

    sha256: str
    size: int
    proof: SourceProof


def _source_proof(manifest: Manifest | None, fetched: bool) -> SourceProof:
    if manifest is not None and manifest.source.sha256 is not None:
        return "digest"
    return "fetched" if fetched else "stated"


def _insist_on_source(opened: Checkpoint, manifest: Manifest, architecture: str | None) -> None:
    if architecture and manifest.architecture not in ("", architecture):
        raise ConversionError(
            f"{manifest.name!r} is a {manifest.architecture}, not a {architecture}. Leave out either the model "
            "or the architecture."
        )
    source = manifest.source
    if source.size is not None and opened.size != source.size:
        raise DigestError(
            f"the checkpoint has {opened.size} bytes, expected {source.size}: it is not the one that {manifest.name!r} "
            "names. Fetch it again, or convert it without naming a model."
        )
    if source.sha256 is not None and opened.sha256 != source.sha256:
        raise DigestError(
            f"the sha256 of the checkpoint is {opened.sha256}, expected {source.sha256}: it is not the one that "
            f"{manifest.name!r} names. Fetch it again, or convert it without naming a model."
        )


def _recognise(opened: Checkpoint) -> Manifest | None:
    """Return the model of the zoo that this very file is, where its digest is known."""
    manifests = map(describe, list_models())
    return next((m for m in manifests if m.source.size == opened.size and m.source.sha256 == opened.sha256), None)


def _variants(fit: Fit, manifest: Manifest | None) -> dict[str, Preprocessing]:
    if manifest is not None and manifest.preprocessing:
        default = manifest.default_variant
        return {default: manifest.preprocessing[default]} | manifest.preprocessing
    whose = f"hub/{manifest.name}.toml does not know" if manifest else "nothing says"
    known = f" What is known of it: {manifest.unknown['preprocessing']}." if manifest else ""
    raise ConversionError(
        f"{whose} how images were prepared for these weights (recipe {fit.recipe.name!r}). That is part of them: a "
        "network that gets other sizes, means and deviations than in its training gives other, worse embeddings."
        f"{known} Look them up in its code or paper, then state them, for pixels in [0, 1]: --size 224 --mean "
        "0.485,0.456,0.406 --std 0.229,0.224,0.225. Or take those of a model of the zoo that was trained alike: "
        f"--preprocess-from {_example(fit)}."
        + ("" if manifest else " If it is a released file that `cxrzoo list` shows, --model NAME says all of it.")
    )


def _example(fit: Fit) -> str:
    """Return a model that the same recipe converts, of those that are prepared as most of them are."""
    alike = [m for m in map(describe, list_models()) if m.recipe == fit.recipe.name and m.preprocessing]
    digests = Counter(m.preprocessing[m.default_variant].digest for m in alike)
    common = [m for m in alike if m.preprocessing[m.default_variant].digest == digests.most_common(1)[0][0]]
    return common[0].name if common else "NAME"


def _record(
    fit: Fit,
    proof: Proof,
    manifest: Manifest | None,
    variants: dict[str, Preprocessing],
    source: _Checked,
    weights: WeightsFile,
    origin: PreprocessingOrigin,
    coverage: Coverage,
) -> FolderRecord:
    default = next(iter(variants))
    variants = _for_channels(variants, default, proof.network.in_chans)
    return FolderRecord(
        schema=SCHEMA,
        model=manifest.name if manifest else f"{fit.recipe.name}-{proof.network.architecture}",
        summary=manifest.summary if manifest else fit.recipe.summary,
        method=manifest.method if manifest else fit.recipe.method,
        source=manifest.source if manifest else None,
        source_sha256=source.sha256,
        source_size=source.size,
        source_proof=source.proof,
        licence=manifest.licence if manifest else Licence(),
        weights=weights,
        default_variant=default,
        preprocessing=variants,
        preprocessing_sha256=variants[default].digest,
        preprocessing_origin=origin,
        coverage=coverage,
        parity=proof.parity,
        fingerprint=proof.fingerprint,
        untold=proof.network.untold,
        paper=manifest.paper if manifest else "",
        repository=manifest.repository if manifest else "",
        intended_use=manifest.intended_use if manifest else "",
        training_data=manifest.training_data if manifest else (),
        tags=manifest.tags if manifest else (),
        narrowing=proof.narrowing,
    )


def _for_channels(variants: dict[str, Preprocessing], default: str, channels: int) -> dict[str, Preprocessing]:
    """Return the variants that can be meant for a network of so many input channels; the default must be one."""
    possible = {
        name: variant.for_channels(channels)
        for name, variant in variants.items()
        if variant.input_size[0] == channels or variant.equal_channels
    }
    if default not in possible:
        raise ConversionError(
            f"the network takes {channels} channel(s), and the preprocessing {default!r} has different constants for "
            f"{variants[default].input_size[0]}: no one of them is right. State one --mean and --std for all channels."
        )
    return possible
