"""Labels and bytes that do not belong together, and those that only seem so."""

import os
import unicodedata
from itertools import product
from pathlib import Path

import pytest

from apps.archive.charset_doubts import Doubt, RawText, find_doubt
from apps.archive.charsets import PERSON_NAME_DELIMITERS, TEXT_DELIMITERS, charset_of
from apps.archive.header import UnreadableError, read_texts

DATA = os.environ.get("DICOMSYS_TEST_DATA")


def doubt_of(label: str, *values: bytes) -> Doubt | None:
    texts = [RawText(value, PERSON_NAME_DELIMITERS) for value in values]
    return find_doubt(texts, charset_of(label.encode()))


@pytest.mark.parametrize(
    ("label", "raw", "doubt"),
    [
        ("", b"M\xfcller^Anna", Doubt.MISSING),
        ("ISO_IR 6", "Müller^Anna".encode(), Doubt.MISSING),
        ("\\ISO 2022 IR 87", "山田^太郎".encode("cp932"), Doubt.MISSING),
        ("KLINGON", b"M\xfcller^Anna", Doubt.UNKNOWN),
        ("ISO_IR 192", b"M\xfcller^Anna", Doubt.IMPOSSIBLE),
        ("GB18030", "Müller".encode("latin-1") + b"^Ren\xe9", Doubt.IMPOSSIBLE),
        ("ISO_IR 13", "山田^太郎".encode("cp932"), Doubt.IMPOSSIBLE),
        ("ISO_IR 100", "山田^太郎".encode("cp932"), Doubt.IMPOSSIBLE),
        ("ISO_IR 100", "Иванов^Сергей".encode("cp866"), Doubt.IMPOSSIBLE),
        ("ISO_IR 100", b"Abc\x1b%G^x", Doubt.IMPOSSIBLE),
        ("ISO_IR 138", b"\xc0\xe0", Doubt.IMPOSSIBLE),
        ("ISO_IR 100", "Müller^Anna".encode(), Doubt.UNICODE),
        ("ISO_IR 100", "Łódź^Żaneta".encode(), Doubt.UNICODE),
        ("ISO_IR 100", "山田^太郎".encode(), Doubt.UNICODE),
        ("ISO_IR 144", "Müller^Jürgen".encode(), Doubt.UNICODE),
        ("ISO_IR 144", "Иванов^Сергей".encode(), Doubt.UNICODE),
        ("ISO_IR 100", "Иванов^Сергей".encode("cp1251"), Doubt.UNLIKELY),
        ("ISO_IR 100", "Παπαδόπουλος^Γιώργος".encode("cp1253"), Doubt.UNLIKELY),
        ("ISO_IR 101", "عبدالرحمن^أحمد".encode("cp1256"), Doubt.UNLIKELY),
        ("ISO_IR 100", "김^희중".encode("cp949"), Doubt.UNLIKELY),
        ("ISO_IR 100", "张^小东".encode("gbk"), Doubt.UNLIKELY),
    ],
)
def test_what_is_doubted_and_why(label, raw, doubt):
    assert doubt_of(label, raw) is doubt
    assert doubt_of(label, b"P1", b"CT abdomen", raw) is doubt


RIGHT = {
    "ISO_IR 100": ("Müller^Jürgen Größe", "Núñez^José Ángel", "Bjørk^Åse Ærø", "Thorax a.p. 30°, ±5 µm «é»", "Öö",
                   "CAFÉ »x«", "IRMÃO, 4ª série nº 7", "ÄÖÜ", "Häßlich § 5", "GRÖSSE ¾ ¼"),
    "ISO_IR 101": ("Łukasz^Żółć-Ślązak", "Dvořák^Jiří", "Kovács^Ödön Őry", "Šťastný^Zdeněk"),
    "ISO_IR 109": ("Ħal^Għarghur Ġużè",),
    "ISO_IR 110": ("Kazlauskas^Žygimantas", "Bērziņš^Jānis"),
    "ISO_IR 148": ("Yıldız^Şükrü", "Çağlar^İbrahim Öğüt"),
    "ISO_IR 144": ("Иванов^Сергей", "ТА", "Шевченко^Юлія", "КТ ГОЛОВЫ № 5", "Люкceмбypг"),
    "ISO_IR 126": ("Παπαδόπουλος^Γιώργος", "ΝΏΕ", "Διονυσιος"),
    "ISO_IR 127": ("قباني^لنزار", "محمد^أحمد"),
    "ISO_IR 138": ("שרון^דבורה", "כהן"),
    "ISO_IR 166": ("สมชาย^ใจดี", "รน", "ยก"),
    "ISO_IR 192": ("Müller", "山田^太郎=やまだ", "김희중", "สมชาย", "קבאני", "🙂"),
    "GB18030": ("王^小东", "张", "Wang^XiaoDong=王^小东"),
    "\\ISO 2022 IR 149": ("김^희중", "洪^吉洞"),
}  # fmt: skip
CODECS = {
    "ISO_IR 100": "latin-1", "ISO_IR 101": "iso8859_2", "ISO_IR 109": "iso8859_3", "ISO_IR 110": "iso8859_4",
    "ISO_IR 148": "iso8859_9", "ISO_IR 144": "iso8859_5", "ISO_IR 126": "iso8859_7", "ISO_IR 127": "iso8859_6",
    "ISO_IR 138": "iso8859_8", "ISO_IR 166": "iso8859_11", "ISO_IR 192": "utf-8", "GB18030": "gb18030",
    "\\ISO 2022 IR 149": "euc_kr",
}  # fmt: skip


@pytest.mark.parametrize(("label", "text"), [(label, text) for label, texts in RIGHT.items() for text in texts])
def test_right_labels_are_not_doubted(label, text):
    assert doubt_of(label, text.encode(CODECS[label])) is None


@pytest.mark.parametrize("label", ["ISO_IR 144", "ISO_IR 126", "ISO_IR 127", "ISO_IR 138", "ISO_IR 166", "ISO_IR 101"])
def test_two_letters_that_are_utf8_by_chance_are_not_doubted(label):
    """Every pair of letters of the set that happens to be well-formed UTF-8."""
    by_byte = {bytes([code]): bytes([code]).decode(CODECS[label], "replace") for code in range(0xA1, 0x100)}
    letters = [byte for byte, letter in by_byte.items() if unicodedata.category(letter) in ("Lu", "Ll", "Lo")]
    doubted = {a + b for a, b in product(letters, letters) if doubt_of(label, b"Abc^" + a + b)}
    assert doubted == set()


def test_plain_text_is_never_doubted():
    for label in ("", "KLINGON", "ISO_IR 192", "ISO_IR 100", "\\ISO 2022 IR 87"):
        assert doubt_of(label, b"Miller^Anna", b"") is None


def test_escape_sequences_that_say_everything_are_not_doubted():
    assert doubt_of("", b"Yamada=\x1b$B;3ED\x1b(B") is None
    assert doubt_of("ISO_IR 100", b"\x1b-L\xbb\xee\xda") is None


@pytest.mark.skipif(not DATA, reason="DICOMSYS_TEST_DATA is not set")
def test_of_all_real_files_only_those_broken_on_purpose_are_doubted():
    found, foreign = {}, 0
    for path in sorted(Path(DATA).rglob("*")):
        if path.is_file():
            try:
                texts = read_texts(path)
            except UnreadableError:
                continue
            foreign += not texts.is_plain
            if doubt := texts.find_doubt():
                found[path.name] = doubt
    assert found == {
        "TC0257_implicit_patname_binary.dcm": Doubt.MISSING,
        "TC0413_utf8_overlong.dcm": Doubt.IMPOSSIBLE,
    }
    assert foreign >= 15


def test_texts_with_other_delimiters_are_doubted_alike():
    text = RawText(b"Gr\xf6\xdfe", TEXT_DELIMITERS)
    assert find_doubt([text], charset_of(b"")) is Doubt.MISSING
