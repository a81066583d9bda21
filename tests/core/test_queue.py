import pytest
from django.db import connection, transaction

from apps.core.leader import LeaderLock, open_connection
from apps.core.models import Outbox
from apps.core.queue import OUTBOX_CHANNEL, STORE_BATCH, enqueue


@pytest.mark.django_db
def test_enqueue_writes_one_unsent_row():
    enqueue(STORE_BATCH, "batch", 7)
    row = Outbox.objects.get()
    assert (row.task_name, row.arguments, row.sent_at) == (STORE_BATCH, ["batch", 7], None)


@pytest.mark.django_db
def test_a_task_without_a_queue_is_refused():
    with pytest.raises(ValueError, match="no queue"):
        enqueue("nowhere.do_it", 1)


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_was_never_asked_for():
    with pytest.raises(RuntimeError), transaction.atomic():
        enqueue(STORE_BATCH, "batch")
        raise RuntimeError
    assert not Outbox.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_commit_wakes_the_relay():
    with open_connection() as listener:
        listener.execute(f"LISTEN {OUTBOX_CHANNEL}")
        enqueue(STORE_BATCH, "batch")
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1


@pytest.mark.django_db(transaction=True)
def test_one_leader_at_a_time_and_the_next_when_it_is_gone():
    first, second = LeaderLock("test"), LeaderLock("test")
    assert first.try_acquire()
    assert not second.try_acquire()
    first.release()
    assert second.wait()
    assert second.is_held()
    second.release()


@pytest.mark.django_db(transaction=True)
def test_a_leader_notices_that_its_connection_was_ended():
    lock = LeaderLock("test")
    assert lock.try_acquire()
    pid = lock._connection.info.backend_pid
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s::int)", [pid])
    assert not lock.is_held()
    assert lock.try_acquire()
    lock.release()


@pytest.mark.django_db
def test_the_application_role_has_no_ddl_and_no_migrations():
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchone() == ("dicomsys_app",)
    for statement in (
        "CREATE TABLE x (a int)",
        "DELETE FROM django_migrations",
        "TRUNCATE core_outbox",
        "DROP TABLE core_outbox",
    ):
        with (
            pytest.raises(Exception, match="permission denied|must be owner"),
            transaction.atomic(),
            connection.cursor() as cursor,
        ):
            cursor.execute(statement)
