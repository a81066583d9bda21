"""Whether a label and the bytes of a file's texts belong together. Nothing here imports Django.

Plain ASCII is never in doubt. Everything else is read once more than needed, which is still a matter of microseconds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from apps.archive.charsets import Charset, is_plain, is_utf8, read_text

# Letters of a word with an accent on each: no word of these languages is so long. Polish has Żółć
_ALL_ACCENTED = {"latin_1": 4, "iso8859_15": 4, "iso8859_9": 4, "iso8859_2": 5, "iso8859_3": 5, "iso8859_4": 5}
_BETWEEN_WORDS = re.compile(r"[\s^=\\,;/()-]+")
_EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "HALFWIDTH")


class Doubt(Enum):
    """Why a label is doubtful."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    IMPOSSIBLE = "impossible"
    UNICODE = "unicode"
    UNLIKELY = "unlikely"


@dataclass(frozen=True, slots=True)
class RawText:
    """The bytes of one text value, with the delimiters of its VR."""

    raw: bytes
    delimiters: re.Pattern[bytes]

    def read(self, charset: Charset) -> tuple[str, bool]:
        """As `read_text`."""
        return read_text(self.raw, charset, self.delimiters)


def find_doubt(texts: Sequence[RawText], charset: Charset) -> Doubt | None:
    """What is wrong with the label of these texts of one file; None where nothing shows.

    A text whose bytes are possible under its label is doubted only where another reading is clearly the right one:
    well-formed UTF-8 that reads as words while the labelled reading does not, and, under a label for Latin letters,
    long words of nothing but accented letters, as other alphabets and Chinese or Korean characters look there.
    """
    foreign = [text for text in texts if not is_plain(text.raw)]
    if not foreign:
        return None
    readings = [text.read(charset) for text in foreign]
    if not all(is_possible for _, is_possible in readings):
        return _why_impossible(foreign, charset)
    high = [(text, reading) for text, (reading, _) in zip(foreign, readings, strict=True) if not text.raw.isascii()]
    if charset.whole or not high:
        return None
    if all(is_utf8(text.raw) for text, _ in high):
        by_label = sum(is_wordlike(reading) for _, reading in high)
        as_unicode = sum(is_wordlike(text.raw.decode()) for text, _ in high)
        return Doubt.UNICODE if as_unicode == len(high) > by_label else None
    longest = _ALL_ACCENTED.get(charset.simple)
    return Doubt.UNLIKELY if longest and any(has_accents_only(reading, longest) for _, reading in high) else None


def _why_impossible(foreign: list[RawText], charset: Charset) -> Doubt:
    if charset.is_unlabelled:
        return Doubt.MISSING if not all(text.raw.isascii() for text in foreign) else Doubt.IMPOSSIBLE
    if not charset.is_known:
        return Doubt.UNKNOWN
    high = [text.raw for text in foreign if not text.raw.isascii()]
    return Doubt.UNICODE if high and all(map(is_utf8, high)) else Doubt.IMPOSSIBLE


def is_wordlike(text: str) -> bool:
    """Whether every character outside ASCII is a usual one, and no word mixes alphabets."""
    words = [word for word in split_words(text) if not word.isascii()]
    return all(len(scripts_of(word)) < 2 and all(c.isascii() or is_usual(c) for c in word) for word in words)


def split_words(text: str) -> list[str]:
    """The words of a name or a sentence, with all that is in them but delimiters."""
    return [word for word in _BETWEEN_WORDS.split(text) if word]


def is_usual(character: str) -> bool:
    """Whether a character outside ASCII is a letter or a mark on one, other than those that only specialists write."""
    code = ord(character)
    if character in "ªºµ" or 0x0180 <= code <= 0x02FF or code == 0xFFFD:
        return character in "ƏəƠơƯưȘșȚț"
    return unicodedata.category(character)[0] in "LM" or 0x3000 <= code <= 0x303F or 0x2010 <= code <= 0x2027


@lru_cache(maxsize=4096)
def script_of(character: str) -> str:
    """The first word of its name in Unicode: LATIN, CYRILLIC, CJK, …; one for all that Japanese mixes."""
    word = re.split("[ -]", unicodedata.name(character, "NONE"))[0]
    return "CJK" if word in _EAST_ASIAN else word


def scripts_of(word: str) -> set[str]:
    """The scripts of its letters. East Asian words may hold ASCII capitals, as 頭部CT does."""
    letters = [character for character in word if character.isalpha() and character not in "ªºµ"]
    scripts = {script_of(character) for character in letters}
    if scripts & {"CJK", "HANGUL", "THAI"}:
        return {script_of(character) for character in letters if not (character.isascii() and character.isupper())}
    return scripts


def has_accents_only(text: str, length: int) -> bool:
    """Whether a word of that length or more has nothing but accented letters: so other alphabets look as Latin ones."""
    return any(
        len(word) >= length and not any(c.isascii() for c in word) and any(c.isalpha() for c in word)
        for word in split_words(text)
    )
