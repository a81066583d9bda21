"""C-STORE until the last Success (`sent`) and until C-FIND reports all (`found`): ours beside Orthanc and storescp.

Targets take turns within each round, with fresh UIDs each time; the sender is DCMTK's storescu. Figures are medians of
the rounds, the spread in brackets of the name: lowest and highest. Orthanc's C-FIND answers through our own client, so
both sides pay the same for being asked. `--help` tells the options.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dicomsys.settings")
django.setup()

from pynetdicom import _config  # noqa: E402

from tests.benchmarks import report  # noqa: E402
from tests.benchmarks.preload import preload  # noqa: E402
from tests.benchmarks.targets import OURS, PEERS, Target, environment, ours  # noqa: E402
from tests.lots import CT, SMALL, Lot, Template, write_lot  # noqa: E402
from tests.peers import system_program  # noqa: E402

FOUND_LIMIT_S = 120.0
SERVING = ("receiver", "services", "worker-ingest", "relay", "postgresql", "rabbitmq")  # what ingest itself needs
PROBE_FILES = 40
SHOWN_MS = 0.01
NAGLE_INSTANCES = 25  # of each of four studies: every other receiver takes 20 a second


@dataclass(frozen=True)
class Case:
    """What is sent in one go."""

    data: str
    shape: tuple[int, int]
    studies: int
    instances: int
    associations: int
    nagle: bool

    @property
    def name(self) -> str:
        """As printed."""
        return f"{self.data}, {self.associations} assoc{', Nagle' if self.nagle else ''}"


@dataclass
class Figures:
    """Of one target in one case, a value a round."""

    sent: list[float] = field(default_factory=list)
    found: list[float] = field(default_factory=list)
    cpu_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    sender_ms: list[float] = field(default_factory=list)


def cases(words: argparse.Namespace) -> Iterator[Case]:
    """Each data, each number of associations, and once with Nagle's algorithm."""
    sizes = {"5 kB": (SMALL, words.small // 4), "512x512x16": (CT, words.ct // 4)}
    for data, (shape, instances) in sizes.items():
        for associations in words.assoc:
            yield Case(data, shape, 4, instances, associations, nagle=False)
    if not words.no_nagle:
        yield Case("5 kB", SMALL, 4, NAGLE_INSTANCES, 1, nagle=True)


def send(target: Target, lot: Lot, case: Case) -> None:
    """Studies shared out over so many storescu at once. Raises where one of them fails."""
    words = [system_program("storescu", "dcmtk"), "-R", "-pdu", "131072", "+sd", "-aet", "BENCH"]
    words += ["-aec", target.ae_title, "127.0.0.1", str(target.port)]
    senders = [
        subprocess.Popen(
            [*words, *map(str, lot.folders[at :: case.associations])],
            env=environment(case.nagle),
            stderr=subprocess.PIPE,
        )
        for at in range(case.associations)
    ]
    for sender in senders:
        _, errors = sender.communicate()
        if sender.returncode != 0:
            raise RuntimeError(f"storescu to {target.name}: {errors.decode(errors='replace')[-300:]}")


def measure(target: Target, lot: Lot, case: Case, figures: Figures) -> None:
    """One lot to one target: both clocks, and who used the processors meanwhile."""
    before, began = target.cpu_s(), time.monotonic()
    sender_before = _children_cpu_s()
    send(target, lot, case)
    sent = time.monotonic()
    figures.sender_ms.append((_children_cpu_s() - sender_before) / lot.count * 1000)
    figures.sent.append(lot.count / (sent - began))
    if target.has_index:
        if not target.wait_until_found(lot, FOUND_LIMIT_S):
            raise RuntimeError(f"{target.name} does not report all of {case.name} within {FOUND_LIMIT_S:.0f} s")
        figures.found.append(lot.count / (time.monotonic() - began))
    for name, used in target.cpu_s().items():
        figures.cpu_ms[name].append((used - before[name]) / lot.count * 1000)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def probe_disk(folder: Path, size_bytes: int) -> float:
    """New files a second, each written, fdatasynced and its folder fsynced, on the disk of the stores."""
    folder.mkdir()
    content, descriptor = os.urandom(size_bytes), os.open(folder, os.O_RDONLY)
    began = time.monotonic()
    for number in range(PROBE_FILES):
        with (folder / str(number)).open("wb", buffering=0) as file:
            file.write(content)
            os.fdatasync(file.fileno())
        os.fsync(descriptor)
    taken = time.monotonic() - began
    os.close(descriptor)
    shutil.rmtree(folder)
    return PROBE_FILES / taken


def run_case(case: Case, targets: list[Target], rounds: int, scratch: Path) -> dict[str, Figures]:
    """Targets in turn, so many rounds, the disk probed in each."""
    template, figures = Template(case.shape), {target.name: Figures() for target in targets}
    disk = []
    for at in range(rounds):
        disk.append(probe_disk(scratch / "probe", case.shape[0] * case.shape[1] * 2 + 900))
        for target in targets[at % len(targets) :] + targets[: at % len(targets)]:  # nobody is always first
            lot = write_lot(scratch / "lot", template, case.studies, case.instances)
            os.sync()  # what another target left unsynced is not this one's to pay for
            measure(target, lot, case, figures[target.name])
            shutil.rmtree(scratch / "lot")
    report(f"{case.name}: disk, synced files", median(disk), "1/s")
    return figures


def print_case(case: Case, figures: dict[str, Figures]) -> None:
    """Ours against each other target."""
    own = figures[OURS] if OURS in figures else next(iter(figures.values()))
    for name, other in figures.items():
        for clock in ("sent", "found"):
            if values := getattr(other, clock):
                print_rate(f"{case.name}: {name} {clock}", getattr(own, clock) or own.sent, values, is_own=other is own)
    for name, other in figures.items():
        print_cpu(f"{case.name}: {name} cpu", other, own)


def print_rate(name: str, own: list[float], values: list[float], is_own: bool) -> None:
    """Ours alone, or ours with the other's value and the ratio."""
    spread = f"{name} ({min(values):.0f}-{max(values):.0f})"
    if is_own:
        report(spread, median(values), "1/s")
    else:
        report(spread, median(own), "1/s", median(values), more_is_better=True)


def print_cpu(name: str, figures: Figures, own: Figures) -> None:
    """Milliseconds an instance: in all, then each program."""
    total = _serving_ms(figures)
    report(name, _serving_ms(own), "ms", None if figures is own else total)
    for program, values in figures.cpu_ms.items():
        if median(values) >= SHOWN_MS:
            report(f"{name} of {program}", median(values), "ms")
    report(f"{name} of storescu", median(figures.sender_ms), "ms")


def _serving_ms(figures: Figures) -> float:
    names = [name for name in figures.cpu_ms if "receiver" not in figures.cpu_ms or name in SERVING]
    return median(map(sum, zip(*(figures.cpu_ms[name] for name in names), strict=True)))


def run_script(script: Path, case: Case, targets: list[Target], rounds: int, scratch: Path) -> None:
    """Another benchmark script, called as `SCRIPT --data DIR --assoc K NAME=AET@HOST:PORT …`, on the same targets."""
    write_lot(scratch / "data", Template(case.shape), case.studies, case.instances)
    words = [sys.executable, str(script), "--data", str(scratch / "data"), "--assoc", str(case.associations)]
    words += ["--rounds", str(rounds), *(["--nagle"] if case.nagle else [])]
    print(f"{script.name}, {case.name}", flush=True)
    asked = [f"{t.name}={t.ae_title}@127.0.0.1:{t.port}" for t in targets if t.has_index]
    subprocess.run([*words, *asked], check=True)
    shutil.rmtree(scratch / "data")


def read_words() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(prog="./check --bench ingest", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--assoc", type=int, nargs="+", default=[1, 4], help="associations at once")
    parser.add_argument("--small", type=int, default=1000, help="objects of 5 kB a lot")
    parser.add_argument("--ct", type=int, default=200, help="images of 512x512x16 a lot")
    parser.add_argument("--no-nagle", action="store_true", help="without the case that takes long elsewhere")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--without-us", action="store_true", help="the peers alone")
    parser.add_argument("--studies", type=int, default=0, help="rows to fill our tables with before, e.g. 5000000")
    parser.add_argument("--script", type=Path, help="run this benchmark script on the targets instead")
    return parser.parse_args()


def main() -> None:
    """Print the figures."""
    words = read_words()
    _config.LOG_HANDLER_LEVEL = "none"
    with TemporaryDirectory() as folder, ExitStack() as stack:
        scratch = Path(folder)
        own = [] if words.without_us else [stack.enter_context(ours(scratch / OURS))]
        for target in own:
            introduce(target)
            if words.studies:
                report(f"{words.studies} studies put into the tables", preload(target.system, words.studies), "s")
        for nagle in (False, True):
            due = [case for case in cases(words) if case.nagle == nagle]
            run_cases(due, own, words, scratch)


def introduce(target: Target) -> None:
    """Its settings, and how it is asked."""
    how = ("C-FIND" if target.finds else "the tables") if target.has_index else "nothing"
    print(f"{target.name}: {target.told}; found by {how}", flush=True)


def run_cases(due: list[Case], own: list[Target], words: argparse.Namespace, scratch: Path) -> None:
    """Cases of one sender; the peers are started for them."""
    if not due:
        return
    with ExitStack() as stack, TemporaryDirectory(dir=scratch) as folder:
        peers = [stack.enter_context(PEERS[name](Path(folder) / name, due[0].nagle)) for name in words.peers]
        for peer in peers:
            introduce(peer)
        for case in due:
            if words.script:
                run_script(words.script, case, own + peers, words.rounds, scratch)
            else:
                print_case(case, run_case(case, own + peers, words.rounds, scratch))
        for target in own + peers:
            for name, size in target.memory_bytes().items():
                report(f"memory of {target.name} {name}", size / 1e6, "MB")


if __name__ == "__main__":
    main()
