"""A process of its own that opens one file after the other under an audit hook; run as a script.

Argument: an honest safetensors file, which is opened first, so that whatever Python itself imports on the way
is imported before the hook looks. Requests come in as lines of JSON, and a line of JSON answers each.
"""

import codecs
import contextlib
import ctypes
import functools
import gc
import hashlib
import itertools
import json
import pickle
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cxrzoo import matching
from cxrzoo.checkpoint import (
    ITEM_SIZES,
    Opaque,
    Tensor,
    describe_root,
    find_state_dict,
    list_mappings,
    open_checkpoint,
)
from cxrzoo.errors import CheckpointError, ConversionError, DigestError, FolderError
from cxrzoo.weights import read_into, read_shapes, write_weights

UNWRAP = ["state_dict", "model"]
#: Nothing of these is worth a look; everything else that Python audits is an alarm.
_HARMLESS = {"builtins.id"}

watched: Path | None = None
strays: list[str] = []


def watch(event: str, arguments: tuple[object, ...]) -> None:
    """Note every audited event but opening the file in question for reading."""
    if watched is None or event in _HARMLESS:
        return
    if event != "open" or str(arguments[0]) != str(watched) or arguments[1] not in ("r", "rb"):
        strays.append(f"{event} {str(arguments)[:100]}")


def list_tensors(root: object) -> Iterator[Tensor]:
    """Yield every tensor in a tree, each once."""
    pending, seen = [root], set()
    while pending:
        value = pending.pop()
        if isinstance(value, Tensor | dict | list | tuple | Opaque) and id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, Tensor):
                yield value
            elif isinstance(value, dict):
                pending.extend(value.values())
            else:
                pending.extend([value.state] if isinstance(value, Opaque) else value)


def read_all(path: Path, *, matched: bool = False) -> None:
    """Do with a checkpoint whatever cxrzoo does to inspect it, and read its state_dict.

    Args:
        matched: Hold every recipe against it as well; that none fits is no finding.
    """
    with open_checkpoint(path) as opened:
        describe_root(opened.root)
        list_mappings(opened.root)
        for tensor in find_state_dict(opened.root, UNWRAP).values():
            tensor.read()
        with contextlib.suppress(ConversionError):
            if matched:
                matching.choose_fit(opened.root, None)


def unpickle(path: Path) -> None:
    """Do what must never be done, so that a test can see that it is noticed."""
    with path.open("rb") as file:
        pickle.load(file)


def check_bytes(path: Path, answer: dict[str, Any]) -> None:
    """Read every tensor in a file that was accepted, and add what is wrong with it to the answer."""
    raw = path.read_bytes()
    faults: list[str] = answer["faults"]
    with open_checkpoint(path) as opened:
        for tensor in list_tensors(opened.root):
            item, first = ITEM_SIZES[tensor.dtype], tensor.region.start
            if not 0 <= first <= first + tensor.region.size <= len(raw):
                faults.append(f"{tensor.region.label} lies outside of the file")
            indices = itertools.product(*map(range, tensor.shape)) if tensor.nbytes else ()
            steps = (sum(i * step for i, step in zip(index, tensor.stride, strict=True)) for index in indices)
            starts = (first + (tensor.offset + step) * item for step in steps)
            expected = b"".join(raw[start : start + item] for start in starts)
            if not expected == bytes(tensor.read()) == bytes(tensor.read()):
                faults.append(f"{tensor.region.label} gives bytes that are not its own")
        if opened.sha256 != hashlib.sha256(raw).hexdigest():
            faults.append("the sha256 is not that of the file")
        answer["sha256"] = opened.sha256


def try_loading(path: Path, target: dict[str, Any], sha256: str, size: int) -> tuple[str, list[str]]:
    """Put the file in the place of promised weights; return what became of it, and what should not have been."""
    faults = []
    outcome, text = attempt(lambda: read_into(target, path, sha256=sha256, size=size))
    resized, _ = attempt(lambda: read_into(target, path, sha256=sha256, size=path.stat().st_size))
    if resized == "read":
        faults.append("loaded with another digest than promised")
    raw = path.read_bytes()
    own = hashlib.sha256(raw).hexdigest()
    shown, shapes_text = attempt(lambda: read_shapes(path))
    if shown == "read":
        import torch

        kinds = {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
        kinds |= {"BOOL": torch.bool}
        mine = {name: torch.zeros(shape, dtype=kinds.get(dtype)) for name, (dtype, shape) in read_shapes(path).items()}
        shown, shapes_text = attempt(lambda: read_into(mine, path, sha256=own, size=len(raw)))
        with open_checkpoint(path) as opened:
            assert isinstance(opened.root, dict)
            for name, tensor in opened.root.items() if shown == "read" else ():
                same = mine[name].dtype in (torch.float32, *kinds.values()) and tensor.dtype in ("F32", *kinds)
                if same and tensor.dtype != "BOOL" and mine[name].numpy().tobytes() != bytes(tensor.read()):
                    faults.append(f"{name!r} is loaded with bytes that are not its own")
    faults += [f"{kind}: {said}" for kind, said in ((shown, shapes_text), (outcome, text)) if kind == "escaped"]
    return f"{outcome}: {text}", faults


def attempt(action: Callable[[], object]) -> tuple[str, str]:
    """Return "read", or the class and the text of the error; errors that are not ours have "escaped"."""
    try:
        action()
    except (CheckpointError, FolderError, DigestError) as error:
        return type(error).__name__, str(error)
    except BaseException as error:  # whatever it is, it is a finding
        return "escaped", f"{type(error).__name__}: {error}"
    return "read", ""


def write_out(path: Path, fill: int) -> str:
    """Return the digest of the file that a conversion would write, with the free memory filled beforehand."""
    junk = [bytes([fill]) * size for size in (64, 512, 4096, 65_536) for _ in range(100)]
    del junk
    target = path.with_suffix(".out")
    with open_checkpoint(path) as opened:
        write_weights(target, find_state_dict(opened.root, UNWRAP), lambda name, dtype, data: None)
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    target.unlink()
    return digest


def memory(kind: str) -> float:
    """Return the memory this program holds (VmRSS), or held at most (VmHWM), in MB."""
    return int(re.findall(rf"{kind}:\s+(\d+)", Path("/proc/self/status").read_text())[0]) / 1024


def trim() -> None:
    """Give freed memory back, so that what the file before took does not count."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # a C library other than glibc
        ctypes.CDLL(None).malloc_trim(0)


def inspect(request: dict[str, Any], target: dict[str, Any], start_memory: float) -> dict[str, Any]:
    """Return what becomes of one file."""
    global watched
    path = Path(request["path"])
    if "fill" in request:
        return {"outcome": "read", "sha256": write_out(path, request["fill"])}
    trim()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    strays.clear()
    start = time.process_time()
    watched = path
    outcome, text = attempt(
        lambda: unpickle(path) if "unpickle" in request else read_all(path, matched="matched" in request)
    )
    watched = None
    seconds, grown = time.process_time() - start, memory("VmHWM") - start_memory
    answer: dict[str, Any] = {"outcome": outcome, "text": text[:4000], "seconds": seconds, "grown": grown}
    answer["faults"] = []
    if outcome == "read":
        # the tensors outside of the state_dict, such as an optimizer's, may still turn out to be damaged
        answer["outcome"], answer["text"] = attempt(lambda: check_bytes(path, answer))
    if "promised" in request:
        watched = path
        answer["loading"], faults = try_loading(path, target, *request["promised"])
        watched = None
        answer["faults"] += faults
    return answer | {"strays": list(strays)}


def main() -> None:
    """Answer requests until there are no more."""
    honest = Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    codecs.lookup("raw-unicode-escape")  # Python imports it when the first text of protocol 0 is met
    check_bytes(honest, {"faults": []})
    # recipes are files; they are listed and read once
    matching.list_recipes = functools.cache(matching.list_recipes)  # type: ignore[assignment]
    read_all(honest, matched=True)
    target: dict[str, Any] = {}
    if len(sys.argv) > 2:
        import torch

        for name, (dtype, shape) in read_shapes(honest).items():
            target[name] = torch.zeros(shape, dtype={"I64": torch.int64, "BOOL": torch.bool}.get(dtype))
        try_loading(honest, target, "", 0)
    gc.freeze()  # what is imported by now need not be looked through before every file
    sys.addaudithook(watch)
    start_memory = memory("VmRSS")
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        print(json.dumps(inspect(json.loads(line), target, start_memory)), flush=True)


if __name__ == "__main__":
    main()
