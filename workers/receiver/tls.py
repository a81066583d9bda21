"""DICOM TLS (PS3.15 B.12, BCP 195): the context, renewed when its files change, and the way to the other services."""

import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_S = 2.0
PUMP_TICK_S = 1.0
CHUNK_BYTES = 64 * 1024


class TlsContexts:
    """The present TLS context. A changed certificate serves new associations; open ones keep theirs."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """`client_ca`: whose certificates callers must show; None takes callers without one. Raises OSError."""
        self._files = certificate, key, client_ca
        self._lock = threading.Lock()
        self._stamp = self._stamp_now()
        self._context = self._load()
        self._looked_at = time.monotonic()

    def current(self) -> ssl.SSLContext:
        """The context of the newest files that fit together; looked at every 2 s."""
        with self._lock:
            if time.monotonic() - self._looked_at >= LOOK_S:
                self._looked_at = time.monotonic()
                self._renew()
            return self._context

    def _renew(self) -> None:
        try:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._context, self._stamp = self._load(), stamp
                logger.info("new DICOM TLS certificate in use")
        except OSError as error:  # SSLError is one: half of the files may be written
            logger.warning("the changed DICOM TLS certificate cannot be used yet (%s)", type(error).__name__)

    def _stamp_now(self) -> list[tuple[int, int]]:
        stats = [path.stat() for path in self._files if path]
        return [(stat.st_mtime_ns, stat.st_ino) for stat in stats]

    def _load(self) -> ssl.SSLContext:
        certificate, key, client_ca = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM")
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        context.load_cert_chain(certificate, key)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def pump(
    outside: socket.socket, inside: socket.socket, first: bytes, patience_s: float, should_stop: Callable[[], bool]
) -> None:
    """Carry bytes both ways until one side ends, or takes nothing for `patience_s`; `first` was read already.

    One thread for both ways: a TLS session must not be read and written at once.
    """
    try:
        outside.settimeout(PUMP_TICK_S)
        _send(inside, first, patience_s)
        while not should_stop():
            for source in _readable(outside, inside):
                chunk = _receive(source)
                if chunk == b"":
                    return
                if chunk:
                    _send(inside if source is outside else outside, chunk, patience_s)
    except OSError:
        return


def _send(target: socket.socket, chunk: bytes, patience_s: float) -> None:
    """A reader may be slower than a tick. Raises TimeoutError, an OSError."""
    target.settimeout(patience_s)
    target.sendall(chunk)
    target.settimeout(PUMP_TICK_S)


def _readable(outside: socket.socket, inside: socket.socket) -> list[socket.socket]:
    if isinstance(outside, ssl.SSLSocket) and outside.pending():
        return [outside]
    return select.select([outside, inside], [], [], PUMP_TICK_S)[0]


def _receive(source: socket.socket) -> bytes | None:
    try:
        return source.recv(CHUNK_BYTES)
    except (TimeoutError, ssl.SSLWantReadError):
        return None
