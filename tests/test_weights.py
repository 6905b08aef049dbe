"""The weights file: written in order, read back strictly, and never trusted without its digest."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cxrzoo.errors import DigestError, FolderError
from cxrzoo.sources import sha256_of
from cxrzoo.weights import read_into, read_shapes, write_weights


@dataclass(frozen=True)
class Held:
    """A tensor of torch that can be written."""

    tensor: torch.Tensor

    @property
    def dtype(self) -> str:
        """Its dtype in the words of safetensors."""
        names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
        return names[self.tensor.dtype]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return tuple(self.tensor.shape)

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return self.tensor.nbytes

    def read(self) -> bytes:
        """Its bytes."""
        return self.tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def tensors() -> dict[str, torch.Tensor]:
    """Return tensors of several kinds and shapes, an odd number of bytes among them."""
    torch.manual_seed(0)
    return {
        "b.weight": torch.randn(3, 5),
        "a.half": torch.randn(7).half(),
        "a.brain": torch.randn(3).bfloat16(),
        "count": torch.tensor(1000),
        "none": torch.empty(0, 4),
    }


def write(path: Path, content: dict[str, torch.Tensor]) -> Path:
    """Write tensors with our writer."""
    write_weights(path, {name: Held(tensor) for name, tensor in content.items()}, lambda name, dtype, data: None)
    return path


def read(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Read a file with the digest it has."""
    read_into(state, path, sha256=sha256_of(path), size=path.stat().st_size)


def test_the_library_reads_what_we_write(tmp_path: Path) -> None:
    """The safetensors library finds the same tensors, bit for bit."""
    found = load_file(write(tmp_path / "w.safetensors", tensors()))

    assert set(tensors()) == set(found)
    for name, tensor in tensors().items():
        assert torch.equal(tensor, found[name])


def test_we_read_what_the_library_writes(tmp_path: Path) -> None:
    """Our reader fills a network's tensors from the library's file, half precision widened to float32."""
    save_file(tensors(), tmp_path / "w.safetensors")
    state = {
        name: torch.empty_like(t, dtype=torch.int64 if name == "count" else torch.float32)
        for name, t in tensors().items()
    }

    read(tmp_path / "w.safetensors", state)

    for name, tensor in tensors().items():
        assert torch.equal(tensor.to(state[name].dtype), state[name])


def test_tensors_are_aligned(tmp_path: Path) -> None:
    """Every tensor starts at a multiple of its item size, and nothing lies between them."""
    path = write(tmp_path / "w.safetensors", tensors())
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    del header["__metadata__"]

    offsets = sorted(entry["data_offsets"] for entry in header.values())

    assert 0 == int.from_bytes(data[:8], "little") % 8
    assert [0, *[end for _, end in offsets[:-1]]] == [start for start, _ in offsets]
    for name, entry in header.items():
        assert entry["data_offsets"][0] % tensors()[name].element_size() == 0


def test_order_does_not_matter(tmp_path: Path) -> None:
    """The same tensors in another order give the same bytes."""
    forward = write(tmp_path / "a", tensors())
    backward = write(tmp_path / "b", dict(reversed(tensors().items())))

    assert forward.read_bytes() == backward.read_bytes()


def test_shapes_from_the_header(tmp_path: Path) -> None:
    """Names, dtypes and shapes are had without reading the tensors."""
    path = write(tmp_path / "w.safetensors", {"a": torch.zeros(2, 3), "n": torch.tensor(1)})

    assert {"a": ("F32", (2, 3)), "n": ("I64", ())} == read_shapes(path)


NOT_STRICT = {
    "missing": ({"a": torch.zeros(2)}, {"a": torch.zeros(2), "b": torch.zeros(2)}, r"missing: b \(2,\)"),
    "left over": ({"a": torch.zeros(2), "b": torch.zeros(2)}, {"a": torch.zeros(2)}, r"unexpected: b \(2,\)"),
    "other shape": ({"a": torch.zeros(2)}, {"a": torch.zeros(2, 1)}, r"a: found F32 \(2,\), expected float \(2, 1\)"),
    "fewer numbers": ({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, r"a: found F32 \(2,\), expected float \(3,\)"),
    "integers": ({"a": torch.zeros(2, dtype=torch.int64)}, {"a": torch.zeros(2)}, "a: found I64"),
}


@pytest.mark.parametrize(("stored", "state", "message"), NOT_STRICT.values(), ids=NOT_STRICT.keys())
def test_reading_is_strict(
    stored: dict[str, torch.Tensor], state: dict[str, torch.Tensor], message: str, tmp_path: Path
) -> None:
    """A file that does not hold exactly a network's tensors is refused, and says which; nothing is left unfilled."""
    path = write(tmp_path / "w.safetensors", stored)

    with pytest.raises(FolderError, match=message):
        read(path, state)


def test_wrong_digest(tmp_path: Path) -> None:
    """Weights with another digest than the promised one are an error that shows both."""
    path = write(tmp_path / "w.safetensors", {"a": torch.zeros(2)})

    with pytest.raises(DigestError, match=f"the sha256 is {sha256_of(path)}, expected {'0' * 64}"):
        read_into({"a": torch.zeros(2)}, path, sha256="0" * 64, size=path.stat().st_size)


def test_wrong_size(tmp_path: Path) -> None:
    """Weights of another size are refused before a byte of them is read."""
    path = write(tmp_path / "w.safetensors", {"a": torch.zeros(2)})

    with pytest.raises(DigestError, match="the size is .* expected 5 bytes"):
        read_into({"a": torch.zeros(2)}, path, sha256=sha256_of(path), size=5)


def test_verified_bytes_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the very file was verified before, no digest is computed."""
    path = write(tmp_path / "w.safetensors", {"a": torch.arange(3.0)})
    state = {"a": torch.zeros(3)}

    def refuse(*arguments: object) -> None:
        raise AssertionError("hashed")

    monkeypatch.setattr(hashlib, "sha256", refuse)

    read_into(state, path, sha256="", size=path.stat().st_size, verified=lambda status: True)

    assert [0.0, 1.0, 2.0] == state["a"].tolist()


def test_change_while_reading(tmp_path: Path) -> None:
    """A file that changes while it is read is an error, even where it counted as verified."""
    path = write(tmp_path / "w.safetensors", {"a": torch.zeros(3)})
    os.utime(path, (1, 1))  # so that the change can't fall into the same tick of the clock

    def meddle(status: object) -> bool:
        data = bytearray(path.read_bytes())
        data[-1] = 9
        path.write_bytes(data)
        return True

    with pytest.raises(DigestError, match="changed while it was read"):
        read_into({"a": torch.zeros(3)}, path, sha256="", size=path.stat().st_size, verified=meddle)


def test_later_changes_do_not_reach_the_network(tmp_path: Path) -> None:
    """What was loaded is in private memory: overwriting the file changes nothing."""
    path = write(tmp_path / "w.safetensors", {"a": torch.arange(3.0)})
    state = {"a": torch.zeros(3)}
    read(path, state)

    path.write_bytes(b"\xff" * path.stat().st_size)

    assert [0.0, 1.0, 2.0] == state["a"].tolist()
