"""The command line: what each command prints, its exit status, and what it says when something is wrong."""

import hashlib
import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import factories
import numpy as np
import pytest
from PIL import Image

from cxrzoo.cli import main

Output = pytest.CaptureFixture[str]


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
