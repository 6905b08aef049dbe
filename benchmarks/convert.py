"""Time and peak memory of converting training checkpoints, against torch.load + load_state_dict + save_file.

Every run is a fresh interpreter that ends with a safetensors file. cxrzoo is measured twice: the conversion alone
(inert reading, recipe found, every tensor checked, checkpoint hashed, weights written), which needs no torch, and with
the proof, which builds the network in a child process, loads strictly, and compares features. "work" is the time after
the imports of the process that is measured, "in all" that from its start to its end; the proof imports torch and timm
in its child, so only "in all" compares it fairly. Memory is all there is, of both processes.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

#: What people write by hand: everything in memory, what does not fit is silently left out.
PEER = """
import sys, time, timm, torch
from safetensors.torch import save_file
start = time.perf_counter()
checkpoint, out, key, prefix, architecture = sys.argv[1:]
state = torch.load(checkpoint, map_location="cpu", weights_only=True)[key]
state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
model = timm.create_model(architecture, num_classes=0)
model.load_state_dict(state, strict=False)
save_file(model.state_dict(), out)
print(time.perf_counter() - start)
"""
STREAM = """
import sys, time
from pathlib import Path
from cxrzoo.checkpoint import open_checkpoint
from cxrzoo.health import Health
from cxrzoo.matching import choose_fit
from cxrzoo.weights import write_weights
start = time.perf_counter()
with open_checkpoint(Path(sys.argv[1])) as checkpoint:
    checkpoint.start_hashing()
    health = Health()
    write_weights(Path(sys.argv[2]), choose_fit(checkpoint.root, None).outputs(224)[0], health.check)
    health.conclude()
    checkpoint.sha256
print(time.perf_counter() - start)
"""
WHOLE = """
import sys, time
start = time.perf_counter()
import cxrzoo
cxrzoo.convert(sys.argv[1], sys.argv[2], preprocessing="imagenet-mobilenetv2")
print(time.perf_counter() - start)
"""


def make_resnet50(path: Path) -> list[str]:
    """Write a MoCo checkpoint of ResNet-50 with key encoder, queue and Adam's state; return the peer's arguments."""
    import factories

    factories.save(path, factories.make_moco("resnet50", optimizer=True, queue=24576))
    return ["state_dict", "module.encoder_q.", "resnet50"]


def make_vit_large(path: Path) -> list[str]:
    """Write a checkpoint of ViT-L/16 in DINO's layout, above 5 GB: student, teacher, AdamW's state, heads."""
    import timm
    import torch

    model = timm.create_model("vit_large_patch16_224", num_classes=0)
    # a norm that is still at 1 would be refused as never trained
    state = {f"backbone.{n}": value + 0.01 if "norm" in n else value for n, value in model.state_dict().items()}
    state["head.last_layer.weight_v"] = torch.rand(65536, 256)
    moments = {
        index: {"step": torch.tensor(1.0), "exp_avg": torch.rand_like(value), "exp_avg_sq": torch.rand_like(value)}
        for index, value in enumerate(state.values())
    }
    student = {f"module.{name}": value + 1 for name, value in state.items()}
    torch.save({"teacher": state, "student": student, "optimizer": {"state": moments}, "epoch": 1}, path)
    return ["teacher", "backbone.", "vit_large_patch16_224"]


def run(code: str, *arguments: str) -> tuple[float, float, float]:
    """Run `code` in a fresh interpreter; return the seconds it prints, those it took, and the peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in (process.pid, *_children(process.pid)):
            # the kernel's own count, which survives between two looks; ru_maxrss would hold the parent's as well
            found = re.search(r"VmHWM:\s+(\d+)", _read(f"/proc/{pid}/status"))
            peaks[pid] = max(peaks.get(pid, 0), int(found[1]) if found else 0)
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    printed = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{arguments} ended with status {process.returncode}")
    return float(printed), seconds, sum(peaks.values()) / 1024


def _children(pid: int) -> list[int]:
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def compare(name: str, make: Callable[[Path], list[str]], pairs: int) -> None:
    """Print medians and ratios of several rounds, in each of which all are run one after the other."""
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / f"{name}.pth.tar"
        pid = os.fork()  # what makes the checkpoint must not stay in this process
        if pid == 0:
            (Path(room) / "arguments").write_text("\n".join(make(path)))
            os._exit(0)
        os.waitpid(pid, 0)
        arguments = (Path(room) / "arguments").read_text().split("\n")
        print(f"{name}: a checkpoint of {path.stat().st_size / 2**20:,.0f} MiB, {pairs} rounds", flush=True)
        rounds = []
        for number in range(pairs):
            peer = run(PEER, str(path), f"{room}/peer", *arguments)
            rounds.append((peer, run(STREAM, str(path), f"{room}/stream"), run(WHOLE, str(path), f"{room}/{number}")))
    for index, what in enumerate(("load, load_state_dict, save", "conversion", "conversion and proof")):
        columns = []
        for column, unit in enumerate(("s of work", "s in all", "MiB")):
            middle = statistics.median(row[index][column] for row in rounds)
            ratio = statistics.median(row[index][column] / row[0][column] for row in rounds)
            columns.append(f"{middle:9,.1f} {unit} ({ratio:.2f})")
        print(f"  {what:28}" + "".join(columns), flush=True)


def main() -> None:
    """Measure both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, metavar="ROUNDS")
    parser.add_argument("--only", choices=("resnet50", "vit_large"))
    arguments = parser.parse_args()
    makers = {"resnet50": make_resnet50, "vit_large": make_vit_large}
    for name, make in makers.items():
        if arguments.only in (None, name):
            compare(name, make, arguments.pairs)


if __name__ == "__main__":
    main()
