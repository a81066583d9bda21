"""Tells ingest of closed batches, from a process of its own: the receiver never waits for the broker.

The names come through a local socket that holds some hundreds of them. A name that finds it full is dropped: the sweep
publishes what lies in the spool for more than 15 s.
"""

import logging
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress

from celery import current_app
from django.conf import settings
from django.utils.log import configure_logging
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError

from apps.core.queue import STORE_BATCH

logger = logging.getLogger(__name__)

NAME_BYTES_MAX = 255
PAUSE_S = 2.0
RESTART_PAUSE_S = 1.0


class Publisher:
    """The receiver's end. Made before the fork; every process may publish, the first one keeps the other end alive."""

    def __init__(self) -> None:
        self._sending, self._reading = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._sending.setblocking(False)
        self._started_at = float("-inf")
        self.process: subprocess.Popen[bytes] | None = None

    def publish(self, batch_name: str) -> None:
        """Hand a name over without waiting; full means dropped."""
        try:
            self._sending.send(batch_name.encode())
        except OSError:
            logger.warning("batch %s waits for the sweep: the publisher is behind", batch_name)

    def keep_running(self) -> None:
        """Start the process, and again when it died; not more than once a second."""
        if self.process is not None and self.process.poll() is None:
            return
        if time.monotonic() - self._started_at < RESTART_PAUSE_S:
            return
        if self.process is not None:
            logger.warning("the publisher process died, starting another")
        self._started_at = time.monotonic()
        number = self._reading.fileno()
        try:
            self.process = subprocess.Popen([sys.executable, "-m", __name__, str(number)], pass_fds=[number])
        except OSError as error:  # no memory, no process left: it may pass
            logger.error("the publisher cannot be started: %s", error.strerror)  # noqa: TRY400

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5)


def publish_all(names: socket.socket) -> None:
    """Publish names until nobody is left who could send one."""
    while name := names.recv(NAME_BYTES_MAX):
        try:
            current_app.send_task(STORE_BATCH, args=[name.decode()], retry=False)
        except (BrokerError, KombuError, OSError) as error:
            logger.warning("the broker is away (%s): batches wait for the sweep", type(error).__name__)
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")
    configure_logging(settings.LOGGING_CONFIG, settings.LOGGING)  # no django.setup(): the models are half the memory
    publish_all(socket.socket(fileno=int(sys.argv[1])))
