"""What is recorded of a conversion: the facts of the network, the coverage of the keys, the parity, the digests."""

from dataclasses import dataclass, field
from typing import Any, Literal

from cxrzoo.manifest import Licence, Preprocessing, Source

#: How a checkpoint is known to be the one its source names: by its digest, fetched from there, or by somebody's word.
SourceProof = Literal["digest", "fetched", "stated"]

#: Types that weights may be stored in to take half the room.
HalfPrecision = Literal["float16", "bfloat16"]

#: Who says how images are prepared: the model's manifest, or whoever converted it.
PreprocessingOrigin = Literal["manifest", "stated"]


@dataclass(frozen=True)
class WeightsFile:
    """What `model.safetensors` must be: digest, bytes, number of tensors."""

    sha256: str
    size: int
    tensors: int


@dataclass(frozen=True)
class Network:
    """What timm says of an architecture once it is built: the facts that config.json repeats.

    `model_args` are timm's arguments where they are other than the architecture's own; `untold` is what no name and no
    shape tells of it, and the recipe takes for granted.
    """

    architecture: str
    model_args: dict[str, Any]
    in_chans: int
    num_features: int
    global_pool: str
    fixed_input_size: bool
    first_conv: str
    classifier: str
    pool_size: tuple[int, int] | None
    untold: str = ""


@dataclass(frozen=True)
class Parity:
    """Pooled features of the upstream network against the backbone's, on one seeded random batch.

    `max_difference` is the largest absolute difference, `scale` the largest absolute feature.
    """

    reference: str
    input_size: tuple[int, int, int]
    max_difference: float
    tolerance: float
    scale: float


@dataclass(frozen=True)
class Narrowing:
    """What half precision did to the weights: how many tensors were stored in `dtype`, and what that changed.

    `cosine` is that of the embeddings of the synthetic radiograph, with the weights as they were and as they are
    stored; `least` is what was demanded of it.
    """

    dtype: HalfPrecision
    tensors: int
    cosine: float
    least: float

    def __str__(self) -> str:
        return (
            f"{self.tensors} tensors in {self.dtype}, which leaves the embedding of a synthetic radiograph a cosine of "
            f"{self.cosine!r} (at least {self.least:g} demanded)"
        )


@dataclass(frozen=True)
class Coverage:
    """What became of every key of the checkpoint: how many were kept, and how many dropped for each reason.

    `computed` says how many tensors of the backbone each operation made out of those that were kept, `path` which
    state_dict of the file was read, "" for the top level.
    """

    recipe: str
    recipe_sha256: str
    kept: int
    dropped: dict[str, int]
    computed: dict[str, int] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True)
class Fingerprint:
    """The embedding of a synthetic radiograph, as a digest that survives other hardware.

    Embedding is a list of numbers that differ in their last digits from machine to machine. Here a few weighted sums
    of them are rounded to a grid that is shifted by `offset`, so that none lies near the edge of its cell: nearer than
    `margin`, in units of the grid, where each sum has the length of the whole embedding for its unit.
    """

    phantom: str
    offset: float
    margin: float
    digest: str


@dataclass(frozen=True)
class FolderRecord:
    """The `cxrzoo` part of config.json: where the weights come from, what was proven, how images are prepared.

    `narrowing` is there where weights are stored in half precision. It is left out of config.json where it is not, and
    so is any field that is added later: folders that were written without it must keep their digest.
    """

    schema: int
    model: str
    summary: str
    method: str
    source: Source | None
    source_sha256: str
    source_size: int
    source_proof: SourceProof
    licence: Licence
    weights: WeightsFile
    default_variant: str
    preprocessing: dict[str, Preprocessing]
    preprocessing_sha256: str
    preprocessing_origin: PreprocessingOrigin
    coverage: Coverage
    parity: Parity | None
    fingerprint: Fingerprint
    untold: str = ""
    paper: str = ""
    repository: str = ""
    intended_use: str = ""
    training_data: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    narrowing: Narrowing | None = None
    digest: str = ""
