"""Why an association could not be made, or ended, as people read it."""

import logging
import socket
import threading
import time
from typing import Any

import pytest

from apps.core.errors import PermanentError, RetryableError
from apps.nodes.associations import associate
from apps.nodes.echo import VERIFICATION, echo
from tests.peers import Address, free_port, wait_until

REJECTIONS = [
    ((1, 1, 1), PermanentError, "gave no reason"),
    ((1, 1, 2), PermanentError, "application context"),
    ((1, 1, 3), PermanentError, "does not know our AE title. Have DICOMSYS added"),
    ((1, 1, 7), PermanentError, "not called PACS"),
    ((1, 2, 1), PermanentError, "network layer gave no reason"),
    ((1, 2, 2), PermanentError, "protocol version"),
    ((2, 3, 1), RetryableError, "busy"),
    ((2, 3, 2), RetryableError, "as many connections"),
]


def fail_to_associate(peer) -> Exception:
    with pytest.raises((PermanentError, RetryableError)) as caught, associate(peer, [VERIFICATION]):
        pass
    return caught.value


@pytest.mark.parametrize(("answer", "kind", "words"), REJECTIONS)
def test_each_reason_of_a_rejection_is_explained(pacs, settings, answer, kind, words):
    settings.AE_TITLE = "DICOMSYS"
    pacs.reject_with = answer
    error = fail_to_associate(pacs)
    assert isinstance(error, kind)
    assert words in str(error)
    assert f"PACS at 127.0.0.1 port {pacs.port} rejected" in str(error)


def test_a_closed_port_says_that_nothing_listens():
    error = fail_to_associate(Address(free_port()))
    assert isinstance(error, RetryableError)
    assert "Nothing listens at 127.0.0.1 port" in str(error)


def test_a_dropped_connection_request_says_no_answer_in_time(unreachable_peer):
    started = time.monotonic()
    error = fail_to_associate(unreachable_peer)
    assert isinstance(error, RetryableError)
    assert "did not answer within 0.5 s" in str(error)
    assert "firewall" in str(error)
    assert time.monotonic() - started < 3


def test_an_unknown_name_is_permanent():
    error = fail_to_associate(Address(104, host="no-such-host.invalid"))
    assert "no-such-host.invalid" in str(error)


def test_a_peer_that_never_answers_the_request_is_given_up(tcp_peer):
    started = time.monotonic()
    error = fail_to_associate(tcp_peer(lambda connection: None))
    assert isinstance(error, RetryableError)
    assert "did not answer within 1 s" in str(error)
    assert time.monotonic() - started < 4


def test_a_peer_that_hangs_up_is_explained(tcp_peer):
    error = fail_to_associate(tcp_peer(lambda connection: connection.close()))
    assert "closed the connection without an answer" in str(error)


def test_a_peer_that_aborts_the_request_is_explained(pacs):
    pacs.abort_request = True
    assert "aborted while the association was made" in str(fail_to_associate(pacs))


def test_a_peer_that_stops_within_a_pdu_does_not_hold_us(tcp_peer):
    peer = tcp_peer(lambda connection: connection.sendall(b"\x02\x00\x00\x00\x00\xff\x00"))
    started = time.monotonic()
    assert isinstance(fail_to_associate(peer), RetryableError)
    assert time.monotonic() - started < 5


def test_a_peer_without_the_service_is_permanent(storage_only_peer):
    error = fail_to_associate(storage_only_peer)
    assert isinstance(error, PermanentError)
    assert "none of the services" in str(error)


def test_a_silent_answer_times_out_and_the_association_ends(pacs):
    release = threading.Event()
    pacs.on_echo = lambda event: release.wait(5) and 0 or 0
    result = echo(pacs)
    release.set()
    assert not result.ok
    assert "did not answer C-ECHO in time" in result.text


def test_an_abort_instead_of_an_answer_is_told(pacs):
    def abort(event) -> int:
        event.assoc.abort(block=False)
        time.sleep(0.2)
        return 0x0000

    pacs.on_echo = abort
    assert "aborted the association during C-ECHO" in echo(pacs).text


def test_an_error_in_the_block_aborts_and_leaves_no_thread(pacs):
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError), associate(pacs, [VERIFICATION]) as link:
        _ = 1 / 0
    assert not link.association.is_established
    wait_until(lambda: threading.active_count() <= before)


def test_answers_are_acknowledged_at_once(orthanc):
    with associate(orthanc, [VERIFICATION]) as link:
        connection: Any = link.association.dul.socket
        assert connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert link.status_of("C-ECHO", link.association.send_c_echo()) == 0x0000


def test_an_association_works_without_the_private_hook(orthanc, monkeypatch):
    monkeypatch.delattr("apps.nodes.sockets.PeerEntity._create_socket")
    assert echo(orthanc).ok
    assert "closed the connection" in str(fail_to_associate(Address(free_port())))


def test_nothing_of_a_failed_association_is_logged_with_its_content(pacs, caplog):
    caplog.set_level(logging.INFO)
    pacs.reject_with = (1, 1, 3)
    fail_to_associate(pacs)
    assert "pynetdicom" not in {record.name.split(".")[0] for record in caplog.records}
