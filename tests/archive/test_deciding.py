"""Decisions about conflicts, on what real ingest found: what they change, what follows them, how they are undone."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from threading import Barrier, Event
from time import monotonic

import pytest
from django.conf import settings
from django.db import OperationalError, connection, transaction

from apps.archive import deciding
from apps.archive.deciding import (
    AlreadyDecidedError,
    Choice,
    DecisionError,
    Person,
    decide,
    report_study,
    undo,
    why_not_undone,
)
from apps.archive.header import read_header
from apps.archive.ingest import store_batch
from apps.archive.models import AcceptedSender, CoercionRule, Conflict, Decision, Instance, Patient, Series, Study
from apps.archive.patients import merge_patients, reassign_study
from apps.archive.rulebook import forget_rules
from apps.archive.upsert import fetch, resolve_patients, upsert_studies
from apps.audit.models import AuditEvent
from apps.storage.spool import Spool
from tests.dicom import ct_dataset, part10, write_part10

pytestmark = pytest.mark.django_db

RITA = Person("rita", "192.0.2.7")
Action = Decision.Action


def store(*datasets) -> list[str]:
    batch = Spool(settings.SPOOL_DIR).open_batch()
    for dataset in datasets:
        batch.write((part10(dataset),))
    name = batch.close()
    assert name
    return sorted(result.outcome.value for result in store_batch(name))


def same_series(dataset, **changes):
    """One more image of the series."""
    uids = {"StudyInstanceUID": dataset.StudyInstanceUID, "SeriesInstanceUID": dataset.SeriesInstanceUID}
    person = {name: dataset.get(name) for name in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")}
    return ct_dataset(**{**uids, **person, **changes})


def same_instance(dataset, **changes):
    """Other content under the same UIDs."""
    return same_series(dataset, **{"SOPInstanceUID": dataset.SOPInstanceUID, "PixelData": bytes(128), **changes})


def the_conflict() -> Conflict:
    return Conflict.objects.open().get()


def choose(action: str, **choice) -> Decision:
    return decide(Conflict.objects.open().first().pk, Choice(action=Action(action), **choice), RITA)


def study_of(dataset) -> Study:
    return Study.objects.select_related("patient").get(study_instance_uid=dataset.StudyInstanceUID)


def state() -> dict:
    """Everything that a decision may change and its undoing has to restore."""
    return {
        "patients": {p.pk: p.merged_into_id for p in Patient.objects.all()},
        "studies": {
            s.pk: (s.patient_id, s.arrived_as_id, s.series_count, s.instance_count, s.size_bytes)
            for s in Study.objects.all()
        },
        "series": {r.pk: (r.study_id, r.instance_count, r.size_bytes) for r in Series.objects.all()},
        "instances": {
            i.sop_instance_uid: (i.series_id, i.file_variant, bytes(i.file_sha256), i.open_file().read())
            for i in Instance.objects.select_related("series__study", "volume")
        },
        "conflicts": {(c.pk, c.kind, c.resolved_at, c.decision_id) for c in Conflict.objects.all()},
        "accepted": AcceptedSender.objects.count(),
    }


# --- Persons


@pytest.fixture
def stranger(volume):
    """Miller^Eva under the Patient ID of Smith^John."""
    smith = ct_dataset(PatientName="Smith^John", PatientBirthDate="19500101")
    eva = ct_dataset(PatientName="Miller^Eva", PatientBirthDate="19990202")
    store(smith)
    store(eva)
    return smith, eva


def test_kept_apart_two_persons_stay_two(stranger):
    before = state()
    smith, eva = stranger
    decision = choose("keep", reason="two persons, asked the ward")
    assert study_of(eva).patient != study_of(smith).patient
    assert not Conflict.objects.open().exists()
    assert store(eva) == ["duplicate"]
    assert store(same_series(eva)) == ["stored"]
    assert not Conflict.objects.open().exists()
    Instance.objects.filter(series__study=study_of(eva)).last().delete()
    undo(decision.pk, RITA)
    assert {c[0] for c in state()["conflicts"] if c[2] is None} == {c[0] for c in before["conflicts"]}


def test_merged_a_person_has_every_study_and_what_arrives_follows(stranger):
    smith, eva = stranger
    known = study_of(smith).patient
    choose("merge", target=known.pk)
    assert study_of(eva).patient == known
    assert store(same_series(eva)) == ["stored"]
    again = ct_dataset(PatientName="Miller^Eva", PatientBirthDate="19990202")
    assert store(again) == ["stored"]
    assert study_of(again).patient == known
    assert not Conflict.objects.open().exists()

    third = ct_dataset(PatientName="Brown^Ann", PatientBirthDate="19800303")
    store(third)
    assert the_conflict().other_patient == known


def test_a_merge_is_undone_with_what_arrived_since(stranger):
    smith, eva = stranger
    before = state()
    smith_patient, eva_patient = study_of(smith).patient, study_of(eva).patient
    decision = choose("merge", target=smith_patient.pk, target_stays=False)
    assert study_of(smith).patient == eva_patient
    later = ct_dataset(PatientName="Smith^John", PatientBirthDate="19500101")
    store(later)
    assert study_of(later).patient == eva_patient
    assert study_of(later).arrived_as == smith_patient

    assert why_not_undone(decision) == ""
    undo(decision.pk, RITA)
    assert study_of(smith).patient == study_of(later).patient == smith_patient
    assert study_of(eva).patient == eva_patient
    after = state()
    assert after["patients"] == before["patients"]
    assert {pk: after["studies"][pk] for pk in before["studies"]} == before["studies"]
    assert the_conflict().kind == "patient"


def test_a_study_is_given_to_another_patient_and_its_further_images_follow(stranger):
    other = ct_dataset(PatientID="P9", PatientName="Miller^Eva", PatientBirthDate="19990202")
    store(other)
    smith, eva = stranger
    before = state()
    decision = choose("reassign", target=study_of(other).patient_id)
    assert study_of(eva).patient.patient_id == "P9"
    assert store(same_series(eva)) == ["stored"]
    assert store(same_series(eva, PatientID="P9")) == ["stored"]
    assert store(same_series(eva, PatientID="P7", PatientName="No^One")) == ["conflict"]
    assert study_of(eva).instance_count == 3
    assert study_of(eva).arrived_as == Conflict.objects.get(kind="patient").patient

    undo(decision.pk, RITA)
    assert study_of(eva).patient_id == before["studies"][study_of(eva).pk][0]
    assert study_of(eva).arrived_as is None
    assert study_of(eva).instance_count == 3


def test_an_absent_issuer_is_another_person_until_a_human_merges(volume):
    """Through a study conflict: the issuer came and went within one study."""
    mine = ct_dataset(PatientID="P1")
    store(mine)
    assert store(same_series(mine, IssuerOfPatientID=None)) == ["conflict"]
    before = state()
    decision = choose("merge", target_stays=False)
    assert study_of(mine).instance_count == 2
    assert study_of(mine).patient.issuer == "TEST"
    bare = ct_dataset(PatientID="P1", IssuerOfPatientID=None)
    store(bare)
    assert study_of(bare).patient == study_of(mine).patient
    undo(decision.pk, RITA)
    assert study_of(bare).patient.issuer == ""
    after = state()
    assert after["instances"].keys() - before["instances"].keys() == {bare.SOPInstanceUID}
    assert the_conflict().kind == "study"


def test_staff_ask_whose_a_study_is_and_merge_an_absent_and_a_present_issuer(volume):
    mine, bare = ct_dataset(), ct_dataset(IssuerOfPatientID=None)
    store(mine, bare)
    assert study_of(mine).patient != study_of(bare).patient
    assert not Conflict.objects.exists()

    asked = report_study(study_of(bare), RITA)
    assert report_study(study_of(bare), Person("otto")) == asked
    with pytest.raises(DecisionError, match="Choose a patient"):
        choose("merge")
    decision = choose("merge", target=study_of(mine).patient_id)
    later = ct_dataset(IssuerOfPatientID=None)
    store(later)
    assert study_of(later).patient == study_of(bare).patient == study_of(mine).patient
    undo(decision.pk, RITA)
    assert study_of(later).patient == study_of(bare).patient != study_of(mine).patient
    choose("keep")
    assert report_study(study_of(bare), RITA) != asked


def test_a_later_decision_is_undone_first(stranger):
    smith, eva = stranger
    third = ct_dataset(PatientName="Brown^Ann", PatientBirthDate="19800303")
    store(third)
    first = decide(Conflict.objects.open().last().pk, Choice(Action.MERGE, target=study_of(smith).patient_id), RITA)
    second = choose("merge", target=study_of(smith).patient_id, target_stays=False)
    assert study_of(eva).patient == study_of(third).patient
    assert "Undo that decision first" in why_not_undone(first)
    with pytest.raises(DecisionError, match="Undo that decision first"):
        undo(first.pk, RITA)
    undo(second.pk, RITA)
    undo(first.pk, RITA)
    assert len({study_of(dataset).patient_id for dataset in (smith, eva, third)}) == 3
    with pytest.raises(DecisionError, match="undone already"):
        undo(first.pk, RITA)


# --- Held files


@pytest.fixture
def misnamed(volume):
    """Three images of a stored study that name another patient, kept aside."""
    mine = ct_dataset()
    store(mine)
    others = [same_series(mine, PatientID="P2", PatientName="Other^Person", InstanceNumber=n) for n in (2, 3, 4)]
    assert store(*others) == ["conflict"] * 3
    return mine, others


def test_files_of_one_series_and_patient_are_one_case(misnamed):
    mine, others = misnamed
    store(same_series(mine, PatientID="P3", PatientName="Third^Person"))
    assert Conflict.objects.open().values("case_key").distinct().count() == 2
    assert choose("keep").conflicts.count() in (1, 3)
    assert choose("keep").conflicts.count() in (1, 3)
    assert not Conflict.objects.open().exists()


def test_kept_apart_files_stay_where_they_are_and_are_not_asked_about_again(misnamed):
    mine, others = misnamed
    choose("keep")
    assert store(*others) == ["conflict"] * 3
    assert not Conflict.objects.open().exists()
    assert Instance.objects.count() == 1
    assert all(conflict.held_path.is_file() for conflict in Conflict.objects.all())


def test_more_files_than_can_be_done_at_once_are_done_in_turns(misnamed, monkeypatch):
    monkeypatch.setattr(deciding, "FILES_AT_ONCE", 2)
    mine, others = misnamed
    newest = Conflict.objects.open().first()
    decide(newest.pk, Choice(Action.STORE), RITA)
    newest.refresh_from_db()
    assert newest.decision
    assert Conflict.objects.open().count() == 1
    choose("store")
    assert study_of(mine).instance_count == 4


def test_a_file_that_was_decided_by_itself_is_not_decided_with_the_others(misnamed):
    conflict = Conflict.objects.open().first()
    decide(conflict.pk, Choice(Action.KEEP, only_this=True), RITA)
    with pytest.raises(AlreadyDecidedError):
        decide(conflict.pk, Choice(Action.STORE), RITA)
    assert Conflict.objects.open().count() == 2


def test_held_files_are_stored_where_they_belong_and_further_ones_follow(misnamed):
    mine, others = misnamed
    before = state()
    decision = choose("store")
    assert study_of(mine).instance_count == 4
    assert study_of(mine).patient.patient_id == "P1"
    assert Patient.objects.count() == 1
    assert Instance.objects.get(sop_instance_uid=others[0].SOPInstanceUID).open_file().read() == part10(others[0])
    assert store(*others) == ["duplicate"] * 3

    undo(decision.pk, RITA)
    assert state() == before
    assert all(conflict.held_path.is_file() for conflict in Conflict.objects.all())
    choose("store")
    assert store(same_series(mine, PatientID="P2", PatientName="Other^Person")) == ["stored"]
    assert study_of(mine).instance_count == 5


def test_what_followed_a_decision_keeps_it_from_being_undone(misnamed):
    mine, others = misnamed
    decision = choose("store")
    store(same_series(mine, PatientID="P2", PatientName="Other^Person"))
    assert "More images of the study have been stored since" in why_not_undone(decision)
    with pytest.raises(DecisionError, match="stored since"):
        undo(decision.pk, RITA)
    assert study_of(mine).instance_count == 5


@pytest.mark.django_db(transaction=True)
def test_undoing_takes_the_links_out_of_the_store(misnamed):
    mine, others = misnamed
    decision = choose("store")
    paths = [Instance.objects.get(sop_instance_uid=dataset.SOPInstanceUID).path for dataset in others]
    assert all(path.is_file() for path in paths)
    undo(decision.pk, RITA)
    assert not any(path.exists() for path in paths)
    assert store(*others) == ["conflict"] * 3


def test_of_two_decisions_about_a_case_the_other_keeps_what_was_accepted(misnamed):
    mine, others = misnamed
    first, second = choose("store", only_this=True), choose("store")
    with pytest.raises(DecisionError, match="stored since"):
        undo(first.pk, RITA)
    undo(second.pk, RITA)
    assert AcceptedSender.objects.get().decision == first
    undo(first.pk, RITA)
    assert not AcceptedSender.objects.exists()
    assert study_of(mine).instance_count == 1


def test_a_study_is_of_the_patient_whom_the_held_files_name(misnamed):
    mine, others = misnamed
    before = state()
    decision = choose("reassign")
    assert study_of(mine).patient.patient_id == "P2"
    assert study_of(mine).instance_count == 4
    undo(decision.pk, RITA)
    after = state()
    del after["patients"][Patient.objects.get(patient_id="P2").pk]
    assert after == before
    choose("reassign")
    assert store(same_series(mine)) == ["stored"]
    assert store(same_series(mine, PatientID="P2", PatientName="Other^Person")) == ["stored"]


def test_a_study_with_held_files_is_of_a_third_patient(misnamed):
    mine, others = misnamed
    third = ct_dataset(PatientID="P3", PatientName="Third^Person")
    store(third)
    choose("reassign", target=study_of(third).patient_id)
    assert study_of(mine).patient.patient_id == "P3"
    assert study_of(mine).instance_count == 4
    for patient_id in ("P1", "P2", "P3"):
        assert store(same_series(mine, PatientID=patient_id)) == ["stored"]


def test_two_ids_of_one_person_are_merged_and_both_lead_to_the_patient(misnamed):
    mine, others = misnamed
    decision = choose("merge", target_stays=False)
    assert study_of(mine).patient.patient_id == "P1"
    assert study_of(mine).instance_count == 4
    new = ct_dataset(PatientID="P2", PatientName="Other^Person")
    assert store(new) == ["stored"]
    assert study_of(new).patient == study_of(mine).patient
    undo(decision.pk, RITA)
    assert study_of(new).patient.patient_id == "P2"
    assert study_of(mine).instance_count == 1


def test_a_held_file_that_is_in_the_way_of_another_stays_open_as_that(misnamed):
    mine, others = misnamed
    store(same_instance(mine, PatientID="P2", PatientName="Other^Person"))
    held = Conflict.objects.get(kind="instance")  # as it is when two workers store and hold side by side
    Conflict.objects.filter(pk=held.pk).update(
        kind="study",
        case_key=Conflict.objects.get(held_file__isnull=False, sop_instance_uid=others[0].SOPInstanceUID).case_key,
    )
    decision = choose("store")
    assert decision.conflicts.count() == 3
    assert (the_conflict().pk, the_conflict().kind) == (held.pk, "instance")


def test_a_series_that_named_another_study_is_stored_where_it_is_known(volume):
    mine = ct_dataset()
    store(mine)
    stray = ct_dataset(SeriesInstanceUID=mine.SeriesInstanceUID, PatientID="P5", PatientName="Stray^One")
    assert store(stray) == ["conflict"]
    before = state()
    decision = choose("store")
    instance = Instance.objects.get(sop_instance_uid=stray.SOPInstanceUID)
    assert instance.series.study == study_of(mine)
    assert mine.StudyInstanceUID in str(instance.path)
    assert instance.open_file().read() == part10(stray)
    assert store(stray) == ["duplicate"]
    undo(decision.pk, RITA)
    assert state() == before
    choose("store")
    further = same_series(stray, InstanceNumber=2)
    assert store(further) == ["stored"]
    assert study_of(mine).instance_count == 3
    assert Study.objects.count() == 1


def test_an_unreadable_file_is_left_aside(volume):
    batch = Spool(settings.SPOOL_DIR).open_batch()
    batch.write((b"no DICOM" * 40,))
    store_batch(batch.close())
    with pytest.raises(DecisionError):
        choose("store")
    choose("keep")
    assert not Conflict.objects.open().exists()


@pytest.fixture
def issuer_rule():
    """Every sender's patients are of the issuer RIS."""
    rule = CoercionRule.objects.create(name="RIS", issuer_action="replace", issuer="RIS")
    forget_rules()
    return rule


def withdraw(rule: CoercionRule) -> None:
    CoercionRule.objects.filter(pk=rule.pk).update(is_active=False)
    forget_rules()


def test_a_study_that_came_by_a_coercion_rule_stays_given_away_when_the_rule_goes(volume, issuer_rule):
    mine, other = ct_dataset(), ct_dataset(PatientID="P9", PatientName="Other^Person")
    store(mine, other)
    report_study(study_of(mine), RITA)
    choose("reassign", target=study_of(other).patient_id)
    assert store(same_series(mine)) == ["stored"]
    withdraw(issuer_rule)
    assert store(same_series(mine)) == ["stored"]
    assert (study_of(mine).instance_count, study_of(mine).patient.patient_id) == (3, "P9")


def test_files_held_by_a_coercion_rule_are_stored_and_followed_when_the_rule_goes(volume, issuer_rule):
    mine = ct_dataset()
    store(mine)
    assert store(same_series(mine, PatientID="P2", PatientName="Other^Person")) == ["conflict"]
    choose("store")
    assert store(same_series(mine, PatientID="P2", PatientName="Other^Person")) == ["stored"]
    withdraw(issuer_rule)
    assert store(same_series(mine, PatientID="P2", PatientName="Other^Person")) == ["stored"]
    assert study_of(mine).instance_count == 4


# --- Other content under one UID


@pytest.fixture
def altered(volume):
    mine = ct_dataset()
    store(mine)
    other = same_instance(mine, WindowCenter="40")
    assert store(other) == ["conflict"]
    return mine, other


def test_a_stored_image_is_replaced_and_comes_back(altered):
    mine, other = altered
    before = state()
    decision = choose("replace", files=1)
    instance = Instance.objects.get()
    assert instance.open_file().read() == part10(other)
    assert bytes(instance.file_sha256) == sha256(part10(other)).digest()
    assert (instance.series.size_bytes, instance.series.study.size_bytes) == (len(part10(other)),) * 2
    assert store(other) == ["duplicate"]
    assert store(mine) == ["conflict"]
    assert not Conflict.objects.open().exists()  # the former one: it was decided about it

    undo(decision.pk, RITA)
    assert state() == before
    assert store(mine) == ["duplicate"]
    assert store(other) == ["conflict"]
    choose("replace", files=1)
    assert Instance.objects.get().open_file().read() == part10(other)


def test_a_missing_stored_file_is_replaced_by_what_came(altered):
    mine, other = altered
    Instance.objects.get().path.unlink()
    decision = choose("replace")
    assert Instance.objects.get().open_file().read() == part10(other)
    assert "not in the store any more" in why_not_undone(decision)


def test_a_file_of_another_patient_never_replaces(volume):
    mine = ct_dataset()
    store(mine)
    other = ct_dataset(SOPInstanceUID=mine.SOPInstanceUID, PatientID="P2", PatientName="Other^Person")
    store(other)
    with pytest.raises(DecisionError, match="another series, study or patient"):
        choose("replace")
    other = same_instance(mine, PatientID="P2", PatientName="Other^Person")
    store(other)
    with pytest.raises(DecisionError, match="another series, study or patient"):
        decide(Conflict.objects.open().first().pk, Choice(Action.REPLACE), RITA)
    assert Instance.objects.get().open_file().read() == part10(mine)


def test_more_files_than_were_seen_ask_again(altered):
    mine, other = altered
    store(same_instance(mine, WindowCenter="41"))
    with pytest.raises(DecisionError, match="More files have come"):
        choose("replace", files=1)
    with pytest.raises(DecisionError, match="file by file"):
        choose("replace", files=2)
    choose("replace", only_this=True)
    assert Conflict.objects.open().count() == 1


# --- Two people, trail


def test_who_comes_second_learns_what_the_first_decided(stranger):
    conflict = the_conflict()
    first = choose("keep")
    with pytest.raises(AlreadyDecidedError) as second:
        decide(conflict.pk, Choice(Action.MERGE, target=conflict.other_patient_id), Person("otto"))
    assert second.value.decision == first
    assert Decision.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_people_at_once_one_decides(misnamed):
    conflict, start = Conflict.objects.open().first(), Barrier(2)

    def press(action):
        try:
            start.wait(10)
            return decide(conflict.pk, Choice(Action(action)), RITA).action
        except AlreadyDecidedError as error:
            return error.decision.action
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(press, ["keep", "store"]))
    assert len(set(said)) == 1
    assert Decision.objects.count() == 1
    assert Instance.objects.count() == (4 if said[0] == "store" else 1)


def wait_until_somebody_waits_for_a_lock() -> None:
    deadline = monotonic() + 10
    while not fetch("SELECT 1 FROM pg_locks WHERE NOT granted", []):
        assert monotonic() < deadline, "nobody waits"


@pytest.mark.django_db(transaction=True)
def test_a_study_that_arrives_during_a_merge_is_of_the_patient_who_stays(stranger):
    smith, eva = stranger
    late = ct_dataset(PatientName="Smith^John", PatientBirthDate="19500101")
    gone, stays = study_of(smith).patient_id, study_of(eva).patient_id

    def arrive():
        try:
            return store(late)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            merge_patients(gone, stays)
            arrival = pool.submit(arrive)
            wait_until_somebody_waits_for_a_lock()
        assert arrival.result(10) == ["stored"]
    assert study_of(late).patient_id == stays
    assert study_of(late).arrived_as_id == gone


@pytest.mark.django_db(transaction=True)
def test_a_merge_waits_for_a_study_that_is_about_to_be_stored(stranger, tmp_path):
    smith, eva = stranger
    late = ct_dataset(PatientName="Smith^John", PatientBirthDate="19500101")
    header = read_header(write_part10(tmp_path, late))

    def merge():
        try:
            return choose("merge", target=study_of(smith).patient_id, target_stays=False)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            patients = resolve_patients([header]).patients
            merging = pool.submit(merge)
            wait_until_somebody_waits_for_a_lock()
            upsert_studies([header], patients)
        merging.result(10)
    assert study_of(late).patient == study_of(smith).patient == study_of(eva).patient


@pytest.mark.django_db(transaction=True)
def test_an_image_that_arrives_while_its_study_is_given_away_is_stored_with_it(stranger):
    smith, eva = stranger
    late = same_series(eva)

    def arrive():
        try:
            return store(late)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            reassign_study(study_of(eva).pk, study_of(smith).patient_id)
            arrival = pool.submit(arrive)
            wait_until_somebody_waits_for_a_lock()
        assert arrival.result(10) == ["stored"]
    assert study_of(eva).patient == study_of(smith).patient
    assert study_of(eva).instance_count == 2


@pytest.mark.django_db(transaction=True)
def test_nothing_is_lost_or_counted_wrong_while_people_decide_and_workers_store(misnamed):
    """Decided and undone as fast as it goes, while two workers store images that do and do not name the patient."""
    mine, others = misnamed
    images = [same_series(mine, PatientID=f"P{1 + n % 3}", InstanceNumber=n) for n in range(36)]
    done = Event()

    def arrive(some):
        try:
            for dataset in some:
                batch = Spool(settings.SPOOL_DIR).open_batch()
                batch.write((part10(dataset),))
                name = batch.close()
                with suppress(OperationalError):  # it gave way; the sweep asks again
                    store_batch(name)
        finally:
            connection.close()

    def quarrel():
        turns = 0
        try:
            while not done.is_set():
                turns += 1
                for conflict in Conflict.objects.open()[:2]:
                    with suppress(DecisionError):
                        made = decide(conflict.pk, Choice(Action.STORE if turns % 3 else Action.REASSIGN), RITA)
                        undo(made.pk, RITA)
            return turns
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        people = pool.submit(quarrel)
        workers = [pool.submit(arrive, images[start::2]) for start in range(2)]
        for worker in workers:
            worker.result(60)
        done.set()
        assert people.result(60) > 1
    for name in Spool(settings.SPOOL_DIR).closed_batches():  # left for the sweep by a worker that gave way
        store_batch(name)

    held = {row.sop_instance_uid: row.held_path for row in Conflict.objects.exclude(held_file=None)}
    for dataset in (mine, *others, *images):
        stored = Instance.objects.filter(sop_instance_uid=dataset.SOPInstanceUID).first()
        kept = stored.path if stored else held[dataset.SOPInstanceUID]
        assert kept.read_bytes() == part10(dataset)
    study = study_of(mine)
    assert (
        study.instance_count == Instance.objects.count() == sum(Series.objects.values_list("instance_count", flat=True))
    )
    assert study.size_bytes == sum(Instance.objects.values_list("size_bytes", flat=True))


def test_every_decision_and_every_undoing_is_in_the_trail_without_a_word_of_the_person(stranger, caplog):
    decision = choose("merge", target=the_conflict().other_patient_id, reason="Eva Miller married John Smith")
    undo(decision.pk, Person("otto"))
    found, merged, undone = AuditEvent.objects.order_by("pk")
    assert (found.action, merged.action, undone.action) == ("conflict.found", "conflict.merge", "conflict.undo")
    assert (merged.actor, merged.remote_address, undone.actor) == ("rita", "192.0.2.7", "otto")
    assert merged.detail["decision"] == decision.pk
    told = caplog.text + "".join(str(event.__dict__) for event in (found, merged, undone))
    assert not [word for word in ("Miller", "Smith", "married", "1999", "P1") if word in told]


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_done_leaves_no_trace(misnamed):
    before = state()
    with pytest.raises(DecisionError):
        choose("reassign", target=10**9)
    Conflict.objects.order_by("pk").first().held_path.unlink()
    with pytest.raises(DecisionError, match="cannot be read"):
        choose("store")
    assert state() == before
    assert not Decision.objects.exists()
    assert not AuditEvent.objects.exclude(action="conflict.found").exists()
