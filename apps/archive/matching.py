"""Matching keys of a query (PS3.4 C.2.2.2): out of the raw values of a C-FIND identifier. Plain Python.

An empty key asks for nothing (universal matching). No error text quotes a value: it may be a person's.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import NoReturn

from apps.archive.charsets import PERSON_NAME_DELIMITERS, TEXT_DELIMITERS, charset_of, decode_text
from apps.archive.names import search_key
from apps.core.errors import PermanentError

CHARSET, STUDY_DATE, STUDY_TIME, ACCESSION = 0x00080005, 0x00080020, 0x00080030, 0x00080050
LEVEL, RETRIEVE_AE, AVAILABILITY, MODALITIES = 0x00080052, 0x00080054, 0x00080056, 0x00080061
INSTITUTION, REFERRING, DESCRIPTION = 0x00080080, 0x00080090, 0x00081030
NAME, PATIENT_ID, ISSUER, BIRTH_DATE, SEX = 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040
STUDY_UID, STUDY_ID = 0x0020000D, 0x00200010
PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES = 0x00201200, 0x00201202, 0x00201204
STUDY_SERIES, STUDY_INSTANCES = 0x00201206, 0x00201208

PERSON_KEYS = frozenset((NAME, PATIENT_ID, ISSUER, BIRTH_DATE))
STUDY_KEYS = frozenset((STUDY_DATE, STUDY_TIME, ACCESSION, STUDY_ID, STUDY_UID, MODALITIES))
UIDS_MAX = 2000
_TEXT_MAX = 200  # characters: three component groups of 64 (PS3.5 6.2)
_DATE = re.compile(r"(\d{4})[.]?(\d{2})[.]?(\d{2})", re.ASCII)  # with dots: the old form (PS3.5 6.2)
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)
_UID = re.compile(r"[0-9.]{1,128}", re.ASCII)
_BETWEEN_WORDS = re.compile(r"[*?^=,\s]+")

DateRange = tuple[date | None, date | None]
TimeRange = tuple[time | None, time | None]


class BadKeyError(PermanentError):
    """A key that cannot be matched; the text names it and fits an Error Comment (64 characters)."""


@dataclass(frozen=True)
class StudyKeys:
    """What to look for. Texts may hold * and ?; ranges are inclusive and open where an end is None."""

    patient_id: str = ""
    issuer: str = ""
    name: str = ""
    birth_date: DateRange = (None, None)
    study_date: DateRange = (None, None)
    study_time: TimeRange = (None, None)
    accession_number: str = ""
    study_id: str = ""
    study_instance_uids: tuple[str, ...] = ()
    modalities: tuple[str, ...] = ()

    @property
    def names_person(self) -> bool:
        """Whether anything is asked about the patient."""
        return any((self.patient_id, self.issuer, self.name, *self.birth_date))


def read_keys(values: Mapping[int, bytes]) -> StudyKeys:
    """The keys of an identifier, given its raw values by tag. Raises BadKeyError."""
    charset = charset_of(values.get(CHARSET, b""))

    def text(tag: int, nothing: str = "*", delimiters: re.Pattern[bytes] = TEXT_DELIMITERS) -> str:
        value = _clean(decode_text(values.get(tag, b"")[: 4 * _TEXT_MAX + 1], charset, delimiters))
        if len(value) > _TEXT_MAX:
            raise BadKeyError(f"({tag >> 16:04X},{tag & 0xFFFF:04X}) is longer than any value")
        return value if value.strip(nothing) else ""

    return StudyKeys(
        patient_id=text(PATIENT_ID),
        issuer=text(ISSUER),
        name=text(NAME, "*^= ", PERSON_NAME_DELIMITERS),
        birth_date=date_range(text(BIRTH_DATE), "Patient's Birth Date"),
        study_date=date_range(text(STUDY_DATE), "Study Date"),
        study_time=time_range(text(STUDY_TIME), "Study Time"),
        accession_number=text(ACCESSION),
        study_id=text(STUDY_ID),
        study_instance_uids=_uids(values.get(STUDY_UID, b"").decode("latin-1")),
        modalities=_values(text(MODALITIES)),
    )


def _clean(text: str) -> str:
    """Without padding and without what no text column can hold."""
    text = text.encode("utf-8", "ignore").decode()
    return "".join(" " if ord(character) < 32 else character for character in text).strip()


def _values(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (part.strip(" \0") for part in text.split("\\"))))


def _uids(text: str) -> tuple[str, ...]:
    uids = _values(text) if text.strip("* \0") else ()
    if len(uids) > UIDS_MAX:
        raise BadKeyError(f"at most {UIDS_MAX} Study Instance UIDs in one query")
    if not all(map(_UID.fullmatch, uids)):
        raise BadKeyError("Study Instance UID is no UID or list of UIDs")
    return uids


# --- Ranges (PS3.4 C.2.2.2.5)


def date_range(text: str, name: str) -> DateRange:
    """ "20260101", "20260101-20260131", "20260101-" or "-20260131". Raises BadKeyError."""
    if not text:
        return None, None
    first, dash, last = (part.strip() for part in text.partition("-"))
    ends = _day(first, name), _day(last, name)
    if not any(ends):
        raise BadKeyError(f"{name} is no date or range of dates")
    return ends if dash else (ends[0], ends[0])


def _day(text: str, name: str) -> date | None:
    if not text:
        return None
    parts = _DATE.fullmatch(text)
    try:
        return date(*map(int, parts.groups())) if parts else _refuse(name, "date")
    except ValueError:
        return _refuse(name, "date")


def time_range(text: str, name: str) -> TimeRange:
    """Like `date_range`; a time without minutes or seconds stands for the whole hour or minute. Raises BadKeyError."""
    if not text:
        return None, None
    first, dash, last = (part.strip() for part in text.partition("-"))
    begin, end = _moment(first, name, time.min), _moment(last if dash else first, name, time.max)
    if begin is None and end is None:
        raise BadKeyError(f"{name} is no time or range of times")
    return begin, end


def _moment(text: str, name: str, missing: time) -> time | None:
    """The time of day; parts that the text leaves out are those of `missing`."""
    if not text:
        return None
    parts = _TIME.fullmatch(text)
    if parts is None:
        return _refuse(name, "time")
    hour, minute, second, fraction = parts.groups()
    filled = "0" if missing == time.min else "9"
    try:
        return time(
            int(hour),
            missing.minute if minute is None else int(minute),
            missing.second if second is None else min(59, int(second)),  # 60 is a leap second
            int((fraction or "").ljust(6, filled)),
        )
    except ValueError:
        return _refuse(name, "time")


def _refuse(name: str, kind: str) -> NoReturn:
    raise BadKeyError(f"{name} is no {kind} or range of {kind}s")


# --- Person names (PS3.4 C.2.2.2.1: case and accents are ignored)


def name_words(pattern: str) -> list[str]:
    """The literal parts of a name pattern in order, as `names.search_key` writes them."""
    return [word for part in _BETWEEN_WORDS.split(pattern) for word in search_key(part).split()]


def name_matches(pattern: str, name: str) -> bool:
    """Whether a person name fits a pattern.

    A pattern of one component group may fit any group of the name; one of several must fit group by group.
    """
    wanted, groups = pattern.split("="), name.split("=")
    if len(wanted) == 1:
        return any(_group_matches(wanted[0], group) for group in groups if group)
    padded = groups + [""] * (len(wanted) - len(groups))
    return all(_group_matches(each, group) for each, group in zip(wanted, padded, strict=False) if each.strip("^ "))


def _group_matches(pattern: str, group: str) -> bool:
    return any(
        fits(form(pattern), text) or fits(form(pattern), text + "^" * (4 - text.count("^")))  # all five components
        for form, text in ((_bare, _bare(group)), (_plain, _plain(group)))
    )


def _plain(group: str) -> str:
    components = (" ".join(component.split()) for component in unicodedata.normalize("NFC", group).split("^"))
    return "^".join(components).lower().rstrip("^")


def _bare(group: str) -> str:
    """Without accents; one letter may become two (ß), so ? is tried on the plain form as well."""
    decomposed = unicodedata.normalize("NFKD", group)
    return _plain("".join(character for character in decomposed if not unicodedata.combining(character)).casefold())


def fits(pattern: str, text: str) -> bool:
    """Whether the whole text fits a pattern of * (any characters) and ? (one); time is at most their product."""
    at = position = 0
    star, retry = -1, 0
    while position < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, retry = at, position
            at += 1
        elif at < len(pattern) and pattern[at] in ("?", text[position]):
            at += 1
            position += 1
        elif star >= 0:  # let the last star take one more
            retry += 1
            at, position = star + 1, retry
        else:
            return False
    return not pattern[at:].strip("*")
