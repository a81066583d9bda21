"""Pieces of bytes kept under their own SHA-256: film rasters and documents made of them. They count as PHI.

A blob is whole or absent: it is written beside its place, flushed, and only then given its name. Its name is its
check sum, so that every reading can tell whether a disk altered it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, BinaryIO

from django.conf import settings

from apps.core.errors import PermanentError
from apps.storage.durable import make_folders, sync_folder

FOLDER, OPEN = "rasters", "open-"
CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[0-9a-f]{64}")


class MissingBlobError(PermanentError):
    """The blob is not there: never written, or removed when its time was over."""


class DamagedBlobError(PermanentError):
    """The bytes on disk are not those that were written."""


class BlobWriter:
    """A blob while it is written; `name` is known when its writer is left."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = sha256()
        self.size_bytes = 0
        self.name = ""

    def write(self, data: bytes) -> int:
        """Append; returns how many bytes were written."""
        self._digest.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Bytes written so far."""
        return self.size_bytes

    def _finish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self.name = self._digest.hexdigest()
        path = blob_path(self.name)
        make_folders(path.parent)
        Path(self._file.name).replace(path)
        sync_folder(path.parent)


@contextmanager
def blob_writer() -> Iterator[BlobWriter]:
    """Write a blob piece by piece. On an error nothing is kept. Raises OSError."""
    root = Path(settings.DATA_DIR) / FOLDER
    make_folders(root)
    with NamedTemporaryFile(dir=root, prefix=OPEN, delete=False) as file:
        try:
            writer = BlobWriter(file)
            yield writer
            writer._finish()
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def write_blob(data: bytes) -> str:
    """Keep these bytes; returns their SHA-256, 64 hex digits. Raises OSError."""
    with blob_writer() as writer:
        writer.write(data)
    return writer.name


def open_blob(name: str) -> BinaryIO:
    """The blob, open for reading, after its bytes were checked against its name.

    Raises MissingBlobError, DamagedBlobError, OSError.
    """
    path = blob_path(name)
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise MissingBlobError(f"the stored file {name[:12]}… is no longer there") from error
    if _digest_of(file) != name:
        file.close()
        raise DamagedBlobError(f"the stored file {name[:12]}… was altered on disk")
    file.seek(0)
    return file


def remove_abandoned(older_than_s: float = 3600) -> int:
    """Remove what writers that were killed left unfinished; returns how many."""
    latest = time.time() - older_than_s
    left = [path for path in (Path(settings.DATA_DIR) / FOLDER).glob(OPEN + "*") if path.stat().st_mtime < latest]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def has_blob(name: str) -> bool:
    """Whether the blob is there; its bytes are not checked."""
    return bool(name) and blob_path(name).is_file()


def blob_path(name: str) -> Path:
    """Where a blob lies: rasters/aa/bb/<name>. Raises ValueError where the name is not a SHA-256 in hex."""
    if not _NAME.fullmatch(name):
        raise ValueError("a blob's name is 64 hex digits")
    return Path(settings.DATA_DIR) / FOLDER / name[:2] / name[2:4] / name


def _digest_of(file: IO[Any]) -> str:
    digest = sha256()
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
