"""From the outbox to the broker: publishes each unsent row with a confirm, then marks it sent.

One relay works at a time. It sleeps in LISTEN and looks each 5 s all the same. When it dies between publishing and
marking, the row is published again: tasks are safe to deliver twice.
"""

import json
import logging
import os
import time

import django
import psycopg
from celery import current_app
from kombu.exceptions import OperationalError

from apps.core.leader import LeaderLock, open_connection
from apps.core.queue import OUTBOX_CHANNEL

logger = logging.getLogger(__name__)

BATCH_ROWS = 200
POLL_S = 5.0
PAUSE_S = 1.0


def main() -> None:
    """Wait for leadership, then relay until the database connection breaks; then start over."""
    django.setup()
    lock = LeaderLock("relay")
    while lock.wait():
        try:
            _listen_and_publish()
        except psycopg.OperationalError as error:
            logger.warning("the database is away (%s), trying again", type(error).__name__)
        lock.release()
        time.sleep(PAUSE_S)


def _listen_and_publish() -> None:
    with open_connection() as connection:
        connection.execute(f"LISTEN {OUTBOX_CHANNEL}")
        while True:
            while publish_unsent(connection):
                pass
            for _ in connection.notifies(timeout=POLL_S, stop_after=1):
                pass


def publish_unsent(connection: psycopg.Connection) -> int:
    """Publish up to 200 unsent rows in order; returns how many. A broker that is away makes it 0 after a pause."""
    rows = connection.execute(
        "SELECT id, task_name, arguments FROM core_outbox WHERE sent_at IS NULL ORDER BY id LIMIT %s::int", [BATCH_ROWS]
    ).fetchall()
    for row_id, task_name, arguments in rows:  # Django's connection parameters leave JSON as text
        try:
            current_app.send_task(task_name, args=json.loads(arguments))
        except (OperationalError, OSError) as error:
            logger.warning("the broker is away (%s), outbox rows wait", type(error).__name__)
            time.sleep(PAUSE_S)
            return 0
        connection.execute("UPDATE core_outbox SET sent_at = now() WHERE id = %s::bigint", [row_id])
    return len(rows)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")
    main()
