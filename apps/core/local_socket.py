"""Unix sockets between processes of this machine and user: one message a packet. Plain Python.

A socket's address holds 108 bytes; a path may be longer, so it is named through an open descriptor of its folder.
"""

import errno
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import calcsize, unpack

BACKLOG = 64
STATE_REQUEST = b"state"
_STATE_BYTES = 4096
_CREDENTIALS = "3i"  # struct ucred: process, user, group (unix(7))


def connect(path: Path, timeout_s: float) -> socket.socket:
    """A connection to the process that listens at `path`. Raises OSError when there is none, or it is too busy."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(timeout_s)
        with _short(path) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def ask_state(path: Path, timeout_s: float) -> dict[str, int]:
    """The figures that a listening process tells of itself. Raises OSError, ValueError."""
    with connect(path, timeout_s) as connection:
        connection.send(STATE_REQUEST)
        return dict(json.loads(connection.recv(_STATE_BYTES)))


def listen(path: Path) -> socket.socket:
    """A listener at `path`, for its owner only; what a dead process left there is replaced.

    Raises OSError (EADDRINUSE) where a living process listens.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_second(path)
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        with _short(fresh) as address:
            listener.bind(address)
        fresh.chmod(0o600)
        listener.listen(BACKLOG)
        fresh.rename(path)
    except BaseException:
        listener.close()
        fresh.unlink(missing_ok=True)
        raise
    return listener


def peer_user(connection: socket.socket) -> int:
    """The user id of the process at the other end, as the kernel knows it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, calcsize(_CREDENTIALS))
    return int(unpack(_CREDENTIALS, raw)[1])


def _refuse_second(path: Path) -> None:
    with suppress(FileNotFoundError, ConnectionRefusedError):
        connect(path, 1.0).close()
        raise OSError(errno.EADDRINUSE, "another process listens there", str(path))


@contextmanager
def _short(path: Path) -> Iterator[str]:
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
