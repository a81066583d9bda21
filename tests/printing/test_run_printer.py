"""The state machine: order, errors, leases, one device at a time."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from apps.core.errors import PermanentError, RetryableError
from apps.core.leader import LeaderLock
from apps.core.models import Outbox
from apps.core.queue import DRAIN_PRINTER
from apps.films.models import FilmSheet
from apps.films.services import Layout, render_sheet
from apps.printing.backends import RefusedError
from apps.printing.claim import LEASE_S, Claim, ClaimLostError, release_lapsed
from apps.printing.models import Printer, PrintJob, SheetPrint
from apps.printing.services import (
    MAX_ATTEMPTS,
    PrintError,
    cancel_job,
    enqueue_due_work,
    make_film,
    retry_job,
    run_printer,
    submit_print_job,
)
from tests.printing.conftest import late, make_due, states

pytestmark = pytest.mark.django_db(transaction=True)


def lapse(job: PrintJob) -> None:
    """As if the holder had died a while ago."""
    job.sheet_prints.filter(lease_until__isnull=False).update(lease_until=timezone.now() - timedelta(seconds=1))


def asked_for() -> list[list[int]]:
    return list(Outbox.objects.filter(task_name=DRAIN_PRINTER).values_list("arguments", flat=True))


def test_sheets_are_printed_in_order_and_name_their_raster(make_job, printer, device):
    job = make_job(3)
    run_printer(printer.pk)
    assert [row.position for row in device.sheets] == [1, 2, 3]
    assert states(job) == ["ACCEPTED"] * 3
    for row in job.sheet_prints.select_related("raster", "sheet__raster"):
        assert row.raster == row.sheet.raster
        assert (row.claimed_by, row.lease_until, row.reference) == ("", None, f"device job {row.position}")


def test_delivered_twice_it_prints_once(make_job, printer, device):
    make_job(2)
    run_printer(printer.pk)
    run_printer(printer.pk)
    assert len(device.sheets) == 2


def test_an_urgent_job_goes_first(make_job, printer, device):
    later, urgent = make_job(1), make_job(1)
    PrintJob.objects.filter(pk=urgent.pk).update(priority=PrintJob.Priority.HIGH)
    run_printer(printer.pk)
    assert [row.job_id for row in device.sheets] == [urgent.pk, later.pk]


def test_copies_are_rows_of_their_own(make_job, radiologist, printer, device):
    sheet = make_job(1).sheet_prints.get().sheet
    job = submit_print_job(radiologist, [sheet.pk], printer, copies=3)
    run_printer(printer.pk)
    assert states(job) == ["ACCEPTED"] * 3


def test_an_error_that_may_pass_waits_and_holds_up_its_job_only(make_job, printer, device):
    troubled, other = make_job(2), make_job(2)
    device.faults = [RetryableError("the printer is off")]
    run_printer(printer.pk)
    assert states(troubled) == ["QUEUED", "QUEUED"]
    assert states(other) == ["ACCEPTED", "ACCEPTED"]
    first = troubled.sheet_prints.get(position=1)
    assert (first.attempts, first.last_error) == (1, "the printer is off")
    assert first.next_attempt_at > timezone.now() + timedelta(seconds=5)
    make_due(troubled)
    run_printer(printer.pk)
    assert states(troubled) == ["ACCEPTED", "ACCEPTED"]
    assert troubled.sheet_prints.get(position=1).last_error == ""


def test_pauses_grow_to_ten_minutes(make_job, printer, device):
    job = make_job(1)
    pauses = []
    for _ in range(9):
        device.faults = [RetryableError("off")]
        run_printer(printer.pk)
        row = job.sheet_prints.get()
        pauses.append(round((row.next_attempt_at - timezone.now()).total_seconds()))
        make_due(job)
    assert pauses == pytest.approx([10, 20, 40, 80, 160, 320, 600, 600, 600], abs=1)


def test_an_error_that_stays_fails_and_stops_the_job_only(make_job, printer, device):
    failed, other = make_job(3), make_job(1)
    device.faults = [None, PermanentError("wrong film size")]
    run_printer(printer.pk)
    assert states(failed) == ["ACCEPTED", "FAILED", "QUEUED"]
    assert failed.sheet_prints.get(position=2).last_error == "wrong film size"
    assert states(other) == ["ACCEPTED"]


def test_retrying_a_failed_job_goes_on_where_it_stopped(make_job, printer, device):
    job = make_job(3)
    device.faults = [None, PermanentError("wrong film size")]
    run_printer(printer.pk)
    assert retry_job(job) == 2
    run_printer(printer.pk)
    assert states(job) == ["ACCEPTED"] * 3
    assert [row.position for row in device.sheets] == [1, 2, 3]


def test_after_twenty_attempts_it_has_failed(make_job, printer, device):
    job = make_job(1)
    job.sheet_prints.update(attempts=MAX_ATTEMPTS - 1)
    device.faults = [RetryableError("off")]
    run_printer(printer.pk)
    assert states(job) == ["FAILED"]


def test_a_bug_fails_the_sheet_and_reaches_the_dead_letters(make_job, printer, device):
    job = make_job(1)
    device.faults = [KeyError("a name")]
    with pytest.raises(KeyError):
        run_printer(printer.pk)
    row = job.sheet_prints.get()
    assert row.state == "FAILED"
    assert "a name" not in row.last_error


def test_once_fired_only_the_printers_own_word_says_that_nothing_was_printed(make_job, printer, device):
    unknown, refused, broken = make_job(1), make_job(1), make_job(1)
    device.faults = [late(RetryableError("the link broke")), late(RefusedError("film jam")), late(PermanentError("?"))]
    run_printer(printer.pk)
    assert states(unknown) == ["UNKNOWN"]
    assert states(refused) == ["QUEUED"]
    assert states(broken) == ["UNKNOWN"]


def test_what_is_unknown_is_never_printed_again_by_a_machine(make_job, printer, device):
    job = make_job(2)
    device.faults = [late(RetryableError("the link broke"))]
    run_printer(printer.pk)
    make_due(job)
    assert retry_job(job) == 1  # the sheet behind it, which still waits
    assert enqueue_due_work() == 0
    run_printer(printer.pk)
    assert states(job) == ["UNKNOWN", "QUEUED"]
    assert device.sheets == []


def test_a_worker_that_died_while_sending_is_replaced(make_job, printer, device):
    job = make_job(2)
    assert Claim.take_next(printer)
    run_printer(printer.pk)
    assert device.sheets == []  # still held
    lapse(job)
    run_printer(printer.pk)
    assert states(job) == ["ACCEPTED"] * 2


def test_a_worker_that_died_after_firing_leaves_a_question(make_job, printer, device):
    job = make_job(2)
    claim = Claim.take_next(printer)
    claim.name_raster(_raster_of(job))
    claim.fire()
    lapse(job)
    run_printer(printer.pk)
    assert states(job) == ["UNKNOWN", "QUEUED"]
    assert "interrupted" in job.sheet_prints.get(position=1).last_error
    assert device.sheets == []


def _raster_of(job):
    row = job.sheet_prints.select_related("sheet").first()
    return render_sheet(row.sheet, job.printer.profile(203.2, 254))


def test_a_holder_whose_lease_lapsed_can_change_nothing(make_job, printer, device):
    job = make_job(1)
    stale = Claim.take_next(printer)
    lapse(job)
    assert release_lapsed() == 1
    fresh = Claim.take_next(printer)
    for change in (stale.renew, stale.fire, lambda: stale.fail("x"), lambda: stale.retry_later(1, "x")):
        with pytest.raises(ClaimLostError):
            change()
    fresh.renew()
    assert (job.sheet_prints.get().lease_until - timezone.now()).total_seconds() == pytest.approx(LEASE_S, abs=5)


def test_one_device_one_worker(make_job, printer, device):
    job = make_job(1)
    twin = Printer.objects.create(name="its other tray", device=printer.lock_name)
    held = LeaderLock(f"printer {printer.lock_name}")
    assert held.try_acquire()
    run_printer(printer.pk)
    run_printer(twin.pk)
    assert device.sheets == []
    held.release()
    run_printer(printer.pk)
    assert states(job) == ["ACCEPTED"]


def test_many_workers_at_once_print_each_sheet_once(make_job, printer, device):
    jobs = [make_job(2) for _ in range(3)]

    def work():
        run_printer(printer.pk)
        connection.close()

    workers = [threading.Thread(target=work) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    run_printer(printer.pk)
    assert len(device.sheets) == 6
    assert all(states(job) == ["ACCEPTED"] * 2 for job in jobs)


def test_a_printer_out_of_use_keeps_its_sheets_waiting(make_job, printer, device):
    job = make_job(1)
    Printer.objects.update(is_active=False)
    run_printer(printer.pk)
    assert states(job) == ["QUEUED"]
    Printer.objects.update(is_active=True)
    run_printer(printer.pk)
    assert states(job) == ["ACCEPTED"]


def test_a_cancelled_job_prints_no_more(make_job, printer, device):
    job = make_job(3)
    device.faults = [None, PermanentError("wrong film size")]
    run_printer(printer.pk)
    assert cancel_job(job) == 2
    run_printer(printer.pk)
    assert states(job) == ["ACCEPTED", "CANCELLED", "CANCELLED"]
    assert retry_job(job) == 0


def test_a_job_asks_for_its_printer_once(make_job, printer):
    make_job(3)
    assert asked_for() == [[printer.pk]]


def test_beat_asks_again_for_what_became_due_and_for_what_was_forgotten(make_job, printer, device):
    job = make_job(1)
    assert enqueue_due_work() == 0  # asked for a moment ago
    Printer.objects.update(told_at=timezone.now() - timedelta(minutes=2))
    assert enqueue_due_work() == 1
    device.faults = [RetryableError("off")]
    run_printer(printer.pk)
    assert enqueue_due_work() == 0  # not due yet
    job.sheet_prints.update(next_attempt_at=timezone.now())
    assert enqueue_due_work() == 1
    assert Claim.take_next(printer)
    Printer.objects.update(told_at=timezone.now() - timedelta(minutes=2))
    assert enqueue_due_work() == 0  # at work
    lapse(job)
    assert enqueue_due_work() == 1


def test_the_same_form_sent_twice_is_one_job(radiologist, printer, template, make_ct_study):
    study, key = make_ct_study(2), uuid4()
    series = [series.pk for series in study.series.all()]
    jobs = {make_film(radiologist, study, series, Layout(template, 1, 1), printer, key) for _ in range(2)}
    assert len(jobs) == 1
    assert FilmSheet.objects.count() == 2


def test_the_same_form_sent_at_the_same_time_is_one_job(radiologist, printer, template, make_ct_study):
    study, key, made = make_ct_study(1), uuid4(), []
    series = [series.pk for series in study.series.all()]
    together = threading.Barrier(4)

    def send():
        together.wait()
        made.append(make_film(radiologist, study, series, Layout(template, 1, 1), printer, key).pk)
        connection.close()

    senders = [threading.Thread(target=send) for _ in range(4)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert len(made) == 4
    assert set(made) == {PrintJob.objects.get().pk}


def test_a_printer_refuses_what_it_cannot_take(make_job, radiologist, printer):
    sheet = make_job(1).sheet_prints.get().sheet
    other = Printer.objects.create(name="large", film_size="14INX17IN")
    with pytest.raises(PrintError, match="14 × 17 in"):
        submit_print_job(radiologist, [sheet.pk], other)
    with pytest.raises(PrintError, match="not in use"):
        submit_print_job(radiologist, [sheet.pk], Printer.objects.create(name="off", is_active=False))


def test_sheets_of_two_studies_are_no_job(make_job, radiologist, printer):
    sheets = [make_job(1).sheet_prints.get().sheet_id for _ in range(2)]
    with pytest.raises(PrintError, match="one study"):
        submit_print_job(radiologist, sheets, printer)


@pytest.mark.parametrize(
    "values",
    [
        {"state": "SENDING"},
        {"state": "QUEUED", "claimed_by": "someone", "lease_until": timezone.now()},
        {"state": "PRINTED"},
        {"state": "UNKNOWN"},
    ],
    ids=["held by nobody", "waiting and held", "printed what?", "unknown what?"],
)
def test_the_database_refuses_states_that_cannot_be(make_job, values):
    job = make_job(1)
    with pytest.raises(IntegrityError), transaction.atomic():
        job.sheet_prints.update(**values)


def test_a_disk_that_is_full_is_tried_again(make_job, printer, device):
    job = make_job(1)
    device.faults = [OSError(28, "No space left on device")]
    run_printer(printer.pk)
    row = SheetPrint.objects.get(job=job)
    assert (row.state, row.last_error) == ("QUEUED", "the file store cannot be used (No space left on device)")


def test_a_picture_that_is_not_the_stored_one_is_never_printed(make_job, printer):
    job = make_job(1)
    instance = job.study.series.get().instances.first()
    content = instance.path.read_bytes()
    instance.path.unlink()
    instance.path.write_bytes(content[:-1] + b"x")  # as another patient's file would be, put there by a bad restore
    run_printer(printer.pk)
    row = job.sheet_prints.get()
    assert row.state == SheetPrint.State.FAILED
    assert "is not the one that was stored" in row.last_error
