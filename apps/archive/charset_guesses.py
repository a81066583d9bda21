"""Which character set texts with a doubtful label were really written in: candidates with a score that one can explain.

Nothing is learnt and nothing is downloaded: what counts is whether the bytes are possible, whether letters of one
script make the words, how common those letters are in names, how capitals are set, and what the sender's other studies
were found to be. Nothing here imports Django.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from apps.archive.charset_doubts import RawText, is_usual, script_of, scripts_of, split_words
from apps.archive.charsets import OTHER_ENCODINGS, PERSON_NAME_DELIMITERS, charset_named

CANDIDATES = {  # in order of preference where readings are alike: defined terms before those of no standard
    "ISO_IR 192": "Unicode (UTF-8)",
    "ISO_IR 100": "Western European (Latin 1)",
    "ISO_IR 101": "Central European (Latin 2)",
    "ISO_IR 148": "Turkish (Latin 5)",
    "ISO_IR 110": "Baltic (Latin 4)",
    "ISO_IR 109": "South European (Latin 3)",
    "ISO_IR 203": "Western European with euro (Latin 9)",
    "ISO_IR 144": "Cyrillic (ISO 8859-5)",
    "ISO_IR 126": "Greek (ISO 8859-7)",
    "ISO_IR 127": "Arabic (ISO 8859-6)",
    "ISO_IR 138": "Hebrew (ISO 8859-8)",
    "ISO_IR 166": "Thai (TIS 620)",
    "ISO_IR 13": "Japanese half-width Katakana (JIS X 0201)",
    "ISO 2022 IR 149": "Korean (KS X 1001)",
    "GB18030": "Chinese, simplified (GB 2312, GBK, GB18030)",
    "Windows-1251": "Cyrillic, Windows",
    "Windows-1250": "Central European, Windows",
    "Windows-1252": "Western European, Windows",
    "Windows-1253": "Greek, Windows",
    "Windows-1254": "Turkish, Windows",
    "Windows-1255": "Hebrew, Windows",
    "Windows-1256": "Arabic, Windows",
    "Windows-1257": "Baltic, Windows",
    "Windows-1258": "Vietnamese, Windows",
    "Windows-874": "Thai, Windows",
    "Shift_JIS": "Japanese (Shift JIS)",
    "EUC-JP": "Japanese (EUC)",
    "EUC-KR": "Korean, Windows",
    "Big5": "Chinese, traditional (Big5)",
    "KOI8-R": "Russian (KOI8)",
    "KOI8-U": "Ukrainian (KOI8)",
    "IBM-866": "Cyrillic, DOS",
    "IBM-850": "Western European, DOS",
    "IBM-852": "Central European, DOS",
}
FEW = 0.5  # a candidate that reads fewer of the texts is none

# Letters from common to rare in names; how common one is follows from its place
_LETTERS = {
    "CYRILLIC": "аоинервлткмсдьйгпябушзыхжцюєфчіїщэґёўъ",
    "GREEK": "αοσιρςνετηκλυπμάόίέήύδγώωθχφβζξψϊϋΐΰ",
    "ARABIC": "امينلدرحسبعةهوفخقجصشزكطأثىغإذضئءؤآظیکپگچژ",
}
_WESTERN = set("äöüßéèêëàâçîïôûùáíóúñãõåæøœ")
_EASTERN = set("ąćęłńśźżčďěňřšťůžőűăâîșțşğıİđĺľŕŗėįųūāēīņķļģ")
# Families that many people have (a glance at census lists): they tell encodings apart that share their bytes
_FAMILIES = set(
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆"
    "汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严武戴莫孔向汤張劉陳楊黃趙吳孫馬羅鄭謝許韓"
    "馮鄧蕭葉蘇呂盧鍾譚陸賈韋鄒龍賀顧龔萬錢嚴湯洪"
    "佐鈴高田渡伊山中小加吉松井木村清斎斉藤石橋池前岡長後近遠青坂福西三原野和金太上森岩大内川谷岸菊今河新北水"
    "김이박최정강조윤장임한오서신권황안송류유전홍고문양손배백허남심노하곽성차주우구민진지엄채원천방공현함변염여추도소"
)
_LEVELS = (("gb2312", 0xD7), ("euc_jp", 0xCF), ("big5", 0xC6))  # lead bytes up to here: the commoner half of the set
_OF_ENCODING = {"gb18030": "gb2312", "cp932": "euc_jp", "euc_jp": "euc_jp", "cp950": "big5"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read the texts. `score` is 0 to 100, `reasons` says in words where it comes from."""

    label: str
    score: int
    reasons: tuple[str, ...]

    @property
    def words(self) -> str:
        """The label for people."""
        return CANDIDATES[self.label]


@dataclass(frozen=True, slots=True)
class _Marks:
    """Each 0 to 1: texts that are possible, letters among what is not ASCII, words of one script, how common letters
    are, capitals where names have them."""

    possible: float
    letters: float
    scripts: float
    common: float
    capitals: float


def guess_charsets(texts: Sequence[RawText], used_by_sender: Mapping[str, int] | None = None) -> list[Candidate]:
    """Candidates for the texts that are not plain ASCII, the likeliest first; of those that read alike, one.

    used_by_sender counts the labels that other studies of the same sender have, rightly or as people chose.
    """
    used = used_by_sender or {}
    best: dict[tuple[str, ...], Candidate] = {}
    for label in sorted(CANDIDATES, key=lambda label: -used.get(label, 0)):
        readings = [text.read(charset_named(label)) for text in texts]
        marks = _marks(label, texts, readings)
        if marks.possible > FEW:
            best.setdefault(tuple(reading for reading, _ in readings), _candidate(label, marks, used))
    return sorted(best.values(), key=lambda candidate: -candidate.score)


def _candidate(label: str, marks: _Marks, used: Mapping[str, int]) -> Candidate:
    count, total = used.get(label, 0), sum(used.values())
    likeness = 0.2 * (marks.letters + marks.scripts + marks.capitals) + 0.4 * marks.common
    score = 90 * marks.possible * likeness + (10 * count / total if total else 0)
    return Candidate(label, round(score), tuple(_reasons(marks, count)))


def _reasons(marks: _Marks, count: int) -> Iterator[str]:
    yield "fits all texts" if marks.possible == 1 else f"fits {marks.possible:.0%} of the texts"
    if marks.letters < 0.95:
        yield "has signs that names do not have"
    if marks.scripts < 0.95:
        yield "words mix alphabets or have accents only"
    if marks.common >= 0.6:
        yield "common in names"
    elif marks.common < 0.3:
        yield "rare in names"
    if marks.capitals < 0.95:
        yield "capitals in odd places"
    if count:
        yield f"as in {count} other {'study' if count == 1 else 'studies'} of this sender"


def _marks(label: str, texts: Sequence[RawText], readings: Sequence[tuple[str, bool]]) -> _Marks:
    possible = [reading for reading, is_possible in readings if is_possible]
    words = [word for reading in possible for word in split_words(reading) if not word.isascii()]
    foreign = [character for word in words for character in word if not character.isascii()]
    families = [
        _first_word(reading)
        for text, (reading, is_possible) in zip(texts, readings, strict=True)
        if is_possible and text.delimiters is PERSON_NAME_DELIMITERS
    ]
    encoding = OTHER_ENCODINGS.get(label) or charset_named(label).whole
    scripts = _mean([float(_is_of_one_script(word)) for word in words])
    common = _mean([_commonness(character, encoding) for character in foreign])
    return _Marks(
        possible=len(possible) / len(texts) if texts else 0,
        letters=_mean([float(is_usual(character)) for character in foreign]),
        scripts=scripts,
        common=common * scripts * _family_mark(families),
        capitals=_mean([float(_has_usual_capitals(word)) for word in words]),
    )


def _mean(marks: list[float]) -> float:
    return sum(marks) / len(marks) if marks else 0.0


def _first_word(name: str) -> str:
    """The family name of the first component group that is not ASCII."""
    return next((group.split("^")[0] for group in name.split("=") if not group.isascii()), "")


def _family_mark(families: Sequence[str]) -> float:
    """1, or less where East Asian names begin with what hardly any family does."""
    known = [
        float(family[0] in _FAMILIES) for family in families if family and script_of(family[0]) in ("CJK", "HANGUL")
    ]
    return 0.55 + 0.45 * _mean(known) if known else 1.0


def _is_of_one_script(word: str) -> bool:
    """Also no mark without its letter, and no alphabet that looks as if it were Latin letters with accents."""
    scripts = scripts_of(word)
    is_misread = scripts == {"LATIN"} and not any(c.isascii() and c.isalpha() for c in word)
    return len(scripts) == 1 and not unicodedata.category(word[0]).startswith("M") and not is_misread


def _has_usual_capitals(word: str) -> bool:
    """All small, all capital, or one capital first."""
    letters = "".join(character for character in word if character.isalpha())
    return letters in (letters.lower(), letters.upper()) or letters[1:] == letters[1:].lower()


@lru_cache(maxsize=8192)
def _commonness(character: str, encoding: str) -> float:
    """0 to 1: how usual a character outside ASCII is in names."""
    script, small = script_of(character), character.lower()
    if script in _LETTERS:
        place = _LETTERS[script].find(small)
        return 1 - place / len(_LETTERS[script]) if place >= 0 else 0.0
    if script == "LATIN":
        return 0.9 if small in _WESTERN else 0.8 if {small, character} & _EASTERN else 0.4 if small in "ýðþÿţ" else 0.2
    if script == "CJK":
        return _level(character, _OF_ENCODING.get(encoding, ""))
    if script == "HANGUL":
        return _is_in(character, "euc_kr")
    return 0.8 if script in ("HEBREW", "THAI") else 0.2 if is_usual(character) else 0.0


def _level(character: str, encoding: str) -> float:
    """Kana are common; of Chinese characters, those of the first level of the national set."""
    if 0xFF61 <= ord(character) <= 0xFF9F:
        return 0.6  # half-width: any byte from A1 to DF is one
    if 0x3040 <= ord(character) <= 0x30FF:
        return 1.0
    levels = [level for level in _LEVELS if encoding in ("", level[0])]
    return max(
        float(_lead(character, name) in range(0xB0 if name != "big5" else 0xA4, last + 1)) for name, last in levels
    )


def _lead(character: str, encoding: str) -> int:
    try:
        return character.encode(encoding)[0]
    except UnicodeEncodeError:
        return 0


def _is_in(character: str, encoding: str) -> float:
    return 1.0 if _lead(character, encoding) else 0.1
