"""Hostile checkpoints: nothing they name is imported or called, and every lie is refused, fast and small."""

import io
import json
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import assembler
from hostile.assembler import CANARY, GADGETS, dict_of, legacy, name, program, storage, styles, tensor, tuple_of
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


#: Names in packages of which some classes are allowed, and in our own.
NEIGHBOURS = [
    ("torch.utils.data", "DataLoader"),
    ("torch.fx.graph_module", "GraphModule"),
    ("torch.nnx", "Linear"),
    ("torch", "nn.Linear"),
    ("numpy.ma.core", "MaskedArray"),
    ("numpy", "random.RandomState"),
    ("cxrzoo.checkpoint.reading", "Checkpoint"),
    ("__builtins__", "eval"),
    ("distutils.spawn", "spawn"),
    ("os.path", "join"),
    ("enum", "Enum"),
    ("cxrzoo_canary;os", "system"),
    ("cxrzoo_canary", "a" * 200),
    ("", "boom"),
]
#: The ways in which pickle makes an ordinary object without arguments.
OBJECTS = ("newobj", "newobj_ex", "build", "reconstructed", "newobj by a call")


def all_styles(module: str, attribute: str) -> dict[str, bytes]:
    """Return the same global, used in every way there is."""
    made = name("copyreg", "__newobj__") + tuple_of(name(module, attribute)) + b"R"
    return styles(module, attribute) | {"newobj by a call": made}


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
    """Every global, in every style, protocol and container, is refused by its name, and nothing else happens.

    Objects of classes that nobody knows are inert; the file is refused since it has no tensors, by name too.
    """
    folder = tmp_path / "files"
    folder.mkdir()
    expected = {}
    for module, attribute in GADGETS + NEIGHBOURS:
        for style, body in all_styles(module, attribute).items():
            inert = (module, attribute) == CANARY and style in OBJECTS
            for container, build in CONTAINERS.items():
                for protocol in range(6):
                    title = f"{len(expected):05} {style} {container} {protocol}"
                    (folder / title).write_bytes(build(program(body, protocol)))
                    kind = "CheckpointError" if inert else "UnsafeCheckpointError"
                    expected[title] = (kind, f"{module}.{attribute}")
    report = watch(folder)
    refused = {
        title: (text.split(":")[0], expected[title][1] if expected[title][1] in text else text)
        for title, (text, _) in report["report"].items()
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


def tar(layout: int, *, kind: bytes = tarfile.REGTYPE, member: str = "sys", link: str = "", mode: str = "w") -> bytes:
    """Return a tar archive, as torch wrote them at first, around a pickle that names the canary."""
    buffer = io.BytesIO()
    content = program(styles(*CANARY)["reduce"])
    with tarfile.open(fileobj=buffer, mode=mode, format=layout) as archive:  # type: ignore[call-overload]
        entry = tarfile.TarInfo(member)
        entry.type, entry.linkname = kind, link
        entry.size = len(content) if kind == tarfile.REGTYPE else 0
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def without_mark(archive: bytes) -> bytes:
    """Return a tar archive as it was before POSIX: its first header has no mark, and adds up without."""
    header = bytearray(archive[:512])
    header[257:] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + archive[512:]


USTAR, GNU, PAX = tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT
TARS = {
    "ustar": (tar(USTAR), "a tar archive"),
    "gnu": (tar(GNU), "a tar archive"),
    "gnu, long name": (tar(GNU, member="x" * 200), "a tar archive"),
    "pax": (tar(PAX, member="é" * 200), "a tar archive"),
    "v7": (without_mark(tar(USTAR)), "a tar archive"),
    "v7, name of a zip": (without_mark(tar(USTAR, member="PK\3\4")), "a tar archive"),
    "symbolic link": (tar(USTAR, kind=tarfile.SYMTYPE, link="/etc/passwd"), "a tar archive"),
    "hard link": (tar(GNU, kind=tarfile.LNKTYPE, link="../../x"), "a tar archive"),
    "slip": (tar(PAX, member="../../../tmp/x"), "a tar archive"),
    "gzip": (tar(USTAR, mode="w:gz"), "compressed with gzip"),
    "bzip2": (tar(GNU, mode="w:bz2"), "compressed with bzip2"),
    "xz": (tar(PAX, mode="w:xz"), "compressed with xz"),
}


@pytest.mark.parametrize("kind", TARS)
def test_tar_archives_are_refused_unopened(tmp_path: Path, kind: str) -> None:
    """A tar archive is refused by its first bytes, also one without a mark; no member of it is looked at."""
    data, expected = TARS[kind]
    error = try_open(tmp_path / "moco.pth.tar", data)
    assert error.startswith(f"moco.pth.tar: it is {expected}")
    assert [tmp_path / "moco.pth.tar"] == list(tmp_path.iterdir())


@pytest.mark.parametrize("container", CONTAINERS)
def test_tensors_that_share_their_bytes_are_no_bomb(tmp_path: Path, container: str) -> None:
    """A thousand names for one tensor are refused where they would be written out a thousand times."""
    shared = tensor(storage(legacy=container == "legacy")) + b"q\0"
    names = b"".join(assembler.text(f"w{index}") + b"h\0" for index in range(1000))
    path = tmp_path / "shared"
    path.write_bytes(CONTAINERS[container](program(b"}(" + assembler.text("w") + shared + names + b"u"), {"0": FOUR}))
    with open_checkpoint(path) as opened, pytest.raises(UnsafeCheckpointError, match="share their bytes"):
        find_state_dict(opened.root, [])
