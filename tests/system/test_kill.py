"""SIGKILL of every process under load: what a sender was told is stored, once, and unchanged."""

import contextlib
import random
import threading
import time
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from apps.storage.paths import instance_path
from tests.dicom import encode, series_of
from tests.system.conftest import wait_until

PROCESSES = ("receiver", "worker-ingest", "relay", "web", "beat", "postgresql", "rabbitmq")
INSTANCES, SENDERS = 1000, 4


class Sender(threading.Thread):
    """Sends its lot, again and again what got no answer, and writes down each UID that was answered 0x0000."""

    def __init__(self, dicom, lot) -> None:
        super().__init__()
        self.dicom, self.lot = dicom, lot
        self.acknowledged: set[str] = set()
        self.may_end = threading.Event()

    def run(self) -> None:
        host, port, ae_title = self.dicom
        while not (self.may_end.is_set() and len(self.acknowledged) == len(self.lot)):
            ae = AE(ae_title="LOADTEST")
            ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = 10
            ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
            assoc = ae.associate(host, port, ae_title=ae_title)
            if assoc.is_established:
                self._send(assoc)
                assoc.release()
            time.sleep(0.3)

    def _send(self, assoc) -> None:
        waiting = [dataset for dataset in self.lot if dataset.SOPInstanceUID not in self.acknowledged]
        # all sent, but the kills go on: duplicates keep ingest under load
        for dataset in waiting or random.sample(self.lot, 25):
            if not assoc.is_established:
                return
            try:
                status = assoc.send_c_store(dataset)
            except (RuntimeError, ValueError):
                return
            if status.get("Status") == 0x0000:
                self.acknowledged.add(str(dataset.SOPInstanceUID))
            time.sleep(0.02)


@pytest.fixture(scope="module")
def load(system):
    """1,000 instances sent while each process is killed twice; then the senders, after all have come back."""
    lots = [series_of(INSTANCES // SENDERS, PatientID=f"KILL{n}") for n in range(SENDERS)]
    senders = [Sender(system.dicom, lot) for lot in lots]
    for sender in senders:
        sender.start()
    for name in PROCESSES * 2:
        time.sleep(1.5)
        system.kill(name)
    for sender in senders:
        sender.may_end.set()
    for sender in senders:
        sender.join(180)
        assert not sender.is_alive(), "the instance does not take what is left"
    return senders


def stored_instances(system) -> list[tuple]:
    return system.query(
        "SELECT i.sop_instance_uid, i.dataset_sha256, i.file_sha256, r.series_instance_uid, s.study_instance_uid,"
        " v.root"
        " FROM archive_instance i JOIN archive_series r ON r.id = i.series_id JOIN archive_study s ON s.id = r.study_id"
        " JOIN storage_volume v ON v.id = i.volume_id JOIN archive_patient p ON p.id = s.patient_id"
        " WHERE p.patient_id LIKE 'KILL%'"
    )


def count_stored(system) -> int:
    try:
        return len(stored_instances(system))
    except psycopg.OperationalError:
        return -1


def test_what_was_acknowledged_is_stored_once_and_unchanged(system, load):
    acknowledged = set().union(*(sender.acknowledged for sender in load))
    assert len(acknowledged) == INSTANCES
    wait_until(lambda: count_stored(system) >= INSTANCES, 90, "every acknowledged instance is in the tables")

    rows = stored_instances(system)
    digests = {str(d.SOPInstanceUID): sha256(encode(d)).digest() for sender in load for d in sender.lot}
    assert {row[0] for row in rows} == acknowledged
    assert len(rows) == len(acknowledged)
    for uid, dataset_sha256, file_sha256, series_uid, study_uid, root in rows:
        assert dataset_sha256 == digests[uid]
        stored = (Path(root) / instance_path(study_uid, series_uid, uid)).read_bytes()
        assert sha256(stored).digest() == file_sha256


def test_the_counters_are_exact_and_nothing_was_kept_aside(system, load):
    counts = system.query(
        "SELECT s.instance_count, s.series_count FROM archive_study s JOIN archive_patient p ON p.id = s.patient_id"
        " WHERE p.patient_id LIKE 'KILL%'"
    )
    assert counts == [(INSTANCES // SENDERS, 1)] * SENDERS
    assert system.query("SELECT count(*) FROM archive_conflict") == [(0,)]


def test_no_file_is_left_over(system, load):
    wait_until(lambda: not list((system.folder / "data/spool/closed").iterdir()), 60, "the spool is empty")
    files = list((system.folder / "data/store").rglob("*.dcm"))
    assert len(files) == system.query("SELECT count(*) FROM archive_instance")[0][0]


def test_the_doctor_finds_nothing_wrong_afterwards(system, load):
    last = None

    def is_well() -> bool:
        nonlocal last
        last = system.manage("doctor")
        return last.returncode == 0

    with contextlib.suppress(AssertionError):
        wait_until(is_well, 60, "the doctor is content")
    assert "nothing is wrong" in last.stdout, last.stdout
