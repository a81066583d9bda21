"""C-FIND at an Orthanc, and at a PACS that misbehaves."""

import logging
import time
from datetime import date
from threading import Event

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from apps.nodes.errors import PeerRefusedError, PeerUnavailableError
from apps.transfer.errors import QueryRefusedError
from apps.transfer.find import find_studies, make_identifier
from tests.dicom import series_of
from tests.peers import wait_until
from tests.transfer.conftest import node_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def filled_orthanc(orthanc, tmp_path):
    """Four patients, whose names need four character sets."""
    studies = [
        ("Smith^John", "ISO_IR 192", "P1", "20250505", 1),
        ("Müller^Änne", "ISO_IR 100", "P2", "20260102", 2),
        ("Иванов^Пётр", "ISO_IR 144", "P3", "20260103", 3),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "ISO_IR 192", "P4", "20260104", 4),
    ]
    for name, character_set, patient_id, day, count in studies:
        changes = {
            "PatientName": name,
            "PatientID": patient_id,
            "StudyDate": day,
            "SpecificCharacterSet": character_set,
        }
        orthanc.store(tmp_path / patient_id, series_of(count, **changes))
    return orthanc


def found_ids(node, **criteria) -> list[str]:
    return [study.patient_id for study in find_studies(node, **criteria).studies]


def test_a_study_is_found_by_patient_id_with_all_that_is_shown(filled_orthanc):
    found = find_studies(node_for(filled_orthanc), patient_id="P3")
    (study,) = found.studies
    assert (study.patient_name, study.patient_id, study.sex) == ("Иванов^Пётр", "P3", "O")
    assert (study.study_date, str(study.study_time), study.birth_date) == (
        date(2026, 1, 3),
        "10:11:12",
        date(1970, 1, 1),
    )
    assert (study.instance_count, study.modalities, study.accession_number) == (3, ("CT",), "A1")
    assert not found.is_cut
    assert not found.has_unreadable


@pytest.mark.parametrize(
    ("typed", "patient_id"),
    [("Müller", "P2"), ("müller, ä", "P2"), ("Иванов", "P3"), ("иванов, п", "P3"), ("山田", "P4"), ("smi", "P1")],
)
def test_names_are_found_in_every_script(filled_orthanc, typed, patient_id):
    assert found_ids(node_for(filled_orthanc), patient_name=typed) == [patient_id]


def test_a_name_is_sent_in_the_character_set_of_the_node(filled_orthanc):
    assert found_ids(node_for(filled_orthanc, query_character_set="ISO_IR 144"), patient_name="Иванов") == ["P3"]


def test_dates_are_a_range_and_the_newest_comes_first(filled_orthanc):
    node = node_for(filled_orthanc)
    assert found_ids(node, study_date_from=date(2026, 1, 2), study_date_to=date(2026, 1, 3)) == ["P3", "P2"]
    assert found_ids(node, study_date_to=date(2025, 12, 31)) == ["P1"]


def test_modality_and_accession_narrow_the_search(filled_orthanc):
    node = node_for(filled_orthanc)
    assert found_ids(node, accession_number="A1", modality="mr") == []
    assert len(found_ids(node, accession_number="A1", modality="ct")) == 4


def test_nothing_found_is_an_empty_answer(filled_orthanc):
    assert found_ids(node_for(filled_orthanc), patient_id="NOBODY") == []


def match(**values) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = generate_uid()
    for keyword, value in values.items():
        setattr(identifier, keyword, value)
    return identifier


def answer_with(*identifiers: Dataset):
    def on_find(event):
        for identifier in identifiers:
            yield 0xFF00, identifier

    return on_find


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 144", "Люкceмбypг^Роза"),
        ("ISO_IR 126", "Διονυσιος^Α"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_answers_are_decoded_with_their_own_character_set(pacs, character_set, name):
    pacs.on_find = answer_with(match(SpecificCharacterSet=character_set, PatientName=name))
    (study,) = find_studies(node_for(pacs), patient_id="1").studies
    assert study.patient_name == name


def test_the_request_names_a_character_set_only_where_it_is_needed(pacs):
    pacs.on_find = answer_with()
    node = node_for(pacs)
    find_studies(node, patient_name="Smith")
    find_studies(node, patient_name="Müller")
    assert "SpecificCharacterSet" not in pacs.finds[0]
    assert (pacs.finds[1].SpecificCharacterSet, str(pacs.finds[1].PatientName)) == ("ISO_IR 192", "Müller*")


def test_letters_that_the_node_cannot_read_are_refused():
    with pytest.raises(QueryRefusedError, match="lacks some of these letters") as caught:
        make_identifier({"PatientName": "Иванов*"}, "ISO_IR 100")
    assert caught.value.__cause__ is None


def test_a_broad_search_is_stopped_at_the_limit(pacs):
    cancelled = Event()

    def on_find(event):
        for number in range(21):  # pynetdicom hears no C-CANCEL while answers wait to be sent: so no more than needed
            yield 0xFF00, match(PatientID=str(number))
        wait_until(lambda: event.is_cancelled)
        cancelled.set()
        yield 0xFE00, None

    pacs.on_find = on_find
    found = find_studies(node_for(pacs), patient_name="a", results_max=20)
    assert found.is_cut
    assert len(found.studies) == 20
    assert cancelled.wait(10)


def test_exactly_the_limit_is_not_cut(pacs):
    pacs.on_find = answer_with(*(match() for _ in range(20)))
    found = find_studies(node_for(pacs), patient_name="a", results_max=20)
    assert len(found.studies) == 20
    assert not found.is_cut


def test_a_node_that_ignores_the_cancel_is_left(pacs, monkeypatch):
    monkeypatch.setattr("apps.transfer.find.CANCEL_S", 0.3)

    def on_find(event):
        while event.assoc.is_established:
            time.sleep(0.002)
            yield 0xFF00, match()

    pacs.on_find = on_find
    started = time.monotonic()
    assert find_studies(node_for(pacs), patient_name="a", results_max=5).is_cut
    assert time.monotonic() - started < 4


def test_broken_answers_cost_only_themselves(pacs):
    broken = match(StudyDate="yesterday", StudyTime="99", PatientBirthDate="19991332", PatientID="OK")
    without_uid = match()
    del without_uid.StudyInstanceUID
    pacs.on_find = answer_with(broken, without_uid, match(ModalitiesInStudy=["CT", "SR"], PatientID="GOOD"))
    found = find_studies(node_for(pacs), patient_name="a")
    assert [study.patient_id for study in found.studies] == ["OK", "GOOD"]
    assert found.studies[0].study_date is None
    assert found.studies[1].modalities == ("CT", "SR")
    assert found.has_unreadable


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (0xA700, PeerUnavailableError, "Narrow the search"),
        (0xA900, PeerRefusedError, "does not understand the search keys"),
        (0xC001, PeerUnavailableError, "unable to search"),
    ],
)
def test_a_failure_status_is_told_in_words(pacs, status, kind, words):
    pacs.on_find = lambda event: iter([(status, None)])
    with pytest.raises(kind, match=words):
        find_studies(node_for(pacs), patient_name="a")


def test_an_abort_between_answers_is_told(pacs):
    def on_find(event):
        yield 0xFF00, match()
        event.assoc.abort(block=False)
        time.sleep(0.2)

    pacs.on_find = on_find
    with pytest.raises(PeerUnavailableError, match="aborted the association during C-FIND"):
        find_studies(node_for(pacs), patient_name="a")


def test_a_node_that_falls_silent_is_given_up(pacs, settings):
    settings.DICOM_DIMSE_TIMEOUT_S = 0.5

    def on_find(event):
        time.sleep(1.5)
        yield 0x0000, None

    pacs.on_find = on_find
    with pytest.raises(PeerUnavailableError, match="did not answer C-FIND in time"):
        find_studies(node_for(pacs), patient_name="a")


def test_a_node_that_may_not_be_queried_is_not(pacs):
    with pytest.raises(QueryRefusedError, match="not set up for searching"):
        find_studies(node_for(pacs, may_be_queried=False), patient_id="1")
    assert pacs.finds == []


def test_no_log_line_and_no_warning_quotes_a_person(pacs, caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    pacs.on_find = answer_with(match(PatientName="Secret^Person" * 9, PatientID="S" * 80, PatientBirthDate="never"))
    find_studies(node_for(pacs), patient_name="Searched")
    texts = caplog.text + "".join(str(warning.message) for warning in recwarn)
    assert not [word for word in ("Secret", "SSSS", "never", "Searched") if word in texts]
