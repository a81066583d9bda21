"""Asking for work: one row in the caller's transaction; the relay carries it to the broker."""

from __future__ import annotations

QUEUE_NAMES = ("ingest", "transfer", "printing", "maintenance")
OUTBOX_CHANNEL = "dicomsys_outbox"

STORE_BATCH = "ingest.store_batch"
RUN_RETRIEVE = "transfer.run_retrieve"
DRAIN_PRINTER = "printing.drain_printer"
SEND_DUE_WORK = "maintenance.send_due_work"
COMPLETE_STUDIES = "maintenance.complete_studies"
SWEEP_SPOOL = "maintenance.sweep_spool"
PRUNE_OUTBOX = "maintenance.prune_outbox"
CLEAR_SESSIONS = "maintenance.clear_sessions"
PUBLISH_RULES = "maintenance.publish_rules"
FOLD_JOURNAL = "maintenance.fold_journal"
PRUNE_TRAFFIC = "maintenance.prune_traffic"
REPAIR_TEXTS = "maintenance.repair_texts"


def enqueue(task_name: str, *keys: int | str) -> None:
    """Ask for a task when the caller's transaction commits.

    task_name is `queue.verb_noun`; keys are primary keys or names that describe nobody. Writes one Outbox row and
    wakes the relay; never talks to the broker. Raises ValueError for a queue that does not exist.
    """
    from django.db import connection  # settings.py reads QUEUE_NAMES before Django is set up

    from apps.core.models import Outbox

    if task_name.split(".")[0] not in QUEUE_NAMES:
        raise ValueError(f"{task_name!r} belongs to no queue")
    Outbox.objects.create(task_name=task_name, arguments=list(keys))
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [OUTBOX_CHANNEL])
