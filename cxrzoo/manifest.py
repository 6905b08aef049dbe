"""One model of the zoo: what it is, where its weights come from, and how images must be prepared for it."""

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cxrzoo.errors import RecordError
from cxrzoo.records import canonical_json, check_choices, check_sha256, digest, read_toml
from cxrzoo.results import Measurement, Result
from cxrzoo.training import Training, TrainingSource

#: A public name, which is also a file name and part of cache paths: nothing else may pass.
NAME = re.compile(r"[a-z0-9]+(?:[-.][a-z0-9]+)*")
#: No detector has so many, and a network's memory grows with their square.
_MAX_SIDE = 4096
#: The grey levels of a detector of 16 bits.
_MOST_BINS = 65_536


@dataclass(frozen=True)
class Contrast:
    """How the grey levels of each image are changed, from its own pixels alone.

    "min-max" makes the darkest pixel 0 and the brightest 1; "percentiles" cuts off what lies outside of these two and
    does the same with the rest; "equalise" flattens the histogram of so many bins.
    """

    method: Literal["min-max", "percentiles", "equalise"]
    stage: Literal["before resize", "after crop"]
    percentiles: tuple[float, float] | None = None
    bins: int | None = None

    def __post_init__(self) -> None:
        check_choices(self)
        needed = {"percentiles": "percentiles", "equalise": "bins"}.get(self.method)
        given = [name for name in ("percentiles", "bins") if getattr(self, name) is not None]
        if given != [name for name in (needed,) if name]:
            raise RecordError(
                f"contrast: found {' and '.join(given) or 'neither percentiles nor bins'} with {self.method!r}, "
                f"expected {needed or 'neither percentiles nor bins'}."
            )
        if self.percentiles is not None:
            low, high = map(float, self.percentiles)
            object.__setattr__(self, "percentiles", (low, high))
            if not 0 <= low < high <= 100:
                raise RecordError(f"percentiles: found {low:g} and {high:g}, expected two from 0 to 100, ascending.")
        if self.bins is not None and not 2 <= self.bins <= _MOST_BINS:
            raise RecordError(f"bins: found {self.bins}, expected 2 to {_MOST_BINS}.")

    def __str__(self) -> str:
        details = ""
        if self.percentiles is not None:
            details = " {:g} to {:g}".format(*self.percentiles)
        if self.bins is not None:
            details = f" in {self.bins} bins"
        return f"{self.method}{details} {self.stage}"


#: Fields that came after digests had been stored: they count where they differ from what was done before.
_ADDED = {"contrast": None, "decoding": "exact"}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the tensor a model expects; part of the weights.

    `input_size` is (channels, height, width) in pixels. `mean` and `std` hold one value for each channel, for
    pixels in [0, 1]. `crop_pct`, `crop_mode` and `interpolation` mean what they mean in timm, but for "pad": as timm's
    "border", on black. `intensity` says which grey levels of a DICOM image: its window, or all that the stored bits
    allow. `decoding` "fast" lets the image be made smaller while it is read.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"]
    crop_pct: float
    crop_mode: Literal["center", "squash", "pad"]
    intensity: Literal["window", "full_range"] = "window"
    source: str = ""
    contrast: Contrast | None = None
    decoding: Literal["exact", "fast"] = "exact"

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("mean", "std"):  # 0 and 0.0 are one number, but not one text in JSON
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        object.__setattr__(self, "crop_pct", float(self.crop_pct))
        channels, height, width = self.input_size
        if channels not in (1, 3) or {len(self.mean), len(self.std)} != {channels}:
            raise RecordError(
                f"mean and std: found {len(self.mean)} and {len(self.std)} values for {channels} channels, expected "
                "one a channel, for 1 or 3 channels."
            )
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not all(0 <= value <= 1 for value in values) or (name == "std" and 0 in values):
                found, least = ", ".join(f"{value:g}" for value in values), "from 0" if name == "mean" else "above 0"
                raise RecordError(
                    f"{name}: found {found}, expected numbers {least} to 1, for pixels in [0, 1]. Divide by 255 what "
                    "is meant for pixels in 0..255."
                )
        if not 1 <= min(height, width) <= max(height, width) <= _MAX_SIDE:
            raise RecordError(
                f"input_size: found {[height, width]}, expected a height and a width of 1 to {_MAX_SIDE} pixels."
            )
        if height != width and self.crop_mode != "squash":
            raise RecordError(
                f"input_size: found {height} x {width} with crop_mode {self.crop_mode!r}, expected a square. "
                "Use crop_mode 'squash' for other shapes."
            )
        if not 0 < self.crop_pct <= 1:
            raise RecordError(f"crop_pct: found {self.crop_pct:g}, expected a share above 0, and at most 1.")

    @property
    def digest(self) -> str:
        """The sha256 of everything that changes the tensor; `source` does not."""
        fields = self.as_dict() | {"source": ""}
        return digest({name: value for name, value in fields.items() if name not in _ADDED or value != _ADDED[name]})

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON can hold."""
        fields: dict[str, Any] = json.loads(canonical_json(dataclasses.asdict(self)))
        return {field.name: fields[field.name] for field in dataclasses.fields(self)}

    @property
    def timm_fields(self) -> dict[str, Any]:
        """What timm has words for; "border" is the nearest to "pad" that it has, on grey and not on black."""
        names = ("input_size", "mean", "std", "interpolation", "crop_pct")
        crop_mode = "border" if self.crop_mode == "pad" else self.crop_mode
        return {name: getattr(self, name) for name in names} | {"crop_mode": crop_mode}

    def for_channels(self, channels: int) -> "Preprocessing":
        """Return the record for `channels` equal channels; unequal constants are replaced by their mean."""
        if channels == self.input_size[0]:
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        if self.equal_channels:
            # the sum of three equal floats divided by three is not always that float
            mean, std = self.mean[0], self.std[0]
        return dataclasses.replace(
            self,
            input_size=(channels, *self.input_size[1:]),
            mean=(mean,) * channels,
            std=(std,) * channels,
        )

    @property
    def equal_channels(self) -> bool:
        """Whether all channels are normalised alike, so that one channel can stand for all exactly."""
        return len(set(self.mean)) == len(set(self.std)) == 1


@dataclass(frozen=True)
class Licence:
    """What is stated of the licences, kept apart for weights, code and data. None: nothing is stated."""

    weights: str | None = None
    code: str | None = None
    data: str | None = None
    rehost: bool = False
    note: str = ""


@dataclass(frozen=True)
class Source:
    """The checkpoint as its authors released it: at a URL, as a file of a Python distribution, or to fetch by hand.

    `page` is where a person finds it, such as a shared folder, a form to sign or a README with links. `command` is
    there for what this project trained: it makes the checkpoint anew.
    """

    url: str | None = None
    page: str | None = None
    distribution: str | None = None
    file: str | None = None
    sha256: str | None = None
    size: int | None = None
    command: str | None = None

    def __str__(self) -> str:
        if self.command is not None:
            return f"trained by this project with `{self.command}`"
        if self.page is not None:
            return f"to be fetched by hand from {self.page}"
        return self.url or f"{self.file} of the Python distribution {self.distribution}"

    def __post_init__(self) -> None:
        places = ("url", "page", "distribution", "file", "command")
        given = [name for name in places if getattr(self, name) is not None]
        if given not in (["url"], ["page"], ["distribution", "file"], ["command"]):
            raise RecordError("source: give either url, or page, or distribution and file, or command.")
        if self.command is not None and not (self.command.strip() and self.command.isprintable()):
            raise RecordError(f"source: command: found {self.command!r}, expected one line.")
        for address in filter(None, (self.url, self.page)):
            if not address.startswith("https://"):
                raise RecordError(f"source: found {address!r}, expected an address that starts with https://.")
        check_sha256(self.sha256)


@dataclass(frozen=True)
class HubFile:
    """The converted folder on the Hub; `revision` is a commit, `sha256` and `size` the weights’."""

    repo_id: str
    revision: str
    sha256: str
    size: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{40}", self.revision):
            raise RecordError(f"hub: found the revision {self.revision!r}, expected a commit of 40 hex digits.")
        check_sha256(self.sha256)


@dataclass(frozen=True)
class Weights:
    """What `model.safetensors` must be in the folder that lies beside the manifest, and in the one on the Hub."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        check_sha256(self.sha256)


@dataclass(frozen=True)
class Manifest:
    """One file of hub/; its fields are described in hub/README.md.

    Facts that nobody stated are empty, and `unknown` says of each what is known, or where to look.
    """

    name: str
    summary: str
    method: str
    intended_use: str
    training_data: tuple[str, ...]
    paper: str
    repository: str
    licence: Licence
    source: Source
    architecture: str = ""
    recipe: str = ""
    default_variant: str = ""
    preprocessing: dict[str, Preprocessing] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    weights: Weights | None = None
    hub: HubFile | None = None
    training: Training | None = None
    training_source: tuple[TrainingSource, ...] = ()
    reproduces: str = ""
    limits: tuple[str, ...] = ()
    results: tuple[Result, ...] = ()
    measured: tuple[Measurement, ...] = ()

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RecordError(f"name: found {self.name!r}, expected lower-case words joined by '-'.")
        if self.preprocessing and self.default_variant not in self.preprocessing:
            raise RecordError(
                f"default_variant: found {self.default_variant!r}, expected one of {', '.join(self.preprocessing)}."
            )
        facts = ("architecture", "recipe", "preprocessing")
        empty = {fact for fact in facts if not getattr(self, fact)}
        if empty - self.unknown.keys() or self.unknown.keys() & set(facts) - empty:
            raise RecordError(
                f"unknown: found {', '.join(self.unknown) or 'nothing'}, expected a line on each fact that is left "
                f"out, here {', '.join(sorted(empty)) or 'none'}, and on none that is given."
            )
        self._check_training()
        self._check_measured()

    def _check_training(self) -> None:
        """Refuse two promises of one file, and a training on more images than there are."""
        if self.weights and self.hub and (self.weights.sha256, self.weights.size) != (self.hub.sha256, self.hub.size):
            raise RecordError(
                f"weights and hub: found two files, {self.weights.sha256[:16]} and {self.hub.sha256[:16]}, expected "
                "one. Publish the weights again, or correct the table."
            )
        used, there = self.training and self.training.images, sum(source.images for source in self.training_source)
        if used and there and used > there:
            raise RecordError(f"training: found {used} images, and {there} in all of training_source. Correct one.")

    def _check_measured(self) -> None:
        """Refuse figures that are not of this model as it stands here: its weights, its preprocessing, each once."""
        known = [promised.sha256 for promised in (self.weights, self.hub) if promised]
        weights = {row.weights_sha256 for row in self.measured}.union(known)
        if self.measured and len(weights) > 1:
            raise RecordError(
                f"measured: found figures of the weights {' and '.join(value[:16] for value in sorted(weights))}, "
                "expected one. Remove the rows of the other weights, or measure again."
            )
        seen = set()
        for row in self.measured:
            what = f"measured: {row.dataset}, {row.task}, {row.mode}"
            variant = self.preprocessing.get(row.preprocessing)
            if variant is None or variant.digest != row.preprocessing_sha256:
                raise RecordError(
                    f"{what}: the preprocessing {row.preprocessing!r} with digest {row.preprocessing_sha256[:16]} is "
                    f"none of {', '.join(self.preprocessing) or 'none'}. Remove the row, or measure again."
                )
            if row.key in seen:
                raise RecordError(f"{what}: found twice with one protocol, expected once. Remove the older row.")
            seen.add(row.key)

    @property
    def hosted(self) -> str:
        """Where the file is, in a word: the host, the Python distribution that carries it, or this repository."""
        source = self.source
        if source.command is not None:
            return "this repository"
        if source.distribution is not None:
            return f"PyPI: {source.distribution}"
        host = (source.url or source.page or "").split("/")[2]
        return host if source.url else f"by hand: {host}"


def first_sentence(text: str) -> str:
    """Return what stands before the first full stop that ends a sentence, without it."""
    return text.partition(". ")[0].rstrip(".")


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a TOML file, whose stem must be the model's name.

    Raises:
        RecordError: The file is no TOML, or a field is unknown, missing or of the wrong type.
    """
    return read_toml(Manifest, path, f"hub/{path.name}")
