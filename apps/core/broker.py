"""The queues: declared once by `manage.py declare_queues`, checked by every worker before it starts."""

import logging
import time

from celery import current_app
from kombu import Connection, Exchange, Queue

from apps.core.checks import refuse_unfit_broker
from apps.core.errors import DicomsysError, PermanentError

DEAD_EXCHANGE = Exchange("dicomsys.dead", type="topic")
DEAD_QUEUE = Queue("dicomsys.dead", DEAD_EXCHANGE, routing_key="#", queue_arguments={"x-queue-type": "quorum"})
CONNECT_TIMEOUT_S = 5
RETRY_S = 2

logger = logging.getLogger(__name__)


class QueueMissingError(PermanentError):
    """A queue that must exist before the first worker does not."""


def open_broker() -> Connection:
    """A connection to the broker; the caller closes it."""
    return current_app.connection_for_write(connect_timeout=CONNECT_TIMEOUT_S)


def all_queues() -> list[Queue]:
    """The dead-letter queue first, then the work queues."""
    return [DEAD_QUEUE, *current_app.conf.task_queues]


def declare_queues() -> list[str]:
    """Declare every exchange and queue; those that exist stay as they are. Returns the queues' names."""
    with open_broker() as connection, connection.channel() as channel:
        for queue in all_queues():
            queue(channel).declare()
    return [queue.name for queue in all_queues()]


def count_messages() -> dict[str, int]:
    """How many messages wait in each queue. Raises QueueMissingError, naming the first queue that is missing."""
    counts = {}
    with open_broker() as connection:
        for queue in all_queues():
            channel = connection.channel()
            try:
                counts[queue.name] = queue(channel).queue_declare(passive=True).message_count
            except connection.channel_errors as error:
                raise QueueMissingError(f"queue {queue.name} is missing: run `manage.py declare_queues`") from error
            channel.close()
    return counts


def refuse_to_work_without_queues(**kwargs: object) -> None:
    """When a worker starts: waits for the broker; ends the process when a queue is missing or the broker is unfit."""
    while True:
        try:
            with open_broker() as connection:
                connection.connect()
                refuse_unfit_broker(connection.connection.server_properties["version"])
            count_messages()
        except DicomsysError as error:
            raise SystemExit(f"this worker does not start: {error}") from error
        except OSError as error:
            logger.warning("the broker is away (%s), waiting for it", type(error).__name__)
            time.sleep(RETRY_S)
        else:
            return
