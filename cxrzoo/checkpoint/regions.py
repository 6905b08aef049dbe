"""Byte ranges of one open file, read only when asked for and checked against their CRC-32."""

import hashlib
import os
import stat
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from cxrzoo.errors import CheckpointError

_CHUNK = 1 << 20


class OpenFile:
    """One untrusted file, opened once; everything that is read or hashed comes through this descriptor."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self._lock = threading.Lock()
        try:
            # opening a named pipe would wait for a writer, so the kind is asked first
            if not stat.S_ISREG(path.stat().st_mode):
                raise CheckpointError(f"{path} is not a file. Give the path of one checkpoint file.")
            self.stream: BinaryIO = path.open("rb")
        except OSError as error:
            raise CheckpointError(
                f"{path} can't be opened: {error.strerror}. Check the path and its permissions."
            ) from error
        self._identity = self._stat()
        self.size = self._identity[0]

    def close(self) -> None:
        """Close the file; tensors can't be read any more."""
        self.stream.close()

    def read(self, start: int, size: int) -> bytes:
        """Return exactly `size` bytes from `start` on; for small structures."""
        return b"".join(self.chunks(start, size))

    def chunks(self, start: int, size: int) -> Iterator[bytes]:
        """Yield the bytes of a range in pieces of at most 1 MiB."""
        if not 0 <= start <= start + size <= self.size:
            raise CheckpointError(
                f"it ends too early: bytes {start} to {start + size} are needed, there are {self.size}. "
                "Download it again."
            )
        for position in range(start, start + size, _CHUNK):
            length = min(_CHUNK, start + size - position)
            try:
                with self._lock:  # tensors may be read while another thread hashes
                    self.stream.seek(position)
                    chunk = self.stream.read(length)
            except (OSError, ValueError) as error:
                raise CheckpointError(
                    f"{self.name} can't be read: {error}. Open it again, inside a `with` block."
                ) from error
            if len(chunk) != length:
                raise CheckpointError(f"{self.name} became shorter while it was read. Copy it, then try again.")
            yield chunk

    def sha256(self, stop: threading.Event | None = None) -> str:
        """Return the digest of the whole file, in hexadecimal; "" if it was told to stop."""
        digest = hashlib.sha256()
        for chunk in self.chunks(0, self.size):
            if stop is not None and stop.is_set():
                return ""
            digest.update(chunk)
        self.check_unchanged()
        return digest.hexdigest()

    def check_unchanged(self) -> None:
        """Raise if the file was written to since it was opened: what was verified must be what is read."""
        if self._stat() != self._identity:
            raise CheckpointError(f"{self.name} changed while it was read. Copy it, then try again.")

    def _stat(self) -> tuple[int, int]:
        status = os.fstat(self.stream.fileno())
        return status.st_size, status.st_mtime_ns


@dataclass(eq=False)
class Region:
    """The bytes of one storage: where they lie and, in zip archives, the CRC-32 they must have."""

    file: OpenFile
    start: int
    size: int
    label: str
    crc32: int | None = None
    _checked: bool = field(default=False, repr=False)

    def read(self, start: int, size: int) -> bytearray:
        """Return `size` bytes, `start` bytes into the region; all of it is checked at the first read."""
        whole = size == self.size
        if not whole and self.crc32 is not None and not self._checked:
            self._check(self._checksum())
        data = bytearray(size)
        position = checksum = 0
        for chunk in self.file.chunks(self.start + start, size):
            data[position : position + len(chunk)] = chunk
            position += len(chunk)
            checksum = zlib.crc32(chunk, checksum) if whole else 0
        if whole and self.crc32 is not None:
            self._check(checksum)
        self.file.check_unchanged()
        return data

    def _checksum(self) -> int:
        checksum = 0
        for chunk in self.file.chunks(self.start, self.size):
            checksum = zlib.crc32(chunk, checksum)
        return checksum

    def _check(self, checksum: int) -> None:
        if checksum != self.crc32:
            raise CheckpointError(
                f"{self.file.name}: {self.label} is damaged: its CRC-32 is {checksum:08x}, the archive "
                f"promises {self.crc32:08x}. Download it again; if you saved it with "
                "torch.serialization.set_crc32_options(False), save it again without."
            )
        self._checked = True
