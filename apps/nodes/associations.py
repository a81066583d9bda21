"""Associations that we open (PS3.8 7.1): time-outs, fast sockets, and a reason in plain words when one fails.

No text and no log line of this module carries more than AE titles, addresses and what the peer's software said.
"""

import errno
import logging
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.conf import settings
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config, build_context, evt
from pynetdicom.association import Association
from pynetdicom.pdu import A_ABORT_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext

from apps.core.errors import DicomsysError
from apps.core.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from apps.nodes.errors import PeerRefusedError, PeerUnavailableError
from apps.nodes.sockets import PeerEntity

logger = logging.getLogger(__name__)

# What is sent and received describes people: never formatted for a log, never quoted in a warning.
_config.LOG_HANDLER_LEVEL = "none"
_config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
pydicom_config.settings.reading_validation_mode = pydicom_config.IGNORE

RELEASE_PATIENCE_S = 5  # the work is done by then: a peer that never confirms the release is left

PERMANENT, TRANSIENT = 1, 2  # PS3.8 9.3.4: result
BY_USER, BY_ACSE, BY_PRESENTATION = 1, 2, 3  # source
_REJECTIONS: dict[tuple[int, int], str] = {  # source and reason
    (BY_USER, 1): "it gave no reason. Its log may tell; often it does not know our AE title {we} or our address",
    (BY_USER, 2): "it does not support the DICOM application context. Check that this port speaks DICOM",
    (BY_USER, 3): "it does not know our AE title. Have {we} added on that system, with the address of this machine",
    (BY_USER, 7): "it is not called {peer}. Ask for its AE title, capitals matter, and correct it in the node",
    (BY_ACSE, 1): "its network layer gave no reason. Its log may tell",
    (BY_ACSE, 2): "it does not support our protocol version. Check that this port speaks DICOM",
    (BY_PRESENTATION, 1): "it is busy at the moment. Try again later",
    (BY_PRESENTATION, 2): "it has as many connections as it allows. Try again later, or have its limit raised",
}


class Peer(Protocol):
    """Where an application entity is; RemoteNode is one."""

    @property
    def ae_title(self) -> str:
        """The called AE title."""

    @property
    def host(self) -> str:
        """Host name or address."""

    @property
    def port(self) -> int:
        """TCP port."""


@dataclass
class _Trace:
    """What went over the wire at the end of an association."""

    accepted: bool = False
    aborted_by_us: bool = False
    aborted_by_peer: bool = False

    def handlers(self) -> list[Any]:
        return [
            (evt.EVT_ACCEPTED, self._note_accepted),
            (evt.EVT_PDU_SENT, self._note_sent),
            (evt.EVT_PDU_RECV, self._note_received),
        ]

    def _note_accepted(self, event: evt.Event) -> None:
        self.accepted = True

    def _note_sent(self, event: evt.Event) -> None:
        self.aborted_by_us |= isinstance(event.pdu, A_ABORT_RQ)

    def _note_received(self, event: evt.Event) -> None:
        self.aborted_by_peer |= isinstance(event.pdu, A_ABORT_RQ)


@dataclass
class PeerAssociation:
    """An established association with one peer."""

    peer: Peer
    association: Association
    _trace: _Trace = field(repr=False)

    def ready(self, service: str) -> Association:
        """The association, about to be asked for `service`. Raises PeerUnavailableError when it is over already."""
        if not self.association.is_established:
            raise self.no_answer(service)
        return self.association

    def status_of(self, service: str, answer: Dataset) -> int:
        """The status of an answer (16 bits). Raises PeerUnavailableError where there is no answer, with the reason.

        pynetdicom hands over an empty data set when the peer aborted, closed the connection, answered nonsense or
        kept silent until the DIMSE time-out; then the association is over.
        """
        if "Status" in answer:
            return int(answer.Status)
        raise self.no_answer(service)

    def abort(self) -> None:
        """End the association now; a thread that waits for an answer is told that there is none."""
        _abort(self.association)

    def no_answer(self, service: str) -> PeerUnavailableError:
        """The error of an association that ended, or was given up, before `service` was answered."""
        where = describe(self.peer)
        if self._trace.aborted_by_peer:
            return PeerUnavailableError(f"{where} aborted the association during {service}. Its log may tell why.")
        if self._trace.aborted_by_us:
            return PeerUnavailableError(
                f"{where} did not answer {service} in time, or not in valid DICOM. It may be overloaded; try again."
            )
        return PeerUnavailableError(
            f"{where} closed the connection during {service}. It may have been restarted; try again."
        )


@contextmanager
def associate(
    peer: Peer,
    contexts: Sequence[str | PresentationContext],
    *,
    handlers: Sequence[Any] = (),
    dimse_timeout_s: float | None = None,
) -> Iterator[PeerAssociation]:
    """An association with `peer`, released at the end of the block, aborted when the block raises.

    contexts holds abstract syntax UIDs (offered in Explicit and Implicit VR Little Endian) or whole presentation
    contexts; handlers are pynetdicom's (event, function) pairs; dimse_timeout_s replaces the setting. Raises
    PeerUnavailableError or PeerRefusedError, whose texts say what to check. Blocks up to the sum of the time-outs for
    connect and ACSE.
    """
    entity, trace = _make_entity(dimse_timeout_s), _Trace()
    association = _open(entity, peer, [_context(each) for each in contexts], [*trace.handlers(), *handlers])
    if not association.is_established:
        raise _refusal(peer, entity, association, trace)
    try:
        yield PeerAssociation(peer, association, trace)
    except BaseException:
        _abort(association)
        raise
    association.acse_timeout = min(RELEASE_PATIENCE_S, settings.DICOM_ACSE_TIMEOUT_S)
    association.release()


def describe(peer: Peer) -> str:
    """The peer as errors and logs name it: AE title, host and port."""
    return f"{peer.ae_title} at {peer.host} port {peer.port}"


def _abort(association: Association) -> None:
    if association.is_established:
        association.abort()
    association.dimse.msg_queue.put((None, None))  # as pynetdicom does when a peer aborts: wakes a thread that reads


def _context(context: str | PresentationContext) -> PresentationContext:
    if isinstance(context, PresentationContext):
        return context
    return build_context(context, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])


def _make_entity(dimse_timeout_s: float | None) -> PeerEntity:
    entity = PeerEntity(ae_title=settings.AE_TITLE)
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = settings.DICOM_CONNECT_TIMEOUT_S
    entity.acse_timeout = settings.DICOM_ACSE_TIMEOUT_S
    entity.dimse_timeout = settings.DICOM_DIMSE_TIMEOUT_S if dimse_timeout_s is None else dimse_timeout_s
    entity.network_timeout = settings.DICOM_NETWORK_TIMEOUT_S
    return entity


def _open(entity: PeerEntity, peer: Peer, contexts: list[PresentationContext], handlers: list[Any]) -> Association:
    try:
        return entity.associate(peer.host, peer.port, contexts, peer.ae_title, evt_handlers=handlers)
    except socket.gaierror as error:
        raise _unknown_name(peer, error) from error


def _unknown_name(peer: Peer, error: socket.gaierror) -> DicomsysError:
    if error.errno == socket.EAI_AGAIN:
        return PeerUnavailableError(
            f"The address of {peer.host} could not be looked up just now. Check this machine's name server."
        )
    return PeerRefusedError(f"No machine called {peer.host} is known here. Check the spelling, or use its IP address.")


def _refusal(peer: Peer, entity: PeerEntity, association: Association, trace: _Trace) -> DicomsysError:
    """Why there is no association, in the order in which one is made."""
    where = describe(peer)
    if entity.connect_error is not None:
        return _unreachable(peer, entity.connect_error)
    if association.is_rejected:
        return _rejected(peer, association.acceptor.primitive)
    if trace.accepted:
        return PeerRefusedError(
            f"{where} accepted the connection and none of the services asked for. "
            f"Check on that system that {settings.AE_TITLE} may use them."
        )
    if trace.aborted_by_peer:
        return PeerUnavailableError(
            f"{where} aborted while the association was made. "
            f"It may not know our AE title {settings.AE_TITLE}; its log may tell."
        )
    if trace.aborted_by_us:
        return PeerUnavailableError(
            f"{where} took the connection and did not answer within {settings.DICOM_ACSE_TIMEOUT_S} s. "
            "Check that this port speaks DICOM without TLS, and that the system is not overloaded."
        )
    return PeerUnavailableError(
        f"{where} closed the connection without an answer. "
        "Check that this port speaks DICOM without TLS, and that connections from this machine are allowed."
    )


def _unreachable(peer: Peer, error: OSError) -> DicomsysError:
    where = f"{peer.host} port {peer.port}"
    if isinstance(error, ConnectionRefusedError):
        text = f"Nothing listens at {where}. Check that the system is running, and its port."
    elif isinstance(error, TimeoutError):
        text = (
            f"{where} did not answer within {settings.DICOM_CONNECT_TIMEOUT_S:g} s. "
            "Check the address, that the machine is on, and that no firewall is between."
        )
    elif error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        text = f"There is no way to {where}. Check the address, and this machine's network."
    else:
        text = f"The connection to {where} failed ({type(error).__name__}). Check the address and the network."
    return PeerUnavailableError(text)


def _rejected(peer: Peer, answer: A_ASSOCIATE | None) -> DicomsysError:
    """PS3.8 9.3.4: a transient rejection may be repeated, a permanent one needs a change first."""
    result = getattr(answer, "result", PERMANENT)
    source, reason = getattr(answer, "result_source", 0), getattr(answer, "diagnostic", 0)
    words = _REJECTIONS.get((source, reason), f"its reason {source}/{reason} is not in the standard. Its log may tell")
    text = f"{describe(peer)} rejected the association: {words.format(we=settings.AE_TITLE, peer=peer.ae_title)}."
    return PeerUnavailableError(text) if result == TRANSIENT else PeerRefusedError(text)
