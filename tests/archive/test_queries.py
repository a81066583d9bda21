"""Finding studies: what matches, in which order, for whom, and with how many statements."""

from datetime import date, time, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.archive import queries
from apps.archive.models import Instance, Patient, Series, Study
from apps.archive.queries import (
    BY_ARRIVAL,
    PAGE_SIZE,
    StudyCriteria,
    count_newer,
    find_instance,
    find_series,
    find_studies,
    find_study,
    like_pattern,
    list_series,
    newest_key,
    prior_studies,
    recent_choices,
)
from tests.dicom import ct_dataset, series_of
from tests.factories import make_study, make_user, store

pytestmark = pytest.mark.django_db


@pytest.fixture
def radiologist(db):
    return make_user("radiologist")


def names(user, **criteria) -> list[str]:
    return [row.study.patient.display_name for row in find_studies(user, StudyCriteria(**criteria)).rows]


@pytest.fixture
def people(db) -> None:
    for name in (
        "Müller-Schmidt^Jürgen",
        "Muller^Anna Maria",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "O'Brien^Siobhán",
    ):
        make_study(name)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("muller", {"Müller-Schmidt, Jürgen", "Muller, Anna Maria"}),
        ("MÜLL", {"Müller-Schmidt, Jürgen", "Muller, Anna Maria"}),
        ("schmidt", {"Müller-Schmidt, Jürgen"}),
        ("muller, an", {"Muller, Anna Maria"}),
        ("anna muller", {"Muller, Anna Maria"}),
        ("anna, muller", set()),
        ("uller", set()),
        ("*uller", {"Müller-Schmidt, Jürgen", "Muller, Anna Maria"}),
        ("m?ller", {"Müller-Schmidt, Jürgen", "Muller, Anna Maria"}),
        ("m*r anna", {"Muller, Anna Maria"}),
        ("山田", {"Yamada, Tarou (山田 太郎, やまだ たろう)"}),
        ("やまだ", {"Yamada, Tarou (山田 太郎, やまだ たろう)"}),
        ("siobhan", {"O'Brien, Siobhán"}),
        ("o'brien", {"O'Brien, Siobhán"}),
        ("%", set()),
        ("_uller", set()),
        ("' OR 1=1 --", set()),
        ("\\", set()),
    ],
)
def test_a_name_is_found_by_the_beginnings_of_its_words(radiologist, people, text, found):
    assert set(names(radiologist, text=text)) == found


@pytest.mark.parametrize("text", ["AB-17", "ab-17", "AB-*7", "AB?17", " AB-17 "])
def test_an_id_is_found_from_its_beginning(radiologist, text):
    make_study("One^A", patient_id="AB-1712")
    make_study("Two^B", patient_id="XAB-17")
    assert names(radiologist, text=text) == ["One, A"]


def test_an_accession_number_is_found_from_its_beginning(radiologist):
    make_study("One^A", accession_number="RX100")
    make_study("Two^B", accession_number="100RX")
    assert names(radiologist, text="rx1") == ["One, A"]


def test_percent_and_underscore_in_an_id_stand_for_themselves(radiologist):
    make_study("One^A", patient_id="A_1%")
    make_study("Two^B", patient_id="AX1Y")
    assert names(radiologist, text="A_1%") == ["One, A"]


def test_a_text_that_finds_very_many_patients_gives_the_same(radiologist, people, monkeypatch):
    make_study("Zed^Z", accession_number="MUL1")
    before = names(radiologist, text="mul")
    monkeypatch.setattr(queries, "MANY", 1)
    assert names(radiologist, text="mul") == before
    assert len(before) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None, database=None)
@given(text=st.text(st.characters(), max_size=40))
def test_no_text_breaks_the_search(radiologist, text):
    find_studies(radiologist, StudyCriteria(text=text))


@pytest.mark.parametrize(("text", "pattern"), [("a*b?c", "a%b_c"), ("50%_\\", "50\\%\\_\\\\"), ("***", "%"), ("", "")])
def test_only_star_and_question_mark_are_wildcards(text, pattern):
    assert like_pattern(text) == pattern


def test_modalities_match_any_series_of_the_study(radiologist):
    both = make_study("Both^A", modality="CT")
    Series.objects.create(study=both, series_instance_uid="9.9", modality="SR")
    make_study("Magnet^B", modality="MR")
    assert names(radiologist, modalities=("SR",)) == ["Both, A"]
    assert set(names(radiologist, modalities=("CT", "MR"))) == {"Both, A", "Magnet, B"}
    assert names(radiologist, modalities=("XA",)) == []


def test_common_conditions_on_series_give_the_same_as_rare_ones(radiologist, monkeypatch):
    make_study("Scan^A", modality="CT", source="ROOM1")
    make_study("Scan^B", modality="CT", source="ROOM2")
    monkeypatch.setattr(queries, "MANY", 0)
    assert names(radiologist, modalities=("CT",), source="ROOM2") == ["Scan, B"]


def test_dates_are_inclusive(radiologist):
    for day in (1, 2, 3, 4):
        make_study(f"Day{day}^A", study_date=date(2026, 5, day))
    make_study("Undated^A", study_date=None)
    found = names(radiologist, date_from=date(2026, 5, 2), date_to=date(2026, 5, 3))
    assert found == ["Day3, A", "Day2, A"]


def test_newest_study_dates_come_first_and_undated_studies_last(radiologist):
    for name, day in (("Old", date(2020, 1, 1)), ("None", None), ("New", date(2026, 1, 1))):
        make_study(f"{name}^A", study_date=day)
    assert names(radiologist) == ["New, A", "Old, A", "None, A"]


def test_by_arrival_the_last_received_comes_first(radiologist):
    for name, day in (("First", date(2026, 1, 1)), ("Last", date(2020, 1, 1))):
        make_study(f"{name}^A", study_date=day)
    assert names(radiologist, order=BY_ARRIVAL) == ["Last, A", "First, A"]


@pytest.mark.parametrize("order", [queries.BY_STUDY_DATE, BY_ARRIVAL])
def test_pages_show_every_study_once(radiologist, order):
    patient = Patient.objects.create(patient_id="P", name="A^B")
    days = [date(2026, 1, 1) + timedelta(days=number % 7) if number % 5 else None for number in range(130)]
    hours = [time(number % 3) if number % 4 else None for number in range(130)]
    Study.objects.bulk_create(
        Study(study_instance_uid=f"1.{number}", patient=patient, study_date=day, study_time=hours[number])
        for number, day in enumerate(days)
    )
    criteria, seen, after = StudyCriteria(order=order), [], None
    while True:
        page = find_studies(radiologist, criteria, after)
        assert len(page.rows) <= PAGE_SIZE
        seen += [row.study.pk for row in page.rows]
        after = page.next_after
        if after is None:
            break
    assert len(seen) == len(set(seen)) == 130
    assert seen == [row.pk for row in _in_order(order)]


def _in_order(order: str) -> list[Study]:
    if order == BY_ARRIVAL:
        return sorted(Study.objects.all(), key=lambda study: -study.pk)
    return sorted(Study.objects.all(), key=_newest_first)


def _newest_first(study: Study) -> tuple:
    day, hour = study.study_date, study.study_time
    return day is None, -(day or date.min).toordinal(), hour is None, -(hour.hour if hour else 0), -study.pk


def test_a_page_needs_the_same_few_statements_whatever_its_length(radiologist, django_assert_num_queries):
    radiologist.get_all_permissions()
    for number in range(3):
        make_study(f"Name{number}^A")
    with django_assert_num_queries(2):
        find_studies(radiologist, StudyCriteria())
    for number in range(40):
        make_study(f"Name{number}^B", modality="MR")
    with django_assert_num_queries(2):
        assert len(find_studies(radiologist, StudyCriteria()).rows) == 43
    with django_assert_num_queries(4):
        assert len(find_studies(radiologist, StudyCriteria(text="name")).rows) == 43


def test_a_row_tells_what_its_series_are(radiologist):
    study = make_study(modality="CT", source="ROOM1", description="")
    Series.objects.create(study=study, series_instance_uid="7.7", modality="SR", body_part="CHEST")
    row = find_studies(radiologist, StudyCriteria()).rows[0]
    assert (row.modalities, row.sources, row.series_texts) == (("CT", "SR"), ("ROOM1",), ("CHEST",))


@pytest.mark.parametrize("role", ["referring physician", "administrator", "auditor"])
def test_without_a_scope_nobody_sees_a_study(role, volume):
    store(dataset := ct_dataset())
    user = make_user(role)
    study = Study.objects.get()
    assert find_studies(user, StudyCriteria()).rows == []
    assert count_newer(user, StudyCriteria(), since=0) == 0
    assert prior_studies(user, study) == []
    assert recent_choices(user).modalities == ()
    for find, uid, missing in (
        (find_study, dataset.StudyInstanceUID, Study.DoesNotExist),
        (find_series, dataset.SeriesInstanceUID, Series.DoesNotExist),
        (find_instance, dataset.SOPInstanceUID, Instance.DoesNotExist),
    ):
        with pytest.raises(missing):
            find(user, uid)


def test_arrivals_are_counted_from_the_newest_known_study(radiologist):
    make_study("Scan^A")
    known = newest_key()
    make_study("Scan^B")
    make_study("Other^C")
    assert count_newer(radiologist, StudyCriteria(), known) == 2
    assert count_newer(radiologist, StudyCriteria(text="scan"), known) == 1


def test_the_filters_offer_what_arrived_the_commonest_modality_first(radiologist):
    for modality, source in (("MR", "B"), ("CT", "A"), ("MR", "A"), ("", "")):
        make_study(modality=modality, source=source)
    choices = recent_choices(radiologist)
    assert (choices.modalities, choices.sources) == (("MR", "CT"), ("A", "B"))


def test_the_cover_of_a_series_is_its_middle_image_with_pixels(volume):
    images = series_of(5)
    store(*images)
    study = Study.objects.get()
    store(
        ct_dataset(
            StudyInstanceUID=study.study_instance_uid,
            Modality="SR",
            SeriesNumber=2,
            Rows=None,
            Columns=None,
            PixelData=None,
        )
    )
    first, second = list_series(study)
    assert first.cover is not None
    assert first.cover.instance_number == 3
    assert second.cover is None


def test_priors_are_the_other_studies_of_the_same_patient(radiologist):
    old = make_study(patient_id="P7", study_date=date(2020, 1, 1), description="Old")
    new = make_study(patient_id="P7", study_date=date(2026, 1, 1), description="New")
    make_study(patient_id="P8")
    assert [row.study.pk for row in prior_studies(radiologist, new)] == [old.pk]
