"""C-MOVE jobs: from the request to what is here, with everything that may go wrong between."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from apps.core.models import Outbox
from apps.transfer.claim import BACK_OFF_S, Claim, ClaimLostError, Counts
from apps.transfer.errors import RetrieveRefusedError
from apps.transfer.models import RetrieveJob
from apps.transfer.retrieve import run_retrieve
from apps.transfer.services import cancel_retrieve, enqueue_due_work, request_retrieve, retry_retrieve
from tests.dicom import series_of
from tests.peers import Address, free_port, wait_until
from tests.transfer.conftest import QUICK, node_for

pytestmark = pytest.mark.django_db(transaction=True)

State = RetrieveJob.State
UID = "1.2.3.4"


def run(job: RetrieveJob) -> RetrieveJob:
    run_retrieve(job.pk, QUICK)
    job.refresh_from_db()
    return job


def run_in_thread(job: RetrieveJob) -> threading.Thread:
    def work() -> None:
        run_retrieve(job.pk, QUICK)
        connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def let_due(job: RetrieveJob, **changes) -> None:
    """As if time had passed."""
    RetrieveJob.objects.filter(pk=job.pk).update(next_attempt_at=timezone.now(), **changes)


# --- The request


def test_a_request_is_a_row_and_a_message_in_one_transaction(pacs, user):
    node = node_for(pacs)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        request_retrieve(user, node, UID)
        _ = 1 / 0
    assert not RetrieveJob.objects.exists()
    assert not Outbox.objects.exists()

    job = request_retrieve(user, node, UID, expected=7)
    assert (job.state, job.expected_count, job.requested_by) == (State.QUEUED, 7, user)
    assert Outbox.objects.values_list("task_name", "arguments").get() == ("transfer.run_retrieve", [job.pk])


def test_a_study_is_fetched_from_a_node_once_at_a_time(pacs, user):
    node = node_for(pacs)
    first = request_retrieve(user, node, UID)
    assert request_retrieve(user, node, UID) == first
    assert Outbox.objects.count() == 1
    cancel_retrieve(first.pk)
    assert request_retrieve(user, node, UID) != first


@pytest.mark.parametrize("uid", ["", "1.2\\1.3", "1.2.*", "1" * 65, "1.2 3"])
def test_a_list_or_a_wildcard_is_no_study(pacs, user, uid):
    with pytest.raises(RetrieveRefusedError):
        request_retrieve(user, node_for(pacs), uid)


@pytest.mark.parametrize("change", [{"is_active": False}, {"may_be_retrieved_from": False}])
def test_a_node_that_may_not_be_asked_is_not(pacs, user, change):
    with pytest.raises(RetrieveRefusedError, match="not set up for retrieving"):
        request_retrieve(user, node_for(pacs, **change), UID)


# --- Against Orthanc


def test_a_study_comes_from_orthanc(orthanc, store_receiver, user, settings, tmp_path):
    images = series_of(6)
    orthanc.store(tmp_path / "images", images)
    orthanc.register_modality(settings.AE_TITLE, store_receiver.port)
    job = run(request_retrieve(user, node_for(orthanc), images[0].StudyInstanceUID))
    assert (job.state, job.last_error) == (State.DONE, "")
    assert (job.expected_count, job.completed_count, job.remaining_count, job.failed_count) == (6, 6, 0, 0)
    assert sorted(store_receiver.sop_instance_uids) == sorted(image.SOPInstanceUID for image in images)
    assert job.started_at
    assert job.finished_at
    assert job.started_at <= job.finished_at


def test_orthanc_that_does_not_know_us_is_explained_and_asked_again(orthanc, user, settings, tmp_path):
    images = series_of(1)
    orthanc.store(tmp_path / "images", images)
    job = run(request_retrieve(user, node_for(orthanc), images[0].StudyInstanceUID))
    assert job.state == State.QUEUED  # Orthanc answers 0xC000 for this, as for what may pass
    assert f"knows our AE title {settings.AE_TITLE} with this machine's address and port" in job.last_error


def test_when_our_receiver_is_back_the_next_attempt_fetches_the_study(
    orthanc, store_receiver, user, settings, tmp_path
):
    images = series_of(2)
    orthanc.store(tmp_path / "images", images)
    orthanc.register_modality(settings.AE_TITLE, free_port())
    job = run(request_retrieve(user, node_for(orthanc), images[0].StudyInstanceUID))
    assert job.state == State.QUEUED
    orthanc.register_modality(settings.AE_TITLE, store_receiver.port)
    let_due(job)
    assert run(job).state == State.DONE
    assert job.attempts == 2
    assert job.last_error == ""


# --- The course of a move


def test_counts_are_written_while_it_runs(pacs, user):
    halfway = threading.Event()

    def on_move(move):
        move.answer(0xFF00, remaining=6, completed=3, failed=0, warning=1)
        halfway.wait(5)
        move.answer(0x0000, completed=9, failed=0, warning=1)

    pacs.on_move = on_move
    job = request_retrieve(user, node_for(pacs), UID)
    thread = run_in_thread(job)
    wait_until(lambda: RetrieveJob.objects.get(pk=job.pk).completed_count == 3)
    job.refresh_from_db()
    seen = (job.state, job.expected_count, job.remaining_count, job.completed_count, job.warning_count)
    halfway.set()
    thread.join(10)
    job.refresh_from_db()
    assert seen == (State.RUNNING, 10, 6, 3, 1)
    assert (job.state, job.remaining_count, job.completed_count, job.warning_count) == (State.DONE, 0, 9, 1)


def test_the_move_names_the_study_and_our_ae_title(pacs, user, settings):
    pacs.on_move = lambda move: move.answer(0x0000, completed=1, failed=0, warning=0)
    run(request_retrieve(user, node_for(pacs), UID))
    assert pacs.moves[0].destination == settings.AE_TITLE


def test_a_node_without_pending_answers_is_waited_for(pacs, user):
    def on_move(move):
        time.sleep(0.8)
        move.answer(0x0000, completed=5, failed=0, warning=0)

    pacs.on_move = on_move
    job = run(request_retrieve(user, node_for(pacs), UID))
    assert (job.state, job.completed_count) == (State.DONE, 5)


def test_no_transaction_is_open_while_the_network_works(pacs, user):
    states: list[str] = []

    def on_move(move):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT state FROM pg_stat_activity WHERE application_name = 'dicomsys' AND xact_start < now()"
            )
            states.extend(row[0] for row in cursor.fetchall())
        connection.close()
        move.answer(0x0000, completed=1, failed=0, warning=0)

    pacs.on_move = on_move
    run(request_retrieve(user, node_for(pacs), UID))
    assert "idle in transaction" not in states


@pytest.mark.parametrize(
    ("status", "state", "words"),
    [
        (0xA801, State.FAILED, "does not know our AE title DICOMSYS: have it added there"),
        (0xA900, State.FAILED, "does not understand which study is meant"),
        (0x0122, State.FAILED, "does not support this service"),
        (0xA701, State.QUEUED, "out of resources"),
        (0xA702, State.QUEUED, "could not send the images (status 0xA702)"),
        (0xC000, State.QUEUED, "Check there that it knows our AE title"),
        (0xFE00, State.CANCELLED, "stopped by itself"),
    ],
)
def test_each_final_status_is_told_in_words(pacs, user, settings, status, state, words):
    settings.AE_TITLE = "DICOMSYS"
    pacs.on_move = lambda move: move.answer(status, completed=0, failed=0, warning=0)
    job = run(request_retrieve(user, node_for(pacs), UID))
    assert job.state == state
    assert words in job.last_error


def test_failed_images_end_the_job_as_failed_and_a_person_may_retry(pacs, user):
    pacs.on_move = lambda move: move.answer(0xB000, completed=8, failed=2, warning=0)
    job = run(request_retrieve(user, node_for(pacs), UID))
    assert job.state == State.FAILED
    assert "could not send 2 of 10 images" in job.last_error
    assert (job.completed_count, job.failed_count) == (8, 2)

    pacs.on_move = lambda move: move.answer(0x0000, completed=10, failed=0, warning=0)
    assert retry_retrieve(job.pk)
    job.refresh_from_db()
    assert (job.state, job.attempts, job.failed_count, job.last_error) == (State.QUEUED, 0, 0, "")
    assert run(job).state == State.DONE


def test_success_without_an_image_is_not_called_done(pacs, user):
    pacs.on_move = lambda move: move.answer(0x0000, completed=0, failed=0, warning=0)
    job = run(request_retrieve(user, node_for(pacs), UID))
    assert job.state == State.FAILED
    assert "found nothing to send" in job.last_error


def test_success_without_counts_is_believed(pacs, user):
    pacs.on_move = lambda move: move.answer(0x0000)
    assert run(request_retrieve(user, node_for(pacs), UID)).state == State.DONE


# --- What may pass is tried again


def test_a_closed_port_is_tried_again_later_each_time_and_then_given_up(user):
    node = node_for(Address(free_port()))
    job = request_retrieve(user, node, UID)
    for pause_s in BACK_OFF_S:
        run(job)
        assert job.state == State.QUEUED
        assert abs((job.next_attempt_at - timezone.now()).total_seconds() - pause_s) < 5
        assert "Nothing listens" in job.last_error
        let_due(job)
    run(job)
    assert job.state == State.FAILED
    assert job.last_error.startswith("Given up after 4 attempts. Nothing listens")


def test_before_its_time_a_waiting_job_is_not_run(user, pacs):
    job = run(request_retrieve(user, node_for(Address(free_port())), UID))
    assert run(job).attempts == 1


def test_an_abort_midway_is_tried_again(pacs, user):
    def on_move(move):
        move.answer(0xFF00, remaining=5, completed=1, failed=0, warning=0)
        move.association.abort(block=False)

    pacs.on_move = on_move
    job = run(request_retrieve(user, node_for(pacs), UID))
    assert (job.state, job.completed_count) == (State.QUEUED, 1)
    assert "aborted the association during C-MOVE" in job.last_error


def test_an_abort_right_after_the_association_was_accepted_is_tried_again(pacs, user, monkeypatch):
    from apps.nodes.associations import PeerAssociation

    ready = PeerAssociation.ready

    def ready_too_late(link, service):
        link.association.abort()
        return ready(link, service)

    monkeypatch.setattr(PeerAssociation, "ready", ready_too_late)
    assert run(request_retrieve(user, node_for(pacs), UID)).state == State.QUEUED


def test_a_node_that_falls_silent_is_given_up(pacs, user):
    released = threading.Event()
    pacs.on_move = lambda move: released.wait(10)
    started = time.monotonic()
    job = run(request_retrieve(user, node_for(pacs), UID))
    released.set()
    assert job.state == State.QUEUED
    assert "neither answered nor sent an image for 1.5 s" in job.last_error
    assert time.monotonic() - started < 5
    wait_until(lambda: "c-move" not in {thread.name for thread in threading.enumerate()})


def test_images_that_arrive_are_a_sign_of_life(pacs, user, monkeypatch):
    arrived = iter(range(1, 1000))
    monkeypatch.setattr("apps.transfer.retrieve.stored_counts", lambda uids: {UID: next(arrived)})

    def on_move(move):
        time.sleep(3)  # twice the patience
        move.answer(0x0000, completed=5, failed=0, warning=0)

    pacs.on_move = on_move
    assert run(request_retrieve(user, node_for(pacs), UID)).state == State.DONE


# --- Stopping


def test_a_waiting_job_is_cancelled_at_once(pacs, user):
    job = request_retrieve(user, node_for(pacs), UID)
    assert cancel_retrieve(job.pk)
    assert run(job).state == State.CANCELLED
    assert pacs.moves == []
    assert not cancel_retrieve(job.pk)


def test_a_running_move_is_cancelled_at_the_node(pacs, user):
    def on_move(move):
        for number in range(1000):
            if move.is_cancelled:
                move.answer(0xFE00, remaining=1000 - number, completed=number, failed=0, warning=0)
                return
            move.answer(0xFF00, remaining=1000 - number, completed=number, failed=0, warning=0)
            time.sleep(0.02)

    pacs.on_move = on_move
    job = request_retrieve(user, node_for(pacs), UID)
    thread = run_in_thread(job)
    wait_until(lambda: RetrieveJob.objects.get(pk=job.pk).completed_count > 0)
    assert cancel_retrieve(job.pk)
    thread.join(10)
    job.refresh_from_db()
    assert (job.state, job.last_error) == (State.CANCELLED, "")
    assert 0 < job.completed_count < 1000


def test_a_node_that_ignores_the_cancel_is_left(pacs, user):
    released = threading.Event()

    def on_move(move):
        move.answer(0xFF00, remaining=10, completed=0, failed=0, warning=0)
        released.wait(10)

    pacs.on_move = on_move
    job = request_retrieve(user, node_for(pacs), UID)
    thread = run_in_thread(job)
    wait_until(lambda: RetrieveJob.objects.get(pk=job.pk).expected_count == 10)
    cancel_retrieve(job.pk)
    thread.join(10)
    released.set()
    job.refresh_from_db()
    assert job.state == State.CANCELLED


def test_a_cancelled_job_may_be_started_again_unless_another_fetches_the_study(pacs, user):
    node = node_for(pacs)
    job = request_retrieve(user, node, UID)
    cancel_retrieve(job.pk)
    other = request_retrieve(user, node, UID)
    assert not retry_retrieve(job.pk)
    cancel_retrieve(other.pk)
    assert retry_retrieve(job.pk)
    assert not retry_retrieve(job.pk)


# --- Twice, side by side, killed


def test_delivered_twice_it_runs_once(pacs, user):
    def on_move(move):
        time.sleep(0.5)
        move.answer(0x0000, completed=1, failed=0, warning=0)

    pacs.on_move = on_move
    job = request_retrieve(user, node_for(pacs), UID)
    threads = [run_in_thread(job) for _ in range(3)]
    for thread in threads:
        thread.join(10)
    run(job)
    assert len(pacs.moves) == 1
    assert (job.state, job.attempts) == (State.DONE, 1)


def test_a_worker_that_lost_its_lease_stops_and_changes_nothing(pacs, user):
    def on_move(move):
        RetrieveJob.objects.update(claimed_by="another")
        connection.close()
        move.answer(0xFF00, remaining=1, completed=1, failed=0, warning=0)
        time.sleep(0.5)
        move.answer(0x0000, completed=2, failed=0, warning=0)

    pacs.on_move = on_move
    job = run(request_retrieve(user, node_for(pacs), UID))
    assert (job.state, job.claimed_by, job.completed_count) == (State.RUNNING, "another", 0)


def test_the_lease_is_renewed_while_the_node_is_silent(pacs, user):
    ends: list[Any] = []

    def on_move(move):
        for _ in range(3):
            ends.extend(RetrieveJob.objects.values_list("lease_until", flat=True))
            time.sleep(0.4)
        connection.close()
        move.answer(0x0000, completed=1, failed=0, warning=0)

    pacs.on_move = on_move
    run(request_retrieve(user, node_for(pacs), UID))
    assert ends[0] < ends[1] < ends[2]


def test_a_database_that_goes_away_leaves_the_job_to_its_lease(pacs, user):
    def on_move(move):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
        connection.close()
        move.answer(0xFF00, remaining=1, completed=1, failed=0, warning=0)
        time.sleep(0.5)

    pacs.on_move = on_move
    job = run(request_retrieve(user, node_for(pacs), UID))
    assert (job.state, job.completed_count) == (State.RUNNING, 0)
    RetrieveJob.objects.update(lease_until=timezone.now())
    assert enqueue_due_work() == 1


def test_only_the_holder_may_change_a_running_job(pacs, user):
    job = request_retrieve(user, node_for(pacs), UID)
    claim = Claim.take(job.pk, 60)
    assert claim
    assert Claim.take(job.pk, 60) is None
    RetrieveJob.objects.update(lease_until=timezone.now())
    successor = Claim.take(job.pk, 60)
    assert successor
    with pytest.raises(ClaimLostError):
        claim.renew(Counts(completed_count=1))
    with pytest.raises(ClaimLostError):
        claim.finish(State.DONE)
    successor.finish(State.DONE)


WORKER = """
import django; django.setup()
from django.conf import settings
from django.db import connection
connection.settings_dict["NAME"] = settings.DATABASES["default"]["NAME"] = {database!r}
from apps.transfer.retrieve import Pace, run_retrieve
run_retrieve({job}, Pace(lease_s=2, renew_s=0.3, commit_s=0.1))
"""


def test_a_killed_worker_leaves_a_job_that_is_run_again(pacs, user):
    def on_move(move):
        move.answer(0xFF00, remaining=5, completed=5, failed=0, warning=0)
        if len(pacs.moves) == 1:
            time.sleep(1.5)
        else:
            move.answer(0x0000, completed=10, failed=0, warning=0)

    pacs.on_move = on_move
    job = request_retrieve(user, node_for(pacs), UID)
    code = textwrap.dedent(WORKER).format(database=connection.settings_dict["NAME"], job=job.pk)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "dicomsys.settings"}
    worker = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        wait_until(lambda: RetrieveJob.objects.get(pk=job.pk).completed_count == 5, 20)
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait(10)

    run(job)
    assert job.state == State.RUNNING  # the lease still holds
    assert enqueue_due_work() == 0
    wait_until(lambda: RetrieveJob.objects.due().exists(), 10)
    assert enqueue_due_work() == 1
    run(job)
    assert (job.state, job.attempts, job.completed_count) == (State.DONE, 2, 10)


def test_a_job_that_kills_each_worker_is_given_up(pacs, user):
    job = request_retrieve(user, node_for(pacs), UID)
    for _ in range(4):
        assert Claim.take(job.pk, 60)
        RetrieveJob.objects.update(lease_until=timezone.now())
    run(job)
    assert job.state == State.FAILED
    assert "interrupted 4 times" in job.last_error


def test_a_node_that_was_switched_off_meanwhile_is_not_asked(pacs, user):
    node = node_for(pacs)
    job = request_retrieve(user, node, UID)
    node.is_active = False
    node.save()
    run(job)
    assert (job.state, pacs.moves) == (State.FAILED, [])


# --- Telling workers


def test_a_waiting_job_is_told_when_its_time_comes_and_once(user):
    job = run(request_retrieve(user, node_for(Address(free_port())), UID))
    Outbox.objects.all().delete()
    assert enqueue_due_work() == 0
    let_due(job)
    assert enqueue_due_work() == 1
    assert enqueue_due_work() == 0
    assert Outbox.objects.values_list("arguments", flat=True).get() == [job.pk]


def test_a_fresh_job_is_told_again_only_when_its_message_seems_lost(user, pacs):
    job = request_retrieve(user, node_for(pacs), UID)
    assert enqueue_due_work() == 0
    RetrieveJob.objects.filter(pk=job.pk).update(told_at=timezone.now() - timedelta(hours=1))
    assert enqueue_due_work() == 1


def test_ended_jobs_are_left_alone(user, pacs):
    job = request_retrieve(user, node_for(pacs), UID)
    cancel_retrieve(job.pk)
    RetrieveJob.objects.update(told_at=timezone.now() - timedelta(hours=1))
    assert enqueue_due_work() == 0


def test_the_task_runs_the_job_and_never_raises_for_a_peer(user):
    from workers.transfer import run_retrieve as task

    job = request_retrieve(user, node_for(Address(free_port())), UID)
    task(job.pk)
    job.refresh_from_db()
    assert job.attempts == 1
    task(10**9)
