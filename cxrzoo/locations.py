"""Where a model's folder is: given, beside a checkout, cached, on the Hub, or made from what its authors released.

Those are the places, in the order they are tried. The network comes last, and never into play for a given folder.
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxrzoo._paths import CHECKOUT
from cxrzoo.converter import convert_into
from cxrzoo.errors import (
    CheckpointError,
    ConversionError,
    CxrZooError,
    DigestError,
    DownloadError,
    FolderError,
    IncompleteError,
)
from cxrzoo.folders import CONFIG, SCHEMA, WEIGHTS, Folder, parse_config, read_folder
from cxrzoo.manifest import Manifest
from cxrzoo.recipe import load_recipe
from cxrzoo.records import digest
from cxrzoo.registry import describe
from cxrzoo.sources import Cache, download, evict, fetch_from_hub, find_in_distribution, is_offline, staged_folder

logger = logging.getLogger("cxrzoo")

Origin = Literal["folder", "checkout", "cache", "hub", "authors"]
HUB_PREFIX = "hf-hub:"


@dataclass(frozen=True)
class Location:
    """Where a model folder was found, and the manifest it must agree with where it was asked for by name."""

    path: Path
    origin: Origin
    manifest: Manifest | None = None


def locate(name: str | os.PathLike[str], cache: Cache) -> Location:
    """Return where the model `name` is, fetched and converted if it is nowhere yet.

    A path object is always a folder. So is a text with a separator, or one that starts with '.' or '~'.

    Raises:
        UnknownModelError: No manifest has this name.
        DigestError: What was fetched is not what was promised, or not what was pinned before.
        SourceError: No place could give the model.
        CheckpointError, ConversionError: What the authors released could not be converted.
    """
    if not isinstance(name, str):
        return Location(_expand(os.fspath(name)), "folder")
    if name.startswith(HUB_PREFIX):
        repo_id, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
        return Location(_fetch_folder(repo_id, revision or "main"), "hub")
    if "/" in name or "\\" in name or name.startswith((".", "~")):
        return Location(_expand(name), "folder")
    manifest = describe(name)
    beside = CHECKOUT and CHECKOUT / "hub" / name
    if beside and beside.is_dir():
        return Location(beside, "checkout", manifest)
    key = cache_key(manifest)
    cached = cache.model_folder(key)
    if cached.is_dir():
        return Location(cached, "cache", manifest)
    if manifest.hub is not None:
        return Location(_fetch_folder(manifest.hub.repo_id, manifest.hub.revision), "hub", manifest)
    _insist_on_facts(manifest)
    _insist_on_clone(manifest)
    with cache.lock(key):
        # another process may have finished while this one waited
        if cached.is_dir():
            return Location(cached, "cache", manifest)
        _convert_authors(manifest, cache)
    return Location(cached, "authors", manifest)


def _insist_on_facts(manifest: Manifest) -> None:
    """Refuse a model that can't be made from what is known of it, and say what is missing and what to do."""
    gaps = [f"its {fact} is missing: {text}" for fact, text in manifest.unknown.items()]
    if manifest.source.page is not None:
        gaps.insert(0, f"its file has no address that a program can fetch; find it at {manifest.source.page}")
    if not gaps:
        return
    command = f"cxrzoo convert FILE --model {manifest.name} --out DIR"
    if not manifest.preprocessing:
        command += " --size … --mean … --std …"
    if not manifest.architecture:
        command += " --architecture …"
    if not manifest.recipe:
        command += " --recipe …"
    raise IncompleteError(
        f"{manifest.name} can't be loaded by its name:\n"
        + "\n".join(f"  {gap}" for gap in gaps)
        + f"\nFetch {manifest.source.url or 'the file'} by hand, run `{command}`, then load the folder by its path."
    )


def _insist_on_clone(manifest: Manifest) -> None:
    """Refuse what this project trained where its weights are not: they travel with the repository alone."""
    if manifest.source.command is None:
        return
    name, where = manifest.name, manifest.repository or "the repository of cxrzoo"
    found = "lie in the repository, not in the installed package"
    if CHECKOUT is not None:
        found = f"are not in this checkout, which has no folder hub/{name}"
    raise IncompleteError(
        f"{name} can't be loaded by its name here: its weights {found}. Get them in one of these ways:\n"
        f"  clone {where} and install the clone with `pip install --editable .`, where the name is enough;\n"
        f"  or load the folder hub/{name} of any clone by its path, which is taken wherever a name of a model is;\n"
        f"  or train it anew, `{manifest.source.command}`, then run `cxrzoo convert FILE --model {name} --out DIR` and "
        "load that folder by its path."
    )


def cache_key(manifest: Manifest) -> str:
    """Return the name of a model in the cache: what changes the weights or the tensors changes it, a text does not."""
    source = manifest.source
    facts = [
        SCHEMA,
        manifest.architecture,
        [source.url, source.distribution, source.file, source.sha256],
        load_recipe(manifest.recipe).digest if manifest.recipe else "",
        manifest.default_variant,
        {name: variant.digest for name, variant in manifest.preprocessing.items()},
    ]
    return f"{manifest.name}-{digest(facts)[:16]}"


def open_location(location: Location, cache: Cache) -> Folder:
    """Return the model folder at a location, its config.json read and held against manifest and pin.

    Raises:
        FolderError: It is no model folder, or not the one that was asked for.
        DigestError: config.json was changed, or the weights are not those that were promised or pinned.
    """
    folder = read_folder(location.path)
    manifest = location.manifest
    if manifest is None:
        return folder
    record = folder.record
    if (record.model, folder.architecture) != (manifest.name, manifest.architecture):
        raise FolderError(
            f"{folder.path} holds {record.model!r} ({folder.architecture}), expected {manifest.name!r} "
            f"({manifest.architecture}). Remove the folder, or load it by its path."
        )
    digests = {name: variant.digest for name, variant in record.preprocessing.items()}
    if digests != {name: variant.digest for name, variant in manifest.preprocessing.items()}:
        raise FolderError(f"{folder.path} has another preprocessing than hub/{manifest.name}.toml. Remove the folder.")
    promised, where = _promised(location, manifest, cache)
    if promised is not None and promised != record.weights.sha256:
        raise DigestError(
            f"{folder.path}: the weights are recorded with sha256 {record.weights.sha256}, expected {promised}, as "
            f"{where}."
        )
    return folder


def _promised(location: Location, manifest: Manifest, cache: Cache) -> tuple[str | None, str]:
    """Return the sha256 that the weights must have, if somebody knows, and who said so."""
    if location.origin in ("cache", "authors"):
        return (cache.read_pin(cache_key(manifest)) or {}).get("weights_sha256"), "pinned at the first conversion"
    if location.origin == "checkout":
        where = f"promised by hub/{manifest.name}.toml beside it. Take both from one commit of the repository"
        return manifest.weights.sha256 if manifest.weights else None, where
    return manifest.hub.sha256 if manifest.hub else None, "promised in the manifest"


def mend(location: Location, read: Callable[[], object], cache: Cache) -> bool:
    """Move a damaged copy out of the way, so that the next `locate` fetches it again; whether there is hope in that.

    A folder that was given or lies beside the checkout is the user's own and is not touched.

    Args:
        read: Reads the copy once more and raises if it is damaged still: another process may have mended it.

    Raises:
        DiskError: The copy can't be moved.
    """
    if location.origin == "hub" and not is_offline():
        for file in (CONFIG, WEIGHTS):
            evict(location.path / file)
        return True
    if location.origin not in ("cache", "authors") or location.manifest is None:
        return False
    with cache.lock(cache_key(location.manifest)):
        if location.path.is_dir():
            try:
                read()
            except CxrZooError as error:
                kept = cache.quarantine(location.path)
                logger.warning("%s: the cached copy was moved to %s: %s", location.manifest.name, kept, error)
    return True


def _convert_authors(manifest: Manifest, cache: Cache) -> None:
    source, key = manifest.source, cache_key(manifest)
    place = f"{manifest.name}-{digest([source.url, source.distribution, source.file])[:16]}"
    pin = f"source-{place}"
    pinned = {} if source.sha256 else cache.read_pin(pin) or {}
    with _explained(manifest, cache.pin_path(pin) if pinned else None):
        if source.url is None:
            assert source.distribution is not None and source.file is not None  # the manifest insists on one of the two
            checkpoint = find_in_distribution(source.distribution, source.file)
        else:
            checkpoint = cache.download_path(place)
            logger.info("%s: fetching %s", manifest.name, source.url)
            download(
                source.url,
                checkpoint,
                sha256=source.sha256 or pinned.get("sha256"),
                size=source.size or pinned.get("size"),
            )
        logger.info("%s: converting it with recipe %s", manifest.name, manifest.recipe)
        try:
            with staged_folder(cache.model_folder(key)) as staged:
                record = convert_into(staged, checkpoint, manifest=manifest, fetched=True, isolated=False).record
                cache.write_pin(pin, {"sha256": record.source_sha256, "size": record.source_size})
                cache.write_pin(key, {"weights_sha256": record.weights.sha256})
        finally:
            if source.url is not None:
                # once converted it is not needed, three to four times as large as the weights; if it can't be
                # converted, the next try had better fetch it again
                checkpoint.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(manifest: Manifest, pin: Path | None) -> Iterator[None]:
    """Say of an error which model's file it is about, and of a file that changed where the first one was pinned."""
    what = f"{manifest.name}, from {manifest.source}"
    try:
        yield
    except (CheckpointError, ConversionError) as error:
        raise type(error)(f"{what}: {error}") from error
    except (DigestError, DownloadError) as error:
        if pin is None:
            raise type(error)(
                f"{error}\nA file that you have already becomes this model with `cxrzoo convert FILE --model "
                f"{manifest.name} --out DIR`."
            ) from error
        raise type(error)(
            f"{what}: {error}\nA file of another digest and size was pinned at its first conversion here, in {pin}. If "
            "its authors replaced it and you accept that, delete this pin."
        ) from error


def _expand(path: str) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FolderError(f"{path}: there is no such user. Give the whole path of the folder.") from error


def _fetch_folder(repo_id: str, revision: str) -> Path:
    config = fetch_from_hub(repo_id, CONFIG, revision=revision)
    parse_config(config.parent, config.read_bytes())  # before the weights are fetched
    return fetch_from_hub(repo_id, WEIGHTS, revision=revision).parent
