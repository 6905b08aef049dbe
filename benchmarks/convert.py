"""Time and peak memory of converting training checkpoints, against torch.load + load_state_dict + save_file.

Both start as fresh interpreters and end with a safetensors file; cxrzoo hashes the checkpoint, checks every tensor,
loads the result strictly and compares features on top. Memory is what is added to `import torch, timm`, and for cxrzoo
the sum over both of its processes. `--huge` also converts a checkpoint of more than 5 GB under a limit of 2 GB.
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
import sys, timm, torch
from safetensors.torch import save_file
checkpoint, out, key, prefix, architecture = sys.argv[1:]
state = torch.load(checkpoint, map_location="cpu", weights_only=True)[key]
state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
model = timm.create_model(architecture, num_classes=0)
model.load_state_dict(state, strict=False)
save_file(model.state_dict(), out)
"""
OURS = """
import sys, cxrzoo
cxrzoo.convert(sys.argv[1], sys.argv[2], preprocessing=sys.argv[3])
"""
BASE = "import torch, timm"


def make_resnet50(path: Path) -> list[str]:
    """Write a MoCo checkpoint of ResNet-50 with key encoder, queue and Adam's state; return the peer's arguments."""
    import factories

    factories.save(path, factories.make_moco("resnet50", optimizer=True, queue=24576))
    return ["state_dict", "module.encoder_q.", "resnet50"]


def make_vit_large(path: Path) -> list[str]:
    """Write a checkpoint of ViT-L/16 in DINO's layout: student, teacher, AdamW's state; return the peer's arguments."""
    import timm
    import torch

    model = timm.create_model("vit_large_patch16_224", num_classes=0)
    state = {f"backbone.{name}": value for name, value in model.state_dict().items()}
    moments = {
        index: {"step": torch.tensor(1.0), "exp_avg": torch.rand_like(p), "exp_avg_sq": torch.rand_like(p)}
        for index, p in enumerate(model.parameters())
    }
    student = {f"module.{name}": value + 1 for name, value in state.items()}
    torch.save({"teacher": state, "student": student, "optimizer": {"state": moments}, "epoch": 1}, path)
    return ["teacher", "backbone.", "vit_large_patch16_224"]


def run(code: str, *arguments: str) -> tuple[float, float]:
    """Run `code` in a fresh interpreter; return its seconds and the peak memory of it and its children in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", code, *arguments])
    peaks: dict[int, int] = {}
    while process.poll() is None:
        for pid in (process.pid, *_children(process.pid)):
            # the kernel's own count, which survives between two looks; ru_maxrss would hold the parent's as well
            found = re.search(r"VmHWM:\s+(\d+)", _read(f"/proc/{pid}/status"))
            peaks[pid] = max(peaks.get(pid, 0), int(found[1]) if found else 0)
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"{arguments} ended with status {process.returncode}")
    return seconds, sum(peaks.values()) / 1024


def _children(pid: int) -> list[int]:
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def compare(name: str, make: Callable[[Path], list[str]], pairs: int) -> None:
    """Print medians and ratios of several pairs."""
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / f"{name}.pth.tar"
        pid = os.fork()  # what makes the checkpoint must not stay in this process
        if pid == 0:
            (Path(room) / "arguments").write_text("\n".join(make(path)))
            os._exit(0)
        os.waitpid(pid, 0)
        arguments = (Path(room) / "arguments").read_text().split("\n")
        base = statistics.median(run(BASE)[1] for _ in range(3))
        rows = []
        for pair in range(pairs):
            theirs = run(PEER, str(path), f"{room}/peer{pair}.safetensors", *arguments)
            ours = run(OURS, str(path), f"{room}/ours{pair}", "moco-cxr-resnet18:paper_finetune")
            rows.append((*ours, *theirs))
        seconds, memory, peer_seconds, peer_memory = (statistics.median(column) for column in zip(*rows, strict=True))
        time_ratio = statistics.median(row[0] / row[2] for row in rows)
        size = path.stat().st_size / 2**20
    print(f"{name}, {size:,.0f} MiB, {pairs} pairs; `import torch, timm` takes {base:.0f} MiB")
    print(f"  time    {seconds:6.1f} s    peer {peer_seconds:6.1f} s    ratio {time_ratio:.2f}")
    print(
        f"  memory  +{memory - base:,.0f} MiB  peer +{peer_memory - base:,.0f} MiB  "
        f"ratio {(memory - base) / (peer_memory - base):.2f} (all of it: {memory / peer_memory:.2f})"
    )


def main() -> None:
    """Measure both sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--only", choices=("resnet50", "vit_large"))
    arguments = parser.parse_args()
    makers = {"resnet50": make_resnet50, "vit_large": make_vit_large}
    for name, make in makers.items():
        if arguments.only in (None, name):
            compare(name, make, arguments.pairs)


if __name__ == "__main__":
    main()
