"""SIGKILL in the midst of the work: nothing is lost, nothing is made twice, and the file is whole."""

import os
import signal
import time

import pytest
from django.db import connection

from apps.films.raster import raster_sha256, read_raster
from apps.printing.services import run_printer
from apps.storage.blobs import open_blob
from tests.printing.conftest import states
from tests.printing.test_run_printer import lapse

pytestmark = pytest.mark.django_db(transaction=True)


def kill_worker_after(seconds: float, printer_id: int) -> None:
    connection.close()
    worker = os.fork()
    if worker == 0:
        try:
            run_printer(printer_id)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)


def test_killed_workers_lose_nothing(make_job, printer):
    job = make_job(6)
    for milliseconds in (2, 30, 60, 90, 120, 150, 200, 250):
        kill_worker_after(milliseconds / 1000, printer.pk)
        lapse(job)
    deadline = time.monotonic() + 20
    while set(states(job)) != {"PRINTED"} and time.monotonic() < deadline:
        run_printer(printer.pk)  # the server may still be freeing the dead worker's lock
    assert states(job) == ["PRINTED"] * 6
    job.refresh_from_db()
    with open_blob(job.document) as file:
        assert file.read().count(b"/Subtype /Image") == 6
    for row in job.sheet_prints.select_related("raster"):
        with open_blob(row.raster.blob) as file:
            assert raster_sha256(read_raster(file).pixels()) == row.raster.sha256
