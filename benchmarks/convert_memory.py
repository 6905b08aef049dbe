"""Peak memory of converting a DenseNet-121 checkpoint with optimizer, above `import torch, timm`."""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

BASE = "import torch, timm"
#: ru_maxrss survives exec in a child that was forked, so the kernel's own count of this process is read instead.
PEAK = "print(next(int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmHWM')) / 1024)"


def peak(code: str, *arguments: str) -> float:
    """Return the peak memory of a fresh interpreter that runs `code`, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{PEAK}", *arguments], capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Print what the conversion adds, in MiB and as a multiple of the backbone, beside what torch.load adds."""
    import factories

    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "densenet121.pth.tar"
        factories.save(path, factories.make_moco("densenet121", optimizer=True, queue=24576))
        size = path.stat().st_size / 2**20
        convert = f"{BASE}, sys, cxrzoo\ncxrzoo.convert(sys.argv[1], sys.argv[2], preprocessing='moco-cxr-resnet18')"
        load = f"{BASE}, sys\ntorch.load(sys.argv[1], weights_only=True, map_location='cpu')"
        rows = [(peak(BASE), peak(convert, str(path), f"{room}/out{i}"), peak(load, str(path))) for i in range(3)]
        backbone = (Path(room) / "out0" / "model.safetensors").stat().st_size / 2**20
        base, converted, loaded = (sorted(column)[1] for column in zip(*rows, strict=True))
    print(f"checkpoint {size:.0f} MiB with key encoder, queue and Adam's state; backbone {backbone:.1f} MiB")
    print(f"import torch, timm        {base:7.1f} MiB")
    for name, value in (("cxrzoo.convert", converted), ("torch.load of the file", loaded)):
        print(f"{name:25} {value:7.1f} MiB: +{value - base:.1f}, {(value - base) / backbone:.2f} × backbone")


if __name__ == "__main__":
    main()
