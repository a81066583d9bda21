"""What an earlier supervisor left behind when it was killed: found by a mark, ended before a new start."""

import contextlib
import os
import signal
import time
from pathlib import Path

from dicomsys.evaluation.environment import MARK
from dicomsys.evaluation.folder import Folder


def is_worked_in(folder: Path) -> bool:
    """Whether a process of this user has the folder as its working folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").readlink() == folder:
                return True
    return False


def leftovers(folder: Folder) -> list[int]:
    """Process ids of this instance other than our own and our ancestors'.

    PostgreSQL overwrites its environment with its title: its processes are known by the folder they work in.
    """
    mark = f"{MARK}={folder.path}".encode()
    spared = _self_and_ancestors()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            marked = mark in (process / "environ").read_bytes().split(b"\0")
            if (marked or (process / "cwd").readlink() == folder.postgres_data) and int(process.name) not in spared:
                found.append(int(process.name))
    return found


def end_leftovers(folder: Folder, patience_s: float = 20.0) -> int:
    """End them: first all are asked, what is still there after `patience_s` is killed. Returns how many there were."""
    first = leftovers(folder)
    until = time.monotonic() + patience_s
    for number in (signal.SIGTERM, signal.SIGKILL):
        asked: set[int] = set()
        while (present := leftovers(folder)) and (number == signal.SIGKILL or time.monotonic() < until):
            for pid in set(present) - asked:
                asked.add(pid)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT if _is_postmaster(folder, pid) and number == signal.SIGTERM else number)
            time.sleep(0.1)
    return len(first)


def _is_postmaster(folder: Folder, pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int((folder.postgres_data / "postmaster.pid").read_text().splitlines()[0]) == pid
    return False


def _self_and_ancestors() -> set[int]:
    found: set[int] = set()
    pid = os.getpid()
    while pid > 1:
        found.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            break
    return found
