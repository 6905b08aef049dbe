"""A model folder, as timm, transformers and cxrzoo read it: `config.json` beside `model.safetensors`.

What timm can express stands in `pretrained_cfg`, in timm's own fields and nothing else, since timm refuses unknown
ones. What it can't (source, proof, preprocessing variants, licence) stands under the top-level key `cxrzoo`, which
timm and transformers leave alone.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cxrzoo.errors import DigestError, FolderError, RecordError
from cxrzoo.evidence import FolderRecord, Network
from cxrzoo.records import decode, digest
from cxrzoo.timm_arguments import check_arguments

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SCHEMA = 2
#: Height and width of an image before it is cropped.
_MOST_PIXELS = 8192


@dataclass(frozen=True)
class TimmFields:
    """`pretrained_cfg`: those of timm's fields that we write."""

    num_classes: Literal[0]
    input_size: tuple[int, int, int]
    fixed_input_size: bool
    interpolation: str
    crop_pct: float
    crop_mode: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    first_conv: str
    classifier: str
    pool_size: tuple[int, int] | None = None
    license: str | None = None
    origin_url: str | None = None


@dataclass(frozen=True)
class _Config:
    """config.json, as we write it."""

    architecture: str
    num_classes: Literal[0]
    num_features: int
    global_pool: str
    pretrained_cfg: TimmFields
    cxrzoo: FolderRecord
    model_args: dict[str, Any] = field(default_factory=dict)


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
        "cxrzoo": _record_fields(record),
    }
    if network.model_args:
        config["model_args"] = network.model_args
    config = json.loads(json.dumps(config))  # tuples become lists, as they will be when it is read
    config["cxrzoo"]["digest"] = _own_digest(config)
    return config


def _record_fields(record: FolderRecord) -> dict[str, Any]:
    """Return the record without the fields that are newer than the first folders, where these say nothing."""
    fields = asdict(record)
    if record.narrowing is None:
        del fields["narrowing"]
    if record.source is not None and record.source.command is None:
        del fields["source"]["command"]
    return fields


def timm_fields(network: Network, record: FolderRecord) -> dict[str, Any]:
    """Return `pretrained_cfg`: the default preprocessing in timm's words, and nothing inherited from other weights."""
    preprocessing = record.preprocessing[record.default_variant]
    fields = TimmFields(
        num_classes=0,
        fixed_input_size=network.fixed_input_size,
        pool_size=network.pool_size,
        first_conv=network.first_conv,
        classifier=network.classifier,
        license=record.licence.weights,
        origin_url=record.repository or None,
        **preprocessing.timm_fields,
    )
    return {name: value for name, value in asdict(fields).items() if value is not None}


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
            f"{path} is no folder. Give the path of a folder that `cxrzoo convert` wrote. To load a model of the zoo, "
            "give its name alone; a repository of the Hub is 'hf-hub:org/name'."
        )
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            raise FolderError(
                f"{path} has no {name}. A model folder holds {CONFIG} and {WEIGHTS}; was it copied whole?"
            )
    return parse_config(path, (path / CONFIG).read_bytes())


def parse_config(path: Path, content: bytes) -> Folder:
    """Return the folder at `path` as its config.json, read already, describes it.

    Raises:
        FolderError: It is not what we write.
        DigestError: It was changed after it was written.
    """
    where = path / CONFIG
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FolderError(f"{where} is not valid JSON ({type(error).__name__}). Convert the model again.") from error
    if not isinstance(config, dict) or not isinstance(config.get("cxrzoo"), dict):
        raise FolderError(
            f"{where} has no 'cxrzoo' record, so nothing says how images must be prepared for these weights. "
            "Convert the checkpoint with `cxrzoo convert`; or load it with timm, and mind the preprocessing yourself."
        )
    if config["cxrzoo"].get("schema") != SCHEMA:
        raise FolderError(
            f"{where} has schema {config['cxrzoo'].get('schema')!r}, this cxrzoo reads {SCHEMA}. Use the version that "
            "wrote it, or convert the checkpoint again."
        )
    if config["cxrzoo"].get("digest") != _own_digest(config):
        raise DigestError(
            f"{where} was changed after it was written: its digest is {_own_digest(config)}, the record says "
            f"{config['cxrzoo'].get('digest')}. Convert the model again, with the facts you meant to change."
        )
    try:
        parsed = decode(_Config, config, str(where))
        _check_bounds(parsed, str(where))
    except RecordError as error:
        raise FolderError(f"{error} Convert the model again.") from error
    if parsed.cxrzoo.default_variant not in parsed.cxrzoo.preprocessing:
        raise FolderError(f"{where}: no preprocessing variant is named {parsed.cxrzoo.default_variant!r}.")
    return Folder(
        path=path,
        architecture=parsed.architecture,
        num_features=parsed.num_features,
        model_args=parsed.model_args,
        pretrained_cfg={name: value for name, value in asdict(parsed.pretrained_cfg).items() if value is not None},
        record=parsed.cxrzoo,
    )


def _check_bounds(config: _Config, where: str) -> None:
    """Refuse numbers that would take memory freely, in a network or in images, before the weights are looked at."""
    timm = config.pretrained_cfg
    check_arguments(config.model_args, f"{where}: model_args", timm.input_size[1:] if timm.fixed_input_size else ())
    for name, variant in config.cxrzoo.preprocessing.items():
        resized = max(variant.input_size[1:]) / variant.crop_pct
        if resized > _MOST_PIXELS:
            raise RecordError(
                f"{where}: {name!r} makes images of {resized:g} px before the crop, expected at most {_MOST_PIXELS}."
            )


def _own_digest(config: dict[str, Any]) -> str:
    try:
        return digest(config | {"cxrzoo": config["cxrzoo"] | {"digest": ""}})
    except (TypeError, ValueError) as error:
        raise FolderError(f"config.json holds values that no record of ours has: {error}.") from error
