"""Whether a study is still arriving: quiet times, expected counts, late images."""

import logging
from datetime import timedelta
from threading import Event, Thread

import pytest
from django.db import connection, transaction
from django.utils import timezone
from pydicom.uid import generate_uid

from apps.archive.complete import complete_studies, expect_instances
from apps.archive.models import ExpectedStudy, Study
from apps.nodes.models import RemoteNode
from tests.dicom import ct_dataset, series_of
from tests.factories import make_study, store

pytestmark = pytest.mark.django_db

RECEIVING, COMPLETE = Study.Status.RECEIVING, Study.Status.COMPLETE


def quiet_for(study: Study, seconds: float) -> None:
    """As if the newest instance had been stored so long ago."""
    Study.objects.filter(pk=study.pk).update(updated_at=timezone.now() - timedelta(seconds=seconds))


def status(study: Study) -> str:
    study.refresh_from_db()
    return study.status


def test_a_study_is_receiving_from_its_first_image_until_it_was_quiet(volume):
    store(ct_dataset())
    study = Study.objects.get()
    assert (study.status, study.completed_at) == (RECEIVING, None)
    complete_studies()
    assert status(study) == RECEIVING
    quiet_for(study, 59)
    complete_studies()
    assert status(study) == RECEIVING

    quiet_for(study, 61)
    complete_studies()
    assert status(study) == COMPLETE
    assert study.completed_at is not None
    assert (study.reopened_count, study.reopened_at) == (0, None)


def test_a_late_image_opens_the_study_again(volume):
    first, second, third = series_of(3)
    store(first)
    study = Study.objects.get()
    for count, late in enumerate((second, third), start=1):
        quiet_for(study, 100)
        complete_studies()
        assert status(study) == COMPLETE
        store(late)
        assert status(study) == RECEIVING
        assert study.completed_at is None
        assert study.reopened_count == count
        assert study.reopened_at is not None


def test_a_duplicate_opens_nothing(volume):
    from tests.archive.test_ingest import store as store_again

    dataset = ct_dataset()
    store(dataset)
    study = Study.objects.get()
    quiet_for(study, 100)
    complete_studies()
    assert store_again(dataset) == ["duplicate"]
    assert status(study) == COMPLETE
    assert study.reopened_count == 0


@pytest.mark.parametrize(
    ("times", "sources", "quiet_s"),
    [
        ([10], ["MODALITY"], 10),
        ([300], ["MODALITY"], 300),
        ([None], ["MODALITY"], 60),
        ([10, 300], ["MODALITY"], 300),  # two stations with one title: the slower
        ([10, None], ["MODALITY"], 60),
        ([10], ["MODALITY", "OTHER"], 60),  # the other one has no time of its own
        ([10], ["OTHER"], 60),
    ],
)
def test_the_slowest_sender_of_a_study_says_how_long_quiet_is(times, sources, quiet_s):
    for port, seconds in enumerate(times, start=1):
        RemoteNode.objects.create(name=f"{port}", ae_title="MODALITY", host="h", port=port, study_quiet_s=seconds)
    study = make_study(source=sources[0], status=RECEIVING)
    for source in sources[1:]:
        study.series.create(series_instance_uid=f"{source}.1", calling_ae_title=source)
    quiet_for(study, quiet_s - 1)
    complete_studies()
    assert status(study) == RECEIVING
    quiet_for(study, quiet_s + 1)
    complete_studies()
    assert status(study) == COMPLETE


def test_the_setting_is_the_quiet_time_of_everybody_else(settings):
    settings.STUDY_QUIET_S = 5
    study = make_study(status=RECEIVING)
    quiet_for(study, 6)
    complete_studies()
    assert status(study) == COMPLETE


def test_more_studies_than_one_piece_are_completed_in_one_run(monkeypatch):
    monkeypatch.setattr("apps.archive.complete.CHUNK", 2)
    studies = [make_study(f"Name{number}", status=RECEIVING) for number in range(5)]
    for study in studies:
        quiet_for(study, 100)
    complete_studies()
    assert {status(study) for study in studies} == {COMPLETE}


# --- Expected counts


def test_a_study_is_complete_at_once_when_what_was_expected_is_there(volume):
    images = series_of(4)
    store(images[0])
    study = Study.objects.get()
    expect_instances(study.study_instance_uid, 3)
    assert status(study) == RECEIVING
    assert study.missing_count == 2
    store(images[1])
    assert status(study) == RECEIVING
    store(images[2])
    assert status(study) == COMPLETE
    assert (study.completed_at is not None, study.missing_count, study.reopened_count) == (True, 0, 0)

    store(images[3])  # more than the sender spoke of: open until it is quiet
    assert (status(study), study.reopened_count) == (RECEIVING, 1)


def test_what_was_expected_and_is_there_already_completes_the_study(volume):
    store(*series_of(3))
    study = Study.objects.get()
    expect_instances(study.study_instance_uid, 3)
    assert status(study) == COMPLETE
    assert study.completed_at is not None


def test_what_is_expected_may_be_said_before_the_first_image(volume):
    images = series_of(2)
    uid = images[0].StudyInstanceUID
    expect_instances(uid, 5)
    expect_instances(uid, 2)  # the newest number counts
    store(images[0])
    complete_studies()
    study = Study.objects.get()
    assert (study.expected_instance_count, study.status) == (2, RECEIVING)
    assert not ExpectedStudy.objects.exists()
    store(images[1])
    assert status(study) == COMPLETE


def test_all_images_may_be_there_before_the_number_is_taken(volume):
    images = series_of(2)
    expect_instances(images[0].StudyInstanceUID, 2)
    store(*images)
    complete_studies()
    assert Study.objects.get().status == COMPLETE


def test_fewer_than_expected_end_with_the_quiet_time_and_are_known_to_be_missing(volume):
    store(ct_dataset())
    study = Study.objects.get()
    expect_instances(study.study_instance_uid, 10)
    quiet_for(study, 100)
    complete_studies()
    assert (status(study), study.missing_count) == (COMPLETE, 9)


def test_a_number_for_a_study_that_never_came_is_forgotten():
    expect_instances("1.2.3", 10)
    ExpectedStudy.objects.update(told_at=timezone.now() - timedelta(days=8))
    expect_instances("1.2.4", 10)
    complete_studies()
    assert list(ExpectedStudy.objects.values_list("study_instance_uid", flat=True)) == ["1.2.4"]


# --- Traces and locks


def test_the_log_names_the_study_and_nobody(volume, caplog, django_capture_on_commit_callbacks):
    caplog.set_level(logging.INFO, "apps.archive")
    uid = generate_uid()
    first, second = series_of(2, PatientName="Secret^Person", PatientID="SECRET-1")
    first.StudyInstanceUID = second.StudyInstanceUID = uid
    store(first)
    quiet_for(Study.objects.get(), 100)
    with django_capture_on_commit_callbacks(execute=True):
        complete_studies()
    assert f"study {uid}: complete" in caplog.text
    with django_capture_on_commit_callbacks(execute=True):
        store(second)
    assert f"study {uid}: reopened" in caplog.text
    assert "secret" not in caplog.text.lower()


@pytest.mark.django_db(transaction=True)
def test_a_study_that_ingest_holds_is_passed_over_and_nobody_waits():
    held, free = make_study("Held", status=RECEIVING), make_study("Free", status=RECEIVING)
    for study in (held, free):
        quiet_for(study, 100)
    taken, done = Event(), Event()

    def hold() -> None:
        with transaction.atomic():
            Study.objects.select_for_update(no_key=True).get(pk=held.pk)
            taken.set()
            done.wait(30)
        connection.close()

    holder = Thread(target=hold)
    holder.start()
    assert taken.wait(30)
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', '5s', false)")
    complete_studies()
    assert (status(held), status(free)) == (RECEIVING, COMPLETE)
    done.set()
    holder.join()
    complete_studies()
    assert status(held) == COMPLETE
    connection.close()


def test_counting_keeps_updates_within_the_row_s_own_page():
    """No index holds a column that every batch changes: such an update would write into every index."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = 'archive_study'")
        definitions = [row[0].partition("(")[2] for row in cursor.fetchall()]
    changed = ("updated_at", "instance_count", "size_bytes", "series_count", "completed_at", "reopened")
    assert not [one for one in definitions if any(column in one for column in changed)]


def test_beat_asks_for_it(settings):
    from workers.maintenance import complete_studies as task

    assert task.name in {name for name, *_ in settings.DEFAULT_SCHEDULE}
    study = make_study(status=RECEIVING)
    quiet_for(study, 100)
    task()
    assert status(study) == COMPLETE
