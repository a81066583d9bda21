"""The processes beside each other: two beats, a broker that goes away, an administrator's schedule."""

import os
import subprocess
import sys
import time

import psycopg
import pytest
from django.conf import settings
from pydicom.dataset import Dataset
from pynetdicom import AE

from tests.peers import STUDY_ROOT_FIND
from tests.system.conftest import bare_environment, wait_until


@pytest.fixture
def second_beat(system):
    environment = bare_environment() | {"DICOMSYS_ENV_FILE": str(system.folder / "env"), "PYTHONUNBUFFERED": "1"}
    log = (system.folder / "log" / "second-beat.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.beat"], cwd=settings.BASE_DIR, env=environment, stderr=log, stdout=log
    )
    yield process
    process.kill()
    process.wait()


def test_of_two_beats_one_works_and_the_other_takes_over(system, second_beat):
    log = system.folder / "log" / "second-beat.log"
    time.sleep(4)
    assert "leader in beat" not in log.read_text()

    for _ in range(20):  # the supervisor's own new beat competes for the lock
        if "leader in beat" in log.read_text():
            break
        system.kill("beat")
        time.sleep(2)
    assert "leader in beat" in log.read_text()
    wait_until(lambda: "Sending due task" in log.read_text(), 40, "the second beat asks for work")


def test_an_administrators_schedule_survives_prepare(system):
    name = "maintenance.prune_outbox"
    script = (
        "from django_celery_beat.models import PeriodicTask;"
        f"PeriodicTask.objects.filter(name='{name}').update(enabled=False, description='changed')"
    )
    assert system.manage("shell", "-c", script).returncode == 0
    assert system.manage("prepare").returncode == 0
    rows = system.query("SELECT enabled, description FROM django_celery_beat_periodictask WHERE name = %s", name)
    assert rows == [(False, "changed")]


def test_work_asked_for_while_the_broker_is_away_is_done_when_it_is_back(system):
    os.kill(system.pid("rabbitmq"), 9)
    system.manage("shell", "-c", "from apps.core.queue import enqueue; enqueue('maintenance.sweep_spool')")
    wait_until(lambda: unsent(system) == 0, 90, "the relay has published the row")


def unsent(system) -> int:
    try:
        return system.query("SELECT count(*) FROM core_outbox WHERE sent_at IS NULL")[0][0]
    except psycopg.OperationalError:
        return -1


def test_killed_services_come_back_and_are_found_through_the_dicom_port(system):
    assert last_status_of_a_search(system) == 0x0000
    first = system.pid("services")
    system.kill("services")
    wait_until(lambda: system.pid("services") not in (first, None), 60, "another process has started")
    wait_until(lambda: last_status_of_a_search(system) == 0x0000, 60, "it answers at the same place")


def last_status_of_a_search(system) -> int | None:
    host, port, ae_title = system.dicom
    ae = AE(ae_title="SEARCHER")
    ae.add_requested_context(STUDY_ROOT_FIND)
    assoc = ae.associate(host, port, ae_title=ae_title)
    if not assoc.is_established:
        return None
    request = Dataset()
    request.QueryRetrieveLevel, request.StudyInstanceUID, request.PatientID = "STUDY", "", "NOBODY"
    statuses = [status.get("Status") for status, _ in assoc.send_c_find(request, STUDY_ROOT_FIND)]
    assoc.release()
    return statuses[-1]
