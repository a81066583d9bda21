"""Whether the spool takes more, asked before each object: room on the disk, and how far ingest is behind."""

import time
from contextlib import suppress

from apps.storage.spool import Spool, SpoolFullError

LOOK_S = 1.0
WARN_S = 60.0
SLOW_DOWN_S = 0.05


class Room:
    """Used by all threads of a process. The disk is asked each time, the backlog once a second."""

    def __init__(self, spool: Spool, slow_batches: int, most_batches: int) -> None:
        self._spool = spool
        self._slow_batches, self._most_batches = slow_batches, most_batches
        self._looked_at = float("-inf")
        self._backlog = 0

    def check(self) -> None:
        """Raise SpoolFullError when the next object is to be refused."""
        self._spool.check_room()
        if self._look() >= self._most_batches:
            raise SpoolFullError(f"{self._backlog} batches wait for ingest")

    @property
    def pause_s(self) -> float:
        """How long an answer waits, so that senders get slower where ingest cannot keep up; mostly 0."""
        return SLOW_DOWN_S if self._look() >= self._slow_batches else 0.0

    def _look(self) -> int:
        now = time.monotonic()
        if now - self._looked_at >= LOOK_S:
            self._looked_at = now
            with suppress(OSError):  # no descriptor left: the last figure stays
                self._backlog = self._spool.backlog()
        return self._backlog
