import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from django.conf import settings
from django.db import DataError, connection
from pydicom.uid import generate_uid

from apps.archive import ingest, settling, upsert
from apps.archive.ingest import Outcome, store_batch
from apps.archive.models import Conflict, Instance, Patient, Series, Study
from apps.storage import files
from apps.storage.files import NoVolumeError
from apps.storage.models import Volume
from apps.storage.spool import Spool
from tests.dicom import ct_dataset, encode, part10, series_of

pytestmark = pytest.mark.django_db


def spooled(*contents: bytes) -> str:
    batch = Spool(settings.SPOOL_DIR).open_batch()
    for content in contents:
        batch.write((content,))
    name = batch.close()
    assert name
    return name


def store(*datasets) -> list[str]:
    return [result.outcome.value for result in store_batch(spooled(*(part10(dataset) for dataset in datasets)))]


def waiting_batches() -> list[str]:
    return Spool(settings.SPOOL_DIR).closed_batches()


def test_a_stored_instance_has_its_bytes_and_both_digests(volume):
    dataset = ct_dataset()
    assert store(dataset) == ["stored"]

    instance = Instance.objects.get(sop_instance_uid=dataset.SOPInstanceUID)
    stored = instance.open_file().read()
    assert stored == part10(dataset)
    assert sha256(stored).digest() == bytes(instance.file_sha256)
    assert sha256(encode(dataset)).digest() == bytes(instance.dataset_sha256)
    assert waiting_batches() == []


def test_the_tables_hold_what_the_header_says(volume):
    dataset = ct_dataset(PatientName="Größe^Anna=田中^花", StudyTime="235959.5", SeriesNumber=7, InstanceNumber=3)
    store(dataset)

    series = Series.objects.select_related("study__patient").get()
    study, patient = series.study, series.study.patient
    assert (patient.patient_id, patient.issuer, patient.only_study_uid) == ("P1", "TEST", "")
    assert patient.display_name == "Größe, Anna (田中 花)"
    assert patient.name_search == "grosse anna 田中 花"
    assert (str(patient.birth_date), patient.sex) == ("1970-01-01", "O")
    assert (str(study.study_date), study.accession_number, study.description) == ("2026-01-02", "A1", "Synthetic study")
    assert (series.modality, series.series_number, series.calling_ae_title) == ("CT", 7, "SENDER")
    assert Instance.objects.get().instance_number == 3


def test_counters_count_what_was_inserted_and_a_replay_changes_nothing(volume):
    first, second = series_of(3), series_of(2)
    for dataset in second:
        dataset.StudyInstanceUID = first[0].StudyInstanceUID
    store(*first, *second)
    assert store(*first, *second) == ["duplicate"] * 5

    study = Study.objects.get()
    assert (study.series_count, study.instance_count) == (2, 5)
    assert study.size_bytes == sum(Instance.objects.values_list("size_bytes", flat=True))
    assert sorted(Series.objects.values_list("instance_count", flat=True)) == [2, 3]


def test_the_same_uid_with_other_content_is_kept_aside(volume):
    dataset = ct_dataset()
    store(dataset)
    changed = ct_dataset(
        **{k: dataset.get(k) for k in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")},
        PixelData=bytes(128),
    )
    assert store(changed) == ["conflict"]
    assert store(changed) == ["conflict"]

    conflict = Conflict.objects.get()
    assert conflict.kind == Conflict.Kind.INSTANCE
    assert (settings.QUARANTINE_DIR / conflict.held_file).read_bytes() == part10(changed)
    assert Instance.objects.get().open_file().read() == part10(dataset)


def test_the_same_content_twice_in_one_batch_is_stored_once(volume):
    dataset = ct_dataset()
    assert sorted(store(dataset, dataset)) == ["duplicate", "stored"]


def test_a_known_study_under_another_patient_is_kept_aside(volume):
    mine = ct_dataset()
    other = ct_dataset(StudyInstanceUID=mine.StudyInstanceUID, PatientID="P2", PatientName="Other^Person")
    store(mine)
    assert store(other) == ["conflict"]
    assert Conflict.objects.get().kind == Conflict.Kind.STUDY
    assert Patient.objects.count() == Instance.objects.count() == 1


def test_two_patients_of_one_study_in_one_batch_are_not_mixed(volume):
    mine = ct_dataset()
    other = ct_dataset(StudyInstanceUID=mine.StudyInstanceUID, PatientID="P2")
    assert sorted(store(mine, other)) == ["conflict", "stored"]


def test_a_known_series_under_another_study_is_kept_aside(volume):
    mine = ct_dataset()
    store(mine)
    assert store(ct_dataset(SeriesInstanceUID=mine.SeriesInstanceUID)) == ["conflict"]
    assert Conflict.objects.get().kind == Conflict.Kind.SERIES
    assert Study.objects.count() == 1


def test_another_person_under_a_known_patient_id_is_a_patient_of_their_own(volume):
    store(ct_dataset(PatientName="Smith^John", PatientBirthDate="19500101"))
    eva = series_of(2, PatientName="Miller^Eva", PatientBirthDate="19990202")
    assert store(eva[0]) == store(eva[1]) == ["stored"]
    assert store(ct_dataset(PatientName="Smith-Jones^John", PatientBirthDate="19500101")) == ["stored"]
    assert store(ct_dataset(PatientName="SMITH^J", PatientBirthDate="")) == ["stored"]

    study = Study.objects.select_related("patient").get(study_instance_uid=eva[0].StudyInstanceUID)
    assert (study.patient.name, study.patient.shares_id, study.instance_count) == ("Miller^Eva", True, 2)
    smith = Patient.objects.get(only_study_uid="")
    assert (smith.name, smith.shares_id, smith.studies.count()) == ("Smith^John", False, 3)
    assert not Conflict.objects.exists()


def test_within_one_study_the_patient_id_decides(volume):
    """Another spelling of the name in a study of the same ID is a correction."""
    mine = ct_dataset()
    corrected = ct_dataset(StudyInstanceUID=mine.StudyInstanceUID, PatientName="Fantom^Tset", PatientBirthDate="")
    assert store(mine, corrected) == ["stored", "stored"]
    assert Patient.objects.get().name == "Phantom^Test"


def test_a_resend_restores_a_stored_file_that_is_missing(volume):
    dataset = ct_dataset()
    store(dataset)
    path = Instance.objects.get().path
    path.unlink()

    (result,) = store_batch(spooled(part10(dataset, calling="ANOTHER")))
    assert (result.outcome, result.reason) == (Outcome.DUPLICATE, "the stored file was missing and is restored")
    assert path.read_bytes() == part10(dataset, calling="ANOTHER")
    assert sha256(path.read_bytes()).digest() == bytes(Instance.objects.get().file_sha256)


def test_a_resend_over_a_damaged_file_is_kept(volume):
    dataset = ct_dataset()
    store(dataset)
    path = Instance.objects.get().path
    path.write_bytes(b"rot" + path.read_bytes()[3:])

    assert store(dataset) == ["conflict"]
    assert (settings.QUARANTINE_DIR / Conflict.objects.get().held_file).read_bytes() == part10(dataset)


def test_other_content_over_a_missing_file_holds_up_nobody(volume):
    dataset, healthy = ct_dataset(), ct_dataset()
    store(dataset)
    Instance.objects.get().path.unlink()
    dataset.PixelData = bytes(128)
    assert sorted(store(dataset, healthy)) == ["conflict", "stored"]


def test_a_file_that_cannot_be_read_by_a_bug_holds_up_nobody(volume, monkeypatch):
    bad, healthy = spooled(b"bad" * 100), spooled(part10(ct_dataset()))
    real = settling.read_header

    def stumble(path):
        if path.read_bytes().startswith(b"bad"):
            raise ZeroDivisionError("Secret^Name")
        return real(path)

    monkeypatch.setattr(settling, "read_header", stumble)
    assert [result.outcome for result in store_batch(healthy)] == [Outcome.STORED]
    assert [result.outcome for result in store_batch(bad)] == [Outcome.UNREADABLE]
    assert Conflict.objects.get().reason == "it cannot be stored (ZeroDivisionError)"
    assert waiting_batches() == []


def test_the_same_object_of_another_sender_finds_an_orphan_of_a_killed_worker(volume):
    dataset = ct_dataset()
    store(dataset)
    path = Instance.objects.get().path
    Instance.objects.all().delete()  # linked, not committed, and the spool entry gone: the worst case

    assert store_batch(spooled(part10(dataset, calling="ANOTHER")))[0].outcome is Outcome.STORED
    assert Instance.objects.get().path == path
    assert sha256(path.read_bytes()).digest() == bytes(Instance.objects.get().file_sha256)
    assert not Conflict.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_one_object_of_two_senders_side_by_side_is_one_duplicate(volume):
    store(series_of(1)[0])
    for _ in range(8):
        dataset = ct_dataset()
        names = [spooled(part10(dataset, calling=calling)) for calling in ("ONE", "TWO", "THREE")]
        outcomes = side_by_side(names)
        assert outcomes.count(Outcome.STORED) == 1
        assert outcomes.count(Outcome.DUPLICATE) == 2


def side_by_side(names: list[str]) -> list[Outcome]:
    def work(name):
        try:
            return [result.outcome for result in store_batch(name)]
        finally:
            connection.close()

    with ThreadPoolExecutor(len(names)) as pool:
        return [outcome for part in pool.map(work, names) for outcome in part]


def test_an_absent_issuer_is_another_patient(volume):
    store(ct_dataset(), ct_dataset(IssuerOfPatientID=None))
    assert sorted(Patient.objects.values_list("issuer", flat=True)) == ["", "TEST"]


def test_without_a_patient_id_each_study_has_a_patient_of_its_own(volume):
    series = series_of(2, PatientID="")
    store(*series, ct_dataset(PatientID=""))
    assert Patient.objects.count() == 2
    assert set(Patient.objects.values_list("only_study_uid", flat=True)) == set(
        Study.objects.values_list("study_instance_uid", flat=True)
    )


def test_an_unreadable_file_is_kept_with_its_reason_and_the_rest_is_stored(volume):
    results = store_batch(spooled(b"not DICOM at all" * 20, part10(ct_dataset())))
    assert [result.outcome for result in results] == [Outcome.UNREADABLE, Outcome.STORED]
    conflict = Conflict.objects.get()
    assert (conflict.kind, bool(conflict.reason)) == (Conflict.Kind.UNREADABLE, True)
    assert (settings.QUARANTINE_DIR / conflict.held_file).read_bytes() == b"not DICOM at all" * 20


def test_hostile_uids_and_texts_neither_leave_the_store_nor_stop_the_batch(volume):
    hostile = ct_dataset(PatientName="'; DROP TABLE archive_patient; --", StudyDescription="x" * 64)
    hostile.add_new(0x00180015, "LO", "y" * 500)
    raw = part10(hostile).replace(
        hostile.SeriesInstanceUID.encode(), b"../../../../etc/passwd".ljust(len(hostile.SeriesInstanceUID), b"/")
    )
    assert {result.outcome for result in store_batch(spooled(raw, part10(ct_dataset())))} <= {Outcome.STORED}
    root = Path(volume.root).resolve()
    assert all(root in instance.path.resolve().parents for instance in Instance.objects.all())
    assert Instance.objects.count() == 2


def test_a_run_cut_off_before_its_commit_is_repeated_without_a_trace(volume, monkeypatch):
    dataset = ct_dataset()
    name = spooled(part10(dataset))

    def cut(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(settling, "insert_instances", cut)
        store_batch(name)
    assert Instance.objects.count() == Study.objects.count() == 0
    assert len(Spool(settings.SPOOL_DIR).files(name)) == 1

    assert [result.outcome for result in store_batch(name)] == [Outcome.STORED]
    assert Instance.objects.get().open_file().read() == part10(dataset)


def test_a_run_cut_off_after_it_linked_files_of_a_known_series_is_repeated(volume, monkeypatch):
    first, second = series_of(2)
    store(first)
    name = spooled(part10(second))

    def cut(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(settling, "insert_instances", cut)
        store_batch(name)
    assert len(list(Path(volume.root).rglob("*.dcm"))) == 2

    assert [result.outcome for result in store_batch(name)] == [Outcome.STORED]
    assert Study.objects.get().instance_count == 2
    assert len(list(Path(volume.root).rglob("*.dcm"))) == 2


def test_more_of_a_known_series_takes_no_other_way_than_two_statements(volume, monkeypatch):
    datasets = series_of(40)
    store(*datasets[:2])

    def refuse(*args):
        raise AssertionError("not the usual case")

    monkeypatch.setattr(settling, "_store_round", refuse)
    statements = []
    real = upsert.fetch
    monkeypatch.setattr(upsert, "fetch", lambda *args: statements.append(args[0]) or real(*args))
    assert store(*datasets[2:]) == ["stored"] * 38
    assert len(statements) == 2
    assert Study.objects.get().instance_count == 40


def test_a_uid_known_in_another_series_leaves_no_second_file(volume):
    one, other = ct_dataset(), ct_dataset()
    store(one, other)
    one.SeriesInstanceUID, one.StudyInstanceUID = other.SeriesInstanceUID, other.StudyInstanceUID
    assert store(one) == ["conflict"]
    assert Conflict.objects.get().kind == Conflict.Kind.INSTANCE
    assert len(list(Path(volume.root).rglob(f"{one.SOPInstanceUID}.dcm"))) == 1


@pytest.mark.parametrize("known", [False, True], ids=["new series", "known series"])
def test_uids_full_of_quotes_are_stored_as_they_are(volume, known):
    hostile = ['1.2"},{"', "1.2\\", "NULL", "{}", "1,2", "'; --", " 1 .2", 'ä"ö']
    datasets = series_of(len(hostile) + 1)
    if known:
        store(datasets[-1])
    raw = []
    for dataset, uid in zip(datasets, hostile, strict=False):
        sent = dataset.SOPInstanceUID.encode()
        raw.append(part10(dataset).replace(sent, uid.encode("latin-1").ljust(len(sent), b"\0")))
    assert {result.outcome for result in store_batch(spooled(*raw))} == {Outcome.STORED}
    found = set(
        Instance.objects.exclude(sop_instance_uid=datasets[-1].SOPInstanceUID).values_list(
            "sop_instance_uid", flat=True
        )
    )
    assert found == {uid.strip() for uid in hostile}
    assert all(instance.path.is_file() for instance in Instance.objects.all())


@pytest.mark.django_db(transaction=True)
def test_a_volume_that_was_removed_a_moment_ago_is_not_stored_into(file_store, volume):
    first = series_of(1)[0]
    store(first)
    Instance.objects.all().delete()
    volume.delete()
    root = file_store / "another"
    root.mkdir()
    Volume.objects.create(name="another", root=str(root))

    dataset = ct_dataset()
    assert store(dataset) == ["stored"]
    assert Instance.objects.get().path.is_relative_to(root)


@pytest.fixture
def volume_of_another_disk(db, file_store):
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == file_store.parent.stat().st_dev:
        pytest.skip("no second file system")
    with TemporaryDirectory(dir=memory) as root:
        yield Volume.objects.create(name="memory", root=root)


def test_a_volume_on_another_disk_gets_copies(volume_of_another_disk):
    datasets = series_of(4)
    assert store(*datasets[:2]) == ["stored"] * 2
    assert store(*datasets) == ["stored"] * 2 + ["duplicate"] * 2
    stored = sorted(path for path in Path(volume_of_another_disk.root).rglob("*") if path.is_file())
    assert stored == sorted(instance.path for instance in Instance.objects.all())
    assert {path.read_bytes() for path in stored} == {part10(dataset) for dataset in datasets}


def test_a_full_volume_is_seen_within_a_second(volume, settings, monkeypatch):
    store(ct_dataset())
    settings.SPOOL_MIN_FREE_BYTES = 1 << 60
    now = files.monotonic()
    monkeypatch.setattr(files, "monotonic", lambda: now + 1)
    with pytest.raises(NoVolumeError):
        store(ct_dataset())


def test_a_batch_that_is_gone_is_no_error(volume):
    assert store_batch("1.aabbccdd-1") == []


def test_an_emptied_batch_that_was_left_is_removed(volume):
    (Spool(settings.SPOOL_DIR).closed_dir / "1.aabbccdd-1").mkdir()
    assert store_batch("1.aabbccdd-1") == []
    assert waiting_batches() == []


def test_a_value_that_the_database_refuses_holds_back_one_file_only(volume, monkeypatch):
    datasets = series_of(3)
    real = settling.insert_instances

    def refuse(headers, *args):
        headers = list(headers)
        if any(header.sop_instance_uid == datasets[1].SOPInstanceUID for header in headers):
            raise DataError("value out of range")
        return real(headers, *args)

    monkeypatch.setattr(settling, "insert_instances", refuse)
    assert store(*datasets) == ["stored", "unreadable", "stored"]
    assert Conflict.objects.get().reason == "it cannot be stored (DataError)"
    assert waiting_batches() == []


def test_no_volume_leaves_the_batch_in_the_spool(file_store, db):
    name = spooled(part10(ct_dataset()))
    with pytest.raises(NoVolumeError):
        store_batch(name)
    assert waiting_batches() == [name]


@pytest.mark.django_db(transaction=True)
def test_many_workers_on_one_study_store_each_instance_once(volume):
    datasets = series_of(60)
    batches = [spooled(*(part10(dataset) for dataset in datasets[start::7])) for start in range(7)]
    batches += [spooled(*(part10(dataset) for dataset in datasets[start : start + 12])) for start in range(0, 60, 12)]

    def work(name):
        try:
            return [result.outcome for result in store_batch(name)]
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        outcomes = [outcome for part in pool.map(work, batches) for outcome in part]

    assert outcomes.count(Outcome.STORED) == 60
    assert outcomes.count(Outcome.DUPLICATE) == 60
    assert waiting_batches() == []
    study = Study.objects.get()
    assert (study.instance_count, study.series_count, Instance.objects.count()) == (60, 1, 60)
    assert all(
        part10(dataset) == Instance.objects.get(sop_instance_uid=dataset.SOPInstanceUID).open_file().read()
        for dataset in datasets
    )


@pytest.mark.django_db(transaction=True)
def test_one_uid_in_two_studies_side_by_side_is_stored_once_and_kept_aside_once(volume):
    for _ in range(5):
        uid = generate_uid()
        names = [spooled(part10(ct_dataset(SOPInstanceUID=uid, PatientID=f"P{n}"))) for n in range(4)]

        def work(name):
            try:
                return [result.outcome for result in store_batch(name)]
            finally:
                connection.close()

        with ThreadPoolExecutor(4) as pool:
            outcomes = [outcome for part in pool.map(work, names) for outcome in part]
        assert outcomes.count(Outcome.STORED) == 1
        assert outcomes.count(Outcome.CONFLICT) == 3
        instance = Instance.objects.get(sop_instance_uid=uid)
        assert instance.path.is_file()
        assert len(list(Path(volume.root).rglob(f"{uid}.dcm"))) == 1


def test_an_open_batch_is_stored_by_its_holder_and_leaves_nothing(volume):
    spool = Spool(settings.SPOOL_DIR)
    batch = spool.open_batch()
    for dataset in series_of(3):
        batch.write((part10(dataset),))
    assert [result.outcome for result in ingest.store_open_batch(batch)] == [Outcome.STORED] * 3
    assert not list(settings.SPOOL_DIR.glob("*/*"))


def test_a_backlog_of_small_batches_is_stored_together(volume, django_assert_max_num_queries):
    names = [spooled(part10(dataset)) for dataset in series_of(20)]
    with django_assert_max_num_queries(20):
        results = store_batch(names[0])
    assert [result.outcome for result in results] == [Outcome.STORED] * 20
    assert waiting_batches() == []
