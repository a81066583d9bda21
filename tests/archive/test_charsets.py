"""Every Specific Character Set: the examples of the standard, real files, and texts made up by hypothesis."""

import csv
import os
import warnings
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.multival import MultiValue
from pydicom.valuerep import PersonName

from apps.archive.charsets import (
    OTHER_ENCODINGS,
    PERSON_NAME_DELIMITERS,
    TEXT_DELIMITERS,
    _shifted,
    assume_charset,
    charset_named,
    charset_of,
    decode_text,
    read_text,
)
from apps.archive.header import UnreadableError, read_texts
from apps.archive.ingest import store_batch
from apps.archive.models import DoubtfulText
from apps.archive.queries import StudyCriteria, find_studies
from apps.archive.texts import NAMES, clean_text
from apps.storage.spool import Spool
from tests.factories import make_user

DATA = os.environ.get("DICOMSYS_TEST_DATA")
SINGLE_BYTE = {
    "100": "latin_1", "101": "iso8859_2", "109": "iso8859_3", "110": "iso8859_4", "144": "iso8859_5",
    "127": "iso8859_6", "126": "iso8859_7", "138": "iso8859_8", "148": "iso8859_9", "203": "iso8859_15",
    "166": "iso8859_11",
}  # fmt: skip
ESCAPES = {
    "100": b"\x1b-A", "101": b"\x1b-B", "109": b"\x1b-C", "110": b"\x1b-D", "144": b"\x1b-L", "127": b"\x1b-G",
    "126": b"\x1b-F", "138": b"\x1b-H", "148": b"\x1b-M", "203": b"\x1b-b", "166": b"\x1b-T",
}  # fmt: skip
JAPANESE = "ISO 2022 IR 13\\ISO 2022 IR 87\\ISO 2022 IR 159"


def read(label: str, raw: bytes, delimiters=PERSON_NAME_DELIMITERS) -> tuple[str, bool]:
    return read_text(raw, charset_of(label.encode()), delimiters)


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        # PS3.5 H.3.1
        (
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        # PS3.5 H.3.2
        (
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        ),
        # PS3.5 I.2
        (
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        # PS3.5 J.2 and J.3
        (
            "ISO_IR 192",
            b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1=",
            "Wang^XiaoDong=王^小東=",
        ),
        ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
        # PS3.5 K.2
        (
            "\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
            "Zhang^XiaoDong=张^小东=",
        ),
        ("GBK", "Wang^XiaoDong=王^小東^丂乗".encode("gbk"), "Wang^XiaoDong=王^小東^丂乗"),
        ("ISO_IR 13", b"\xd4\xcf\xc0\xde^~", "ﾔﾏﾀﾞ^‾"),
    ],
)
def test_the_examples_of_the_standard(label, raw, text):
    assert read(label, raw) == (text, True)


def test_lines_of_a_text_begin_again_with_the_first_set():
    """PS3.5 I.3 and K.3: each line names its set anew."""
    raw = b"\x1b$)C\xb1\xe6\xb5\xbf\r\nThe second line\r\n\x1b$)C\xc8\xab, too."
    assert read("\\ISO 2022 IR 149", raw, TEXT_DELIMITERS) == ("길동\r\nThe second line\r\n홍, too.", True)
    raw = b"\x1b$B;3ED\r\nplain"
    assert read("\\ISO 2022 IR 87", raw, TEXT_DELIMITERS) == ("山田\r\nplain", True)


def test_what_one_half_of_the_table_holds_outlasts_changes_of_the_other():
    raw = b"\x1b$B;3ED\x1b(B \xd4\xcf\xc0\xde"
    assert read("ISO 2022 IR 13\\ISO 2022 IR 87", raw) == ("山田 ﾔﾏﾀﾞ", True)


def test_a_delimiter_brings_the_first_set_back():
    raw = b"Buc^J\xe9r\xf4me=\x1b-L\xbb\xee\xda^\xe9"
    assert read("ISO 2022 IR 100\\ISO 2022 IR 144", raw) == ("Buc^Jérôme=Люк^é", True)


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        ("\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
        ("\\ISO 2022 IR 149", b"\xb1\xe8^\xc8\xf1\xc1\xdf", "김^희중"),
        ("ISO 2022 IR 149", b"\xb1\xe8\xc8\xf1\xc1\xdf", "김희중"),
        ("ISO 2022 IR 58", b"\xd5\xc5", "张"),
        ("\\ISO 2022 IR 100", b"M\xfcller", "Müller"),
        ("\\ISO 2022 IR 87", b"\x1b$B;3ED^\x1b$BB@O:", "山田^太郎"),
        ("\\ISO 2022 IR 87", b"\x1b$@;3ED\x1b(B", "山田"),
        ("ISO_IR 100", b"\x1b$B;3ED\x1b(B", "山田"),
        ("\\ISO 2022 IR 87", b"\x1b$B|b66\x1b(B^\x1b$B-!\x1b(B", "髙橋^①"),
        ("", b"\x1b-L\xbb\xee\xda", "Люк"),
        ("ISO-IR 100", b"M\xfcller", "Müller"),
        ("iso_ir 192 ", "Müller".encode(), "Müller"),
        ("\\ISO_IR 192", "Müller".encode(), "Müller"),
    ],
)
def test_what_senders_leave_out_is_read_where_it_can_mean_one_thing_only(label, raw, text):
    assert read(label, raw) == (text, True)


@pytest.mark.parametrize(
    ("label", "raw", "text"),
    [
        ("ISO_IR 100", "Łódź".encode(), "Łódź"),
        ("ISO_IR 192", b"M\xfcller", "M\N{REPLACEMENT CHARACTER}ller"),
        ("ISO_IR 138", b"\xc0", "\N{REPLACEMENT CHARACTER}"),
        ("ISO_IR 13", b"\x8e\x52\x93\x63", "\N{REPLACEMENT CHARACTER}R\N{REPLACEMENT CHARACTER}c"),
        ("\\ISO 2022 IR 87", b"\x1b$B;3E", "山E"),
        ("\\ISO 2022 IR 149", b"\x1b$)C\xb1\xe6\xb5", "길\N{REPLACEMENT CHARACTER}"),
        ("ISO_IR 100", b"M\x1b%Gx", "M%Gx"),
        ("", b"M\xfcller", "Müller"),
        ("", "Müller".encode(), "Müller"),
        ("KLINGON", b"M\xfcller", "Müller"),
    ],
)
def test_impossible_bytes_are_read_all_the_same_and_told(label, raw, text):
    assert read(label, raw) == (text, False)


@pytest.mark.parametrize("number", [*SINGLE_BYTE, "6", "13", "87", "149", "159", "58"])
def test_every_term_is_known(number):
    label = f"ISO 2022 IR {number}"
    assert charset_of(label.encode()).is_known
    assert charset_of(f"ISO_IR {number}\\{label}".encode()).is_known
    assert charset_of(label.encode()).is_unlabelled == (number in ("6", "87", "159"))
    assert not charset_of(f"{label}1".encode()).is_known


def test_a_default_holds_only_where_no_label_is():
    assert decode_text(b"\xc8\xe2", assume_charset(b"", "Windows-1251")) == "Ив"
    assert decode_text(b"\xc8\xe2", assume_charset(b"ISO_IR 6", "ISO_IR 144")) == "Шт"
    assert decode_text(b"\xc8\xe2", assume_charset(b"ISO_IR 100", "Windows-1251")) == "Èâ"
    assert decode_text(b"\xc8\xe2", assume_charset(b"", "")) == "Èâ"
    with pytest.raises(ValueError, match="no known character set"):
        assume_charset(b"", "KLINGON")


@pytest.mark.parametrize("label", OTHER_ENCODINGS)
def test_what_a_person_may_assume_is_an_encoding(label):
    assert read_text(b"Abc", charset_named(label)) == ("Abc", True)


# --- Real files


@pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set")
def test_real_texts_read_as_pydicom_reads_them():
    """pydicom as the oracle, for every text of every real file; what is impossible under its label is left out."""
    compared = 0
    with (Path(DATA) / "MANIFEST.csv").open(newline="") as manifest:
        paths = [Path(DATA) / row["path"] for row in csv.DictReader(manifest) if row["read"] == "OK"]
    for path in paths:
        try:
            texts = read_texts(path)
        except UnreadableError:
            continue
        for keyword, name in (("PatientName", "patient_name"), ("StudyDescription", "study_description")):
            raw, charset = texts.raw[name], charset_of(texts.label)
            if raw and read_text(raw, charset, PERSON_NAME_DELIMITERS)[1]:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    value = dcmread(path, stop_before_pixels=True).get(keyword)
                parts = value if isinstance(value, MultiValue) else [value]
                if all(isinstance(part, str | PersonName) for part in parts):
                    expected = "\\".join(map(str, parts))
                    delimiters = PERSON_NAME_DELIMITERS if name in NAMES else TEXT_DELIMITERS
                    found = clean_text(decode_text(raw, charset, delimiters))
                    assert found.rstrip(" =") == clean_text(expected).rstrip(" ="), path
                    compared += 1
    assert compared > 500


REAL_NAMES = {  # file → words that find it, how the name is shown
    "chrArab.dcm": ("لنزار", "قباني, لنزار"),
    "chrFren.dcm": ("jerome", "Buc, Jérôme"),
    "chrFrenMulti.dcm": ("buc", "Buc, Jérôme"),
    "chrGerm.dcm": ("rudiger", "Äneas, Rüdiger"),
    "chrGreek.dcm": ("διονυσ", "Διονυσιος"),
    "chrH31.dcm": ("やまだ", "Yamada, Tarou (山田 太郎, やまだ たろう)"),
    "chrH32.dcm": ("太郎", "ﾔﾏﾀﾞ, ﾀﾛｳ (山田 太郎, やまだ たろう)"),
    "chrHbrw.dcm": ("דבורה", "שרון, דבורה"),
    "chrI2.dcm": ("길동", "Hong, Gildong (洪 吉洞, 홍 길동)"),
    "chrJapMulti.dcm": ("たろう", "やまだ, たろう"),
    "chrJapMultiExplicitIR6.dcm": ("やまだ", "やまだ, たろう"),
    "chrKoreanMulti.dcm": ("김희중", "김희중"),
    "chrRuss.dcm": ("люкc", "Люкceмбypг"),
    "chrX1.dcm": ("小東", "Wang, XiaoDong (王 小東)"),
    "chrX2.dcm": ("小东", "Wang, XiaoDong (王 小东)"),
}


@pytest.mark.django_db
@pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set")
@pytest.mark.parametrize("name", REAL_NAMES)
def test_real_names_are_stored_shown_and_found(volume, name):
    content = (Path(DATA) / "charsets" / "pydicom" / name).read_bytes()
    batch = Spool(django_settings.SPOOL_DIR).open_batch()
    batch.write((content,))
    assert [result.outcome.value for result in store_batch(batch.close())] == ["stored"]
    words, shown = REAL_NAMES[name]
    found = find_studies(make_user("radiologist"), StudyCriteria(text=words)).rows
    assert [row.study.patient.display_name for row in found] == [shown]
    assert not DoubtfulText.objects.exists()


# --- Round trips


def repertoire(encoding: str, prefix: str = "") -> list[str]:
    """Every character above ASCII that two bytes or one of the set stand for."""
    found = []
    for code in range(0xA1, 0xFF):
        for rest in [b""] if encoding in SINGLE_BYTE.values() else [bytes([low]) for low in range(0xA1, 0xFF)]:
            raw = prefix.encode("latin-1") + bytes([code]) + rest
            text = raw.decode(encoding, "replace")
            if len(text) == 1 and text.isprintable() and text.encode(encoding, "replace") == raw:
                found.append(text)
    return found


ASCII = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7D, exclude_characters="\\^="), max_size=6)
UPPER = {number: (escape, SINGLE_BYTE[number]) for number, escape in ESCAPES.items()} | {
    "149": (b"\x1b$)C", "euc_kr"),
    "58": (b"\x1b$)A", "gb2312"),
}
LETTERS = {
    number: st.text(st.sampled_from(repertoire(encoding)), max_size=6) for number, (_, encoding) in UPPER.items()
}
JIS_X_0208 = st.text(st.sampled_from(repertoire("euc_jp")), min_size=1, max_size=6)
JIS_X_0212 = st.text(st.sampled_from(repertoire("euc_jp", "\x8f")), min_size=1, max_size=6)
KATAKANA = st.text(st.characters(min_codepoint=0xFF61, max_codepoint=0xFF9F), max_size=6)


@given(number=st.sampled_from(sorted(SINGLE_BYTE)), data=st.data())
def test_single_byte_sets_come_back(number, data):
    text = data.draw(ASCII) + data.draw(LETTERS[number])
    raw = text.encode(SINGLE_BYTE[number])
    assert read(f"ISO_IR {number}", raw) == (text, True)
    assert read(f"ISO 2022 IR {number}\\ISO 2022 IR 87", raw) == (text, True)


@given(parts=st.lists(st.tuples(st.sampled_from(sorted(UPPER)), st.sampled_from("^=\\")), max_size=5), data=st.data())
@settings(max_examples=200)
def test_sets_of_the_upper_half_come_back(parts, data):
    """Each component in a set of its own, which an escape sequence names; the delimiter goes back to the first set."""
    raw, text = b"", ""
    for number, delimiter in parts:
        plain, letters = data.draw(ASCII), data.draw(LETTERS[number])
        escape, encoding = UPPER[number]
        raw += plain.encode() + escape + letters.encode(encoding) + delimiter.encode()
        text += plain + letters + delimiter
    label = "\\".join(["", *(f"ISO 2022 IR {number}" for number, _ in parts)])
    assert read(label, raw) == (text, True)


@given(parts=st.lists(st.tuples(KATAKANA, JIS_X_0208, JIS_X_0212, st.sampled_from("^=\\")), max_size=4))
@settings(max_examples=200)
def test_japanese_sets_come_back(parts):

    raw, text = b"", ""
    for katakana, kanji, rare, delimiter in parts:
        raw += bytes(ord(c) - 0xFF61 + 0xA1 for c in katakana)
        raw += b"\x1b$B" + bytes(c & 127 for c in kanji.encode("euc_jp"))
        raw += b"\x1b$(D" + bytes(c & 127 for c in rare.encode("euc_jp") if c != 0x8F) + b"\x1b(J" + delimiter.encode()
        text += katakana + kanji + rare + delimiter
    assert read(JAPANESE, raw) == (text, True)


def test_pairs_are_shifted_as_shift_jis_writes_them():
    compared = 0
    for character in repertoire("euc_jp"):
        pair = bytes(code & 127 for code in character.encode("euc_jp"))
        try:
            assert _shifted(pair) == character.encode("shift_jis")
        except UnicodeEncodeError:
            continue
        compared += 1
    assert compared > 6800


@given(text=st.text(st.characters(categories=("L", "N", "P", "S")), max_size=20))
def test_whole_encodings_come_back(text):
    assert read("ISO_IR 192", text.encode()) == (text, True)
    assert read("GB18030", text.encode("gb18030")) == (text, True)


@given(
    raw=st.binary(max_size=30)
    | st.lists(
        st.sampled_from([*ESCAPES.values(), b"\x1b$B", b"\x1b(J", b"\x1b", b";3", b"^"]) | st.binary(max_size=3),
        max_size=8,
    ).map(b"".join),
    label=st.sampled_from(["", "ISO_IR 100", JAPANESE, "\\ISO 2022 IR 149", "ISO_IR 192", "GB18030", "GBK", "NONE"]),
)
@settings(max_examples=500)
def test_nothing_makes_reading_fail(raw, label):
    text, is_possible = read(label, raw)
    assert isinstance(text, str)
    assert decode_text(raw, charset_of(label.encode()), PERSON_NAME_DELIMITERS) == text or raw.isascii()
    assert is_possible or raw
