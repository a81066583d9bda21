"""DIMSE command sets (PS3.7 6.3.1, 9.3) and the PDUs that carry our answers (PS3.8 9.3). Plain functions on bytes."""

from dataclasses import dataclass
from struct import Struct
from struct import error as StructError  # noqa: N812

C_STORE_RQ, C_ECHO_RQ, C_CANCEL_RQ = 0x0001, 0x0030, 0x0FFF
RESPONSE = 0x8000
NO_DATA_SET = 0x0101

# PS3.7 annex C, PS3.4 B.2.3
SUCCESS = 0x0000
NO_SUCH_SOP_CLASS, UNRECOGNIZED_OPERATION = 0x0122, 0x0211
OUT_OF_RESOURCES, NOT_ITS_DATA_SET, CANNOT_UNDERSTAND = 0xA700, 0xA900, 0xC000

COMMAND_BYTES_MAX = 16 * 1024
UID_LENGTH_MAX = 128  # what ingest can store

_SOP_CLASS, _FIELD, _MESSAGE_ID, _ANSWERED_ID = 0x0002, 0x0100, 0x0110, 0x0120
_DATA_SET_TYPE, _STATUS, _SOP_INSTANCE = 0x0800, 0x0900, 0x1000
_element = Struct("<HHL")
_pdu_with_pdv = Struct(">BBLLBB")
_LAST_COMMAND = 3


class CommandError(ValueError):
    """The command set cannot be read: there is nothing that could be answered."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a request says; UIDs as received but for their padding, None when absent."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: bytes | None
    sop_instance_uid: bytes | None


def read_command(raw: bytes | bytearray) -> Command:
    """A whole command set, implicit VR little endian (PS3.7 6.3.1). Raises CommandError."""
    elements: dict[int, bytes] = {}
    at, end = 0, len(raw)
    try:
        while at < end:
            group, element, length = _element.unpack_from(raw, at)
            at += 8
            if group or length > end - at:
                raise CommandError("not a command set")
            elements[element] = bytes(raw[at : at + length])
            at += length
        field = _number(elements[_FIELD])
        return Command(
            field,
            _number(elements.get(_MESSAGE_ID, b"\0\0")),
            _number(elements[_DATA_SET_TYPE]) != NO_DATA_SET,
            _uid(elements.get(_SOP_CLASS)),
            _uid(elements.get(_SOP_INSTANCE)),
        )
    except (StructError, KeyError) as error:
        raise CommandError("not a command set") from error


def _number(raw: bytes) -> int:
    if len(raw) != 2:
        raise CommandError("a number is not of two bytes")
    return int.from_bytes(raw, "little")


def _uid(raw: bytes | None) -> bytes | None:
    return None if raw is None else raw.strip(b" \0")


def is_usable_uid(uid: bytes | None) -> bool:
    """Whether it can name an object: printable ASCII, not longer than what the archive stores."""
    return bool(uid) and len(uid or b"") <= UID_LENGTH_MAX and all(32 < byte < 127 for byte in uid or b"")


def response(command: Command, status: int, context_id: int) -> bytes:
    """One P-DATA-TF PDU whose only PDV is the whole response (PS3.7 9.3.1.2, 9.3.5.2)."""
    body = _element_of(_SOP_CLASS, command.sop_class_uid) + _element_of(_FIELD, _two(command.field | RESPONSE))
    body += _element_of(_ANSWERED_ID, _two(command.message_id)) + _element_of(_DATA_SET_TYPE, _two(NO_DATA_SET))
    body += _element_of(_STATUS, _two(status)) + _element_of(_SOP_INSTANCE, command.sop_instance_uid)
    body = _element.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body
    return _pdu_with_pdv.pack(4, 0, len(body) + 6, len(body) + 2, context_id, _LAST_COMMAND) + body


def _two(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _element_of(element: int, value: bytes | None) -> bytes:
    if value is None:
        return b""
    value += b"\0" * (len(value) % 2)
    return _element.pack(0, element, len(value)) + value


def release_response() -> bytes:
    """A-RELEASE-RP (PS3.8 9.3.7)."""
    return b"\x06\0\0\0\0\x04\0\0\0\0"


def abort(reason: int) -> bytes:
    """A-ABORT by the service provider (PS3.8 9.3.8, table 9-26)."""
    return bytes((7, 0, 0, 0, 0, 4, 0, 0, 2, reason))


def rejection(result: int, source: int, reason: int) -> bytes:
    """A-ASSOCIATE-RJ (PS3.8 9.3.4, table 9-21)."""
    return bytes((3, 0, 0, 0, 0, 4, 0, result, source, reason))
