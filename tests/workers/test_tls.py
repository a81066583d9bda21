"""DICOM TLS with DCMTK and OpenSSL: who is let in, and a certificate that is renewed under way."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from cryptography import x509

from dicomsys.evaluation.certificates import ensure_certificates
from tests.dicom import ct_dataset, encode, series_of
from tests.dimse import RawScu, store
from tests.peers import wait_until
from workers.receiver.tls import TlsContexts, pump

needs_dcmtk = pytest.mark.skipif(not Path("/usr/bin/storescu").exists(), reason="DCMTK's storescu is not installed")


@pytest.fixture
def keys(tmp_path):
    """A folder with a certificate authority, two server certificates and one of a client."""
    folder = tmp_path / "keys"
    folder.mkdir()
    ensure_certificates(folder)
    return folder


@pytest.fixture
def contexts(keys):
    return TlsContexts(keys / "postgresql.crt", keys / "postgresql.key", keys / "ca.crt")


def dcmtk(program, keys, port, *words, client="client"):
    own = ["+tls", keys / f"{client}.key", keys / f"{client}.crt"] if client else ["+tla"]
    command = [f"/usr/bin/{program}", *own, "+cf", keys / "ca.crt", "-aec", "DICOMSYS", "127.0.0.1", str(port), *words]
    return subprocess.run(command, capture_output=True, timeout=60)


@needs_dcmtk
def test_storescu_with_a_certificate_is_served(start_receiver, keys, contexts, tmp_path):
    receiver, datasets = start_receiver(tls=contexts), series_of(5)
    for dataset in datasets:
        dataset.save_as(tmp_path / f"{dataset.InstanceNumber}.dcm", enforce_file_format=True)
    done = dcmtk("storescu", keys, receiver.port, *sorted(tmp_path.glob("*.dcm")))
    assert done.returncode == 0, done.stderr
    bodies = [path.read_bytes() for path in receiver.files()]
    assert sorted(body[-500:] for body in bodies) == sorted(encode(dataset)[-500:] for dataset in datasets)
    assert receiver.desk.rules.asked[0][0].is_tls


@needs_dcmtk
def test_a_caller_without_a_certificate_is_turned_away_where_one_is_wanted(start_receiver, keys, contexts):
    receiver = start_receiver(tls=contexts)
    assert dcmtk("echoscu", keys, receiver.port, client=None).returncode != 0
    assert dcmtk("echoscu", keys, receiver.port).returncode == 0
    wait_until(lambda: receiver.desk.slots.counts() == (0, 0))


@needs_dcmtk
def test_a_caller_needs_no_certificate_where_none_is_wanted(start_receiver, keys):
    receiver = start_receiver(tls=TlsContexts(keys / "postgresql.crt", keys / "postgresql.key", None))
    assert dcmtk("echoscu", keys, receiver.port, client=None).returncode == 0


def test_old_tls_versions_are_refused_and_plain_callers_hurt_nobody(start_receiver, keys, contexts):
    receiver = start_receiver(tls=contexts)
    with RawScu(receiver.port) as plain:
        plain.send(b"\x01\0\0\0\0\x04abcd")
        assert plain.read_pdu()[:1] in (b"", b"\x15")  # a TLS alert, perhaps
    old = client_context(keys)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with RawScu(receiver.port) as scu, pytest.raises((ssl.SSLError, OSError)):
        old.wrap_socket(scu.socket, server_hostname="localhost")
    assert serial_seen(receiver, keys) == serial_of(keys / "postgresql.crt")


def client_context(keys) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=keys / "ca.crt")
    context.load_cert_chain(keys / "client.crt", keys / "client.key")
    return context


def connect(receiver, keys) -> RawScu:
    scu = RawScu(receiver.port)
    scu.socket = client_context(keys).wrap_socket(scu.socket, server_hostname="localhost")
    return scu


def serial_seen(receiver, keys) -> int:
    with connect(receiver, keys) as scu:
        return x509.load_der_x509_certificate(scu.socket.getpeercert(binary_form=True)).serial_number


def serial_of(certificate: Path) -> int:
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


def test_a_renewed_certificate_is_used_without_dropping_open_associations(start_receiver, keys, contexts, monkeypatch):
    monkeypatch.setattr("workers.receiver.tls.LOOK_S", 0.0)
    receiver, dataset = start_receiver(tls=contexts), ct_dataset()
    with connect(receiver, keys) as before:
        before.associate()
        (keys / "postgresql.crt").write_bytes(b"half of a")  # a renewal that is under way
        assert serial_seen(receiver, keys)
        shutil.copy(keys / "rabbitmq.key", keys / "postgresql.key")
        shutil.copy(keys / "rabbitmq.crt", keys / "fresh.crt")
        (keys / "fresh.crt").replace(keys / "postgresql.crt")
        assert serial_seen(receiver, keys) == serial_of(keys / "rabbitmq.crt")
        before.send(store(encode(dataset), dataset.SOPInstanceUID))
        assert before.read_status() == 0x0000


def test_a_silent_caller_of_the_tls_port_is_given_up(start_receiver, contexts):
    from workers.receiver.association import Timeouts

    receiver = start_receiver(tls=contexts, timeouts=Timeouts(0.5, 10, 10))
    with RawScu(receiver.port) as scu:
        assert scu.read_pdu() == b""
    wait_until(lambda: receiver.desk.slots.counts() == (0, 0))


def test_files_that_fit_no_key_stop_the_start(keys):
    with pytest.raises(ssl.SSLError):
        TlsContexts(keys / "postgresql.crt", keys / "client.key", None)
    with pytest.raises(FileNotFoundError):
        TlsContexts(keys / "missing.crt", keys / "client.key", None)


# --- Carrying bytes to the other services


@pytest.fixture
def pairs():
    ends = [*socket.socketpair(), *socket.socketpair()]
    yield ends
    for end in ends:
        end.close()


def test_a_service_that_reads_nothing_holds_nobody(pairs):
    _, outside, inside, _ = pairs
    began = time.monotonic()
    pump(outside, inside, bytes(2_000_000), 0.5, lambda: False)
    assert time.monotonic() - began < 5


def test_a_peer_that_pauses_loses_nothing(pairs):
    peer, outside, inside, service = pairs
    carried = threading.Thread(target=pump, args=(outside, inside, b"first", 20, lambda: False))
    carried.start()
    assert service.recv(100) == b"first"
    answering = threading.Thread(target=service.sendall, args=(bytes(3_000_000),))
    answering.start()
    time.sleep(1.6)  # longer than the tick, shorter than the patience
    peer.settimeout(10)
    received = 0
    while received < 3_000_000:
        received += len(peer.recv(100_000))
    peer.shutdown(socket.SHUT_WR)
    answering.join(10)
    carried.join(10)
    assert not carried.is_alive()
