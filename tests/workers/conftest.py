"""A receiving process in a thread, on port 0; the services beside it, and a port that only hands over to them."""

import socket
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from django.conf import settings

from apps.nodes.rights import CallerRights
from apps.storage.spool import Spool
from tests.peers import orthanc, orthanc_process, tcp_peer, wait_until  # noqa: F401
from workers.receiver.acceptor import Acceptor
from workers.receiver.association import Desk, Timeouts
from workers.receiver.handover import hand_over
from workers.receiver.parent import open_port
from workers.receiver.room import Room
from workers.receiver.slots import Slots
from workers.services.server import Services


class Everyone:
    """Rules that know one called AE title and let everybody in."""

    def __init__(self, rejection=None, maximum=None):
        self.rejection, self.maximum, self.asked = rejection, maximum, []

    def decide(self, caller, *, only_senders=True, only_verifies=False):
        self.asked.append((caller, only_senders))
        return self.rejection

    def max_associations(self, calling_ae_title):
        return self.maximum


class Notes:
    """A journal in memory."""

    def __init__(self):
        self.opened_by, self.rejections, self.bytes, self.refusals = [], [], [], []

    def opened(self, calling, address):
        self.opened_by.append((calling, address))

    def rejected(self, caller, rejection):
        self.rejections.append((caller, rejection))

    def stored(self, calling, instances, size_bytes):
        self.bytes.append(size_bytes)

    def refused(self, calling, status):
        self.refusals.append(status)


class Running:
    """A receiver, and what it told others."""

    def __init__(self, desk: Desk, tls=None):
        self.desk, self.published = desk, []
        self.desk = replace(desk, publish=self.published.append)
        self.listener = open_port("127.0.0.1", 0)
        self.port = self.listener.getsockname()[1]
        contexts = {self.listener.fileno(): tls} if tls else {}
        self.acceptor = Acceptor([self.listener], contexts, self.desk)
        self.thread = threading.Thread(target=self.acceptor.serve)
        self.thread.start()

    @property
    def notes(self) -> Notes:
        return self.desk.journal

    def files(self):
        """The files in the spool, when none is in a batch that may move at any moment."""
        wait_until(lambda: not list(self.desk.spool.open_dir.glob("*/*.dcm")))
        return sorted(self.desk.spool.closed_dir.glob("*/*.dcm"))

    def stop(self):
        self.acceptor.stop()
        self.thread.join(20)
        self.listener.close()


@pytest.fixture
def start_receiver():
    running = []

    def start(tls=None, min_free_bytes=0, max_batches=1000, slow_batches=1000, associations=50, **changes):
        spool = Spool(settings.SPOOL_DIR, min_free_bytes)
        desk = Desk(
            spool=spool,
            room=Room(spool, slow_batches, max_batches),
            rules=Everyone(),
            journal=Notes(),
            slots=Slots(associations + 20, associations),
            publish=print,
            timeouts=Timeouts(10, 10, 10),
        )
        running.append(Running(replace(desk, **changes), tls))
        return running[-1]

    yield start
    for receiver in running:
        receiver.stop()


@pytest.fixture
def rights(transactional_db) -> CallerRights:
    """Who may what, read from the table when a test says so."""
    return CallerRights()


@pytest.fixture
def services(rights) -> Iterator[Services]:
    """C-FIND, C-STORE and C-ECHO behind the local socket."""
    spool = Spool(settings.SPOOL_DIR)
    running = Services(spool, Room(spool, 1000, 1000), rights, Notes())
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
