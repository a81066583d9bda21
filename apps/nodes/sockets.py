"""The TCP socket below an association: fast answers, no endless wait, and a remembered reason for a failed connect.

pynetdicom 3.0 offers no place for any of this, so `PeerEntity` uses one private method of it. Where a later version
no longer calls that method, associations still work: slower, and a failed connect has no reason.
"""

import socket
from contextlib import suppress
from typing import Any

from pynetdicom import AE
from pynetdicom.transport import AssociationSocket

_QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class PeerSocket(socket.socket):
    """A client socket for lock-step messages.

    pynetdicom writes a message's command and data set apart: with Nagle's algorithm and the delayed acknowledgements
    of both sides, each request waits 40 to 90 ms. TCP_NODELAY and TCP_QUICKACK, which the kernel drops again after
    each use, take the wait away.
    """

    patience_s: float | None = None
    connect_error: OSError | None = None

    def connect(self, address: Any) -> None:
        """Connect; an OSError is remembered in `connect_error` and raised."""
        try:
            super().connect(address)
        except OSError as error:
            self.connect_error = error
            raise
        self.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def settimeout(self, value: float | None) -> None:
        """No time-out means `patience_s`: a peer that falls silent within a PDU must not hold the thread for ever."""
        super().settimeout(self.patience_s if value is None else value)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive; what arrives is acknowledged at once."""
        if _QUICKACK is not None:
            with suppress(OSError):  # not a TCP socket, or already shut down: recv says so
                self.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return super().recv(bufsize, flags)


class PeerEntity(AE):
    """An AE whose outgoing association uses a PeerSocket."""

    peer_socket: PeerSocket | None = None

    def _create_socket(self, *args: Any, **kwargs: Any) -> AssociationSocket:
        wrapper = super()._create_socket(*args, **kwargs)
        if wrapper.socket is not None:
            self.peer_socket = wrapper.socket = PeerSocket(fileno=wrapper.socket.detach())
            self.peer_socket.patience_s = self.network_timeout
        return wrapper

    @property
    def connect_error(self) -> OSError | None:
        """Why the last connect failed, where that is known."""
        return self.peer_socket.connect_error if self.peer_socket else None
