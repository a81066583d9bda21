"""A busy hospital's day in a quarter of an hour: 60,000 instances of 128 kB, memory flat. By name: `-m soak`."""

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.lots import COMPRESSED, Template, fresh_uid
from tests.processes import cpu_s, memory_bytes
from tests.system.conftest import wait_until
from tests.wire import Sender

pytestmark = pytest.mark.soak

INSTANCES, SENDERS, SERIES_LENGTH = 60_000, 6, 100
LIMIT_S = 900
SAMPLE_S = 10.0
NEEDED_FREE_BYTES = 3 * INSTANCES * 131_072
GROWTH = 1.10  # from the second quarter of the run to the last
GROWTH_BYTES = 24_000_000
WATCHED = ("receiver", "services", "worker-ingest", "relay", "beat", "web", "worker-maintenance")


class Hospital:
    """Senders that share out a day's series."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent: dict[str, str] = {}  # SOP Instance UID → Study Instance UID
        self.errors: list[str] = []
        self._left = INSTANCES // SERIES_LENGTH
        self._lock = threading.Lock()
        self.threads = [threading.Thread(target=self._send, args=(number,)) for number in range(SENDERS)]

    def _takes_one(self) -> bool:
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _send(self, number: int) -> None:
        template = Template(COMPRESSED, f"SOAK{number}")
        try:
            while self._takes_one():
                study, series = fresh_uid(), fresh_uid()
                with Sender(self.port, calling=f"CT{number}", fragment_bytes=131_000, timeout_s=60) as sender:
                    for at in range(SERIES_LENGTH):
                        uid = fresh_uid()
                        status = sender.store(uid, template.data_set(study, series, uid, at + 1))
                        assert status == 0x0000, f"answered 0x{status:04X}"
                        self.sent[uid] = study
        except Exception as error:
            self.errors.append(repr(error))


@dataclass(frozen=True)
class Sample:
    """At one moment."""

    at_s: float
    sent: int
    stored: int
    memory: dict[str, int]


def count_stored(system) -> int:
    try:
        return system.query("SELECT coalesce(sum(instance_count), 0) FROM archive_study")[0][0]
    except psycopg.OperationalError:
        return -1


@pytest.fixture(scope="module")
def day(system):
    """The samples of the whole run, and the senders."""
    if shutil.disk_usage(system.folder).free < NEEDED_FREE_BYTES:
        pytest.skip(f"needs {NEEDED_FREE_BYTES / 1e9:.0f} GB of free disk")
    hospital, samples, already = Hospital(system.dicom[1]), [], count_stored(system)
    pids = {name: pid for name in WATCHED if (pid := pid_of(system, name))}
    used, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
    for thread in hospital.threads:
        thread.start()
    while time.monotonic() - began < LIMIT_S:
        memory = {name: memory_bytes(pid) for name, pid in pids.items()}
        samples.append(Sample(time.monotonic() - began, len(hospital.sent), count_stored(system) - already, memory))
        if samples[-1].stored >= INSTANCES or hospital.errors:
            break
        time.sleep(SAMPLE_S)
    for thread in hospital.threads:
        thread.join(120)
    return hospital, samples, {name: cpu_s(pid) - used[name] for name, pid in pids.items()}


def pid_of(system, name: str) -> int | None:
    try:
        return system.pid(name)
    except KeyError:
        return None


def quarters(samples: list[Sample], name: str) -> tuple[float, float]:
    """The most memory in the second and in the last quarter of the run."""
    sizes = [sample.memory[name] for sample in samples]
    quarter = max(len(sizes) // 4, 1)
    return max(sizes[quarter : 2 * quarter] or sizes), max(sizes[-quarter:])


def test_a_days_work_is_stored_within_a_quarter_of_an_hour_and_memory_stays_flat(system, day, capsys):
    hospital, samples, used = day
    last = samples[-1]
    with capsys.disabled():
        print(f"\nsoak: {last.stored} stored in {last.at_s:.0f} s, {last.stored / last.at_s:.0f}/s")
        for sample in samples[:: max(len(samples) // 12, 1)]:
            sizes = ", ".join(f"{name} {size / 1e6:.0f}" for name, size in sample.memory.items())
            print(f"  {sample.at_s:4.0f} s: sent {sample.sent}, stored {sample.stored}; MB: {sizes}")
        print("  cpu, ms an instance: " + ", ".join(f"{name} {s / last.stored * 1000:.2f}" for name, s in used.items()))
    assert hospital.errors == []
    assert last.stored == len(hospital.sent) == INSTANCES
    assert last.at_s < LIMIT_S
    for name in used:
        early, late = quarters(samples, name)
        assert late <= max(early * GROWTH, early + GROWTH_BYTES), f"{name} grew from {early} to {late} bytes"


def test_nothing_is_left_in_the_spool_and_the_files_are_as_many_as_the_rows(system, day):
    spool = system.folder / "data" / "spool"
    wait_until(lambda: not list(spool.glob("*/*/*.dcm")), 120, "the spool is empty")
    roots = [Path(root) for (root,) in system.query("SELECT root FROM storage_volume")]
    files = sum(1 for root in roots for _ in root.rglob("*.dcm"))
    assert files == system.query("SELECT count(*) FROM archive_instance")[0][0]
