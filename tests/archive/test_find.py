"""What another system finds: which studies match which keys, with how many statements, and who may."""

from datetime import date

import pytest

from apps.archive.find import find_patient_keys, find_study_keys, read_patients, read_studies
from apps.archive.matching import StudyKeys
from apps.archive.models import Patient, Series, Study
from apps.nodes.rights import EVERYTHING, Rights
from tests.factories import make_study

pytestmark = pytest.mark.django_db


def found(limit=100, **keys) -> list[str]:
    wanted = StudyKeys(**keys)
    return [row["patient_id"] for row in read_studies(find_study_keys(EVERYTHING, wanted, limit), wanted)]


def day(*numbers):
    return (date(*numbers), date(*numbers))


@pytest.fixture
def people(db) -> None:
    make_study(
        "Müller^Jürgen", patient_id="A1", birth_date=date(1950, 5, 5), modality="MR", study_date=date(2025, 3, 1)
    )
    make_study("Muller^Anna", patient_id="A2", birth_date=date(1960, 6, 6), study_date=date(2025, 3, 2), study_id="S-2")
    make_study("Smith^Müller", patient_id="B_1", accession_number="RX%1", study_date=date(2026, 1, 1))
    make_study("Yamada^Tarou=山田^太郎=やまだ^たろう", patient_id="B21", study_date=None, study_time=None)


CASES = [
    ({}, ["B_1", "A2", "A1", "B21"]),
    ({"patient_id": "A1"}, ["A1"]),
    ({"patient_id": "a1"}, []),
    ({"patient_id": "A*"}, ["A2", "A1"]),
    ({"patient_id": "B_1"}, ["B_1"]),
    ({"patient_id": "B?1"}, ["B_1", "B21"]),
    ({"issuer": "HOSPITAL"}, []),
    ({"name": "MULLER*"}, ["A2", "A1"]),
    ({"name": "müller^j*"}, ["A1"]),
    ({"name": "Muller"}, []),
    ({"name": "*Müller"}, ["B_1"]),
    ({"name": "%"}, []),
    ({"name": "山田*"}, ["B21"]),
    ({"birth_date": day(1950, 5, 5)}, ["A1"]),
    ({"birth_date": (date(1950, 1, 1), date(1960, 12, 31)), "patient_id": "A*"}, ["A2", "A1"]),
    ({"study_date": (date(2025, 3, 1), date(2025, 3, 2))}, ["A2", "A1"]),
    ({"study_date": (date(2025, 3, 2), None)}, ["B_1", "A2"]),
    ({"study_date": (None, date(2025, 3, 1))}, ["A1"]),
    ({"accession_number": "RX%1"}, ["B_1"]),
    ({"accession_number": "RX*"}, ["B_1"]),
    ({"study_id": "S-2"}, ["A2"]),
    ({"modalities": ("MR",)}, ["A1"]),
    ({"modalities": ("M?", "XA")}, ["A1"]),
    ({"modalities": ("MR", "CT"), "patient_id": "A*"}, ["A2", "A1"]),
    ({"name": "muller*", "modalities": ("CT",)}, ["A2"]),
    ({"name": "muller*", "study_id": "S-2", "study_date": day(2025, 3, 2)}, ["A2"]),
    ({"study_instance_uids": ("1.2.3.4",)}, []),
]


@pytest.mark.parametrize("many", [2000, 0], ids=["few", "many"])
@pytest.mark.parametrize(("keys", "ids"), CASES)
def test_keys_narrow_the_search_and_the_newest_comes_first(people, monkeypatch, keys, ids, many):
    monkeypatch.setattr("apps.archive.find.MANY", many)
    assert found(**keys) == ids


def test_what_is_answered_is_read_with_one_statement_a_page(people, django_assert_num_queries):
    study = make_study("One^A", patient_id="A3", instance_count=9)
    Series.objects.create(study=study, series_instance_uid="1.9", modality="SR")
    keys = list(Study.objects.values_list("pk", flat=True))
    with django_assert_num_queries(1):
        rows = read_studies(keys, StudyKeys())
    row = next(row for row in rows if row["pk"] == study.pk)
    assert (row["modalities"], row["instance_count"], row["birth_date"]) == (["CT", "SR"], 9, date(1970, 1, 1))


def test_a_study_that_has_gone_meanwhile_is_left_out(people):
    keys = find_study_keys(EVERYTHING, StudyKeys(), 100)
    assert len(read_studies([*keys, 999_999], StudyKeys())) == 4


def test_no_more_than_the_limit_are_read(people):
    assert len(find_study_keys(EVERYTHING, StudyKeys(), 3)) == 3


def test_patients_are_counted_with_what_belongs_to_them(db):
    for number in (4, 5):
        make_study("One^A", patient_id="A1", instance_count=number)
    make_study("Two^B", patient_id="B1")
    Patient.objects.create(patient_id="A0", name="One^B", name_search="one b")  # nothing stored
    keys = StudyKeys(name="one*")
    (row,) = read_patients(find_patient_keys(EVERYTHING, keys, 10), keys)
    assert (row["patient_id"], row["patient_studies"], row["patient_series"], row["patient_instances"]) == (
        "A1",
        2,
        2,
        9,
    )


def test_who_may_not_query_sees_nothing(people):
    for rights in (Rights(), Rights(is_known=True, may_send=True)):
        assert find_study_keys(rights, StudyKeys(), 10) == []
        assert find_patient_keys(rights, StudyKeys(), 10) == []
