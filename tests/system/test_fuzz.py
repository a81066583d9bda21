"""Malformed associations by the thousand: the receiver lives, leaks nothing, disturbs nobody and says little.

`--fuzz-cases 200000` for the long run, `--seed` for other ones.
"""

import os
import statistics
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings

from tests.dicom import ct_dataset
from tests.lots import SMALL, Template, fresh_uid
from tests.peers import system_program
from tests.system.fuzz import (
    PERSON,
    PERSON_ID,
    Case,
    Mutator,
    attack,
    broken_data_sets,
    made_associations,
    made_cases,
    recorded,
)
from tests.system.receiving import lone_receiver
from tests.wire import Sender

ATTACKERS = 8
END_LIMIT_S = 20.0  # of one connection, after we have said all
GOOD_LIMIT_S = 5.0  # for the good sender's slowest object, on a machine that does nothing but this
WARM_UP = 0.2  # of the cases, before the first measurement
UNSHARED_BYTES = 50_000_000  # pages that forked processes make their own, once
GROWTH_BYTES = 12_000_000  # of the second half of the run over the first: more is a leak
SPARE = 4  # descriptors and threads
BLOCK = 250
HYPOTHESIS_SHARE = 10
TIMES = {"DICOM_ACSE_TIMEOUT_S": "5", "DICOM_DIMSE_TIMEOUT_S": "5", "DICOM_NETWORK_TIMEOUT_S": "5"}


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    with lone_receiver(tmp_path_factory.mktemp("fuzz") / "r", **TIMES) as running:
        yield running


@pytest.fixture(scope="module")
def streams(receiver, tmp_path_factory):
    """What real senders said, what others may say, and the broken files as data sets."""
    path = tmp_path_factory.mktemp("fuzzed") / "one.dcm"
    ct_dataset(PatientName=PERSON, PatientID=PERSON_ID).save_as(path, enforce_file_format=True)
    with recorded(receiver.port) as proxy:
        where = ["-aec", "DICOMSYS", "127.0.0.1", str(proxy.port)]
        for words in (
            ["storescu", "-R"], ["storescu", "-pdu", "4096", "-xi"], ["storescu", "-xb"], ["dcmsend"], ["echoscu"],
        ):  # fmt: skip
            files = [] if words[0] == "echoscu" else [str(path)]
            command = [system_program(words[0], "dcmtk"), *words[1:], *where, *files]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        real = [bytes(stream) for stream in proxy.streams]
    assert len(real) == 5
    return real + made_associations() + broken(os.environ.get("DICOMSYS_TEST_DATA"))


def broken(folder: str | None) -> list[bytes]:
    """The real broken files, where there are some."""
    return (
        [stream for name in ("broken", "broken_fuzz") for stream in broken_data_sets(Path(folder) / name)]
        if folder
        else []
    )


class GoodSender(threading.Thread):
    """Stores one object after another, and keeps what was answered and how long it took."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.may_end = port, threading.Event()
        self.statuses: Counter = Counter()
        self.times_s: list[float] = []
        self.broke: list[str] = []

    def run(self) -> None:
        template, study, series = Template(SMALL), fresh_uid(), fresh_uid()
        while not self.may_end.is_set():
            try:
                with Sender(self.port, calling="GOOD") as sender:
                    for _ in range(100):
                        began, uid = time.monotonic(), fresh_uid()
                        self.statuses[sender.store(uid, template.data_set(study, series, uid))] += 1
                        self.times_s.append(time.monotonic() - began)
                        if self.may_end.wait(0.01):
                            break
            except Exception as error:
                self.broke.append(repr(error))


def attack_all(receiver, cases, sizes: list[int]) -> list[Case]:
    """Every case, some at a time; returns those whose connection was not ended in time. Notes the memory meanwhile."""
    stuck = []
    with ThreadPoolExecutor(ATTACKERS) as pool:
        cases = iter(cases)
        while block := list(islice(cases, BLOCK)):
            ends = pool.map(lambda case: attack(receiver.port, case, END_LIMIT_S), block)
            stuck += [case for case, has_ended in zip(block, ends, strict=True) if not has_ended]
            receiver.forget_batches()
            sizes.append(receiver.cost().memory_bytes)
    return stuck


def attack_from_nothing(receiver, count: int) -> list[Case]:
    """Hypothesis' own cases; returns those whose connection was not ended in time."""
    stuck = []

    @hypothesis_settings(
        max_examples=count, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=made_cases)
    def run(case):
        if not attack(receiver.port, case, END_LIMIT_S):
            stuck.append(case)

    run()
    return stuck


def test_malformed_associations_cost_nothing_and_disturb_nobody(receiver, streams, pytestconfig, capsys):
    count, mutator = pytestconfig.getoption("fuzz_cases"), Mutator(streams, pytestconfig.getoption("seed"))
    made = count // HYPOTHESIS_SHARE
    warm_up, rest = int((count - made) * WARM_UP), count - made - int((count - made) * WARM_UP)
    workers, said, idle = receiver.workers, len(receiver.log_lines), receiver.cost()

    sizes: list[int] = []
    stuck = attack_all(receiver, (mutator.case() for _ in range(warm_up)), sizes)
    before = receiver.settled(idle.descriptors + SPARE, idle.threads + SPARE)
    good = GoodSender(receiver.port)
    good.start()
    began = time.monotonic()
    sizes.clear()
    stuck += attack_all(receiver, (mutator.case() for _ in range(rest)), sizes)
    stuck += attack_from_nothing(receiver, made)
    taken = time.monotonic() - began
    good.may_end.set()
    good.join(30)
    after = receiver.settled(before.descriptors + SPARE, before.threads + SPARE)

    lines = receiver.log_lines[said:]
    with capsys.disabled():
        megabytes = [round(size / 1e6) for size in (before.memory_bytes, *sizes[:: max(len(sizes) // 8, 1)])]
        print(
            f"\n{count} malformed associations, {(rest + made) / taken:.0f}/s; memory {megabytes} MB, threads"
            f" {before.threads} to {after.threads}, descriptors {before.descriptors} to {after.descriptors},"
            f" {len(lines)} lines in the log; beside them {good.statuses.total()} objects stored, median"
            f" {statistics.median(good.times_s) * 1000:.1f}, slowest {max(good.times_s) * 1000:.0f} ms"
        )
    assert receiver.workers == workers, "a process of the receiver died"
    assert stuck == []
    assert good.broke == []
    assert set(good.statuses) == {0x0000}
    assert max(good.times_s) < GOOD_LIMIT_S
    assert after.threads <= before.threads + SPARE
    assert after.descriptors <= before.descriptors + SPARE
    assert after.memory_bytes <= before.memory_bytes + UNSHARED_BYTES
    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2]) + GROWTH_BYTES
    assert [line for line in lines if any(word in line for word in (*PERSON.split("^"), PERSON_ID))] == []
    assert [line for line in lines if "Traceback" in line] == []
    assert len(lines) <= count
