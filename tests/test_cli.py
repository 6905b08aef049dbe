"""The command line: what each command prints, its exit status, and what it says when something is wrong."""

import hashlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factories
import numpy as np
import phantoms
import pytest
import torch
from PIL import Image

from cxrzoo import parity
from cxrzoo.cli import main
from cxrzoo.errors import ConversionError
from cxrzoo.evidence import WeightsFile
from cxrzoo.manifest import Preprocessing

Output = pytest.CaptureFixture[str]
PREPROCESSING = Preprocessing((3, 224, 224), (0.5,) * 3, (0.25,) * 3, "bilinear", 1.0, "center")


def test_list(capsys: Output) -> None:
    """`list` prints a line for each model that matches."""
    status = main(["list", "moco-cxr-resnet18*"])

    printed = capsys.readouterr().out
    assert 0 == status
    assert ["moco-cxr-resnet18", "moco-cxr-resnet18-lr1e-2", "moco-cxr-resnet18-lr1e-3", "moco-cxr-resnet18-v2"] == [
        name for name in re.findall(r"^  ([a-z0-9.-]+)  ", printed, re.MULTILINE) if name != "name"
    ]


def test_list_without_match(capsys: Output) -> None:
    """A pattern that nothing matches is an error."""
    assert 1 == main(["list", "swin*"])
    assert "cxrzoo: no model matches 'swin*'" in capsys.readouterr().err


def test_describe(capsys: Output) -> None:
    """`describe` prints what is known of a model, and what nobody stated."""
    assert 0 == main(["describe", "moco-cxr-densenet121"])

    printed = capsys.readouterr().out
    assert "https://storage.googleapis.com/moco-cxr/d1w-00001.pth.tar" in printed
    assert "licence, weights   not stated" in printed
    assert "[0.502, 0.502, 0.502]" in printed
    assert "0.001: 0.775" in printed


def write_dicom(path: Path, **elements: Any) -> Path:
    """Write a DICOM image of two windows with names, and return its path."""
    windows = {"WindowCenter": [1024, 512], "WindowWidth": [2048, 1024]}
    names = {"WindowCenterWidthExplanation": ["NORMAL", "HARDER"]}
    pixels = phantoms.radiograph(40, 48, bits=12)
    path.write_bytes(phantoms.dicom_file(phantoms.make_dataset(pixels, **windows, **names, **elements)))
    return path


def test_describe_an_image(tmp_path: Path, capsys: Output) -> None:
    """`describe` of a file prints its kind, its size, the steps of reading it, and what needs a look."""
    path = write_dicom(tmp_path / "secret-name", ViewPosition="LL", PhotometricInterpretation="MONOCHROME1")
    assert 0 == main(["describe", str(path)])
    printed = capsys.readouterr().out
    assert "DICOM, Explicit VR Little Endian, MONOCHROME1, 12 bits, 40 x 48 pixels" in printed
    assert "1. window LINEAR, center 1024, width 2048, number 0 of 2" in printed
    assert "2. inverted: MONOCHROME1" in printed
    assert "warning [view]: (0018,5101)" in printed
    assert "2 windows and VOI LUTs: --windows shows their names" in printed
    assert not {"NORMAL", "secret"} & set(re.findall("[A-Za-z]+", printed))


@pytest.mark.parametrize("window", ["1", "harder"])
def test_describe_another_window(window: str, tmp_path: Path, capsys: Output) -> None:
    """`describe --window` takes another window, and `--windows` lists them."""
    assert 0 == main(["describe", str(write_dicom(tmp_path / "a.dcm")), "--window", window, "--windows"])
    printed = capsys.readouterr().out
    assert "center 512, width 1024, number 1 of 2" in printed
    assert "window 0: NORMAL\n  window 1: HARDER" in printed


@pytest.mark.parametrize("name", ["nofile.dcm", "./nofile.dcm", "X" * 5000, "UPPER"])
def test_describe_what_is_neither(name: str, capsys: Output) -> None:
    """What is neither a file nor like a model's name is said so, and not repeated."""
    assert 1 == main(["describe", name])
    said = capsys.readouterr().err
    assert "there is no such file, and no model has such a name" in said
    assert name not in said


def test_describe_a_folder(tmp_path: Path, capsys: Output) -> None:
    """For a folder, the command that reads it is named."""
    assert 1 == main(["describe", str(tmp_path)])
    assert "cxrzoo card FOLDER" in capsys.readouterr().err


def test_doctor(capsys: Output) -> None:
    """`doctor` lists the transfer syntaxes, and says whether all can be read."""
    assert 0 == main(["doctor"])
    assert "JPEG 2000 Lossless" in capsys.readouterr().out


def test_embed_a_window(resnet18_folder: Path, tmp_path: Path, capsys: Output) -> None:
    """`embed` takes the window that is asked for, and its warnings say which image they mean, not where its code is."""
    path = write_dicom(tmp_path / "a.dcm", ViewPosition="LL")
    for out, window in (("first", "0"), ("again", "normal"), ("second", "1")):
        command = ["embed", str(path), str(path), "--model", str(resnet18_folder), "--window", window]
        assert 0 == main([*command, "--out", str(tmp_path / f"{out}.npy")])
    first, again, second = (np.load(tmp_path / f"{out}.npy") for out in ("first", "again", "second"))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-3
    lines = capsys.readouterr().err.splitlines()
    assert 6 == len(lines)
    assert lines[1].startswith("cxrzoo: warning: image 2 of 2: (0018,5101) View Position")


def test_unknown_model(capsys: Output) -> None:
    """A name with a typing error is answered with the closest one, without a traceback."""
    assert 1 == main(["describe", "moco-cxr-densenet12"])

    error = capsys.readouterr().err
    assert error.startswith("cxrzoo: no model is named 'moco-cxr-densenet12'. Did you mean 'moco-cxr-densenet121'")
    assert "Traceback" not in error


def test_debug_shows_the_traceback() -> None:
    """--debug lets the error through."""
    with pytest.raises(KeyError):
        main(["--debug", "describe", "nothing"])


def test_usage(capsys: Output) -> None:
    """Wrong usage ends with status 2."""
    with pytest.raises(SystemExit) as caught:
        main(["convert"])

    assert 2 == caught.value.code


def test_inspect(resnet18_checkpoint: Path, capsys: Output) -> None:
    """`inspect` says what kind of file it is, its keys by prefix, and which recipe fits and why."""
    assert 0 == main(["inspect", str(resnet18_checkpoint)])

    printed = capsys.readouterr().out
    assert "resnet18.pth.tar: PyTorch zip archive" in printed
    assert "'state_dict': dict of 250" in printed
    assert re.search(r"^ +4  module\.encoder_q\.fc\.$", printed, re.MULTILINE)
    assert re.search(r"^ +1  module\.queue$", printed, re.MULTILINE)
    assert "recipe moco fits: all 250 keys are accounted for (120 kept" in printed
    assert "architecture resnet18: all 120 tensors have its names and shapes" in printed
    assert "embeddings of 512 numbers" in printed


def test_convert_verify_embed(tmp_path: Path, capsys: Output) -> None:
    """The road of a user with a checkpoint: convert, verify, embed to a file that says what made it."""
    checkpoint = factories.save(tmp_path / "mine.pth.tar", factories.make_moco("resnet18"))
    Image.linear_gradient("L").save(tmp_path / "a.png")
    Image.radial_gradient("L").save(tmp_path / "b.png")

    stated = ["--size", "224", "--mean", "0.5", "--std", "0.25", "--crop-pct", "0.875"]
    assert 0 == main(["convert", str(checkpoint), "--out", str(tmp_path / "mine"), *stated])
    assert 0 == main(["verify", str(tmp_path / "mine")])
    images = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert 0 == main(["embed", *images, "--model", str(tmp_path / "mine"), "--out", str(tmp_path / "e.npy")])

    printed = capsys.readouterr().out
    assert "recipe        moco: 120 keys kept, 124 dropped (key encoder)" in printed
    assert "parity        0 from torchvision resnet18" in printed
    assert "preprocessing 'given', as stated" in printed
    assert (2, 512) == np.load(tmp_path / "e.npy").shape
    facts = json.loads((tmp_path / "e.npy.json").read_text())
    config = json.loads((tmp_path / "mine/config.json").read_text())
    assert config["cxrzoo"]["weights"]["sha256"] == facts["weights_sha256"]
    assert hashlib.sha256((tmp_path / "e.npy").read_bytes()).hexdigest() == facts["sha256"]
    assert (2, 512, config["cxrzoo"]["preprocessing_sha256"]) == (
        facts["images"],
        facts["dimension"],
        facts["preprocessing_sha256"],
    )


STATED = {
    "0 to 255": (["--mean", "127.5", "--std", "63"], "mean: found 127.5, expected numbers from 0 to 1"),
    "no deviation": (["--mean", "0.5", "--std", "0"], "std: found 0, expected numbers above 0"),
    "two channels": (["--mean", "0.5,0.5", "--std", "0.2"], "found 2 and 2 values for 2 channels"),
    "one forgotten": (["--mean", "0.5"], "--size is given without --std"),
    "too large": (["--mean", "0.5", "--std", "0.2", "--size", "100000"], "expected a height and a width of 1 to 4096"),
    "a share in percent": (["--mean", "0.5", "--std", "0.2", "--crop-pct", "87.5"], "crop_pct: found 87.5"),
    "both ways": (["--preprocess-from", "moco-cxr-resnet18"], "found --preprocess-from and --size"),
}


@pytest.mark.parametrize(("options", "message"), STATED.values(), ids=STATED.keys())
def test_wrong_statements(
    options: list[str], message: str, resnet18_checkpoint: Path, tmp_path: Path, capsys: Output
) -> None:
    """A preprocessing that can't be meant is refused at once, with the option, what was found and what is expected."""
    assert 1 == main(["convert", str(resnet18_checkpoint), "--out", str(tmp_path / "out"), "--size", "224", *options])

    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_numbers(resnet18_checkpoint: Path, tmp_path: Path, capsys: Output) -> None:
    """Something that is no number is answered with the way numbers are written."""
    with pytest.raises(SystemExit):
        main(["convert", str(resnet18_checkpoint), "--out", str(tmp_path / "out"), "--mean", "a,b"])

    assert "found 'a,b', expected numbers joined by commas" in capsys.readouterr().err


def test_one_number_for_all_channels(resnet18_checkpoint: Path, tmp_path: Path) -> None:
    """One deviation beside three means stands for all channels."""
    stated = ["--size", "224", "--mean", "0.485,0.456,0.406", "--std", "0.25"]

    assert 0 == main(["convert", str(resnet18_checkpoint), "--out", str(tmp_path / "out"), *stated])

    preprocessing = json.loads((tmp_path / "out" / "config.json").read_text())["cxrzoo"]["preprocessing"]["given"]
    assert [0.25, 0.25, 0.25] == preprocessing["std"]


def test_embed_prints(resnet18_folder: Path, tmp_path: Path, capsys: Output) -> None:
    """Without --out the vectors are printed below what identifies them, and no file name is repeated."""
    Image.linear_gradient("L").save(tmp_path / "jane-doe.png")

    assert 0 == main(["embed", str(tmp_path / "jane-doe.png"), "--model", str(resnet18_folder)])

    printed = capsys.readouterr().out
    vector = [line for line in printed.splitlines() if not line.startswith("#")]
    assert [512] == [len(line.split()) for line in vector]
    assert "# weights_sha256: " in printed
    assert "jane-doe" not in printed


def test_embed_bad_image(resnet18_folder: Path, tmp_path: Path, capsys: Output) -> None:
    """An image that can't be read is named by its position, not by its name, and nothing is written."""
    Image.linear_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "jane-doe.png").write_bytes(b"no picture")
    images = [str(tmp_path / name) for name in ("a.png", "jane-doe.png")]

    assert 1 == main(["embed", *images, "--model", str(resnet18_folder), "--out", str(tmp_path / "e.npy")])

    error = capsys.readouterr().err
    assert "image 2 of 2" in error
    assert "jane-doe" not in error
    assert not (tmp_path / "e.npy").exists()


def test_embed_out_must_be_npy(resnet18_folder: Path, capsys: Output) -> None:
    """A name for the output that is no .npy is refused before anything is computed."""
    assert 1 == main(["embed", "a.png", "--model", str(resnet18_folder), "--out", "e.csv"])
    assert "expected a file name that ends in .npy" in capsys.readouterr().err


def test_embed_does_not_overwrite(resnet18_folder: Path, tmp_path: Path, capsys: Output) -> None:
    """A file that is there already is replaced when that is asked for, and is left alone otherwise."""
    Image.linear_gradient("L").save(tmp_path / "a.png")
    (tmp_path / "e.npy").write_bytes(b"precious")
    command = ["embed", str(tmp_path / "a.png"), "--model", str(resnet18_folder), "--out", str(tmp_path / "e.npy")]

    assert 1 == main(command)
    assert b"precious" == (tmp_path / "e.npy").read_bytes()
    assert "Give another name, or --overwrite to replace it." in capsys.readouterr().err
    assert 0 == main([*command, "--overwrite"])
    assert (1, 512) == np.load(tmp_path / "e.npy").shape


def test_verify_damaged(resnet18_folder: Path, tmp_path: Path, capsys: Output) -> None:
    """`verify` ends with status 1 on a damaged folder."""
    import shutil

    shutil.copytree(resnet18_folder, tmp_path / "copy")
    data = bytearray((tmp_path / "copy/model.safetensors").read_bytes())
    data[-1] ^= 1
    (tmp_path / "copy/model.safetensors").write_bytes(data)

    assert 1 == main(["verify", str(tmp_path / "copy")])
    assert "The file is damaged or was replaced" in capsys.readouterr().err


def test_card(resnet18_folder: Path, capsys: Output) -> None:
    """`card` prints the card that lies in the folder."""
    assert 0 == main(["card", str(resnet18_folder)])
    assert (resnet18_folder / "README.md").read_text().strip() == capsys.readouterr().out.strip()


STATED = ["--size", "224", "--mean", "0.5", "--std", "0.25"]
FAILING = {
    "no recipe": (["--recipe", "mocco"], "no recipe is named"),
    "a recipe of another family": (["--recipe", "swav"], "swav"),
    "a recipe that is data no more": (["--recipe", "own.toml"], "expected nothing but the name of a group"),
    "a recipe without end": (["--recipe", "loop.toml"], "loop > loop"),
    "no architecture": (["--architecture", "resnet19"], "timm has no architecture named 'resnet19'"),
    "another architecture": (["--architecture", "resnet34"], "the tensors are not those of resnet34"),
    "no preprocessing": (["--preprocess-from", "mine"], "no model is named 'mine'"),
}


@pytest.mark.parametrize(("options", "message"), FAILING.values(), ids=FAILING.keys())
def test_failed_conversion_leaves_nothing(
    options: list[str],
    message: str,
    resnet18_checkpoint: Path,
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where recipe, architecture or preprocessing fail, status 1 says why, without a folder or a part of one."""
    monkeypatch.chdir(tmp_path)
    rule = "[[rule]]\nmatch = '(?P<a>.+)'\nrename = '{a.__class__}'\n"
    Path("own.toml").write_text(f"name = 'own'\nsummary = 'x'\n{rule}")
    Path("loop.toml").write_text("name = 'loop'\nsummary = 'x'\nthen = ['./loop.toml']\n")
    stated = [] if "--preprocess-from" in options else STATED

    assert 1 == main(["convert", str(resnet18_checkpoint), "--out", "out", *stated, *options])

    assert message in capsys.readouterr().err
    assert {"own.toml", "loop.toml"} == {path.name for path in tmp_path.iterdir()}


def test_size_that_the_network_cannot_take(tmp_path: Path, capsys: Output) -> None:
    """Images too small for the network are called that, and memory is not blamed."""
    checkpoint = factories.save(tmp_path / "mine.pth.tar", factories.make_moco("densenet121"))

    assert 1 == main(["convert", str(checkpoint), "--out", str(tmp_path / "out"), *STATED, "--size", "16"])

    error = capsys.readouterr().err
    assert "the network can't take images of 16 × 16: " in error
    assert "State another --size." in error
    assert "memory" not in error
    assert ["mine.pth.tar"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("kind", [RuntimeError, AssertionError, ValueError])
def test_network_refuses_images(kind: type[Exception]) -> None:
    """Whatever a network raises at images is explained; that memory ran out is passed on as it is."""

    def network(text: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def call(images: torch.Tensor) -> torch.Tensor:
            raise kind(text)

        return call

    images = torch.zeros(1, 3, 448, 224)
    with pytest.raises(ConversionError, match=r"can't take images of 448 × 224: too wide\. State another --size\."):
        parity._embed(network("too wide"), images)  # type: ignore[arg-type]
    with pytest.raises(kind, match="^DefaultCPUAllocator: can't allocate"):
        parity._embed(network("DefaultCPUAllocator: can't allocate memory"), images)  # type: ignore[arg-type]


DEATHS: dict[str, tuple[Callable[[Any], object], str]] = {
    "it dies": (lambda child: child.kill(), "ended with status -9: no message. Is there enough memory?"),
    "it can't be asked": (lambda child: child.stdin.close(), "no message. Is there enough memory?"),
}


@pytest.mark.parametrize(("death", "message"), DEATHS.values(), ids=DEATHS.keys())
def test_prover_without_an_answer(death: Callable[[Any], object], message: str) -> None:
    """A child that ends without an answer, or can't be asked, is an error that asks about memory."""
    claim = parity.Claim("c", "w", WeightsFile("0", 0, 0), "moco", None, PREPROCESSING)

    with parity.Prover() as prover, pytest.raises(ConversionError, match=re.escape(message)):
        death(prover._process)
        prover.prove(claim)


def start_conversion(checkpoint: Path, out: Path, environment: dict[str, str], when: str) -> subprocess.Popen[str]:
    """Start `cxrzoo convert`, which prints the number of its child and then waits, before or after the claim."""
    code = (
        "import signal, subprocess, sys, time\n"
        # a shell lets what it starts in the background ignore SIGINT
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def communicate(self, claim):\n"
        f"    if {when == 'after the claim'}:\n"
        "        self.stdin.write(claim)\n"
        "        self.stdin.close()\n"
        "    print(self.pid, flush=True)\n"
        "    time.sleep(600)\n"
        "subprocess.Popen.communicate = communicate\n"
        "from cxrzoo.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, "convert", str(checkpoint), "--out", str(out), *STATED],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_end(process: int, seconds: float) -> bool:
    """Return whether a process, which is no child of ours, ends within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_ctrl_c(resnet18_checkpoint: Path, tmp_path: Path, child_environment: dict[str, str]) -> None:
    """Ctrl-C during a proof ends with status 130, one line and no traceback; nothing is left behind."""
    running = start_conversion(resnet18_checkpoint, tmp_path / "out", child_environment, "after the claim")
    assert running.stdout is not None
    child = int(running.stdout.readline())
    time.sleep(0.2)

    os.killpg(running.pid, signal.SIGINT)
    _, error = running.communicate(timeout=60)

    assert (130, "cxrzoo: stopped.\n") == (running.returncode, error)
    assert [] == list(tmp_path.iterdir())
    assert wait_for_end(child, 5)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc whether a process has ended")
@pytest.mark.parametrize("when", ["before the claim", "after the claim"])
def test_killed_during_the_proof(
    when: str, resnet18_checkpoint: Path, tmp_path: Path, child_environment: dict[str, str]
) -> None:
    """A killed conversion leaves no child running, and the next one into the same folder removes what it left."""
    running = start_conversion(resnet18_checkpoint, tmp_path / "out", child_environment, when)
    assert running.stdout is not None
    child = int(running.stdout.readline())

    running.terminate()
    running.communicate(timeout=60)

    assert -signal.SIGTERM == running.returncode
    assert [".tmp-"] == [path.name[:5] for path in tmp_path.iterdir()]
    assert wait_for_end(child, 60)
    (tmp_path / ".tmp-notes").mkdir()
    os.utime(tmp_path / ".tmp-notes", (0, 0))
    assert 1 == main(["convert", str(resnet18_checkpoint), "--out", str(tmp_path / "out"), *STATED, "--recipe", "swav"])
    assert [".tmp-notes"] == [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("arguments", [["list"], ["--help"]], ids=["list", "--help"])
def test_answers_at_once(arguments: list[str], child_environment: dict[str, str]) -> None:
    """`list` and `--help` import nothing heavy; the time is printed, benchmarks/start.py states it."""
    code = "import sys; from cxrzoo.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
    code += "print(sorted({'torch', 'timm', 'numpy', 'pydicom'} & set(sys.modules)), file=sys.stderr)"
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], env=child_environment, capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - start)
    print(f"cxrzoo {arguments[0]}: {statistics.median(times):.2f} s")
    assert "[]" == done.stderr.strip()
