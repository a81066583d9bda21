"""The database connections of the services: few, kept open, and shared by all associations.

Associations come and go, each with a thread of its own; a connection for each would cost more than most queries.
"""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from django.conf import settings
from django.db import close_old_connections, connection, connections

THREADS = 4

T = TypeVar("T")


class Database:
    """Runs functions in a few threads that hold the connections."""

    def __init__(self, threads: int = THREADS) -> None:
        self._jobs: queue.Queue[tuple[Future[Any], Callable[[], Any]] | None] = queue.Queue()
        self._threads = [
            threading.Thread(target=self._run, daemon=True, name=f"database-{number}") for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Run it as soon as a thread is free; what it raises is the result's."""
        future: Future[T] = Future()
        self._jobs.put((future, lambda: function(*arguments)))
        return future

    def stop(self) -> None:
        """Finish what was asked for, then close the connections."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, function = job
            if not future.set_running_or_notify_cancel():
                continue
            close_old_connections()  # and broken ones: the next query works again
            try:
                if connection.connection is None:
                    _limit_statements()
                future.set_result(function())
            except BaseException as error:  # the edge: whoever asked is told
                future.set_exception(error)
        connections.close_all()


def _limit_statements() -> None:
    """The server gives up a statement of this connection that takes too long: nobody waits for it any more."""
    with connection.cursor() as cursor:
        limit_ms = f"{settings.DICOM_FIND_TIMEOUT_S * 1000:.0f}"
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [limit_ms])
