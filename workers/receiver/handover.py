"""From the receiver to the other DICOM services: an open connection whose A-ASSOCIATE-RQ nobody has read yet.

One connection of the local socket carries one message with one descriptor; the services answer it when they have
taken the descriptor, or say why they have not.
"""

import json
import socket
from dataclasses import asdict, dataclass
from ipaddress import ip_address

from django.conf import settings

from apps.core.errors import PermanentError
from apps.core.local_socket import connect

PATIENCE_S = 2.0
MESSAGE_BYTES = 4096
TAKEN = b"taken"


class BadHandoverError(PermanentError):
    """A message of the local socket that is none of ours."""


@dataclass(frozen=True)
class Handover:
    """What the services need to know of a connection and cannot ask its descriptor, which may be a Unix socket."""

    address: str
    port: int
    is_tls: bool
    calling_ae_title: str

    def encode(self) -> bytes:
        """As one packet."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, packet: bytes) -> "Handover":
        """The opposite. Raises BadHandoverError for whatever else it may be."""
        try:
            handover = cls(**json.loads(packet))
            ip_address(handover.address)
        except (ValueError, TypeError, RecursionError) as error:
            raise BadHandoverError(f"the packet is no hand-over ({type(error).__name__})") from None
        wanted = {"address": str, "port": int, "is_tls": bool, "calling_ae_title": str}
        if any(type(getattr(handover, name)) is not kind for name, kind in wanted.items()):
            raise BadHandoverError("the packet has values of other types")
        if not 0 <= handover.port <= 65535:
            raise BadHandoverError("the packet names no port")
        return handover


def hand_over(connection: socket.socket, address: str, port: int, is_tls: bool, calling_ae_title: str) -> None:
    """Give a connection to the services process; address and port are the peer's.

    When this returns, the services serve it and the caller closes its own descriptor, without shutting the connection
    down. Raises OSError when the services are away, busy or full: then the connection is still the caller's alone.
    """
    handover = Handover(address, port, is_tls, calling_ae_title)
    with connect(settings.SERVICES_SOCKET, PATIENCE_S) as services:
        socket.send_fds(services, [handover.encode()], [connection.fileno()])
        answer = services.recv(MESSAGE_BYTES)
    if answer != TAKEN:
        raise ConnectionRefusedError(answer.decode(errors="replace") or "the services closed the local socket")
