"""The header of one DICOM file: what the database knows of an instance, and its two digests (PS3.10 7, PS3.5 7).

The file is read once, from front to back, and never as a whole. A parser of our own reads explicit and implicit VR;
what it finds odd goes to pydicom, within bounds. Nothing here imports Django.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from hashlib import sha256
from io import BytesIO, FileIO
from pathlib import Path
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import NamedTuple

from pydicom.filereader import data_element_generator

from apps.archive.charsets import PERSON_NAME_DELIMITERS, TEXT_DELIMITERS, decode_text, encoding_of
from apps.core.errors import PermanentError

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"

UID_LENGTH = 64  # PS3.5 9.1, and the width of the columns

_FIRST_READ = 32 * 1024
_NEXT_READ = 256 * 1024
_PARSED_BYTES = 32 * 1024 * 1024  # a header that is longer is no header
_META_BYTES = 1024 * 1024
_VALUE_BYTES = 16 * 1024  # no wanted value is longer by right (PS3.5 6.2)
_PYDICOM_BYTES = 2 * 1024 * 1024
_MAX_DEPTH = 32
_UNDEFINED = 0xFFFFFFFF

_CHARSET, _SOP_CLASS, _SOP_INSTANCE = 0x00080005, 0x00080016, 0x00080018
_STUDY_DATE, _STUDY_TIME, _ACCESSION = 0x00080020, 0x00080030, 0x00080050
_MODALITY, _INSTITUTION, _REFERRING = 0x00080060, 0x00080080, 0x00080090
_STUDY_DESCRIPTION, _SERIES_DESCRIPTION = 0x00081030, 0x0008103E
_NAME, _PATIENT_ID, _ISSUER, _BIRTH_DATE, _SEX = 0x00100010, 0x00100020, 0x00100021, 0x00100030, 0x00100040
_BODY_PART, _STUDY, _SERIES, _STUDY_ID = 0x00180015, 0x0020000D, 0x0020000E, 0x00200010
_SERIES_NUMBER, _INSTANCE_NUMBER = 0x00200011, 0x00200013
_FRAMES, _ROWS, _COLUMNS = 0x00280008, 0x00280010, 0x00280011
_WANTED = frozenset(
    (
        *(_CHARSET, _SOP_CLASS, _SOP_INSTANCE, _STUDY_DATE, _STUDY_TIME, _ACCESSION, _MODALITY, _INSTITUTION),
        *(_REFERRING, _STUDY_DESCRIPTION, _SERIES_DESCRIPTION, _NAME, _PATIENT_ID, _ISSUER, _BIRTH_DATE, _SEX),
        *(_BODY_PART, _STUDY, _SERIES, _STUDY_ID, _SERIES_NUMBER, _INSTANCE_NUMBER, _FRAMES, _ROWS, _COLUMNS),
    )
)
_LAST = max(_WANTED)
_UIDS = {
    _SOP_CLASS: "SOP Class UID",
    _SOP_INSTANCE: "SOP Instance UID",
    _STUDY: "Study Instance UID",
    _SERIES: "Series Instance UID",
}
_META_SOP_CLASS, _META_SOP_INSTANCE, _META_TRANSFER_SYNTAX, _META_SOURCE_AE = 0x0002, 0x0003, 0x0010, 0x0016
_META_UIDS = {_SOP_CLASS: _META_SOP_CLASS, _SOP_INSTANCE: _META_SOP_INSTANCE}

_SHORT_VRS = b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
_LONG_VRS = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
_IS_LONG = dict.fromkeys(_SHORT_VRS, False) | dict.fromkeys(_LONG_VRS, True)  # a 32-bit length (PS3.5 7.1.2)
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_TIME = re.compile(r"(\d\d)(?::?(\d\d)(?::?(\d\d)(?:\.(\d{1,6})\d*)?)?)?", re.ASCII)
_INTEGER = re.compile(r"([+-]?\d{1,12})(?:\.0*)?", re.ASCII)


class UnreadableError(PermanentError):
    """The bytes are not an instance that can be stored. The text is a plain reason, without values of the file."""


class NotDicomError(UnreadableError):
    """Nothing in the file looks like DICOM."""


class MediaDirectoryError(UnreadableError):
    """A DICOMDIR: it lists instances and is none (PS3.3 F.2)."""


@dataclass(frozen=True, slots=True)
class Header:
    """What the archive wants to know of one file.

    Texts are decoded, without padding and control characters, cut to the width of their column and empty when absent;
    a person name keeps "^" and "=". `dataset_offset` is the byte where the data set begins, after group 0002.
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


def read_header(path: Path) -> Header:
    """Read one file: its header and the SHA-256 of the file and of its data set (the bytes after group 0002).

    The data set's SOP Class and Instance UID win over those of the file meta. Where the data set has none, the meta's
    are taken: the receiver writes there what the sender named in its C-STORE-RQ (PS3.7 9.3.1.1), so what was
    acknowledged is found under its UID.

    Raises UnreadableError (NotDicomError, MediaDirectoryError) for whatever the bytes may be, OSError when the file
    cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        source = _Source(file)
        meta, offset = _read_meta(source)
        if meta.get(_META_SOP_CLASS, b"").rstrip(b"\0 ") == MEDIA_DIRECTORY.encode():
            raise MediaDirectoryError("a media directory (DICOMDIR), not an instance")
        source.begin_dataset(offset)
        form = _form_of(meta, source.window[offset : offset + 6])
        elements = _read_elements(source, offset, form, meta)
        return _header(elements, meta, form, offset, source)


# --- The file, read once


class _Source:
    """One file from front to back: `window` is what is parsed, and whatever passes through it is hashed."""

    __slots__ = ("_dataset", "_file", "_parsed", "_whole", "at", "size", "window")

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.window = file.read(_FIRST_READ)
        self.at = 0  # where in the file the window begins
        self.size = self._parsed = len(self.window)
        self._whole = sha256(self.window)
        self._dataset = sha256()

    def begin_dataset(self, offset: int) -> None:
        """Everything from this byte of the first window on belongs to the data set."""
        self._dataset.update(memoryview(self.window)[offset:])

    def advance(self, to: int, *, in_dataset: bool = True) -> bool:
        """Drop what lies before byte `to` of the file and read on behind it; False at the end of the file."""
        kept = self.window[to - self.at :]
        while self.size < to and self._read(min(_NEXT_READ, to - self.size), in_dataset):
            pass
        chunk = self._read(max(_NEXT_READ, len(kept)), in_dataset)
        self._parsed += len(chunk)
        if self._parsed > _PARSED_BYTES:
            raise UnreadableError(f"the header is longer than {_PARSED_BYTES} bytes")
        self.window = kept + chunk
        self.at = self.size - len(self.window)
        return bool(chunk)

    def front(self, at: int, length: int) -> bytes:
        """Bytes that were read before, for the second parser."""
        self._file.seek(at)
        return self._file.read(length)

    def digests(self) -> tuple[bytes, bytes]:
        """Read the rest; SHA-256 of the data set and of the whole file."""
        self._file.seek(self.size)
        while self._read(_NEXT_READ, in_dataset=True):
            pass
        return self._dataset.digest(), self._whole.digest()

    def _read(self, length: int, in_dataset: bool) -> bytes:
        chunk = self._file.read(length)
        self.size += len(chunk)
        self._whole.update(chunk)
        if in_dataset:
            self._dataset.update(chunk)
        return chunk


# --- File meta information (PS3.10 7.1)


def _read_meta(source: _Source) -> tuple[dict[int, bytes], int]:
    """Group 0002 by element number, and the offset of the data set."""
    start = 132 if source.window[128:132] == b"DICM" else 0
    if start == 0 and not _may_begin_a_dataset(source.window):
        raise NotDicomError("no DICM prefix, and no data element at the beginning")
    while True:
        try:
            return _scan_meta(source.window, start)
        except StructError:
            if source.size > _META_BYTES or not source.advance(0, in_dataset=False):
                break
        except KeyError:  # an unknown VR
            break
    return _scan_meta_with_pydicom(source.window, start)


def _may_begin_a_dataset(window: bytes) -> bool:
    """Whether a file without prefix begins with an element of group 0002 or 0008, in either byte order."""
    return len(window) >= 8 and window[:2] in (b"\x02\0", b"\x08\0", b"\0\x08")


def _scan_meta(window: bytes, at: int) -> tuple[dict[int, bytes], int]:
    meta: dict[int, bytes] = {}
    if at == len(window):
        return meta, at
    while True:
        group, element, vr, length = _LITTLE.explicit(window, at)
        if group != 2:
            return meta, at
        start = at
        at += 8
        if _IS_LONG[vr]:
            (length,) = _LITTLE.long(window, at)
            at += 4
        at += length
        if at > len(window):
            raise StructError
        meta[element] = window[at - length : at] if at - start < _VALUE_BYTES else b""
        if at == len(window):
            return meta, at


def _scan_meta_with_pydicom(window: bytes, start: int) -> tuple[dict[int, bytes], int]:
    """Group 0002 as pydicom sees it: unknown VRs, implicit VR, a wrong length."""
    for implicit in (False, True):
        file = BytesIO(window)
        file.seek(start)
        try:
            found = list(data_element_generator(file, implicit, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))
        except Exception:  # noqa: BLE001, S112 - whatever hostile bytes make of a parser
            continue
        if start or found:
            return {e.tag.element: e.value for e in found if isinstance(e.value, bytes)}, file.tell()
    raise UnreadableError("the file meta information cannot be read")


# --- The data set (PS3.5 7)


class _Order(NamedTuple):
    """How numbers of one byte order are unpacked."""

    explicit: Callable[..., tuple[int, int, bytes, int]]
    implicit: Callable[..., tuple[int, int, int]]
    long: Callable[..., tuple[int]]


def _order(sign: str) -> _Order:
    return _Order(*(Struct(sign + layout).unpack_from for layout in ("HH2sH", "HHL", "L")))


_LITTLE, _BIG = _order("<"), _order(">")


class _Form(NamedTuple):
    """How a data set is encoded."""

    implicit: bool
    little: bool
    deflated: bool
    transfer_syntax_uid: str


class _OddError(Exception):
    """Not what the standard says; pydicom may know better."""


def _form_of(meta: dict[int, bytes], first: bytes) -> _Form:
    """What the transfer syntax says, corrected by the first element (its group, number and perhaps VR)."""
    uid = _uid(meta.get(_META_TRANSFER_SYNTAX, b""), "Transfer Syntax UID")
    if uid == DEFLATED_LITTLE:
        return _Form(False, True, True, uid)
    implicit = not (first[4:6].isalpha() and first[4:6].isupper())
    little = uid != EXPLICIT_BIG
    if not uid:
        little = implicit or first[1:2] == b"\0"
        uid = IMPLICIT_LITTLE if implicit else EXPLICIT_LITTLE if little else EXPLICIT_BIG
    return _Form(implicit, little, False, uid)


def _read_elements(source: _Source, offset: int, form: _Form, meta: dict[int, bytes]) -> dict[int, bytes]:
    """The raw values of the wanted elements, by our parser or else by pydicom."""
    inflated = _inflate(source.front(offset, _PYDICOM_BYTES)) if form.deflated else None
    try:
        found = _scan_all(source, offset, form) if inflated is None else _scan_window(inflated, form)
        if all(found.get(tag) or meta.get(_META_UIDS.get(tag, 0)) for tag in _UIDS):
            return found
    except _OddError:
        found = {}
    front = source.front(offset, _PYDICOM_BYTES) if inflated is None else inflated
    return found | _scan_with_pydicom(front, form)


def _scan_all(source: _Source, offset: int, form: _Form) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at, before = offset, 0
    while True:
        stopped = _scan(source.window, at - source.at, before, form, found)
        if stopped is None:
            return found
        at, before = stopped[0] + source.at, stopped[1]
        if not source.advance(at):
            if at == source.size:
                return found
            raise _OddError("the file ends inside its header")


def _scan_window(window: bytes, form: _Form) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    stopped = _scan(window, 0, 0, form, found)
    if stopped is None or stopped[0] == len(window):
        return found
    raise _OddError("the data set ends inside its header")


def _scan(window: bytes, at: int, before: int, form: _Form, found: dict[int, bytes]) -> tuple[int, int] | None:
    """Add the wanted values to `found`, from byte `at` of the window, which is behind element `before`.

    None when the last wanted element was passed, else where to go on with more of the file, and behind which element.
    """
    implicit = form.implicit
    explicit_at, implicit_at, long_at = _LITTLE if form.little else _BIG
    start = at
    try:
        while True:
            start = at
            if implicit:
                group, element, length = implicit_at(window, at)
                vr = b""
                at += 8
            else:
                group, element, vr, length = explicit_at(window, at)
                at += 8
                if _IS_LONG[vr]:
                    (length,) = long_at(window, at)
                    at += 4
            tag = group << 16 | element
            if tag > _LAST:
                return None
            if tag <= before:
                raise _OddError("elements out of order")
            if length == _UNDEFINED:
                if vr not in (b"SQ", b"UN", b""):
                    raise _OddError("undefined length")
                at = _skip_items(window, at, implicit or vr == b"UN", form.little, 0)
            else:
                if tag in _WANTED:
                    value = window[at : at + min(length, _VALUE_BYTES)]
                    if len(value) < length and len(value) < _VALUE_BYTES:
                        return start, before
                    found[tag] = value
                at += length
            before = tag
    except StructError:
        return start, before
    except KeyError as error:
        raise _OddError("unknown VR") from error


def _skip_items(window: bytes, at: int, implicit: bool, little: bool, depth: int) -> int:
    """From the first item of a sequence of undefined length to behind its delimiter (PS3.5 7.5)."""
    if depth > _MAX_DEPTH:
        raise _OddError("sequences nested too deep")
    order = _LITTLE if little else _BIG
    while True:
        group, element, length = order.implicit(window, at)
        at += 8
        if group != 0xFFFE or element not in (0xE000, 0xE0DD):
            raise _OddError("an item is missing")
        if element == 0xE0DD:
            return at
        at = _skip_item(window, at, implicit, order, depth) if length == _UNDEFINED else at + length


def _skip_item(window: bytes, at: int, implicit: bool, order: _Order, depth: int) -> int:
    while True:
        group, element, length = order.implicit(window, at)
        at += 8
        if group == 0xFFFE:
            if element != 0xE00D:
                raise _OddError("the end of an item is missing")
            return at
        inner = implicit
        if not implicit:
            _, _, vr, length = order.explicit(window, at - 8)
            if _IS_LONG[vr]:
                (length,) = order.long(window, at)
                at += 4
                inner = vr == b"UN"  # its items are implicit (PS3.5 6.2.2 note 2)
        at = _skip_items(window, at, inner, order is _LITTLE, depth + 1) if length == _UNDEFINED else at + length


def _inflate(compressed: bytes) -> bytes:
    """The beginning of a deflated data set (PS3.5 A.5)."""
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed, _PYDICOM_BYTES)
    except zlib.error as error:
        raise UnreadableError("the deflated data set cannot be inflated") from error


def _scan_with_pydicom(front: bytes, form: _Form) -> dict[int, bytes]:
    """The wanted values as pydicom finds them in the beginning of the data set, also out of order and torn."""
    found: dict[int, bytes] = {}
    elements = data_element_generator(
        BytesIO(front),
        form.implicit,
        form.little,
        stop_when=lambda tag, vr, length: tag >> 16 == 0x7FE0,
        defer_size=_VALUE_BYTES,
        specific_tags=list(_WANTED),
    )
    try:
        for element in elements:
            if isinstance(element.value, bytes):
                found[int(element.tag)] = element.value
    except Exception:  # noqa: BLE001, S110 - whatever hostile bytes make of a parser; what was found before counts
        pass
    return found


# --- From values to the header


def _header(found: dict[int, bytes], meta: dict[int, bytes], form: _Form, offset: int, source: _Source) -> Header:
    uids = _needed_uids(found, meta)
    encoding = encoding_of(found.get(_CHARSET, b""))

    def text(tag: int, width: int) -> str:
        return _text(found.get(tag), encoding)[:width]

    def name(tag: int) -> str:
        return _text(found.get(tag), encoding, PERSON_NAME_DELIMITERS).rstrip("=")[:400]

    dataset_sha256, file_sha256 = source.digests()
    return Header(
        sop_instance_uid=uids[_SOP_INSTANCE],
        sop_class_uid=uids[_SOP_CLASS],
        transfer_syntax_uid=form.transfer_syntax_uid,
        study_instance_uid=uids[_STUDY],
        series_instance_uid=uids[_SERIES],
        patient_id=_identity(_text(found.get(_PATIENT_ID), encoding)),
        issuer=_identity(_text(found.get(_ISSUER), encoding)),
        patient_name=name(_NAME),
        birth_date=_date(found.get(_BIRTH_DATE)),
        sex=text(_SEX, 16),
        study_date=_date(found.get(_STUDY_DATE)),
        study_time=_time(found.get(_STUDY_TIME)),
        study_id=text(_STUDY_ID, 64),
        accession_number=text(_ACCESSION, 64),
        study_description=text(_STUDY_DESCRIPTION, 256),
        referring_physician=name(_REFERRING),
        institution=text(_INSTITUTION, 256),
        modality=text(_MODALITY, 16),
        series_number=_integer(found.get(_SERIES_NUMBER)),
        series_description=text(_SERIES_DESCRIPTION, 256),
        body_part=text(_BODY_PART, 64),
        instance_number=_integer(found.get(_INSTANCE_NUMBER)),
        rows=_binary(found.get(_ROWS), form.little),
        columns=_binary(found.get(_COLUMNS), form.little),
        number_of_frames=max(1, _integer(found.get(_FRAMES)) or 1),
        calling_ae_title=_text(meta.get(_META_SOURCE_AE), None)[:16],
        dataset_offset=offset,
        dataset_sha256=dataset_sha256,
        file_sha256=file_sha256,
        size_bytes=source.size,
    )


def _needed_uids(found: dict[int, bytes], meta: dict[int, bytes]) -> dict[int, str]:
    uids = {tag: _uid(found.get(tag) or meta.get(_META_UIDS.get(tag, 0), b""), name) for tag, name in _UIDS.items()}
    for tag, uid in uids.items():
        if not uid:
            raise UnreadableError(f"{_UIDS[tag]} ({tag >> 16:04X},{tag & 0xFFFF:04X}) is missing or empty")
    if uids[_SOP_CLASS] == MEDIA_DIRECTORY:
        raise MediaDirectoryError("a media directory (DICOMDIR), not an instance")
    return uids


def _uid(raw: bytes, name: str) -> str:
    uid = _clean(raw.decode("latin-1"))
    if len(uid) > UID_LENGTH:
        raise UnreadableError(f"{name} is longer than {UID_LENGTH} characters")
    return uid


def _text(raw: bytes | None, encoding: str | None, delimiters: re.Pattern[bytes] = TEXT_DELIMITERS) -> str:
    return _clean(decode_text(raw, encoding, delimiters)) if raw else ""


def _clean(text: str) -> str:
    """Without padding and without characters that no page shows and no database takes."""
    text = text.strip(" \0")
    return text if text.isprintable() else _CONTROLS.sub("", text).strip()


def _identity(text: str) -> str:
    """What tells patients apart is never just cut: two long identifiers must not become one."""
    return text if len(text) <= 64 else f"{text[:47]}~{sha256(text.encode()).hexdigest()[:16]}"


def _date(raw: bytes | None) -> date | None:
    """DA, also in its old form with dots (PS3.5 6.2); None when it is no day."""
    digits = _first(raw).replace(".", "")
    if len(digits) != 8 or not digits.isdigit():
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


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
