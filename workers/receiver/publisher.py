"""Tells ingest of closed batches, from a process of its own: the receiver never waits for the broker.

A name that cannot be handed on is dropped: the sweep publishes what lies in the spool for more than 15 s.
"""

import logging
import multiprocessing
import os
import queue
import time

import django
from celery import current_app
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError

from apps.core.queue import STORE_BATCH

logger = logging.getLogger(__name__)

QUEUE_NAMES_MAX = 1000
PARENT_CHECK_S = 2.0
PAUSE_S = 2.0


class Publisher:
    """The sending end, in the receiver."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        # A queue of its own each time: one that was killed may have taken the old queue's lock with it
        self._names = self._context.Queue(QUEUE_NAMES_MAX)
        self._process = self._context.Process(target=run_publisher, args=(self._names, os.getpid()), daemon=True)
        self._process.start()

    def publish(self, batch_name: str) -> None:
        """Hand a name over without waiting; full means dropped."""
        try:
            self._names.put_nowait(batch_name)
        except queue.Full:
            logger.warning("batch %s waits for the sweep: the publisher is behind", batch_name)

    def restart_if_dead(self) -> None:
        """Replace a publisher that died."""
        if not self._process.is_alive():
            logger.warning("the publisher process died, starting another")
            self._names.cancel_join_thread()
            self._start()

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()


def run_publisher(names: "multiprocessing.Queue[str]", parent_pid: int) -> None:
    """Publish names until the receiver is gone."""
    django.setup()
    while os.getppid() == parent_pid:
        try:
            name = names.get(timeout=PARENT_CHECK_S)
        except queue.Empty:
            continue
        try:
            current_app.send_task(STORE_BATCH, args=[name], retry=False)
        except (BrokerError, KombuError, OSError) as error:
            logger.warning("the broker is away (%s): batches wait for the sweep", type(error).__name__)
            time.sleep(PAUSE_S)
