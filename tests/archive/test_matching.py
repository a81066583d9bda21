"""Matching keys out of raw values, and names against patterns."""

import re
from contextlib import suppress
from datetime import date, time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.archive import matching
from apps.archive.matching import (
    BadKeyError,
    StudyKeys,
    date_range,
    fits,
    name_matches,
    name_words,
    read_keys,
    time_range,
)
from apps.archive.names import search_key


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("", (None, None)),
        ("20260102", (date(2026, 1, 2), date(2026, 1, 2))),
        ("2026.01.02", (date(2026, 1, 2), date(2026, 1, 2))),
        ("20260101-20260131", (date(2026, 1, 1), date(2026, 1, 31))),
        ("20260101 - 20260131", (date(2026, 1, 1), date(2026, 1, 31))),
        ("20260101-", (date(2026, 1, 1), None)),
        ("-20260131", (None, date(2026, 1, 31))),
    ],
)
def test_dates_and_ranges_of_dates_are_read(text, ends):
    assert date_range(text, "Study Date") == ends


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("", (None, None)),
        ("10", (time(10), time(10, 59, 59, 999999))),
        ("1011", (time(10, 11), time(10, 11, 59, 999999))),
        ("101112", (time(10, 11, 12), time(10, 11, 12, 999999))),
        ("101112.5", (time(10, 11, 12, 500000), time(10, 11, 12, 599999))),
        ("10:11:12", (time(10, 11, 12), time(10, 11, 12, 999999))),
        ("235960", (time(23, 59, 59), time(23, 59, 59, 999999))),
        ("08-0930", (time(8), time(9, 30, 59, 999999))),
        ("08-", (time(8), None)),
        ("-08", (None, time(8, 59, 59, 999999))),
    ],
)
def test_a_time_without_its_end_stands_for_all_of_it(text, ends):
    assert time_range(text, "Study Time") == ends


@pytest.mark.parametrize(
    "text", ["yesterday", "2026", "20261332", "20260101-2026", "-", "20260101--", "1/2/2026", "²0260101"]
)
def test_what_is_no_date_is_refused_without_quoting_it(text):
    with pytest.raises(BadKeyError, match="^Study Date is no date or range of dates$"):
        date_range(text, "Study Date")


@pytest.mark.parametrize("text", ["noon", "25", "1061", "1", "10-x", "-"])
def test_what_is_no_time_is_refused_without_quoting_it(text):
    with pytest.raises(BadKeyError, match="^Study Time is no time or range of times$"):
        time_range(text, "Study Time")


def test_all_keys_are_read_in_the_character_set_of_the_identifier():
    values = {
        matching.CHARSET: b"ISO_IR 100",
        matching.NAME: "Müller*".encode("latin-1"),
        matching.PATIENT_ID: b"P1 ",
        matching.ISSUER: b"HOSPITAL",
        matching.BIRTH_DATE: b"19700101",
        matching.STUDY_DATE: b"20260101-",
        matching.STUDY_TIME: b"10",
        matching.ACCESSION: b"A?",
        matching.STUDY_ID: b"7 ",
        matching.STUDY_UID: b"1.2.3\\1.2.4\0",
        matching.MODALITIES: b"CT\\MR ",
    }
    assert read_keys(values) == StudyKeys(
        patient_id="P1",
        issuer="HOSPITAL",
        name="Müller*",
        birth_date=(date(1970, 1, 1), date(1970, 1, 1)),
        study_date=(date(2026, 1, 1), None),
        study_time=(time(10), time(10, 59, 59, 999999)),
        accession_number="A?",
        study_id="7",
        study_instance_uids=("1.2.3", "1.2.4"),
        modalities=("CT", "MR"),
    )


@pytest.mark.parametrize("value", [b"", b" ", b"*", b"** ", b"\0\0"])
def test_a_key_of_nothing_or_wildcards_asks_for_nothing(value):
    tags = matching.PERSON_KEYS | matching.STUDY_KEYS
    assert read_keys(dict.fromkeys(tags, value)) == StudyKeys()
    assert read_keys({matching.NAME: b"*^*=*"}) == StudyKeys()


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        (matching.STUDY_UID, b"1.2.*", "no UID"),
        (matching.STUDY_UID, b"1.2.3\\x", "no UID"),
        (matching.STUDY_UID, b"1.2\\" * 2001, "at most 2000"),
        (matching.PATIENT_ID, b"x" * 201, r"\(0010,0020\) is longer"),
        (matching.NAME, b"x" * 100_000, r"\(0010,0010\) is longer"),
    ],
)
def test_what_cannot_match_is_refused_in_words_that_fit_an_error_comment(tag, value, words):
    with pytest.raises(BadKeyError, match=words) as caught:
        read_keys({tag: value})
    assert len(str(caught.value)) <= 64


@pytest.mark.parametrize(
    ("pattern", "name", "is_match"),
    [
        ("MULLER*", "Müller^Jürgen", True),
        ("müller^j*", "MULLER^JURGEN", True),
        ("Muller", "Muller^Anna", False),
        ("Muller^Anna", "Muller^Anna^^^", True),
        ("Muller^Anna^^", "Muller^Anna", True),
        ("Muller^*", "Muller", True),
        ("*^Anna", "Muller^Anna", True),
        ("*Anna", "Muller^Anna", True),
        ("M?ller*", "Müller^Jürgen", True),
        ("Gro?e*", "Große^Anna", True),
        ("GROSSE*", "Große^Anna", True),
        ("Anna*", "Muller^Anna", False),
        ("山田*", "Yamada^Tarou=山田^太郎=やまだ^たろう", True),
        ("Yamada*=山田*", "Yamada^Tarou=山田^太郎", True),
        ("Yamada*=鈴木*", "Yamada^Tarou=山田^太郎", False),
        ("=山田*", "Yamada^Tarou=山田^太郎", True),
        ("홍?동", "홍길동", True),
        ("Muller^Anna  Maria", "Muller^Anna Maria", True),
        ("M.ller*", "Miller^John", False),
    ],
)
def test_names_fit_without_regard_to_case_and_accents(pattern, name, is_match):
    assert name_matches(pattern, name) is is_match


@settings(deadline=None, max_examples=300, database=None)
@given(pattern=st.text("ab*?.", max_size=8), text=st.text("ab.", max_size=8))
def test_wildcards_fit_as_a_regular_expression_says(pattern, text):
    expression = "".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern)
    assert fits(pattern, text) is bool(re.fullmatch(expression, text))


def test_a_hostile_pattern_takes_no_long_time():
    assert not fits("*a" * 100 + "b", "a" * 400)


NAMES = st.text(st.sampled_from("abcÄßé ^=,-山길"), min_size=1, max_size=20)


@settings(deadline=None, max_examples=300, database=None)
@given(name=NAMES, data=st.data())
def test_the_index_finds_every_name_that_fits(name, data):
    letters = [data.draw(st.sampled_from([letter, letter, "?", "*"])) for letter in name]
    pattern = "".join(letters)
    if name_matches(pattern, name):
        beginning, words = search_key(name), name_words(pattern)
        expression = ".*".join(map(re.escape, words))
        assert re.search(expression, beginning)
        if words and pattern[0] not in "*?^= ,":
            assert re.search(rf"(^| ){expression}", beginning)


TAGS = st.sampled_from(sorted(matching.PERSON_KEYS | matching.STUDY_KEYS))


@settings(deadline=None, max_examples=200, database=None)
@given(values=st.dictionaries(TAGS, st.binary(max_size=40)))
def test_no_bytes_break_the_reading(values):
    with suppress(BadKeyError):
        read_keys(values)
