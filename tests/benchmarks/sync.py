"""How a spool can make an object durable before Success: the variants side by side, as small writers without network.

Every variant writes the same objects by one or four threads (associations: each waits for its own Success), in turn
within each round; the ratio is to `folder`, round by round, so that a disk that drifts does not decide. Printed are the
medians with the lowest and highest in brackets. What is not in it: a segment is copied into files later.
"""

import argparse
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import CDLL, get_errno
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.benchmarks import report

SIZES = {"5 kB": 5_000, "128 kB": 131_072, "512x512x16": 525_000}
WRITERS = (1, 4)
GROUP_FILES = 32
SEGMENT_BYTES = 64_000_000
BLOCK = 4096
YARDSTICK = "folder"
_libc = CDLL(None, use_errno=True)
Write = Callable[[int, int, bytes], None]  # writer, number, content; returns when it is durable


def _create(path: Path, content: bytes) -> int:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, content)
    return descriptor


@contextmanager
def _folders(root: Path) -> Iterator[tuple[list[Path], list[int]]]:
    """A batch folder for each writer, and a descriptor of each."""
    paths = [root / str(number) for number in range(max(WRITERS))]
    for path in paths:
        path.mkdir()
    descriptors = [os.open(path, os.O_RDONLY) for path in paths]
    yield paths, descriptors
    for descriptor in descriptors:
        os.close(descriptor)


@contextmanager
def unsynced(root: Path) -> Iterator[Write]:
    """Not durable: what the rest of the path costs."""
    with _folders(root) as (paths, _):

        def write(writer: int, number: int, content: bytes) -> None:
            os.close(_create(paths[writer] / f"{number}.dcm", content))

        yield write


@contextmanager
def per_file(root: Path) -> Iterator[Write]:
    """fsync of the file under its last name; that its entry in the folder is safe, too, is ext4's word, not POSIX's."""
    with _folders(root) as (paths, _):

        def write(writer: int, number: int, content: bytes) -> None:
            descriptor = _create(paths[writer] / f"{number}.dcm", content)
            os.fsync(descriptor)
            os.close(descriptor)

        yield write


@contextmanager
def per_folder(root: Path) -> Iterator[Write]:
    """fdatasync of the file, rename, fsync of its folder."""
    with _folders(root) as (paths, folders):

        def write(writer: int, number: int, content: bytes) -> None:
            partial = paths[writer] / f"{number}.part"
            descriptor = _create(partial, content)
            os.fdatasync(descriptor)
            os.close(descriptor)
            partial.rename(partial.with_suffix(".dcm"))
            os.fsync(folders[writer])

        yield write


class Committer:
    """One thread that makes what several writers wait for durable together."""

    def __init__(self, make_durable: Callable[[list[int]], None]) -> None:
        self._make_durable = make_durable
        self._waiting: list[tuple[int, threading.Event]] = []
        self._some = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def wait_for(self, descriptor: int) -> None:
        """Returns when it is durable."""
        done = threading.Event()
        with self._some:
            self._waiting.append((descriptor, done))
            self._some.notify()
        done.wait()

    def _run(self) -> None:
        while True:
            with self._some:
                while not self._waiting and not self._ended:
                    self._some.wait()
                if self._ended:
                    return
                group, self._waiting = self._waiting[:GROUP_FILES], self._waiting[GROUP_FILES:]
            self._make_durable([descriptor for descriptor, _ in group])
            for _, done in group:
                done.set()

    def end(self) -> None:
        """Nothing waits any more."""
        with self._some:
            self._ended = True
            self._some.notify()
        self._thread.join()


@contextmanager
def _grouped(root: Path, make_durable: Callable[[list[int], int], None]) -> Iterator[Write]:
    """Files of all writers in one folder: written and renamed by their writers, made durable together."""
    folder = os.open(root, os.O_RDONLY)
    committer = Committer(lambda descriptors: make_durable(descriptors, folder))

    def write(writer: int, number: int, content: bytes) -> None:
        partial = root / f"{writer}-{number}.part"
        descriptor = _create(partial, content)
        partial.rename(partial.with_suffix(".dcm"))
        committer.wait_for(descriptor)
        os.close(descriptor)

    yield write
    committer.end()
    os.close(folder)


def group_commit(root: Path):
    """fdatasync of each file of the group, then one fsync of the folder."""

    def make_durable(descriptors: list[int], folder: int) -> None:
        for descriptor in descriptors:
            os.fdatasync(descriptor)
        os.fsync(folder)

    return _grouped(root, make_durable)


def group_syncfs(root: Path):
    """One syncfs for the group."""

    def make_durable(descriptors: list[int], folder: int) -> None:
        if _libc.syncfs(folder) != 0:
            raise OSError(get_errno(), "syncfs")

    return _grouped(root, make_durable)


@contextmanager
def segment(root: Path) -> Iterator[Write]:
    """Records one after another in a file written before, one for each writer; fdatasync changes no metadata."""
    descriptors = [_prewritten(root / f"{writer}.segment") for writer in range(max(WRITERS))]
    ends = [0] * len(descriptors)

    def write(writer: int, number: int, content: bytes) -> None:
        size = -(-len(content) // BLOCK) * BLOCK
        ends[writer] = 0 if ends[writer] + size > SEGMENT_BYTES else ends[writer]  # recycled
        os.pwrite(descriptors[writer], content, ends[writer])
        os.fdatasync(descriptors[writer])
        ends[writer] += size

    yield write
    for descriptor in descriptors:
        os.close(descriptor)


def _prewritten(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    block = bytes(1_000_000)
    for _ in range(SEGMENT_BYTES // len(block)):
        os.write(descriptor, block)
    os.fsync(descriptor)
    return descriptor


VARIANTS = {
    "none": unsynced,
    "file": per_file,
    YARDSTICK: per_folder,
    "group": group_commit,
    "group by syncfs": group_syncfs,
    "segment": segment,
}


def rate(make, root: Path, content: bytes, writers: int, count: int) -> float:
    """Objects a second, each writer waiting for each of its own."""
    root.mkdir()
    with make(root) as write:
        threads = [
            threading.Thread(target=lambda w=w: [write(w, number, content) for number in range(count // writers)])
            for w in range(writers)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.perf_counter() - began
    shutil.rmtree(root)
    os.sync()
    return count // writers * writers / taken


def compare(name: str, content: bytes, writers: int, count: int, rounds: int, scratch: Path) -> None:
    """All variants in turn, so many rounds; prints one line each."""
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    order = list(VARIANTS)
    for at in range(rounds):
        for variant in order[at % len(order) :] + order[: at % len(order)]:
            rates[variant].append(rate(VARIANTS[variant], scratch / "spool", content, writers, count))
    for variant, values in rates.items():
        ratios = sorted(value / base for value, base in zip(values, rates[YARDSTICK], strict=True))
        spread = f"{min(values):.0f}-{max(values):.0f}; to {YARDSTICK} {ratios[0]:.2f}-{ratios[-1]:.2f}"
        peer = median(values) / median(ratios)
        report(f"{name}, {writers} writers: {variant} ({spread})", median(values), "1/s", peer, more_is_better=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="./check --bench sync", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=200, help="objects a variant and round")
    words = parser.parse_args()
    with TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            for writers in WRITERS:
                compare(name, os.urandom(size), writers, words.count, words.rounds, Path(folder))


if __name__ == "__main__":
    main()
