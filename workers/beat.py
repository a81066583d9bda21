"""Celery beat with one leader: a second one waits for the lock and takes over when the first is gone."""

import logging
import os
import threading
import time

import django
from celery import current_app

from apps.core.leader import LeaderLock

logger = logging.getLogger(__name__)

CHECK_S = 1.0


def main() -> None:
    """Wait for leadership, then run beat until the lock is lost; whoever started the process starts it again."""
    django.setup()
    lock = LeaderLock("beat")
    lock.wait()
    threading.Thread(target=_exit_when_lost, args=(lock,), daemon=True).start()
    current_app.Beat(loglevel="INFO", quiet=True).run()


def _exit_when_lost(lock: LeaderLock) -> None:
    while lock.is_held():
        time.sleep(CHECK_S)
    logger.error("lost the leader lock of beat: stopping, so that only one beat works")
    os._exit(1)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")
    main()
