"""Proof that converted weights are the upstream network: a strict load into timm, and equal features of both.

Runs in the calling process, or as `python -m cxrzoo.parity` in a child, so that a conversion needs memory for one
tensor and not for networks and their activations. The child is started first: it imports what it needs meanwhile.
"""

import json
import os
import subprocess
import sys
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cxrzoo import errors
from cxrzoo.architectures import build_network, find_image_side, match_architecture
from cxrzoo.checkpoint import open_checkpoint
from cxrzoo.errors import ArchitectureError, ConversionError, CxrZooError
from cxrzoo.evidence import Fingerprint, HalfPrecision, Narrowing, Network, Parity, WeightsFile
from cxrzoo.fingerprint import make_phantom, take_fingerprint
from cxrzoo.fits import fit_recipe
from cxrzoo.manifest import Preprocessing
from cxrzoo.operations import Readable
from cxrzoo.precision import compare_precision
from cxrzoo.recipe import Architecture, load_recipe
from cxrzoo.records import decode
from cxrzoo.weights import as_tensor, read_into, read_shapes

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Pooled features of MoCo-CXR's networks differ by 0.0 where torchvision and timm run the same operations.
TOLERANCE = 1e-5
_SEED = 0


@dataclass(frozen=True)
class Claim:
    """That the tensors of `weights` are a backbone, and the one inside `checkpoint` as `recipe` reads it.

    `written` says what its file must hold, `preprocessing` is what the images of the fingerprint go through, `dtype`
    what the weights were narrowed to.
    """

    checkpoint: str
    weights: str
    written: WeightsFile
    recipe: str
    architecture: str | None
    preprocessing: Preprocessing
    dtype: HalfPrecision | None = None


@dataclass(frozen=True)
class Proof:
    """What was found: timm's facts about the network, its fingerprint, and the parity where there is a reference.

    `narrowing` says what half precision changed, where there is any. Parity is then that of the weights before it: it
    is about which tensor goes where.
    """

    network: Network
    fingerprint: Fingerprint
    parity: Parity | None
    narrowing: Narrowing | None = None


def prove(claim: Claim) -> Proof:
    """Load the weights strictly into timm and compare with the upstream network, where the recipe names one.

    Raises:
        ArchitectureError: The tensors are not those of the architecture, here or upstream.
        ConversionError: The features differ, or half precision changed them too much.
    """
    size = max(claim.preprocessing.input_size[1:])
    with open_checkpoint(Path(claim.checkpoint)) as checkpoint:
        fit = fit_recipe(checkpoint.root, load_recipe(claim.recipe))
        weights = Path(claim.weights)
        shapes = read_shapes(weights)
        network = match_architecture(shapes, fit.route.architectures, claim.architecture, size)
        _insist_on_size(network, size)
        images = _make_images(claim.preprocessing.for_channels(network.in_chans))
        # one network after the other, so that two are never in memory
        features = _embed(_load(network, weights, claim.written), images)
        fingerprint = take_fingerprint(features[0].numpy())
        narrowing = None
        if claim.dtype is not None:
            wide = _embed(_load_wide(network, fit.outputs(size)[0]), images)
            narrowing = compare_precision(features[0].numpy(), wide[0].numpy(), shapes, claim.dtype)
            features = wide
        known = [a for a in fit.route.last.architectures if a.name == network.architecture and a.upstream]
        if fit.route.last.reference is None or not known:
            return Proof(network, fingerprint, None, narrowing)
        expected = _embed(_build_reference(known[0], network.in_chans, fit.upstream), images)
    return Proof(network, fingerprint, _compare(features, expected, network, known[0], size), narrowing)


def _make_images(preprocessing: Preprocessing) -> "torch.Tensor":
    """Return two images (2, C, H, W): the phantom as the network would get it, and noise."""
    import torch

    from cxrzoo.preprocessing import Transform

    phantom = Transform(preprocessing)(make_phantom())
    noise = torch.randn(phantom.shape, generator=torch.Generator().manual_seed(_SEED))
    return torch.stack([phantom, noise])


def _load(network: Network, weights: Path, written: WeightsFile) -> "nn.Module":
    model = build_network(network.architecture, **network.model_args)
    _insist_on_format(weights, set(model.state_dict()))
    read_into(model.state_dict(), weights, sha256=written.sha256, size=written.size)
    return model


def _load_wide(network: Network, tensors: dict[str, Readable]) -> "nn.Module":
    """Return the backbone with the tensors of the checkpoint itself, before they were narrowed."""
    model = build_network(network.architecture, **network.model_args)
    state = model.state_dict()
    for name, tensor in tensors.items():
        state[name].copy_(as_tensor(tensor))
    return model


def _embed(model: "nn.Module", images: "torch.Tensor") -> "torch.Tensor":
    import torch

    try:
        with torch.inference_mode():
            features: torch.Tensor = model(images)
    except (RuntimeError, AssertionError, ValueError) as error:
        if "can't allocate" in str(error):  # torch has no class of its own for that on a processor
            raise
        height, width = images.shape[2:]
        raise ConversionError(
            f"the network can't take images of {height} × {width}: {error}. State another --size."
        ) from error
    return features


def _insist_on_size(network: Network, size: int) -> None:
    built = find_image_side(network)
    if built not in (None, size):
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


class Prover:
    """A child process that does what `prove` does, once; leaving the `with` block ends it."""

    def __enter__(self) -> Self:
        # -P keeps the working directory off the path: a stray torch.py there must not be imported
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cxrzoo.parity"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()

    def prove(self, claim: Claim) -> Proof:
        """Return what `prove` returns.

        Raises:
            ConversionError: The child ended without an answer; otherwise what `prove` raises.
        """
        complaint = ""
        try:
            output, complaint = self._process.communicate(json.dumps(asdict(claim)))
            answer = json.loads(output.rpartition("\n")[2])
        except (ValueError, BrokenPipeError):
            last = complaint.strip().rpartition("\n")[2]
            raise ConversionError(
                f"the process that proves the conversion ended with status {self._process.returncode}: "
                f"{last or 'no message'}. Is there enough memory? Nothing was written."
            ) from None
        if "error" in answer:
            raise getattr(errors, answer["error"])(answer["text"])
        return decode(Proof, answer, "proof")


def _build_reference(known: Architecture, in_chans: int, upstream: dict[str, Readable]) -> "nn.Module":
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


def _compare(
    features: "torch.Tensor", expected: "torch.Tensor", network: Network, known: Architecture, size: int
) -> Parity:
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
    import timm  # noqa: F401  # before the claim comes, which may take a while
    import torchvision  # noqa: F401

    claim = decode(Claim, json.load(sys.stdin), "claim")
    try:
        answer = asdict(prove(claim))
    except CxrZooError as error:
        answer = {"error": type(error).__name__, "text": str(error)}
    sys.stdout.write("\n" + json.dumps(answer))


if __name__ == "__main__":
    _main()
