"""A C-STORE SCU that writes every byte itself, so that it can write them wrongly."""

import socket
import struct

from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import A_ASSOCIATE, ImplementationClassUIDNotification, MaximumLengthNotification
from pynetdicom.presentation import build_context

CT, VERIFICATION = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.1"
COMMAND, LAST = 1, 2


def associate_rq(syntaxes=(CT, VERIFICATION), calling="SENDER", called="DICOMSYS", items=(), max_pdu=16384) -> bytes:
    """An A-ASSOCIATE-RQ; the contexts get the IDs 1, 3, 5 …; `items` are added to the user information."""
    request = A_ASSOCIATE()
    request.application_context_name = "1.2.840.10008.3.1.1.1"
    request.calling_ae_title, request.called_ae_title = calling, called
    contexts = []
    for number, syntax in enumerate(syntaxes):
        uid, transfer_syntaxes = syntax if isinstance(syntax, tuple) else (syntax, [ExplicitVRLittleEndian])
        contexts.append(build_context(UID(uid), transfer_syntaxes))
        contexts[-1].context_id = 2 * number + 1
    request.presentation_context_definition_list = contexts
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received, implementation.implementation_class_uid = max_pdu, "1.2.3"
    request.user_information = [length, implementation, *items]
    return A_ASSOCIATE_RQ(request).encode()


def command(field: int, message_id=1, data_set=False, sop_class=CT, sop_instance=None) -> bytes:
    """A command set."""

    def element(number, value):
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHL", 0, number, len(value)) + value

    body = b"" if sop_class is None else element(0x0002, sop_class.encode())
    body += element(0x0100, struct.pack("<H", field)) + element(0x0110, struct.pack("<H", message_id))
    body += element(0x0700, b"\0\0") if field == 1 else b""
    body += element(0x0800, struct.pack("<H", 0x0001 if data_set else 0x0101))
    body += b"" if sop_instance is None else element(0x1000, sop_instance.encode())
    return element(0x0000, struct.pack("<L", len(body))) + body


def pdv(context_id: int, flags: int, content: bytes) -> bytes:
    """A presentation data value item."""
    return struct.pack(">LBB", len(content) + 2, context_id, flags) + content


def p_data(*items: bytes) -> bytes:
    """A P-DATA-TF PDU of some fragments."""
    content = b"".join(items)
    return struct.pack(">BBL", 4, 0, len(content)) + content


def store(content: bytes, sop_instance: str, context_id=1, message_id=1, sop_class=CT) -> bytes:
    """A whole C-STORE in two PDUs."""
    head = command(0x0001, message_id, True, sop_class, sop_instance)
    return p_data(pdv(context_id, COMMAND | LAST, head)) + p_data(pdv(context_id, LAST, content))


class RawScu:
    """A connection, and what comes back on it."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, content: bytes) -> None:
        self.socket.sendall(content)

    def associate(self, **request) -> A_ASSOCIATE_AC:
        """Send a request; the acceptance. Fails on any other answer."""
        self.send(associate_rq(**request))
        pdu = self.read_pdu()
        assert pdu[0] == 2, pdu
        accepted = A_ASSOCIATE_AC()
        accepted.decode(pdu)
        return accepted

    def read_pdu(self) -> bytes:
        """The next whole PDU; empty at the end of the connection."""
        head = self._read(6)
        return head + self._read(struct.unpack(">L", head[2:])[0]) if head else b""

    def _read(self, count: int) -> bytes:
        content = b""
        while len(content) < count:
            try:
                chunk = self.socket.recv(count - len(content))
            except ConnectionResetError:
                return b""
            if not chunk:
                return b""
            content += chunk
        return content

    def read_status(self) -> int:
        """The status of the next response."""
        pdu = self.read_pdu()
        assert pdu[:1] == b"\x04", pdu
        at = pdu.index(struct.pack("<HHL", 0, 0x0900, 2))
        return struct.unpack_from("<H", pdu, at + 8)[0]
