"""Host names to addresses, with an end: the system's own look-up knows no time-out. Plain Python."""

import queue
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

from apps.nodes.titles import read_address

TIMEOUT_S = 5.0
THREADS_MAX = 16


@dataclass(frozen=True, slots=True)
class Resolution:
    """The addresses of one host name, sorted; or none, and why in words."""

    addresses: tuple[str, ...] = ()
    error: str = ""


def resolve(hosts: Iterable[str], timeout_s: float = TIMEOUT_S) -> dict[str, Resolution]:
    """Every host with its addresses; all together take at most `timeout_s`. An address is its own answer."""
    found, names = {}, []
    for host in dict.fromkeys(hosts):
        address = read_address(host)
        if address is None:
            names.append(host)
        else:
            found[host] = Resolution((str(address),))
    return found | _look_up(names, timeout_s)


def _look_up(names: list[str], timeout_s: float) -> dict[str, Resolution]:
    """In daemon threads: one that the system's look-up holds is left behind and ends when that does."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    answers: queue.SimpleQueue[tuple[str, Resolution]] = queue.SimpleQueue()
    for name in names:
        waiting.put(name)
    for _ in range(min(len(names), THREADS_MAX)):
        threading.Thread(target=_work, args=(waiting, answers), daemon=True, name="resolving").start()
    found = {name: Resolution(error=f"the name server did not answer within {timeout_s:g} s") for name in names}
    end = time.monotonic() + timeout_s
    for _ in names:
        try:
            name, resolution = answers.get(timeout=max(0.0, end - time.monotonic()))
        except queue.Empty:
            break
        found[name] = resolution
    return found


def _work(waiting: "queue.SimpleQueue[str]", answers: "queue.SimpleQueue[tuple[str, Resolution]]") -> None:
    while True:
        try:
            name = waiting.get_nowait()
        except queue.Empty:
            return
        answers.put((name, _ask(name)))


def _ask(name: str) -> Resolution:
    try:
        rows = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
            return Resolution(error="the name server does not answer")
        return Resolution(error="no machine of this name is known here")
    addresses = {str(read_address(str(row[4][0])) or row[4][0]) for row in rows}
    return Resolution(tuple(sorted(addresses)))
