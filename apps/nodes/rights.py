"""What a calling application entity may do, for processes that must know it while the database is away.

A thread reads the node table every 2 s and keeps the last good answer. Who is not in the table may nothing.
"""

import logging
import socket
import threading
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from django.conf import settings
from django.db import DatabaseError, connection

from apps.core.errors import DicomsysError
from apps.nodes.models import RemoteNode

logger = logging.getLogger(__name__)

REFRESH_S = 2.0
NAMES_KEPT_S = 60.0  # how long the addresses of a host name are believed


@dataclass(frozen=True)
class Rights:
    """What one caller may. is_known: it may connect and send C-ECHO."""

    is_known: bool = False
    may_send: bool = False
    may_query: bool = False

    def __or__(self, other: "Rights") -> "Rights":
        return Rights(
            self.is_known or other.is_known, self.may_send or other.may_send, self.may_query or other.may_query
        )


NOTHING, EVERYTHING = Rights(), Rights(True, True, True)


class CallerRights:
    """Rights by calling AE title and address; several nodes of one AE title are told apart by their addresses."""

    def __init__(self) -> None:
        self._by_caller: dict[tuple[str, str], Rights] = {}
        self._names: dict[str, tuple[float, frozenset[str]]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True, name="caller-rights")

    def of(self, ae_title: str, address: str) -> Rights:
        """What this calling AE title may from this address; nothing where it is not known."""
        address = plain_address(address)
        if ip_address(address).is_loopback:
            if settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS:
                return EVERYTHING
            if ae_title == settings.AE_TITLE:  # the doctor
                return Rights(is_known=True)
        return self._by_caller.get((ae_title, address), NOTHING)

    def start(self) -> None:
        """Read once, then keep reading in a daemon thread."""
        self.read()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its database connection."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def read(self) -> None:
        """Read the table once; where it cannot be read the last known rights stay."""
        try:
            columns = ("ae_title", "host", "may_send", "may_query")
            nodes = list(RemoteNode.objects.filter(is_active=True).values_list(*columns))
        except (DatabaseError, DicomsysError) as error:
            logger.warning("the node table cannot be read (%s): the last known rights stay", type(error).__name__)
            connection.close()
            return
        found: dict[tuple[str, str], Rights] = {}
        for ae_title, host, may_send, may_query in nodes:
            for address in self._addresses(host):
                key = ae_title.strip(), address
                found[key] = found.get(key, NOTHING) | Rights(True, may_send, may_query)
        self._by_caller = found

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self.read()
        connection.close()

    def _addresses(self, host: str) -> frozenset[str]:
        looked_up_at, known = self._names.get(host, (float("-inf"), frozenset()))
        if time.monotonic() - looked_up_at > NAMES_KEPT_S:
            known = _look_up(host) or known
            self._names[host] = time.monotonic(), known
        return known


def plain_address(address: str) -> str:
    """The address as it is compared: an IPv4 address stays one when it comes through an IPv6 socket."""
    parsed = ip_address(address)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)


def _look_up(host: str) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        logger.warning("the address of %s cannot be looked up: who calls from there is not known", host)
        return frozenset()
    return frozenset(plain_address(str(entry[4][0])) for entry in found)
