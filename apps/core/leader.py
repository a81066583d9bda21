"""One leader among equal processes: a session-level advisory lock of PostgreSQL on a connection of its own.

The server frees the lock when the holder's connection ends, whatever ended it, so a killed leader is replaced within
one poll. A holder that lost its connection has lost the lock: it must notice (`is_held`) and stop.
"""

import logging
import time
from collections.abc import Callable
from hashlib import sha256

import psycopg
from django.db import connection

logger = logging.getLogger(__name__)

POLL_S = 0.5


def lock_key(name: str) -> int:
    """The 64-bit signed key of an advisory lock, from its name."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], "big", signed=True)


def open_connection() -> psycopg.Connection:
    """A plain autocommit connection with Django's parameters, apart from Django's own."""
    return psycopg.connect(**connection.get_connection_params(), autocommit=True)


class LeaderLock:
    """Leadership in one kind of work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._connection: psycopg.Connection | None = None

    def try_acquire(self) -> bool:
        """Take the lock if nobody holds it. A database that is away counts as "not now"."""
        try:
            if self._connection is None or self._connection.closed:
                self._connection = open_connection()
            row = self._connection.execute("SELECT pg_try_advisory_lock(%s::bigint)", [lock_key(self.name)]).fetchone()
        except psycopg.OperationalError:
            self.release()
            return False
        return bool(row and row[0])

    def wait(self, should_stop: Callable[[], bool] = lambda: False) -> bool:
        """Poll until the lock is ours (True) or the caller wants to stop (False)."""
        while not should_stop():
            if self.try_acquire():
                logger.info("leader in %s", self.name)
                return True
            time.sleep(POLL_S)
        return False

    def is_held(self) -> bool:
        """Whether the connection that holds the lock still answers."""
        if self._connection is None:
            return False
        try:
            self._connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def release(self) -> None:
        """Give the lock back by closing its connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
