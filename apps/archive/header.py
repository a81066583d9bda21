"""The header of one DICOM file: what the database knows of an instance, and its two digests.

The file is read once, from front to back, and never as a whole. Nothing here imports Django.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import date, time
from functools import lru_cache
from pathlib import Path
from typing import Any

from apps.archive.charset_doubts import Doubt, find_doubt
from apps.archive.charsets import assume_charset
from apps.archive.elements import MediaDirectoryError, Source, UnreadableError, Values, read_elements, read_meta
from apps.archive.encoding import Encoding, encoding_of
from apps.archive.texts import TEXT_TAGS, FileTexts, clean_text, examine_texts

MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

UID_LENGTH = 128  # the width of the columns (`models.UID_LENGTH`): real senders exceed the 64 of PS3.5 9.1


_CHARSET, _SOP_CLASS, _SOP_INSTANCE = 0x00080005, 0x00080016, 0x00080018
_STUDY_DATE, _STUDY_TIME, _MODALITY = 0x00080020, 0x00080030, 0x00080060
_BIRTH_DATE, _SEX, _BODY_PART, _STUDY, _SERIES = 0x00100030, 0x00100040, 0x00180015, 0x0020000D, 0x0020000E
_SERIES_NUMBER, _INSTANCE_NUMBER = 0x00200011, 0x00200013
_FRAMES, _ROWS, _COLUMNS = 0x00280008, 0x00280010, 0x00280011
_WANTED = frozenset(
    (
        *(_CHARSET, _SOP_CLASS, _SOP_INSTANCE, _STUDY_DATE, _STUDY_TIME, _MODALITY, _BIRTH_DATE, _SEX, _BODY_PART),
        *(_STUDY, _SERIES, _SERIES_NUMBER, _INSTANCE_NUMBER, _FRAMES, _ROWS, _COLUMNS, *TEXT_TAGS.values()),
    )
)
_UIDS = {
    _SOP_CLASS: "SOP Class UID",
    _SOP_INSTANCE: "SOP Instance UID",
    _STUDY: "Study Instance UID",
    _SERIES: "Series Instance UID",
}
_META_SOP_CLASS, _META_SOP_INSTANCE, _META_TRANSFER_SYNTAX, _META_SOURCE_AE = 0x0002, 0x0003, 0x0010, 0x0016
_META_UIDS = {_SOP_CLASS: _META_SOP_CLASS, _SOP_INSTANCE: _META_SOP_INSTANCE}

_remembered = lru_cache(maxsize=512)  # the files of a series have most values in common
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6})\d*)?)?)?", re.ASCII)
_INTEGER = re.compile(r"([+-]?\d{1,12})(?:\.0*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Header:
    """What the archive wants to know of one file.

    Texts are decoded, without padding and control characters, cut to the width of their column and empty when absent;
    a person name keeps "^" and "=". `dataset_offset` is the byte where the data set begins, after group 0002.
    `doubt` says that the texts do not seem to be in the labelled character set; their bytes are then in `texts`.
    """

    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    patient_id: str
    issuer: str
    patient_name: str
    birth_date: date | None
    sex: str
    study_date: date | None
    study_time: time | None
    study_id: str
    accession_number: str
    study_description: str
    referring_physician: str
    institution: str
    modality: str
    series_number: int | None
    series_description: str
    body_part: str
    instance_number: int | None
    rows: int | None
    columns: int | None
    number_of_frames: int
    calling_ae_title: str
    dataset_offset: int
    dataset_sha256: bytes
    file_sha256: bytes
    size_bytes: int
    doubt: Doubt | None = None
    texts: FileTexts | None = None
    sent_as: tuple[str, str] | None = None  # issuer and Patient ID of the data set, where rules changed them
    coerced_by: tuple[tuple[str, int], ...] = ()  # what rules changed, and the key of each (`coercion.py`)


def read_header(path: Path) -> Header:
    """Read one file: its header and the SHA-256 of the file and of its data set (the bytes after group 0002).

    The data set's SOP Class and Instance UID win over those of the file meta. Where the data set has none, the meta's
    are taken: the receiver writes there what the sender named in its C-STORE-RQ (PS3.7 9.3.1.1), so what was
    acknowledged is found under its UID.

    Raises UnreadableError (NotDicomError, MediaDirectoryError) for whatever the bytes may be, OSError when the file
    cannot be read.
    """
    return _read(path)


def peek_header(path: Path) -> Header:
    """The header without its digests and size, so that a long file is not read to its end. Raises as `read_header`."""
    return _read(path, is_whole=False)


def _read(path: Path, *, is_whole: bool = True) -> Header:
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        meta, offset = read_meta(source)
        if meta.get(_META_SOP_CLASS, b"").rstrip(b"\0 ") == MEDIA_DIRECTORY.encode():
            raise MediaDirectoryError("a media directory (DICOMDIR), not an instance")
        source.begin_dataset(offset)
        encoding = _encoding(meta, source.window[offset : offset + 6])
        elements = _read_wanted(source, offset, encoding, meta)
        return _header(elements, meta, encoding, offset, source if is_whole else None)


def read_encoding(path: Path) -> tuple[Encoding, int]:
    """How the data set of a file is encoded, and the offset of its first byte. Raises UnreadableError, OSError."""
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        meta, offset = read_meta(source)
        return _encoding(meta, source.window[offset : offset + 6]), offset


def read_texts(path: Path) -> FileTexts:
    """The bytes of the texts of one file and their label, nothing else read. Raises UnreadableError, OSError."""
    with path.open("rb", buffering=0) as file:
        source = Source(file)
        meta, offset = read_meta(source)
        source.begin_dataset(offset)
        encoding = _encoding(meta, source.window[offset : offset + 6])
        return FileTexts.of(_read_wanted(source, offset, encoding, meta), _CHARSET)


def assume_default(header: Header, default: str) -> Header:
    """The header with its texts in the character set `default`, where its file names none.

    Where they fit it, they are no longer in doubt; their bytes are kept for what people decide of the study. `default`
    is of `charsets.charset_named`; raises ValueError for others.
    """
    if header.doubt is not Doubt.MISSING or header.texts is None:
        return header
    texts, charset = header.texts, assume_charset(header.texts.label, default)
    is_fitting = find_doubt(texts.foreign(), charset) is None
    changes: dict[str, Any] = {**texts.read(charset), "doubt": None if is_fitting else header.doubt}
    return replace(header, **changes)


def _encoding(meta: Values, first: bytes) -> Encoding:
    return encoding_of(_uid(meta.get(_META_TRANSFER_SYNTAX, b""), "Transfer Syntax UID"), first)


def _read_wanted(source: Source, offset: int, encoding: Encoding, meta: Values) -> Values:
    """The wanted elements of the data set, filled up with what only the file meta knows."""
    known = {tag: meta[element] for tag, element in _META_UIDS.items() if meta.get(element)}
    found = read_elements(source, offset, encoding, _WANTED, lambda found: found.keys() | known.keys() >= _UIDS.keys())
    return found | {tag: value for tag, value in known.items() if not found.get(tag)}


def _header(found: Values, meta: Values, encoding: Encoding, offset: int, source: Source | None) -> Header:
    uids = _needed_uids(found)
    texts = FileTexts.of(found, _CHARSET)
    readings, doubt = examine_texts(texts)

    def term(tag: int, width: int) -> str:
        return _term(found.get(tag, b""))[:width]

    dataset_sha256, file_sha256 = source.digests() if source else (b"", b"")
    return Header(
        sop_instance_uid=uids[_SOP_INSTANCE],
        sop_class_uid=uids[_SOP_CLASS],
        transfer_syntax_uid=encoding.transfer_syntax_uid,
        study_instance_uid=uids[_STUDY],
        series_instance_uid=uids[_SERIES],
        birth_date=_date(found.get(_BIRTH_DATE)),
        sex=term(_SEX, 16),
        study_date=_date(found.get(_STUDY_DATE)),
        study_time=_time(found.get(_STUDY_TIME)),
        modality=term(_MODALITY, 16),
        series_number=_integer(found.get(_SERIES_NUMBER)),
        body_part=term(_BODY_PART, 64),
        instance_number=_integer(found.get(_INSTANCE_NUMBER)),
        rows=_binary(found.get(_ROWS), encoding.little),
        columns=_binary(found.get(_COLUMNS), encoding.little),
        number_of_frames=max(1, _integer(found.get(_FRAMES)) or 1),
        calling_ae_title=_term(meta.get(_META_SOURCE_AE, b""))[:16],
        dataset_offset=offset,
        dataset_sha256=dataset_sha256,
        file_sha256=file_sha256,
        size_bytes=source.size if source else 0,
        doubt=doubt,
        texts=texts if doubt else None,
        **readings,
    )


def _needed_uids(found: Values) -> dict[int, str]:
    uids = {tag: _uid(found.get(tag, b""), name) for tag, name in _UIDS.items()}
    for tag, uid in uids.items():
        if not uid:
            raise UnreadableError(f"{_UIDS[tag]} ({tag >> 16:04X},{tag & 0xFFFF:04X}) is missing or empty")
    if uids[_SOP_CLASS] == MEDIA_DIRECTORY:
        raise MediaDirectoryError("a media directory (DICOMDIR), not an instance")
    return uids


def _uid(raw: bytes, name: str) -> str:
    uid = clean_text(raw.decode("latin-1"))
    if len(uid) > UID_LENGTH:
        raise UnreadableError(f"{name} is longer than {UID_LENGTH} characters")
    return uid


@_remembered
def _term(raw: bytes) -> str:
    """A code or a name that is ASCII by right."""
    return clean_text(raw.decode("latin-1"))


@_remembered
def _date(raw: bytes | None) -> date | None:
    """DA, also in its old form with dots (PS3.5 6.2); None when it is no day."""
    digits = _first(raw).replace(".", "")
    if len(digits) != 8 or not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


@_remembered
def _time(raw: bytes | None) -> time | None:
    """TM: HH[MM[SS[.F to .FFFFFF]]], also in its old form with colons (PS3.5 6.2); None when it is no time of day."""
    match = _TIME.fullmatch(_first(raw))
    if not match:
        return None
    hour, minute, second, fraction = match.groups(default="0")
    try:  # 60 is a leap second
        return time(int(hour), int(minute), min(59, int(second)), int(fraction.ljust(6, "0")))
    except ValueError:
        return None


@_remembered
def _integer(raw: bytes | None) -> int | None:
    """The first value of an IS, within 32 bits; a fraction of nothing but zeros is forgiven."""
    match = _INTEGER.fullmatch(_first(raw))
    number = int(match[1]) if match else None
    return number if number is not None and -(2**31) <= number < 2**31 else None


def _binary(raw: bytes | None, little: bool) -> int | None:
    """The first value of a US, or an only UL."""
    if not raw:
        return None
    number = int.from_bytes(raw if len(raw) == 4 else raw[:2], "little" if little else "big")
    return number if number < 2**31 else None


def _first(raw: bytes | None) -> str:
    return raw.decode("latin-1").split("\\", 1)[0].strip(" \0") if raw else ""
