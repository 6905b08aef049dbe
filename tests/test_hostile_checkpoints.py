"""Hostile checkpoints: nothing they name is imported or called, and every lie is refused, fast and small."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import assembler
from hostile.assembler import GADGETS, dict_of, legacy, program, storage, styles, tensor
from hostile.bombs import FOUR, GOOD, all_bombs, entry, safetensors
from hostile.zips import checkpoint

from cxrzoo.checkpoint import Tensor, describe_root, find_state_dict, open_checkpoint
from cxrzoo.errors import CheckpointError, UnsafeCheckpointError

FILES: dict[str, bytes] = {
    "zip": checkpoint(GOOD, {"0": bytes(range(16))}),
    "legacy": legacy(
        program(dict_of(state_dict=dict_of(weight=tensor(storage(legacy=True))))), {"0": bytes(range(16))}
    ),
    "safetensors": safetensors({"weight": entry()}, bytes(range(16))),
}
CONTAINERS: dict[str, Callable[..., bytes]] = {"zip": checkpoint, "legacy": legacy}


def watch(folder: Path, *more: str) -> dict[str, Any]:
    """Open every file of a folder in a process with an audit hook, and return its report."""
    harmless = folder.with_name("harmless")
    harmless.write_bytes(FILES["zip"])
    script = Path(assembler.__file__).with_name("watched.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(folder), str(harmless), *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def try_open(path: Path, data: bytes) -> str:
    """Open and read a file of these bytes; return the error, or nothing. Any foreign error escapes."""
    path.write_bytes(data)
    try:
        with open_checkpoint(path) as opened:
            describe_root(opened.root)
            for found in find_state_dict(opened.root, ["state_dict"]).values():
                assert found.nbytes == len(found.read())
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", FILES)
def test_the_honest_files_are_accepted(tmp_path: Path, kind: str) -> None:
    """The files that the hostile ones are made of are themselves read, to the byte."""
    path = tmp_path / "file"
    path.write_bytes(FILES[kind])
    with open_checkpoint(path) as opened:
        (found,) = find_state_dict(opened.root, ["state_dict"]).values()
        assert bytes(range(16)) == bytes(found.read())


def test_no_gadget_is_imported_or_called(tmp_path: Path) -> None:
    """Every global, in every style, protocol and container, is refused by its name, and nothing else happens."""
    folder = tmp_path / "files"
    folder.mkdir()
    expected = {}
    for module, attribute in GADGETS:
        for style, body in styles(module, attribute).items():
            for container, build in CONTAINERS.items():
                for protocol in range(6):
                    name = f"{len(expected):05} {style} {container} {protocol}"
                    data = build(program(body, protocol))
                    (folder / name).write_bytes(data)
                    expected[name] = f"{module}.{attribute}"
    report = watch(folder)
    refused = {
        name: expected[name] if text.startswith("UnsafeCheckpointError") and expected[name] in text else text
        for name, (text, _) in report["report"].items()
    }
    assert expected == refused
    assert [] == report["seen"]
    assert not {"cxrzoo_canary", "torch", "timm", "pydicom"} & set(report["modules"])


def test_the_audit_hook_sees_an_unpickler(tmp_path: Path) -> None:
    """The proof above is able to fail: pickle's own attempt to import the canary is seen."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "canary").write_bytes(program(styles(*assembler.CANARY)["reduce"]))
    seen = watch(folder, "unpickle")["seen"]
    assert any(event.startswith("pickle.find_class") for event in seen)
    assert any(event.startswith("import") and "cxrzoo_canary" in event for event in seen)


def test_bombs_are_refused_fast_and_small(tmp_path: Path) -> None:
    """Every lie about depth, size, layout or type is refused in 2 s of CPU time and 200 MB of memory."""
    folder = tmp_path / "files"
    folder.mkdir()
    for title, data in all_bombs():
        (folder / title.replace("/", "_")).write_bytes(data)
    report = watch(folder)
    assert {} == {name: text for name, (text, _) in report["report"].items() if "CheckpointError" not in text[:21]}
    assert {} == {name: seconds for name, (_, seconds) in report["report"].items() if seconds > 2}
    assert [] == report["seen"]
    assert report["grown"] < 200


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_refused(tmp_path: Path, kind: str) -> None:
    """No prefix of a checkpoint, down to nothing, is taken for one."""
    data = FILES[kind]
    accepted = [cut for cut in range(len(data)) if not try_open(tmp_path / "cut", data[:cut])]
    assert [] == accepted


def test_every_bit_of_a_zip_storage_counts(tmp_path: Path) -> None:
    """A single flipped bit in the bytes of a tensor is found by its CRC-32."""
    data = FILES["zip"]
    start = data.index(bytes(range(16)))
    for bit in range(128):
        flipped = bytearray(data)
        flipped[start + bit // 8] ^= 1 << bit % 8
        assert "is damaged: its CRC-32" in try_open(tmp_path / "flipped", flipped)


def test_a_flipped_bit_outside_of_a_view_counts(tmp_path: Path) -> None:
    """A tensor that covers a part of its storage is refused if any byte of the storage is damaged."""
    data = bytearray(checkpoint(program(tensor(shape=(2,))), {"0": bytes(range(16))}))
    data[data.index(bytes(range(16))) + 15] ^= 1
    path = tmp_path / "flipped"
    path.write_bytes(data)
    with open_checkpoint(path) as opened:
        assert isinstance(opened.root, Tensor)
        with pytest.raises(CheckpointError, match="CRC-32"):
            opened.root.read()


@pytest.mark.parametrize("kind", FILES)
def test_mutants_meet_typed_errors_only(tmp_path: Path, kind: str) -> None:
    """Of 500 random mutants each is read, or refused with a CheckpointError; nothing else comes out."""
    generator = random.Random(kind)
    refused = sum(bool(try_open(tmp_path / "mutant", mutate(FILES[kind], generator))) for _ in range(500))
    assert 250 < refused <= 500


def mutate(data: bytes, generator: random.Random) -> bytes:
    """Return the bytes with one to four random edits."""
    mutant = bytearray(data)
    for _ in range(generator.randint(1, 4)):
        position, length = generator.randrange(len(mutant)), generator.randint(1, 8)
        match generator.randrange(5):
            case 0:
                mutant[position] ^= 1 << generator.randrange(8)
            case 1:
                mutant[position : position + length] = generator.randbytes(length)
            case 2:
                mutant[position:position] = generator.randbytes(length)
            case 3:
                del mutant[position : position + length]
                mutant = mutant or bytearray(b"x")
            case 4:
                source = generator.randrange(len(mutant))
                mutant[position : position + length] = mutant[source : source + length]
    return bytes(mutant)


@pytest.mark.parametrize("container", CONTAINERS)
def test_tensors_that_share_their_bytes_are_no_bomb(tmp_path: Path, container: str) -> None:
    """A thousand names for one tensor are refused where they would be written out a thousand times."""
    shared = tensor(storage(legacy=container == "legacy")) + b"q\0"
    names = b"".join(assembler.text(f"w{index}") + b"h\0" for index in range(1000))
    path = tmp_path / "shared"
    path.write_bytes(CONTAINERS[container](program(b"}(" + assembler.text("w") + shared + names + b"u"), {"0": FOUR}))
    with open_checkpoint(path) as opened, pytest.raises(UnsafeCheckpointError, match="share their bytes"):
        find_state_dict(opened.root, [])
