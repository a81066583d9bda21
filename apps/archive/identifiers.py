"""Identifiers of C-FIND: what a request asks for, and the answer to it as raw values. Plain Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, time
from typing import Any

from pydicom.charset import convert_encodings, encode_string, python_encoding
from pydicom.datadict import dictionary_VR

from apps.archive import matching
from apps.archive.matching import StudyKeys, read_keys
from apps.core.errors import PermanentError

PATIENT, STUDY = "PATIENT", "STUDY"
UNICODE = "ISO_IR 192"
_PERSON_COLUMNS = {
    matching.NAME: ("PN", "name"),
    matching.PATIENT_ID: ("LO", "patient_id"),
    matching.ISSUER: ("LO", "issuer"),
    matching.BIRTH_DATE: ("DA", "birth_date"),
    matching.SEX: ("CS", "sex"),
}
_COLUMNS = {
    PATIENT: {
        **_PERSON_COLUMNS,
        matching.PATIENT_STUDIES: ("IS", "patient_studies"),
        matching.PATIENT_SERIES: ("IS", "patient_series"),
        matching.PATIENT_INSTANCES: ("IS", "patient_instances"),
    },
    STUDY: {
        **_PERSON_COLUMNS,
        matching.STUDY_DATE: ("DA", "study_date"),
        matching.STUDY_TIME: ("TM", "study_time"),
        matching.ACCESSION: ("SH", "accession_number"),
        matching.MODALITIES: ("CS", "modalities"),
        matching.INSTITUTION: ("LO", "institution"),
        matching.REFERRING: ("PN", "referring_physician"),
        matching.DESCRIPTION: ("LO", "description"),
        matching.STUDY_UID: ("UI", "study_instance_uid"),
        matching.STUDY_ID: ("SH", "study_id"),
        matching.STUDY_SERIES: ("IS", "series_count"),
        matching.STUDY_INSTANCES: ("IS", "instance_count"),
    },
}
_ALWAYS = {PATIENT: frozenset({matching.PATIENT_ID}), STUDY: frozenset({matching.STUDY_UID})}  # unique keys
_MATCHED = {PATIENT: matching.PERSON_KEYS, STUDY: matching.PERSON_KEYS | matching.STUDY_KEYS}
_OURS = frozenset((matching.CHARSET, matching.LEVEL, matching.RETRIEVE_AE, matching.AVAILABILITY))
_ASCII = ("", "ISO_IR 6", "ISO 2022 IR 6")
_TIMEZONE = 0x00080201  # says how the request is meant; nothing is matched by it

Elements = dict[int, tuple[str, bytes]]
"""VR and raw value by tag."""


class WrongLevelError(PermanentError):
    """A Query/Retrieve Level that is not answered; the text fits an Error Comment (64 characters)."""


@dataclass(frozen=True)
class Question:
    """One request. asked: VR by tag of what it names; is_supported: every key of it is matched and answered."""

    level: str
    keys: StudyKeys
    asked: Mapping[int, str]
    character_set: str
    is_supported: bool


def read_question(values: Mapping[int, tuple[str, bytes]], levels: tuple[str, ...]) -> Question:
    """Read an identifier, given VR (empty where it is not known) and raw value by tag.

    levels are those that its information model answers. Raises WrongLevelError, BadKeyError.
    """
    raw = {tag: value for tag, (_, value) in values.items()}
    level = raw.get(matching.LEVEL, b"").decode("latin-1").strip(" \0")
    if level not in levels:
        raise WrongLevelError(f"only queries at level {' or '.join(levels)} are answered")
    asked = {tag: vr or _usual_vr(tag) for tag, (vr, _) in values.items() if tag & 0xFFFF}
    matched, answered = _MATCHED[level] | _OURS | {_TIMEZONE}, _COLUMNS[level]
    is_supported = all(tag in matched or (tag in answered and not raw[tag].strip(b" \0*")) for tag in asked)
    wanted = {tag: value for tag, value in raw.items() if tag in _MATCHED[level] or tag == matching.CHARSET}
    return Question(level, read_keys(wanted), asked, _character_set(raw), is_supported)


def make_answer(row: Mapping[str, Any], question: Question, ae_title: str) -> Elements:
    """The identifier of one match: what was asked for (empty where we do not know it) and the unique key."""
    columns = _COLUMNS[question.level]
    texts = {
        tag: (vr, _text(row[column]))
        for tag, (vr, column) in columns.items()
        if tag in question.asked or tag in _ALWAYS[question.level]
    }
    label = _label("".join(text for _, text in texts.values()), question)
    answer: Elements = {tag: (vr, b"") for tag, vr in question.asked.items() if tag not in _OURS}
    answer |= {tag: (vr, _encode(text, vr, label)) for tag, (vr, text) in texts.items()}
    answer[matching.LEVEL] = ("CS", _padded(question.level.encode()))
    answer[matching.RETRIEVE_AE] = ("AE", _padded(ae_title.encode()))
    if matching.AVAILABILITY in question.asked:
        answer[matching.AVAILABILITY] = ("CS", b"ONLINE")
    if label:
        answer[matching.CHARSET] = ("CS", _padded(label.encode()))
    return dict(sorted(answer.items()))


def _usual_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)[:2]  # of "US or SS" the first
    except KeyError:
        return "UN"


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, date):
        return value.isoformat().replace("-", "")
    if isinstance(value, time):
        return value.isoformat().replace(":", "")
    return "\\".join(value) if isinstance(value, list) else str(value)


# --- Character sets (PS3.4 C.4.1.1.3.2, PS3.5 6.1.2.5)


def _character_set(raw: Mapping[int, bytes]) -> str:
    """The request's own, where we can write it; else empty."""
    label = raw.get(matching.CHARSET, b"").decode("latin-1").strip(" \0")
    terms = [term.strip() for term in label.split("\\")]
    if not all(term in python_encoding for term in terms):
        return ""
    has_extensions = len(terms) > 1
    return "" if has_extensions and not all(term.startswith("ISO 2022") for term in filter(None, terms)) else label


def _label(text: str, question: Question) -> str:
    """What the answer is written in: the requester's character set where it has all letters, else Unicode."""
    if text.isascii() or (question.character_set and _can_write(text, question.character_set)):
        return question.character_set or (UNICODE if matching.CHARSET in question.asked else "")
    return UNICODE


def _can_write(text: str, label: str) -> bool:
    letters = {letter for letter in text if not letter.isascii()}
    first = label.split("\\")[0].strip()
    if first in _ASCII and min(letters) <= "\xff":  # pydicom would write Latin 1 where the label says ASCII
        return False
    return all(any(_has(encoding, letter) for encoding in _encodings(label)) for letter in letters)


def _has(encoding: str, letter: str) -> bool:
    try:
        letter.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _encodings(label: str) -> list[str]:
    return convert_encodings([term.strip() for term in label.split("\\")])


def _encode(text: str, vr: str, label: str) -> bytes:
    if text.isascii():
        return _padded(text.encode(), b"\0" if vr == "UI" else b" ")
    encodings = _encodings(label)
    if len(encodings) == 1:
        return _padded(text.encode(encodings[0]))
    pieces = re.split(r"([\\^=])" if vr == "PN" else r"(\\)", text)  # a code extension ends at each delimiter
    return _padded(b"".join(encode_string(piece, encodings) for piece in pieces))


def _padded(raw: bytes, padding: bytes = b" ") -> bytes:
    return raw + padding * (len(raw) % 2)
