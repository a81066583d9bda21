"""What processes cost, from /proc: processor time, memory, threads and descriptors of a process and all below it."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


@dataclass(frozen=True)
class Cost:
    """Of a whole tree of processes; memory is shared out among those that share it (Pss)."""

    processes: int
    threads: int
    descriptors: int
    memory_bytes: int


def tree(pid: int) -> list[int]:
    """The process and everything below it; empty when it is gone."""
    parents = dict(_parents())
    found, level = [], [pid] if pid in parents else []
    while level:
        found += level
        level = [child for child, parent in parents.items() if parent in level]
    return found


def children(pid: int) -> list[int]:
    """The processes it has started."""
    return sorted(child for child, parent in _parents() if parent == pid)


def _parents() -> Iterator[tuple[int, int]]:
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):
            yield int(folder.name), int(_stat(int(folder.name))[1])


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent and so on (proc(5))."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def cpu_s(pid: int) -> float:
    """Processor time of the tree in seconds, with that of its children that ended and were waited for."""
    ticks = 0
    for each in tree(pid):
        with suppress(OSError):
            ticks += sum(map(int, _stat(each)[11:15]))
    return ticks / TICKS_PER_S


def memory_bytes(pid: int) -> int:
    """Memory of the tree."""
    return sum(map(_memory_bytes, tree(pid)))


def _memory_bytes(pid: int) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def cost(pid: int) -> Cost:
    """What the tree holds just now."""
    pids = tree(pid)
    return Cost(
        len(pids),
        sum(_entries(each, "task") for each in pids),
        sum(_entries(each, "fd") for each in pids),
        sum(map(_memory_bytes, pids)),
    )


def _entries(pid: int, folder: str) -> int:
    with suppress(OSError):
        return len(os.listdir(PROC / str(pid) / folder))  # noqa: PTH208 - names are enough
    return 0
