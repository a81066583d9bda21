"""Printing: jobs are made, run, cancelled and retried here."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from apps.core.queue import DRAIN_PRINTER, enqueue
from apps.printing.claim import release_lapsed
from apps.printing.models import TELL_AGAIN_S, Printer, SheetPrint


def enqueue_due_work() -> int:
    """For beat: free what dead workers held, and ask for every printer that has due sheets and no worker.

    Returns how many printers were asked for. One that was asked for since is asked for again after a minute only.
    """
    release_lapsed()
    here = {"job__printer": OuterRef("pk")}
    busy = Exists(SheetPrint.objects.filter(**here, state__in=SheetPrint.HOLDING))
    due = SheetPrint.objects.due().filter(**here)
    became_due = Exists(due.filter(next_attempt_at__gt=OuterRef("told_at")))
    long_ago = Q(told_at__lt=Now() - timedelta(seconds=TELL_AGAIN_S))
    untold = list(Printer.objects.filter(~busy, became_due | long_ago & Exists(due)))
    for printer in untold:
        tell(printer)
    return len(untold)


def tell(printer: Printer) -> None:
    """Ask a worker to look at one printer."""
    Printer.objects.filter(pk=printer.pk).update(told_at=Now())
    enqueue(DRAIN_PRINTER, printer.pk)
