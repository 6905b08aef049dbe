"""A model folder, as timm, transformers and cxrzoo read it: `config.json` beside `model.safetensors`.

What timm can express stands in `pretrained_cfg`, in timm's own fields and nothing else, since timm refuses unknown
ones. What it can't (source, proof, preprocessing variants, licence) stands under the top-level key `cxrzoo`, which
timm and transformers leave alone.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxrzoo.errors import FolderError, RecordError
from cxrzoo.manifest import Licence, Preprocessing, Source
from cxrzoo.records import decode, digest

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SCHEMA = 1


@dataclass(frozen=True)
class WeightsFile:
    """What `model.safetensors` must be: digest, bytes, number of tensors."""

    sha256: str
    size: int
    tensors: int


@dataclass(frozen=True)
class Network:
    """What timm says of an architecture once it is built: the facts that config.json repeats."""

    architecture: str
    in_chans: int
    num_features: int
    global_pool: str
    first_conv: str
    classifier: str
    pool_size: tuple[int, int] | None


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
class Coverage:
    """What became of every key of the checkpoint: how many were kept, and how many dropped for each reason."""

    recipe: str
    recipe_sha256: str
    kept: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class FolderRecord:
    """The `cxrzoo` part of config.json: where the weights come from, what was proven, how images are prepared."""

    schema: int
    model: str
    summary: str
    method: str
    source: Source | None
    source_sha256: str
    source_size: int
    licence: Licence
    weights: WeightsFile
    default_variant: str
    preprocessing: dict[str, Preprocessing]
    preprocessing_sha256: str
    coverage: Coverage
    parity: Parity | None
    paper: str = ""
    repository: str = ""
    intended_use: str = ""
    training_data: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Folder:
    """A model folder whose config.json was read and found consistent; the weights were not opened yet."""

    path: Path
    architecture: str
    num_features: int
    model_args: dict[str, Any]
    pretrained_cfg: dict[str, Any]
    record: FolderRecord

    @property
    def weights(self) -> Path:
        """The file that holds the weights."""
        return self.path / WEIGHTS


def build_config(network: Network, record: FolderRecord) -> dict[str, Any]:
    """Return what config.json must hold.

    `num_classes` stays out of `model_args`: transformers' AutoModel passes its own and would meet it twice.
    """
    config: dict[str, Any] = {
        "architecture": network.architecture,
        "num_classes": 0,
        "num_features": network.num_features,
        "global_pool": network.global_pool,
        "pretrained_cfg": timm_fields(network, record),
        "cxrzoo": json.loads(json.dumps(asdict(record))),
    }
    if network.in_chans != 3:
        config["model_args"] = {"in_chans": network.in_chans}
    config["cxrzoo"]["digest"] = _own_digest(config)
    return config


def timm_fields(network: Network, record: FolderRecord) -> dict[str, Any]:
    """Return `pretrained_cfg`: the default preprocessing in timm's words, and nothing inherited from other weights."""
    preprocessing = record.preprocessing[record.default_variant]
    fields = {
        "num_classes": 0,
        "input_size": list(preprocessing.input_size),
        "fixed_input_size": False,
        "interpolation": preprocessing.interpolation,
        "crop_pct": preprocessing.crop_pct,
        "crop_mode": preprocessing.crop_mode,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "pool_size": network.pool_size and list(network.pool_size),
        "first_conv": network.first_conv,
        "classifier": network.classifier,
        "license": record.licence.weights,
        "origin_url": record.repository or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def render_config(config: dict[str, Any]) -> str:
    """Return the one text of config.json that these contents may have."""
    return json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def read_folder(path: Path) -> Folder:
    """Return the model folder at `path`, with its config.json checked against its own digest.

    Raises:
        FolderError: A file or the record is missing, or config.json was edited.
    """
    if not path.is_dir():
        raise FolderError(
            f"{path} is no folder. Give a folder that `cxrzoo convert` wrote, or a name of `cxrzoo list`."
        )
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise FolderError(
                f"{path} has no {name}. A model folder holds {CONFIG} and {WEIGHTS}; was it copied whole?"
            )
    return parse_config(path, (path / CONFIG).read_bytes())


def parse_config(path: Path, content: bytes) -> Folder:
    """Return the folder at `path` as its config.json, read already, describes it."""
    try:
        config = json.loads(content)
    except ValueError as error:
        raise FolderError(f"{path / CONFIG} is not valid JSON: {error}. Convert the model again.") from error
    if not isinstance(config, dict) or "cxrzoo" not in config:
        raise FolderError(
            f"{path / CONFIG} has no 'cxrzoo' record, so nothing says how images must be prepared for these weights. "
            "Convert the checkpoint with `cxrzoo convert`; or load it with timm, and mind the preprocessing yourself."
        )
    try:
        record = decode(FolderRecord, config["cxrzoo"], f"{path / CONFIG}: cxrzoo")
    except RecordError as error:
        raise FolderError(f"{error} Was it written by another version of cxrzoo? Convert the model again.") from error
    if record.schema != SCHEMA:
        raise FolderError(
            f"{path / CONFIG} has schema {record.schema}, this cxrzoo reads {SCHEMA}. Update or convert again."
        )
    if record.digest != _own_digest(config):
        raise FolderError(
            f"{path / CONFIG} was changed after it was written: its digest is {_own_digest(config)}, the record says "
            f"{record.digest}. Convert the model again, with the facts you meant to change."
        )
    if record.default_variant not in record.preprocessing:
        raise FolderError(f"{path / CONFIG}: no preprocessing variant is named {record.default_variant!r}.")
    try:
        return Folder(
            path=path,
            architecture=str(config["architecture"]),
            num_features=int(config["num_features"]),
            model_args=dict(config.get("model_args", {})),
            pretrained_cfg=dict(config["pretrained_cfg"]),
            record=record,
        )
    except KeyError as error:
        raise FolderError(f"{path / CONFIG} lacks the field {error}. Convert the model again.") from error


def _own_digest(config: dict[str, Any]) -> str:
    try:
        return digest(config | {"cxrzoo": config["cxrzoo"] | {"digest": ""}})
    except (TypeError, ValueError) as error:
        raise FolderError(f"config.json holds values that no record of ours has: {error}.") from error
