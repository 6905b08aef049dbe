"""Conversion: a dressed-up network comes back the same, every key is accounted for, and what is wrong is named."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories
import pytest
import timm
import torch

import cxrzoo
from cxrzoo import errors
from cxrzoo.converter import convert_into
from cxrzoo.folders import read_folder
from cxrzoo.manifest import Preprocessing
from cxrzoo.verification import verify_folder

ROADS = [
    ("resnet18", "resnet18", 120),
    ("resnet50", "resnet50", 318),
    ("densenet121", "densenet121", 725),
    ("mnasnet1_0", "mnasnet_100", 312),
]
#: How the images of all checkpoints here were prepared.
ALIKE = "moco-cxr-resnet18"
PREPARED = {"pretrain": cxrzoo.describe(ALIKE).preprocessing["pretrain"]}
LAYOUTS = [("mlp", "module."), ("linear", "module."), ("mlp", ""), ("linear", ""), ("none", "module.")]


def upstream_features(upstream: str, images: torch.Tensor) -> torch.Tensor:
    """Return pooled features of the network that `make_moco` hides in encoder_q."""
    network = factories.make_network(upstream)
    setattr(network, factories.HEADS[upstream], torch.nn.Identity())
    with torch.inference_mode():
        features: torch.Tensor = network(images)
    return features


@pytest.mark.parametrize(("head", "prefix"), LAYOUTS, ids=[f"{h} head, prefix {p!r}" for h, p in LAYOUTS])
@pytest.mark.parametrize(("upstream", "architecture", "kept"), ROADS, ids=[road[1] for road in ROADS])
def test_features_are_the_upstream_ones(
    upstream: str, architecture: str, kept: int, head: str, prefix: str, tmp_path: Path
) -> None:
    """Recipe and architecture are found, all tensors are kept, and timm's features at 320 px are torchvision's."""
    checkpoint = factories.save(tmp_path / "c.pth.tar", factories.make_moco(upstream, head=head, prefix=prefix))

    (tmp_path / "out").mkdir()
    # in this process: a child for each of these would cost the imports twenty times
    conversion = convert_into(tmp_path / "out", checkpoint, variants=PREPARED, isolated=False)

    images = torch.randn(2, 3, 320, 320, generator=torch.Generator().manual_seed(1))
    backbone = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    with torch.inference_mode():
        difference = float((backbone(images) - upstream_features(upstream, images)).abs().max())
    assert (architecture, kept, kept) == (
        conversion.architecture,
        conversion.record.coverage.kept,
        len(conversion.kept),
    )
    assert difference <= 1e-5
    assert conversion.record.parity is not None
    assert conversion.record.parity.max_difference <= 1e-5
    assert (3, 320, 320) == conversion.record.parity.input_size


def test_every_key_is_accounted_for(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """Kept and dropped keys together are all keys of the checkpoint, and each dropped one has a reason."""
    state = torch.load(resnet18_checkpoint, weights_only=True)["state_dict"]

    conversion = cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", preprocessing=ALIKE)

    assert set(state) == set(conversion.kept) | set(conversion.dropped)
    assert {"key encoder": 124, "projection head": 4, "queue of negatives": 2} == conversion.record.coverage.dropped


def test_weights_are_the_query_encoder(resnet18_checkpoint: Path, resnet18_folder: Path) -> None:
    """The weights hold the query encoder bit for bit, and the safetensors library agrees with our writer."""
    from safetensors.torch import load_file

    state = torch.load(resnet18_checkpoint, weights_only=True)["state_dict"]

    weights = load_file(resnet18_folder / "model.safetensors")

    assert 120 == len(weights)
    for name, tensor in weights.items():
        assert torch.equal(state[f"module.encoder_q.{name}"], tensor)


def test_same_bytes_twice(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """Converting a checkpoint twice, into folders of different names, gives the same bytes."""
    folders = [
        cxrzoo.convert(resnet18_checkpoint, tmp_path / name, preprocessing=ALIKE).folder for name in ("first", "second")
    ]

    first, second = ({p.name: p.read_bytes() for p in sorted(folder.iterdir())} for folder in folders)

    assert ["README.md", "config.json", "model.safetensors"] == list(first)
    assert first == second


@pytest.mark.slow
def test_same_bytes_elsewhere(tmp_path: Path) -> None:
    """Another working folder, time zone, language, umask, hash seed and number of threads give the same bytes."""
    checkpoint = factories.save(tmp_path / "c.pth.tar", factories.make_moco("mnasnet1_0"))
    code = (
        "import os, sys, cxrzoo; os.umask(int(sys.argv[2])); "
        "cxrzoo.convert(sys.argv[1], 'out', preprocessing=sys.argv[3])"
    )
    root = Path(cxrzoo.__file__).resolve().parents[1]
    here = {"TZ": "UTC", "LANG": "C.UTF-8", "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    there = {"TZ": "Pacific/Apia", "LANG": "tr_TR.UTF-8", "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}

    for name, place, umask in (("here", here, 0o022), ("there", there, 0o077)):
        (tmp_path / name).mkdir()
        command = [sys.executable, "-c", code, str(checkpoint), str(umask), ALIKE]
        subprocess.run(command, cwd=tmp_path / name, env={**os.environ, **place, "PYTHONPATH": str(root)}, check=True)

    for path in (tmp_path / "here" / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "there" / "out" / path.name).read_bytes()


def test_record_states_source_and_result(resnet18_checkpoint: Path, resnet18_folder: Path) -> None:
    """The record beside the weights holds the digests of the checkpoint and of the weights."""
    record = read_folder(resnet18_folder).record

    assert hashlib.sha256(resnet18_checkpoint.read_bytes()).hexdigest() == record.source_sha256
    assert hashlib.sha256((resnet18_folder / "model.safetensors").read_bytes()).hexdigest() == record.weights.sha256
    assert ("moco-cxr-resnet18", 120, "moco") == (record.model, record.weights.tensors, record.coverage.recipe)


def test_one_channel_checkpoint(one_channel_folder: Path) -> None:
    """A checkpoint whose stem takes one channel becomes a one-channel backbone with a one-channel record."""
    folder = read_folder(one_channel_folder)

    assert {"in_chans": 1} == folder.model_args
    assert (1, 320, 320) == folder.pretrained_cfg["input_size"]
    assert folder.record.parity is not None
    assert folder.record.parity.max_difference <= 1e-5


def test_half_precision_is_kept(tmp_path: Path) -> None:
    """A checkpoint in half precision keeps its numbers, and the loaded backbone computes in float32."""
    made = factories.make_moco("resnet18")
    made["state_dict"] = {k: v.half() if v.is_floating_point() else v for k, v in made["state_dict"].items()}
    checkpoint = factories.save(tmp_path / "c.pth", made)

    folder = cxrzoo.convert(checkpoint, tmp_path / "out", preprocessing=ALIKE).folder

    weight = cxrzoo.load(folder).conv1.weight
    assert torch.float32 == weight.dtype
    assert torch.equal(made["state_dict"]["module.encoder_q.conv1.weight"].float(), weight)


def test_legacy_file(tmp_path: Path) -> None:
    """A file in PyTorch's old layout converts to the same weights as the same tensors in the new one."""
    made = factories.make_moco("resnet18")
    old = factories.save(tmp_path / "old.pth.tar", made, _use_new_zipfile_serialization=False)
    new = factories.save(tmp_path / "new.pth.tar", made)

    first, second = (cxrzoo.convert(path, tmp_path / path.stem, preprocessing=ALIKE).record for path in (old, new))

    assert first.weights == second.weights


Change = Callable[[dict[str, Any]], Any]


def _changed(**changes: Any) -> Change:
    def change(made: dict[str, Any]) -> dict[str, Any]:
        for name, value in changes.items():
            state = made["state_dict"]
            key = f"module.encoder_q.{name.replace('__', '.')}"
            if value is None:
                del state[key]
            else:
                state[key] = value
        return made

    return change


def _renamed(old: str, new: str) -> Change:
    def change(made: dict[str, Any]) -> dict[str, Any]:
        made["state_dict"] = {key.replace(old, new): value for key, value in made["state_dict"].items()}
        return made

    return change


def _with_key(key: str) -> Change:
    def change(made: dict[str, Any]) -> dict[str, Any]:
        made["state_dict"][key] = made["state_dict"]["module.encoder_q.conv1.weight"]
        return made

    return change


REFUSED: dict[str, tuple[Change, dict[str, Any], type[Exception], str]] = {
    "renamed prefix": (
        _renamed("encoder_q", "encoder_x"),
        {"recipe": "moco"},
        errors.UnmatchedKeyError,
        r"124 of 250 keys match no rule of conversion/moco\.toml: 'module\.encoder_x\.conv1\.weight'.*Add a rule",
    ),
    "renamed prefix, recipe left out": (
        _renamed("encoder_q", "encoder_x"),
        {},
        errors.ConversionError,
        "recipes fits this checkpoint(.|\n)*moco: does not fit: 124 of 250 keys match no rule",
    ),
    "wrong recipe": (
        _renamed("", ""),
        {"recipe": "mobilenetv2"},
        errors.UnmatchedKeyError,
        "match no rule of conversion/mobilenetv2.toml.*The recipe 'moco' fits: pass --recipe moco",
    ),
    "missing layer": (
        _changed(layer2__0__conv1__weight=None),
        {},
        errors.ArchitectureError,
        r"The nearest is resnet18, 1 differences:\n  missing: layer2\.0\.conv1\.weight",
    ),
    "extra key": (
        _with_key("module.predictor.0.weight"),
        {"recipe": "moco"},
        errors.UnmatchedKeyError,
        r"1 of 251 keys match no rule of conversion/moco\.toml: 'module\.predictor\.0\.weight'\. Add a rule",
    ),
    "extra layer": (
        _with_key("module.encoder_q.layer4.2.conv1.weight"),
        {},
        errors.ArchitectureError,
        r"unexpected: layer4\.2\.conv1\.weight",
    ),
    "colliding keys": (
        _with_key("encoder_q.conv1.weight"),
        {"recipe": "moco"},
        errors.KeyCollisionError,
        r"2 keys would all become 'conv1\.weight'.*'module\.encoder_q\.conv1\.weight', 'encoder_q\.conv1\.weight'",
    ),
    "wrong architecture": (
        _renamed("", ""),
        {"architecture": "resnet50"},
        errors.ArchitectureError,
        "not those of resnet50(.|\n)*They are those of resnet18: pass --architecture resnet18",
    ),
    "architecture with a tag": (
        _renamed("", ""),
        {"architecture": "resnet18.a1_in1k"},
        errors.ArchitectureError,
        "'resnet18.a1_in1k' names weights as well, expected an architecture: 'resnet18'",
    ),
    "a number among the tensors": (
        lambda made: made["state_dict"] | {"module.encoder_q.step": 3},
        {},
        errors.CheckpointError,
        "values that are no tensors: 'module.encoder_q.step'",
    ),
    "unknown architecture": (
        _renamed("", ""),
        {"architecture": "resnet19"},
        errors.ArchitectureError,
        "timm has no architecture named 'resnet19'",
    ),
    "wrong shape": (
        _changed(conv1__weight=torch.zeros(64, 3, 5, 5)),
        {},
        errors.ArchitectureError,
        r"conv1\.weight: found F32 \(64, 3, 5, 5\), expected float \(64, 3, 7, 7\)",
    ),
    "integers for weights": (
        _changed(conv1__weight=torch.zeros(64, 3, 7, 7, dtype=torch.int32)),
        {},
        errors.ArchitectureError,
        r"conv1\.weight: found I32 \(64, 3, 7, 7\)",
    ),
    "NaN": (
        _changed(bn1__weight=torch.full((64,), float("nan"))),
        {},
        errors.UntrainedError,
        r"bn1\.weight: 64 of 64 values are NaN or infinite",
    ),
    "nothing to keep": (
        lambda made: {"state_dict": {"module.queue": made["state_dict"]["module.queue"]}},
        {"recipe": "moco"},
        errors.ConversionError,
        "keeps none of the 1 keys",
    ),
    "no tensors": (
        lambda made: {"epoch": 3, "arch": "resnet18"},
        {},
        errors.CheckpointError,
        "epoch",
    ),
}


@pytest.mark.parametrize(("change", "options", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(change: Change, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path) -> None:
    """A checkpoint that is not what it should be is refused with the reason, and nothing is left behind."""
    checkpoint = factories.save(tmp_path / "c.pth.tar", change(factories.make_moco("resnet18")))

    with pytest.raises(error, match=message):
        cxrzoo.convert(checkpoint, tmp_path / "out", preprocessing=ALIKE, **options)

    assert ["c.pth.tar"] == [path.name for path in tmp_path.iterdir()]


def test_untrained_network(tmp_path: Path) -> None:
    """A network whose BatchNorm statistics never moved is refused: it is random."""
    checkpoint = factories.save(tmp_path / "c.pth.tar", factories.make_moco("resnet18", trained=False))

    with pytest.raises(errors.UntrainedError, match="all 40 BatchNorm statistics are at their start"):
        cxrzoo.convert(checkpoint, tmp_path / "out", preprocessing=ALIKE)


UNREADABLE = {
    "truncated": (lambda data: data[:-1000], "truncated|ends|cut"),
    "HTML page": (lambda data: b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
    "empty": (lambda data: b"", "empty"),
}


@pytest.mark.parametrize(("damage", "message"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_file(
    damage: Callable[[bytes], bytes], message: str, resnet18_checkpoint: Path, tmp_path: Path
) -> None:
    """A file named .pth.tar that is no whole checkpoint is refused for what it is."""
    path = tmp_path / "c.pth.tar"
    path.write_bytes(damage(resnet18_checkpoint.read_bytes()))

    with pytest.raises(errors.CheckpointError, match=message):
        cxrzoo.convert(path, tmp_path / "out", preprocessing=ALIKE)


def test_whole_module_pickle(tmp_path: Path) -> None:
    """A pickled module gives its tensors: the same weights as its state_dict, and its code is not run."""
    network = factories.make_network("resnet18")
    whole = factories.save(tmp_path / "whole.pth", network)
    state = factories.save(tmp_path / "state.pth", network.state_dict())

    first, second = (cxrzoo.convert(path, tmp_path / path.stem, preprocessing=ALIKE).record for path in (whole, state))

    assert first.weights == second.weights


def test_missing_file(tmp_path: Path) -> None:
    """A checkpoint that is not there is an error of ours, not a traceback."""
    with pytest.raises(errors.CheckpointError, match="no-such-file"):
        cxrzoo.convert(tmp_path / "no-such-file.pth", tmp_path / "out", preprocessing=ALIKE)


def test_nothing_is_overwritten(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """A folder that exists is left alone."""
    (tmp_path / "out").mkdir()

    with pytest.raises(errors.FolderError, match="exists already"):
        cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", preprocessing=ALIKE)


def test_preprocessing_with_whole_numbers(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """A record given with integers where fractions are expected verifies after it went through JSON."""
    record = Preprocessing((3, 224, 224), (0, 0, 0), (1, 1, 1), "bilinear", 1, "center")

    cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", preprocessing=record)

    assert 8 == len([*verify_folder(tmp_path / "out")])
    assert "given" == cxrzoo.load(tmp_path / "out").provenance.preprocessing


def test_preprocessing_must_be_stated(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """Without a word on how images were prepared nothing is converted, and the error says why and how to state it."""
    with pytest.raises(errors.ConversionError, match=r"nothing says how(.|\n)*--preprocess-from [a-z0-9.-]+"):
        cxrzoo.convert(resnet18_checkpoint, tmp_path / "out")

    assert not (tmp_path / "out").exists()


def test_who_states_the_preprocessing(one_channel_folder: Path, resnet18_folder: Path) -> None:
    """Record and card tell what the model's manifest says from what its user stated."""
    assert "stated" == read_folder(one_channel_folder).record.preprocessing_origin
    assert "manifest" == read_folder(resnet18_folder).record.preprocessing_origin
    assert "stated by whoever converted" in (one_channel_folder / "README.md").read_text()
    assert "stated by whoever converted" not in (resnet18_folder / "README.md").read_text()


def test_what_is_only_stated_is_called_so(resnet18_folder: Path) -> None:
    """A checkpoint whose digest nobody published is the authors' by the word of whoever converted it, says the card."""
    assert "stated" == read_folder(resnet18_folder).record.source_proof
    assert "by the word of whoever converted it" in (resnet18_folder / "README.md").read_text()


def test_preprocessing_can_be_stated(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """A stated preprocessing is in the record and in timm's fields."""
    cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", preprocessing="moco-cxr-resnet18:paper_finetune")

    folder = read_folder(tmp_path / "out")
    assert "paper_finetune" == folder.record.default_variant
    assert (0.485, 0.456, 0.406) == folder.pretrained_cfg["mean"]


def test_unknown_preprocessing_variant(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """A variant that a model does not have is an error that lists those it has."""
    with pytest.raises(errors.FolderError, match="only paper_finetune, pretrain"):
        cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", preprocessing="moco-cxr-resnet18:pretrained")


def test_manifest_architecture_is_insisted_on(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """A ResNet-18 checkpoint does not pass for the zoo's DenseNet-121."""
    with pytest.raises(errors.ArchitectureError, match="not the checkpoint that 'moco-cxr-densenet121' names"):
        cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", model="moco-cxr-densenet121")
    with pytest.raises(errors.ConversionError, match="'moco-cxr-densenet121' is a densenet121, not a resnet18"):
        cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", model="moco-cxr-densenet121", architecture="resnet18")


def test_wrong_source(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """A checkpoint that is not the one a manifest pins is refused before it is converted."""
    with pytest.raises(
        errors.DigestError, match="expected 9084095: it is not the one that 'imagenet-mobilenetv2' names"
    ):
        cxrzoo.convert(resnet18_checkpoint, tmp_path / "out", model="imagenet-mobilenetv2")


def test_verify_accepts_what_was_written(resnet18_folder: Path) -> None:
    """A folder as converted passes verification, offline."""
    assert 8 == len([*verify_folder(resnet18_folder)])


def test_verify_converts_again(resnet18_checkpoint: Path, resnet18_folder: Path, tmp_path: Path) -> None:
    """Given the checkpoint, verification converts it once more; another checkpoint is told at once."""
    lines = [*verify_folder(resnet18_folder, resnet18_checkpoint)]
    other = factories.save(tmp_path / "other.pth.tar", factories.make_moco("resnet18", seed=5))

    assert "converted again from resnet18.pth.tar: the same bytes, 120 keys kept" == lines[-2]
    assert "parity measured again: 0 from torchvision resnet18" == lines[-1]
    with pytest.raises(errors.DigestError, match="was made of"):
        list(verify_folder(resnet18_folder, other))


@pytest.mark.parametrize("change", [{"num_features": 7}, {"global_pool": "max"}])
def test_verify_computes_the_record_again(change: dict[str, Any], resnet18_folder: Path, tmp_path: Path) -> None:
    """Facts that follow from weights and record are computed again, so that a fresh digest hides no edit of them."""
    import shutil

    from cxrzoo import folders

    folder = Path(shutil.copytree(resnet18_folder, tmp_path / "edited"))
    config = json.loads((folder / "config.json").read_text()) | change
    config["cxrzoo"]["digest"] = folders._own_digest(config)
    (folder / "config.json").write_text(folders.render_config(config))

    with pytest.raises(errors.FolderError, match=f"{next(iter(change))}.* contradict weights and record"):
        list(verify_folder(folder))


def test_verify_finds_another_network(resnet18_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation that computes something else from the same bytes is told by the fingerprint."""
    from cxrzoo import verification

    def build(name: str, **args: Any) -> torch.nn.Module:
        return timm.create_model(name, num_classes=0, act_layer="gelu", **args).eval()

    monkeypatch.setattr(verification, "build_network", build)

    with pytest.raises(errors.DigestError, match="this installation computes something else"):
        list(verify_folder(resnet18_folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_verify_finds_one_changed_byte(name: str, resnet18_folder: Path, tmp_path: Path) -> None:
    """One changed byte anywhere in a file that has a digest fails verification."""
    import shutil

    for position in (0, 17, 500, -2):
        folder = tmp_path / f"copy{position}"
        shutil.copytree(resnet18_folder, folder)
        data = bytearray((folder / name).read_bytes())
        data[position] ^= 1
        (folder / name).write_bytes(data)

        with pytest.raises(errors.CxrZooError):
            list(verify_folder(folder))


def test_edited_preprocessing_is_noticed(resnet18_folder: Path, tmp_path: Path) -> None:
    """A config.json whose constants were edited by hand no longer loads."""
    import shutil

    shutil.copytree(resnet18_folder, tmp_path / "edited")
    path = tmp_path / "edited" / "config.json"
    config = json.loads(path.read_text())
    config["pretrained_cfg"]["mean"] = [0.5, 0.5, 0.5]
    path.write_text(json.dumps(config))

    with pytest.raises(errors.DigestError, match="was changed after it was written"):
        cxrzoo.load(tmp_path / "edited")


def test_parity_finds_a_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe that puts two tensors of one shape in each other's place is caught by the features."""
    import dataclasses

    from cxrzoo import recipe

    torchvision = recipe.load_recipe("torchvision")
    swap = tuple(
        recipe.Rule(match=rf"layer1\.0\.conv{old}\.weight", rename=f"layer1.0.conv{new}.weight")
        for old, new in ("12", "21")
    )
    swapped = dataclasses.replace(torchvision, rule=(*swap, *torchvision.rule))
    real = recipe.load_recipe
    monkeypatch.setattr(recipe, "load_recipe", lambda name: swapped if name == "torchvision" else real(name))
    checkpoint = factories.save(tmp_path / "c.pth.tar", factories.make_moco("resnet18"))
    (tmp_path / "out").mkdir()

    with pytest.raises(errors.ConversionError, match="give different features for the same weights"):
        convert_into(tmp_path / "out", checkpoint, recipe="moco", variants=PREPARED, isolated=False)
