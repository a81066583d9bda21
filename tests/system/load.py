"""Senders that remember what they were told, and the comparison of that with what is stored."""

import contextlib
import random
import threading
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import psycopg

from apps.storage.paths import instance_path
from tests.lots import CT, SMALL, Template, fresh_uid
from tests.system.conftest import System, wait_until
from tests.wire import GoneError, Sender

DUPLICATES = 20  # of a hundred objects
ARRIVES_S = 120


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
        self.may_end = threading.Event()  # once all is answered
        self.gives_up = threading.Event()
        self.refused: list[int] = []
        self._random = random.Random(seed)
        self._count = 0

    def run(self) -> None:
        while not self._is_done():
            with contextlib.suppress(OSError, GoneError), Sender(self.port, timeout_s=10) as sender:
                self._send(sender)
            time.sleep(0.1)

    def _is_done(self) -> bool:
        return self.gives_up.is_set() or (self.may_end.is_set() and not self.series.unanswered)

    def _send(self, sender: Sender) -> None:
        for _ in range(self._random.randrange(1, 60)):
            if self._is_done():
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


def compare(system: System, all_series: list[Series]) -> int:
    """Every acknowledged instance is stored once, with the bytes that were sent; returns how many there are."""
    sent = {uid: (series, number) for series in all_series for uid, number in series.acknowledged.items()}
    assert len(sent) > len(all_series)
    wait_until(
        lambda: count_stored(system, set(sent)) == len(sent), ARRIVES_S, "every acknowledged instance is in the tables"
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
    return len(sent)
