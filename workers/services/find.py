"""C-FIND as SCP (PS3.4 C.4.1, C.6): which studies are stored, for systems that may query us."""

import logging
import select
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from dataclasses import dataclass
from io import BytesIO
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from psycopg.errors import QueryCanceled
from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dsutils import decode

from apps.archive.find import PAGE_SIZE, Row, find_patient_keys, find_study_keys, read_patients, read_studies
from apps.archive.identifiers import PATIENT, STUDY, Elements, Question, WrongLevelError, make_answer, read_question
from apps.archive.matching import CHARSET, BadKeyError
from apps.core.errors import DicomsysError
from apps.nodes.rights import CallerRights
from workers.services.database import Database

logger = logging.getLogger(__name__)
warnings.filterwarnings("ignore", module=r"pydicom\.")  # their text quotes values, which may be a person's

PATIENT_ROOT, STUDY_ROOT = UID("1.2.840.10008.5.1.4.1.2.1.1"), UID("1.2.840.10008.5.1.4.1.2.2.1")
LEVELS = {PATIENT_ROOT: (PATIENT, STUDY), STUDY_ROOT: (STUDY,)}
SUCCESS, PENDING, PENDING_UNSUPPORTED_KEYS, CANCELLED = 0x0000, 0xFF00, 0xFF01, 0xFE00  # PS3.4 table C.4-1
OUT_OF_RESOURCES, NOT_THE_SOP_CLASS, UNABLE, NOT_AUTHORISED = 0xA700, 0xA900, 0xC000, 0x0124
WINDOW = 10  # answers that may wait to be sent
POLL_S, LISTEN_S = 0.05, 0.001

T = TypeVar("T")


class FindError(DicomsysError):
    """The query ends with a failure status; the text is its Error Comment (64 characters)."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status


class StoppedError(DicomsysError):
    """The requester wants no more answers, or is gone."""


@dataclass(frozen=True)
class _Level:
    find: Callable[..., list[int]]
    read: Callable[..., list[Row]]


_QUERIES = {STUDY: _Level(find_study_keys, read_studies), PATIENT: _Level(find_patient_keys, read_patients)}


class Finder:
    """Answers C-FIND requests of any number of associations."""

    def __init__(self, rights: CallerRights, database: Database) -> None:
        self._rights, self._database = rights, database

    def answer(self, event: evt.Event) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        """The handler for EVT_C_FIND: pending answers, and the last status unless that is Success."""
        started, sent = time.monotonic(), 0
        try:
            for answer in self._matches(event):
                yield answer
                sent += 1
            _log(event, SUCCESS, sent, started)
        except StoppedError:
            _log(event, CANCELLED, sent, started)
            yield CANCELLED, None
        except Exception as error:  # the edge: whatever it is, the requester is answered
            status, comment = _refusal(error)
            _log(event, status, sent, started)
            yield _failure(status, comment), None

    def _matches(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        rights = self._rights.of(event.assoc.requestor.ae_title, event.assoc.requestor.address or "")
        if not rights.may_query:  # it was allowed when the association began
            raise FindError(NOT_AUTHORISED, "this AE may not query us any more")
        question, limit = _read_request(event), settings.DICOM_FIND_RESULTS_MAX
        queries = _QUERIES[question.level]
        found = self._ask(event, queries.find, rights, question.keys, limit + 1)
        status = PENDING if question.is_supported else PENDING_UNSUPPORTED_KEYS
        implicit = UID(event.context.transfer_syntax).is_implicit_VR
        for start in range(0, min(len(found), limit), PAGE_SIZE):
            page = found[start : min(start + PAGE_SIZE, limit)]
            for number, row in enumerate(self._ask(event, queries.read, page, question.keys), start=1):
                yield status, make_dataset(make_answer(row, question, settings.AE_TITLE), implicit)
                if number % WINDOW == 0:
                    _listen(event)
        if len(found) > limit:
            raise FindError(OUT_OF_RESOURCES, f"more than {limit} match: narrow the search")

    def _ask(self, event: evt.Event, query: Callable[..., T], *arguments: Any) -> T:
        """The query's result. Raises StoppedError when the requester does not want to wait for it."""
        future = self._database.submit(query, *arguments)
        try:
            while not wait([future], POLL_S).done:
                _refuse_stopped(event)
        except StoppedError:
            future.cancel()  # one that has begun ends by itself, within its patience
            raise
        return future.result()


def _read_request(event: evt.Event) -> Question:
    syntax = UID(event.context.transfer_syntax)
    request: Any = event.request
    try:
        identifier = decode(
            BytesIO(request.Identifier.getvalue()), syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated
        )
        values = {int(tag): _raw(identifier.get_item(tag)) for tag in identifier.keys()}  # noqa: SIM118
    except Exception as error:  # the edge: whatever hostile bytes make of a parser
        logger.warning("C-FIND with an unreadable identifier (%s)", type(error).__name__)
        raise FindError(UNABLE, "the identifier cannot be read") from None
    return read_question(values, LEVELS[UID(event.context.abstract_syntax)])


def _raw(element: Any) -> tuple[str, bytes]:
    value = element.value
    return element.VR or "", value if isinstance(value, bytes) else b""


def make_dataset(elements: Elements, implicit: bool) -> Dataset:
    """Raw values as pynetdicom takes them; they are written as they are."""
    raw: dict[BaseTag, DataElement | RawDataElement] = {}
    for number, (vr, value) in elements.items():
        tag = Tag(number)
        raw[tag] = RawDataElement(tag, vr, len(value), value, 0, implicit, True)
    dataset = Dataset(raw)
    terms = elements.get(CHARSET, ("CS", b""))[1].decode().strip().split("\\")
    # told to be in the transfer syntax and character set already, or pydicom would decode and encode each value
    dataset.set_original_encoding(implicit, True, convert_encodings(terms if len(terms) > 1 else terms[0]))
    return dataset


def _listen(event: evt.Event) -> None:
    """Wait until the answers are sent and the peer was heard. Raises StoppedError.

    pynetdicom sends what waits in its queue before it reads anything: without pauses it would hear no C-CANCEL, and
    a slow peer would let the queue grow.
    """
    deadline = time.monotonic() + settings.DICOM_NETWORK_TIMEOUT_S
    while not event.assoc.dul.to_provider_queue.empty() or _is_readable(event):
        _refuse_stopped(event)
        if time.monotonic() > deadline:
            raise StoppedError("the peer takes no answers")
        time.sleep(LISTEN_S)
    _refuse_stopped(event)


def _is_readable(event: evt.Event) -> bool:
    wrapper: Any = event.assoc.dul.socket
    if wrapper is None or wrapper.socket is None:
        return False
    try:
        return bool(select.select([wrapper.socket], [], [], 0)[0])
    except (OSError, ValueError):  # closed meanwhile
        return False


def _refuse_stopped(event: evt.Event) -> None:
    assoc = event.assoc
    if event.is_cancelled or not assoc.is_established or assoc.acse.is_aborted() or not assoc.dul.is_alive():
        raise StoppedError("the requester has stopped the query")


def _log(event: evt.Event, status: int, sent: int, started: float) -> None:
    requestor, duration_ms = event.assoc.requestor, (time.monotonic() - started) * 1000
    words = "C-FIND of %r at %s: 0x%04X, %d matches in %.0f ms"
    logger.info(words, requestor.ae_title, requestor.address, status, sent, duration_ms)


def _refusal(error: Exception) -> tuple[int, str]:
    """Status and Error Comment. What was not foreseen is logged without its text, which may quote a person's data."""
    if isinstance(error, FindError):
        return error.status, str(error)
    if isinstance(error, (WrongLevelError, BadKeyError)):
        return NOT_THE_SOP_CLASS, str(error)
    if isinstance(error.__cause__, QueryCanceled):
        return OUT_OF_RESOURCES, "the search takes too long: narrow it"
    at = traceback.extract_tb(error.__traceback__)[-1]
    logger.error("C-FIND failed: %s in %s line %s", type(error).__name__, at.name, at.lineno)
    if isinstance(error, (DatabaseError, InterfaceError, DicomsysError)):
        return OUT_OF_RESOURCES, "the database is away: try again later"
    return UNABLE, "the search failed: our log tells where"


def _failure(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status, answer.ErrorComment = status, comment[:64]
    return answer
