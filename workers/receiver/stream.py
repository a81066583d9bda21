"""The bytes of one association: PDUs and the fragments in them, parsed while they arrive (PS3.8 9.3, annex E).

No PDU is ever held whole: a fragment is handed on in the pieces in which the network brings it.
"""

import select
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from typing import NamedTuple

P_DATA, RELEASE_RQ, ABORT = 4, 5, 7
# Reasons of A-ABORT (PS3.8 table 9-26)
NOT_SPECIFIED, UNRECOGNIZED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0, 1, 2, 6

PEEK_PAUSE_S = 0.05
BUFFER_BYTES = 256 * 1024
SHORT_TICK_S, LONG_TICK_S = 0.1, 1.0
_CONTROL_BYTES_MAX = 1 << 20  # an association PDU that comes too late
_KNOWN_PDUS = range(1, 8)

_pdu_head = Struct(">BBL")
_pdv_head = Struct(">LBB")
_timeval = Struct("@ll")


_SILENT = (BlockingIOError, TimeoutError, ssl.SSLWantReadError)


def timeval(seconds: float) -> bytes:
    """As the kernel wants it for SO_RCVTIMEO and SO_SNDTIMEO (socket(7)); 0 stands for no limit."""
    whole = int(seconds)
    return _timeval.pack(whole, int((seconds - whole) * 1_000_000))


class StreamEnd(Exception):  # noqa: N818 - the end of an association is no error
    """The peer released or aborted, or the connection is lost."""


class Released(StreamEnd):
    """A-RELEASE-RQ (PS3.8 9.3.6)."""


class Lost(StreamEnd):
    """A-ABORT, a closed or broken connection."""


class TimedOut(StreamEnd):
    """The peer was silent for too long."""


class ProtocolError(Exception):
    """What came is against PS3.8; `reason` belongs into the A-ABORT."""

    def __init__(self, reason: int, words: str) -> None:
        super().__init__(words)
        self.reason = reason


class Piece(NamedTuple):
    """A part of one fragment. `content` is valid until the next piece is asked for."""

    context_id: int
    is_command: bool
    is_last: bool  # of the message's command or data set: the fragment says so and this piece ends it
    content: memoryview


class Stream:
    """Reads a blocking socket; `on_tick` is called whenever the peer was silent for `tick_s`, and may raise."""

    def __init__(self, connection: socket.socket, on_tick: Callable[[], None]) -> None:
        self._connection = connection
        self._on_tick = on_tick
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._pdu_left = self._pdv_left = 0
        self._context_id = self._flags = 0
        self._tick_s = 0.0
        self._acknowledge_at_once = connection.family != socket.AF_UNIX
        self.heard_at = time.monotonic()

    def set_tick(self, seconds: float) -> None:
        """How long a receive waits before `on_tick`; a timer of the kernel, which costs nothing while data comes."""
        if seconds == self._tick_s:
            return
        self._tick_s = seconds
        if isinstance(self._connection, ssl.SSLSocket):  # it would wait on when the kernel's timer has run out
            self._connection.settimeout(seconds)
        else:
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(seconds))

    def peek(self, count: int) -> bytes:
        """So many bytes, left unread in the kernel; before anything was read. Raises StreamEnd."""
        seen = 0
        while True:
            try:
                found = self._connection.recv(count, socket.MSG_PEEK | socket.MSG_WAITALL)
            except BlockingIOError:
                found = None
            except OSError as error:
                raise Lost(f"the connection broke ({type(error).__name__})") from error
            if found is not None and len(found) == count:
                return found
            if found == b"" or self._has_peer_finished():
                raise Lost("closed by the peer")
            if found is not None and len(found) <= seen:  # the kernel did not wait: urgent data, perhaps
                time.sleep(PEEK_PAUSE_S)
            seen = len(found or b"")
            self._on_tick()

    def _has_peer_finished(self) -> bool:
        """Whether nothing more can come; else the kernel would answer a peek with the same bytes again and again."""
        poll = select.poll()
        poll.register(self._connection, select.POLLRDHUP)
        return bool(poll.poll(0))

    def read(self, count: int) -> bytes:
        """So many bytes, of a request or a release. Raises StreamEnd, also where they come too slowly."""
        chunks = []
        while count:
            self._need(1)
            size = min(count, self._end - self._start)
            chunks.append(bytes(self._view[self._start : self._start + size]))
            self._start += size
            count -= size
            if count:
                self._on_tick()  # bytes that drip leave no silence
        return b"".join(chunks)

    def next_piece(self) -> Piece:
        """What comes next of P-DATA-TF. Raises StreamEnd or ProtocolError."""
        while not self._pdv_left:
            if not self._pdu_left:
                self._begin_pdu()
            elif self._begin_pdv():
                return self._piece(0)  # an empty fragment may end a message
        if self._start == self._end:
            self._fill()
        return self._piece(min(self._pdv_left, self._end - self._start))

    def _piece(self, size: int) -> Piece:
        start = self._start
        self._start += size
        self._pdv_left -= size
        self._pdu_left -= size
        is_last = bool(self._flags & 2) and not self._pdv_left
        return Piece(self._context_id, bool(self._flags & 1), is_last, self._view[start : start + size])

    def _begin_pdu(self) -> None:
        self._need(6)
        kind, _, length = _pdu_head.unpack_from(self._buffer, self._start)
        self._start += 6
        if kind == P_DATA:
            self._pdu_left = length
            return
        if kind == ABORT:
            raise Lost("aborted by the peer")
        if kind == RELEASE_RQ and length == 4:
            self.read(4)
            raise Released("released")
        if kind in _KNOWN_PDUS and length <= _CONTROL_BYTES_MAX:
            raise ProtocolError(UNEXPECTED_PDU, f"PDU type {kind} is not expected here")
        raise ProtocolError(UNRECOGNIZED_PDU, f"PDU type {kind} is unknown")

    def _begin_pdv(self) -> bool:
        """Read the head of the next fragment; whether it is empty."""
        if self._pdu_left < 6:
            raise ProtocolError(INVALID_PARAMETER, "a PDU ends inside the head of a fragment")
        self._need(6)
        length, self._context_id, self._flags = _pdv_head.unpack_from(self._buffer, self._start)
        self._start += 6
        self._pdu_left -= 6
        if length < 2 or length - 2 > self._pdu_left:
            raise ProtocolError(INVALID_PARAMETER, "a fragment is longer than its PDU")
        self._pdv_left = length - 2
        return not self._pdv_left

    def _need(self, count: int) -> None:
        if self._start + count > BUFFER_BYTES:
            rest = bytes(self._view[self._start : self._end])
            self._view[: len(rest)] = rest
            self._start, self._end = 0, len(rest)
        while self._end - self._start < count:
            self._fill()

    def _fill(self) -> None:
        if self._start == self._end:
            self._start = self._end = 0
        while not (received := self._receive()):
            self._on_tick()
        self._end += received
        self.heard_at = time.monotonic()

    def _receive(self) -> int:
        """How many bytes came; 0 when none came within the tick. Raises Lost."""
        try:
            if self._acknowledge_at_once:  # the kernel forgets it again and again (tcp(7))
                self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            received = self._connection.recv_into(self._view[self._end :])
        except _SILENT:
            return 0
        except OSError as error:
            raise Lost(f"the connection broke ({type(error).__name__})") from error
        if not received:
            raise Lost("closed by the peer")
        return received

    def send(self, answer: bytes) -> None:
        """Send all of it. Raises Lost."""
        try:
            self._connection.sendall(answer)
        except OSError as error:
            raise Lost(f"the connection broke ({type(error).__name__})") from error

    def close(self, patience_s: float) -> None:
        """Say that nothing more comes, wait shortly for the peer to close first (PS3.8 9.2, Sta13), then close."""
        deadline = time.monotonic() + patience_s
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            self.set_tick(SHORT_TICK_S)
            while time.monotonic() < deadline:
                with suppress(*_SILENT):
                    if not self._connection.recv_into(self._view):
                        break
        self._connection.close()
