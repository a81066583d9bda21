"""The maintenance queue: what beat asks for."""

import logging
from datetime import timedelta

from celery import current_app, shared_task
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from apps.archive import complete, text_repair
from apps.core.models import Outbox
from apps.core.queue import (
    CLEAR_SESSIONS,
    COMPLETE_STUDIES,
    FOLD_JOURNAL,
    PRUNE_OUTBOX,
    PRUNE_TRAFFIC,
    PUBLISH_RULES,
    REPAIR_TEXTS,
    SEND_DUE_WORK,
    STORE_BATCH,
    SWEEP_SPOOL,
)
from apps.nodes import folding, snapshot
from apps.printing.services import enqueue_due_work as enqueue_due_prints
from apps.storage.spool import Spool
from apps.transfer.services import enqueue_due_work as enqueue_due_retrieves

logger = logging.getLogger(__name__)

SWEEP_AGE_S = 15.0
SWEEP_BATCHES = 50
SENT_ROWS_KEPT = timedelta(days=7)


@shared_task(name=SEND_DUE_WORK)
def send_due_work() -> None:
    """Ask again for what waits for its next attempt or was left by a worker that died."""
    enqueue_due_prints()
    enqueue_due_retrieves()
    text_repair.enqueue_due_repairs()


@shared_task(name=SWEEP_SPOOL)
def sweep_spool() -> None:
    """Close the batches of receivers that died, and ask for every closed batch that nobody took within 15 s."""
    spool = Spool(settings.SPOOL_DIR)
    abandoned = spool.close_abandoned()
    waiting = dict.fromkeys([*abandoned, *spool.closed_batches(older_than_s=SWEEP_AGE_S)])
    for name in list(waiting)[:SWEEP_BATCHES]:  # each takes others with it: no need to fill the queue
        current_app.send_task(STORE_BATCH, args=[name])


@shared_task(name=COMPLETE_STUDIES)
def complete_studies() -> None:
    """Mark studies complete that have what was expected, or for which no image came any more."""
    complete.complete_studies()


@shared_task(name=PRUNE_OUTBOX)
def prune_outbox() -> None:
    """Remove rows that were published more than a week ago."""
    Outbox.objects.filter(sent_at__lt=timezone.now() - SENT_ROWS_KEPT).delete()


@shared_task(name=CLEAR_SESSIONS)
def clear_sessions() -> None:
    """Remove expired sessions: they hold the last search, which may be a name."""
    SessionStore.clear_expired()


@shared_task(name=PUBLISH_RULES)
def publish_rules() -> None:
    """Look up the host names of the nodes again, and heal what the receiver reads of the rules."""
    try:
        snapshot.publish_rules(look_up_again=True)
    except OSError as error:  # a full disk: the receiver keeps the last good rules, and beat asks again
        logger.error("the rules of the receiver could not be written: %s", error.strerror)  # noqa: TRY400


@shared_task(name=FOLD_JOURNAL)
def fold_journal() -> None:
    """Count what the receiver wrote down since the last time."""
    folding.fold_journal(folding.journal_folder())


@shared_task(name=PRUNE_TRAFFIC)
def prune_traffic() -> None:
    """Remove the numbers of minutes that are older than the setting says."""
    folding.prune_traffic(folding.journal_folder())


@shared_task(name=REPAIR_TEXTS)
def repair_texts() -> None:
    """Read the texts of studies in the character set that people chose. Delivered twice, the second finds the rest."""
    text_repair.run_repairs()
