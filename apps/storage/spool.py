"""The spool: what was acknowledged to a sender and is not yet in the archive. Plain Python, no database, no broker.

    spool/open/<process>-<n>/<m>.part    being received, never acknowledged: may be dropped
    spool/open/<process>-<n>/<m>.dcm     whole and synced: acknowledged, or about to be
    spool/closed/<process>-<n>/<m>.dcm   a batch ready for ingest

A batch folder is held by an flock of its receiver on the folder itself; where the lock is free its receiver is gone.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock

from apps.core.errors import RetryableError
from apps.storage.durable import make_folders, sync_folder

_CLOSED = -1
FILE_MODE = 0o640  # the file store keeps it: a spooled file is linked, not copied
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
        usage = os.statvfs(self.open_dir)
        if usage.f_bavail * usage.f_frsize < self.min_free_bytes:
            raise SpoolFullError("the spool's disk is nearly full")

    def backlog(self) -> int:
        """How many batches wait for ingest."""
        return sum(1 for _ in os.scandir(self.closed_dir))

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
            age = now - entry.stat().st_mtime
            yield entry.name, age if age >= 0 else ABANDONED_AGE_S  # the clock was set back: better looked at
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
        self.descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX)
            sync_folder(spool.open_dir)
        except OSError:
            os.close(self.descriptor)
            raise
        self.writing = Lock()
        self.opened_at = time.monotonic()
        self._files = self._bytes = 0
        self._is_closed = False

    def begin(self) -> "Incoming":
        """Open the next file, to be written piece by piece. Raises OSError, BatchClosedError."""
        if self._is_closed:
            raise BatchClosedError(self.name)
        self._files += 1
        return Incoming(self, f"{self._files}.part")

    def write(self, chunks: Sequence[bytes | memoryview]) -> Path:
        """Store one Part 10 file; when this returns it survives a power cut. Raises as `Incoming.commit`."""
        incoming = self.begin()
        try:
            incoming.write(*chunks)
            return incoming.commit()
        except OSError:
            incoming.discard()
            raise

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
            os.close(self.descriptor)

    def count(self, size_bytes: int) -> None:
        """Add what was written to the batch's size."""
        self._bytes += size_bytes


class Incoming:
    """One file on its way into a batch: a `.part` until it is committed. Used by one thread."""

    def __init__(self, batch: Batch, name: str) -> None:
        self._batch, self._name = batch, name
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._file = os.open(name, flags, FILE_MODE, dir_fd=batch.descriptor)

    def write(self, *chunks: bytes | memoryview) -> None:
        """Append. Raises OSError; then `discard`."""
        size = sum(map(len, chunks))
        written = os.writev(self._file, chunks)
        self._batch.count(size)
        if written < size:
            _write_rest(self._file, chunks, written)

    def commit(self) -> Path:
        """Give it its final name; when this returns it survives a power cut.

        Raises OSError: then nothing is kept after `discard`, or, where only the folder could not be synced, a file
        that nobody was told of and that is stored all the same.
        """
        os.fdatasync(self._file)
        self._close()
        final = f"{self._name.removesuffix('.part')}.dcm"
        folder = self._batch.descriptor
        os.rename(self._name, final, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
        return self._batch.folder / final

    def discard(self) -> None:
        """Drop what was written; nobody was told that it is kept. Does nothing after `commit`."""
        self._close()
        with suppress(OSError):
            os.unlink(self._name, dir_fd=self._batch.descriptor)

    def move_to(self, batch: Batch) -> None:
        """Go on in another, new batch: so that a slow sender's long file does not hold up those before it."""
        other = batch.begin()
        try:
            os.rename(self._name, other._name, src_dir_fd=self._batch.descriptor, dst_dir_fd=batch.descriptor)
        except OSError:
            other.discard()
            raise
        other._close()
        self._batch, self._name = batch, other._name

    def _close(self) -> None:
        descriptor, self._file = self._file, _CLOSED
        if descriptor != _CLOSED:
            os.close(descriptor)


def _write_rest(descriptor: int, chunks: Sequence[bytes | memoryview], written: int) -> None:
    """What one writev left over: the disk is full, or a signal came between."""
    view = memoryview(b"".join(chunks))[written:]
    while view:
        view = view[os.write(descriptor, view) :]
