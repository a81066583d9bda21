"""The local socket of the services: connections that the receiver hands over, and what one may ask of this process."""

import json
import logging
import os
import selectors
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from apps.core.errors import DicomsysError
from apps.core.local_socket import STATE_REQUEST, listen, peer_user
from workers.receiver.handover import MESSAGE_BYTES, TAKEN, BadHandoverError, Handover

logger = logging.getLogger(__name__)

POLL_S = 0.1
PATIENCE_S = 2.0  # for a packet that does not come
CLIENTS_MAX = 64
_DESCRIPTORS = 4  # room for more than the one that is right, so that a wrong number is seen
_CUT = socket.MSG_TRUNC | socket.MSG_CTRUNC


class BusyError(DicomsysError):
    """The services cannot take another connection now."""


class Host(Protocol):
    """What stands behind the door."""

    def check_room(self) -> None:
        """Raise BusyError when no connection can be taken."""

    def take(self, connection: socket.socket, handover: Handover) -> None:
        """Serve a connection in a thread of its own; it belongs to the host from now on."""

    def state(self) -> dict[str, int]:
        """Figures for the doctor."""


class Door:
    """Takes packets one after the other, in the caller's thread; a wrong one costs only itself."""

    def __init__(self, path: Path, host: Host) -> None:
        self._host = host
        self._listener = listen(path)
        self._listener.setblocking(False)
        self._deadlines: dict[socket.socket, float] = {}
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)

    def turn(self) -> None:
        """Wait up to a tenth of a second for clients and answer those that are there."""
        for key, _ in self._selector.select(POLL_S):
            if key.fileobj is self._listener:
                self._accept()
            elif isinstance(key.fileobj, socket.socket):
                self._answer_and_drop(key.fileobj)
        now = time.monotonic()
        for client in [client for client, until in self._deadlines.items() if until < now]:
            self._drop(client)

    def close(self) -> None:
        """Listen no longer."""
        for client in list(self._deadlines):
            self._drop(client)
        self._selector.close()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # it went away again
            client, _ = self._listener.accept()
            user = peer_user(client)
            if user != os.getuid() or len(self._deadlines) >= CLIENTS_MAX:
                logger.warning("refused a process of user %d at the local socket", user)
                client.close()
                return
            client.setblocking(False)
            self._deadlines[client] = time.monotonic() + PATIENCE_S
            self._selector.register(client, selectors.EVENT_READ)

    def _drop(self, client: socket.socket) -> None:
        del self._deadlines[client]
        self._selector.unregister(client)
        client.close()

    def _answer_and_drop(self, client: socket.socket) -> None:
        try:
            packet, descriptors, flags, _ = socket.recv_fds(
                client, MESSAGE_BYTES, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
            connections = _sockets(descriptors)
            try:
                self._answer(client, packet, connections, is_cut=bool(flags & _CUT))
            finally:
                for connection in connections:
                    connection.close()  # without effect on one that was detached
        except OSError as error:
            logger.warning("a packet of the local socket was lost: %s", error.strerror)
        finally:
            self._drop(client)

    def _answer(self, client: socket.socket, packet: bytes, connections: list[socket.socket], is_cut: bool) -> None:
        if packet == STATE_REQUEST and not connections:
            client.send(json.dumps(self._host.state()).encode())
            return
        try:
            handover = _read(packet, connections, is_cut)
            self._host.check_room()
        except DicomsysError as error:
            logger.warning("a connection was not taken: %s", error)
            client.send(str(error).encode())
            return
        client.send(TAKEN)  # before it is served: a receiver that has given up (OSError) will answer the peer itself
        self._host.take(socket.socket(fileno=connections[0].detach()), handover)


def _sockets(descriptors: list[int]) -> list[socket.socket]:
    """What is no socket is closed; then their number is wrong."""
    found = []
    for descriptor in descriptors:
        try:
            found.append(socket.socket(fileno=descriptor))
        except OSError:
            os.close(descriptor)
    return found


def _read(packet: bytes, connections: list[socket.socket], is_cut: bool) -> Handover:
    if is_cut or len(connections) != 1:
        raise BadHandoverError("a packet carries one message and one descriptor")
    if connections[0].type != socket.SOCK_STREAM:
        raise BadHandoverError("the descriptor is no stream socket")
    return Handover.decode(packet)
