"""The upper layer protocol by hand (PS3.8 9.3, PS3.7 9.3): a C-STORE sender that can be slow, wrong or dead."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from struct import pack, unpack_from

from tests.lots import SOP_CLASS_UID, TRANSFER_SYNTAX_UID

APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
VERIFICATION_UID = "1.2.840.10008.1.1"
ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
HEAD_BYTES = 6
NO_DATA_SET, WITH_DATA_SET = 0x0101, 0x0001
C_STORE_RQ, C_ECHO_RQ = 0x0001, 0x0030
CALLED, CALLING = "DICOMSYS", "TORTURE"
Context = tuple[int, str, Sequence[str]]  # id, abstract syntax, transfer syntaxes
STORAGE: list[Context] = [(1, SOP_CLASS_UID, [TRANSFER_SYNTAX_UID]), (3, VERIFICATION_UID, ["1.2.840.10008.1.2"])]


class GoneError(Exception):
    """The peer ended the connection, aborted or rejected."""


def pdu(kind: int, body: bytes) -> bytes:
    """One PDU."""
    return pack(">BxL", kind, len(body)) + body


def item(kind: int, body: bytes) -> bytes:
    """One item of A-ASSOCIATE."""
    return pack(">BxH", kind, len(body)) + body


def associate_rq(
    contexts: Sequence[Context] = STORAGE,
    calling: str = CALLING,
    called: str = CALLED,
    max_pdu: int = 16384,
    more_user_items: bytes = b"",
) -> bytes:
    """A-ASSOCIATE-RQ."""
    body = pack(">Hxx16s16s32x", 1, called.ljust(16).encode(), calling.ljust(16).encode())
    body += item(0x10, APPLICATION_CONTEXT)
    for context_id, abstract_syntax, transfer_syntaxes in contexts:
        offered = b"".join(item(0x40, syntax.encode()) for syntax in transfer_syntaxes)
        body += item(0x20, pack(">Bxxx", context_id) + item(0x30, abstract_syntax.encode()) + offered)
    user = item(0x51, pack(">L", max_pdu)) + item(0x52, b"1.2.826.0.1.3680043.9.9") + more_user_items
    return pdu(ASSOCIATE_RQ, body + item(0x50, user))


def p_data(context_id: int, fragment: bytes, *, is_command: bool, is_last: bool = True) -> bytes:
    """P-DATA-TF with one fragment."""
    return pdu(P_DATA, pack(">LBB", len(fragment) + 2, context_id, is_command | is_last << 1) + fragment)


def fragments(context_id: int, data_set: bytes, size: int) -> Iterator[bytes]:
    """The PDUs of a data set cut into fragments of that size."""
    for start in range(0, max(len(data_set), 1), size):
        is_last = start + size >= len(data_set)
        yield p_data(context_id, data_set[start : start + size], is_command=False, is_last=is_last)


def command(elements: dict[int, bytes]) -> bytes:
    """A command set, implicit VR little endian, with its group length (PS3.7 6.3.1)."""
    body = b"".join(pack("<HHL", 0, number, len(value)) + value for number, value in sorted(elements.items()))
    return pack("<HHLL", 0, 0, 4, len(body)) + body


def uid(value: str) -> bytes:
    """A UID of even length."""
    return value.encode() + b"\0" * (len(value) % 2)


def store_rq(sop_instance_uid: str, message_id: int = 1, sop_class_uid: str = SOP_CLASS_UID) -> bytes:
    """The command set of C-STORE-RQ."""
    return command(
        {
            0x0002: uid(sop_class_uid),
            0x0100: pack("<H", C_STORE_RQ),
            0x0110: pack("<H", message_id),
            0x0700: pack("<H", 0),
            0x0800: pack("<H", WITH_DATA_SET),
            0x1000: uid(sop_instance_uid),
        }
    )


def echo_rq(message_id: int = 1) -> bytes:
    """The command set of C-ECHO-RQ."""
    return command(
        {
            0x0002: uid(VERIFICATION_UID),
            0x0100: pack("<H", C_ECHO_RQ),
            0x0110: pack("<H", message_id),
            0x0800: pack("<H", NO_DATA_SET),
        }
    )


def elements(raw: bytes) -> dict[int, bytes]:
    """A command set as element number → value."""
    found, at = {}, 0
    while at + 8 <= len(raw):
        _, number, length = unpack_from("<HHL", raw, at)
        found[number] = raw[at + 8 : at + 8 + length]
        at += 8 + length
    return found


def split(stream: bytes) -> list[bytes]:
    """The whole PDUs at the start of a recorded stream."""
    found, at = [], 0
    while at + HEAD_BYTES <= len(stream):
        end = at + HEAD_BYTES + unpack_from(">L", stream, at + 2)[0]
        if end > len(stream):
            break
        found.append(stream[at:end])
        at = end
    return found


class RejectedError(GoneError):
    """A-ASSOCIATE-RJ; `reason` is result, source and reason (PS3.8 9.3.4)."""

    def __init__(self, reason: tuple[int, int, int]) -> None:
        super().__init__(f"rejected {reason}")
        self.reason = reason


@dataclass
class Sender:
    """One association, every call with a time-out. Raises GoneError and TimeoutError."""

    port: int
    timeout_s: float = 20.0
    calling: str = CALLING
    called: str = CALLED
    fragment_bytes: int = 16000

    def __enter__(self) -> "Sender":
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=self.timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._message_id = 0
        try:
            self.send(associate_rq(calling=self.calling, called=self.called))
            self._expect(ASSOCIATE_AC)
        except (GoneError, OSError):
            self.socket.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError, GoneError):
            self.send(pdu(RELEASE_RQ, bytes(4)))
            self._expect(RELEASE_RP)
        self.socket.close()

    def store(self, sop_instance_uid: str, data_set: bytes) -> int:
        """The status that was answered."""
        self._message_id = self._message_id % 0xFFFF + 1
        self.send(p_data(1, store_rq(sop_instance_uid, self._message_id), is_command=True))
        for fragment in fragments(1, data_set, self.fragment_bytes):
            self.send(fragment)
        return self._status()

    def echo(self) -> int:
        """The status that was answered."""
        self.send(p_data(3, echo_rq(), is_command=True))
        return self._status()

    def send(self, content: bytes) -> None:
        """Raises GoneError where the peer is away."""
        try:
            self.socket.sendall(content)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise GoneError from error

    def _status(self) -> int:
        body = self._expect(P_DATA)
        return int.from_bytes(elements(body[6:])[0x0900], "little")

    def _expect(self, kind: int) -> bytes:
        head = self._receive(HEAD_BYTES)
        body = self._receive(unpack_from(">L", head, 2)[0])
        if head[0] == ASSOCIATE_RJ:
            raise RejectedError((body[1], body[2], body[3]))
        if head[0] != kind:
            raise GoneError(f"PDU type {head[0]} instead of {kind}")
        return body

    def _receive(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            try:
                more = self.socket.recv(size - len(content))
            except ConnectionResetError as error:
                raise GoneError from error
            if not more:
                raise GoneError("the connection was ended")
            content += more
        return content
