"""The ingest worker: closed batches of the spool to rows and stored files, and what one instance costs.

    ./check --bench store [--rounds 3] [--large] [--only "5 kB"]

Batches are laid into the spool as the receiver lays them (50 files or 5 MB each). They are stored by workers that are
processes of their own: one that takes each batch as it comes, one that finds all of them waiting, four that share them.
Each run sends one study. CPU is what counts: user and system of the worker, and of its PostgreSQL backend.
--large fills the tables with 1,000,000 patients and 5,000,000 studies before, which takes minutes.
"""

import argparse
import logging
import multiprocessing
import os
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import NamedTuple

import django
from django.conf import settings
from pydicom.uid import generate_uid

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")
django.setup()

from django.db import connection  # noqa: E402
from django.db.backends.utils import CursorWrapper  # noqa: E402
from django.db.models import Model  # noqa: E402

from apps.archive.ingest import store_batch  # noqa: E402
from apps.archive.models import Instance, Series, Study  # noqa: E402
from apps.storage.models import Volume  # noqa: E402
from apps.storage.spool import BATCH_BYTES, BATCH_FILES, Spool  # noqa: E402
from tests.benchmarks import report  # noqa: E402
from tests.benchmarks.database import as_owner, cpu_s, own_database  # noqa: E402
from tests.dicom import ct_dataset, part10  # noqa: E402

SIZES = {"5 kB": (48, 2000), "512x512x16": (512, 400)}  # rows and columns, instances a run
LARGE = (1_000_000, 5_000_000)  # patients, studies


class Cost(NamedTuple):
    """What one run took."""

    instances: int
    wall_s: float
    worker_s: float
    backend_s: float


def make_files(side_px: int, count: int) -> list[bytes]:
    """CT images of one new study and series, as the receiver writes them."""
    dataset = ct_dataset(
        ImageType=["ORIGINAL", "PRIMARY", "AXIAL"],
        Manufacturer="SYNTHETIC",
        InstitutionName="Test Clinic",
        BodyPartExamined="CHEST",
        KVP="120",
        SliceThickness="1.25",
        PatientPosition="HFS",
        ImagePositionPatient=["-179.5", "-179.5", "-120.500"],
        ImageOrientationPatient=["1", "0", "0", "0", "1", "0"],
        FrameOfReferenceUID=generate_uid(),
        PixelSpacing=["0.7", "0.7"],
        Rows=side_px,
        Columns=side_px,
        RescaleIntercept="-1024",
        RescaleSlope="1",
        PixelData=os.urandom(2 * side_px * side_px),
        SOPInstanceUID="1.2.826.0.1.3680043.8.498." + "7" * 38,
        PatientID=f"P{generate_uid()[-12:]}",
    )
    content = part10(dataset)
    uids = ("2.25." + f"{int.from_bytes(os.urandom(16), 'big'):039}".ljust(59, "0")[:59] for _ in range(count))
    return [content.replace(dataset.SOPInstanceUID.encode(), uid.encode()) for uid in uids]


def lay(files: list[bytes]) -> list[str]:
    """Names of the closed batches."""
    spool, names, batch = Spool(settings.SPOOL_DIR), [], None
    for number, content in enumerate(files, 1):
        batch = batch or spool.open_batch()
        batch.write((content,))
        in_batch = len(batch.files())
        if number == len(files) or in_batch >= BATCH_FILES or in_batch * len(content) >= BATCH_BYTES:
            names.append(str(batch.close()))
            batch = None
    return names


# --- Workers


def work(pipe: Connection) -> None:
    """Store the batches that are named, and say what it cost."""
    while names := pipe.recv():
        connection.ensure_connection()
        backend = connection.connection.info.backend_pid
        cpu, backend_cpu = process_time(), cpu_s(backend)
        for name in names:
            store_batch(name)
        pipe.send((process_time() - cpu, cpu_s(backend) - backend_cpu))


class Workers:
    """Processes that wait for names of batches."""

    def __init__(self, count: int) -> None:
        connection.close()
        self._pipes: list[Connection] = []
        for _ in range(count):
            ours, theirs = multiprocessing.Pipe()
            multiprocessing.get_context("fork").Process(target=work, args=(theirs,), daemon=True).start()
            self._pipes.append(ours)

    def store(self, names: list[str]) -> tuple[float, float]:
        """CPU seconds of the workers and of their backends; each worker has every so manieth batch."""
        lots = [names[start :: len(self._pipes)] for start in range(len(self._pipes))]
        busy = [(pipe, lot) for pipe, lot in zip(self._pipes, lots, strict=True) if lot]
        for pipe, lot in busy:
            pipe.send(lot)
        costs = [pipe.recv() for pipe, _ in busy]
        return sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)

    def end(self) -> None:
        """They end by themselves."""
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send([])


def as_they_come(workers: Workers, files: list[bytes]) -> list[float]:
    """Each batch is there alone: wall, worker and backend seconds."""
    step = max(1, min(BATCH_FILES, BATCH_BYTES // len(files[0]) + 1))
    total = [0.0, 0.0, 0.0]
    for start in range(0, len(files), step):
        names = lay(files[start : start + step])
        began = perf_counter()
        cost = (*workers.store(names), perf_counter() - began)
        total = [total[0] + cost[2], total[1] + cost[0], total[2] + cost[1]]
    return total


def all_at_once(workers: Workers, files: list[bytes]) -> list[float]:
    """All batches wait."""
    names = lay(files)
    began = perf_counter()
    cost = workers.store(names)
    return [perf_counter() - began, *cost]


def run(workers: Workers, way: Callable[[Workers, list[bytes]], list[float]], files: list[bytes]) -> Cost:
    """One new study, after one batch of it that is not counted; everything must be there in the end."""
    workers.store(lay(files[:20]))
    files = files[20:]
    wall_s, worker_s, backend_s = way(workers, files)
    study = Study.objects.latest("id")
    stored = Instance.objects.filter(series__study=study).count()
    assert stored == study.instance_count == len(files) + 20, f"{stored} stored, {study.instance_count} counted"
    return Cost(len(files), wall_s, worker_s, backend_s)


# --- Figures


WAYS = {"one by one": (1, as_they_come), "waiting, 1 worker": (1, all_at_once), "waiting, 4 workers": (4, all_at_once)}


def measure(rounds: int, only: str) -> None:
    """All ways side by side, round by round; medians."""
    costs: dict[str, list[Cost]] = {}
    for _ in range(rounds):
        for size, (side_px, count) in SIZES.items():
            for way, (processes, store) in WAYS.items():
                if only in f"{size}, {way}":
                    workers = Workers(processes)
                    costs.setdefault(f"{size}, {way}", []).append(run(workers, store, make_files(side_px, count + 20)))
                    workers.end()
    for name, taken in costs.items():
        report(f"{name}: stored", median(cost.instances / cost.wall_s for cost in taken), "instances/s")
        report(f"{name}: worker", median(cost.worker_s / cost.instances for cost in taken) * 1e3, "ms CPU")
        report(f"{name}: its backend", median(cost.backend_s / cost.instances for cost in taken) * 1e3, "ms CPU")


def fill(patients: int, studies: int) -> None:
    """So many patients and studies, each with one series; all other columns as ingest fills them."""
    store_batch(lay(make_files(8, 1))[0])
    series = Series.objects.select_related("study__patient").get()
    with as_owner(), connection.cursor() as cursor:
        first = _multiply(cursor, series.study.patient, patients, patient_id="'B' || n", name_search="'name' || n")
        patient = f"{first} + n % {patients}"
        first = _multiply(cursor, series.study, studies, study_instance_uid="'2.25.7' || n", patient_id=patient)
        _multiply(cursor, series, studies, series_instance_uid="'2.25.8' || n", study_id=f"{first} + n - 1")
        cursor.execute("ANALYZE archive_patient, archive_study, archive_series")


def _multiply(cursor: CursorWrapper, row: Model, count: int, **changes: str) -> int:
    """Copies of a row with some columns replaced by expressions of n; returns the first key."""
    columns = [field.column for field in row._meta.concrete_fields if not field.primary_key]
    values = ", ".join(changes.get(column, f't."{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    cursor.execute(f"SELECT max(id) + 1 FROM {row._meta.db_table}")
    (first,) = cursor.fetchone()
    cursor.execute(
        f"INSERT INTO {row._meta.db_table} (id, {names}) SELECT {first} - 1 + n, {values}"
        f" FROM {row._meta.db_table} AS t, generate_series(1, {count}) AS n WHERE t.id = {row.pk}"
    )
    cursor.execute(f"SELECT setval(pg_get_serial_sequence('{row._meta.db_table}', 'id'), {first + count})")
    return first


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=float, nargs="?", const=1, help="so many times 1 M patients and 5 M studies")
    parser.add_argument("--only", default="", help="a part of the name of the runs that are wanted")
    words = parser.parse_args()
    logging.disable(logging.INFO)
    with own_database(), TemporaryDirectory() as folder:
        settings.DATA_DIR = Path(folder)
        settings.SPOOL_DIR, settings.QUARANTINE_DIR = settings.DATA_DIR / "spool", settings.DATA_DIR / "quarantine"
        (settings.DATA_DIR / "store").mkdir()
        Volume.objects.create(name="first", root=str(settings.DATA_DIR / "store"))
        if words.large:
            began = perf_counter()
            fill(*(int(words.large * count) for count in LARGE))
            report(f"{words.large:g} M patients and {5 * words.large:g} M studies made", perf_counter() - began, "s")
        measure(words.rounds, words.only)


if __name__ == "__main__":
    main()
