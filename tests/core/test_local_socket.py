"""Sockets between our own processes: for their owner, one listener, any length of path."""

import os
import socket

import pytest

from apps.core.local_socket import connect, listen, peer_user


@pytest.fixture(params=["services.sock", "a" * 60 + "/" + "b" * 60 + "/services.sock"], ids=["short", "long"])
def path(tmp_path, request):
    return tmp_path / "run" / request.param


def test_a_packet_arrives_whole_and_the_user_of_its_sender_is_known(path):
    with listen(path) as listener, connect(path, 1) as client:
        client.send(b"first")
        client.send(b"second")
        server, _ = listener.accept()
        with server:
            assert (server.recv(100), server.recv(100)) == (b"first", b"second")
            assert peer_user(server) == os.getuid()


def test_only_the_owner_may_use_it(path):
    with listen(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_listener_is_refused_and_the_first_goes_on(path):
    with listen(path):
        with pytest.raises(OSError, match="another process listens"):
            listen(path)
        connect(path, 1).close()


def test_what_a_dead_process_left_is_replaced(path):
    listen(path).close()
    with pytest.raises(ConnectionRefusedError):
        connect(path, 1)
    with listen(path):
        connect(path, 1).close()
    assert [each.name for each in path.parent.iterdir()] == ["services.sock"]


def test_nobody_there_is_an_error_at_once(path):
    path.parent.mkdir(parents=True)
    with pytest.raises(FileNotFoundError):
        connect(path, 1)


def test_a_listener_that_is_too_busy_is_an_error_and_no_wait(path, monkeypatch):
    monkeypatch.setattr("apps.core.local_socket.BACKLOG", 0)
    waiting: list[socket.socket] = []
    with listen(path):
        with pytest.raises((BlockingIOError, TimeoutError)):
            waiting += [connect(path, 0.2) for _ in range(10)]
        for each in waiting:
            each.close()
