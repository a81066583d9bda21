"""SIGKILL of every process under load: what a sender was told is stored, once, and unchanged.

`--kill-rounds 100` for the long run; the moments and the victims are random, the same for the same `--seed`.
"""

import contextlib
import os
import random
import signal
import time

import pytest

from tests.processes import tree
from tests.system.conftest import wait_until
from tests.system.load import Load, Series, compare

PROCESSES = ("receiver", "a child of the receiver", "worker-ingest", "relay", "postgresql", "rabbitmq", "web", "beat")
SENDERS = 4
LEAST, MOST_PAUSE_S = 0.3, 2.5
COMES_BACK_S = 120


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


def test_what_was_acknowledged_is_stored_once_and_unchanged(system, load, capsys, pytestconfig):
    all_series = [sender.series for sender in load]
    count = compare(system, all_series)
    with capsys.disabled():
        kills, refused = pytestconfig.getoption("kill_rounds"), sum(len(sender.refused) for sender in load)
        print(f"\n{kills} kills: {count} acknowledged and stored, 0 lost, 0 twice, 0 changed; {refused} refused")


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
