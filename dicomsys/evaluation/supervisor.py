"""One process that starts all others as its children, restarts those that die and stops them in order."""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO

from dicomsys.evaluation.folder import write_private

TICK_S = 0.1
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
STEADY_S = 30.0  # a program that ran this long starts again at once
DEATHS_BEFORE_READY = 3
KEPT_LOGS = 3
TAIL_LINES = 15
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


class StartError(Exception):
    """The instance cannot come up; the text says why and ends with the last lines of a log."""


class StopRequested(Exception):  # noqa: N818 - not an error
    """Somebody asked for the end while work was under way."""


@dataclass(frozen=True)
class Program:
    """What to run, and how it is asked to end. Programs of a higher stage start later and stop earlier."""

    name: str
    command: list[str]
    environment: dict[str, str]
    folder: Path
    stage: int = 2
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_s: float = 30.0
    before_start: Callable[[], object] | None = None


@dataclass
class Child:
    """A program and its present process."""

    program: Program
    pid: int | None = None
    started_at: float = 0.0
    restarts: int = 0
    deaths: int = 0
    pause_s: float = 0.0
    start_again_at: float = 0.0
    last_end: str = ""


@dataclass
class Supervisor:
    """Runs programs until a signal or `request_stop`. Used by one thread only."""

    logs: Path
    state_file: Path
    children: dict[str, Child] = field(default_factory=dict)
    is_ready: bool = False
    stop_requested: bool = False
    stop_signal: int | None = None
    _exits: dict[int, int] = field(default_factory=dict)
    _steps: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        # Whatever our children leave behind becomes our child, so that nothing outlives us unnoticed.
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def catch_signals(self) -> None:
        """From now on SIGTERM, SIGINT and SIGHUP (unless nohup is wanted) end the instance in order."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_requested, self.stop_signal = True, number

    def start(self, *programs: Program) -> None:
        """Start programs; from now on they are restarted when they die."""
        for program in programs:
            self.children[program.name] = Child(program)
            rotate_log(self.logs / f"{program.name}.log")
            self._spawn(self.children[program.name])
        self._write_state()

    def tick(self) -> None:
        """Look after all children once."""
        self._reap()
        changed = False
        now = time.monotonic()
        for child in self.children.values():
            if child.pid in self._exits:
                self._note_death(child, f"ended with {self._exits.pop(child.pid)}")
                changed = True
            if child.pid is None and not self.stop_requested and now >= child.start_again_at:
                self._spawn(child)
                changed = True
        for pid in [pid for pid in self._exits if pid not in self._steps]:
            del self._exits[pid]  # an orphan that came to us
        if changed:
            self._write_state()

    def mark_ready(self) -> None:
        """Everything is up; others may read it in the state file."""
        self.is_ready = True
        self._write_state()

    def run(self) -> None:
        """Look after the children until somebody asks for the end."""
        while not self.stop_requested:
            self.tick()
            time.sleep(TICK_S)

    def wait_for(self, what: str, is_up: Callable[[], bool], timeout_s: float, *names: str) -> None:
        """Wait until `is_up` says so. Raises StartError when it takes too long or the named programs keep dying."""
        until = time.monotonic() + timeout_s
        next_look = 0.0
        while True:
            self.tick()
            if self.stop_requested:
                raise StopRequested
            for name in names:
                if self.children[name].deaths >= DEATHS_BEFORE_READY:
                    raise StartError(f"{name} {self.children[name].last_end}, again and again\n{self.tail(name)}")
            if time.monotonic() >= next_look:
                if is_up():
                    return
                next_look = time.monotonic() + 0.25
            if time.monotonic() > until:
                tails = "\n".join(self.tail(name) for name in names)
                raise StartError(f"{what} is not up after {timeout_s:.0f} s\n{tails}")
            time.sleep(TICK_S)

    def step(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        folder: Path,
        on_line: Callable[[str], None] | None = None,
    ) -> None:
        """Run one command to its end while the children are looked after; its output goes to `name`.log.

        on_line is given each whole line of standard output instead. Raises StartError with the log's last lines when
        it fails, StopRequested when it was cut short.
        """
        log = self.logs / f"{name}.log"
        rotate_log(log)
        reading, writing = os.pipe() if on_line else (None, None)
        with log.open("ab") as file:
            output = file if writing is None else writing
            process = _popen(command, environment, folder, output, file, signal.SIGTERM)
        if writing is not None:
            os.close(writing)
        self._steps.add(process.pid)
        lines = _Lines(reading, on_line)
        try:
            while process.pid not in self._exits:
                self.tick()
                lines.read()
                if self.stop_requested:
                    raise StopRequested
                time.sleep(TICK_S / 2)
            lines.read()
        finally:
            if process.pid not in self._exits:
                _end_group(process.pid, signal.SIGTERM)
                self._wait_exit(process.pid, 5.0)
                _end_group(process.pid, signal.SIGKILL)
                self._wait_exit(process.pid, 5.0)
            status = self._exits.pop(process.pid, None)
            process.returncode = 0 if status is None else status
            self._steps.discard(process.pid)
            lines.close()
        if status:
            raise StartError(f"{name} failed (exit {status})\n{self.tail(name)}")

    def foreground(self, command: list[str], environment: dict[str, str], folder: Path) -> int:
        """Run one command at the terminal while the children are looked after; returns its exit code.

        The terminal's Ctrl-C reaches it without our help; another request to stop is passed on as one.
        """
        prepare = _die_with_parent(os.getpid(), signal.SIGTERM)
        process = subprocess.Popen(command, env=environment, cwd=folder, preexec_fn=prepare)
        self._steps.add(process.pid)
        is_told = False
        while process.pid not in self._exits:
            self.tick()
            if self.stop_requested and not is_told:
                is_told = True
                if self.stop_signal != signal.SIGINT:
                    _kill(process.pid, signal.SIGINT)
            time.sleep(TICK_S)
        self._steps.discard(process.pid)
        process.returncode = self._exits.pop(process.pid)
        return process.returncode

    def stop(self) -> None:
        """End all programs, the latest stage first, then whatever they left behind. Returns when nothing runs."""
        self.stop_requested = True
        for stage in sorted({child.program.stage for child in self.children.values()}, reverse=True):
            self._stop_stage([child for child in self.children.values() if child.program.stage == stage])
        for number in (signal.SIGTERM, signal.SIGKILL):
            until = time.monotonic() + 3.0
            while (orphans := _descendants(os.getpid())) and time.monotonic() < until:
                for pid in orphans:
                    _kill(pid, number)
                self._reap()
                time.sleep(TICK_S)
        self._write_state()

    def tail(self, name: str) -> str:
        """The last lines of a program's log, to show with an error."""
        path = self.logs / f"{name}.log"
        try:
            lines = path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        except OSError:
            lines = []
        return "\n".join([f"the last lines of {path}:", *(f"  {line}" for line in lines)])

    def _stop_stage(self, children: list[Child]) -> None:
        running = [child for child in children if child.pid is not None]
        for child in running:
            _kill(child.pid, child.program.stop_signal)
        since = time.monotonic()
        while any(child.pid is not None for child in running):
            self.tick()
            for child in running:
                if child.pid is not None and time.monotonic() - since > child.program.stop_timeout_s:
                    _end_group(child.pid, signal.SIGKILL)
            time.sleep(TICK_S / 2)

    def _spawn(self, child: Child) -> None:
        program = child.program
        child.started_at = time.time()
        try:
            if program.before_start is not None:
                program.before_start()
            with (self.logs / f"{program.name}.log").open("ab") as log:
                process = _popen(program.command, program.environment, program.folder, log, log, program.stop_signal)
        except OSError as error:  # no memory, no disk: it may pass
            self._note_death(child, f"could not be started: {error}")
            return
        child.pid = process.pid
        process.returncode = 0  # this class waits for it, not Popen

    def _note_death(self, child: Child, what: str) -> None:
        if child.pid is not None:
            _end_group(child.pid, signal.SIGKILL)  # its own children must not work on beside the next one
        lived_s = time.time() - child.started_at
        child.pid, child.last_end = None, what
        if self.stop_requested:
            return
        child.deaths += 1
        child.restarts += 1
        child.pause_s = 0.0 if lived_s > STEADY_S else min(max(child.pause_s * 2, FIRST_PAUSE_S), LONGEST_PAUSE_S)
        child.start_again_at = time.monotonic() + child.pause_s
        with contextlib.suppress(OSError), (self.logs / f"{child.program.name}.log").open("a") as log:
            log.write(f"--- supervisor: {what} after {lived_s:.0f} s, starting it again in {child.pause_s:.1f} s\n")

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._exits[pid] = os.waitstatus_to_exitcode(status)

    def _wait_exit(self, pid: int, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while pid not in self._exits and time.monotonic() < until:
            self._reap()
            time.sleep(TICK_S / 2)

    def _write_state(self) -> None:
        processes = {
            name: {"pid": child.pid, "started_at": child.started_at, "restarts": child.restarts}
            for name, child in self.children.items()
        }
        state = {"supervisor": os.getpid(), "ready": self.is_ready, "processes": processes}
        with contextlib.suppress(OSError):  # a full disk shall not end what runs
            write_private(self.state_file, json.dumps(state, indent=1))


class _Lines:
    """Whole lines out of a pipe, without waiting for them."""

    def __init__(self, reading: int | None, on_line: Callable[[str], None] | None) -> None:
        self._reading, self._on_line, self._rest = reading, on_line, b""
        if reading is not None:
            os.set_blocking(reading, False)

    def read(self) -> None:
        if self._reading is None or self._on_line is None:
            return
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._reading, 65536):
                self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace"))

    def close(self) -> None:
        if self._reading is not None:
            os.close(self._reading)


def rotate_log(path: Path) -> None:
    """name.log becomes name.log.1 and so on; the oldest goes. An empty log stays."""
    if not path.exists() or path.stat().st_size == 0:
        return
    for number in range(KEPT_LOGS - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))


def _popen(
    command: list[str],
    environment: dict[str, str],
    folder: Path,
    output: BinaryIO | int,
    errors: BinaryIO,
    death_signal: signal.Signals,
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=environment,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,  # Ctrl-C of the terminal is ours alone
        preexec_fn=_die_with_parent(os.getpid(), death_signal),
    )


def _die_with_parent(parent: int, death_signal: signal.Signals) -> Callable[[], None]:
    def prepare() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return prepare


def _kill(pid: int | None, number: signal.Signals) -> None:
    if pid is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def _end_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _descendants(ancestor: int) -> list[int]:
    parents: dict[int, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            after_name = (process / "stat").read_text().rpartition(")")[2].split()
            if after_name[0] != "Z":
                parents[int(process.name)] = int(after_name[1])
    found: list[int] = []
    level = [ancestor]
    while level:
        level = [pid for pid, parent in parents.items() if parent in level]
        found += level
    return found
