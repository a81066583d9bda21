"""Identifiers of C-FIND: what a request asks for, and answers in its character set."""

from datetime import date, time

import pytest
from pydicom.charset import convert_encodings
from pydicom.valuerep import PersonName

from apps.archive import matching
from apps.archive.identifiers import PATIENT, STUDY, WrongLevelError, make_answer, read_question

ROW = {
    "name": "Miller^John",
    "patient_id": "P1",
    "issuer": "HOSPITAL",
    "birth_date": date(1970, 1, 1),
    "sex": "O",
    "study_instance_uid": "1.2.3",
    "study_id": "77",
    "study_date": date(2026, 1, 2),
    "study_time": time(10, 11, 12, 500000),
    "accession_number": "A1",
    "description": "Head",
    "referring_physician": "Haus^Gregory",
    "institution": "",
    "modalities": ["CT", "SR"],
    "series_count": 2,
    "instance_count": 30,
}


def question(level=STUDY, levels=(STUDY,), **tags):
    asked = {int(tag.removeprefix("t"), 16): ("", value) for tag, value in tags.items()}
    return read_question({matching.LEVEL: ("CS", level.encode()), **asked}, levels)


def test_an_answer_holds_what_was_asked_and_what_names_it():
    answer = make_answer(ROW, question(t00100010=b"", t00080030=b"", t00080061=b"", t00201208=b""), "US")
    assert answer == {
        matching.STUDY_TIME: ("TM", b"101112.500000 "),
        matching.LEVEL: ("CS", b"STUDY "),
        matching.RETRIEVE_AE: ("AE", b"US"),
        matching.MODALITIES: ("CS", b"CT\\SR "),
        matching.NAME: ("PN", b"Miller^John "),
        matching.STUDY_UID: ("UI", b"1.2.3\0"),
        matching.STUDY_INSTANCES: ("IS", b"30"),
    }
    assert list(answer) == sorted(answer)


def test_what_is_absent_is_empty():
    row = {**ROW, "birth_date": None, "study_time": None}
    answer = make_answer(row, question(t00100030=b"", t00080030=b"", t00080080=b""), "US")
    assert [answer[tag][1] for tag in (matching.BIRTH_DATE, matching.STUDY_TIME, matching.INSTITUTION)] == [b""] * 3


def test_keys_that_we_do_not_know_are_answered_empty():
    asked = question(t00102160=b"", t00091001=b"", t00081110=b"", t00280106=b"", t00080000=b"\4\0\0\0")
    answer = make_answer(ROW, asked, "US")
    unknown = {0x00102160: "SH", 0x00091001: "UN", 0x00081110: "SQ", 0x00280106: "US"}
    assert {tag: answer[tag] for tag in unknown} == {tag: (vr, b"") for tag, vr in unknown.items()}
    assert 0x00080000 not in answer


@pytest.mark.parametrize(
    ("asked", "is_supported"),
    [
        ({"t00100010": b"A*", "t00081030": b"", "t00201206": b"", "t00080054": b"X", "t00080201": b"+0100"}, True),
        ({"t00081030": b"* "}, True),
        ({"t00081030": b"Head"}, False),
        ({"t00102160": b""}, False),
    ],
)
def test_a_key_that_is_not_matched_or_not_known_is_noticed(asked, is_supported):
    assert question(**asked).is_supported is is_supported


@pytest.mark.parametrize("level", ["", "SERIES", "IMAGE", "study", "PATIENT"])
def test_other_levels_are_refused(level):
    with pytest.raises(WrongLevelError, match="^only queries at level STUDY are answered$"):
        question(level)


def test_the_levels_of_the_model_are_answered():
    row = {**ROW, "patient_studies": 1, "patient_series": 2, "patient_instances": 3}
    answer = make_answer(row, question(PATIENT, (PATIENT, STUDY), t00201204=b"", t0020000D=b""), "US")
    assert (answer[matching.PATIENT_ID][1], answer[matching.PATIENT_INSTANCES][1]) == (b"P1", b"3 ")
    assert answer[matching.STUDY_UID] == ("UI", b"")


@pytest.mark.parametrize(
    ("asked_in", "name", "answered_in"),
    [
        ("ISO_IR 100", "Müller^Jürgen", "ISO_IR 100"),
        ("ISO_IR 100", "Иванов^Пётр", "ISO_IR 192"),
        ("ISO_IR 144", "Иванов^Пётр", "ISO_IR 144"),
        ("ISO_IR 6", "Müller^Jürgen", "ISO_IR 192"),
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう", "\\ISO 2022 IR 87"),
        ("\\ISO 2022 IR 87", "Müller^Jürgen", "ISO_IR 192"),
        ("\\ISO 2022 IR 87", "×^山田", "ISO_IR 192"),
        ("ISO 2022 IR 100\\ISO 2022 IR 144", "Müller^Иван", "ISO 2022 IR 100\\ISO 2022 IR 144"),
        ("ISO 2022 IR 6\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "ISO 2022 IR 6\\ISO 2022 IR 149"),
        ("ISO_IR 100\\ISO_IR 144", "Müller^Jürgen", "ISO_IR 192"),
        ("NONSENSE", "Müller^Jürgen", "ISO_IR 192"),
        ("", "Müller^Jürgen", "ISO_IR 192"),
    ],
)
def test_answers_are_written_in_the_requesters_character_set_where_it_has_the_letters(asked_in, name, answered_in):
    answer = make_answer({**ROW, "name": name}, question(t00080005=asked_in.encode(), t00100010=b""), "US")
    label = answer[matching.CHARSET][1].decode().strip()
    assert label == answered_in
    assert PersonName(answer[matching.NAME][1].rstrip(), convert_encodings(label.split("\\"))) == name


def test_a_character_set_is_named_where_it_was_asked_for_or_needed():
    plain = {"t00100010": b""}
    assert matching.CHARSET not in make_answer(ROW, question(**plain), "US")
    assert make_answer(ROW, question(t00080005=b"", **plain), "US")[matching.CHARSET][1] == b"ISO_IR 192"
    assert make_answer(ROW, question(t00080005=b"ISO_IR 100", **plain), "US")[matching.CHARSET][1] == b"ISO_IR 100"
