"""Ports: the wish, else the next free one, with a word on who has the wish; kept for the next start."""

import json
import os
import socket

import pytest

from dicomsys.evaluation.ports import LOOPBACK, choose_ports, owner_of, port_wishes


@pytest.fixture
def taken():
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_taken_port_is_named_with_its_owner_and_replaced(tmp_path, taken):
    ports = choose_ports(tmp_path / "ports.json", ("web",), {"web": taken})
    ports.close()
    assert ports.numbers["web"] > taken
    assert f"port {taken} (web) is taken by" in ports.notes[0]
    assert f"(process {os.getpid()})" in ports.notes[0]


def test_the_owner_of_an_unknown_port_is_told_in_general_terms():
    with socket.socket() as closed:
        closed.bind((LOOPBACK, 0))
        assert owner_of(closed.getsockname()[1]) == "another program"


def test_two_choosers_at_once_never_get_the_same_port(tmp_path, taken):
    first = choose_ports(tmp_path / "first.json", ("web", "dicom"), {"web": taken, "dicom": taken})
    second = choose_ports(tmp_path / "second.json", ("web", "dicom"), {"web": taken, "dicom": taken})
    assert len({*first.numbers.values(), *second.numbers.values()}) == 4
    first.close()
    second.close()


def test_a_port_is_claimed_until_its_slow_user_listens(tmp_path, taken):
    first = choose_ports(tmp_path / "first.json", ("amqps",), {"amqps": taken})
    claimed = first.release("amqps")
    second = choose_ports(tmp_path / "second.json", ("amqps",), {"amqps": claimed})
    assert second.numbers["amqps"] != claimed
    assert "an instance that is starting" in second.notes[0]
    first.close()
    second.close()


def test_the_choice_is_kept_for_the_next_start(tmp_path, taken):
    first = choose_ports(tmp_path / "ports.json", ("web",), {"web": taken})
    first.close()
    again = choose_ports(tmp_path / "ports.json", ("web",), {})
    again.close()
    assert again.numbers == first.numbers == json.loads((tmp_path / "ports.json").read_text())
    assert again.notes == []


def test_a_released_port_can_be_listened_on_at_once(tmp_path):
    ports = choose_ports(tmp_path / "ports.json", ("web",), {})
    with socket.socket() as listener:
        # as every server of an instance does: connections of one that has just ended leave the port in TIME_WAIT
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            listener.bind((LOOPBACK, ports.numbers["web"]))
        listener.bind((LOOPBACK, ports.release("web")))
        listener.listen()


def test_a_wish_that_is_no_port_is_refused(monkeypatch):
    monkeypatch.setenv("DICOMSYS_WEB_PORT", "80")
    with pytest.raises(ValueError, match="DICOMSYS_WEB_PORT is '80'"):
        port_wishes()
