import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from django.conf import settings

from apps.storage import spool as spool_module
from apps.storage.spool import BatchClosedError, Spool, SpoolFullError


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool")


def test_a_written_file_is_whole_under_its_final_name(spool):
    batch = spool.open_batch()

    path = batch.write((b"head", memoryview(b"body")))

    assert path.read_bytes() == b"headbody"
    assert path.suffix == ".dcm"
    assert not list(batch.folder.glob("*.part"))


def test_a_closed_batch_lists_its_files_in_the_order_they_came(spool):
    batch = spool.open_batch()
    for number in range(12):
        batch.write((str(number).encode(),))

    name = batch.close()

    assert [path.read_bytes() for path in spool.files(name)] == [str(n).encode() for n in range(12)]
    assert spool.closed_batches() == [name]


def test_an_empty_batch_leaves_nothing(spool):
    batch = spool.open_batch()
    assert batch.close() is None
    assert not list(spool.open_dir.iterdir())
    assert not list(spool.closed_dir.iterdir())


def test_a_closed_batch_takes_nothing_more(spool):
    batch = spool.open_batch()
    batch.write((b"x",))
    batch.close()
    with pytest.raises(BatchClosedError):
        batch.write((b"y",))


@pytest.mark.parametrize("files", [spool_module.BATCH_FILES])
def test_a_batch_is_due_when_it_is_full(spool, monkeypatch, files):
    monkeypatch.setattr(spool_module, "BATCH_AGE_S", 1000)
    batch = spool.open_batch()
    for _ in range(files - 1):
        batch.write((b"x",))
    assert not batch.is_due
    batch.write((b"x",))
    assert batch.is_due


def test_a_batch_is_due_by_bytes_and_by_age(spool, monkeypatch):
    big, old = spool.open_batch(), spool.open_batch()
    big.write((bytes(spool_module.BATCH_BYTES),))
    assert big.is_due
    time.sleep(spool_module.BATCH_AGE_S)
    assert old.is_due


def test_a_nearly_full_disk_is_refused_before_data_is_taken(tmp_path):
    spool = Spool(tmp_path / "spool", min_free_bytes=1 << 60)
    with pytest.raises(SpoolFullError):
        spool.check_room()


FULL_DISK = """
import errno, sys
from pathlib import Path
from apps.storage.spool import Spool

spool = Spool(Path(sys.argv[1]) / "spool")
batch = spool.open_batch()
batch.write((b"x" * 1000,))
try:
    batch.write((bytes(20_000_000),))
except OSError as error:
    assert error.errno == errno.ENOSPC, error
else:
    raise SystemExit("20 MB fitted on a disk of 8 MB")
batch.write((b"y",))
print([path.stat().st_size for path in spool.files(batch.close())])
"""


def test_a_full_disk_keeps_nothing_of_the_file_and_goes_on(tmp_path):
    mount = 'mount -t tmpfs -o size=8m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    words = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    done = subprocess.run(
        [*words, tmp_path, sys.executable, FULL_DISK], capture_output=True, text=True, cwd=settings.BASE_DIR
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    assert done.stdout.strip() == "[1000, 1]", done.stderr


def hold_a_batch(root, ready):
    batch = Spool(root).open_batch()
    batch.write((b"acknowledged",))
    (batch.folder / "2.part").write_bytes(b"never acknowledged")
    ready.set()
    signal.pause()


def test_what_a_killed_receiver_had_acknowledged_is_closed_by_the_sweep(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_module, "ABANDONED_AGE_S", 0)
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    receiver = context.Process(target=hold_a_batch, args=(tmp_path / "spool", ready))
    receiver.start()
    assert ready.wait(20)
    spool = Spool(tmp_path / "spool")
    assert spool.close_abandoned() == []  # its receiver lives

    os.kill(receiver.pid, signal.SIGKILL)
    receiver.join()

    (name,) = spool.close_abandoned()
    assert [path.read_bytes() for path in spool.files(name)] == [b"acknowledged"]


def test_the_sweep_leaves_a_young_open_batch_alone(spool):
    folder = spool.open_dir / "just-made-1"
    folder.mkdir()
    assert spool.close_abandoned() == []
    assert folder.is_dir()


def test_removing_stored_files_removes_the_empty_batch_only(spool):
    batch = spool.open_batch()
    first, second = batch.write((b"1",)), batch.write((b"2",))
    name = batch.close()
    first, second = spool.files(name)

    spool.remove(name, [first])
    assert spool.files(name) == [second]
    spool.remove(name, [second])
    assert spool.closed_batches() == []


def test_a_batch_is_locked_by_its_receiver(spool):
    batch = spool.open_batch()
    descriptor = os.open(batch.folder, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(descriptor)


def descriptors() -> int:
    return sum(1 for _ in os.scandir("/proc/self/fd"))


def fail(*_, **__):
    raise OSError(24, "Too many open files")


def test_a_batch_that_cannot_be_opened_leaves_no_descriptor(spool, monkeypatch):
    before = descriptors()
    monkeypatch.setattr(spool_module, "sync_folder", fail)
    for _ in range(5):
        with pytest.raises(OSError, match="Too many"):
            spool.open_batch()
    assert descriptors() == before


def test_a_file_that_cannot_move_stays_where_it_is_and_leaves_no_descriptor(spool, monkeypatch):
    batch, other = spool.open_batch(), spool.open_batch()
    incoming = batch.begin()
    incoming.write(b"first ")
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(spool_module.os, "rename", fail)
        with pytest.raises(OSError, match="Too many"):
            incoming.move_to(other)
    assert descriptors() == before
    incoming.move_to(other)
    incoming.write(b"second")
    assert incoming.commit().read_bytes() == b"first second"
    assert batch.close() is None
    assert [path.read_bytes() for path in spool.files(other.close())] == [b"first second"]


def test_a_clock_that_was_set_back_hides_no_batch(spool):
    batch = spool.open_batch()
    batch.write((b"x",))
    name = batch.close()
    ahead = time.time() + 7200
    os.utime(spool.closed_dir / name, (ahead, ahead))
    assert spool.closed_batches(older_than_s=15.0) == [name]
