"""Where a model's folder is: given, beside a checkout, cached, on the Hub, or made from what its authors released.

Those are the places, in the order they are tried. The network comes last, and never into play for a given folder.
"""

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxrzoo._paths import CHECKOUT
from cxrzoo.converter import convert_into
from cxrzoo.errors import DigestError, SourceError
from cxrzoo.folders import CONFIG, WEIGHTS, Folder, parse_config, read_folder
from cxrzoo.manifest import HubFile, Manifest
from cxrzoo.recipe import load_recipe
from cxrzoo.records import digest
from cxrzoo.registry import describe
from cxrzoo.sources import Cache, download, evict, fetch_from_hub, find_in_distribution, staged_folder

logger = logging.getLogger("cxrzoo")

Origin = Literal["folder", "checkout", "cache", "hub", "authors"]
HUB_PREFIX = "hf-hub:"
_SCHEMA = 1  # raise it when converted folders change, so that old ones in a cache are made again


@dataclass(frozen=True)
class Location:
    """A model folder that was found, and by which of the ways."""

    folder: Folder
    origin: Origin


def is_path(name: str) -> bool:
    """Whether `name` means a folder: it has a separator, starts with '.' or '~', and is no Hub repository."""
    return not name.startswith(HUB_PREFIX) and ("/" in name or "\\" in name or name.startswith((".", "~")))


def cache_key(manifest: Manifest) -> str:
    """Return the name of a model in the cache: another manifest, recipe or layout gives another name."""
    facts = [_SCHEMA, repr(manifest), load_recipe(manifest.recipe).digest]
    return f"{manifest.name}-{digest(facts)[:16]}"


def locate(name: str, cache: Cache) -> Location:
    """Return the folder of the model `name`, fetched and converted if it is nowhere yet.

    Raises:
        UnknownModelError: No manifest has this name.
        FolderError: A given folder is not a model folder.
        DigestError: What was fetched is not what was promised, or not what was pinned before.
        SourceError: No place could give the model.
        ConversionError: The authors' checkpoint could not be converted.
    """
    if is_path(name):
        return Location(read_folder(Path(name).expanduser()), "folder")
    if name.startswith(HUB_PREFIX):
        return Location(_fetch_folder(*_parse_hub_name(name)), "hub")
    manifest = describe(name)
    beside = CHECKOUT and CHECKOUT / "hub" / name
    if beside and beside.is_dir():
        return Location(read_folder(beside), "checkout")
    key = cache_key(manifest)
    cached = cache.model_folder(key)
    if cached.is_dir():
        return Location(_read_cached(cache, key), "cache")
    if manifest.hub is not None:
        folder = _fetch_folder(manifest.hub.repo_id, manifest.hub.revision)
        _insist_on_promise(folder, manifest.hub)
        return Location(folder, "hub")
    with cache.lock(key):
        # another process may have finished while this one waited
        if cached.is_dir():
            return Location(_read_cached(cache, key), "cache")
        _convert_authors(manifest, key, cache)
    return Location(_read_cached(cache, key), "authors")


def discard(name: str, cache: Cache) -> str | None:
    """Move a damaged copy of a model out of the way, so that it can be fetched again; return where it is now.

    None where there is nothing to discard: a folder that was given, or one beside the checkout, is not ours to touch.
    """
    if is_path(name):
        return None
    if name.startswith(HUB_PREFIX):
        repo_id, revision = _parse_hub_name(name)
    else:
        manifest = describe(name)
        cached = cache.model_folder(cache_key(manifest))
        if cached.is_dir():
            return str(cache.quarantine(cached))
        if manifest.hub is None:
            return None
        repo_id, revision = manifest.hub.repo_id, manifest.hub.revision
    for file in (CONFIG, WEIGHTS):
        with contextlib.suppress(SourceError):
            evict(fetch_from_hub(repo_id, file, revision=revision, cached_only=True))
    return "nowhere, since it was deleted from the Hub's cache"


def _read_cached(cache: Cache, key: str) -> Folder:
    folder = read_folder(cache.model_folder(key))
    pin = cache.read_pin(key)
    if pin is not None and pin.get("weights_sha256") != folder.record.weights.sha256:
        raise DigestError(
            f"{folder.path}: the weights are recorded with sha256 {folder.record.weights.sha256}, but the first "
            f"conversion was pinned with {pin.get('weights_sha256')}. The folder was replaced by another; delete it."
        )
    return folder


def _convert_authors(manifest: Manifest, key: str, cache: Cache) -> None:
    source = manifest.source
    place = f"{manifest.name}-{digest([source.url, source.distribution, source.file])[:16]}"
    pinned = cache.read_pin(f"source-{place}") or {}
    sha256, size = source.sha256 or pinned.get("sha256"), source.size or pinned.get("size")
    if source.url is not None:
        checkpoint = cache.download_path(place)
        logger.info("%s: fetching %s", manifest.name, source.url)
        download(source.url, checkpoint, sha256=sha256, size=size)
    else:
        assert source.distribution is not None and source.file is not None  # the manifest insists on one of the two
        checkpoint = find_in_distribution(source.distribution, source.file)
    logger.info("%s: converting it with recipe %s", manifest.name, manifest.recipe)
    with staged_folder(cache.model_folder(key)) as staged:
        record = convert_into(staged, checkpoint, manifest=manifest, isolated=False).record
        if sha256 is not None and record.source_sha256 != sha256:
            raise DigestError(
                f"{manifest.name}: the authors' file has sha256 {record.source_sha256}, expected {sha256}. It was "
                "replaced since it was first converted here."
            )
        cache.write_pin(f"source-{place}", {"sha256": record.source_sha256, "size": record.source_size})
        cache.write_pin(key, {"weights_sha256": record.weights.sha256})
    if source.url is not None:
        # the weights are kept and proven; the checkpoint, three to four times their size, is not needed again
        checkpoint.unlink(missing_ok=True)


def _parse_hub_name(name: str) -> tuple[str, str]:
    repo_id, _, revision = name.removeprefix(HUB_PREFIX).partition("@")
    return repo_id, revision or "main"


def _fetch_folder(repo_id: str, revision: str) -> Folder:
    config = fetch_from_hub(repo_id, CONFIG, revision=revision)
    folder = parse_config(config.parent, config.read_bytes())
    fetch_from_hub(repo_id, WEIGHTS, revision=revision)
    return folder


def _insist_on_promise(folder: Folder, promised: HubFile) -> None:
    found = folder.record.weights
    if (found.sha256, found.size) != (promised.sha256, promised.size):
        raise DigestError(
            f"hf-hub:{promised.repo_id}@{promised.revision}: the weights are recorded with sha256 {found.sha256}, "
            f"expected {promised.sha256}. The repository is not the one this version of cxrzoo was made for."
        )
