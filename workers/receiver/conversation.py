"""The messages of one association: C-ECHO and C-STORE are served, all else is answered as PS3.7 says.

Success is answered only when the object would survive a power cut (PS3.4 B.2.3 has the statuses).
"""

import logging
import time
from collections.abc import Mapping
from typing import Protocol

from apps.core.errors import RetryableError
from apps.storage.part10 import part10_head
from apps.storage.spool import Incoming
from workers.receiver.batches import Batches
from workers.receiver.command import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    CANNOT_UNDERSTAND,
    COMMAND_BYTES_MAX,
    NO_SUCH_SOP_CLASS,
    NOT_ITS_DATA_SET,
    OUT_OF_RESOURCES,
    RESPONSE,
    SUCCESS,
    UNRECOGNIZED_OPERATION,
    Command,
    CommandError,
    is_usable_uid,
    read_command,
    response,
)
from workers.receiver.identity import Identity
from workers.receiver.negotiation import VERIFICATION, Context, is_storage
from workers.receiver.room import Room
from workers.receiver.stream import INVALID_PARAMETER, Piece, ProtocolError

logger = logging.getLogger(__name__)


class Counters(Protocol):
    """Where it is counted what was stored and what was refused."""

    def stored(self, calling: str, instances: int, size_bytes: int) -> None:
        """Instances were acknowledged."""

    def refused(self, calling: str, dimse_status: int) -> None:
        """A C-STORE was answered with a failure."""


class Conversation:
    """Takes the pieces of one association in order; `take` returns an answer whenever a message is complete."""

    def __init__(
        self,
        contexts: Mapping[int, Context],
        ae_titles: tuple[str, str],
        batches: Batches,
        room: Room,
        counters: Counters,
        accepts_unknown_classes: bool = True,
    ) -> None:
        self._contexts, self._batches, self._room, self._counters = contexts, batches, room, counters
        self._calling, self._called = ae_titles
        self._accepts_unknown_classes = accepts_unknown_classes
        self._raw = bytearray()  # of the command set
        self._context_id: int | None = None
        self._command: Command | None = None  # whose data set is expected
        self._status = SUCCESS
        self._file: Incoming | None = None
        self._head = b""
        self._identity: Identity | None = None
        self._size = 0
        self._refused_count = 0
        self._first_refusal = ""

    @property
    def is_within_message(self) -> bool:
        """Whether the peer has begun a message and not ended it."""
        return self._context_id is not None

    def take(self, piece: Piece) -> bytes | None:
        """The next piece; the answer when it ends a message that has one. Raises ProtocolError."""
        self._check_context(piece)
        if piece.is_command:
            return self._take_command(piece)
        if self._command is None:
            raise ProtocolError(INVALID_PARAMETER, "a data set that no command announced")
        self._take_data(piece.content)
        return self._end_data_set(self._command) if piece.is_last else None

    def _check_context(self, piece: Piece) -> None:
        if self._context_id is None:
            if piece.context_id not in self._contexts:
                raise ProtocolError(INVALID_PARAMETER, "a presentation context that was not accepted")
            self._context_id = piece.context_id
        elif piece.context_id != self._context_id:
            raise ProtocolError(INVALID_PARAMETER, "two messages at once")

    # --- The command set

    def _take_command(self, piece: Piece) -> bytes | None:
        if self._command is not None:
            raise ProtocolError(INVALID_PARAMETER, "a command where a data set was announced")
        self._raw += piece.content
        if len(self._raw) > COMMAND_BYTES_MAX:
            raise ProtocolError(INVALID_PARAMETER, "a command set that is too long")
        if not piece.is_last:
            return None
        try:
            command = read_command(self._raw)
        except CommandError as error:
            raise ProtocolError(INVALID_PARAMETER, str(error)) from error
        self._raw.clear()
        return self._begin(command, piece.context_id)

    def _begin(self, command: Command, context_id: int) -> bytes | None:
        self._status = self._begin_store(command) if command.field == C_STORE_RQ else _status_of(command)
        if command.has_data_set:
            self._command = command
            return None
        self._context_id = None
        if command.field == C_CANCEL_RQ or command.field & RESPONSE:  # nothing runs here that could be cancelled
            return None
        return response(command, self._status, context_id)

    def _begin_store(self, command: Command) -> int:
        """The status that is known before the data set comes; where it is Success, the file is open."""
        context = self._contexts[self._context_id or 0]
        if context.abstract_syntax == VERIFICATION:
            return self._refuse(NO_SUCH_SOP_CLASS, "C-STORE in a context of verification")
        if not (
            command.has_data_set and is_usable_uid(command.sop_class_uid) and is_usable_uid(command.sop_instance_uid)
        ):
            return self._refuse(CANNOT_UNDERSTAND, "its UIDs or its data set are missing")
        sop_class, sop_instance = command.sop_class_uid or b"", command.sop_instance_uid or b""
        if not is_storage(sop_class.decode(), self._accepts_unknown_classes):
            return self._refuse(NO_SUCH_SOP_CLASS, "its SOP class is not stored here")
        try:
            self._room.check()
            self._file = self._batches.begin()
        except (OSError, RetryableError) as error:
            return self._refuse(OUT_OF_RESOURCES, _words(error))
        self._head = part10_head(
            sop_class.decode(), sop_instance.decode(), context.transfer_syntax_uid, self._calling, self._called
        )
        self._identity = Identity(sop_class, sop_instance, context.transfer_syntax_uid)
        self._size = 0
        return SUCCESS

    # --- The data set

    def _take_data(self, content: memoryview) -> None:
        if self._file is None:
            return  # it is refused, but has to be read
        if self._identity is not None:
            self._identity.feed(content)
        self._size += len(content)
        try:
            if self._head:
                self._file.write(self._head, content)
                self._head = b""
            else:
                self._file.write(content)
        except OSError as error:
            self._status = self._refuse(OUT_OF_RESOURCES, _words(error))

    def _end_data_set(self, command: Command) -> bytes | None:
        if self._file is not None:
            self._end_file()
        answer = response(command, self._status, self._context_id or 0)
        self._command = self._context_id = self._file = self._identity = None
        return None if command.field & RESPONSE else answer

    def _end_file(self) -> None:
        if self._identity is not None and self._identity.is_another:
            self._status = self._refuse(NOT_ITS_DATA_SET, "the data set is not the one that the request names")
            return
        try:
            self._batches.commit()
        except OSError as error:
            self._status = self._refuse(OUT_OF_RESOURCES, _words(error))
            return
        self._counters.stored(self._calling, 1, self._size)
        if pause_s := self._room.pause_s:
            time.sleep(pause_s)

    def _refuse(self, status: int, words: str) -> int:
        self._batches.discard()
        self._file = None
        self._counters.refused(self._calling, status)
        self._refused_count += 1
        if self._refused_count == 1:
            self._first_refusal = f"0x{status:04X}, {words}"
            if status == OUT_OF_RESOURCES:  # not only at the end of the association, which may be far
                logger.error("C-STORE refused with %s", self._first_refusal)
        return status

    @property
    def refusals(self) -> str:
        """What was refused, for the one line that tells how the association went; empty when nothing was."""
        if not self._refused_count:
            return ""
        return f"; {self._refused_count} C-STORE refused, the first with {self._first_refusal}"


def _status_of(command: Command) -> int:
    return SUCCESS if command.field == C_ECHO_RQ else UNRECOGNIZED_OPERATION


def _words(error: Exception) -> str:
    """Never the path: its last part is harmless, but nobody has to rely on that."""
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else str(error)
