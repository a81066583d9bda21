"""The other DICOM services: C-FIND, and C-STORE and C-ECHO beside it, on connections that the receiver hands over."""

import logging
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from struct import pack
from typing import Any

from django.conf import settings
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, Association, _config, evt
from pynetdicom.transport import AssociationServer

from apps.core.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from apps.nodes.rights import CallerRights
from apps.nodes.sockets import PeerSocket
from apps.storage.spool import Spool
from workers.receiver.handover import Handover
from workers.receiver.journal import Journal
from workers.receiver.room import Room
from workers.receiver.rules import UNKNOWN, WRONG_CALLED, Caller, Rejection
from workers.services.database import Database
from workers.services.door import BusyError, Door
from workers.services.find import LEVELS, Finder
from workers.services.store import Storer

logger = logging.getLogger(__name__)

VERIFICATION = UID("1.2.840.10008.1.1")  # PS3.4 A.4
MAX_PDU_BYTES = 131072
SPARE_ASSOCIATIONS = 10  # beyond the limit: they are told "local limit exceeded" instead of nothing
END_PATIENCE_S = 5.0
TIDY_S = 1.0


class HandedServer(AssociationServer):
    """pynetdicom's server without a port of its own."""

    def server_bind(self) -> None:
        """The receiver has bound it."""

    def server_activate(self) -> None:
        """The receiver listens."""


class Services:
    """One AE, and the local socket by which its connections come."""

    def __init__(self, spool: Spool, room: Room, rights: CallerRights, journal: Journal) -> None:
        self._rights, self._journal, self._database = rights, journal, Database()
        self._finder = Finder(rights, self._database)
        self._storer = Storer(spool, room, rights, journal, self._database)
        self._ae, self._stop = _make_ae(), threading.Event()
        self._server = HandedServer(
            self._ae,
            (settings.DICOM_ADDRESS, settings.DICOM_PORT),
            settings.AE_TITLE,
            self._ae.supported_contexts,
            evt_handlers=self._handlers(),
        )
        self._server.server_close()  # it has made a socket all the same
        self.is_listening = threading.Event()

    def serve(self, path: Path) -> None:
        """Answer until `stop`. Raises OSError when another process listens at this path."""
        door, tidied_at = Door(path, self), time.monotonic()
        logger.info("serving as %s", settings.AE_TITLE)
        self.is_listening.set()
        try:
            while not self._stop.is_set():
                door.turn()
                if time.monotonic() - tidied_at > TIDY_S:
                    tidied_at = time.monotonic()
                    self._server.service_actions()  # collects the threads of ended associations
        finally:
            door.close()
            self._end_associations()
            self._storer.stop()
            self._database.stop()

    def stop(self) -> None:
        """End `serve`; open associations are aborted, what was acknowledged stays."""
        self._stop.set()

    def check_room(self) -> None:
        """Raise BusyError when no connection can be taken."""
        if len(self._ae.active_associations) >= settings.DICOM_MAX_ASSOCIATIONS + SPARE_ASSOCIATIONS:
            raise BusyError("too many associations")

    def take(self, connection: socket.socket, handover: Handover) -> None:
        """Serve one connection in a thread of its own; an error costs only this one."""
        try:
            self._server.process_request(_tuned(connection), (handover.address, handover.port))
        except Exception:  # the edge: other connections go on
            logger.exception("a connection from %s could not be served", handover.address)
            connection.close()

    def state(self) -> dict[str, int]:
        """Figures for the doctor."""
        return {"associations": len(self._ae.active_associations), "limit": settings.DICOM_MAX_ASSOCIATIONS}

    def _handlers(self) -> list[Any]:
        ends = (evt.EVT_RELEASED, evt.EVT_ABORTED, evt.EVT_CONN_CLOSE)
        return [
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_ACCEPTED, self._count),
            (evt.EVT_C_FIND, self._finder.answer),
            (evt.EVT_C_STORE, self._storer.store),
            *((end, self._storer.association_ended) for end in ends),
        ]

    def _check_caller(self, event: evt.Event) -> None:
        """The receiver has asked its rules already; what is not known here is refused all the same."""
        requestor: Any = event.assoc.requestor
        caller = Caller(
            requestor.primitive.calling_ae_title, requestor.primitive.called_ae_title, requestor.address or ""
        )
        rights = self._rights.of(caller.calling_ae_title, caller.address)
        if not self._rights.answers_to(caller.called_ae_title):
            self._reject(event, caller, WRONG_CALLED)
        elif not rights.is_known:
            self._reject(event, caller, UNKNOWN)
        elif not rights.may_query:
            allowed = [each for each in event.assoc.acceptor.supported_contexts if each.abstract_syntax not in LEVELS]
            event.assoc.acceptor.supported_contexts = allowed

    def _reject(self, event: evt.Event, caller: Caller, refusal: Rejection) -> None:
        self._journal.rejected(caller, refusal)
        logger.warning(
            "rejected an association of %r from %s: %s", caller.calling_ae_title, caller.address, refusal.words
        )
        event.assoc.acse.send_reject(refusal.result, refusal.source, refusal.reason)
        event.assoc.kill()  # waits until the answer is on its way; the socket is closed right after the handler

    def _count(self, event: evt.Event) -> None:
        self._journal.opened(event.assoc.requestor.ae_title, event.assoc.requestor.address or "")

    def _end_associations(self) -> None:
        for association in self._ae.active_associations:
            if association.is_established:
                association.abort(block=False)
            else:
                _hang_up(association)
        deadline = time.monotonic() + END_PATIENCE_S
        while self._ae.active_associations and time.monotonic() < deadline:
            time.sleep(0.02)
        for association in self._ae.active_associations:  # a peer that takes nothing: its thread waits to send
            _hang_up(association)


def _hang_up(association: Association) -> None:
    """End a connection without a word, also one whose thread waits for its A-ASSOCIATE-RQ."""
    wrapper: Any = association.dul.socket
    if wrapper is not None:
        wrapper.close()
    association.dul.to_user_queue.put(None)  # as if that time-out were over


def _make_ae() -> AE:
    _config.UNRESTRICTED_STORAGE_SERVICE = True  # every storage class, private and unknown ones too
    ae = AE(ae_title=settings.AE_TITLE)
    ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    ae.maximum_associations = settings.DICOM_MAX_ASSOCIATIONS
    ae.maximum_pdu_size = MAX_PDU_BYTES
    ae.acse_timeout = settings.DICOM_ACSE_TIMEOUT_S
    ae.dimse_timeout = settings.DICOM_DIMSE_TIMEOUT_S
    ae.network_timeout = settings.DICOM_NETWORK_TIMEOUT_S
    for sop_class in (VERIFICATION, *LEVELS):
        ae.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    return ae


def _tuned(connection: socket.socket) -> PeerSocket:
    """The same connection, quick to answer and never waiting for ever, whatever the receiver had set."""
    tuned = PeerSocket(fileno=connection.detach())
    with suppress(OSError):  # a Unix socket: the receiver ends TLS and sends at once
        tuned.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        tuned.setsockopt(socket.SOL_SOCKET, option, pack("@ll", 0, 0))
    tuned.patience_s = settings.DICOM_NETWORK_TIMEOUT_S
    tuned.settimeout(None)
    return tuned
