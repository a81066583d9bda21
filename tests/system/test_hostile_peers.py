"""Slow senders, dead senders, half-open connections and port scans: what each costs is bounded, and it ends."""

import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tests.lots import SMALL, Template, fresh_uid
from tests.peers import wait_until
from tests.processes import cpu_s
from tests.system.receiving import lone_receiver
from tests.wire import GoneError, RejectedError, Sender, associate_rq, echo_rq, p_data, store_rq

TIMES = {"DICOM_ACSE_TIMEOUT_S": "2", "DICOM_DIMSE_TIMEOUT_S": "3", "DICOM_NETWORK_TIMEOUT_S": "3"}
END_LIMIT_S = 15.0  # the longest time-out above, and a busy machine
CROWD = 30  # of the 50 associations that are allowed
MEMORY_EACH_BYTES = 1_500_000
THREADS_EACH = 2  # pynetdicom's own machinery has two
DESCRIPTORS_EACH = 3
SPARE = 4
HALF_CLOSED_CPU_S = 0.5
LOCAL_LIMIT_EXCEEDED = (2, 3, 2)  # transient, by the presentation service (PS3.8 9.3.4)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    with lone_receiver(tmp_path_factory.mktemp("hostile") / "r", **TIMES) as running:
        with Sender(running.port) as sender:  # whatever is made once is made now
            sender.echo()
        yield running


def connect(receiver) -> socket.socket:
    return socket.create_connection(("127.0.0.1", receiver.port), timeout=END_LIMIT_S)


def is_ended(connection: socket.socket) -> bool:
    """Whether the receiver ends the connection before our patience does."""
    with suppress(ConnectionError):
        try:
            while connection.recv(4096):
                pass
        except TimeoutError:
            return False
    return True


def is_served(receiver) -> bool:
    with suppress(GoneError), Sender(receiver.port) as sender:
        uid = fresh_uid()
        data_set = Template(SMALL).data_set(fresh_uid(), fresh_uid(), uid)
        return sender.store(uid, data_set) == 0x0000
    return False


SILENT = {
    "says nothing": b"",
    "stops within its request": associate_rq()[:100],
    "stops after its request": associate_rq(),
    "stops within a command": associate_rq() + p_data(1, store_rq("1.2.3"), is_command=True)[:40],
    "stops before the data set": associate_rq() + p_data(1, store_rq("1.2.3"), is_command=True),
    "stops within a fragment": (
        associate_rq()
        + p_data(1, store_rq("1.2.3"), is_command=True)
        + p_data(1, bytes(5000), is_command=False, is_last=False)[:3000]
    ),
    "stops between fragments": (
        associate_rq()
        + p_data(1, store_rq("1.2.3"), is_command=True)
        + p_data(1, bytes(5000), is_command=False, is_last=False)
    ),
}


def test_a_crowd_of_silent_senders_is_let_go_and_costs_little(receiver):
    before = receiver.cost()
    crowd = [(kind, connect(receiver)) for _ in range(CROWD // len(SILENT)) for kind in SILENT]
    for kind, connection in crowd:
        connection.sendall(SILENT[kind])
    assert is_served(receiver)
    during = receiver.cost()
    with ThreadPoolExecutor(len(crowd)) as pool:
        ended = pool.map(lambda each: (each[0], is_ended(each[1])), crowd)
    kept = Counter(kind for kind, has_ended in ended if not has_ended)
    for _, connection in crowd:
        connection.close()
    after = receiver.settled(before.descriptors + SPARE, before.threads + SPARE)

    assert kept == {}
    assert during.threads - before.threads <= CROWD * THREADS_EACH + SPARE
    assert during.descriptors - before.descriptors <= CROWD * DESCRIPTORS_EACH + SPARE
    assert during.memory_bytes - before.memory_bytes <= CROWD * MEMORY_EACH_BYTES
    assert after.threads <= before.threads + SPARE
    assert after.descriptors <= before.descriptors + SPARE


def test_a_sender_that_ends_within_its_request_costs_no_time(receiver):
    before = cpu_s(receiver.pid)
    with ExitStack() as stack:
        half_closed = [stack.enter_context(connect(receiver)) for _ in range(4)]
        for connection in half_closed:
            connection.sendall(SILENT["stops within its request"])
            connection.shutdown(socket.SHUT_WR)
        for connection in half_closed:
            assert is_ended(connection)
    assert cpu_s(receiver.pid) - before < HALF_CLOSED_CPU_S


def test_nothing_of_an_object_cut_short_is_kept(receiver):
    known = set(receiver.stored())
    with connect(receiver) as connection:
        connection.sendall(SILENT["stops between fragments"])
        assert is_ended(connection)
    assert set(receiver.stored()) == known


def test_a_slow_sender_is_served_to_its_end(receiver):
    uid, slow_s = fresh_uid(), 0.02
    data_set = Template(SMALL).data_set(fresh_uid(), fresh_uid(), uid)

    class SlowSender(Sender):
        def send(self, content: bytes) -> None:
            for at in range(0, len(content), 100):
                super().send(content[at : at + 100])
                time.sleep(slow_s)

    began = time.monotonic()
    with SlowSender(receiver.port) as sender:
        assert sender.store(uid, data_set) == 0x0000
    assert time.monotonic() - began > len(data_set) / 100 * slow_s
    (stored,) = [path for path in receiver.stored() if path.read_bytes().endswith(data_set)]
    assert uid.encode() in stored.read_bytes()


def test_a_peer_that_reads_no_answers_is_let_go(receiver):
    before = receiver.cost()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        connection.settimeout(1.0)
        connection.connect(("127.0.0.1", receiver.port))
        connection.sendall(associate_rq())
        echo = p_data(3, echo_rq(), is_command=True) * 100
        ends, sent = time.monotonic() + END_LIMIT_S, 0
        with suppress(ConnectionError):
            while time.monotonic() < ends and sent < 200_000_000:
                with suppress(TimeoutError):
                    sent += connection.send(echo)
        assert time.monotonic() < ends, "it waits for ever for us to read"
    after = receiver.settled(before.descriptors + SPARE, before.threads + SPARE)
    assert after.memory_bytes - before.memory_bytes <= 20 * MEMORY_EACH_BYTES
    assert after.threads <= before.threads + SPARE


def scan(receiver, count: int) -> None:
    for number in range(count):
        connection = connect(receiver)
        if number % 3 == 1:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if number % 3 == 2:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        connection.close()


def test_a_port_scan_costs_nothing(receiver):
    scan(receiver, 600)  # forked processes first make pages their own
    before = receiver.settled(0, 0, patience_s=2)
    said = len(receiver.log_lines)
    scan(receiver, 600)
    assert is_served(receiver)
    after = receiver.settled(before.descriptors + SPARE, before.threads + SPARE)

    assert after.threads <= before.threads + SPARE
    assert after.descriptors <= before.descriptors + SPARE
    assert after.memory_bytes - before.memory_bytes <= 20 * MEMORY_EACH_BYTES
    assert len(receiver.log_lines) - said <= 600 + SPARE


def test_more_associations_than_allowed_are_rejected_and_those_that_are_in_go_on(tmp_path):
    with lone_receiver(tmp_path / "r", DICOM_MAX_ASSOCIATIONS="5") as receiver, ExitStack() as stack:
        inside: list[Sender] = []

        def one_more() -> bool:  # the connection that looked whether it listens may still count
            with suppress(RejectedError):
                inside.append(stack.enter_context(Sender(receiver.port)))
            return len(inside) == 5

        wait_until(one_more)
        for _ in range(3):
            with pytest.raises(RejectedError) as error:
                stack.enter_context(Sender(receiver.port))
            assert error.value.reason == LOCAL_LIMIT_EXCEEDED
        assert [sender.echo() for sender in inside] == [0x0000] * 5
        inside.pop().socket.close()
        wait_until(lambda: is_served(receiver))
