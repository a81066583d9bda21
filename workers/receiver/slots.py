"""Who is connected, over all processes of the receiver: a table in shared memory, one slot a connection.

A process that is killed cannot leave the table locked: the lock is the kernel's, and its holder's end frees it.
"""

import fcntl
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from struct import Struct

_slot = Struct("=L?16s3x")  # process, is associated, calling AE title


class NoSlotError(Exception):
    """As many associations as are allowed are open."""


class Slots:
    """Made before the fork; every process then takes and frees slots. `size` bounds the connections in all."""

    def __init__(self, size: int, associations_max: int) -> None:
        self._size, self._associations_max = size, associations_max
        self._file = os.memfd_create("dicomsys-slots")
        os.ftruncate(self._file, size * _slot.size)
        self._table = mmap.mmap(self._file, size * _slot.size)
        self._threads = threading.Lock()

    def connect(self) -> int:
        """A slot for a connection that has said nothing yet. Raises NoSlotError."""
        with self._locked():
            for number in range(self._size):
                if not self._read(number)[0]:
                    self._write(number, os.getpid(), False, b"")
                    return number
        raise NoSlotError("too many connections")

    def associate(self, number: int, calling_ae_title: str, maximum: int | None) -> None:
        """Count this connection as an association. Raises NoSlotError, over the limit in all or of this AE title."""
        name = calling_ae_title.encode("latin-1", "replace")[:16].ljust(16, b"\0")
        with self._locked():
            open_ones = [ae_title for _, is_associated, ae_title in self._taken() if is_associated]
            if len(open_ones) >= self._associations_max:
                raise NoSlotError("as many associations as are allowed are open")
            if maximum is not None and open_ones.count(name) >= maximum:
                raise NoSlotError("as many associations of this AE title as are allowed are open")
            self._write(number, os.getpid(), True, name)

    def disassociate(self, number: int) -> None:
        """The association is over, its connection not yet: who is told so may begin the next one."""
        with self._locked():
            self._write(number, os.getpid(), False, b"")

    def free(self, number: int) -> None:
        """The connection is closed."""
        with self._locked():
            self._write(number, 0, False, b"")

    def free_all_of(self, process: int) -> None:
        """A process ended, whatever it had open."""
        with self._locked():
            for number in range(self._size):
                if self._read(number)[0] == process:
                    self._write(number, 0, False, b"")

    def counts(self) -> tuple[int, int]:
        """How many associations are open, and how many connections that are not yet one."""
        with self._locked():
            states = [is_associated for _, is_associated, _ in self._taken()]
        return sum(states), len(states) - sum(states)

    def _taken(self) -> Iterator[tuple[int, bool, bytes]]:
        return (slot for slot in map(self._read, range(self._size)) if slot[0])

    def _read(self, number: int) -> tuple[int, bool, bytes]:
        return _slot.unpack_from(self._table, number * _slot.size)

    def _write(self, number: int, process: int, is_associated: bool, ae_title: bytes) -> None:
        _slot.pack_into(self._table, number * _slot.size, process, is_associated, ae_title)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._threads:
            fcntl.lockf(self._file, fcntl.LOCK_EX)  # of the process: forked children do not share it
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
