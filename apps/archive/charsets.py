"""Text of data elements: Specific Character Set, also with code extensions (PS3.3 C.12.1.1.2, PS3.5 6.1).

Reading never fails: labels and bytes that do not fit each other get the best guess, and `read_text` tells. Nothing here
imports Django.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

PERSON_NAME_DELIMITERS = re.compile(rb"[\\^=\r\n\t\f]")  # where a code extension ends (PS3.5 6.1.2.5.3)
TEXT_DELIMITERS = re.compile(rb"[\\\r\n\t\f]")

# Sets of one half of the code table. A single-byte one is named by Python's codec, which agrees with ASCII below 128.
_ASCII, _ROMAJI, _KATAKANA = "ascii", "jis_x0201_romaji", "jis_x0201_katakana"
_JIS_X_0208, _JIS_X_0212, _KS_X_1001, _GB_2312 = "jis_x0208", "jis_x0212", "euc_kr", "gb2312"
_SINGLE_BYTE = {
    "100": "latin_1", "101": "iso8859_2", "109": "iso8859_3", "110": "iso8859_4", "144": "iso8859_5",
    "127": "iso8859_6", "126": "iso8859_7", "138": "iso8859_8", "148": "iso8859_9", "203": "iso8859_15",
    "166": "iso8859_11", "13": _KATAKANA,
}  # fmt: skip
_UPPER = _SINGLE_BYTE | {"149": _KS_X_1001, "58": _GB_2312}
_NO_UPPER = ("", "6", "87", "159")  # ASCII alone, or sets that only an escape sequence brings into the lower half
_WHOLE = {"ISOIR192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}  # without code extensions
# What a person may assume although the standard has no term for it: what senders really write under other labels
OTHER_ENCODINGS = {
    "Shift_JIS": "cp932", "EUC-JP": "euc_jp", "EUC-KR": "cp949", "Big5": "cp950", "Windows-1250": "cp1250",
    "Windows-1251": "cp1251", "Windows-1252": "cp1252", "Windows-1253": "cp1253", "Windows-1254": "cp1254",
    "Windows-1255": "cp1255", "Windows-1256": "cp1256", "Windows-1257": "cp1257", "Windows-1258": "cp1258",
    "Windows-874": "cp874", "KOI8-R": "koi8_r", "KOI8-U": "koi8_u", "IBM-866": "cp866", "IBM-850": "cp850",
    "IBM-852": "cp852",
}  # fmt: skip

_ESCAPE = 0x1B
_LOWER, _HIGHER = 0, 1  # G0 and G1: bytes below 128, and the others
_ESCAPES = {  # PS3.3 tables C.12-3 and C.12-4
    b"\x1b(B": (_LOWER, _ASCII), b"\x1b(J": (_LOWER, _ROMAJI), b"\x1b)I": (_HIGHER, _KATAKANA),
    b"\x1b$B": (_LOWER, _JIS_X_0208), b"\x1b$@": (_LOWER, _JIS_X_0208), b"\x1b$(D": (_LOWER, _JIS_X_0212),
    b"\x1b$)C": (_HIGHER, _KS_X_1001), b"\x1b$)A": (_HIGHER, _GB_2312), b"\x1b-b": (_HIGHER, "iso8859_15"),
    b"\x1b-A": (_HIGHER, "latin_1"), b"\x1b-B": (_HIGHER, "iso8859_2"), b"\x1b-C": (_HIGHER, "iso8859_3"),
    b"\x1b-D": (_HIGHER, "iso8859_4"), b"\x1b-L": (_HIGHER, "iso8859_5"), b"\x1b-G": (_HIGHER, "iso8859_6"),
    b"\x1b-F": (_HIGHER, "iso8859_7"), b"\x1b-H": (_HIGHER, "iso8859_8"), b"\x1b-M": (_HIGHER, "iso8859_9"),
    b"\x1b-T": (_HIGHER, "iso8859_11"),
}  # fmt: skip
_PIECES = re.compile(b"(" + b"|".join(map(re.escape, _ESCAPES)) + rb")|([\x80-\xff]+)|([^\x1b\x80-\xff]+)|\x1b")
_PAIRS = re.compile(rb"(?:[\x21-\x7e]{2}|\x20)*")
_C1_CONTROLS = re.compile("[\x80-\x9f]")
_TO_UPPER_HALF = bytes(code | 0x80 for code in range(256))


@dataclass(frozen=True, slots=True)
class Charset:
    """What a label says of bytes.

    `whole` is Python's encoding of a whole value without code extensions, else "". `lower` and `upper` are the sets of
    bytes below and above 128 until an escape sequence names others; no `upper` means that none is named. is_known:
    every value of the label is a defined term.
    """

    whole: str = ""
    lower: str = _ASCII
    upper: str = ""
    is_known: bool = True

    @property
    def is_unlabelled(self) -> bool:
        """Whether only the default repertoire is named."""
        return self.is_known and not self.whole and not self.upper

    @property
    def simple(self) -> str:
        """Python's encoding of a whole value in which no escape sequence is; "" where there is none."""
        return self.upper if self.lower == _ASCII and self.upper != _KATAKANA else ""


def charset_of(specific_character_set: bytes) -> Charset:
    """What (0008,0005) says, in any spelling: senders write ISO-IR 100 and iso_ir100 for ISO_IR 100.

    The first value holds from the beginning. Where it names nothing for bytes above 128, the first other value that
    does is taken: by the standard an escape sequence must come first, but there is nothing else that they could mean.
    """
    return _charset_of_raw(specific_character_set)


def assume_charset(specific_character_set: bytes, default: str) -> Charset:
    """The charset of a label, or where it names the default repertoire only, that of `default` (see `charset_named`).

    For a sender whose label is known to be missing. Raises ValueError for a default that is unknown.
    """
    labelled = charset_of(specific_character_set)
    return charset_named(default) if labelled.is_unlabelled and default else labelled


@lru_cache(maxsize=256)
def charset_named(label: str) -> Charset:
    """What a person chose: defined terms as in a file, or a key of `OTHER_ENCODINGS`. Raises ValueError for others."""
    if label in OTHER_ENCODINGS:
        return Charset(whole=OTHER_ENCODINGS[label])
    charset = _charset_of(label)
    if not charset.is_known:
        raise ValueError("no known character set")
    return charset


@lru_cache(maxsize=256)
def _charset_of_raw(label: bytes) -> Charset:
    return _charset_of(label.decode("latin-1").strip(" \0"))


def _charset_of(label: str) -> Charset:
    terms = [_spelling(term) for term in label.split("\\")]
    for term in (terms[0], *(terms[1:] if terms[0] in ("", "ISOIR6", "ISO2022IR6") else ())):
        if term in _WHOLE:
            return Charset(_WHOLE[term])
    numbers = [_number(term) for term in terms]
    uppers = [_UPPER[number] for number in numbers if number in _UPPER]
    return Charset(
        lower=_ROMAJI if numbers[0] == "13" else _ASCII,
        upper=uppers[0] if uppers else "",
        is_known=all(number in _UPPER or number in _NO_UPPER for number in numbers),
    )


def _spelling(term: str) -> str:
    return re.sub("[^A-Z0-9]", "", term.upper())


def _number(term: str) -> str:
    """The registration number of ISO_IR n and ISO 2022 IR n, "" for an empty term, else what is no number."""
    match = re.fullmatch(r"(?:ISO2022IR|ISOIR)(\d+)", term)
    return match[1] if match else term and "unknown"


def is_plain(raw: bytes) -> bool:
    """Whether the bytes read the same under every label, but for ~ under a Japanese one."""
    return raw.isascii() and _ESCAPE not in raw


def decode_text(raw: bytes, charset: Charset, delimiters: re.Pattern[bytes] = TEXT_DELIMITERS) -> str:
    """The text of one value; `delimiters` are those of its VR."""
    return raw.decode("ascii") if is_plain(raw) and charset.lower == _ASCII else read_text(raw, charset, delimiters)[0]


def read_text(raw: bytes, charset: Charset, delimiters: re.Pattern[bytes] = TEXT_DELIMITERS) -> tuple[str, bool]:
    """The text of one value, and whether its bytes are possible under the label.

    What is not possible is read as UTF-8, which other encodings hardly ever resemble, or else with what can be saved.
    """
    whole = charset.whole or ("" if _ESCAPE in raw else charset.simple)
    text, is_possible = _read_whole(raw, whole) if whole else _Reader(charset, delimiters).read(raw)
    if is_possible:
        return text, True
    return (text if _ESCAPE in raw else _read_whole(raw, "utf-8")[0] if is_utf8(raw) else text), False


def is_utf8(raw: bytes) -> bool:
    """Whether the bytes are well-formed UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _read_whole(raw: bytes, encoding: str) -> tuple[str, bool]:
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        return raw.decode(encoding, "replace"), False
    return text, not _C1_CONTROLS.search(text)


def _shifted(pair: bytes) -> bytes:
    """A pair of JIS X 0208 as Shift JIS writes it."""
    row, cell = pair
    first = (row - 0x21 >> 1) + 0x81
    second = cell + (0x7E if row % 2 == 0 else 0x1F if cell < 0x60 else 0x20)
    return bytes((first if first <= 0x9F else first + 0x40, second))


class _Reader:
    """Reads one value with the two halves of the code table as escape sequences set them (ISO/IEC 2022)."""

    def __init__(self, charset: Charset, delimiters: re.Pattern[bytes]) -> None:
        self._initial, self._delimiters = charset, delimiters
        self._sets = [charset.lower, charset.upper]
        self._is_possible = True

    def read(self, raw: bytes) -> tuple[str, bool]:
        """The text, and whether every byte had a meaning."""
        text = "".join(map(self._read_piece, _PIECES.finditer(raw)))
        return text, self._is_possible and not _C1_CONTROLS.search(text)

    def _read_piece(self, piece: re.Match[bytes]) -> str:
        escape, upper, lower = piece.groups()
        if escape:
            half, name = _ESCAPES[escape]
            self._sets[half] = name
            return ""
        if upper:
            return self._read_upper(upper)
        if lower:
            return self._read_lower(lower)
        self._is_possible = False  # an escape sequence that DICOM does not have
        return ""

    def _read_upper(self, raw: bytes) -> str:
        name = self._sets[_HIGHER]
        if name == _KATAKANA:
            text = "".join(chr(0xFF61 + code - 0xA1) if 0xA1 <= code <= 0xDF else "\ufffd" for code in raw)
            self._is_possible &= "\ufffd" not in text
            return text
        self._is_possible &= bool(name)
        return self._decode(raw, name or "latin_1")

    def _read_lower(self, raw: bytes) -> str:
        if self._sets[_LOWER] in (_JIS_X_0208, _JIS_X_0212):
            return self._read_pairs(raw)
        delimiter = self._delimiters.search(raw)
        if not delimiter:
            return self._read_letters(raw)
        before = self._read_letters(raw[: delimiter.start()])
        self._begin_again()
        return before + self._read_letters(raw[delimiter.start() :])

    def _read_pairs(self, raw: bytes) -> str:
        """Two bytes a character, up to a control character or a delimiter that nobody switched back for."""
        pairs = _PAIRS.match(raw)
        end = pairs.end() if pairs else 0
        text = " ".join(map(self._read_kanji, raw[:end].split(b" ")))
        if end == len(raw):
            return text
        self._is_possible &= raw[end] < 0x20 or bool(self._delimiters.match(raw, end))
        self._begin_again()
        return text + self._read_lower(raw[end:])

    def _read_kanji(self, raw: bytes) -> str:
        pairs = [raw[at : at + 2] for at in range(0, len(raw), 2)]
        if self._sets[_LOWER] == _JIS_X_0212:
            return self._decode(b"".join(b"\x8f" + pair.translate(_TO_UPPER_HALF) for pair in pairs), "euc_jp")
        try:
            return raw.translate(_TO_UPPER_HALF).decode("euc_jp")
        except UnicodeDecodeError:  # rows that the vendors of Japan filled, as for the family names 髙 and 﨑
            return self._decode(b"".join(map(_shifted, pairs)), "cp932")

    def _read_letters(self, raw: bytes) -> str:
        """ASCII or its Japanese variant; 05/12 stays a backslash, because it delimits in every set."""
        text = raw.decode("ascii")
        return text.replace("~", "\N{OVERLINE}") if self._sets[_LOWER] == _ROMAJI else text

    def _begin_again(self) -> None:
        """Behind a delimiter the first value of the label holds; where it says nothing, what held before."""
        self._sets = [self._initial.lower, self._initial.upper or self._sets[_HIGHER]]

    def _decode(self, raw: bytes, encoding: str) -> str:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            self._is_possible = False
            return raw.decode(encoding, "replace")
