"""Guessing the character set of names whose label is wrong."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.archive.charset_doubts import Doubt, RawText, find_doubt
from apps.archive.charset_guesses import CANDIDATES, guess_charsets
from apps.archive.charsets import PERSON_NAME_DELIMITERS, TEXT_DELIMITERS, charset_named, charset_of
from apps.archive.texts import TEXT_TAGS, FileTexts

CYRILLIC = ("Иванов^Сергей", "Петрова^Анна", "Шевченко^Юлия")
NAMES = [
    ("utf-8", "ISO_IR 192", ("Müller^Jürgen",)),
    ("utf-8", "ISO_IR 192", ("山田^太郎",)),
    ("utf-8", "ISO_IR 192", CYRILLIC),
    ("latin-1", "ISO_IR 100", ("Müller^Jürgen",)),
    ("latin-1", "ISO_IR 100", ("Núñez^José", "Bjørk^Åse", "Lefèvre^Françoise")),
    ("iso8859_2", "ISO_IR 101", ("Łukasz^Żak",)),
    ("cp1250", "Windows-1250", ("Šťastný^Zdeněk", "Łukasz^Żak")),
    ("iso8859_9", "ISO_IR 148", ("Yıldız^Şükrü", "Çağlar^İbrahim", "Öğüt^Ayşe")),
    ("cp1251", "Windows-1251", CYRILLIC),
    ("cp1251", "Windows-1251", CYRILLIC[:1]),
    ("koi8_r", "KOI8-R", CYRILLIC),
    ("cp866", "IBM-866", CYRILLIC),
    ("iso8859_5", "ISO_IR 144", CYRILLIC),
    ("iso8859_7", "ISO_IR 126", ("Παπαδόπουλος^Γιώργος",)),
    ("cp1256", "Windows-1256", ("محمد^أحمد", "الحسن^فاطمة")),
    ("iso8859_6", "ISO_IR 127", ("محمد^أحمد", "قباني^لنزار")),
    ("iso8859_8", "ISO_IR 138", ("כהן^דוד", "לוי^שרה")),
    ("iso8859_11", "ISO_IR 166", ("สมชาย^ใจดี",)),
    ("cp932", "Shift_JIS", ("Yamada^Taro=山田^太郎=やまだ^たろう",)),
    ("cp932", "Shift_JIS", ("佐藤^花子",)),
    ("cp932", "ISO_IR 13", ("ﾔﾏﾀﾞ^ﾀﾛｳ", "ｽｽﾞｷ^ｲﾁﾛｳ")),
    ("euc_jp", "EUC-JP", ("山田^太郎", "鈴木^一郎=すずき^いちろう")),
    ("cp949", "ISO 2022 IR 149", ("김^희중", "박^지성", "이^영희")),
    ("gb18030", "GB18030", ("张^小东", "王^伟", "李^娜")),
    ("cp950", "Big5", ("陳^大文", "王^小明", "林^志玲")),
]


def texts(encoding: str, names: tuple[str, ...]) -> list[RawText]:
    return [RawText(name.encode(encoding), PERSON_NAME_DELIMITERS) for name in names]


@pytest.mark.parametrize(
    ("encoding", "label", "names"), NAMES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_the_likeliest_reading_is_the_right_one(encoding, label, names):
    values = texts(encoding, names)
    best = guess_charsets(values)[0]
    assert tuple(value.read(charset_named(best.label))[0] for value in values) == names
    assert best.label == label
    assert 50 < best.score <= 100


def test_candidates_that_read_alike_are_shown_once():
    labels = [candidate.label for candidate in guess_charsets(texts("latin-1", ("Müller^Jürgen",)))]
    assert "ISO_IR 100" in labels
    assert not {"Windows-1252", "ISO_IR 203", "ISO_IR 148"} & set(labels)


def test_what_the_sender_uses_otherwise_decides_between_readings_that_are_alike():
    values = texts("latin-1", ("Müller^Jürgen",))
    best = guess_charsets(values, {"ISO_IR 148": 3})[0]
    assert best.label == "ISO_IR 148"
    assert "as in 3 other studies of this sender" in best.reasons
    assert best.score > guess_charsets(values)[0].score


def test_a_few_texts_that_a_candidate_cannot_read_lower_its_score():
    good = guess_charsets(texts("iso8859_6", ("محمد^أحمد",) * 4))[0]
    mixed = guess_charsets([*texts("iso8859_6", ("محمد^أحمد",) * 4), RawText(b"\xff\xfe", PERSON_NAME_DELIMITERS)])
    same = next(candidate for candidate in mixed if candidate.label == good.label)
    assert same.score < good.score
    assert same.reasons[0] == "fits 80% of the texts"


def test_reasons_are_words_for_people():
    by_label = {candidate.label: candidate for candidate in guess_charsets(texts("cp1251", CYRILLIC))}
    assert by_label["Windows-1251"].reasons == ("fits all texts", "common in names")
    assert "words mix alphabets or have accents only" in by_label["ISO_IR 148"].reasons
    assert by_label["Windows-1251"].words == "Cyrillic, Windows"


def test_capitals_within_east_asian_words_are_usual():
    best = guess_charsets([RawText("頭部CT".encode("cp932"), TEXT_DELIMITERS)])[0]
    assert (best.label, best.reasons) == ("Shift_JIS", ("fits all texts", "common in names"))
    latin = RawText("Müller".encode("latin-1"), PERSON_NAME_DELIMITERS)
    as_chinese = next(found for found in guess_charsets([latin]) if found.label == "GB18030")
    assert "words mix alphabets or have accents only" in as_chinese.reasons


def test_every_candidate_can_be_chosen():
    for label in CANDIDATES:
        assert charset_named(label)


def test_no_texts_give_no_candidates():
    assert guess_charsets([]) == []


@given(values=st.lists(st.binary(max_size=40), max_size=4), label=st.binary(max_size=40))
def test_nothing_makes_doubting_and_guessing_fail(values, label):
    texts = [RawText(value, PERSON_NAME_DELIMITERS) for value in values]
    assert find_doubt(texts, charset_of(label)) in {None, *Doubt}
    assert all(0 <= candidate.score <= 100 for candidate in guess_charsets(texts))


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        (b"\x1b" + b"\xd0a" * 8191, b"ISO_IR 13"),
        (b"\x1b$B;3^" * 2700, b"\\ISO 2022 IR 87"),
        (b"\x1b$B" + b"| " * 8000, b"\\ISO 2022 IR 87"),
        (b"\xe9a" * 8192, b"ISO_IR 100"),
    ],
)
def test_hostile_texts_take_a_bounded_time(raw, label):
    found = {**dict.fromkeys(TEXT_TAGS.values(), raw), 0x00080005: label}
    started = process_time()
    texts = FileTexts.of(found, 0x00080005)
    texts.find_doubt()
    texts.read()
    assert process_time() - started < 1
