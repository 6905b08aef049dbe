"""What `compare` measured into the manifests of the zoo, from which cards and the tables in the documents are made."""

import dataclasses
import logging
import re
import tempfile
import tomllib
from itertools import pairwise
from pathlib import Path

import tomlkit

from cxrzoo._paths import CHECKOUT, MANIFESTS
from cxrzoo.errors import DigestError, EvaluationError, RecordError, UnknownModelError
from cxrzoo.evaluation.comparison import Comparison, Contender
from cxrzoo.evaluation.measurements import list_measurements
from cxrzoo.evaluation.settings import find_commit
from cxrzoo.locations import cache_key
from cxrzoo.manifest import NAME, Manifest, read_manifest
from cxrzoo.registry import describe
from cxrzoo.results import Measurement
from cxrzoo.sources import Cache, write_atomically

logger = logging.getLogger("cxrzoo")

_HEADER = "[[measured]]"
#: Where a row begins: with the comments right above it.
_ROW = re.compile(rf"^(?:#[^\n]*\n)*{re.escape(_HEADER)}", re.MULTILINE)


def save_results(
    comparison: Comparison, dataset: str, *, dataset_url: str = "", folder: Path | None = None
) -> list[Path]:
    """Write the figures of every model of the zoo into its manifest, and return the manifests that were written.

    A row of the same data set, finding, protocol and mode is replaced; all else of the file stays byte for byte. What
    is no model of the zoo is left alone, and a warning says so.

    Args:
        dataset: The name of the data set, as readers of a card know it.
        dataset_url: Where it is described.
        folder: The manifests; hub/ of this checkout if left out.

    Raises:
        UnknownModelError: No model of the zoo was compared.
        EvaluationError: No commit is known, or this is no checkout.
        DigestError: The weights or the preprocessing are not those of the manifest.
        RecordError: A manifest would not be readable with the new rows; none was changed.
        DiskError: A manifest could not be written.
    """
    if folder is None:
        _check_checkout()
        folder = MANIFESTS
    rows: dict[Path, list[Measurement]] = {}
    for contender in comparison.contenders:
        name = contender.name.partition(":")[0]
        path = folder / f"{name}.toml"
        if contender.kind == "model" and NAME.fullmatch(name) and path.is_file():
            _check_identity(contender, read_manifest(path))
            rows.setdefault(path, []).extend(list_measurements(comparison, contender, dataset, dataset_url))
        elif contender.kind != "untrained":
            logger.warning("%s is no model of the zoo: its figures were not saved.", contender.name)
    if not rows:
        raise UnknownModelError(
            f"found {', '.join(contender.name for contender in comparison.contenders)}, expected a model of the zoo: "
            "only its figures can be saved. `cxrzoo list` shows all."
        )
    texts = {path: _render(path, measured) for path, measured in rows.items()}
    for path, text in texts.items():
        write_atomically(path, text)
    describe.cache_clear()
    return list(texts)


def check_place() -> None:
    """Refuse to compare for the manifests where there are none to write, or no commit that a figure could name.

    Raises:
        EvaluationError: This is no checkout, or one without its history.
    """
    _check_checkout()
    if find_commit() is None:
        raise EvaluationError(
            "found no commit of the code, expected one: it is part of a figure. Run the comparison in a git checkout."
        )


def _check_checkout() -> None:
    if CHECKOUT is None:
        raise EvaluationError(
            "found an installed package, expected a checkout: figures are saved in its hub/. Clone the repository, "
            "install it with `pip install --editable .`, and run this again there."
        )


def check_dataset(dataset: str, dataset_url: str = "") -> None:
    """Refuse a name or an address that no manifest may hold.

    Raises:
        RecordError: It is more than a line of text, or less; or no address that starts with https://.
    """
    if not dataset.strip() or not dataset.isprintable():
        raise RecordError(f"found {dataset!r}, expected the name of a data set in one line of text.")
    if dataset_url and not (dataset_url.startswith("https://") and dataset_url.isprintable()):
        raise RecordError(f"found the address {dataset_url!r}, expected one that starts with https://.")


def _check_identity(contender: Contender, manifest: Manifest) -> None:
    """Refuse a network, weights or preprocessing that only share a name with the model of the manifest."""
    if contender.architecture and contender.architecture != manifest.architecture:
        raise DigestError(
            f"{contender.name}: found the architecture {contender.architecture!r}, expected "
            f"{manifest.architecture!r} as in hub/{manifest.name}.toml. Give folders of your own another name."
        )
    pinned = (Cache().read_pin(cache_key(manifest)) or {}).get("weights_sha256")
    known = {
        "pinned under [hub]": manifest.hub.sha256 if manifest.hub else None,
        "measured before": manifest.measured[0].weights_sha256 if manifest.measured else None,
        "pinned at the first conversion here": pinned,
    }
    for where, expected in known.items():
        if expected not in (None, contender.weights_sha256):
            raise DigestError(
                f"{contender.name}: found weights with sha256 {contender.weights_sha256}, expected {expected}, as "
                f"{where}. Compare the model by its name; if its weights were replaced on purpose, remove the old "
                f"digest there, and the measured rows in hub/{manifest.name}.toml."
            )
    variant = manifest.preprocessing.get(contender.preprocessing)
    if variant is None or variant.digest != contender.preprocessing_sha256:
        raise DigestError(
            f"{contender.name}: found the preprocessing {contender.preprocessing!r} with digest "
            f"{contender.preprocessing_sha256}, expected {variant.digest if variant else 'one of the manifest'}. "
            f"Compare the model by its name, with the decoding that hub/{manifest.name}.toml says."
        )


def _render(path: Path, rows: list[Measurement]) -> bytes:
    """Return a manifest with the rows at its end, which was read once as it will be read from now on."""
    text = path.read_bytes().decode("utf-8")
    old = read_manifest(path).measured
    starts = [match.start() for match in _ROW.finditer(text)]
    head, tail = (
        (text[: starts[0]], text[starts[0] :]) if starts else (text + ("\n" if text.endswith("\n") else "\n\n"), "")
    )
    if len(starts) != len(old) or tomllib.loads(tail).keys() - {"measured"}:
        raise RecordError(f"hub/{path.name}: found something after [[measured]]. Move the measured rows to the end.")
    blocks = {
        row.key: text[start:end].strip("\n") for row, (start, end) in zip(old, pairwise([*starts, None]), strict=True)
    }
    for row in rows:
        comments = blocks.get(row.key, "").partition(_HEADER)[0]
        blocks[row.key] = comments + tomlkit.dumps({"measured": [_fields(row)]}).strip()
    content = (head + "\n\n".join(blocks.values()) + "\n").encode()
    with tempfile.TemporaryDirectory() as room:
        copy = Path(room) / path.name
        copy.write_bytes(content)
        read_manifest(copy)
    return content


def _fields(row: Measurement) -> dict[str, object]:
    """Return the fields that a row needs, whole numbers without a fraction."""
    fields = {
        field.name: getattr(row, field.name)
        for field in dataclasses.fields(row)
        if getattr(row, field.name) != field.default
    }
    return fields | {"images": [int(count) if count.is_integer() else count for count in row.images]}
