"""Who may open an association with the receiver: stations of the node table; in evaluation also this machine itself.

The receiver needs no database while it works: a thread reads the table every 2 s and keeps the last good answer.
"""

import logging
import threading

from django.conf import settings
from django.db import DatabaseError, connection

from apps.nodes.models import RemoteNode

logger = logging.getLogger(__name__)

REFRESH_S = 2.0
LOOPBACK = ("127.0.0.1", "::1")


class AllowedCallers:
    """The calling AE titles that may send, refreshed in the background."""

    def __init__(self) -> None:
        self._ae_titles: frozenset[str] = frozenset()
        self._stop = threading.Event()

    def allows(self, ae_title: str, address: str) -> bool:
        """Whether this calling AE title may send from this address."""
        if address in LOOPBACK and (settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS or ae_title == settings.AE_TITLE):
            return True  # our own title: the doctor
        return ae_title in self._ae_titles

    def start(self) -> None:
        """Read once, then keep reading in a daemon thread."""
        self._read()
        threading.Thread(target=self._refresh, daemon=True, name="allowed-callers").start()

    def stop(self) -> None:
        """End the thread at its next turn."""
        self._stop.set()

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self._read()

    def _read(self) -> None:
        try:
            nodes = RemoteNode.objects.filter(is_active=True, may_send=True)
            self._ae_titles = frozenset(nodes.values_list("ae_title", flat=True))
        except DatabaseError as error:
            logger.warning("the node table cannot be read (%s): the last known callers stay", type(error).__name__)
            connection.close()
