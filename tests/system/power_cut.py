"""A power cut under load: the file system with spool, store and database is shut down, mounted again, and compared.

    python -m tests.system.power_cut [--rounds N]        as root

The instance lies on an ext4 of its own on a loop device. EXT4_IOC_SHUTDOWN without a flush of the journal drops
everything that was not synced. What this cannot show is a disk that loses what it said it had written: the image file
keeps what reached the loop device.
"""

import argparse
import fcntl
import os
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dicomsys.evaluation.environment import MARK
from tests.processes import PROC
from tests.system.conftest import START_LIMIT_S, System, wait_until
from tests.system.load import Load, Series, compare

USER = "dicomsys"
EXT4_IOC_SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2
IMAGE_BYTES = 6_000_000_000
SENDERS = 4
LEAST_S, MOST_S = 2.0, 6.0
UNMOUNT_S = 30
CONTROL_BYTES = 100_000


def missing() -> str | None:
    """Why it cannot be done here, or None."""
    if os.geteuid() != 0:
        return "needs root: run python -m tests.system.power_cut as root"
    return None if Path("/dev/loop-control").exists() else "needs a loop device"


@contextmanager
def loop_device(folder: Path) -> Iterator[str]:
    """An empty ext4 on a loop device."""
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    device = run("losetup", "--find", "--show", str(image)).strip()
    try:
        run("mkfs.ext4", "-q", device)
        yield device
    finally:
        run("losetup", "--detach", device)


def run(*words: str) -> str:
    """The standard output of a command that must succeed."""
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout


def start(system: System) -> None:
    """The instance up, as a user would start it."""
    done = system.command("start", "--no-demo", "--detach", timeout=START_LIMIT_S)
    assert done.returncode == 0, f"the instance did not start:\n{done.stdout}\n{done.stderr}"


def cut(mount: Path) -> dict[Path, bytes]:
    """The power goes; returns files that were written just before and that nobody synced."""
    unsynced = {mount / f"unsynced-{number}": os.urandom(CONTROL_BYTES) for number in range(20)}
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        for path, content in unsynced.items():
            path.write_bytes(content)
        fcntl.ioctl(descriptor, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    finally:
        os.close(descriptor)
    return unsynced


def end_all(system: System) -> None:
    """Every process of the instance goes with it."""
    wanted = f"{MARK}={system.folder}".encode()
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            is_supervisor = b"dicomsys.evaluation" in words and str(system.folder).encode() in words
            if is_supervisor or wanted in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGKILL)


def unmount(mount: Path) -> None:
    """Once nothing holds it any more."""

    def is_unmounted() -> bool:
        return subprocess.run(["umount", str(mount)], capture_output=True).returncode == 0

    wait_until(is_unmounted, UNMOUNT_S, "the file system is let go")


def one_round(system: System, mount: Path, device: str, all_series: list[Series], seed: int) -> int:
    """Load, cut, recovery, comparison of everything acknowledged so far; returns how many that are."""
    senders = [Load(system.dicom[1], series, seed + at) for at, series in enumerate(all_series)]
    for sender in senders:
        sender.start()
    time.sleep(random.Random(seed).uniform(LEAST_S, MOST_S))
    unsynced = cut(mount)
    end_all(system)
    for sender in senders:
        sender.gives_up.set()
    for sender in senders:
        sender.join(30)
    unmount(mount)
    run("mount", device, str(mount))
    assert any(is_lost(*each) for each in unsynced.items()), "what nobody synced is there: this was no power cut"
    start(system)
    for series in all_series:  # what got no answer may be there or not
        series.acknowledged |= {uid: series.unanswered[uid] for uid in kept(system, series)}
        series.unanswered.clear()
    return compare(system, all_series)


def is_lost(path: Path, content: bytes) -> bool:
    """Whether a file is gone, or its content; on a busy machine the kernel may have written some."""
    return not path.exists() or path.read_bytes() != content


def kept(system: System, series: Series) -> set[str]:
    """Those that got no answer and are stored all the same, once the spool is empty."""
    spool = system.folder / "data" / "spool"
    wait_until(lambda: not list(spool.glob("*/*/*.dcm")), 120, "ingest has taken every batch")
    rows = system.query(
        "SELECT sop_instance_uid FROM archive_instance WHERE sop_instance_uid = ANY(%s)", list(series.unanswered)
    )
    return {row[0] for row in rows}


def cut_often(rounds: int, seed: int) -> list[int]:
    """So many power cuts; returns how many acknowledged instances were there after each."""
    counts = []
    with tempfile.TemporaryDirectory(prefix="power-cut-") as folder, loop_device(Path(folder)) as device:
        Path(folder).chmod(0o755)
        mount = Path(folder) / "m"
        mount.mkdir()
        run("mount", device, str(mount))
        run("chown", USER, str(mount))
        as_user = ("setpriv", "--reuid", USER, "--regid", USER, "--clear-groups")
        system = System(mount / "i", {"DICOMSYS_SPOOL_MIN_FREE_BYTES": "1000000"}, as_user)
        all_series = [Series(number) for number in range(SENDERS)]
        try:
            start(system)
            os.sync()  # a new instance's certificates and settings are not what is tried here
            for at in range(rounds):
                counts.append(one_round(system, mount, device, all_series, seed + 100 * at))
                print(f"power cut {at + 1}: {counts[-1]} acknowledged and stored, 0 lost, 0 twice", flush=True)
        finally:
            end_all(system)
            unmount(mount)
    return counts


def main() -> int:
    """Print one line a power cut."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    words = parser.parse_args()
    if reason := missing():
        print(reason, file=sys.stderr)
        return 1
    cut_often(words.rounds, words.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
