"""Loading: by name over the authors' real path, from folders, the cache and the Hub; and what happens when it fails."""

import concurrent.futures
import copy
import dataclasses
import json
import os
import pickle
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import factories
import pytest
import timm
import torch
from servers import CheckpointServer, Fault, HubServer, closed_port

import cxrzoo
from cxrzoo import errors
from cxrzoo.architectures import build_network
from cxrzoo.locations import cache_key
from cxrzoo.records import digest
from cxrzoo.sources import Cache
from cxrzoo.verification import verify_folder

PATH = "/storage.googleapis.com/moco-cxr/r8w-00001.pth.tar"
NAME = "moco-cxr-resnet18"


@pytest.fixture(scope="module")
def released(resnet18_checkpoint: Path) -> bytes:
    """The bytes that the authors' server gives."""
    return resnet18_checkpoint.read_bytes()


@pytest.fixture
def server(released: bytes, monkeypatch: pytest.MonkeyPatch) -> Iterator[CheckpointServer]:
    """The authors' file host, on this machine."""
    with CheckpointServer({PATH: released}) as running:
        monkeypatch.setenv("CXRZOO_MIRROR", running.url)
        yield running


def images(channels: int = 3) -> torch.Tensor:
    """Return a seeded batch of equal channels."""
    grey = torch.randn(2, 1, 96, 96, generator=torch.Generator().manual_seed(3))
    return grey.expand(-1, channels, -1, -1).contiguous()


def embed(model: torch.nn.Module, channels: int = 3) -> torch.Tensor:
    """Return the embeddings of the batch."""
    with torch.inference_mode():
        embeddings: torch.Tensor = model(images(channels))
    return embeddings


def cached_folder() -> Path:
    """Return where the model lies in this test's cache."""
    return Cache().model_folder(cache_key(cxrzoo.describe(NAME)))


# ---- by name


def test_by_name(server: CheckpointServer, resnet18_folder: Path) -> None:
    """A name fetches the authors' file over its real path, converts it, and gives the same network as timm loads."""
    model = cxrzoo.load(NAME)

    expected = timm.create_model(f"local-dir:{resnet18_folder}", pretrained=True).eval()
    assert "authors" == model.provenance.origin
    assert torch.equal(embed(expected), embed(model))
    assert 1 == len(server.asked(PATH))


def test_second_load_stays_local(server: CheckpointServer) -> None:
    """Once converted, a model comes from the cache, and the checkpoint is not kept."""
    cxrzoo.load(NAME)

    assert "cache" == cxrzoo.load(NAME).provenance.origin
    assert 1 == len(server.asked(PATH))
    assert [] == [path for path in (Cache().root / "downloads").rglob("*") if path.stat().st_size > 1000]


def test_plain_timm_module(resnet18_folder: Path) -> None:
    """What is returned is timm's own class, in evaluation mode, without a classifier, ready for gradients."""
    model = cxrzoo.load(resnet18_folder)

    assert type(timm.create_model("resnet18", num_classes=0)) is type(model)
    assert not model.training
    assert isinstance(model.fc, torch.nn.Identity)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_embedding_of_a_file(resnet18_folder: Path, tmp_path: Path) -> None:
    """The four lines of the README: load, transform, call, and an embedding of (1, 512) comes out."""
    from PIL import Image

    Image.linear_gradient("L").save(tmp_path / "chest.png")
    model = cxrzoo.load(resnet18_folder)

    x = model.transform(tmp_path / "chest.png")

    assert (3, 320, 320) == tuple(x.shape)
    with torch.inference_mode():
        assert (1, 512) == tuple(model(x[None]).shape)


def test_variant(resnet18_folder: Path) -> None:
    """The second preprocessing of MoCo-CXR is had by its name, and timm's resolved config follows."""
    model = cxrzoo.load(resnet18_folder, variant="paper_finetune")

    config = timm.data.resolve_model_data_config(model)
    assert (0.485, 0.456, 0.406) == tuple(config["mean"])
    assert "paper_finetune" == model.provenance.preprocessing
    assert cxrzoo.load(resnet18_folder).provenance.preprocessing_sha256 != model.provenance.preprocessing_sha256


def test_unknown_variant(resnet18_folder: Path) -> None:
    """A variant that does not exist is an error that lists those that do."""
    with pytest.raises(errors.FolderError, match="no preprocessing named 'imagenet', only paper_finetune, pretrain"):
        cxrzoo.load(resnet18_folder, variant="imagenet")


def test_model_can_be_copied_and_pickled(resnet18_folder: Path) -> None:
    """A loaded backbone survives deepcopy and pickling, transform and provenance included."""
    model = cxrzoo.load(resnet18_folder)

    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert model.transform == other.transform
        assert model.provenance == other.provenance
        assert torch.equal(embed(model), embed(other))


def test_tensors_do_not_share_memory(resnet18_folder: Path) -> None:
    """Every parameter owns its memory, so that saving one layer does not save the whole network."""
    model = cxrzoo.load(resnet18_folder)

    for parameter in model.parameters():
        assert parameter.untyped_storage().nbytes() == parameter.numel() * parameter.element_size()


@pytest.mark.parametrize("given", [Path("mine"), "./mine", "mine/"], ids=repr)
def test_relative_folder(
    given: Path | str, resnet18_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path object is a folder even without a separator, as what `convert` returns may be; so is './name'."""
    (tmp_path / "mine").symlink_to(resnet18_folder)
    monkeypatch.chdir(tmp_path)

    assert "folder" == cxrzoo.load(given).provenance.origin


def test_settings_of_the_caller_do_not_leak_in(resnet18_folder: Path) -> None:
    """Another default dtype, another default device or inference mode give the same backbone, ready for gradients."""
    expected = embed(cxrzoo.load(resnet18_folder))
    picture = torch.zeros(400, 400, dtype=torch.uint8)
    tensor = cxrzoo.load(resnet18_folder).transform(picture)

    models = []
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            models.append(cxrzoo.load(resnet18_folder))
        finally:
            torch.set_default_dtype(torch.float32)
    with torch.inference_mode():
        models.append(cxrzoo.load(resnet18_folder))
    with torch.device("meta"):
        models.append(cxrzoo.load(resnet18_folder))
        assert torch.equal(tensor, models[-1].transform(picture.numpy()))

    for model in models:
        assert torch.equal(expected, embed(model))
        model(images()).sum().backward()
        assert model.conv1.weight.grad is not None


def test_random_numbers_are_left_alone(resnet18_folder: Path) -> None:
    """Loading draws no random number, so that a seeded script gives the same with it or without."""
    torch.manual_seed(5)
    expected = torch.rand(3)

    torch.manual_seed(5)
    cxrzoo.load(resnet18_folder)

    assert torch.equal(expected, torch.rand(3))


def test_buffers_that_no_file_holds_are_computed() -> None:
    """Skipping random initialisation leaves tables that are computed as they are, with rotary positions as example."""
    name = "eva02_tiny_patch14_224"
    expected = timm.create_model(name, num_classes=0)
    unsaved = {key: value for key, value in expected.named_buffers() if key not in expected.state_dict()}

    found = dict(build_network(name).named_buffers())

    assert unsaved
    assert all(torch.equal(value, found[key]) for key, value in unsaved.items())


# ---- by name, from beside the checkout


def test_beside_the_checkout(resnet18_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder beside the manifests is used first, if it holds the model that its name says."""
    monkeypatch.setattr("cxrzoo.locations.CHECKOUT", tmp_path)
    shutil.copytree(resnet18_folder, tmp_path / "hub" / NAME)
    shutil.copytree(resnet18_folder, tmp_path / "hub" / "moco-cxr-densenet121")

    assert "checkout" == cxrzoo.load(NAME).provenance.origin
    with pytest.raises(
        errors.FolderError, match=r"holds 'moco-cxr-resnet18' \(resnet18\), expected 'moco-cxr-densenet121'"
    ):
        cxrzoo.load("moco-cxr-densenet121")


def test_cache_key() -> None:
    """What decides about weights or tensors changes a model's name in the cache; a text does not."""
    manifest = cxrzoo.describe(NAME)
    other = dataclasses.replace(manifest.preprocessing["pretrain"], crop_pct=0.9)
    changes = [
        {"architecture": "resnet34"},
        {"recipe": "torchvision"},
        {"default_variant": "paper_finetune"},
        {"preprocessing": manifest.preprocessing | {"pretrain": other}},
        {"source": dataclasses.replace(manifest.source, url="https://example.org/other.pth.tar")},
    ]

    keys = {cache_key(manifest), *(cache_key(dataclasses.replace(manifest, **change)) for change in changes)}

    assert 6 == len(keys)
    assert cache_key(manifest) == cache_key(dataclasses.replace(manifest, summary="Another text.", tags=("new",)))


# ---- channels


def test_one_channel_is_exact(resnet18_folder: Path) -> None:
    """With MoCo-CXR's constants, one channel gives the features of three equal ones, and a fitting transform."""
    three, one = cxrzoo.load(resnet18_folder), cxrzoo.load(resnet18_folder, in_chans=1)

    expected, found = embed(three), embed(one, channels=1)

    assert float((expected - found).abs().max() / expected.abs().max()) <= 1e-6
    assert (1, 320, 320) == tuple(one.transform(torch.zeros(40, 40, dtype=torch.uint8)).shape)
    assert (1, 320, 320) == timm.data.resolve_model_data_config(one)["input_size"]


def test_one_channel_is_refused_where_inexact(resnet18_folder: Path) -> None:
    """With ImageNet's constants one channel can't stand for three: refused, unless asked for."""
    with pytest.raises(errors.FolderError, match="normalised with different constants"):
        cxrzoo.load(resnet18_folder, variant="paper_finetune", in_chans=1)

    model = cxrzoo.load(resnet18_folder, variant="paper_finetune", in_chans=1, inexact_channels=True)
    assert 1 == model.conv1.weight.shape[1]


def test_three_channels_of_a_one_channel_model(one_channel_folder: Path) -> None:
    """A one-channel backbone takes three equal channels and gives the same features."""
    one, three = cxrzoo.load(one_channel_folder), cxrzoo.load(one_channel_folder, in_chans=3)

    expected, found = embed(one, channels=1), embed(three)

    assert float((expected - found).abs().max() / expected.abs().max()) <= 1e-6


def test_two_channels(resnet18_folder: Path) -> None:
    """A number of channels that makes no sense for radiographs is refused."""
    with pytest.raises(errors.FolderError, match="in_chans is 2, expected 1 or 3"):
        cxrzoo.load(resnet18_folder, in_chans=2)


# ---- what goes wrong


def test_unknown_name() -> None:
    """A name with a typing error is answered with the closest names."""
    with pytest.raises(
        errors.UnknownModelError, match="no model is named 'moco-cxr-densenet112'. Did you mean 'moco-cxr-"
    ):
        cxrzoo.load("moco-cxr-densenet112")


def test_no_such_folder(tmp_path: Path) -> None:
    """A path that is no folder is an error, and never looked up on a network."""
    with pytest.raises(errors.FolderError, match="is no folder"):
        cxrzoo.load(tmp_path / "nothing")


def test_folder_without_record(resnet18_folder: Path, tmp_path: Path) -> None:
    """A timm folder that says nothing of preprocessing for radiographs is refused, with what to do."""
    shutil.copytree(resnet18_folder, tmp_path / "plain")
    config = json.loads((tmp_path / "plain/config.json").read_text())
    del config["cxrzoo"]
    (tmp_path / "plain/config.json").write_text(json.dumps(config))

    with pytest.raises(errors.FolderError, match="nothing says how images must be prepared"):
        cxrzoo.load(tmp_path / "plain")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_folder_without_a_file(name: str, resnet18_folder: Path, tmp_path: Path) -> None:
    """A folder that lacks a file says which."""
    shutil.copytree(resnet18_folder, tmp_path / "part")
    (tmp_path / "part" / name).unlink()

    with pytest.raises(errors.FolderError, match=f"has no {name}"):
        cxrzoo.load(tmp_path / "part")


def test_flipped_byte_in_a_folder(resnet18_folder: Path, tmp_path: Path) -> None:
    """One flipped bit in the weights of a given folder is an error that names both digests."""
    shutil.copytree(resnet18_folder, tmp_path / "flipped")
    flip(tmp_path / "flipped/model.safetensors", 5_000_000)

    with pytest.raises(errors.DigestError, match="the sha256 is [0-9a-f]{64}, expected [0-9a-f]{64}"):
        cxrzoo.load(tmp_path / "flipped")


def flip(path: Path, position: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)
        file.seek(position)
        file.write(bytes([byte[0] ^ 1]))


def test_flipped_byte_in_the_cache_is_mended(server: CheckpointServer) -> None:
    """A damaged copy in the cache is set aside and fetched again, and the result is right."""
    expected = embed(cxrzoo.load(NAME))
    flip(cached_folder() / "model.safetensors", 5_000_000)

    model = cxrzoo.load(NAME)

    assert torch.equal(expected, embed(model))
    assert 2 == len(server.asked(PATH))
    assert 1 == len(list((Cache().root / "quarantine").iterdir()))


def test_flipped_byte_in_the_cache_without_network(server: CheckpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network a damaged copy is never used: the error says what was found and why nothing could be done."""
    cxrzoo.load(NAME)
    flip(cached_folder() / "model.safetensors", 5_000_000)
    monkeypatch.setenv("CXRZOO_OFFLINE", "1")

    with pytest.raises(errors.DigestError, match="(?s)the sha256 is .*could not be fetched again.*CXRZOO_OFFLINE"):
        cxrzoo.load(NAME)


def test_edited_config_in_the_cache_is_mended(server: CheckpointServer) -> None:
    """A config.json in the cache that was edited is set aside with its folder and made again."""
    cxrzoo.load(NAME)
    path = cached_folder() / "config.json"
    path.write_text(path.read_text().replace('"max_difference": 0.0', '"max_difference": 0.1'))

    assert "authors" == cxrzoo.load(NAME).provenance.origin


def test_every_corruption_is_noticed(server: CheckpointServer) -> None:
    """200 of 200 random corruptions of cached files (flips, cuts, additions, blocks) are noticed by `load`."""
    cxrzoo.load(NAME)
    cxrzoo.load(NAME)  # now the weights count as verified
    folder, draw = cached_folder(), random.Random(0)
    originals = {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}
    for i in range(200):
        name = "model.safetensors" if i % 4 else "config.json"
        data = bytearray(originals[name])
        position = draw.randrange(len(data))
        match i % 5:
            case 0:
                data[position] ^= 1 << draw.randrange(8)
            case 1:
                del data[position:]
            case 2:
                data += bytes(draw.randrange(1, 100))
            case 3:
                data[position : position + 64] = bytes(byte ^ 255 for byte in data[position : position + 64])
            case 4:
                data.insert(position, 7)
        (folder / name).write_bytes(data)
        with pytest.raises(errors.CxrZooError):
            cxrzoo.load(folder)  # by its path, so that it is not mended
        (folder / name).write_bytes(originals[name])
    assert 512 == cxrzoo.load(folder).provenance.dimension


@pytest.mark.slow
def test_mended_by_several_at_once(server: CheckpointServer) -> None:
    """Of several that load while the cached copy is damaged, all succeed, and the file is fetched once more."""
    expected = embed(cxrzoo.load(NAME))
    flip(cached_folder() / "model.safetensors", 5_000_000)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        models = [future.result() for future in [pool.submit(cxrzoo.load, NAME) for _ in range(8)]]

    assert all(torch.equal(expected, embed(model)) for model in models)
    assert 2 == len(server.asked(PATH))


@pytest.mark.parametrize("other", ["other size", "same size"])
def test_first_conversion_is_pinned(other: str, server: CheckpointServer) -> None:
    """A file that its authors' server replaces later is refused, and the error says which pin to delete."""
    cxrzoo.load(NAME)
    shutil.rmtree(cached_folder())
    made = factories.make_moco("resnet18", seed=9)
    server.files[PATH] = factories.as_bytes(made if other == "same size" else made | {"note": "a later release"})

    with pytest.raises(
        errors.CxrZooError, match=r"was pinned at its first conversion here, in (?P<pin>\S+\.json)"
    ) as caught:
        cxrzoo.load(NAME)

    assert not cached_folder().exists()
    pin = re.search(r"in (\S+\.json)", str(caught.value))
    assert pin is not None
    Path(pin[1]).unlink()
    with pytest.raises(errors.DigestError, match="which was pinned when it first came"):
        cxrzoo.load(NAME)


def test_swapped_preprocessing_in_the_cache(server: CheckpointServer) -> None:
    """A cached config.json with other constants, consistent in itself, is not used: the manifest decides."""
    cxrzoo.load(NAME)
    other = dataclasses.replace(cxrzoo.describe(NAME).preprocessing["pretrain"], mean=(0.1, 0.1, 0.1))
    path = cached_folder() / "config.json"
    rewrite(path, lambda config: config["cxrzoo"]["preprocessing"].update(pretrain=other.as_dict()))

    assert (0.502, 0.502, 0.502) == cxrzoo.load(NAME).transform.record.mean


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change config.json and give it the digest that fits, as somebody who knows how it is made would."""
    config = json.loads(path.read_text())
    change(config)
    config["cxrzoo"]["digest"] = digest(config | {"cxrzoo": config["cxrzoo"] | {"digest": ""}})
    path.write_text(json.dumps(config))


SMUGGLED: dict[str, Callable[[dict[str, Any]], object]] = {
    "a pickle for timm": lambda config: config.update(model_args={"checkpoint_path": "evil.pth"}),
    "another stride": lambda config: config.update(model_args={"output_stride": 8}),
    "a wrong kind": lambda config: config.update(num_features="many"),
    "an unknown field": lambda config: config.update(extra=1),
    "a file for timm": lambda config: config["pretrained_cfg"].update(file="evil.pth"),
    "a lost field": lambda config: config.pop("pretrained_cfg"),
}


@pytest.mark.parametrize("change", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_nothing_is_smuggled_into_timm(
    change: Callable[[dict[str, Any]], object], resnet18_folder: Path, tmp_path: Path
) -> None:
    """A config.json that says more or other than ours would is refused before timm sees it."""
    shutil.copytree(resnet18_folder, tmp_path / "mine")
    rewrite(tmp_path / "mine" / "config.json", change)

    with pytest.raises(errors.FolderError, match=r"config\.json"):
        cxrzoo.load(tmp_path / "mine")


def test_swapped_folder_in_the_cache(server: CheckpointServer, tmp_path: Path) -> None:
    """A cached folder replaced by another consistent one is refused, since the first one was pinned."""
    expected = embed(cxrzoo.load(NAME))
    other = factories.save(tmp_path / "other.pth", factories.make_moco("resnet18", seed=9))
    shutil.rmtree(cached_folder())
    cxrzoo.convert(other, cached_folder(), model=NAME)

    assert torch.equal(expected, embed(cxrzoo.load(NAME)))
    assert 2 == len(server.asked(PATH))


def test_not_found(server: CheckpointServer) -> None:
    """A 404 from the authors' server is an error that names the address and the status."""
    del server.files[PATH]

    with pytest.raises(errors.DownloadError, match=r"(?s)moco-cxr/r8w-00001\.pth\.tar.*404"):
        cxrzoo.load(NAME)


def test_web_page_instead_of_a_file(server: CheckpointServer) -> None:
    """A log-in page never reaches the cache, whatever the server calls it."""
    server.fail(PATH, Fault("unnamed page"), Fault("unnamed page"))

    with pytest.raises(errors.DownloadError, match="web page"):
        cxrzoo.load(NAME)

    assert not cached_folder().exists()


def test_truncated_reply_is_resumed(server: CheckpointServer, released: bytes) -> None:
    """A reply that ends early is gone on with, and the model is right."""
    server.fail(PATH, Fault("truncate", len(released) // 2))

    model = cxrzoo.load(NAME)

    assert 512 == model.provenance.dimension
    assert [None, f"bytes={len(released) // 2}-"] == [request.range for request in server.asked(PATH)]


def test_wrong_checkpoint_at_the_address(server: CheckpointServer) -> None:
    """A whole checkpoint of another network is refused, and neither pinned nor cached."""
    good = server.files[PATH]
    server.files[PATH] = factories.as_bytes(factories.make_moco("mnasnet1_0"))
    with pytest.raises(
        errors.ArchitectureError, match=r"(?s)r8w-00001\.pth\.tar: this is not the checkpoint .* not those of resnet18"
    ):
        cxrzoo.load(NAME)
    server.files[PATH] = good

    assert [] == [path for path in (Cache().root / "downloads").rglob("*") if path.is_file()]
    assert "authors" == cxrzoo.load(NAME).provenance.origin


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody answers, the error says so and what to do."""
    with closed_port() as port:
        monkeypatch.setenv("CXRZOO_MIRROR", f"http://127.0.0.1:{port}")
        monkeypatch.setattr("cxrzoo.sources.http.time.sleep", lambda seconds: None)
        with pytest.raises(errors.DownloadError, match="CXRZOO_MIRROR|proxy|PROXY"):
            cxrzoo.load(NAME)


def test_offline(server: CheckpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network switched off nothing is asked for, and the error names the switch."""
    monkeypatch.setenv("CXRZOO_OFFLINE", "1")

    with pytest.raises(errors.OfflineError, match="CXRZOO_OFFLINE"):
        cxrzoo.load(NAME)

    assert [] == server.asked(PATH)


def test_offline_hit(server: CheckpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the network switched off a cached model loads."""
    cxrzoo.load(NAME)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    assert "cache" == cxrzoo.load(NAME).provenance.origin


def test_read_only_cache(server: CheckpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that can only be read gives its models, and nothing is written."""
    cxrzoo.load(NAME)
    root = Cache().root
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "rename", "replace", "link", "unlink"):
        monkeypatch.setattr(f"os.{name}", refuse)
    monkeypatch.setattr("cxrzoo.sources.files.os.open", refuse)

    assert "cache" == cxrzoo.load(NAME).provenance.origin
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_no_space_left(server: CheckpointServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error that says which folder is full, and no model folder is left."""

    def full(self: Path, data: str, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)

    with pytest.raises(errors.DiskError, match="No space left on device"):
        cxrzoo.load(NAME)

    assert not cached_folder().exists()


def test_cache_is_a_file(tmp_path: Path, server: CheckpointServer) -> None:
    """A cache path that is a file is an error that says so."""
    (tmp_path / "cache").write_text("not a folder")

    with pytest.raises(errors.DiskError):
        cxrzoo.load(NAME, cache_dir=tmp_path / "cache")


# ---- several processes

LOAD = f"import cxrzoo; print(cxrzoo.load({NAME!r}).provenance.weights_sha256)"
# the imports are not what is to be interrupted: the child says when it is done with them
WAIT_AND_LOAD = f"""
import sys, timm, torch, torchvision, cxrzoo.loader
print("ready", flush=True)
sys.stdin.readline()
cxrzoo.load({NAME!r})
print("loaded", flush=True)
"""


@pytest.fixture
def environment(server: CheckpointServer, child_environment: dict[str, str]) -> dict[str, str]:
    """The environment for children, with the mirror and the cache of this test in it."""
    return child_environment | {name: os.environ[name] for name in ("CXRZOO_MIRROR", "CXRZOO_HOME")}


@pytest.mark.slow
def test_sixteen_at_once(server: CheckpointServer, environment: dict[str, str]) -> None:
    """Sixteen processes that load at once download one body, convert once, and get the same weights."""

    def load() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        done = [future.result() for future in [pool.submit(load) for _ in range(16)]]

    assert [""] == list({child.stderr for child in done})
    assert 1 == len({child.stdout for child in done})
    assert 1 == len(server.asked(PATH))
    assert 1 == len(list((Cache().root / "models").iterdir()))


def start_loading(environment: dict[str, str]) -> "subprocess.Popen[str]":
    """Return a child that has just begun to load."""
    pipe = subprocess.PIPE
    child = subprocess.Popen([sys.executable, "-c", WAIT_AND_LOAD], env=environment, stdout=pipe, stdin=pipe, text=True)
    assert child.stdout is not None
    assert child.stdin is not None
    assert "ready\n" == child.stdout.readline()
    child.stdin.write("go\n")
    child.stdin.flush()
    return child


@pytest.mark.slow
def test_killed_at_random(server: CheckpointServer, environment: dict[str, str]) -> None:
    """After 20 kills at random moments no file under a final name is damaged, and the next load is right."""
    child = start_loading(environment)
    start = time.perf_counter()
    assert child.stdout is not None
    assert "loaded\n" == child.stdout.readline()
    whole = time.perf_counter() - start
    child.wait()
    shutil.rmtree(cached_folder())
    draw = random.Random(0)
    for _ in range(20):
        child = start_loading(environment)
        time.sleep(draw.uniform(0, whole))
        child.kill()
        child.wait()
        if cached_folder().exists():
            assert 7 == len([*verify_folder(cached_folder())])
            shutil.rmtree(cached_folder())

    assert "authors" == cxrzoo.load(NAME).provenance.origin
    assert 7 == len([*verify_folder(cached_folder())])
    # some were killed before they asked, some while or after they downloaded
    assert len(server.asked(PATH)) > 3


# ---- the Hub


@pytest.fixture
def hub(resnet18_folder: Path) -> Iterator[HubServer]:
    """The Hub, with one converted folder as a repository."""
    files = {path.name: path.read_bytes() for path in resnet18_folder.iterdir()}
    with HubServer({"someone/moco": files, "someone/plain": {"config.json": b"{}"}}) as running:
        yield running


def load_from_hub(hub: HubServer, environment: dict[str, str], tmp_path: Path, name: str, **more: str) -> str:
    """Return what a child that loads from the Hub prints: origin, or the error's class and text."""
    code = (
        "import sys, cxrzoo\n"
        "try:\n    print(cxrzoo.load(sys.argv[1]).provenance)\n"
        "except cxrzoo.CxrZooError as e:\n    print(type(e).__name__, e)\n"
    )
    # huggingface_hub reads its environment when it is imported, so each case needs a process
    env = {**environment, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1", **more}
    done = subprocess.run([sys.executable, "-c", code, name], env=env, capture_output=True, text=True, check=True)
    return done.stdout


def test_from_the_hub(hub: HubServer, child_environment: dict[str, str], tmp_path: Path) -> None:
    """hf-hub:org/name@revision loads through the real client, and again without a network."""
    name = f"hf-hub:someone/moco@{HubServer.COMMIT}"

    online = load_from_hub(hub, child_environment, tmp_path, name)
    offline = load_from_hub(hub, child_environment, tmp_path, name, HF_HUB_OFFLINE="1")

    assert "origin='hub'" in online
    assert online == offline


def test_damaged_file_in_the_hubs_cache(hub: HubServer, child_environment: dict[str, str], tmp_path: Path) -> None:
    """A flipped byte in the Hub's own cache, which its client accepts, is noticed and fetched again."""
    name = f"hf-hub:someone/moco@{HubServer.COMMIT}"
    online = load_from_hub(hub, child_environment, tmp_path, name)
    (weights,) = (tmp_path / "hf").rglob("model.safetensors")
    flip(weights.resolve(), 5_000_000)

    assert load_from_hub(hub, child_environment, tmp_path, name, HF_HUB_OFFLINE="1").startswith("DigestError")
    assert online == load_from_hub(hub, child_environment, tmp_path, name)


def test_hub_repository_without_record(hub: HubServer, child_environment: dict[str, str], tmp_path: Path) -> None:
    """A repository without our record is refused before its weights are fetched."""
    printed = load_from_hub(hub, child_environment, tmp_path, "hf-hub:someone/plain")

    assert printed.startswith("FolderError")
    assert "nothing says how images must be prepared" in printed


def test_hub_repository_missing(hub: HubServer, child_environment: dict[str, str], tmp_path: Path) -> None:
    """A repository that does not exist is an error that names it."""
    printed = load_from_hub(hub, child_environment, tmp_path, "hf-hub:someone/nothing")

    assert printed.startswith("DownloadError someone/nothing")


def test_hub_repository_of_others_is_left_alone(
    hub: HubServer, child_environment: dict[str, str], tmp_path: Path
) -> None:
    """A timm repository that is not ours is refused, and its files stay in the Hub's cache."""
    name = f"hf-hub:someone/moco@{HubServer.COMMIT}"
    load_from_hub(hub, child_environment, tmp_path, name)
    (config,) = (tmp_path / "hf").rglob("config.json")
    config.resolve().write_text("{}")

    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        assert load_from_hub(hub, child_environment, tmp_path, name, **more).startswith("FolderError")

    assert config.is_file()
    assert 1 == len(list((tmp_path / "hf").rglob("model.safetensors")))


@pytest.mark.parametrize("right", [True, False], ids=["the promised weights", "other weights"])
def test_pinned_hub_revision(
    right: bool, resnet18_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A manifest that pins a Hub repository insists on the digest of its weights."""
    from cxrzoo import locations
    from cxrzoo.folders import read_folder
    from cxrzoo.manifest import HubFile

    weights = read_folder(resnet18_folder).record.weights
    pinned = HubFile("someone/moco", HubServer.COMMIT, weights.sha256 if right else "0" * 64, weights.size)
    manifest = dataclasses.replace(cxrzoo.describe(NAME), hub=pinned)
    shutil.copytree(resnet18_folder, tmp_path / "repository")
    monkeypatch.setattr(locations, "describe", lambda name: manifest)
    monkeypatch.setattr(locations, "fetch_from_hub", lambda repo, file, **options: tmp_path / "repository" / file)
    monkeypatch.setenv("CXRZOO_OFFLINE", "1")

    if right:
        assert "hub" == cxrzoo.load(NAME).provenance.origin
    else:
        with pytest.raises(errors.DigestError, match="expected 000000.*promised in the manifest"):
            cxrzoo.load(NAME)
