"""The spool: what was acknowledged to a sender and is not yet in the archive. Plain Python, no database, no broker.

    spool/open/<process>-<n>/<m>.part    being received, never acknowledged: may be dropped
    spool/open/<process>-<n>/<m>.dcm     whole and synced: acknowledged, or about to be
    spool/closed/<process>-<n>/<m>.dcm   a batch ready for ingest

A batch folder is held by an flock of its receiver on the folder itself; where the lock is free its receiver is gone.
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from apps.core.errors import RetryableError
from apps.storage.durable import make_folders, sync_folder

BATCH_FILES = 50
BATCH_BYTES = 5_000_000
BATCH_AGE_S = 0.1
ABANDONED_AGE_S = 15.0  # a younger open batch may belong to a receiver that has made the folder and not yet locked it


class SpoolFullError(RetryableError):
    """The disk of the spool is nearly full: nothing is taken before there is room again."""


class BatchClosedError(RetryableError):
    """The batch was closed meanwhile: the file belongs into a new one."""


class Spool:
    """The two folders of a spool, and the names of batches in them."""

    def __init__(self, root: Path, min_free_bytes: int = 0) -> None:
        self.open_dir, self.closed_dir = root / "open", root / "closed"
        self.min_free_bytes = min_free_bytes
        for folder in (self.open_dir, self.closed_dir):
            make_folders(folder)
        self._prefix = f"{os.getpid()}.{secrets.token_hex(4)}"
        self._next = 0
        self._lock = Lock()

    def open_batch(self) -> "Batch":
        """A new, empty, locked batch of this process."""
        with self._lock:
            self._next += 1
            name = f"{self._prefix}-{self._next}"
        return Batch(self, name)

    def check_room(self) -> None:
        """Raise SpoolFullError when less than the wanted bytes are free."""
        if shutil.disk_usage(self.open_dir).free < self.min_free_bytes:
            raise SpoolFullError("the spool's disk is nearly full")

    def closed_batches(self, older_than_s: float = 0.0) -> list[str]:
        """Names of the batches ready for ingest, oldest first."""
        return [name for name, age in sorted(_ages(self.closed_dir), key=lambda pair: -pair[1]) if age >= older_than_s]

    def close_abandoned(self) -> list[str]:
        """Close every open batch whose receiver is gone; its `.part` files were never acknowledged. Returns names."""
        old = sorted(name for name, age in _ages(self.open_dir) if age >= ABANDONED_AGE_S)
        return [name for name in old if self._close_if_abandoned(self.open_dir / name)]

    def _close_if_abandoned(self, folder: Path) -> bool:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return False  # its receiver closed it meanwhile
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for partial in folder.glob("*.part"):
                partial.unlink()
            return self.finish(folder)
        except (BlockingIOError, FileNotFoundError):
            return False
        finally:
            os.close(descriptor)

    def finish(self, folder: Path) -> bool:
        """Move an open batch to the closed ones, durably; an empty one is removed. Returns whether it had files."""
        if not any(folder.glob("*.dcm")):
            folder.rmdir()
            return False
        folder.rename(self.closed_dir / folder.name)
        sync_folder(self.closed_dir)
        sync_folder(self.open_dir)
        return True

    def files(self, name: str) -> list[Path]:
        """The files of a closed batch, in the order they came; empty when the batch is gone."""
        return _files(self.closed_dir / name)

    def remove(self, name: str, stored: Sequence[Path]) -> None:
        """Forget files that are in the archive now, and the batch when nothing is left in it."""
        for path in stored:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # files are left in it, or another worker was quicker
            (self.closed_dir / name).rmdir()

    def oldest_age_s(self) -> float:
        """Age in seconds of the oldest closed batch; 0 when there is none."""
        return max((age for _, age in _ages(self.closed_dir)), default=0.0)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"), key=lambda path: int(path.stem)) if folder.is_dir() else []


def _ages(folder: Path) -> Iterator[tuple[str, float]]:
    now = time.time()
    for entry in os.scandir(folder):
        try:
            yield entry.name, now - entry.stat().st_mtime
        except FileNotFoundError:
            continue  # ingested while we looked


class Batch:
    """An open batch: up to 50 files, 5 MB or 100 ms, written by one association.

    Where another thread may close it, both hold `writing` around `write` and `close`.
    """

    def __init__(self, spool: Spool, name: str) -> None:
        self.name = name
        self._spool = spool
        self.folder = spool.open_dir / name
        self.folder.mkdir()
        self._descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        sync_folder(spool.open_dir)
        self.writing = Lock()
        self.opened_at = time.monotonic()
        self._files = self._bytes = 0
        self._is_closed = False

    def write(self, chunks: Sequence[bytes | memoryview]) -> Path:
        """Store one Part 10 file; when this returns it survives a power cut.

        Raises OSError: then nothing is kept, or, where only the folder could not be synced, a file that nobody was
        told of and that is stored all the same. Raises BatchClosedError.
        """
        if self._is_closed:
            raise BatchClosedError(self.name)
        self._files += 1
        partial = self.folder / f"{self._files}.part"
        try:
            with partial.open("xb", buffering=0) as file:
                for chunk in chunks:
                    _write_all(file.fileno(), chunk)
                    self._bytes += len(chunk)
                os.fdatasync(file.fileno())
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        path = partial.rename(partial.with_suffix(".dcm"))
        os.fsync(self._descriptor)
        return path

    def files(self) -> list[Path]:
        """Its whole files, in the order they came."""
        return _files(self.folder)

    @property
    def is_due(self) -> bool:
        """Whether it is full or old enough to be closed."""
        age = time.monotonic() - self.opened_at
        return self._files >= BATCH_FILES or self._bytes >= BATCH_BYTES or age >= BATCH_AGE_S

    def close(self) -> str | None:
        """Hand the batch over to ingest; returns its name, or None when it was empty or closed before."""
        if self._is_closed:
            return None
        self._is_closed = True
        try:
            return self.name if self._spool.finish(self.folder) else None
        finally:
            os.close(self._descriptor)


def _write_all(descriptor: int, chunk: bytes | memoryview) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]
