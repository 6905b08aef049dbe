"""Proof that converted weights are the upstream network: a strict load into timm, and equal features of both.

Runs in the calling process, or as `python -m cxrzoo.parity` in a child, so that a conversion needs memory for one
tensor and not for two networks and their activations.
"""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxrzoo import errors
from cxrzoo.architectures import build_network, match_architecture
from cxrzoo.checkpoint import Tensor, open_checkpoint
from cxrzoo.errors import ArchitectureError, ConversionError, CxrZooError
from cxrzoo.evidence import Fingerprint, Network, Parity
from cxrzoo.fingerprint import take_fingerprint
from cxrzoo.manifest import Preprocessing
from cxrzoo.matching import fit_recipe
from cxrzoo.recipe import Architecture, load_recipe
from cxrzoo.records import decode
from cxrzoo.sources import sha256_of
from cxrzoo.weights import as_tensor, read_into, read_shapes

if TYPE_CHECKING:
    from torch import nn

#: Pooled features of MoCo-CXR's networks differ by 0.0 where torchvision and timm run the same operations.
TOLERANCE = 1e-5
_BATCH, _SEED = 2, 0


@dataclass(frozen=True)
class Claim:
    """That the tensors of `weights` are a backbone, and the one inside `checkpoint` as `recipe` reads it.

    `preprocessing` is what the images of the fingerprint go through.
    """

    checkpoint: str
    weights: str
    recipe: str
    architecture: str | None
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Proof:
    """What was found: timm's facts about the network, its fingerprint, and the parity where there is a reference."""

    network: Network
    fingerprint: Fingerprint
    parity: Parity | None


def prove(claim: Claim) -> Proof:
    """Load the weights strictly into timm and compare with the upstream network, where the recipe names one.

    Raises:
        ArchitectureError: The tensors are not those of the architecture, here or upstream.
        ConversionError: The features differ.
    """
    with open_checkpoint(Path(claim.checkpoint)) as checkpoint:
        fit = fit_recipe(checkpoint.root, load_recipe(claim.recipe))
        weights = Path(claim.weights)
        size = max(claim.preprocessing.input_size[1:])
        network = match_architecture(read_shapes(weights), fit.route.architectures, claim.architecture, size)
        _insist_on_size(network, size)
        model = build_network(network.architecture, **network.model_args)
        _insist_on_format(weights, set(model.state_dict()))
        read_into(model.state_dict(), weights, sha256=sha256_of(weights), size=weights.stat().st_size)
        fingerprint = take_fingerprint(model, claim.preprocessing.for_channels(network.in_chans))
        known = [a for a in fit.route.last.architectures if a.name == network.architecture and a.upstream]
        if fit.route.last.reference is None or not known:
            return Proof(network, fingerprint, None)
        reference = _build_reference(known[0], network.in_chans, fit.upstream)
    return Proof(network, fingerprint, _compare(model, reference, network, known[0], size))


def _insist_on_size(network: Network, size: int) -> None:
    built = network.model_args.get("img_size", size)
    if network.fixed_input_size and built != size:
        raise ConversionError(
            f"the position table of the weights is for {built} px, and the preprocessing makes images of {size} px. "
            f"State {built}, or name a recipe that resamples the table."
        )


def _insist_on_format(weights: Path, names: set[str]) -> None:
    """Refuse a file of ours that the safetensors library reads otherwise than we do."""
    from safetensors import safe_open

    with safe_open(weights, framework="pt") as opened:
        if set(opened.keys()) != names or opened.metadata() != {"format": "pt"}:
            raise ConversionError("the safetensors library finds other tensors in the weights than were written.")


def prove_in_child(claim: Claim) -> Proof:
    """Do what `prove` does, in a process of its own.

    Raises:
        ConversionError: The child ended without an answer; otherwise what `prove` raises.
    """
    # -P keeps the working directory off the path: a stray torch.py there must not be imported
    process = subprocess.run(
        [sys.executable, "-P", "-m", "cxrzoo.parity"],
        input=json.dumps(asdict(claim)),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
    )
    try:
        answer = json.loads(process.stdout.rpartition("\n")[2])
    except ValueError:
        last = process.stderr.strip().rpartition("\n")[2]
        raise ConversionError(
            f"the process that proves the conversion ended with status {process.returncode}: {last or 'no message'}. "
            "Is there enough memory? Nothing was written."
        ) from None
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["text"])
    return decode(Proof, answer, "proof")


def _build_reference(known: Architecture, in_chans: int, upstream: dict[str, Tensor]) -> "nn.Module":
    import torch
    import torchvision

    with torch.device("meta"):
        reference: nn.Module = torchvision.models.get_model(known.upstream, weights=None)
        if in_chans != 3:
            _replace_stem(reference, in_chans)
        parent, _, own = known.classifier.rpartition(".")
        setattr(reference.get_submodule(parent), own, torch.nn.Identity())
    state = OrderedDict((name, as_tensor(tensor)) for name, tensor in upstream.items())
    # some modules (torchvision's MNASNet) look up the version of the layout that they are given
    state._metadata = reference.state_dict()._metadata  # type: ignore[attr-defined]
    try:
        reference.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise ArchitectureError(f"the tensors are not those of torchvision's {known.upstream}: {error}") from error
    return reference.eval()


def _replace_stem(reference: "nn.Module", in_chans: int) -> None:
    from torch import nn

    name, stem = next((n, m) for n, m in reference.named_modules() if isinstance(m, nn.Conv2d))
    parent, _, own = name.rpartition(".")
    # torchvision keeps all sizes as pairs, which its annotations do not say
    sizes: dict[str, Any] = {name: getattr(stem, name) for name in ("kernel_size", "stride", "padding")}
    conv = nn.Conv2d(in_chans, stem.out_channels, bias=stem.bias is not None, **sizes)
    setattr(reference.get_submodule(parent), own, conv)


def _compare(model: "nn.Module", reference: "nn.Module", network: Network, known: Architecture, size: int) -> Parity:
    import torch

    images = torch.randn(_BATCH, network.in_chans, size, size, generator=torch.Generator().manual_seed(_SEED))
    with torch.inference_mode():
        features, expected = model(images), reference(images)
    difference = float((features - expected).abs().max())
    parity = Parity(
        reference=f"torchvision {known.upstream}",
        input_size=(network.in_chans, size, size),
        # rounded, since the last digits depend on the processor and its threads
        max_difference=float(f"{difference:.1g}"),
        tolerance=TOLERANCE,
        scale=float(f"{float(expected.abs().max()):.2g}"),
    )
    if not difference <= TOLERANCE:
        raise ConversionError(
            f"the backbone {network.architecture} and {parity.reference} give different features for the same weights: "
            f"{difference:g} apart, at most {TOLERANCE:g} allowed. The recipe puts some tensors in the wrong place."
        )
    return parity


def _main() -> None:
    claim = decode(Claim, json.load(sys.stdin), "claim")
    try:
        answer = asdict(prove(claim))
    except CxrZooError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    sys.stdout.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    _main()
