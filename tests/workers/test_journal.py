"""What happened at the DICOM port: counted without a database, folded into tables exactly once."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from apps.nodes import folding
from apps.nodes.folding import OTHERS, fold_journal, prune_traffic
from apps.nodes.journal_lines import COMPLETE, OPEN, read_line
from apps.nodes.models import FoldedFile, RefusalMinute, RejectedCaller, RemoteNode, TrafficMinute
from tests.peers import wait_until
from workers.receiver import journal as module
from workers.receiver.journal import Journal
from workers.receiver.rules import UNKNOWN, WRONG_ADDRESS, Caller

HOSTILE = [
    "<script>alert(1)</script>", "\0\x01\x1b[2J\r\n", "'; DROP TABLE x; --", "\u202eABC", "\udcff\udcfe", "é" * 16,
    "\\x41", "%s%d{}", "", " " * 16, "x" * 10_000,
]  # fmt: skip


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder):
    journal = Journal(folder)
    yield journal
    journal.close()


def lines(folder: Path) -> list:
    return [read_line(line) for path in sorted(folder.iterdir()) for line in path.read_bytes().splitlines()]


def total(events: list, name: str) -> int:
    return sum(getattr(event, name, 0) for event in events)


def totals(ae_title: str) -> tuple[int, ...]:
    rows = TrafficMinute.objects.filter(calling_ae_title=ae_title)
    names = ("associations", "instances", "size_bytes", "rejections", "refusals")
    return tuple(sum(getattr(row, name) for row in rows) for name in names)


def reject(journal, calling="STRANGER", address="10.0.0.66", rejection=UNKNOWN, called="DICOMSYS"):
    journal.rejected(Caller(calling, called, address), rejection)


def a_day_at_the_port(journal) -> None:
    journal.opened("CT1 ", "10.0.0.7")
    journal.stored("CT1", 3, 3000)
    journal.stored("CT1", 1, 500)
    journal.refused("CT1", 0xA700)
    journal.refused("CT1", 0xA700)
    journal.refused("CT1", 0xC000)
    reject(journal)


# --- writing


def test_what_is_counted_is_written_within_seconds_and_completed(folder, journal, monkeypatch):
    monkeypatch.setattr(module, "COMPLETE_AGE_S", 0.2)
    a_day_at_the_port(journal)
    wait_until(lambda: list(folder.glob(f"*{COMPLETE}")), 10)
    written = lines(folder)
    assert (total(written, "associations"), total(written, "instances"), total(written, "size_bytes")) == (1, 4, 3500)
    (path,) = folder.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


def test_sixteen_threads_lose_nothing(folder, journal):
    def work(number: int) -> None:
        for _ in range(2000):
            journal.stored(f"CT{number % 4}", 1, 10)
            journal.refused("CT0", 0xA700)
        reject(journal, f"X{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        journal.flush()
    journal.close()
    written = lines(folder)
    assert (total(written, "instances"), total(written, "size_bytes")) == (32_000, 320_000)
    assert sum(event.refused.get(0xA700, 0) for event in written if hasattr(event, "refused")) == 32_000
    assert total(written, "count") == 16


def test_counting_is_cheap(journal):
    started = time.perf_counter()
    for _ in range(10_000):
        journal.stored("CT1", 1, 500_000)
    assert (time.perf_counter() - started) / 10_000 < 100e-6


def test_a_large_file_is_completed_at_once(folder, journal, monkeypatch):
    monkeypatch.setattr(module, "COMPLETE_BYTES", 100)
    a_day_at_the_port(journal)
    wait_until(lambda: list(folder.glob(f"*{COMPLETE}")), 10)


def test_a_port_scan_cannot_fill_memory_or_disk(folder, journal):
    for number in range(10_000):
        reject(journal, f"SCAN{number}", f"10.0.{number // 250}.{number % 250}")
        journal.stored(f"SCAN{number}", 1, 1)
    journal.close()
    written = lines(folder)
    assert (total(written, "count"), total(written, "instances")) == (10_000, 10_000)
    assert len(written) <= 2 * (module.KEYS_MAX + 1) * 2  # the thread may have written once in between


def test_a_full_disk_costs_nothing_but_time(folder, journal, monkeypatch, caplog):
    write = os.write

    def full(descriptor, content):
        write(descriptor, content[:7])  # some of it still fits
        raise OSError(errno.ENOSPC, "No space left on device")

    journal.stored("CT1", 1, 10)
    journal.flush()
    monkeypatch.setattr(module.os, "write", full)
    for _ in range(3):
        a_day_at_the_port(journal)
        journal.flush()
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1
    monkeypatch.undo()
    journal.close()
    written = lines(folder)
    assert (total(written, "associations"), total(written, "instances"), total(written, "count")) == (3, 13, 3)


def test_a_folder_that_cannot_be_made_costs_nothing_but_time(tmp_path):
    blocked = tmp_path / "journal"
    blocked.write_text("in the way")
    journal = Journal(blocked)
    a_day_at_the_port(journal)
    journal.flush()
    blocked.unlink()
    journal.close()
    assert total(lines(blocked), "instances") == 4


def test_too_much_that_waits_stops_the_journal_only(folder, journal, monkeypatch):
    folder.mkdir()
    (folder / f"1-1-a{COMPLETE}").write_bytes(b"x" * 101)
    monkeypatch.setattr(module, "FOLDER_BYTES_MAX", 100)
    journal.stored("CT1", 1, 10)
    journal.flush()
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(module, "FOLDER_BYTES_MAX", 1000)
    journal.flush()
    assert len(list(folder.iterdir())) == 2


def test_a_forked_child_has_a_journal_of_its_own(folder, journal):
    journal.stored("PARENT", 1, 10)
    journal.flush()
    child = os.fork()
    if child == 0:
        try:
            journal.stored("CHILD", 5, 50)
            journal.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    journal.stored("PARENT", 1, 10)
    journal.close()
    written = lines(folder)
    assert [sum(each.instances for each in written if each.calling_ae_title == name) for name in ("PARENT", "CHILD")] \
        == [2, 5]  # fmt: skip
    assert len(list(folder.iterdir())) == 2


# --- folding


@pytest.mark.django_db(transaction=True)
def test_everything_arrives_in_the_tables(folder, journal):
    RemoteNode.objects.create(name="MR", ae_title="MR1", host="10.0.0.8")
    a_day_at_the_port(journal)
    reject(journal, "MR1", "10.0.0.9", WRONG_ADDRESS)
    reject(journal, "MR1", "10.0.0.9", WRONG_ADDRESS)
    journal.close()
    assert fold_journal(folder) == 1
    assert totals("CT1") == (1, 4, 3500, 0, 3)
    assert totals("MR1") == (0, 0, 0, 2, 0)
    assert totals("") == (0, 0, 0, 1, 0)  # it is no node
    assert TrafficMinute.objects.filter(calling_ae_title="CT1").order_by("-minute")[0].address == "10.0.0.7"
    refused = RefusalMinute.objects.filter(calling_ae_title="CT1")
    assert {row.dimse_status: row.count for row in refused} == {0xA700: 2, 0xC000: 1}
    assert RefusalMinute.objects.get(calling_ae_title="MR1").reason == WRONG_ADDRESS.words
    caller = RejectedCaller.objects.get(calling_ae_title="MR1")
    assert (caller.address, caller.called_ae_title, caller.count) == ("10.0.0.9", "DICOMSYS", 2)
    assert list(folder.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_a_file_is_counted_once_though_it_was_not_removed(folder, journal):
    a_day_at_the_port(journal)
    journal.close()
    (path,) = folder.iterdir()
    content = path.read_bytes()
    assert fold_journal(folder) == 1
    path.write_bytes(content)  # as if the run had been killed between commit and removal
    assert fold_journal(folder) == 0
    assert totals("CT1") == (1, 4, 3500, 0, 3)
    assert RejectedCaller.objects.get().count == 1
    assert list(folder.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_a_run_that_fails_counts_nothing_and_the_next_one_all(folder, journal, monkeypatch):
    a_day_at_the_port(journal)
    journal.close()

    def fail(sums):
        raise DatabaseError("lost")

    monkeypatch.setattr(folding, "_add_rejected", fail)
    with pytest.raises(DatabaseError):
        fold_journal(folder)
    assert not TrafficMinute.objects.exists()
    assert not FoldedFile.objects.exists()
    monkeypatch.undo()
    assert fold_journal(folder) == 1
    assert totals("CT1") == (1, 4, 3500, 0, 3)


@pytest.mark.django_db(transaction=True)
def test_several_files_of_one_minute_add_up(folder):
    for _ in range(3):
        journal = Journal(folder)
        a_day_at_the_port(journal)
        journal.close()
    assert fold_journal(folder) == 3
    assert totals("CT1") == (3, 12, 10_500, 0, 9)
    assert RejectedCaller.objects.get().count == 3


@pytest.mark.django_db(transaction=True)
def test_runs_side_by_side_count_each_file_once(folder):
    for _ in range(6):
        journal = Journal(folder)
        a_day_at_the_port(journal)
        journal.close()

    def run() -> None:
        from django.db import connection

        try:
            fold_journal(folder)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    fold_journal(folder)
    assert totals("CT1") == (6, 24, 21_000, 0, 18)


@pytest.mark.django_db(transaction=True)
def test_a_file_that_is_being_written_is_left_alone(folder, journal):
    journal.stored("CT1", 1, 10)
    journal.flush()
    assert fold_journal(folder) == 0
    (path,) = folder.iterdir()
    assert path.suffix == OPEN
    journal.close()
    assert fold_journal(folder) == 1


WRITER = """
import sys, time, django
django.setup()
from pathlib import Path
from workers.receiver.journal import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(1, 1_000_000):
    journal.stored("CT1", 1, 10)
    print(number, time.monotonic(), flush=True)
    time.sleep(0.002)
"""


@pytest.mark.django_db(transaction=True)
def test_a_killed_process_loses_its_last_second_at_most(folder):
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "dicomsys.settings"}
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, env=environment,
        cwd=settings.BASE_DIR,
    )  # fmt: skip
    counted = []
    for line in writer.stdout:
        counted.append(float(line.split()[1]))
        if counted[-1] - counted[0] > 3:
            break
    os.kill(writer.pid, signal.SIGKILL)
    counted += [float(line.split()[1]) for line in writer.stdout.read().splitlines() if len(line.split()) == 2]
    writer.wait(10)
    assert fold_journal(folder) == 1
    kept = totals("CT1")[1]
    assert kept <= len(counted) + 1
    # what was counted more than a second (and one more for a busy machine) before the end is there
    assert kept >= len([when for when in counted if when < counted[-1] - 2 * module.FLUSH_S])
    assert list(folder.iterdir()) == []


@pytest.mark.django_db(transaction=True)
def test_a_torn_end_and_foreign_lines_cost_themselves_only(folder, journal, caplog):
    a_day_at_the_port(journal)
    journal.close()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    good = json.loads(whole.splitlines()[0])
    odd = [
        b"\xff\xfe", b"{}", b"[]", b"null", b'{"kind":"traffic"}', b"[" * 100_000,
        json.dumps({**good, "instances": -1}).encode(), json.dumps({**good, "instances": 1e3}).encode(),
        json.dumps({**good, "minute": 10**30}).encode(), json.dumps({**good, "refused": {"x": 1}}).encode(),
        json.dumps({**good, "refused": {"99999": 1}}).encode(), json.dumps({**good, "more": 1}).encode(),
    ]  # fmt: skip
    path.write_bytes(b"\n".join(odd) + b"\n" + whole + whole[:40])
    assert fold_journal(folder) == 1
    assert totals("CT1") == (1, 4, 3500, 0, 3)
    assert f"has {len(odd)} lines that are none" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_anything_may_be_an_ae_title(folder, journal):
    for text in HOSTILE:
        journal.opened(text, "10.0.0.1")
        reject(journal, text, text, UNKNOWN, text)
    journal.close()
    assert fold_journal(folder) == 1
    kept = [*RejectedCaller.objects.values_list("calling_ae_title", "called_ae_title", "address")]
    assert len(kept) == len(HOSTILE) - 1  # empty and spaces are the same
    for texts in kept:
        assert all(text.isascii() and text.isprintable() and len(text) <= 64 for text in texts)
    assert ("\\x5cx41", "\\x5cx41", "\\x5cx41") in kept  # what looked like one of our escapes is told from one


@pytest.mark.django_db(transaction=True)
def test_a_scan_is_folded_away_and_pushes_nobody_else_out(folder, journal, monkeypatch):
    monkeypatch.setattr(folding, "REJECTED_BY_ADDRESS_MAX", 5)
    monkeypatch.setattr(folding, "REJECTED_MAX", 12)
    reject(journal, "CT9", "10.0.0.9")
    journal.close()
    fold_journal(folder)
    for _ in range(2):
        scan = Journal(folder)
        for number in range(40):
            reject(scan, f"S{number}", "10.6.6.6")
        scan.close()
        fold_journal(folder)
    assert RejectedCaller.objects.filter(address="10.6.6.6").count() == 5
    assert RejectedCaller.objects.filter(calling_ae_title="CT9").exists()
    assert sum(RejectedCaller.objects.values_list("count", flat=True)) == 81
    assert RejectedCaller.objects.get(reason=OTHERS).count > 0
    many = Journal(folder)
    for number in range(40):
        reject(many, "S", f"10.7.7.{number}")
    many.close()
    fold_journal(folder)
    assert RejectedCaller.objects.exclude(reason=OTHERS).count() == 12
    assert sum(RejectedCaller.objects.values_list("count", flat=True)) == 121


@pytest.mark.django_db(transaction=True)
def test_old_numbers_are_removed(folder, settings):
    now = timezone.now()
    settings.TRAFFIC_DAYS = 90
    for days in (1, 91):
        when = now - timedelta(days=days)
        TrafficMinute.objects.create(calling_ae_title="CT1", minute=when, instances=1)
        RefusalMinute.objects.create(calling_ae_title="CT1", minute=when, reason="x", count=1)
        FoldedFile.objects.create(name=f"{days}-1-a")
        FoldedFile.objects.filter(name=f"{days}-1-a").update(folded_at=when)
    FoldedFile.objects.create(name="still-there")
    FoldedFile.objects.filter(name="still-there").update(folded_at=now - timedelta(days=91))
    folder.mkdir()
    (folder / f"still-there{COMPLETE}").touch()
    prune_traffic(folder)
    assert TrafficMinute.objects.count() == RefusalMinute.objects.count() == 1
    assert set(FoldedFile.objects.values_list("name", flat=True)) == {"1-1-a", "still-there"}


@pytest.mark.django_db(transaction=True)
def test_beat_s_tasks_do_it(file_store):
    from workers.maintenance import fold_journal as fold
    from workers.maintenance import prune_traffic as prune
    from workers.maintenance import publish_rules as publish

    journal = Journal(file_store / "journal")
    a_day_at_the_port(journal)
    journal.close()
    for task in (publish, fold, prune):
        task()
    assert totals("CT1")[1] == 4
    assert (file_store / "rules" / "callers.json").exists()


def test_without_a_folder_there_is_nothing_to_fold(folder):
    assert fold_journal(folder) == 0
