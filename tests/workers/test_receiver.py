import os
import signal
import socket
import subprocess
import threading
import time
from io import BytesIO
from pathlib import Path

import pytest
from django.conf import settings
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import CTImageStorage, Verification

from apps.nodes.models import RemoteNode
from apps.storage.spool import Spool
from tests.dicom import ct_dataset, encode, series_of
from workers.receiver.callers import AllowedCallers
from workers.receiver.publisher import Publisher
from workers.receiver.server import Receiver

needs_dcmtk = pytest.mark.skipif(not Path("/usr/bin/storescu").exists(), reason="DCMTK's storescu is not installed")


class Names(list):
    """Stands where the publisher process stands."""

    publish = list.append

    def restart_if_dead(self):
        pass


class Everyone:
    def allows(self, ae_title, address):
        return True


@pytest.fixture
def start_receiver():
    running = []

    def start(callers=None, min_free_bytes=0):
        receiver = Receiver(Spool(settings.SPOOL_DIR, min_free_bytes), callers or Everyone(), names := Names())
        thread = threading.Thread(target=receiver.serve, args=("127.0.0.1", 0))
        thread.start()
        running.append((receiver, thread))
        while receiver.port is None:
            time.sleep(0.01)
        receiver.published = names
        return receiver

    yield start
    for receiver, thread in running:
        receiver.stop()
        thread.join(20)


def associate(receiver, called="DICOMSYS", calling="SENDER", contexts=(CTImageStorage, Verification)):
    ae = AE(ae_title=calling)
    for context in contexts:
        ae.add_requested_context(context, ExplicitVRLittleEndian)
    return ae.associate("127.0.0.1", receiver.port, ae_title=called)


def wait_for(condition, limit_s=5.0):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_echo_is_answered(start_receiver):
    assoc = associate(start_receiver())
    assert assoc.send_c_echo().Status == 0x0000
    assoc.release()


def test_what_is_acknowledged_lies_in_the_spool_as_received(start_receiver):
    receiver, dataset = start_receiver(), ct_dataset()
    assoc = associate(receiver)
    assert assoc.send_c_store(dataset).Status == 0x0000

    (path,) = settings.SPOOL_DIR.glob("*/*/*.dcm")
    content = path.read_bytes()
    meta = dcmread(BytesIO(content)).file_meta
    assert meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert (meta.SourceApplicationEntityTitle, meta.SendingApplicationEntityTitle) == ("SENDER", "SENDER")
    assert meta.ReceivingApplicationEntityTitle == "DICOMSYS"
    assert dcmread(BytesIO(content)) == dataset
    assoc.release()


def test_a_batch_is_closed_and_published_when_the_association_ends_or_gets_old(start_receiver):
    receiver = start_receiver()
    assoc = associate(receiver)
    assoc.send_c_store(ct_dataset())
    wait_for(lambda: len(receiver.published) == 1)  # 100 ms old, association still open
    assoc.send_c_store(ct_dataset())
    assoc.release()
    wait_for(lambda: len(receiver.published) == 2)
    assert sorted(Spool(settings.SPOOL_DIR).closed_batches()) == sorted(receiver.published)


def test_another_called_ae_title_is_refused(start_receiver):
    assoc = associate(start_receiver(), called="OTHER")
    assert assoc.is_rejected
    assert assoc.acceptor.primitive.diagnostic == 0x07


@pytest.mark.django_db
def test_unknown_callers_are_refused_where_only_known_stations_may_send(start_receiver, settings):
    settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS = False
    RemoteNode.objects.create(name="CT", ae_title="CT1", host="localhost", port=104)
    callers = AllowedCallers()
    callers._read()
    receiver = start_receiver(callers)

    assert associate(receiver, calling="STRANGER").is_rejected
    known = associate(receiver, calling="CT1")
    assert known.is_established
    known.release()


def test_a_nearly_full_disk_answers_out_of_resources_and_recovers(start_receiver):
    receiver = start_receiver(min_free_bytes=1 << 60)
    assoc = associate(receiver)
    assert assoc.send_c_store(ct_dataset()).Status == 0xA700
    assert not list(settings.SPOOL_DIR.glob("*/*/*"))

    receiver._spool.min_free_bytes = 0
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assoc.release()


def test_a_data_set_that_is_not_the_one_named_is_refused(start_receiver):
    assoc = associate(start_receiver())
    named, other = ct_dataset(), ct_dataset()
    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = named.SOPClassUID, named.SOPInstanceUID
    request.DataSet = BytesIO(encode(other))
    context = next(c for c in assoc.accepted_contexts if c.abstract_syntax == CTImageStorage)
    assoc._reactor_checkpoint.clear()  # else pynetdicom's own thread may take the answer
    assoc.dimse.send_msg(request, context.context_id)
    _, answer = assoc.dimse.get_msg(block=True)
    assoc._reactor_checkpoint.set()
    assert answer.Status == 0xA900
    assert not list(settings.SPOOL_DIR.glob("*/*/*"))
    assoc.release()


def test_a_disk_error_while_closing_a_batch_ends_nothing(start_receiver, monkeypatch):
    receiver = start_receiver()
    assoc = associate(receiver)

    def fail(folder):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(receiver._spool, "finish", fail)
        assert assoc.send_c_store(ct_dataset()).Status == 0x0000
        time.sleep(0.5)
    assert assoc.send_c_store(ct_dataset()).Status == 0x0000
    assoc.release()
    wait_for(lambda: len(receiver.published) == 1)
    assert len(list(settings.SPOOL_DIR.glob("*/*/*.dcm"))) == 2


def test_a_killed_publisher_is_replaced_and_works(monkeypatch):
    publisher = Publisher()
    try:
        first = publisher._process
        time.sleep(3)  # it waits for names and holds the queue's lock
        os.kill(first.pid, signal.SIGKILL)
        first.join(10)
        publisher.restart_if_dead()
        assert publisher._process.pid != first.pid
        publisher.publish("1.aabbccdd-9")
        wait_for(lambda: publisher._names.qsize() == 0, 20)
    finally:
        publisher.stop()


def test_private_sop_classes_and_syntaxes_are_kept_as_received(start_receiver):
    dataset = ct_dataset(SOPClassUID="1.2.3.4.5.6.7")
    assoc = associate(start_receiver(), contexts=["1.2.3.4.5.6.7"])
    assert assoc.send_c_store(dataset).Status == 0x0000
    assoc.release()


def test_eight_senders_at_once_lose_nothing(start_receiver):
    receiver, lots = start_receiver(), [series_of(20) for _ in range(8)]
    statuses = []

    def send(lot):
        assoc = associate(receiver)
        statuses.extend(assoc.send_c_store(dataset).Status for dataset in lot)
        assoc.release()

    threads = [threading.Thread(target=send, args=(lot,)) for lot in lots]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert statuses == [0x0000] * 160
    spooled = {dcmread(path).SOPInstanceUID for path in settings.SPOOL_DIR.glob("*/*/*.dcm")}
    assert spooled == {dataset.SOPInstanceUID for lot in lots for dataset in lot}


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.0\r\n\r\n", b"\x01\x00\x00\x00\x00\x04abcd", b"\xff" * 64, b""])
def test_garbage_on_the_port_disturbs_nobody(start_receiver, garbage):
    receiver = start_receiver()
    with socket.create_connection(("127.0.0.1", receiver.port)) as stranger:
        stranger.sendall(garbage)
        assoc = associate(receiver)
        assert assoc.send_c_echo().Status == 0x0000
        assoc.release()


def test_a_sender_that_vanishes_leaves_what_was_acknowledged(start_receiver):
    receiver = start_receiver()
    assoc = associate(receiver)
    assoc.send_c_store(ct_dataset())
    assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    wait_for(lambda: len(receiver.published) == 1)


@needs_dcmtk
def test_storescu_and_echoscu_are_served(start_receiver, tmp_path):
    receiver, datasets = start_receiver(), series_of(5)
    for dataset in datasets:
        dataset.save_as(tmp_path / f"{dataset.InstanceNumber}.dcm", enforce_file_format=True)
    words = ["-aec", "DICOMSYS", "127.0.0.1", str(receiver.port)]

    subprocess.run(["/usr/bin/echoscu", *words], check=True)
    subprocess.run(["/usr/bin/storescu", "+sd", *words, tmp_path], check=True)

    wait_for(lambda: receiver.published)
    bodies = [path.read_bytes() for path in settings.SPOOL_DIR.glob("*/*/*.dcm")]
    assert len(bodies) == 5
    assert all(any(body.endswith(encode(dataset)) for body in bodies) for dataset in datasets)
