"""What a calling application entity may do, for processes that must know it while the database is away.

A thread reads the node table every 2 s and keeps the last good answer. Who is not in the table may nothing.
"""

import logging
import threading
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from django.conf import settings
from django.db import DatabaseError, connection

from apps.core.errors import DicomsysError
from apps.nodes.models import CalledTitle, RemoteNode
from apps.nodes.titles import Address, bare, read_address

logger = logging.getLogger(__name__)

REFRESH_S = 2.0


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


@dataclass(frozen=True)
class _Entry:
    """One node; networks is None where its address is not checked."""

    networks: tuple[IPv4Network | IPv6Network, ...] | None
    rights: Rights

    def is_at(self, address: Address) -> bool:
        return self.networks is None or any(address in network for network in self.networks)


class CallerRights:
    """Rights by calling AE title and address; several nodes of one AE title are told apart by their addresses."""

    def __init__(self) -> None:
        self._entries: dict[str, list[_Entry]] = {}
        self._called: frozenset[str] = frozenset()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True, name="caller-rights")

    def of(self, ae_title: str, address: str) -> Rights:
        """What this calling AE title may from this address; nothing where it is not known."""
        at = read_address(address)
        if at is None:
            return NOTHING
        if at.is_loopback and settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS:
            return EVERYTHING
        own = at.is_loopback or at == read_address(settings.DICOM_ADDRESS)
        found = Rights(is_known=own and bare(ae_title) == bare(settings.AE_TITLE))  # the doctor
        for entry in self._entries.get(bare(ae_title), ()):
            if entry.is_at(at):
                found |= entry.rights
        return found

    def answers_to(self, called_ae_title: str) -> bool:
        """Whether we are called so."""
        return bare(called_ae_title) in self._called | {bare(settings.AE_TITLE)}

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
        """Read the tables once; where they cannot be read the last known rights stay."""
        try:
            nodes = list(RemoteNode.objects.filter(is_active=True))
            called = frozenset(bare(title) for title in CalledTitle.objects.values_list("ae_title", flat=True))
        except (DatabaseError, DicomsysError) as error:
            logger.warning("the node table cannot be read (%s): the last known rights stay", type(error).__name__)
            connection.close()
            return
        entries: dict[str, list[_Entry]] = {}
        for node in nodes:
            entries.setdefault(bare(node.ae_title), []).append(_entry(node))
        self._entries, self._called = entries, called

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self.read()
        connection.close()


def _entry(node: RemoteNode) -> _Entry:
    networks = tuple(map(ip_network, node.allowed_addresses)) if node.check_address else None
    return _Entry(networks, Rights(True, node.may_send, node.may_query))
