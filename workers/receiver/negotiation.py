"""Negotiation as acceptor: pynetdicom reads the request and writes the answer (PS3.8 9.3, PS3.7 D.3.3)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydicom.uid import UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    ServiceParameter,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from pynetdicom.presentation import PresentationContext, build_context, negotiate_as_acceptor
from pynetdicom.service_class import ServiceClass, StorageServiceClass
from pynetdicom.sop_class import uid_to_service_class

from apps.core.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from workers.receiver.rules import UserIdentity

VERIFICATION = "1.2.840.10008.1.1"  # PS3.4 A.4
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"  # PS3.7 A.2.1
STORAGE_ROOT = "1.2.840.10008.5.1.4.1.1."
STANDARD_ROOT = "1.2.840.10008."
MAX_PDU_BYTES = 131072
REQUEST_BYTES_MAX = 1 << 20
_HEAD_BYTES = 74  # before the variable items (PS3.8 table 9-11)
# Level 2 (all elements kept), digital signatures kept, no coercion (PS3.4 table B.3-3)
_STORAGE_SUPPORT = bytes((2, 0, 3, 0, 0, 0))


class RequestError(ValueError):
    """The A-ASSOCIATE-RQ cannot be read."""


@dataclass(frozen=True, slots=True)
class Request:
    """One A-ASSOCIATE-RQ. AE titles without padding; they may hold any of Latin 1."""

    calling_ae_title: str
    called_ae_title: str
    protocol_version: int
    application_context: str
    contexts: list[PresentationContext]
    wants_other_services: bool  # a context is neither verification nor anything that may be stored
    only_verifies: bool
    user_identity: UserIdentity | None
    wants_identity_answer: bool
    extended: tuple[str, ...]  # SOP classes of an extended negotiation


@dataclass(frozen=True, slots=True)
class Context:
    """One accepted presentation context."""

    abstract_syntax: str
    transfer_syntax_uid: str


def read_request(pdu: bytes) -> Request:
    """A whole A-ASSOCIATE-RQ PDU. Raises RequestError."""
    if len(pdu) < _HEAD_BYTES:
        raise RequestError("the A-ASSOCIATE-RQ is too short")
    decoded = A_ASSOCIATE_RQ()
    try:
        # The AE titles are read here: pynetdicom takes no byte outside ASCII, and the caller is to be told why
        decoded.decode(pdu[:10] + b"X".ljust(16) * 2 + pdu[42:])
        primitive = decoded.to_primitive()
        if not all(context.abstract_syntax and context.transfer_syntax for context in decoded.presentation_context):
            raise RequestError("a presentation context names no abstract or no transfer syntax")
        items = list(primitive.user_information)
        identity = next((item for item in items if isinstance(item, UserIdentityNegotiation)), None)
        return Request(
            calling_ae_title=pdu[26:42].decode("latin-1").strip(" \0"),
            called_ae_title=pdu[10:26].decode("latin-1").strip(" \0"),
            protocol_version=int.from_bytes(pdu[6:8], "big"),
            application_context=str(primitive.application_context_name or ""),
            contexts=primitive.presentation_context_definition_list,
            only_verifies=all(context.abstract_syntax == VERIFICATION for context in decoded.presentation_context),
            wants_other_services=_is_for_others(primitive.presentation_context_definition_list),
            user_identity=_user_identity(identity) if identity else None,
            wants_identity_answer=bool(identity and identity.positive_response_requested),
            extended=tuple(_extended(items)),
        )
    except RequestError:
        raise
    except Exception as error:  # the edge: whatever hostile bytes make of a parser
        raise RequestError(f"the A-ASSOCIATE-RQ cannot be read ({type(error).__name__})") from error


def _user_identity(item: UserIdentityNegotiation) -> UserIdentity:
    return UserIdentity(item.user_identity_type or 0, item.primary_field or b"", item.secondary_field or b"")


def _extended(items: Iterable[ServiceParameter]) -> Iterator[str]:
    for item in items:
        if isinstance(item, SOPClassExtendedNegotiation) and item.sop_class_uid:
            yield str(item.sop_class_uid)


@lru_cache(maxsize=1024)  # callers choose the keys
def _service_of(abstract_syntax: str) -> type[ServiceClass]:
    return uid_to_service_class(abstract_syntax)


def is_storage(abstract_syntax: str, accepts_unknown: bool) -> bool:
    """Whether objects of this class are stored; unknown ones, private or newer than pynetdicom, by setting."""
    if _service_of(abstract_syntax) is StorageServiceClass:
        return True
    return accepts_unknown and _is_unknown(abstract_syntax)


def _is_unknown(abstract_syntax: str) -> bool:
    if abstract_syntax.startswith(STORAGE_ROOT):
        return _service_of(abstract_syntax) is ServiceClass
    return not abstract_syntax.startswith(STANDARD_ROOT)


def _is_for_others(contexts: Iterable[PresentationContext]) -> bool:
    syntaxes = {str(context.abstract_syntax) for context in contexts}
    return any(uid != VERIFICATION and not is_storage(uid, accepts_unknown=True) for uid in syntaxes)


def negotiate(request: Request, accepts_unknown: bool) -> list[PresentationContext]:
    """The answered contexts, each in the first transfer syntax that the caller names: all are kept as received."""
    proposed: dict[str, list[UID]] = {}
    for context in request.contexts:
        syntax = str(context.abstract_syntax)
        if syntax == VERIFICATION or is_storage(syntax, accepts_unknown):
            proposed.setdefault(syntax, []).append(context.transfer_syntax[0])
    supported = [build_context(UID(syntax), list(dict.fromkeys(known))) for syntax, known in proposed.items()]
    results, _ = negotiate_as_acceptor(request.contexts, supported)
    first = {context.context_id: context.transfer_syntax[0] for context in request.contexts}
    for result in results:
        if result.result == 0:
            result.transfer_syntax = [first[result.context_id]]
    return results


def accepted(results: Iterable[PresentationContext]) -> dict[int, Context]:
    """Presentation context ID → what may be sent in it."""
    return {
        result.context_id: Context(str(result.abstract_syntax), str(result.transfer_syntax[0]))
        for result in results
        if result.context_id is not None and result.result == 0
    }


def acceptance(pdu: bytes, request: Request, results: list[PresentationContext]) -> bytes:
    """The A-ASSOCIATE-AC to the request `pdu` (PS3.8 9.3.3); one operation at a time, default roles."""
    answer = A_ASSOCIATE()
    answer.application_context_name = APPLICATION_CONTEXT
    answer.calling_ae_title = answer.called_ae_title = "X"
    answer.result, answer.result_source = 0, 1
    answer.presentation_context_definition_results_list = results
    answer.user_information = list(_user_information(request, results))
    encoded = A_ASSOCIATE_AC()
    encoded.from_primitive(answer)
    raw = encoded.encode()
    return raw[:10] + pdu[10:42] + raw[42:]  # both AE titles are sent back as they came (PS3.8 table 9-17)


def _user_information(request: Request, results: list[PresentationContext]) -> Iterator[Any]:
    length, uid = MaximumLengthNotification(), ImplementationClassUIDNotification()
    version, window = ImplementationVersionNameNotification(), AsynchronousOperationsWindowNegotiation()
    length.maximum_length_received = MAX_PDU_BYTES
    uid.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    version.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 1
    yield from (length, uid, version, window)
    stored = {str(result.abstract_syntax) for result in results if result.result == 0} - {VERIFICATION}
    for syntax in dict.fromkeys(request.extended):
        if syntax in stored:
            support = SOPClassExtendedNegotiation()
            support.sop_class_uid, support.service_class_application_information = UID(syntax), _STORAGE_SUPPORT
            yield support
    if request.wants_identity_answer:
        identity = UserIdentityNegotiation()
        identity.server_response = b""
        yield identity
