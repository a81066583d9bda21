"""Printing: jobs are made, run, cancelled and retried here."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4, uuid5

from django.db import IntegrityError, InterfaceError, OperationalError, connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from apps.archive.models import Study
from apps.core.errors import DicomsysError, RetryableError
from apps.core.leader import LeaderLock
from apps.core.queue import DRAIN_PRINTER, enqueue
from apps.films.models import FilmSheet
from apps.films.services import Layout, make_sheets, render_sheet
from apps.printing.backends import HeldSheet, RefusedError, backend_of
from apps.printing.claim import Claim, ClaimLostError, release_lapsed
from apps.printing.models import TELL_AGAIN_S, Printer, PrintJob, SheetPrint
from apps.storage.blobs import remove_abandoned

if TYPE_CHECKING:
    from apps.accounts.models import User

logger = logging.getLogger(__name__)

State = SheetPrint.State
RUN_S = 60.0
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.05
WAITING = (State.QUEUED, State.HELD)
MAX_ATTEMPTS = 20  # about two and a half hours


class PrintError(DicomsysError):
    """A job cannot be made or changed as asked; the text is for the person who asked."""


# --- Making jobs


def make_film(
    user: User, study: Study, series_ids: Sequence[int], layout: Layout, printer: Printer, key: UUID | None = None
) -> PrintJob:
    """Sheets of these series, and a job that prints them. The same form sent twice gives the same job.

    key is the form's: sent again with other choices, as after the browser's Back, it is another job. Raises FilmError
    and PrintError with a text for the user.
    """
    choices = (user.pk, study.pk, sorted(series_ids), layout.template.pk, layout.columns, layout.rows, layout.every)
    key = uuid5(key, f"{choices} {printer.pk}") if key else None
    earlier = _job_of_form(user, key)
    if earlier:
        return earlier
    try:
        with transaction.atomic():
            sheets = make_sheets(user, study, series_ids, layout)
            return submit_print_job(user, [sheet.pk for sheet in sheets], printer, key=key)
    except IntegrityError:  # the same form at the same time
        earlier = _job_of_form(user, key)
        if earlier is None:
            raise
        return earlier


def _job_of_form(user: User, key: UUID | None) -> PrintJob | None:
    return PrintJob.objects.visible_to(user).filter(key=key, requested_by=user).first() if key else None


@transaction.atomic
def submit_print_job(
    user: User,
    sheet_ids: Sequence[int],
    printer: Printer,
    copies: int = 1,
    priority: PrintJob.Priority = PrintJob.Priority.MEDIUM,
    key: UUID | None = None,
) -> PrintJob:
    """Queue sheets for a printer, in this order, one row a sheet and copy. Raises PrintError."""
    sheets = FilmSheet.objects.visible_to(user).in_bulk(list(sheet_ids))
    if not sheet_ids or len(sheets) != len(sheet_ids):
        raise PrintError("These sheets do not exist.")
    if len({sheet.study_id for sheet in sheets.values()}) != 1:
        raise PrintError("A job prints sheets of one study.")
    _refuse_printer(printer, list(sheets.values()))
    job = PrintJob.objects.create(
        key=key or uuid4(),
        printer=printer,
        study_id=sheets[sheet_ids[0]].study_id,
        requested_by=user,
        priority=priority,
    )
    SheetPrint.objects.bulk_create(
        SheetPrint(job=job, sheet=sheets[pk], position=position, copy=copy)
        for position, pk in enumerate(sheet_ids, start=1)
        for copy in range(1, copies + 1)
    )
    tell(printer)
    return job


def _refuse_printer(printer: Printer, sheets: Sequence[FilmSheet]) -> None:
    if not printer.is_active:
        raise PrintError(f"{printer} is not in use.")
    sizes = {sheet.template.film_size for sheet in sheets}
    if printer.film_size and sizes != {printer.film_size}:
        raise PrintError(f"{printer} only takes {printer.get_film_size_display()}.")


# --- Changing jobs


@transaction.atomic
def cancel_job(job: PrintJob) -> int:
    """Take back every sheet that waits or has failed; those a worker has go on. Returns how many were cancelled."""
    open_states = (*WAITING, State.FAILED)
    rows = job.sheet_prints.filter(state__in=open_states)
    return rows.update(state=State.CANCELLED, finished_at=Now())


@transaction.atomic
def retry_job(job: PrintJob) -> int:
    """Try failed and waiting sheets again at once. What is UNKNOWN stays so. Returns how many sheets wait now."""
    again = job.sheet_prints.filter(state__in=(State.FAILED, State.QUEUED))
    count = again.update(state=State.QUEUED, attempts=0, next_attempt_at=Now(), last_error="", finished_at=None)
    if count:
        tell(job.printer)
    return count


# --- Running


def run_printer(printer_id: int) -> None:
    """Print what is due on one printer, in order, for at most a minute; then ask to go on.

    One process a device: where another has it, this returns. Delivered twice, each sheet is printed once.
    """
    printer = Printer.objects.filter(pk=printer_id).first()
    if printer is None:
        return
    lock = LeaderLock(f"printer {printer.lock_name}")
    if not _acquire(lock):
        logger.info("printer %d is at work elsewhere", printer_id)
        lock.release()
        return
    try:
        _drain(printer, lock, time.monotonic() + RUN_S)
    except OperationalError as error:
        connection.close()
        logger.warning("printer %d waits for the database (%s)", printer_id, type(error).__name__)
        return
    finally:
        lock.release()
    # Also for whoever was turned away while the lock was still held
    if SheetPrint.objects.due().filter(job__printer=printer).exists():
        tell(printer)


def _acquire(lock: LeaderLock) -> bool:
    """A holder that has just left may still be freed by the server: look again for a moment."""
    for _ in range(LOCK_TRIES):
        if lock.try_acquire():
            return True
        time.sleep(LOCK_PAUSE_S)
    return False


def _drain(printer: Printer, lock: LeaderLock, deadline: float) -> None:
    release_lapsed()
    remove_abandoned()
    while time.monotonic() < deadline and lock.is_held():
        claim = Claim.take_next(printer)
        if claim is None:
            return
        try:
            _print(claim)
        except ClaimLostError as error:
            logger.warning("%s", error)


def _print(claim: Claim) -> None:
    """Draw one sheet and send it; whatever happens, the row says so afterwards."""
    row = claim.sheet_print()
    if row.attempts > MAX_ATTEMPTS:
        claim.fail(f"The work was interrupted {row.attempts - 1} times. See the worker's log.")
        return
    try:
        _send(claim, row)
    except ClaimLostError:
        raise
    except (RetryableError, OSError, OperationalError, InterfaceError) as error:
        logger.warning("sheet print %d, attempt %d: %s", row.pk, row.attempts, _words(error))
        _settle(claim, row, error, is_worth_retrying=row.attempts < MAX_ATTEMPTS)
    except DicomsysError as error:
        logger.warning("sheet print %d failed: %s", row.pk, error)
        _settle(claim, row, error, is_worth_retrying=False)
    except Exception as error:
        _settle(claim, row, error, is_worth_retrying=False)
        raise  # a bug: the message goes to the dead letters


def _send(claim: Claim, row: SheetPrint) -> None:
    printer = row.job.printer
    recipe = row.sheet.recipe
    raster = render_sheet(row.sheet, printer.profile(recipe["width_mm"], recipe["height_mm"]))
    claim.name_raster(raster)
    receipt = backend_of(printer)(HeldSheet(row, row.job, raster, claim), printer)
    with transaction.atomic():
        claim.finish(receipt.state, receipt.reference)
        if receipt.completes_job:
            row.job.sheet_prints.filter(state=State.ACCEPTED).update(state=State.PRINTED, finished_at=Now())


def _settle(claim: Claim, row: SheetPrint, error: Exception, is_worth_retrying: bool) -> None:
    """After an error: nothing was printed unless the sheet was fired, then only the printer's own word counts."""
    is_fired = SheetPrint.objects.filter(pk=row.pk, state=State.FIRED).exists()
    if is_fired and not isinstance(error, RefusedError):
        claim.lose_track(_words(error))
    elif is_worth_retrying:
        claim.retry_later(row.attempts, _words(error))
    else:
        claim.fail(_words(error))


def _words(error: Exception) -> str:
    """The text of our own errors, which carries no PHI; of others only what kind they are."""
    if isinstance(error, DicomsysError):
        return str(error)
    if isinstance(error, OSError):
        return f"the file store cannot be used ({error.strerror or type(error).__name__})"
    return f"an unexpected error ({type(error).__name__}); the worker's log has the details"


# --- For beat


def enqueue_due_work() -> int:
    """Free what dead workers held, and ask for every printer that has due sheets and no worker.

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


@transaction.atomic
def tell(printer: Printer) -> None:
    """Ask a worker to look at one printer."""
    Printer.objects.filter(pk=printer.pk).update(told_at=Now())
    enqueue(DRAIN_PRINTER, printer.pk)
