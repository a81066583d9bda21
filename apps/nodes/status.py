"""What DIMSE statuses mean, in plain words, and for which of them a retry may help.

One table a service: C-ECHO (PS3.7 9.1.5.1.4), C-FIND (PS3.4 C.4.1.1.4), C-MOVE (PS3.4 C.4.2.1.5); then the statuses
that any service may answer (PS3.7 Annex C).
"""

from collections.abc import Iterator

SUCCESS = 0x0000
CANCELLED = 0xFE00
PENDING = (0xFF00, 0xFF01)
MOVE_WITH_FAILURES = 0xB000  # PS3.4 table C.4-2: sub-operations complete, one or more failures
MOVE_DESTINATION_UNKNOWN = 0xA801
MOVE_SUB_OPERATIONS_REFUSED = 0xA702

_UNABLE_TO_PROCESS = range(0xC000, 0xD000)

_MEANINGS: dict[str, dict[range, str]] = {
    "C-ECHO": {},
    "C-FIND": {
        range(0xA700, 0xA701): "it is out of resources",
        range(0xA900, 0xA901): "it does not understand the search keys",
        _UNABLE_TO_PROCESS: "it was unable to search",
    },
    "C-MOVE": {
        range(0xA701, 0xA702): "it is out of resources and could not count the images",
        range(0xA702, 0xA703): "it is out of resources and could not send the images",
        range(0xA801, 0xA802): "it does not know the destination",
        range(0xA900, 0xA901): "it does not understand which study is meant",
        range(0xB000, 0xB001): "some images could not be sent",
        _UNABLE_TO_PROCESS: "it was unable to send the images",
    },
}
_GENERAL: dict[range, str] = {
    range(0x0110, 0x0111): "it failed while processing the request",
    range(0x0112, 0x0113): "it does not know this object",
    range(0x0118, 0x0119): "it does not know this class of objects",
    range(0x0122, 0x0123): "it does not support this service",
    range(0x0124, 0x0125): "we are not authorised",
    range(0x0210, 0x0212): "it does not recognise the request",
    range(0x0212, 0x0213): "it does not understand a value of the request",
    range(0x0213, 0x0214): "it is out of resources",
    range(CANCELLED, CANCELLED + 1): "it stopped as it was asked to",
}
_RETRYABLE_ANYWHERE = frozenset({0x0110, 0x0213})
RETRYABLE: dict[str, frozenset[int]] = {
    "C-ECHO": _RETRYABLE_ANYWHERE,
    "C-FIND": _RETRYABLE_ANYWHERE | {0xA700} | frozenset(_UNABLE_TO_PROCESS),
    "C-MOVE": _RETRYABLE_ANYWHERE | {0xA701, 0xA702} | frozenset(_UNABLE_TO_PROCESS),
}


def is_retryable(service: str, status: int) -> bool:
    """Whether asking again, unchanged, may have another outcome."""
    return status in RETRYABLE.get(service, _RETRYABLE_ANYWHERE)


def meaning_of(service: str, status: int) -> str:
    """The status in plain words about the peer ("it is out of resources"); an unknown one says so."""
    return next(_matches(service, status), "it gave a status that the standard does not name")


def _matches(service: str, status: int) -> Iterator[str]:
    for table in (_MEANINGS.get(service, {}), _GENERAL):
        for statuses, words in table.items():
            if status in statuses:
                yield words
