"""What happened at the DICOM port, counted without a database: one append-only file a process, folded in by beat.

Counting takes a lock and a few additions. A thread writes once a second, so a killed process loses that second at
most; a file that is complete is renamed, one of a process that died is told by its free flock. A full disk, or a
database that is away for long, costs counts and nothing else: the receiver never waits for any of this.
"""

import fcntl
import logging
import os
import secrets
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apps.nodes.journal_lines import COMPLETE, NEW, OPEN, Rejections, Traffic, write_line
from apps.nodes.titles import bare
from workers.receiver.rules import Caller, Rejection

logger = logging.getLogger(__name__)

FLUSH_S = 1.0
COMPLETE_BYTES, COMPLETE_AGE_S = 1_000_000, 15.0
BACKLOG_FILES = 200  # more than this wait: files are completed by size only
FOLDER_BYTES_MAX = 256_000_000
KEYS_MAX = 2000  # kept apart at once; what a port scan adds to them is counted together
OTHERS = ""


@dataclass(slots=True)
class _Counts:
    """Of one calling AE title within one minute."""

    address: str = ""
    associations: int = 0
    instances: int = 0
    size_bytes: int = 0
    refused: dict[int, int] = field(default_factory=dict)

    def add(self, other: "_Counts") -> None:
        self.address = other.address or self.address
        self.associations += other.associations
        self.instances += other.instances
        self.size_bytes += other.size_bytes
        for status, count in other.refused.items():
            self.refused[status] = self.refused.get(status, 0) + count


_TrafficKey = tuple[int, str]  # minute, calling AE title
_RejectionKey = tuple[str, str, str, bool, str]  # calling, called, address, TLS, words


class Journal:
    """The counts of this process; safe for threads, and begun anew by a forked child."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: _File | None = None
        self._begin()
        begin = weakref.WeakMethod(self._begin)
        os.register_at_fork(after_in_child=lambda: (method := begin()) and method())

    def _begin(self) -> None:
        """Nothing counted, nothing open, no thread; a file of the parent process stays the parent's."""
        if self._file is not None:
            self._file.forget()
            self._file = None
        self._traffic: dict[_TrafficKey, _Counts] = {}
        self._rejections: dict[_RejectionKey, int] = {}
        self._counting, self._writing = threading.Lock(), threading.Lock()
        self._news, self._stop = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._is_failing = False

    def opened(self, calling: str, address: str) -> None:
        """An association was accepted."""
        self._count(calling, _Counts(address=address, associations=1))

    def stored(self, calling: str, instances: int, size_bytes: int) -> None:
        """So many instances were acknowledged with Success."""
        self._count(calling, _Counts(instances=instances, size_bytes=size_bytes))

    def refused(self, calling: str, dimse_status: int) -> None:
        """A C-STORE was answered with this failure status."""
        self._count(calling, _Counts(refused={dimse_status: 1}))

    def rejected(self, caller: Caller, rejection: Rejection) -> None:
        """An association was rejected."""
        key = (
            bare(caller.calling_ae_title),
            bare(caller.called_ae_title),
            caller.address,
            caller.is_tls,
            rejection.words,
        )
        with self._counting:
            self._add_rejections(key, 1)
            self._wake()

    def flush(self) -> None:
        """Write what was counted so far; what cannot be written stays counted."""
        with self._writing:
            self._flush()

    def close(self) -> None:
        """Write all and complete the file; to be called when the process ends in order."""
        self._stop.set()
        self._news.set()
        with self._writing:
            self._flush()
            self._complete()

    def _count(self, calling: str, counts: _Counts) -> None:
        with self._counting:
            self._add((int(time.time()) // 60, bare(calling)), counts)
            self._wake()

    def _add(self, key: _TrafficKey, counts: _Counts) -> None:
        if key not in self._traffic and len(self._traffic) >= KEYS_MAX:
            key = (key[0], OTHERS)
        self._traffic.setdefault(key, _Counts()).add(counts)

    def _add_rejections(self, key: _RejectionKey, count: int) -> None:
        if key not in self._rejections and len(self._rejections) >= KEYS_MAX:
            key = (OTHERS, OTHERS, OTHERS, False, key[-1])
        self._rejections[key] = self._rejections.get(key, 0) + count

    def _wake(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, daemon=True, name="journal")
            with suppress(RuntimeError):  # no thread can be had now: the next event tries again
                thread.start()
                self._thread = thread
        if not self._news.is_set():
            self._news.set()

    def _run(self) -> None:
        stop = self._stop
        while not stop.is_set():
            self._news.wait(self._file.seconds_left() if self._file else None)
            stop.wait(FLUSH_S)
            self._news.clear()
            try:
                with self._writing:
                    self._flush()
                    if self._file is not None and self._file.is_due():
                        self._complete()
            except Exception:  # the edge of the thread: counting must not end with one error
                logger.exception("the journal could not be written")

    def _flush(self) -> None:
        with self._counting:
            traffic, self._traffic = self._traffic, {}
            rejections, self._rejections = self._rejections, {}
        if not traffic and not rejections:
            return
        try:
            if self._file is None:
                self._file = _File.create(self._folder)
            self._file.append(_lines(traffic, rejections))
            self._is_failing = False
        except OSError as error:
            self._keep(traffic, rejections)
            self._complain(error)

    def _keep(self, traffic: dict[_TrafficKey, _Counts], rejections: dict[_RejectionKey, int]) -> None:
        with self._counting:
            for key, counts in traffic.items():
                self._add(key, counts)
            for rejection_key, count in rejections.items():
                self._add_rejections(rejection_key, count)
            self._news.set()

    def _complain(self, error: OSError) -> None:
        if not self._is_failing:
            logger.error("the journal cannot be written (%s): what happens is counted in memory", error.strerror)
        self._is_failing = True

    def _complete(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # it stays open in name; beat takes it when this process is gone
                self._file.complete()
            self._file = None


class _File:
    """One file of the journal, locked as long as this process may write into it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path, self._descriptor = path, descriptor
        self._size, self._until = 0, time.monotonic() + COMPLETE_AGE_S
        self._is_behind = len(list(path.parent.glob(f"*{COMPLETE}"))) > BACKLOG_FILES

    @classmethod
    def create(cls, folder: Path) -> "_File":
        """A new file; it gets its name only when it is locked, so that nobody takes it for an abandoned one."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if sum(map(_size_of, os.scandir(folder))) > FOLDER_BYTES_MAX:
            raise OSError(0, "too much of it waits to be folded in: is beat running?")
        path = folder / f"{time.time_ns()}-{os.getpid()}-{secrets.token_hex(4)}{NEW}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            return cls(path.rename(path.with_suffix(OPEN)), descriptor)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise

    def append(self, content: bytes) -> None:
        """All of it or, with an OSError, nothing."""
        try:
            written = 0
            while written < len(content):
                written += os.write(self._descriptor, content[written:])
        except OSError:
            os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(content)

    def seconds_left(self) -> float:
        """Until it should be completed."""
        return max(0.0, self._until - time.monotonic())

    def is_due(self) -> bool:
        """Whether it is large or old enough to be folded in."""
        return self._size >= COMPLETE_BYTES or (self.seconds_left() == 0.0 and not self._is_behind)

    def complete(self) -> None:
        """Hand it over to beat."""
        self._path.rename(self._path.with_suffix(COMPLETE))
        self.forget()

    def forget(self) -> None:
        """Close it here; a parent process that shares the descriptor keeps the lock."""
        os.close(self._descriptor)


def _size_of(entry: "os.DirEntry[str]") -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # beat has just folded it in
        return 0


def _lines(traffic: dict[_TrafficKey, _Counts], rejections: dict[_RejectionKey, int]) -> bytes:
    now = int(time.time())
    events: list[Any] = [
        Traffic(minute, calling, each.address, each.associations, each.instances, each.size_bytes, each.refused)
        for (minute, calling), each in traffic.items()
    ]
    events += [Rejections(now, *key, count) for key, count in rejections.items()]
    return b"".join(map(write_line, events))
