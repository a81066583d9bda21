"""Asking one node for studies: C-FIND at STUDY level of Study Root (PS3.4 C.4.1, C.6.2)."""

import logging
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from datetime import time as time_of_day

from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from apps.core.errors import DicomsysError
from apps.nodes.associations import PeerAssociation, associate
from apps.nodes.errors import DimseStatusError, peer_error
from apps.nodes.models import RemoteNode
from apps.nodes.status import CANCELLED, PENDING, SUCCESS
from apps.transfer.criteria import Criteria
from apps.transfer.errors import QueryRefusedError

logger = logging.getLogger(__name__)

STUDY_ROOT_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
MESSAGE_ID = 1
RESULTS_MAX = 200
SEARCH_S = 45.0  # a person waits
CANCEL_S = 3.0
OUT_OF_RESOURCES = 0xA700
_RETURN_KEYS = (  # PS3.4 tables C.6-1 and C.6-2
    "StudyInstanceUID",
    "PatientBirthDate",
    "PatientSex",
    "StudyTime",
    "StudyDescription",
    "NumberOfStudyRelatedInstances",
)


@dataclass(frozen=True)
class FoundStudy:
    """One study as the node describes it; what it does not tell, or tells wrongly, is empty or None."""

    study_instance_uid: str
    patient_id: str = ""
    patient_name: str = ""
    birth_date: date | None = None
    sex: str = ""
    study_date: date | None = None
    study_time: time_of_day | None = None
    accession_number: str = ""
    description: str = ""
    modalities: tuple[str, ...] = ()
    instance_count: int | None = None


@dataclass
class Found:
    """The studies, newest first. is_cut: there are more; has_unreadable: an answer could not be read."""

    studies: list[FoundStudy] = field(default_factory=list)
    is_cut: bool = False
    has_unreadable: bool = False


def find_studies(
    node: RemoteNode,
    patient_id: str = "",
    patient_name: str = "",
    study_date_from: date | None = None,
    study_date_to: date | None = None,
    accession_number: str = "",
    modality: str = "",
    results_max: int = RESULTS_MAX,
) -> Found:
    """Studies of one node that match all criteria, at most `results_max`; the search is then stopped with C-CANCEL.

    Raises QueryRefusedError for criteria that cannot be asked, PeerUnavailableError or PeerRefusedError for what the
    node or the network does; their texts say what to do.
    """
    criteria = Criteria(patient_id, patient_name, study_date_from, study_date_to, accession_number, modality)
    identifier = make_identifier(criteria.keys(), node.query_character_set)
    if not (node.is_active and node.may_be_queried):
        raise QueryRefusedError(f"{node.name} is not set up for searching. An administrator can allow it.")
    with associate(node, [STUDY_ROOT_FIND]) as link:
        found = _collect(link, node, identifier, results_max)
    if modality:  # an optional key (PS3.4 table C.6-2): some nodes ignore it
        found.studies = [s for s in found.studies if not s.modalities or modality.strip().upper() in s.modalities]
    found.studies.sort(key=lambda study: (study.study_date or date.min, str(study.study_time or "")), reverse=True)
    return found


def make_identifier(keys: dict[str, str], character_set: str) -> Dataset:
    """The request's identifier; it names a character set only where a value needs one (PS3.4 C.2.2.2).

    Raises QueryRefusedError for letters that `character_set` does not have.
    """
    identifier = Dataset()
    text = "".join(keys.values())
    if not text.isascii():
        _refuse_unencodable(text, character_set)
        identifier.SpecificCharacterSet = character_set
    identifier.QueryRetrieveLevel = "STUDY"
    for keyword in _RETURN_KEYS:
        setattr(identifier, keyword, "")
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return identifier


def _refuse_unencodable(text: str, character_set: str) -> None:
    try:
        text.encode(python_encoding[character_set])
    except UnicodeEncodeError:  # not chained: its text holds the letter
        raise QueryRefusedError(
            f"This node is set to {character_set}, which lacks some of these letters. Write * in their place."
        ) from None


def _collect(link: PeerAssociation, node: RemoteNode, identifier: Dataset, results_max: int) -> Found:
    found = Found()
    answers = link.ready("C-FIND").send_c_find(identifier, STUDY_ROOT_FIND, MESSAGE_ID)
    deadline = time.monotonic() + SEARCH_S
    for answer, match in answers:
        status = link.status_of("C-FIND", answer)
        if status == SUCCESS:
            return found
        if status not in PENDING:
            raise _failure(node, DimseStatusError("C-FIND", status))
        if len(found.studies) >= results_max or time.monotonic() > deadline:
            found.is_cut = True
            _stop(link, answers)
            return found
        _add(found, match)
    raise link.no_answer("C-FIND")


def _failure(node: RemoteNode, error: DimseStatusError) -> DicomsysError:
    advice = "Narrow the search, or try again" if error.status == OUT_OF_RESOURCES else "Try other criteria"
    failure = peer_error(f"{node.name}: {error}. {advice}; else ask its administrator.", error)
    failure.__cause__ = error
    return failure


def _add(found: Found, match: Dataset | None) -> None:
    study = read_match(match) if match is not None else None
    if study is None:
        found.has_unreadable = True
    elif study.study_instance_uid not in {known.study_instance_uid for known in found.studies}:
        found.studies.append(study)


def _stop(link: PeerAssociation, answers: Iterator[tuple[Dataset, Dataset | None]]) -> None:
    """C-CANCEL (PS3.7 9.3.2.3), then wait for its confirmation; a node that goes on is left."""
    link.association.send_c_cancel(MESSAGE_ID, query_model=STUDY_ROOT_FIND)
    deadline = time.monotonic() + CANCEL_S
    for answer, _ in answers:
        if answer.get("Status", CANCELLED) not in PENDING:
            return
        if time.monotonic() > deadline:
            break
    link.abort()


def read_match(match: Dataset) -> FoundStudy | None:
    """One pending response's identifier, decoded with its own character set; None without a Study Instance UID."""
    study_instance_uid = _text(match, "StudyInstanceUID")
    if not study_instance_uid:
        return None
    count = _text(match, "NumberOfStudyRelatedInstances")
    return FoundStudy(
        study_instance_uid=study_instance_uid,
        patient_id=_text(match, "PatientID"),
        patient_name=_text(match, "PatientName"),
        birth_date=_date(_text(match, "PatientBirthDate")),
        sex=_text(match, "PatientSex"),
        study_date=_date(_text(match, "StudyDate")),
        study_time=_time(_text(match, "StudyTime")),
        accession_number=_text(match, "AccessionNumber"),
        description=_text(match, "StudyDescription"),
        modalities=tuple(filter(None, _text(match, "ModalitiesInStudy").split("\\"))),
        instance_count=int(count) if re.fullmatch(r"\d{1,9}", count) else None,
    )


def _text(match: Dataset, keyword: str) -> str:
    """The value as text, several joined by a backslash; empty for one that pydicom cannot read."""
    try:
        value = match.get(keyword)
    except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError, NotImplementedError):
        logger.info("a C-FIND answer has an unreadable %s", keyword)
        return ""
    values = value if isinstance(value, MultiValue) else [value]
    return "\\".join("" if each is None else str(each).strip(" \0") for each in values)


def _date(text: str) -> date | None:
    parts = re.fullmatch(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", text)  # with dots: ACR-NEMA (PS3.5 6.2)
    try:
        return date(*map(int, parts.groups())) if parts else None
    except ValueError:
        return None


def _time(text: str) -> time_of_day | None:
    parts = re.match(r"(\d{2}):?(\d{2})?:?(\d{2})?", text)
    hour, minute, second = (int(part or 0) for part in parts.groups()) if parts else (24, 0, 0)
    return time_of_day(hour, minute, second) if hour < 24 and minute < 60 and second < 60 else None
