"""Several workers, an administrator and SIGKILL at once: the same end as one worker alone."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
from django.conf import settings
from django.db import connection

from apps.archive.ingest import Outcome, store_batch
from apps.archive.models import Conflict, Instance, Patient, Series, Study
from apps.core.leader import open_connection
from apps.storage.spool import Spool
from tests.archive.test_ingest import spooled, store
from tests.dicom import ct_dataset, encode, part10, series_of

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS, ROUNDS = 5, 40


# --- SIGKILL


def start_worker() -> int:
    """A process that stores whatever waits until it is killed."""
    connection.close()
    worker = os.fork()
    if worker == 0:
        try:
            rng, spool = random.Random(), Spool(settings.SPOOL_DIR)
            while os.getppid() != 1:
                names = spool.closed_batches()
                rng.shuffle(names)
                for name in names:
                    store_batch(name)
                time.sleep(0.002)
        finally:
            os._exit(0)
    return worker


def kill(worker: int) -> None:
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


def deadlocks() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return cursor.fetchone()[0]


def test_killed_workers_on_one_study_lose_nothing_and_leave_nothing(volume):
    """Three series of one study, everything sent by two senders; one of five workers dies every few milliseconds."""
    rng, before = random.Random(20260102), deadlocks()
    lots = [series_of(ROUNDS * 2) for _ in range(3)]
    for lot in lots[1:]:
        for dataset in lot:
            dataset.StudyInstanceUID = lots[0][0].StudyInstanceUID
    workers = [start_worker() for _ in range(WORKERS)]
    try:
        for at in range(ROUNDS):
            for calling in ("ONE", "TWO"):
                for lot in rng.sample(lots, 3):
                    spooled(*(part10(dataset, calling) for dataset in lot[2 * at : 2 * at + 2]))
            time.sleep(rng.uniform(0.002, 0.05))
            kill(workers.pop(rng.randrange(WORKERS)))
            workers.append(start_worker())
        wait_until(lambda: not Spool(settings.SPOOL_DIR).closed_batches(), 60, "everything is taken out of the spool")
    finally:
        for worker in workers:
            kill(worker)

    sent = {str(dataset.SOPInstanceUID): sha256(encode(dataset)).digest() for lot in lots for dataset in lot}
    stored = {instance.sop_instance_uid: instance for instance in Instance.objects.select_related("series__study")}
    assert {uid: bytes(instance.dataset_sha256) for uid, instance in stored.items()} == sent
    for instance in stored.values():
        assert sha256(instance.path.read_bytes()).digest() == bytes(instance.file_sha256)
    study = Study.objects.get()
    assert (study.series_count, study.instance_count) == (3, len(sent))
    assert study.size_bytes == sum(instance.size_bytes for instance in stored.values())
    assert list(Series.objects.values_list("instance_count", flat=True)) == [ROUNDS * 2] * 3
    assert len(list(Path(volume.root).rglob("*.dcm"))) == len(sent)
    assert not Conflict.objects.exists()
    assert deadlocks() == before


# --- An administrator who holds the rows that a worker wants


@contextmanager
def administrator() -> Iterator[psycopg.Connection]:
    """A session whose transaction is committed at the end of the `with`."""
    session = open_connection()
    try:
        with session.transaction():
            yield session
    finally:
        session.close()


def stored_by_another_thread(name: str) -> list[Outcome]:
    try:
        return [result.outcome for result in store_batch(name)]
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], limit_s: float, what: str) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.01)


def wait_until_it_waits(running: Future) -> None:
    """Until the worker waits for a lock of the database."""

    def waits() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return running.done() or cursor.fetchone()[0] > 0

    wait_until(waits, 20, "the worker waits")
    assert not running.done(), running.result()


def test_a_study_given_to_another_patient_meanwhile_is_judged_as_it_is_now(volume):
    first, second = series_of(2)
    store(first, ct_dataset(PatientID="P2"))
    other = Patient.objects.get(patient_id="P2")
    with ThreadPoolExecutor(1) as pool:
        with administrator() as session:
            session.execute(
                "UPDATE archive_study SET patient_id = %s WHERE study_instance_uid = %s",
                [other.pk, str(first.StudyInstanceUID)],
            )
            running = pool.submit(stored_by_another_thread, spooled(part10(second)))
            wait_until_it_waits(running)
        assert running.result(20) == [Outcome.CONFLICT]

    assert Conflict.objects.get().kind == Conflict.Kind.STUDY
    assert Instance.objects.count() == 2
    assert len(list(Path(volume.root).rglob("*.dcm"))) == 2


def test_a_series_moved_to_another_study_meanwhile_is_judged_as_it_is_now(volume):
    first, second = series_of(2)
    store(first, ct_dataset())
    study = Study.objects.get(study_instance_uid=first.StudyInstanceUID)
    with ThreadPoolExecutor(1) as pool:
        with administrator() as session:
            session.execute("SELECT id FROM archive_study ORDER BY id FOR NO KEY UPDATE")
            session.execute(
                "UPDATE archive_series SET study_id = %s WHERE study_id = %s",
                [Study.objects.exclude(pk=study.pk).get().pk, study.pk],
            )
            running = pool.submit(stored_by_another_thread, spooled(part10(second)))
            wait_until_it_waits(running)
        assert running.result(20) == [Outcome.CONFLICT]

    assert Conflict.objects.get().kind == Conflict.Kind.SERIES
    assert len(list(Path(volume.root).rglob("*.dcm"))) == 2


def test_a_deadlock_with_somebody_else_costs_one_more_try(volume):
    """The worker locks studies by their key; who takes them the other way round makes one of the two fail."""
    rounds = 10
    low, high = series_of(1 + rounds), series_of(1 + rounds)
    store(low[0])
    store(high[0])
    keys = [Study.objects.get(study_instance_uid=lot[0].StudyInstanceUID).pk for lot in (low, high)]
    for at in range(1, 1 + rounds):
        name = spooled(part10(low[at]), part10(high[at]))
        with ThreadPoolExecutor(1) as pool:
            running, is_worker_beaten = deadlocked(pool, name, keys)
            assert running.result(20) == [Outcome.STORED] * 2
        if is_worker_beaten:  # else the server was slow to start it, and chose us
            return
    pytest.fail("the server never chose the worker")


def deadlocked(pool: ThreadPoolExecutor, name: str, keys: list[int]) -> tuple[Future, bool]:
    """Whether it was the worker whom the server made fail, so that the other could go on."""
    lock = "SELECT id FROM archive_study WHERE id = %s FOR NO KEY UPDATE"
    try:
        with administrator() as session:
            session.execute(lock, [keys[1]])
            running = pool.submit(stored_by_another_thread, name)
            wait_until_it_waits(running)
            session.execute(lock, [keys[0]])
            return running, True
    except psycopg.errors.DeadlockDetected:
        return running, False
