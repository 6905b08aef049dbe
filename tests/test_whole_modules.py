"""Checkpoints that name classes of somebody's own code: their tensors come out, and the code stays out."""

import argparse
import collections
import hashlib
import importlib
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import assembler
from hostile.assembler import call, dict_of, integer, legacy, name, program, storage, tensor, text, tuple_of
from hostile.zips import checkpoint
from torch import nn

from cxrzoo.checkpoint import Opaque, Tensor, describe_root, find_state_dict, list_mappings, open_checkpoint
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

pytestmark = pytest.mark.filterwarnings("ignore")

#: A network of some researcher's own, with all that people attach to theirs.
SOURCE = '''
import torch
from torch import nn

class Settings:
    """No module, but an attribute of one."""

class Slotted:
    __slots__ = ("mean", "__dict__")

class Names(dict):
    pass

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.act = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(width, width, 3, bias=False)
        self.norm = nn.BatchNorm2d(width)

class Net(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.zeta = nn.Parameter(torch.randn(2, 3).t())
        self.register_parameter("nothing", None)
        self.register_buffer("queue", torch.arange(4))
        self.register_buffer("scratch", torch.ones(3), persistent=False)
        self.register_buffer("absent", None)
        self.features = nn.Sequential(*[Block(width) for _ in range(3)])
        self.dropped = nn.Linear(1, 1)
        self.dropped = None
        self.classifier = nn.Linear(width, 2)
        self.op_threshs = torch.tensor([0.5, float("nan")])
        self.pathologies = ["Effusion", "Edema"]
        self.norm_layer, self.activation = nn.LayerNorm, nn.functional.relu
        self.settings, self.slotted, self.names = Settings(), Slotted(), Names(a=1)
        self.settings.owner, self.slotted.mean, self.slotted.x = [self], 0.5, 1
        self.dtype, self.device, self.shape = torch.float16, torch.device("cpu"), torch.Size([3])

class Outer(nn.Module):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4))
    def __init__(self):
        super().__init__()
        self.inner = Outer.Inner()
'''


def shared() -> nn.Module:
    """Return a network that uses some of its parts, and of its weights, twice."""
    layer, activation = nn.Linear(3, 3), nn.GELU()
    model = nn.Sequential(layer, activation, layer, *[activation] * 40, nn.Linear(3, 3, bias=False))
    model[-1].weight = layer.weight
    return model


def named() -> nn.Module:
    """Return a network with modules and parameters in dicts and lists."""
    return nn.ModuleDict(
        {
            "b": nn.ModuleList([nn.Linear(1, 2), nn.Linear(2, 1)]),
            "a": nn.ParameterList([nn.Parameter(torch.randn(2)), nn.Parameter(torch.randn(1, 2))]),
            "c": nn.ParameterDict({"y": nn.Parameter(torch.randn(2)), "x": nn.Parameter(torch.randn(2))}),
        }
    )


def resnet() -> nn.Module:
    """Return torchvision's smallest residual network."""
    from torchvision.models import resnet18

    return resnet18(num_classes=2)


def densenet() -> nn.Module:
    """Return a DenseNet of as many modules as the 121 layers have, each of them small."""
    from torchvision.models import DenseNet

    return DenseNet(2, (6, 12, 24, 16), 4, 2, num_classes=3)


def precise() -> nn.Module:
    """Return layers of several dtypes and memory layouts, one of them frozen."""
    model = nn.Sequential(nn.Conv2d(4, 4, 3).half(), nn.Linear(3, 2).bfloat16(), nn.Linear(2, 2).double())
    model[0].to(memory_format=torch.channels_last)
    return model.requires_grad_(requires_grad=False)


#: What makes a network, given the module of SOURCE.
NETWORKS: dict[str, Callable[[Any], nn.Module]] = {
    "linear": lambda own: nn.Linear(3, 2),
    "sequential": lambda own: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
    "empty": lambda own: nn.Sequential(nn.ReLU(), nn.Linear(1, 1)),
    "own": lambda own: own.Net(),
    "own, inside": lambda own: nn.DataParallel(own.Net(2)),
    "shared": lambda own: shared(),
    "named": lambda own: named(),
    "precise": lambda own: precise(),
    "recurrent": lambda own: nn.LSTM(3, 4, 2, bidirectional=True),
    "transformer": lambda own: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, activation="gelu"), 2),
    "weight norm": lambda own: nn.utils.weight_norm(nn.Linear(3, 2)),
    "spectral norm": lambda own: nn.utils.spectral_norm(nn.Linear(3, 2)),
    "torchvision resnet": lambda own: resnet(),
    "torchvision densenet": lambda own: densenet(),
}
#: How torch.save may write it.
WAYS: dict[str, dict[str, Any]] = {
    **{f"zip {protocol}": {"pickle_protocol": protocol} for protocol in (2, 3, 4, 5)},
    "legacy": {"_use_new_zipfile_serialization": False},
}


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Any]:
    """Return a module of somebody's own, which is gone by the time a file is read."""
    title = f"their_network_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]}"
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / f"{title}.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield importlib.import_module(title)
    sys.path.remove(str(folder))
    sys.modules.pop(title, None)


def forget(own: Any) -> None:
    """Make the module unimportable."""
    Path(own.__file__).unlink()
    del sys.modules[own.__name__]


def bits(value: torch.Tensor) -> tuple[tuple[int, ...], bytes]:
    """Return the shape and the bytes of a tensor of torch."""
    return tuple(value.shape), value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def contents(tensors: dict[str, Tensor]) -> list[tuple[str, Any]]:
    """Return the names, shapes and bytes of tensors that were found, in their order."""
    return [(key, (value.shape, bytes(value.read()))) for key, value in tensors.items()]


def expected_of(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the same of what torch says is in the state_dict."""
    return [(key, bits(value)) for key, value in model.state_dict().items()]


def write(path: Path, body: bytes, storages: dict[str, bytes] | None = None) -> Path:
    """Write a zip checkpoint around opcodes."""
    path.write_bytes(checkpoint(program(body), storages))
    return path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", NETWORKS)
def test_a_whole_module_is_its_state_dict(tmp_path: Path, own: Any, kind: str, way: str) -> None:
    """The tensors of a pickled network have the names, the order and the bits of its state_dict when saved."""
    torch.manual_seed(0)
    model = NETWORKS[kind](own)
    path = tmp_path / "model.pth"
    torch.save(model, path, **WAYS[way])
    forget(own)
    with open_checkpoint(path) as opened:
        assert expected_of(model) == contents(find_state_dict(opened.root, ["state_dict"]))
        assert [f"{type(model).__module__}.{type(model).__qualname__}, a whole module"] == describe_root(opened.root)
    assert own.__name__ not in sys.modules


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_class_inside_a_class_needs_a_late_protocol(tmp_path: Path, own: Any, protocol: int) -> None:
    """Before protocol 4, pickle reaches such a class by calling getattr, which is refused; from then on it is read."""
    model = own.Outer()
    path = tmp_path / "model.pth"
    torch.save(model, path, pickle_protocol=protocol)
    if protocol < 4:
        with pytest.raises(UnsafeCheckpointError, match=r"__builtin__\.getattr"):
            open_checkpoint(path)
        return
    with open_checkpoint(path) as opened:
        assert expected_of(model) == contents(find_state_dict(opened.root, []))
        root: Any = opened.root
    assert f"{own.__name__}.Outer.Inner" == str(root.attributes["_modules"]["inner"])


def test_no_code_runs_for_whole_modules(tmp_path: Path, own: Any) -> None:
    """In a process of its own nothing is imported and nothing else is opened, and the bytes are the same."""
    folder, harmless = tmp_path / "files", tmp_path / "harmless"
    folder.mkdir()
    write(harmless, dict_of(w=tensor()), {"0": bytes(16)})
    for kind, make in NETWORKS.items():
        for way, options in WAYS.items():
            torch.save({"epoch": 3, "state_dict": make(own)}, folder / f"{kind} {way}", **options)
    forget(own)
    report = watch(folder, harmless)
    assert {path.name: "accepted" for path in folder.iterdir()} == {
        k: text for k, (text, _) in report["report"].items()
    }
    assert [] == report["seen"]
    assert not {"torch", "torchvision", own.__name__} & set(report["modules"])


def watch(folder: Path, harmless: Path) -> dict[str, Any]:
    """Open and read every file of a folder in a process with an audit hook, and return its report."""
    script = Path(assembler.__file__).with_name("watched.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(folder), str(harmless)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def test_modules_are_found_among_other_things(tmp_path: Path, own: Any) -> None:
    """A module under a key is the mapping of that name, with a whole optimizer beside it or not."""
    model, second = own.Net(), nn.Linear(2, 2)
    optimizer = torch.optim.Adam(model.parameters())
    sum(value.sum() for value in model.parameters() if value.is_floating_point()).backward()
    optimizer.step()
    path = tmp_path / "all.pth"
    torch.save({"model": model, "more": {"ema": second}, "optimizer": optimizer, "epoch": 3}, path)
    forget(own)
    with open_checkpoint(path) as opened:
        assert expected_of(model) == contents(find_state_dict(opened.root, ["state_dict", "model"]))
        assert expected_of(second) == contents(find_state_dict(opened.root, ["more.ema"]))
        assert {"model": 22, "more.ema": 2} == {key: len(value) for key, value in list_mappings(opened.root).items()}
        assert [
            f"'model': {own.__name__}.Net, a whole module",
            "'more': dict of 1",
            "'optimizer': torch.optim.adam.Adam, kept as text",
            "'epoch': 3",
        ] == describe_root(opened.root)


def test_mappings_four_levels_deep_are_listed(tmp_path: Path) -> None:
    """The trunk in a checkpoint of VISSL is shown, and found."""
    trunk = {"classy_state_dict": {"base_model": {"model": {"trunk": {"w": torch.zeros(2)}, "heads": {}}}}}
    path = tmp_path / "vissl.torch"
    torch.save(trunk, path)
    where = "classy_state_dict.base_model.model.trunk"
    with open_checkpoint(path) as opened:
        assert [where] == list(list_mappings(opened.root))
        assert ["w"] == list(find_state_dict(opened.root, [where]))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return what makes a class of a package that is not installed, until `monkeypatch.undo()`."""

    def make(module: str, title: str, *bases: type) -> Any:
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            parent = ".".join(parts[:length])
            if parent not in sys.modules:
                monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
        cls = type(title, bases, {"__module__": module})
        monkeypatch.setattr(sys.modules[module], title, cls, raising=False)
        return cls

    return make


def configuration(fake: Callable[..., Any]) -> Any:
    """Return a config of omegaconf, whose nodes know their parents."""
    container, node = fake("omegaconf.dictconfig", "DictConfig"), fake("omegaconf.nodes", "AnyNode")
    metadata = fake("omegaconf.base", "ContainerMetadata")
    config, value, meta = container(), node(), metadata()
    meta.__dict__.update(
        ref_type=Any, object_type=dict, key_type=Any, flags={}, resolver_cache=collections.defaultdict(dict)
    )
    value.__dict__.update(_metadata=meta, _parent=config, _val=0.1)
    config.__dict__.update(_metadata=meta, _parent=None, _content={"lr": value})
    return config


@pytest.mark.parametrize("way", WAYS)
def test_a_checkpoint_of_lightning_is_read(
    tmp_path: Path, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Hyper-parameters, configurations, callbacks by their class and numbers of numpy come along as inert data."""
    early = fake("pytorch_lightning.callbacks.early_stopping", "EarlyStopping")
    yacs = fake("yacs.config", "CfgNode", dict)(MODEL="densenet121", TAGS={"a"})
    yacs.__dict__["__immutable__"] = True
    weights = {"model.w": torch.arange(3.0)}
    tree = {
        "epoch": 9,
        "pytorch-lightning_version": "1.0.8",
        "state_dict": collections.OrderedDict(weights),
        "callbacks": {early: {"best": torch.tensor(0.5), "wait": 2}},
        "optimizer_states": [{"state": collections.defaultdict(dict), "param_groups": []}],
        "hyper_parameters": {
            "config": configuration(fake),
            "yacs": yacs,
            "args": argparse.Namespace(lr=0.1, out=Path("runs")),
            "nested": fake("pytorch_lightning.utilities.parsing", "AttributeDict", dict)(batch=8),
            "best": np.float64(0.25),
            "mean": np.arange(2.0),
            "device": torch.device("cuda:1"),
            "dtype": torch.float16,
            "size": torch.Size([1, 2]),
            "counts": collections.Counter("ab"),
            "seen": {1, 2},
            "act": nn.functional.silu,
        },
    }
    path = tmp_path / "last.ckpt"
    torch.save(tree, path, **WAYS[way])
    monkeypatch.undo()
    with open_checkpoint(path) as opened:
        root: Any = opened.root
        assert [("model.w", bits(weights["model.w"]))] == contents(find_state_dict(root, ["state_dict"]))
    assert ["pytorch_lightning.callbacks.early_stopping.EarlyStopping"] == list(map(str, root["callbacks"]))
    kept = root["hyper_parameters"]
    assert "omegaconf.dictconfig.DictConfig" == str(kept["config"])
    node = kept["config"].attributes["_content"]["lr"]
    assert (0.1, kept["config"]) == (node.attributes["_val"], node.attributes["_parent"])
    assert ({"MODEL": "densenet121", "TAGS": ["a"]}, {"__immutable__": True}) == (
        kept["yacs"].items | {"TAGS": list(kept["yacs"].items["TAGS"])},
        kept["yacs"].attributes,
    )
    assert ({"batch": 8}, 0.25, "cuda:1", (1, 2)) == (kept["nested"].items, kept["best"], kept["device"], kept["size"])
    assert "torch.nn.functional.silu" == str(kept["act"])


def test_a_mapping_may_be_an_object(tmp_path: Path, fake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """An object of a class derived from dict, of an unknown package, is a mapping like any other."""
    attributes = fake("their_tools.config", "AttrDict", dict)
    path = tmp_path / "model.pth"
    torch.save(attributes(model=attributes(w=torch.ones(2))), path)
    monkeypatch.undo()
    with open_checkpoint(path) as opened:
        assert ["w"] == list(find_state_dict(opened.root, ["model"]))
        assert ["model"] == list(list_mappings(opened.root))


CLASS = name("their_code", "Thing")
OBJECT = CLASS + b")\x81"
#: What Python writes for an object that has attributes in slots.
SLOTS = b"N" + dict_of(mean=b"K\1") + b"\x86"


@pytest.mark.parametrize(
    "body",
    [
        OBJECT,
        CLASS + b")}\x92",
        name("copyreg", "__newobj__") + tuple_of(CLASS) + b"R",
        name("copy_reg", "_reconstructor") + tuple_of(CLASS, name("__builtin__", "object"), b"N") + b"R",
        OBJECT + dict_of(a=b"K\1") + b"b",
        OBJECT + SLOTS + b"b",
        OBJECT + dict_of(a=b"K\1") + dict_of(mean=b"K\1") + b"\x86b",
        OBJECT + text("key") + b"K\1s",
        name("__main__", "Thing") + b")\x81",
        name("torch.optim.lr_scheduler", "StepLR") + b")\x81",
    ],
)
@pytest.mark.parametrize("container", [checkpoint, legacy])
def test_an_object_without_arguments_is_inert(tmp_path: Path, container: Callable[..., bytes], body: bytes) -> None:
    """Each way in which pickle writes ordinary objects gives their class as text, and their attributes."""
    path = tmp_path / "object.pth"
    path.write_bytes(container(program(b"](" + body + body + b"e")))
    with open_checkpoint(path) as opened:
        assert isinstance(opened.root, list)
        first, second = opened.root
        assert isinstance(first, Opaque)
        assert first is not second
        assert first.state is not None
        with pytest.raises(CheckpointError, match=rf"objects of {first}, kept as text and never imported"):
            find_state_dict(opened.root, ["state_dict"])


GADGET = name("their_code", "run")
#: A bare name of unknown code, in every place that an object could stand in.
BARE = {
    "root": GADGET,
    "value": dict_of(a=GADGET),
    "key": b"}" + GADGET + b"Ns",
    "key in a tuple": b"}" + GADGET + b"\x85Ns",
    "list": b"]" + GADGET + b"a",
    "tuple": tuple_of(GADGET),
    "attribute": OBJECT + dict_of(a=GADGET) + b"b",
    "attributes": OBJECT + GADGET + b"b",
    "attribute of a namespace": name("argparse", "Namespace") + b")\x81" + dict_of(a=GADGET) + b"b",
    "item of an object": OBJECT + text("a") + GADGET + b"s",
    "default": call("collections", "defaultdict", GADGET),
    "member of a set": call("builtins", "set", b"]" + GADGET + b"a"),
    "hooks of a tensor": call("torch._utils", "_rebuild_parameter", tensor(), b"\x88", GADGET),
    "attributes of a dict": b"}" + dict_of(a=GADGET) + b"b",
    "class of a tensor": call("torch._tensor", "_rebuild_from_type_v2", GADGET, GADGET, b")", b"}"),
    "popped": GADGET + b"0N",
    "in the memo": GADGET + b"q\x070N",
    "storage": tuple_of(text("storage"), GADGET, text("0"), text("cpu"), b"K\1") + b"Q",
    "base of an object": name("copyreg", "_reconstructor") + tuple_of(CLASS, GADGET, b"N") + b"R",
    "state of an object": name("copyreg", "_reconstructor")
    + tuple_of(CLASS, name("builtins", "object"), GADGET)
    + b"R",
}


@pytest.mark.parametrize("place", BARE)
@pytest.mark.parametrize("used", [False, True], ids=["", "an object beside it"])
def test_a_bare_name_of_unknown_code_is_refused(tmp_path: Path, place: str, used: bool) -> None:
    """A class of which an object may be made may not stand for itself, unless it is thrown away unseen."""
    body = tuple_of(OBJECT, GADGET + b")\x81", BARE[place]) if used else BARE[place]
    path = write(tmp_path / "bare", body, {"0": bytes(16)})
    if used and place in ("hooks of a tensor", "attributes of a dict", "popped", "in the memo"):
        with open_checkpoint(path):
            return
    with pytest.raises(UnsafeCheckpointError) as caught:
        open_checkpoint(path)
    assert used or "their_code.run" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        GADGET + b")R",
        GADGET + tuple_of(b"N") + b"R",
        GADGET + tuple_of(b"N") + b"\x81",
        GADGET + b"]\x81",
        GADGET + b")" + dict_of(a=b"N") + b"\x92",
        b"(itheir_code\nrun\n",
        b"(" + GADGET + b"o",
        b"(Nitheir_code\nrun\n",
        GADGET + dict_of(__setstate__=b"N") + b"b",
        GADGET + b")\x81]b",
        GADGET + b")\x81)b",
        GADGET + b")\x81N\x85b",
        GADGET + b")\x81NN\x86b",
        GADGET + b")\x81" + text("x") + b"b",
        GADGET + b")\x81" + dict_of(a=b"N") + b"b" + dict_of(b=b"N") + b"b",
        GADGET + b")\x81Na",
        GADGET + b")\x81)R",
        GADGET + b")\x81)\x81",
        name("copyreg", "__newobj__") + tuple_of(GADGET, b"N") + b"R",
        name("copyreg", "_reconstructor") + tuple_of(GADGET, name("builtins", "dict"), b"}") + b"R",
        name("torch.nn", "Linear") + tuple_of(b"K\1", b"K\1") + b"R",
        name("torch.nn", "Linear") + b")R",
        name("timm", "create_model") + tuple_of(text("resnet18")) + b"R",
        name("timm.layers.format", "Format") + tuple_of(b"]") + b"R",
        name("collections", "deque") + tuple_of(b"(K\1t") + b"R",
        name("datetime", "datetime") + tuple_of(b"K\1") + b"R",
        name("functools", "partial") + tuple_of(name("torch.nn", "LayerNorm")) + b"R",
        name("torchvision", "os.system"),
        name("builtins", "object") + b")\x81",
        name("torch", "Tensor") + b")\x81",
    ],
)
@pytest.mark.parametrize("hidden", [False, True], ids=["alone", "beside weights"])
def test_more_than_an_object_is_refused(tmp_path: Path, hidden: bool, body: bytes) -> None:
    """Whatever pickle could do with unknown code beyond making an empty object is refused, also beside weights."""
    whole = dict_of(state_dict=dict_of(w=tensor()), hyper_parameters=dict_of(a=body)) if hidden else body
    with pytest.raises(UnsafeCheckpointError):
        open_checkpoint(write(tmp_path / "more", whole, {"0": bytes(16)}))


@pytest.mark.parametrize("style", ["newobj", "build", "reduce", "bare", "reconstructed", "as_key"])
def test_gadgets_beside_weights_are_refused_by_name(tmp_path: Path, style: str) -> None:
    """A name of the standard library is refused in any place of an otherwise good checkpoint."""
    gadget = assembler.styles("os", "system")[style]
    weights = dict_of(w=tensor())
    places = [
        dict_of(state_dict=weights, hyper_parameters=OBJECT + dict_of(_content=dict_of(lr=gadget)) + b"b"),
        dict_of(state_dict=weights, callbacks=b"}" + name("pytorch_lightning", "Callback") + dict_of(a=gadget) + b"s"),
        module(b"}", b"}", _forward_hooks=dict_of(a=gadget)),
    ]
    for body in places:
        with pytest.raises(UnsafeCheckpointError, match=r"os\.system"):
            open_checkpoint(write(tmp_path / "gadget", body, {"0": bytes(16)}))


def test_the_source_in_a_legacy_file_is_not_used(tmp_path: Path) -> None:
    """The class that torch noted with its source is the class; the text of the source means nothing."""
    noted = tuple_of(text("module"), CLASS, text("/tmp/their_code.py"), text("raise SystemExit")) + b"Q"
    parameters = dict_of(w=tensor(storage(legacy=True)))
    body = noted + b")\x81" + dict_of(_parameters=parameters, _modules=b"}") + b"b"
    path = tmp_path / "old.pth"
    path.write_bytes(legacy(program(body), {"0": bytes(range(16))}))
    with open_checkpoint(path) as opened:
        assert [("w", ((4,), bytes(range(16))))] == contents(find_state_dict(opened.root, []))
    with pytest.raises(UnsafeCheckpointError, match="never writes"):
        open_checkpoint(write(tmp_path / "new.pth", body))
    for strange in (tuple_of(text("module"), CLASS, b"K\1", b"N"), tuple_of(text("module"), OBJECT, b"N", b"N")):
        path.write_bytes(legacy(program(strange + b"Q")))
        with pytest.raises(UnsafeCheckpointError, match="never writes"):
            open_checkpoint(path)


def module(parameters: bytes, modules: bytes, **more: bytes) -> bytes:
    """Push a pickled module."""
    return OBJECT + dict_of(_parameters=parameters, _modules=modules, **more) + b"b"


def doubling(levels: int) -> bytes:
    """Push a module that holds one module twice, which holds one module twice, and so on."""
    body = module(dict_of(w=tensor()), b"}")
    for _ in range(levels):
        body += b"q\0" + b"0" + module(b"}", dict_of(a=b"h\0", b=b"h\0"))
    return body


def nested(levels: int) -> bytes:
    """Push a module in a module in a module."""
    body = module(dict_of(w=tensor()), b"}")
    for _ in range(levels):
        body += b"q\0" + b"0" + module(b"}", dict_of(m=b"h\0"))
    return body


def wide(count: int, tensors: int) -> bytes:
    """Push many mappings whose modules all hold the same large module."""
    weights = b"}(" + b"".join(text(f"w{index}") + b"h\2" for index in range(tensors)) + b"u"
    large = tensor() + b"q\0020" + module(weights, b"}") + b"q\0030"
    return large + dict_of(**{f"m{index}": module(b"}", dict_of(a=b"h\3")) for index in range(count)})


LOOP = OBJECT + b"q\0" + dict_of(_parameters=dict_of(w=tensor()), _modules=dict_of(a=b"h\0")) + b"b"
#: What no module is, and what the error says of it.
LIES: dict[str, tuple[bytes, str]] = {
    "contains itself": (LOOP, "contains itself"),
    "contains its owner": (
        OBJECT + b"q\0" + dict_of(_parameters=b"}", _modules=dict_of(a=module(b"}", dict_of(b=b"h\0")))) + b"b",
        "contains itself",
    ),
    "2**40 paths": (doubling(40), "more than 16 places"),
    "2**60 paths": (doubling(60), "more than 16 places"),
    "70 deep": (nested(70), "nested more than 64 deep"),
    "objects as parameters": (module(dict_of(w=OBJECT), b"}"), "'w'.*their_code.Thing and no tensor"),
    "modules as parameters": (module(dict_of(w=module(b"}", b"}")), b"}"), "no tensor"),
    "numbers as buffers": (module(b"}", b"}", _buffers=dict_of(w=b"K\1")), "'w'.*int and no tensor"),
    "buffers that are no dict": (module(b"}", b"}", _buffers=b"]"), "buffers that are no dict"),
    "a tensor as a module": (module(b"}", dict_of(a=tensor())), "'a' is a Tensor, where a module must be"),
    "an object as a module": (module(b"}", dict_of(a=OBJECT)), "their_code.Thing, where a module must be"),
    "a dict as a module": (module(b"}", dict_of(a=dict_of(w=tensor()))), "where a module must be"),
    "a class as a module": (module(b"}", dict_of(a=name("torch.nn", "Linear"))), "where a module must be"),
    "os.system as a class": (
        name("os", "system") + b")\x81" + dict_of(_parameters=b"}", _modules=b"}") + b"b",
        r"os\.system",
    ),
    "two of one name": (
        module(dict_of(**{"a.w": tensor()}), dict_of(a=module(dict_of(w=tensor()), b"}"))),
        "two tensors.*'a.w'",
    ),
    "parameter and buffer": (module(dict_of(w=tensor()), b"}", _buffers=dict_of(w=tensor())), "two tensors.*'w'"),
    "a number as a name": (module(b"}K\1" + tensor() + b"s", b"}"), "a tensor is named 1"),
    "a module without a name": (module(b"}", b"}K\1" + module(dict_of(w=tensor()), b"}") + b"s"), "is named 1"),
    "a name with an escape": (module(dict_of(**{"\x1b[2J": tensor()}), b"}"), "printable"),
    "long names": (module(b"}", dict_of(**{"a" * 600: module(dict_of(w=tensor()), b"}")})), "printable"),
    "hidden buffers of others": (
        module(b"}", b"}", _buffers=dict_of(w=tensor()), _non_persistent_buffers_set=b"](" + text("w") * 2 + b"e"),
        "none of its own",
    ),
    "hidden buffers that are no names": (
        module(b"}", b"}", _buffers=dict_of(w=tensor()), _non_persistent_buffers_set=b"]K\1a"),
        "none of its own",
    ),
    "hidden buffers in a dict": (
        module(b"}", b"}", _buffers=dict_of(w=tensor()), _non_persistent_buffers_set=b"}"),
        "none of its own",
    ),
    "one tensor 1000 times": (wide(1, 1000), "share their bytes"),
    "too many tensors": (wide(1, 21_000), "than any network"),
    "too many tensors in all": (wide(30, 19_000), "than any network"),
    "two states": (module(b"}", b"}") + dict_of(_parameters=b"}", _modules=b"}") + b"b", "sets attributes"),
    "an item that is itself": (OBJECT + b"q\0" + text("a") + b"h\0s", "contains itself"),
    "a list that is itself": (OBJECT + dict_of(a=b"]q\0h\0a") + b"b", "contains itself"),
    "deep objects": (
        b"N" + (b"q\0000" + CLASS + b")\x81" + b"}" + text("a") + b"h\0sb") * 20_000,
        "nested more than 64 deep",
    ),
    "one large object": (
        b"](" + b"N" * 250_000 + b"eq\0000" + OBJECT + b"q\1" + dict_of(a=b"h\0") + b"b0"
        b"}(" + b"".join(integer(index) + b"]h\1a" for index in range(50)) + b"u",
        "no state_dict",
    ),
    "states that share": (
        b"}(" + b"".join(integer(index) + b"N" for index in range(5_000)) + b"uq\0000"
        b"](" + (OBJECT + b"h\0b") * 20_000 + b"e",
        "unfolds to more",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_modules_that_lie_are_refused(tmp_path: Path, lie: str) -> None:
    """What torch would never put into a module is refused by what it is."""
    body, expected = LIES[lie]
    path = write(tmp_path / "lie", body, {"0": bytes(16)})
    kind = CheckpointError if expected == "no state_dict" else UnsafeCheckpointError
    with pytest.raises(kind, match=expected) as caught, open_checkpoint(path) as opened:
        list_mappings(opened.root)
        find_state_dict(opened.root, ["m0"])
    assert kind is caught.type


def test_modules_that_lie_are_refused_fast(tmp_path: Path) -> None:
    """None of them takes 2 s of CPU time or 200 MB of memory, and nothing is imported."""
    folder = tmp_path / "files"
    folder.mkdir()
    for lie, (body, _) in LIES.items():
        write(folder / lie.replace("*", "x"), dict_of(state_dict=body), {"0": bytes(16)})
    report = watch(folder, write(tmp_path / "harmless", dict_of(w=tensor()), {"0": bytes(16)}))
    assert {} == {name: text for name, (text, _) in report["report"].items() if "CheckpointError" not in text[:21]}
    assert {} == {name: seconds for name, (_, seconds) in report["report"].items() if seconds > 2}
    assert [] == report["seen"]
    assert report["grown"] < 200


def test_sixty_modules_deep_is_read(tmp_path: Path) -> None:
    """The limits leave room: a module in a module, sixty times, and one used in sixteen places."""
    path = write(tmp_path / "deep", nested(60), {"0": bytes(16)})
    with open_checkpoint(path) as opened:
        assert ["m." * 60 + "w"] == list(find_state_dict(opened.root, []))
    path = write(tmp_path / "shared", doubling(4), {"0": bytes(16)})
    with open_checkpoint(path) as opened:
        assert 16 == len(find_state_dict(opened.root, []))


def test_the_budget_has_room_for_two_large_networks(tmp_path: Path) -> None:
    """A query and a key encoder of 201 layers, pickled whole with the optimizer, are read."""
    from torchvision.models import DenseNet

    encoders = nn.ModuleDict({key: DenseNet(1, (6, 12, 48, 32), 2, 1, num_classes=2) for key in ("q", "k")})
    optimizer = torch.optim.Adam(encoders["q"].parameters())
    for parameter in encoders["q"].parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    path = tmp_path / "moco.pth"
    torch.save({"model": encoders, "optimizer": optimizer.state_dict()}, path)
    with open_checkpoint(path) as opened:
        assert 2 * 1207 == len(find_state_dict(opened.root, ["model"]))


def test_a_file_without_tensors_names_its_classes(tmp_path: Path) -> None:
    """Objects alone are no checkpoint: the error names their classes, wherever they lie, and how many more."""
    body = b"](" + b"".join(dict_of(a=name("their_code", f"Thing{index}") + b")\x81") for index in range(12)) + b"e"
    with open_checkpoint(write(tmp_path / "objects", body)) as opened:
        with pytest.raises(CheckpointError, match=r"objects of their_code\.Thing0, .* and 2 more, kept as text"):
            find_state_dict(opened.root, ["state_dict"])
        assert {} == list_mappings(opened.root)
