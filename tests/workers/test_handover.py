"""Connections handed over: taken, refused and dropped; a wrong packet costs only itself."""

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from django.conf import settings
from pynetdicom import AE
from pynetdicom.sop_class import Verification

from apps.core.local_socket import ask_state, connect
from tests.peers import wait_until
from workers.receiver.handover import BadHandoverError, Handover, hand_over

pytestmark = pytest.mark.django_db(transaction=True)

HERE = {"address": "127.0.0.1", "port": 5678, "is_tls": False, "calling_ae_title": "X"}


def echo(port) -> int:
    ae = AE(ae_title="SOMEONE")
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port, ae_title=settings.AE_TITLE)
    status = assoc.send_c_echo().Status
    assoc.release()
    return status


def is_closed(connection) -> bool:
    """Whether the other end was closed, unserved."""
    connection.settimeout(5)
    return connection.recv(1) == b""


def test_a_connection_is_served_where_it_was_handed_to(front):
    assert echo(front.port) == 0x0000


def test_a_unix_socket_is_served_like_a_tcp_one(services, tcp_peer):
    def pump(source, target):
        while chunk := source.recv(65536):
            target.sendall(chunk)
        target.close()

    def serve(client):  # as the receiver does on its TLS port
        ours, theirs = socket.socketpair()
        hand_over(theirs, "127.0.0.1", 5678, True, "SOMEONE")
        theirs.close()
        for pair in ((client, ours), (ours, client)):
            threading.Thread(target=pump, args=pair, daemon=True).start()

    assert echo(tcp_peer(serve).port) == 0x0000


def test_time_outs_of_the_former_owner_do_not_travel_with_it(services, tcp_peer):
    def serve(client):
        client.settimeout(0.01)  # makes the descriptor non-blocking
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, b"\x00" * 8 + (1000).to_bytes(8, "little"))  # 1 ms
        hand_over(client, *client.getpeername(), False, "")

    port = tcp_peer(serve).port
    ae = AE(ae_title="SOMEONE")
    ae.add_requested_context(Verification)
    assoc = ae.associate("127.0.0.1", port, ae_title=settings.AE_TITLE)
    time.sleep(0.3)  # longer than either
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()


def test_handing_over_fails_at_once_when_the_services_are_away():
    with socket.socket() as anything, pytest.raises(FileNotFoundError):
        hand_over(anything, "127.0.0.1", 1, False, "X")


def test_what_a_hanging_service_takes_too_late_it_does_not_serve(services, monkeypatch):
    monkeypatch.setattr("workers.receiver.handover.PATIENCE_S", 0.3)
    monkeypatch.setattr(services, "check_room", lambda: time.sleep(1))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(TimeoutError):
            hand_over(theirs, "127.0.0.1", 1, False, "X")
        theirs.close()
        assert is_closed(ours)
    assert services.state()["associations"] == 0


def test_a_full_house_is_told(services, settings):
    settings.DICOM_MAX_ASSOCIATIONS = -10
    with socket.socket() as anything, pytest.raises(ConnectionRefusedError, match="too many associations"):
        hand_over(anything, "127.0.0.1", 1, False, "X")


PACKETS = {
    "empty": b"",
    "no JSON": b"nonsense",
    "a list": b"[]",
    "nothing": b"null",
    "deep": b"[" * 3000,
    "too long": b"\xff" * 5000,
    "few keys": b'{"address": "1.2.3.4"}',
    "many keys": json.dumps({**HERE, "more": 1}).encode(),
    "a name": json.dumps({**HERE, "address": "localhost"}).encode(),
    "a number": json.dumps({**HERE, "address": 1}).encode(),
    "no port": json.dumps({**HERE, "port": 70000}).encode(),
    "a text": json.dumps({**HERE, "port": "1"}).encode(),
}


def test_a_bad_packet_costs_only_itself(front):
    for name, packet in PACKETS.items():
        ours, theirs = socket.socketpair()
        with connect(settings.SERVICES_SOCKET, 5) as client, ours, theirs:
            socket.send_fds(client, [packet], [theirs.fileno()])
            theirs.close()
            assert is_closed(ours), name
    assert echo(front.port) == 0x0000


@pytest.mark.parametrize("count", [0, 2, 4, 8])
def test_a_wrong_number_of_descriptors_costs_only_itself(front, count):
    pairs = [socket.socketpair() for _ in range(count)]
    with connect(settings.SERVICES_SOCKET, 5) as client:
        socket.send_fds(client, [Handover(**HERE).encode()], [theirs.fileno() for _, theirs in pairs])
        assert b"one descriptor" in client.recv(100)
    for ours, theirs in pairs:
        theirs.close()
        assert is_closed(ours)
        ours.close()
    assert echo(front.port) == 0x0000


def test_a_descriptor_that_is_no_connection_costs_only_itself(front, tmp_path):
    with (tmp_path / "file").open("w") as file, socket.socket(type=socket.SOCK_DGRAM) as datagram:
        for descriptor in (file, datagram):
            with pytest.raises(ConnectionRefusedError):
                hand_over(descriptor, "127.0.0.1", 1, False, "X")
    assert echo(front.port) == 0x0000


def test_clients_that_say_nothing_are_dropped(front, monkeypatch):
    monkeypatch.setattr("workers.services.door.PATIENCE_S", 0.2)
    with connect(settings.SERVICES_SOCKET, 5) as silent:
        assert echo(front.port) == 0x0000
        assert silent.recv(1) == b""


def test_processes_of_other_users_are_refused(services, monkeypatch):
    monkeypatch.setattr("workers.services.door.peer_user", lambda client: os.getuid() + 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with pytest.raises(OSError, match="closed the local socket|Broken pipe|reset by peer"):
            hand_over(theirs, "127.0.0.1", 1, False, "X")
        theirs.close()
        assert is_closed(ours)


def test_no_descriptor_is_left_open(front, services):
    def count_descriptors() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    def hand_over_badly():
        with connect(settings.SERVICES_SOCKET, 5) as client, socket.socket() as anything:
            socket.send_fds(client, [b"nonsense"], [anything.fileno()] * 3)
            client.recv(100)

    echo(front.port)
    hand_over_badly()
    wait_until(lambda: services.state()["associations"] == 0)
    before = count_descriptors()
    for _ in range(20):
        hand_over_badly()
    wait_until(lambda: count_descriptors() <= before)
    for _ in range(5):
        echo(front.port)
    wait_until(lambda: count_descriptors() <= before + 5)  # this test's own ends of five connections


def test_the_services_tell_how_full_they_are(services):
    assert ask_state(settings.SERVICES_SOCKET, 5) == {"associations": 0, "limit": settings.DICOM_MAX_ASSOCIATIONS}


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\x00\x00\x00\x04abcd", b"\xff" * 64, b""])
def test_garbage_on_a_connection_disturbs_nobody(front, garbage):
    with socket.create_connection(("127.0.0.1", front.port)) as stranger:
        stranger.sendall(garbage)
        assert echo(front.port) == 0x0000


def test_a_message_travels_whole():
    handover = Handover("2001:db8::7", 104, True, "A\\B \u00ff\ud800")
    assert Handover.decode(handover.encode()) == handover
    with pytest.raises(BadHandoverError):
        Handover.decode(handover.encode()[:-1])
