"""The ingest queue."""

import logging

from celery import shared_task
from django.db import InterfaceError, OperationalError

from apps.archive import ingest
from apps.core.errors import RetryableError
from apps.core.queue import STORE_BATCH

logger = logging.getLogger(__name__)


@shared_task(name=STORE_BATCH)
def store_batch(batch_name: str) -> None:
    """Store one closed spool batch. Delivered twice, the second finds nothing left to do.

    What may pass by itself (the store or the database is away) leaves the batch to the spool sweep.
    """
    try:
        ingest.store_batch(batch_name)
    except (OSError, RetryableError, OperationalError, InterfaceError) as error:
        logger.warning("batch %s waits for the sweep: %s", batch_name, type(error).__name__)
