"""SIGKILL of every process under load: what a sender was told is stored, once, and unchanged.

`--kill-rounds 100` for the long run; the moments and the victims are random, the same for the same `--seed`.
"""

import contextlib
import os
import random
import signal
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest

from apps.storage.paths import instance_path
from tests.lots import CT, SMALL, Template, fresh_uid
from tests.processes import tree
from tests.system.conftest import wait_until
from tests.wire import GoneError, Sender

PROCESSES = ("receiver", "a child of the receiver", "worker-ingest", "relay", "postgresql", "rabbitmq", "web", "beat")
SENDERS = 4
LEAST, MOST_PAUSE_S = 0.3, 2.5
COMES_BACK_S = 120
DUPLICATES = 20  # of a hundred objects


@dataclass
class Series:
    """What one sender makes: its instances in the order in which they are sent."""

    number: int
    study_uid: str = field(default_factory=fresh_uid)
    series_uid: str = field(default_factory=fresh_uid)
    acknowledged: dict[str, int] = field(default_factory=dict)  # SOP Instance UID → instance number
    unanswered: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # small and large in turn, so that a kill also falls into the midst of an object
        self._templates = [Template(shape, f"KILL{self.number}") for shape in (SMALL, SMALL, SMALL, CT)]

    def data_set(self, uid: str, number: int) -> bytes:
        """The bytes that travel."""
        template = self._templates[number % len(self._templates)]
        return template.data_set(self.study_uid, self.series_uid, uid, number)


class Load(threading.Thread):
    """Sends until told to end, what got no answer again and again, and keeps each UID that was answered 0x0000."""

    def __init__(self, port: int, series: Series, seed: int) -> None:
        super().__init__()
        self.port, self.series = port, series
        self.may_end = threading.Event()
        self.refused: list[int] = []
        self._random = random.Random(seed)
        self._count = 0

    def run(self) -> None:
        while not (self.may_end.is_set() and not self.series.unanswered):
            with contextlib.suppress(OSError, GoneError), Sender(self.port, timeout_s=10) as sender:
                self._send(sender)
            time.sleep(0.1)

    def _send(self, sender: Sender) -> None:
        for _ in range(self._random.randrange(1, 60)):
            if self.may_end.is_set() and not self.series.unanswered:
                return
            uid, number = self._next()
            status = sender.store(uid, self.series.data_set(uid, number))
            if status == 0x0000:
                self.series.unanswered.pop(uid, None)
                self.series.acknowledged[uid] = number
            else:
                self.refused.append(status)
            time.sleep(0.01)

    def _next(self) -> tuple[str, int]:
        """What is still unanswered, sometimes a duplicate, else a new one."""
        if self.series.unanswered:
            return next(iter(self.series.unanswered.items()))
        if self.series.acknowledged and self._random.randrange(100) < DUPLICATES:
            return self._random.choice(list(self.series.acknowledged.items()))
        self._count += 1
        uid = fresh_uid()
        self.series.unanswered[uid] = self._count
        return uid, self._count


def kill(system, victim: str, chance: random.Random) -> None:
    """SIGKILL; the supervisor, or the receiver for its children, starts it again."""
    if victim != "a child of the receiver":
        system.kill(victim)
        return
    below = tree(system.pid("receiver") or -1)[1:]
    if below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(below), signal.SIGKILL)


@pytest.fixture(scope="module")
def load(system, pytestconfig):
    """Senders at work while processes are killed; then the senders, after all have come back."""
    rounds, seed = pytestconfig.getoption("kill_rounds"), pytestconfig.getoption("seed")
    senders = [Load(system.dicom[1], Series(number), seed + number) for number in range(SENDERS)]
    for sender in senders:
        sender.start()
    chance = random.Random(seed)
    victims = [PROCESSES[at % len(PROCESSES)] for at in range(rounds)]
    chance.shuffle(victims)
    for victim in victims:
        time.sleep(chance.uniform(LEAST, MOST_PAUSE_S))
        kill(system, victim, chance)
    for sender in senders:
        sender.may_end.set()
    for sender in senders:
        sender.join(COMES_BACK_S)
        assert not sender.is_alive(), "the instance does not take what is left"
    return senders


def stored_rows(system, all_series: list[Series]) -> list[tuple]:
    return system.query(
        "SELECT i.sop_instance_uid, i.dataset_sha256, i.file_sha256, r.series_instance_uid, s.study_instance_uid,"
        " v.root"
        " FROM archive_instance i JOIN archive_series r ON r.id = i.series_id JOIN archive_study s ON s.id = r.study_id"
        " JOIN storage_volume v ON v.id = i.volume_id WHERE s.study_instance_uid = ANY(%s)",
        [series.study_uid for series in all_series],
    )


def count_stored(system, uids: set[str]) -> int:
    try:
        rows = system.query("SELECT count(*) FROM archive_instance WHERE sop_instance_uid = ANY(%s)", sorted(uids))
    except psycopg.OperationalError:
        return -1
    return rows[0][0]


def test_what_was_acknowledged_is_stored_once_and_unchanged(system, load, capsys, pytestconfig):
    all_series = [sender.series for sender in load]
    sent = {uid: (series, number) for series in all_series for uid, number in series.acknowledged.items()}
    assert len(sent) > SENDERS
    wait_until(
        lambda: count_stored(system, set(sent)) == len(sent), 120, "every acknowledged instance is in the tables"
    )

    rows = stored_rows(system, all_series)
    assert {row[0] for row in rows} == set(sent)
    assert len(rows) == len(sent)
    for uid, dataset_sha256, file_sha256, series_uid, study_uid, root in rows:
        series, number = sent[uid]
        data_set = series.data_set(uid, number)
        assert dataset_sha256 == sha256(data_set).digest()
        stored = (Path(root) / instance_path(study_uid, series_uid, uid)).read_bytes()
        assert sha256(stored).digest() == file_sha256
        assert stored.endswith(data_set)
    with capsys.disabled():
        kills, refused = pytestconfig.getoption("kill_rounds"), sum(len(sender.refused) for sender in load)
        print(f"\n{kills} kills: {len(sent)} acknowledged, {len(rows)} stored, 0 lost, 0 twice; {refused} refused")


def test_the_counters_are_exact_and_nothing_was_kept_aside(system, load):
    for sender in load:
        counts = system.query(
            "SELECT instance_count, series_count FROM archive_study WHERE study_instance_uid = %s",
            sender.series.study_uid,
        )
        assert counts == [(len(sender.series.acknowledged), 1)]
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
