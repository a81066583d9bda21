"""One association of the DICOM port from its first byte to its last (PS3.8 7, 9)."""

import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from apps.storage.spool import Spool
from workers.receiver.batches import Batches
from workers.receiver.command import abort, rejection, release_response
from workers.receiver.conversation import Conversation, Counters
from workers.receiver.handover import hand_over
from workers.receiver.negotiation import (
    APPLICATION_CONTEXT,
    REQUEST_BYTES_MAX,
    Request,
    RequestError,
    acceptance,
    accepted,
    negotiate,
    read_request,
)
from workers.receiver.room import Room
from workers.receiver.rules import Caller, Rejection, Rules
from workers.receiver.slots import NoSlotError, Slots
from workers.receiver.stream import (
    INVALID_PARAMETER,
    LONG_TICK_S,
    NOT_SPECIFIED,
    SHORT_TICK_S,
    UNEXPECTED_PDU,
    UNRECOGNIZED_PDU,
    ProtocolError,
    Released,
    Stream,
    StreamEnd,
    TimedOut,
    timeval,
)
from workers.receiver.tls import pump

logger = logging.getLogger(__name__)

ASSOCIATE_RQ = 1
PEEKED_BYTES_MAX = 64 * 1024  # what surely fits into the kernel's buffer
CLOSE_PATIENCE_S = 1.0
# PS3.8 table 9-21: result, source, reason
NO_SUCH_VERSION = Rejection(1, 2, 2, "another protocol version")
NO_SUCH_APPLICATION = Rejection(1, 1, 2, "another application context")
TEMPORARY_CONGESTION = Rejection(2, 3, 1, "the other DICOM services are not running")
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)


class Journal(Counters, Protocol):
    """Where it is written down who came."""

    def opened(self, calling: str, address: str) -> None:
        """An association was accepted."""

    def rejected(self, caller: Caller, rejection: Rejection) -> None:
        """An association was rejected."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of silence that are borne."""

    request_s: float  # before the A-ASSOCIATE-RQ is whole (ARTIM, PS3.8 9.1.5)
    message_s: float  # within a message
    idle_s: float  # between messages


@dataclass(frozen=True, slots=True)
class Desk:
    """What every association of a process needs."""

    spool: Spool
    room: Room
    rules: Rules
    journal: Journal
    slots: Slots
    publish: Callable[[str], None]
    timeouts: Timeouts
    accepts_unknown_classes: bool = True
    should_stop: Callable[[], bool] = field(default=lambda: False)


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end."""

    address: str
    port: int
    is_tls: bool


class Association:
    """Serves one connection; whatever happens, it is closed at the end and what was acknowledged is kept."""

    def __init__(self, connection: socket.socket, peer: Peer, slot: int, desk: Desk) -> None:
        self._connection, self._peer, self._slot, self._desk = connection, peer, slot, desk
        self._batches = Batches(desk.spool, desk.publish)
        self._stream = Stream(connection, self._tick)
        self._conversation: Conversation | None = None
        self._is_unread = True
        self._is_handed_over = False
        self._deadline = time.monotonic() + desk.timeouts.request_s
        self._looked_at = 0.0

    def serve(self) -> None:
        """The whole story; raises nothing that a peer could cause."""
        try:
            self._stream.set_tick(LONG_TICK_S)
            self._talk()
        except Released:
            self._settle()
            with suppress(StreamEnd):
                self._stream.send(release_response())
            if refusals := self._refusals():
                logger.warning("association with %s ended: released%s", self._peer.address, refusals)
        except ProtocolError as error:
            self._abort(error.reason, str(error))
        except TimedOut as error:
            self._abort(NOT_SPECIFIED, str(error))
        except StreamEnd as end:
            logger.info("association with %s ended: %s%s", self._peer.address, end, self._refusals())
        finally:
            self._settle()
            if self._is_handed_over:
                self._connection.close()  # our descriptor; the connection lives on
            else:
                self._stream.close(CLOSE_PATIENCE_S)

    def _settle(self) -> None:
        """Before the peer hears of the end: it may call again at once."""
        self._batches.close()
        self._desk.slots.disassociate(self._slot)

    def _abort(self, reason: int, words: str) -> None:
        self._settle()
        logger.warning("aborted the association with %s: %s%s", self._peer.address, words, self._refusals())
        with suppress(StreamEnd):
            self._stream.send(abort(reason))

    def _refusals(self) -> str:
        return self._conversation.refusals if self._conversation else ""

    def _talk(self) -> None:
        pdu = self._read_request_pdu()
        try:
            request = read_request(pdu)
        except RequestError as error:
            raise ProtocolError(INVALID_PARAMETER, str(error)) from error
        if refusal := self._refusal(request):
            self._reject(request, refusal)
        elif request.wants_other_services:
            self._hand_over(pdu, request)
        else:
            self._accept(pdu, request)

    # --- The request

    def _read_request_pdu(self) -> bytes:
        """The whole A-ASSOCIATE-RQ; left unread where the connection may have to be handed over as it is."""
        self._is_unread = not self._peer.is_tls
        head = self._stream.peek(6) if self._is_unread else self._stream.read(6)
        length = int.from_bytes(head[2:6], "big")
        if head[0] != ASSOCIATE_RQ:
            reason = UNEXPECTED_PDU if 1 < head[0] < 8 else UNRECOGNIZED_PDU
            raise ProtocolError(reason, f"begins with PDU type {head[0]}")
        if length > REQUEST_BYTES_MAX:
            raise ProtocolError(INVALID_PARAMETER, "an A-ASSOCIATE-RQ of more than a megabyte")
        if self._is_unread and length <= PEEKED_BYTES_MAX:
            return self._stream.peek(6 + length)
        if self._is_unread:
            self._stream.read(6)
            self._is_unread = False
        return head + self._stream.read(length)

    def _refusal(self, request: Request) -> Rejection | None:
        if not request.protocol_version & 1:
            return NO_SUCH_VERSION
        if request.application_context != APPLICATION_CONTEXT:
            return NO_SUCH_APPLICATION
        only_senders = not request.wants_other_services  # what others may is decided where they are served
        caller, only_verifies = self._caller(request), request.only_verifies
        if refusal := self._desk.rules.decide(caller, only_senders=only_senders, only_verifies=only_verifies):
            return refusal
        try:
            limit = self._desk.rules.max_associations(request.calling_ae_title)
            self._desk.slots.associate(self._slot, request.calling_ae_title, limit)
        except NoSlotError as error:
            return Rejection(*LOCAL_LIMIT_EXCEEDED, str(error))
        return None

    def _caller(self, request: Request) -> Caller:
        return Caller(
            request.calling_ae_title,
            request.called_ae_title,
            self._peer.address,
            self._peer.is_tls,
            request.user_identity,
        )

    def _reject(self, request: Request, refusal: Rejection) -> None:
        self._desk.journal.rejected(self._caller(request), refusal)
        logger.warning(
            "rejected an association of %r from %s: %s", request.calling_ae_title, self._peer.address, refusal.words
        )
        self._stream.send(rejection(refusal.result, refusal.source, refusal.reason))

    # --- Handed over: what the other process serves

    def _hand_over(self, pdu: bytes, request: Request) -> None:
        ours, theirs = (None, self._connection) if self._is_unread else socket.socketpair()
        try:
            self._prepare_hand_over(theirs)
            hand_over(theirs, self._peer.address, self._peer.port, self._peer.is_tls, request.calling_ae_title)
        except OSError:
            if self._is_unread:
                self._stream.read(len(pdu))
            self._reject(request, TEMPORARY_CONGESTION)
            return
        if ours is None:
            self._is_handed_over = True
            return
        theirs.close()
        with ours:
            pump(self._connection, ours, pdu, self._desk.timeouts.message_s, self._desk.should_stop)

    def _prepare_hand_over(self, connection: socket.socket) -> None:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # they travel with the descriptor
            connection.setsockopt(socket.SOL_SOCKET, option, timeval(0))

    # --- Served here

    def _accept(self, pdu: bytes, request: Request) -> None:
        if self._is_unread:
            self._stream.read(len(pdu))
        results = negotiate(request, self._desk.accepts_unknown_classes)
        titles = request.calling_ae_title, request.called_ae_title
        self._conversation = Conversation(
            accepted(results),
            titles,
            self._batches,
            self._desk.room,
            self._desk.journal,
            self._desk.accepts_unknown_classes,
        )
        self._desk.journal.opened(request.calling_ae_title, self._peer.address)
        self._stream.send(acceptance(pdu, request, results))
        self._converse(self._conversation)

    def _converse(self, conversation: Conversation) -> None:
        stream, batches = self._stream, self._batches
        while True:
            if answer := conversation.take(stream.next_piece()):
                stream.send(answer)
            stream.set_tick(SHORT_TICK_S if batches.holds_files else LONG_TICK_S)
            if stream.heard_at - self._looked_at > SHORT_TICK_S:  # a steady, slow sender leaves no silence
                self._looked_at = stream.heard_at
                batches.close_if_due()

    def _tick(self) -> None:
        """The peer was silent for a moment. Raises TimedOut."""
        self._batches.close_if_due()
        silent_s = time.monotonic() - self._stream.heard_at
        limits = self._desk.timeouts
        if self._conversation is None:
            if time.monotonic() > self._deadline:
                raise TimedOut(f"no whole A-ASSOCIATE-RQ within {limits.request_s:g} s")
        elif self._conversation.is_within_message:
            if silent_s > limits.message_s:
                raise TimedOut(f"silent for {limits.message_s:g} s within a message")
            return
        elif silent_s > limits.idle_s:
            raise TimedOut(f"silent for {limits.idle_s:g} s")
        if self._desk.should_stop():
            raise TimedOut("the receiver is being stopped")
