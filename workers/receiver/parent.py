"""The first process of the receiver: it opens the ports, forks those who accept, and replaces those that die.

It has no threads and answers nobody itself. The ports stay open while a child is replaced, so no caller is turned away.
"""

import ctypes
import gc
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from workers.receiver.publisher import Publisher
from workers.receiver.slots import Slots

logger = logging.getLogger(__name__)

TICK_S = 0.2
STATUS_S = 2.0
RESTART_PAUSE_S = 0.5
STOP_PATIENCE_S = 10.0
BACKLOG = 128
_PR_SET_PDEATHSIG = 1
_FIRST_PASSED_DESCRIPTOR = 3  # sd_listen_fds(3)
_libc = ctypes.CDLL(None, use_errno=True)


def open_port(address: str, port: int) -> socket.socket:
    """A listening socket that is not shared with strangers. Raises OSError when the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, port), family=family, backlog=BACKLOG, reuse_port=False)
    listener.setblocking(False)
    return listener


def passed_ports() -> dict[str, socket.socket]:
    """The sockets that systemd has opened for us, by their FileDescriptorName; none when it has not."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    passed = {}
    for number in range(int(os.environ.get("LISTEN_FDS", "0"))):
        listener = socket.socket(fileno=_FIRST_PASSED_DESCRIPTOR + number)
        listener.setblocking(False)
        passed[names[number] if number < len(names) else str(number)] = listener
    return passed


class Parent:
    """`run_child` is what a forked process does; it returns when the process has been told to end."""

    def __init__(
        self, processes: int, run_child: Callable[[], None], slots: Slots, publisher: Publisher, status_file: Path
    ) -> None:
        self._wanted, self._run_child = processes, run_child
        self._slots, self._publisher, self._status_file = slots, publisher, status_file
        self._children: dict[int, float] = {}
        self._fork_at = float("-inf")
        self._status_at = float("-inf")
        self._is_stopping = False

    def run(self) -> None:
        """Until `stop`."""
        gc.collect()
        gc.freeze()  # pages that no collection touches stay shared with the children
        while not self._is_stopping:
            self._reap()
            self._publisher.keep_running()
            self._fork_missing()
            self._write_status()
            time.sleep(TICK_S)
        self._end_children()
        self._publisher.stop()
        self._status_file.unlink(missing_ok=True)

    def stop(self) -> None:
        """End `run`; for signal handlers."""
        self._is_stopping = True

    def _fork_missing(self) -> None:
        while len(self._children) < self._wanted and time.monotonic() >= self._fork_at:
            parent = os.getpid()
            try:
                child = os.fork()
            except OSError as error:  # no memory, no process left: those that run go on
                logger.error("no receiving process can be started: %s", error.strerror)  # noqa: TRY400
                self._fork_at = time.monotonic() + RESTART_PAUSE_S
                return
            if child == 0:
                self._be_child(parent)
            self._children[child] = time.monotonic()

    def _be_child(self, parent: int) -> None:
        """Never returns."""
        status = 1
        try:
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                self._run_child()
                status = 0
        except Exception:  # the edge of the process
            logger.exception("a receiving process ended with an unexpected error")
        finally:
            logging.shutdown()
            os._exit(status)

    def _reap(self) -> None:
        for child, started_at in list(self._children.items()):
            ended, status = os.waitpid(child, os.WNOHANG)
            if not ended:
                continue
            del self._children[child]
            self._slots.free_all_of(child)
            if not self._is_stopping:
                logger.error("receiving process %d ended with %d", child, os.waitstatus_to_exitcode(status))
                if time.monotonic() - started_at < RESTART_PAUSE_S:  # it cannot work: no rush
                    self._fork_at = time.monotonic() + RESTART_PAUSE_S

    def _write_status(self) -> None:
        """What the doctor reads; a full disk must not end the receiver."""
        if time.monotonic() - self._status_at < STATUS_S:
            return
        self._status_at = time.monotonic()
        associations, connecting = self._slots.counts()
        status = {
            "written_at": time.time(),
            "processes": len(self._children),
            "associations": associations,
            "connecting": connecting,
        }
        with suppress(OSError):
            self._status_file.parent.mkdir(mode=0o700, exist_ok=True)
            fresh = self._status_file.with_suffix(".new")
            fresh.write_text(json.dumps(status))
            fresh.replace(self._status_file)

    def _end_children(self) -> None:
        self._signal_children(signal.SIGTERM)
        deadline = time.monotonic() + STOP_PATIENCE_S
        while self._children and time.monotonic() < deadline:
            self._reap()
            time.sleep(TICK_S / 4)
        self._signal_children(signal.SIGKILL)
        for child in self._children:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)

    def _signal_children(self, number: signal.Signals) -> None:
        for child in self._children:
            with suppress(ProcessLookupError):
                os.kill(child, number)
