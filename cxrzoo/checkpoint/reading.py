"""Opening a checkpoint: what kind of file it is by its content, and which reader it gets."""

import dataclasses
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from cxrzoo.checkpoint.archive import read_archive
from cxrzoo.checkpoint.legacy import read_legacy
from cxrzoo.checkpoint.regions import OpenFile, Region
from cxrzoo.checkpoint.safetensors_header import read_safetensors_header
from cxrzoo.checkpoint.tensors import Tensor, contiguous_stride
from cxrzoo.errors import CheckpointError

_ZIP = "PyTorch zip archive"
_LEGACY = "PyTorch legacy file"
_SAFETENSORS = "safetensors"

_TAR = "a tar archive; no torch since 2018 writes these. Extract it, or load and save it with torch."

#: Files that are often mistaken for a checkpoint: where a mark lies, the mark, and what to say.
_OTHERS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself. Fetch it with `git lfs pull`."),
    (257, b"ustar", _TAR),
    (0, b"\x1f\x8b", "compressed with gzip. Decompress it first, whatever its suffix says."),
    (0, b"BZh", "compressed with bzip2. Decompress it first."),
    (0, b"\xfd7zXZ", "compressed with xz. Decompress it first."),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd. Decompress it first."),
    (0, b"7z\xbc\xaf", "a 7z archive. Extract it, and give the checkpoint inside."),
    (0, b"\x89PNG", "a PNG image, not a checkpoint."),
    (0, b"\xff\xd8\xff", "a JPEG image, not a checkpoint."),
    (128, b"DICM", "a DICOM image, not a checkpoint."),
    (0, b"\x89HDF", "an HDF5 file, as Keras writes. Convert it to safetensors first."),
    (0, b"\x93NUMPY", "a NumPy array, not a checkpoint."),
    (0, b"PK\5\6", "an empty zip archive. Download it again."),
    (0, b"%PDF", "a PDF document, not a checkpoint."),
)


@dataclasses.dataclass
class Checkpoint:
    """An open checkpoint; close it, or use it in a `with` block.

    `root` is a tree of dict, list, tuple, str, bytes, int, float, bool, None, `Tensor` and `Opaque`; a set is
    a list or tuple in it. Tensors are read from the same open file that `sha256` is computed from.
    """

    kind: str
    root: object
    _file: OpenFile = dataclasses.field(repr=False)
    _hashing: Future[str] | None = dataclasses.field(default=None, repr=False)
    _stop: threading.Event = dataclasses.field(default_factory=threading.Event, repr=False)

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return self._file.size

    @cached_property
    def sha256(self) -> str:
        """The digest of the whole file, in hexadecimal."""
        digest = self._hashing.result() if self._hashing else self._file.sha256()
        if not digest:
            raise CheckpointError(f"{self._file.name} was closed before it was hashed. Open it again.")
        return digest

    def start_hashing(self) -> None:
        """Compute `sha256` in the background, while tensors are read: it takes about as long."""
        if self._hashing is None and "sha256" not in self.__dict__:
            executor = ThreadPoolExecutor(1)
            self._hashing = executor.submit(self._file.sha256, self._stop)
            executor.shutdown(wait=False)

    def close(self) -> None:
        """Close the file; tensors can't be read any more."""
        if self._hashing is not None:
            self._stop.set()
            wait([self._hashing])
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_checkpoint(path: Path) -> Checkpoint:
    """Return what a checkpoint holds, without running or importing anything that it names.

    The kind is decided by content; suffixes such as .pth.tar mean nothing. No tensor is read yet.

    Raises:
        CheckpointError: The file is missing, damaged, or no checkpoint.
        UnsafeCheckpointError: It names code, or lies about its own layout or size.
    """
    file = OpenFile(path)
    try:
        kind = _identify(file)
        if kind == _ZIP:
            root = read_archive(file)
        elif kind == _LEGACY:
            root = read_legacy(file)
        else:
            root = _read_safetensors(file)
    except CheckpointError as error:
        file.close()
        text = str(error)
        raise type(error)(text if text.startswith(path.name) else f"{path.name}: {text}") from error
    except BaseException:
        file.close()
        raise
    return Checkpoint(kind, root, file)


def _identify(file: OpenFile) -> str:
    head = file.read(0, min(file.size, 512))
    if not head:
        raise CheckpointError("the file is empty. Download it again.")
    for position, mark, what in _OTHERS:
        if head.startswith(mark, position):
            raise CheckpointError(f"it is {what}")
    if _is_tar(head):
        raise CheckpointError(f"it is {_TAR}")
    if head.startswith(b"PK\3\4"):
        return _ZIP
    # the length of a header fits into four bytes; as text, the first eight would be a larger number
    if head[8:9] == b"{" and head[4:8] == bytes(4):
        return _SAFETENSORS
    # a number in protocols 0 and 1, or the mark of the later ones, in front of the number
    if head[:1] == b"\x80" or head.startswith(b"L1195470"):
        return _LEGACY
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        raise CheckpointError(
            "it is a web page, not a checkpoint: the download went wrong, often because a login or a warning stood "
            "in between. Download it by hand, in a browser."
        )
    if text[:1] in (b"{", b"["):
        raise CheckpointError("it is JSON text, often the error message of a server. Download it again.")
    raise CheckpointError(
        f"it starts with {head[:8].hex(' ')}, which is no known kind of checkpoint. Expected a file of torch.save, "
        "or safetensors."
    )


def _is_tar(head: bytes) -> bool:
    """Return whether a file starts with a header of tar, which before POSIX had no mark, only a sum of its bytes."""
    digits = head[148:156].strip(b" \0")
    if len(head) < 512 or not digits or digits.strip(b"01234567"):
        return False
    # the sum is taken with spaces in its own place
    return int(digits, 8) == sum(head[:148]) + sum(b" " * 8) + sum(head[156:])


def _read_safetensors(file: OpenFile) -> dict[str, Tensor]:
    entries = read_safetensors_header(file.stream, file.size, "its safetensors header")
    return {
        name: Tensor(
            entry.dtype,
            entry.shape,
            contiguous_stride(entry.shape),
            0,
            Region(file, entry.start, entry.end - entry.start, f"tensor {name!r}"),
        )
        for name, entry in entries.items()
    }
