"""Doubtful texts from their arrival to their repair and back."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.conf import settings
from django.db import DataError, connection
from pydicom.uid import generate_uid

from apps.archive import settling, text_repair
from apps.archive.charset_doubts import Doubt
from apps.archive.header import assume_default, read_header
from apps.archive.identity import identity_of
from apps.archive.models import CoercionRule, Conflict, DoubtfulText, Instance, Patient, Series, Study
from apps.archive.rulebook import forget_rules
from apps.archive.text_repair import ask_for_repair, ask_for_undo, enqueue_due_repairs, mark_as_right, repair_texts
from apps.audit.models import AuditEvent
from apps.core.leader import LeaderLock
from apps.core.models import Outbox
from apps.core.queue import REPAIR_TEXTS
from tests.archive.test_ingest import spooled
from tests.dicom import ct_dataset, part10
from tests.factories import make_user
from workers import maintenance

pytestmark = pytest.mark.django_db

State, Problem = DoubtfulText.State, DoubtfulText.Problem
CYRILLIC = "Windows-1251"


def element(tag: tuple[int, int], vr: bytes, value: bytes) -> bytes:
    value += b" " * (len(value) % 2)
    return tag[0].to_bytes(2, "little") + tag[1].to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value


def mislabelled(encoding: str, label: str = "", **changes: str) -> bytes:
    """A file whose texts are written in `encoding` and whose label says otherwise."""
    texts = {"PatientName": "Иванов^Сергей", "StudyDescription": "КТ головы", "SeriesDescription": "Аксиальная"}
    dataset = ct_dataset(**({"ReferringPhysicianName": "Врач^Главный"} | texts | changes))
    content = part10(dataset).replace(b"ISO_IR 192", label.encode().ljust(10)[:10])
    for keyword in (*texts, "ReferringPhysicianName", "PatientID", "IssuerOfPatientID"):
        data_element = dataset[keyword]
        utf8, wanted = (str(data_element.value).encode(name) for name in ("utf-8", encoding))
        tag = (data_element.tag.group, data_element.tag.element)
        vr = data_element.VR.encode()
        assert content.count(element(tag, vr, utf8)) == 1
        content = content.replace(element(tag, vr, utf8), element(tag, vr, wanted))
    return content


def store(*contents: bytes) -> list[str]:
    from apps.archive.ingest import store_batch

    return [result.outcome.value for result in store_batch(spooled(*contents))]


def texts() -> tuple[str, str, str, str]:
    study = Study.objects.select_related("patient").get()
    series = study.series.get()
    return study.patient.name, study.description, study.referring_physician, series.description


RIGHT_TEXTS = ("Иванов^Сергей", "КТ головы", "Врач^Главный", "Аксиальная")


def repair(label: str = CYRILLIC, doubts=None) -> int:
    ask_for_repair(make_user("technologist"), DoubtfulText.objects.all() if doubts is None else doubts, label)
    return repair_texts()


# --- Found at ingest


def test_every_doubt_has_its_words():
    assert {doubt.value for doubt in Doubt} == set(DoubtfulText.Reason.values)


@pytest.mark.parametrize(
    ("encoding", "label", "reason"),
    [
        ("cp1251", "", "missing"),
        ("cp1251", "ISO_IR 999", "unknown"),
        ("cp866", "ISO_IR 100", "impossible"),
        ("utf-8", "ISO_IR 100", "unicode"),
        ("cp1251", "ISO_IR 100", "unlikely"),
    ],
)
def test_a_study_with_a_doubtful_label_is_noted(volume, encoding, label, reason):
    assert store(mislabelled(encoding, label)) == ["stored"]
    doubt = DoubtfulText.objects.get()
    assert (doubt.study, doubt.calling_ae_title, doubt.labelled) == (Study.objects.get(), "SENDER", label)
    assert (doubt.reason, doubt.state, doubt.assumed, doubt.wanted, doubt.decided_by) == (
        reason,
        "open",
        "",
        None,
        None,
    )


def test_a_study_with_a_right_label_is_not_noted_and_asks_no_more_of_the_database(volume):
    assert store(part10(ct_dataset(PatientName="Müller^Jürgen")), part10(ct_dataset())) == ["stored"] * 2
    assert not DoubtfulText.objects.exists()
    with connection.execute_wrapper(refuse_doubts):
        assert store(part10(ct_dataset(PatientName="Größe^Anna"))) == ["stored"]


def refuse_doubts(execute, sql, params, many, context):
    assert "doubtfultext" not in sql
    return execute(sql, params, many, context)


def test_a_label_that_may_describe_somebody_is_not_kept(volume):
    content = part10(ct_dataset(PatientName=None)).replace(b"ISO_IR 192", b"Doe^J. 70\xe4")
    at = content.index(b"\x10\0\x20\0LO")
    store(content[:at] + element((0x10, 0x10), b"PN", b"M\xfcller") + content[at:])
    assert DoubtfulText.objects.get().labelled == "DOE?J. 70?"


@pytest.mark.parametrize(
    ("encoding", "label", "default", "name", "doubt"),
    [
        ("cp1251", "", "Windows-1251", "Иванов^Сергей", None),
        ("cp1251", "", "ISO_IR 192", None, Doubt.MISSING),
        ("utf-8", "", "ISO_IR 192", "Иванов^Сергей", None),
        ("cp1251", "", "ISO_IR 100", "Èâàíîâ^Ñåðãåé", Doubt.MISSING),
        ("cp1251", "ISO_IR 100", "Windows-1251", "Èâàíîâ^Ñåðãåé", Doubt.UNLIKELY),
    ],
)
def test_a_default_of_the_sender_holds_where_no_label_is(tmp_path, encoding, label, default, name, doubt):
    path = tmp_path / "file.dcm"
    path.write_bytes(mislabelled(encoding, label))
    header = assume_default(read_header(path), default)
    assert header.doubt is doubt
    assert name in (None, header.patient_name)


def test_what_people_decided_of_a_study_counts_more_than_a_rule(volume):
    study = generate_uid()
    assert store(mislabelled("cp1251", PatientID="Пациент", StudyInstanceUID=study)) == ["stored"]
    repair()
    CoercionRule.objects.create(name="Japanese", character_set="ISO_IR 13")
    forget_rules()
    assert store(mislabelled("cp1251", PatientID="Пациент", StudyInstanceUID=study)) == ["stored"]
    assert [series.description for series in Study.objects.get().series.all()] == ["Аксиальная", "Аксиальная"]


def test_what_a_wrong_rule_made_is_repaired_and_set_back(volume):
    CoercionRule.objects.create(name="Greek", character_set="ISO_IR 126")
    forget_rules()
    study = generate_uid()
    store(mislabelled("cp1251", StudyInstanceUID=study))
    garbled = texts()
    assert garbled[0] != "Èâàíîâ^Ñåðãåé"
    assert DoubtfulText.objects.get().reason == "missing"
    repair()
    assert texts() == RIGHT_TEXTS
    ask_for_undo(make_user("technologist"), DoubtfulText.objects.all())
    repair_texts()
    assert texts() == garbled


def test_a_patient_id_that_a_rule_made_is_left_and_told(volume):
    CoercionRule.objects.create(name="Prefix", patient_id_prefix="X-")
    forget_rules()
    study = generate_uid()
    store(mislabelled("cp1251", StudyInstanceUID=study, PatientID="Карта7"))
    made = Patient.objects.get().patient_id
    assert made.startswith("X-")
    repair()
    patient = Patient.objects.get()
    assert (patient.name, patient.patient_id) == ("Иванов^Сергей", made)
    assert DoubtfulText.objects.get().problem == Problem.CHANGED
    assert store(mislabelled("cp1251", StudyInstanceUID=study, PatientID="Карта7")) == ["stored"]
    assert not Conflict.objects.exists()


def test_a_default_changes_nothing_of_plain_texts(tmp_path):
    path = tmp_path / "file.dcm"
    path.write_bytes(part10(ct_dataset(SpecificCharacterSet=None)))
    header = read_header(path)
    assert assume_default(header, "Windows-1251") is header


# --- Repaired


@pytest.mark.parametrize(
    ("encoding", "label", "chosen"),
    [
        ("cp1251", "", "Windows-1251"),
        ("cp1251", "ISO_IR 100", "Windows-1251"),
        ("utf-8", "ISO_IR 100", "ISO_IR 192"),
        ("cp866", "ISO_IR 100", "IBM-866"),
        ("iso8859_5", "", "ISO_IR 144"),
    ],
)
def test_a_repair_corrects_every_row_and_no_file(volume, encoding, label, chosen):
    content = mislabelled(encoding, label)
    store(content)
    path = Instance.objects.select_related("series__study", "volume").get().path
    garbled = texts()
    assert repair(chosen) == 1

    assert texts() == RIGHT_TEXTS
    patient = Patient.objects.get()
    assert patient.name_search == "иванов сергеи"
    assert patient.identity.family == identity_of(patient.name, None, settings.IDENTITY_KEY).family
    assert path.read_bytes() == content
    doubt = DoubtfulText.objects.get()
    assert (doubt.state, doubt.assumed, doubt.previous, doubt.wanted, doubt.problem) == (
        "repaired", chosen, "", None, "",
    )  # fmt: skip
    is_read_as_unicode_at_once = encoding == "utf-8"  # impossible under its label, and nothing else than that
    assert (garbled == RIGHT_TEXTS) == is_read_as_unicode_at_once


def test_undo_brings_back_what_was_and_the_decision_before(volume):
    user = make_user("technologist")
    store(mislabelled("cp1251"))
    garbled = texts()
    repair("ISO_IR 144")
    wrong = texts()
    repair(CYRILLIC)
    assert texts() == RIGHT_TEXTS

    assert ask_for_undo(user, DoubtfulText.objects.all()) == 1
    repair_texts()
    assert texts() == wrong
    assert DoubtfulText.objects.get().assumed == "ISO_IR 144"
    assert ask_for_undo(user, DoubtfulText.objects.all()) == 1
    repair_texts()
    assert texts() == garbled
    doubt = DoubtfulText.objects.get()
    assert (doubt.state, doubt.assumed, doubt.previous) == ("open", "", "")
    assert ask_for_undo(user, DoubtfulText.objects.all()) == 0


def test_what_came_from_elsewhere_is_not_overwritten(volume):
    store(mislabelled("cp1251"))
    Patient.objects.update(name="Corrected^ByHand")
    Study.objects.update(description="By hand")
    repair()
    assert texts() == ("Corrected^ByHand", "By hand", *RIGHT_TEXTS[2:])


def test_right_texts_are_not_asked_about_again(volume):
    user, study = make_user("technologist"), generate_uid()
    store(mislabelled("cp1251", StudyInstanceUID=study))
    assert mark_as_right(user, DoubtfulText.objects.all()) == 1
    store(mislabelled("cp1251", StudyInstanceUID=study))
    doubt = DoubtfulText.objects.get()
    assert (doubt.state, doubt.decided_by) == ("right", user)
    assert ask_for_undo(user, DoubtfulText.objects.all()) == 1
    assert DoubtfulText.objects.get().state == "open"
    assert not Outbox.objects.filter(task_name=REPAIR_TEXTS).exists()


def test_only_files_with_the_label_in_doubt_are_read_anew(volume):
    study = generate_uid()
    store(mislabelled("cp1251", StudyInstanceUID=study))
    good = part10(ct_dataset(StudyInstanceUID=study, SeriesDescription="Grün", SeriesNumber=2, PatientName="Иванов"))
    assert store(good) == ["stored"]
    repair()
    assert set(Series.objects.values_list("description", flat=True)) == {"Аксиальная", "Grün"}


# --- More of a study arrives


def test_later_images_are_read_as_was_decided(volume):
    study = generate_uid()
    store(mislabelled("cp1251", StudyInstanceUID=study))
    repair()
    assert store(mislabelled("cp1251", StudyInstanceUID=study, SeriesDescription="Сагиттальная")) == ["stored"]
    assert set(Series.objects.values_list("description", flat=True)) == {"Аксиальная", "Сагиттальная"}
    assert DoubtfulText.objects.get().state == "repaired"


def test_later_images_under_a_repaired_patient_id_belong_to_the_study(volume):
    study = generate_uid()
    store(mislabelled("cp1251", StudyInstanceUID=study, PatientID="Карта7"))
    repair()
    assert Patient.objects.get().patient_id == "Карта7"
    assert store(mislabelled("cp1251", StudyInstanceUID=study, PatientID="Карта7")) == ["stored"]
    assert not Conflict.objects.exists()


def test_later_images_under_a_patient_id_that_was_left_belong_to_the_study(volume):
    study = generate_uid()
    Patient.objects.create(patient_id="Карта7", issuer="TEST", name="Петров")
    store(mislabelled("cp1251", StudyInstanceUID=study, PatientID="Карта7"))
    repair()
    assert DoubtfulText.objects.get().problem == Problem.TAKEN
    assert store(mislabelled("cp1251", StudyInstanceUID=study, PatientID="Карта7")) == ["stored"]
    assert not Conflict.objects.exists()


# --- Persons are never merged


def test_a_patient_id_that_belongs_to_another_patient_is_left_and_told(volume):
    other = Patient.objects.create(patient_id="Карта7", issuer="TEST", name="Петров^Пётр")
    store(mislabelled("cp1251", PatientID="Карта7"))
    patient = Study.objects.get().patient
    garbled_id = patient.patient_id
    repair()
    patient.refresh_from_db()
    assert (patient.patient_id, patient.name) == (garbled_id, "Иванов^Сергей")
    assert DoubtfulText.objects.get().problem == Problem.TAKEN
    assert not other.studies.exists()
    assert Patient.objects.count() == 2


def test_a_shared_patient_id_changes_with_the_last_of_the_studies(volume):
    store(mislabelled("cp1251", PatientID="Карта7"))
    store(mislabelled("cp1251", PatientID="Карта7"))
    first, second = DoubtfulText.objects.order_by("pk")
    assert first.study.patient == second.study.patient
    garbled = Patient.objects.get().patient_id

    repair(doubts=DoubtfulText.objects.filter(pk=first.pk))
    first.refresh_from_db()
    assert (Patient.objects.get().patient_id, first.problem) == (garbled, Problem.SHARED)
    repair(doubts=DoubtfulText.objects.filter(pk=second.pk))
    assert Patient.objects.get().patient_id == "Карта7"
    assert set(DoubtfulText.objects.values_list("problem", flat=True)) == {""}

    ask_for_undo(make_user("technologist"), DoubtfulText.objects.all())
    assert repair_texts() == 2
    assert Patient.objects.get().patient_id == garbled


# --- Carrying out


def test_a_missing_file_is_told_and_holds_nobody_up(volume):
    store(mislabelled("cp1251"))
    store(mislabelled("cp1251", PatientID="P2"))
    gone = DoubtfulText.objects.order_by("pk").first()
    Instance.objects.select_related("series__study", "volume").get(series__study=gone.study).path.unlink()
    assert repair() == 2
    gone.refresh_from_db()
    assert (gone.state, gone.wanted, gone.problem) == ("open", None, Problem.UNREADABLE)
    assert DoubtfulText.objects.exclude(pk=gone.pk).get().state == "repaired"


def test_a_large_group_is_left_to_the_task(volume, caplog):
    for number in range(4):
        store(mislabelled("cp1251", PatientID=f"P{number}"))
    user = make_user("technologist")
    assert ask_for_repair(user, DoubtfulText.objects.all(), CYRILLIC) == 4
    assert Outbox.objects.filter(task_name=REPAIR_TEXTS, arguments=[]).count() == 1
    assert repair_texts(limit=1) == 1
    assert repair_texts(run_s=-1) == 0
    assert Outbox.objects.filter(task_name=REPAIR_TEXTS).count() == 2
    caplog.clear()
    with caplog.at_level("INFO"):
        maintenance.repair_texts()
    assert set(DoubtfulText.objects.values_list("state", "wanted")) == {("repaired", None)}
    assert "Иванов" not in caplog.text
    trail = AuditEvent.objects.filter(action="texts.repaired", actor=user.username).values_list("detail", flat=True)
    assert list(trail) == [{"labelled": "", "read_as": "Windows-1251", "problem": ""}] * 4
    maintenance.repair_texts()


def test_a_study_that_cannot_be_repaired_now_holds_up_no_other(volume, monkeypatch, caplog):
    for number in range(3):
        store(mislabelled("cp1251", PatientID=f"P{number}"))
    ask_for_repair(make_user("technologist"), DoubtfulText.objects.all(), CYRILLIC)
    bad = DoubtfulText.objects.order_by("pk").first()
    read_as = text_repair._read_as

    def fail_for_one(doubt, wanted):
        if doubt.pk == bad.pk:
            raise DataError("Иванов")
        return read_as(doubt, wanted)

    monkeypatch.setattr(text_repair, "_read_as", fail_for_one)
    assert repair_texts() == 2
    assert DoubtfulText.objects.get(wanted=CYRILLIC) == bad
    assert f"doubtful text {bad.pk} cannot be repaired now: DataError" in caplog.text
    assert "Иванов" not in caplog.text
    monkeypatch.undo()
    assert repair_texts() == 1


def test_one_worker_at_a_time(volume):
    store(mislabelled("cp1251"))
    ask_for_repair(make_user("technologist"), DoubtfulText.objects.all(), CYRILLIC)
    other = LeaderLock("text repair")
    assert other.try_acquire()
    try:
        maintenance.repair_texts()
        assert DoubtfulText.objects.get().wanted == CYRILLIC
    finally:
        other.release()
    maintenance.repair_texts()
    assert DoubtfulText.objects.get().state == "repaired"


def test_what_a_worker_left_is_asked_for_again(volume):
    assert not enqueue_due_repairs()
    store(mislabelled("cp1251"))
    ask_for_repair(make_user("technologist"), DoubtfulText.objects.all(), CYRILLIC)
    Outbox.objects.all().delete()
    maintenance.send_due_work()
    assert Outbox.objects.filter(task_name=REPAIR_TEXTS).count() == 1


def test_an_unknown_character_set_is_refused(volume):
    with pytest.raises(ValueError, match="no known character set"):
        ask_for_repair(make_user("technologist"), DoubtfulText.objects.all(), "KLINGON")


# --- Side by side


@pytest.mark.django_db(transaction=True)
def test_a_study_that_is_just_being_stored_is_repaired_afterwards_with_what_came(volume, monkeypatch):
    study = generate_uid()
    store(mislabelled("cp1251", StudyInstanceUID=study))
    ask_for_repair(make_user("technologist"), DoubtfulText.objects.all(), CYRILLIC)
    has_inserted, may_commit = Event(), Event()

    def wait_before_commit(headers, series):
        has_inserted.set()
        assert may_commit.wait(30)

    monkeypatch.setattr(settling, "note_doubts", wait_before_commit)
    with ThreadPoolExecutor(1) as pool:
        later = mislabelled("cp1251", StudyInstanceUID=study, SeriesDescription="Сагиттальная")
        storing = pool.submit(in_thread, lambda: store(later))
        try:
            assert has_inserted.wait(30)
            assert repair_texts() == 0
        finally:
            may_commit.set()
        assert storing.result(30) == ["stored"]
    assert repair_texts() == 1
    assert set(Series.objects.values_list("description", flat=True)) == {"Аксиальная", "Сагиттальная"}


@pytest.mark.django_db(transaction=True)
def test_two_workers_share_the_studies_and_one_patient(volume):
    for _ in range(6):
        store(mislabelled("cp1251", PatientID="Карта7"))
    ask_for_repair(make_user("technologist"), DoubtfulText.objects.all(), CYRILLIC)
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(in_thread, repair_texts) for _ in range(3)]
        assert sum(one.result(60) for one in done) == 6
    assert Patient.objects.get().patient_id == "Карта7"
    assert set(DoubtfulText.objects.values_list("state", "problem")) == {("repaired", "")}


def in_thread(work):
    try:
        return work()
    finally:
        connection.close()
