"""DIMSE statuses in words."""

import pytest

from apps.nodes.errors import DimseStatusError, PeerRefusedError, PeerUnavailableError, peer_error


@pytest.mark.parametrize(
    ("service", "status", "retryable"),
    [
        ("C-FIND", 0xA700, True),
        ("C-FIND", 0xA900, False),
        ("C-FIND", 0xC001, True),
        ("C-MOVE", 0xA701, True),
        ("C-MOVE", 0xA702, True),
        ("C-MOVE", 0xA801, False),
        ("C-MOVE", 0xC123, True),
        ("C-ECHO", 0x0122, False),
        ("N-CREATE", 0x0110, True),
    ],
)
def test_a_status_says_whether_a_retry_may_help(service, status, retryable):
    error = DimseStatusError(service, status)
    assert error.retryable is retryable
    assert isinstance(peer_error("text", error), PeerUnavailableError if retryable else PeerRefusedError)


def test_a_status_is_told_in_words():
    assert str(DimseStatusError("C-MOVE", 0xA801)) == "C-MOVE answered 0xA801: it does not know the destination"
    assert "not name" in str(DimseStatusError("C-MOVE", 0xA999))
