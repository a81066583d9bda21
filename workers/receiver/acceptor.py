"""One process of the receiver: accepts on the shared sockets, one blocking thread a connection."""

import logging
import selectors
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import replace

from workers.receiver.association import Association, Desk, Peer
from workers.receiver.slots import NoSlotError
from workers.receiver.stream import timeval
from workers.receiver.tls import TlsContexts

logger = logging.getLogger(__name__)

POLL_S = 0.5
NO_DESCRIPTOR_PAUSE_S = 0.2
STOP_PATIENCE_S = 5.0


class Acceptor:
    """`listeners` are non-blocking and shared with other processes; `tls` says which of them speak TLS, and how."""

    def __init__(self, listeners: list[socket.socket], tls: dict[int, TlsContexts], desk: Desk) -> None:
        self._listeners, self._tls = listeners, tls
        self._stop = threading.Event()
        self._desk = replace(desk, should_stop=self._stop.is_set)
        self._open: dict[threading.Thread, socket.socket] = {}
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Accept until `stop`; then end what is open, letting a message that is under way arrive."""
        with selectors.DefaultSelector() as selector:
            for listener in self._listeners:
                selector.register(listener, selectors.EVENT_READ)
            while not self._stop.is_set():
                for key, _ in selector.select(POLL_S):
                    self._accept(key.fileobj)  # type: ignore[arg-type]
        self._end_all()

    def stop(self) -> None:
        """End `serve`; safe in a signal handler and from other threads."""
        self._stop.set()

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            return  # another process was quicker, or the caller is gone
        except OSError as error:  # no descriptor or no memory left: the caller waits in the backlog
            logger.error("a connection cannot be accepted: %s", error.strerror)  # noqa: TRY400
            time.sleep(NO_DESCRIPTOR_PAUSE_S)
            return
        try:
            slot = self._desk.slots.connect()
        except NoSlotError:
            connection.close()
            return
        thread = threading.Thread(
            target=self._serve_one, args=(connection, address, slot, self._tls.get(listener.fileno())), daemon=True
        )
        with self._lock:
            self._open[thread] = connection
        try:
            thread.start()
        except RuntimeError:  # no more threads may be started: this caller is turned away, the others stay
            logger.error("a connection cannot be served: no thread is left")  # noqa: TRY400
            self._forget(thread, connection, slot)

    def _serve_one(
        self, connection: socket.socket, address: tuple[str, int], slot: int, tls: TlsContexts | None
    ) -> None:
        thread = threading.current_thread()
        try:
            self._tune(connection)
            if tls is not None:
                connection = self._wrap(connection, tls)
                with self._lock:
                    self._open[thread] = connection
            peer = Peer(address[0].removeprefix("::ffff:"), address[1], tls is not None)
            Association(connection, peer, slot, self._desk).serve()
        except OSError as error:  # the TLS handshake failed, or the caller is gone
            logger.info("a connection from %s came to nothing (%s)", address[0], type(error).__name__)
        except Exception:  # the edge: one association must not hurt the others
            logger.exception("an association ended with an unexpected error")
        finally:
            self._forget(thread, connection, slot)

    def _forget(self, thread: threading.Thread, connection: socket.socket, slot: int) -> None:
        connection.close()
        self._desk.slots.free(slot)
        with self._lock:
            self._open.pop(thread, None)

    def _tune(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # DICOM knows no urgent data
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(self._desk.timeouts.message_s))

    def _wrap(self, connection: socket.socket, tls: TlsContexts) -> ssl.SSLSocket:
        connection.settimeout(self._desk.timeouts.request_s)
        return tls.current().wrap_socket(connection, server_side=True)

    def _end_all(self) -> None:
        deadline = time.monotonic() + STOP_PATIENCE_S
        with self._lock:
            threads = dict(self._open)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for thread, connection in threads.items():
            if thread.is_alive():
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                thread.join(1)
