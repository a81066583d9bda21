"""The receiver with real senders: DCMTK and pynetdicom; and its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from django.conf import settings
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, Verification

from apps.storage.spool import Spool
from tests.dicom import ct_dataset, encode, series_of
from tests.peers import free_port, wait_until
from workers.receiver.publisher import Publisher

needs_dcmtk = pytest.mark.skipif(not Path("/usr/bin/storescu").exists(), reason="DCMTK's storescu is not installed")


def associate(port, called="DICOMSYS", calling="SENDER", contexts=(CTImageStorage, Verification), **options):
    ae = AE(ae_title=calling)
    for context in contexts:
        ae.add_requested_context(context, ExplicitVRLittleEndian)
    return ae.associate("127.0.0.1", port, ae_title=called, **options)


def test_echo_is_answered(start_receiver):
    assoc = associate(start_receiver().port)
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()


def test_what_is_acknowledged_lies_in_the_spool_as_received(start_receiver):
    receiver, dataset = start_receiver(), ct_dataset()
    assoc = associate(receiver.port)
    assert assoc.send_c_store(dataset).Status == 0x0000

    (path,) = receiver.files()
    content = path.read_bytes()
    meta = dcmread(BytesIO(content)).file_meta
    assert meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert (meta.SourceApplicationEntityTitle, meta.SendingApplicationEntityTitle) == ("SENDER", "SENDER")
    assert meta.ReceivingApplicationEntityTitle == "DICOMSYS"
    assert content.endswith(encode(dataset))
    assert receiver.notes.bytes == [len(encode(dataset))]
    assoc.release()


def test_a_batch_is_closed_and_published_when_the_association_ends_or_gets_old(start_receiver):
    receiver = start_receiver()
    assoc = associate(receiver.port)
    assoc.send_c_store(ct_dataset())
    wait_until(lambda: len(receiver.published) == 1)  # 100 ms old, association still open
    assoc.send_c_store(ct_dataset())
    assoc.release()
    wait_until(lambda: len(receiver.published) == 2)
    assert sorted(Spool(settings.SPOOL_DIR).closed_batches()) == sorted(receiver.published)


def test_a_nearly_full_disk_answers_out_of_resources_and_recovers(start_receiver):
    receiver = start_receiver(min_free_bytes=1 << 60)
    assoc = associate(receiver.port)
    assert assoc.send_c_store(ct_dataset()).Status == 0xA700
    assert not list(settings.SPOOL_DIR.glob("*/*/*"))

    receiver.desk.spool.min_free_bytes = 0
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assoc.release()


def test_too_many_waiting_batches_refuse_more_until_ingest_has_caught_up(start_receiver, monkeypatch):
    monkeypatch.setattr("workers.receiver.room.LOOK_S", 0.0)
    receiver = start_receiver(max_batches=1)
    assoc = associate(receiver.port)
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    wait_until(lambda: receiver.published)
    assert assoc.send_c_store(ct_dataset()).Status == 0xA700

    (name,) = receiver.published
    receiver.desk.spool.remove(name, receiver.desk.spool.files(name))
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assoc.release()


def test_senders_are_slowed_down_when_ingest_is_behind(start_receiver, monkeypatch):
    monkeypatch.setattr("workers.receiver.room.LOOK_S", 0.0)
    monkeypatch.setattr("workers.receiver.room.SLOW_DOWN_S", 0.3)
    receiver = start_receiver(slow_batches=1)
    assoc = associate(receiver.port)
    assoc.send_c_store(ct_dataset())
    wait_until(lambda: receiver.published)
    began = time.monotonic()
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assert time.monotonic() - began >= 0.3
    assoc.release()


def test_a_disk_error_while_closing_a_batch_ends_nothing(start_receiver, monkeypatch):
    receiver = start_receiver()
    assoc = associate(receiver.port)
    tried = threading.Event()

    def fail(folder):
        tried.set()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(receiver.desk.spool, "finish", fail)
        assert assoc.send_c_store(ct_dataset()).Status == 0x0000
        assert tried.wait(5)
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assoc.release()
    wait_until(lambda: len(receiver.published) == 1)
    assert len(list(settings.SPOOL_DIR.glob("*/*/*.dcm"))) == 2  # one in the batch that stayed open


def test_a_disk_that_fails_while_writing_refuses_that_object_alone(start_receiver, monkeypatch):
    receiver = start_receiver()
    assoc = associate(receiver.port)

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("apps.storage.spool.os.writev", fail)
        assert assoc.send_c_store(ct_dataset()).Status == 0xA700
    with monkeypatch.context() as patch:
        patch.setattr("apps.storage.spool.os.fdatasync", fail)
        assert assoc.send_c_store(ct_dataset()).Status == 0xA700
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assert len(receiver.files()) == 1
    assert not list(settings.SPOOL_DIR.glob("*/*/*.part"))
    assoc.release()


def test_eight_senders_at_once_lose_nothing(start_receiver):
    receiver, lots = start_receiver(), [series_of(20) for _ in range(8)]
    statuses = []

    def send(lot):
        assoc = associate(receiver.port)
        statuses.extend(assoc.send_c_store(dataset).Status for dataset in lot)
        assoc.release()

    threads = [threading.Thread(target=send, args=(lot,)) for lot in lots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [0x0000] * 160
    spooled = {dcmread(path).SOPInstanceUID for path in receiver.files()}
    assert spooled == {dataset.SOPInstanceUID for lot in lots for dataset in lot}


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\x00\x00\x00\x04abcd", b"\xff" * 64, b""])
def test_garbage_on_the_port_disturbs_nobody(start_receiver, garbage):
    receiver = start_receiver()
    with socket.create_connection(("127.0.0.1", receiver.port)) as stranger:
        stranger.sendall(garbage)
        assoc = associate(receiver.port)
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


def test_a_receiver_that_is_stopped_keeps_what_was_acknowledged(start_receiver):
    receiver = start_receiver()
    assoc = associate(receiver.port)
    assoc.send_c_store(ct_dataset())
    receiver.stop()
    wait_until(lambda: assoc.is_aborted)
    assert len(receiver.published) == 1


@needs_dcmtk
def test_storescu_and_echoscu_are_served(start_receiver, tmp_path):
    receiver, datasets = start_receiver(), series_of(5)
    for dataset in datasets:
        dataset.save_as(tmp_path / f"{dataset.InstanceNumber}.dcm", enforce_file_format=True)
    words = ["-aec", "DICOMSYS", "127.0.0.1", str(receiver.port)]

    subprocess.run(["/usr/bin/echoscu", *words], check=True)
    subprocess.run(["/usr/bin/storescu", "+sd", *words, tmp_path], check=True)

    wait_until(lambda: receiver.published)
    bodies = [path.read_bytes() for path in receiver.files()]
    assert len(bodies) == 5
    assert all(any(body.endswith(encode(dataset)) for body in bodies) for dataset in datasets)


# --- Processes


def test_a_killed_publisher_is_replaced_and_takes_what_waits():
    publisher = Publisher()
    try:
        publisher.keep_running()
        first = publisher.process
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
        publisher.publish("1.aabbccdd-9")
        wait_until(lambda: (publisher.keep_running(), publisher.process.pid != first.pid)[1], 10)
        wait_until(lambda: waiting(publisher) == 0, 30)
    finally:
        publisher.stop()


def waiting(publisher) -> int:
    """Bytes of the first name that nobody has read yet."""
    try:
        return len(publisher._reading.recv(255, socket.MSG_PEEK | socket.MSG_DONTWAIT))
    except BlockingIOError:
        return 0


def test_a_full_publisher_drops_names_instead_of_waiting():
    publisher = Publisher()
    began = time.monotonic()
    for number in range(5000):
        publisher.publish(f"1.aabbccdd-{number}")
    assert time.monotonic() - began < 5


RECEIVER = [sys.executable, "-m", "workers.receiver"]


def environment(folder, port) -> dict[str, str]:
    return os.environ | {
        "DICOMSYS_DATA_DIR": str(folder),
        "DICOMSYS_DICOM_PORT": str(port),
        "DICOMSYS_RECEIVER_PROCESSES": "2",
        "DICOMSYS_SPOOL_MIN_FREE_BYTES": "0",
    }


@pytest.fixture
def processes(tmp_path):
    """The real thing: `python -m workers.receiver` with two children on a free port; its folder and its port."""
    port = free_port()
    process = subprocess.Popen(RECEIVER, env=environment(tmp_path, port), cwd=settings.BASE_DIR, start_new_session=True)
    try:
        wait_until(lambda: status(tmp_path).get("processes") == 2, 30)
        yield process, port, tmp_path
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def status(folder) -> dict:
    try:
        return json.loads((folder / "run" / "receiver.json").read_text())
    except OSError:
        return {}


def children(process) -> list[int]:
    """The receiving processes; the publisher is another program."""
    found = []
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        if b"publisher" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            found.append(int(pid))
    return found


def test_killed_children_are_replaced_and_their_associations_no_longer_counted(processes):
    process, port, folder = processes
    assoc = associate(port)
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    wait_until(lambda: status(folder)["associations"] == 1, 10)
    first = children(process)
    for child in first:
        os.kill(child, signal.SIGKILL)
    wait_until(lambda: not set(first) & set(now := children(process)) and len(now) == 2, 10)
    wait_until(lambda: status(folder)["associations"] == 0, 10)
    again = associate(port)
    assert again.send_c_store(ct_dataset()).Status == 0x0000
    again.release()
    assert len(list(folder.glob("spool/*/*/*.dcm"))) == 2


def test_a_killed_parent_takes_its_children_with_it_and_frees_the_port(processes):
    process, port, _ = processes
    first = children(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in first), 10)
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_a_stopped_receiver_ends_cleanly(processes):
    process, port, folder = processes
    assoc = associate(port)
    assoc.send_c_store(ct_dataset())
    process.terminate()
    assert process.wait(20) == 0
    assert not status(folder)
    assert len(list(folder.glob("spool/closed/*/*.dcm"))) == 1


def test_a_taken_port_is_an_error(processes):
    _, port, folder = processes
    second = subprocess.run(
        RECEIVER, env=environment(folder, port), cwd=settings.BASE_DIR, capture_output=True, timeout=60
    )
    assert second.returncode != 0
    assert b"Address already in use" in second.stderr


def test_a_socket_that_systemd_has_opened_is_used(tmp_path):
    command = 'LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=dicom exec "$@"'
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        process = subprocess.Popen(
            ["/bin/sh", "-c", command, "sh", *RECEIVER],
            env=environment(tmp_path, free_port()),
            cwd=settings.BASE_DIR,
            start_new_session=True,
            pass_fds=[3],
            preexec_fn=lambda: os.dup2(listener.fileno(), 3),
        )
    try:
        assoc = associate(port)  # waits in the backlog until the receiver is up
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()
    finally:
        process.terminate()
        assert process.wait(20) == 0
