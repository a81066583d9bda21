"""The services process inside this one, and a port whose connections are handed over to it as the receiver does."""

import socket
import threading
from collections.abc import Iterator

import pytest
from django.conf import settings

from apps.nodes.rights import CallerRights
from apps.storage.spool import Spool
from tests.peers import orthanc, orthanc_process, tcp_peer  # noqa: F401
from workers.receiver.handover import hand_over
from workers.services.server import Services


@pytest.fixture
def rights(transactional_db) -> CallerRights:
    """Who may what, read from the table when a test says so."""
    return CallerRights()


@pytest.fixture
def services(rights) -> Iterator[Services]:
    """C-FIND, C-STORE and C-ECHO behind the local socket."""
    running = Services(Spool(settings.SPOOL_DIR), rights)
    thread = threading.Thread(target=running.serve, args=(settings.SERVICES_SOCKET,))
    thread.start()
    assert running.is_listening.wait(10)
    yield running
    running.stop()
    thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def front(services, tcp_peer):  # noqa: F811
    """A DICOM port on loopback; each of its connections is handed over unread."""

    def serve(connection: socket.socket) -> None:
        hand_over(connection, *connection.getpeername(), False, "")

    return tcp_peer(serve)
