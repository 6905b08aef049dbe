"""Small honest checkpoints, of torch.save and of the assembler, which mutants are made of."""

import functools
import io
import pickle
import pickletools
import random
import struct
from dataclasses import dataclass
from typing import Any

from hostile.assembler import dict_of, legacy, name, program, storage, tensor, text, tuple_of
from hostile.zips import checkpoint


@dataclass(frozen=True)
class Seed:
    """An honest file; `spans` are the ranges of its bytes that are data of tensors or pixels, the rest is structure."""

    data: bytes
    spans: tuple[tuple[int, int], ...]


CHECKPOINTS = ("zip", "legacy", "module", "module_legacy", "plain", "moco", "moco_legacy")
NAMES = (*CHECKPOINTS, "safetensors")


@functools.cache
def make_seed(title: str) -> Seed:
    """Return a seed of these names; bytes are the same every time."""
    if title.startswith("module"):
        return _module(is_legacy=title.endswith("legacy"))
    import torch

    state = _state()
    if title == "safetensors":
        from safetensors.torch import save

        return _locate(save(state, {"format": "pt"}), list(state.values()))
    moco = title.startswith("moco")
    wrapped = _moco(state) if moco else {"epoch": 3, "arch": "resnet18", "state_dict": state}
    buffer = io.BytesIO()
    torch.save(
        state if title == "plain" else wrapped, buffer, _use_new_zipfile_serialization=not title.endswith("legacy")
    )
    moments = wrapped["optimizer"]["state"].values() if moco else ()
    kept = [value for moment in moments for value in moment.values()]
    tensors = [*(wrapped["state_dict"] if moco else state).values(), *kept]
    data = buffer.getvalue()
    return _locate(_renamed(data, tensors) if title.endswith("legacy") else data, tensors)


def _state() -> dict[str, Any]:
    """Return a state_dict of every kind of tensor that backbones have."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = {"conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "bn1.bias": (4,), "fc.weight": (8, 4), "fc.bias": (8,)}
    state: dict[str, Any] = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    state["bn1.num_batches_tracked"] = torch.tensor(1234567)
    state["half"] = torch.randn(6, generator=generator).half()
    state["mask"] = torch.tensor([True, False] * 8)
    return state


def _moco(state: dict[str, Any]) -> dict[str, Any]:
    """Return the layout of MoCo's training: two encoders, a queue, and Adam's state."""
    import torch

    parameters = [torch.nn.Parameter(value.clone()) for value in state.values() if value.dtype == torch.float32]
    adam = torch.optim.Adam(parameters, lr=1e-4)
    for index, parameter in enumerate(parameters):
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    adam.step()
    encoders = {
        f"module.encoder_{which}.{key}": value.clone() + (which == "k")
        for which in "qk"
        for key, value in state.items()
        if value.dtype == torch.float32
    }
    queue = torch.randn((16, 8), generator=torch.Generator().manual_seed(99))
    return {"epoch": 20, "state_dict": encoders | {"module.queue": queue}, "optimizer": adam.state_dict()}


def _module(*, is_legacy: bool) -> Seed:
    """Return a whole pickled module of a class that exists nowhere."""
    generator = random.Random("module")
    raws = {str(key): generator.randbytes(64) for key in range(2)}

    def parameter(key: str) -> bytes:
        hooks = name("collections", "OrderedDict") + b")R"
        data = tensor(storage(key, numel=16, legacy=is_legacy), shape=(4, 4), stride=(4, 1))
        return name("torch._utils", "_rebuild_parameter") + tuple_of(data, b"\x88", hooks) + b"R"

    def instance(class_name: str, parameters: bytes = b"}", modules: bytes = b"}") -> bytes:
        state = dict_of(training=b"\x89", _parameters=parameters, _buffers=b"}", _modules=modules)
        return name("research_net", class_name) + b")\x81" + state + b"b"

    layer = instance("Layer", dict_of(weight=parameter("0"), bias=parameter("1")))
    main = program(instance("Network", modules=dict_of(conv=layer)))
    data = legacy(main, raws) if is_legacy else checkpoint(main, raws)
    return Seed(data, tuple((data.index(raw), data.index(raw) + len(raw)) for raw in raws.values()))


def _renamed(data: bytes, tensors: list[Any]) -> bytes:
    """Return a legacy file whose storages are numbered; torch names and sorts them by their addresses in memory."""
    stream = io.BytesIO(data)
    for _ in range(3):
        pickle.load(stream)
    start = stream.tell()
    assert list(pickletools.genops(stream))
    main = data[start : stream.tell()]
    keys = pickle.load(stream)
    blocks, position = {}, stream.tell()
    for key in keys:
        found = (struct.pack("<q", value.numel()) + value.numpy().tobytes() for value in tensors)
        blocks[key] = next(block for block in found if data.startswith(block, position))
        position += len(blocks[key])
    assert position == len(data)
    ordered = sorted(keys, key=lambda key: main.index(text(key)))
    for number, key in enumerate(ordered):
        main = main.replace(text(key), text(str(number)))
    names = [str(number) for number in range(len(keys))]
    return data[:start] + main + pickle.dumps(names, 2) + b"".join(blocks[key] for key in ordered)


def _locate(data: bytes, tensors: list[Any]) -> Seed:
    """Return a seed, its tensors found by their bytes; single numbers that occur twice are left out."""
    spans = []
    for value in tensors:
        raw = value.contiguous().numpy().tobytes()
        if data.count(raw) == 1:
            spans.append((data.index(raw), data.index(raw) + len(raw)))
    assert spans, struct.unpack("<Q", data[:8])
    return Seed(data, tuple(sorted(spans)))
