"""The words of `./start`, one function each; every one returns an exit code."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from apps.core.errors import DicomsysError
from dicomsys.evaluation import postgres
from dicomsys.evaluation.environment import application_environment, base_environment
from dicomsys.evaluation.folder import Folder, read_json
from dicomsys.evaluation.instance import AlreadyRunning, held, run_everything, run_services, supervisor_pid
from dicomsys.evaluation.leftovers import end_leftovers
from dicomsys.evaluation.passwords import password_of
from dicomsys.evaluation.ports import Ports
from dicomsys.evaluation.preparation import ADMIN, OWNER_ROLE
from dicomsys.evaluation.programs import manage_command
from dicomsys.evaluation.progress import Progress, fall_silent
from dicomsys.evaluation.summary import addresses, summary
from dicomsys.evaluation.supervisor import StartError, StopRequested, Supervisor, rotate_log

STOP_PATIENCE_S = 120.0
KEPT_BY_RESET = ("venv", "cache", "home", "run", "prepare.lock")
OWNER_COMMANDS = ("migrate",)
Work = Callable[[Folder, Supervisor, Progress], Ports]


def start(folder: Folder, detach: bool, with_demo: bool) -> int:
    """The whole instance, in the foreground or, with `detach`, in the background once all is ready."""

    def work(folder: Folder, supervisor: Supervisor, progress: Progress) -> Ports:
        ports = run_everything(folder, supervisor, progress, with_demo)
        progress.say(summary(folder, progress.elapsed_s(), detach), to_log=False)
        is_shown = folder.stamps / "password-shown"
        if not is_shown.exists():
            password = folder.admin_password_file.read_text().strip()
            progress.say(f"The password of {ADMIN}, shown this once:  {password}\n", to_log=False)
            is_shown.touch()
        return ports

    return _launch(folder, work, detach)


def services(folder: Folder, detach: bool) -> int:
    """PostgreSQL and RabbitMQ only, for tests."""

    def work(folder: Folder, supervisor: Supervisor, progress: Progress) -> Ports:
        ports = run_services(folder, supervisor, progress)
        progress.say(f"ready after {progress.elapsed_s():.0f} s; settings: {folder.env_file}")
        return ports

    return _launch(folder, work, detach)


def _launch(folder: Folder, work: Work, detach: bool) -> int:
    folder.create()
    if (pid := supervisor_pid(folder)) is not None:
        return _say_running(folder, pid)
    if detach:
        return _in_background(folder, lambda: _supervise(folder, work, True))
    return _supervise(folder, work, False)


def _say_running(folder: Folder, pid: int) -> int:
    state = _state(folder)
    if state.get("supervisor") == pid and state.get("ready"):
        print(f"already running (process {pid})\n{addresses(folder)}")
        return 0
    print(f"another start of {folder.path} is under way (process {pid})", file=sys.stderr)
    return 1


def _supervise(folder: Folder, work: Work, detached: bool) -> int:
    """Do the work, look after the processes until the end is asked for, stop them. Returns 0 for an end in order."""
    try:
        with held(folder):
            return _supervise_held(folder, work, detached)
    except AlreadyRunning:
        return _say_running(folder, supervisor_pid(folder) or 0)


def _supervise_held(folder: Folder, work: Work, detached: bool) -> int:
    log = folder.logs / "supervisor.log"
    rotate_log(log)
    supervisor, progress = Supervisor(folder.logs, folder.state_file), Progress(log)
    supervisor.catch_signals()
    code, reason = 0, ""
    try:
        with contextlib.closing(work(folder, supervisor, progress)):
            supervisor.mark_ready()
            if detached:
                fall_silent(log)
            supervisor.run()
    except StopRequested:
        code = 130
    except (StartError, OSError, ValueError, DicomsysError) as error:
        code, reason = 1, f"cannot start: {error}"
    finally:
        progress.say("stopping …")
        supervisor.stop()
        end_leftovers(folder)
        folder.forget_short()
        progress.say("stopped: no process is left")
    if reason:
        progress.complain(reason)
    return code


def _in_background(folder: Folder, supervise: Callable[[], int]) -> int:
    """Run in a session of its own. Its lines are shown here until it falls silent: it is ready, or it has ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, target in ((nothing, 0), (writing, 1), (writing, 2)):
            os.dup2(number, target)
        for number in (nothing, reading, writing):
            os.close(number)
        os._exit(supervise())
    os.close(writing)
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signal_number, lambda *_: os.kill(pid, signal.SIGTERM))
    while chunk := os.read(reading, 4096):
        with contextlib.suppress(OSError):  # who reads this may go away
            os.write(1, chunk)
    if supervisor_pid(folder) == pid and _state(folder).get("ready"):
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF


def stop(folder: Folder) -> int:
    """End everything of the folder and wait until nothing is left."""
    pid = supervisor_pid(folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + STOP_PATIENCE_S
        while supervisor_pid(folder) == pid:
            if time.monotonic() > until:
                print(f"process {pid} does not end: killing it", file=sys.stderr)
                os.kill(pid, signal.SIGKILL)
                until += STOP_PATIENCE_S
            time.sleep(0.1)
    ended = end_leftovers(folder)
    if pid is None and not ended:
        print("not running")
    else:
        print("stopped: no process is left")
    return 0


def status(folder: Folder) -> int:
    """A table of the processes. Returns 0 when the instance is ready and all of them run."""
    pid, state = supervisor_pid(folder), _state(folder)
    if pid is None or state.get("supervisor") != pid:
        print("not running" if pid is None else f"starting (process {pid})")
        return 1
    print(f"{'process':<20} {'state':<10} {'pid':>8} {'uptime':>10} {'restarts':>9}")
    print(f"{'supervisor':<20} {'ready' if state['ready'] else 'starting':<10} {pid:>8} {'':>10} {'':>9}")
    all_run = bool(state["ready"])
    for name, process in state["processes"].items():
        runs = process["pid"] is not None and Path(f"/proc/{process['pid']}").exists()
        all_run = all_run and runs
        uptime = _duration(time.time() - process["started_at"]) if runs else "-"
        shown_pid = process["pid"] if runs else "-"
        print(f"{name:<20} {'running' if runs else 'down':<10} {shown_pid:>8} {uptime:>10} {process['restarts']:>9}")
    if all_run:
        print(addresses(folder))
    return 0 if all_run else 1


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def logs(folder: Folder, name: str | None, follow: bool) -> int:
    """The end of one log or of all, and with `follow` what is added from now on."""
    present = sorted(path.stem for path in folder.logs.glob("*.log"))
    if name is not None and name not in present:
        print(f"no log of {name!r}; there are: {', '.join(present) or 'none'}", file=sys.stderr)
        return 2
    paths = [str(folder.logs / f"{stem}.log") for stem in ([name] if name else present)]
    if not paths:
        print("no log yet", file=sys.stderr)
        return 1
    command = ["tail", "-n", "200" if name else "10", *(["-F"] if follow else []), "--", *paths]
    return _become(command, dict(os.environ))


def psql(folder: Folder, arguments: list[str]) -> int:
    """psql as the superuser over the local socket."""
    return _with_password_file(folder, "psql", ["--dbname", postgres.DATABASE, *arguments])


def pg_dump(folder: Folder, arguments: list[str]) -> int:
    """A plain dump of the database to standard output."""
    return _with_password_file(folder, "pg_dump", ["--dbname", postgres.DATABASE, *arguments])


def _with_password_file(folder: Folder, program: str, arguments: list[str]) -> int:
    """The password goes in by a file of its own that is there only while the program runs."""
    port = read_json(folder.ports_file).get("postgres")
    if supervisor_pid(folder) is None or port is None:
        print("not running: ./start first", file=sys.stderr)
        return 1
    with tempfile.NamedTemporaryFile("w", dir=folder.run, prefix="pgpass-") as file:  # mode 0600
        file.write(f"*:*:*:{postgres.SUPERUSER}:{password_of(folder, 'database-postgres')}\n")
        file.flush()
        environment = _for_people(base_environment(folder)) | {"PGPASSFILE": file.name}
        command = [str(postgres.programs_folder(folder) / program), "--host", str(folder.short() / "run")]
        command += ["--port", str(port), "--username", postgres.SUPERUSER, *arguments]
        process = subprocess.Popen(command, env=environment)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is psql's
        return process.wait()


def manage(folder: Folder, arguments: list[str]) -> int:
    """manage.py with the instance's settings; `migrate` works as the owner of the tables."""
    environment = _for_people(application_environment(folder))
    if arguments and arguments[0] in OWNER_COMMANDS:
        environment |= OWNER_ROLE
    if "DICOMSYS_DATABASE_ROLE" in os.environ:
        environment["DICOMSYS_DATABASE_ROLE"] = os.environ["DICOMSYS_DATABASE_ROLE"]
    return _become(manage_command(*arguments), environment)


def _become(command: list[str], environment: dict[str, str]) -> NoReturn:
    os.execvpe(command[0], command, environment)  # noqa: S606 - no shell


def _for_people(environment: dict[str, str]) -> dict[str, str]:
    terminal = ("TERM", "COLUMNS", "LINES", "PAGER", "NO_COLOR")
    return environment | {name: os.environ[name] for name in terminal if name in os.environ}


def reset(folder: Folder, is_confirmed: bool) -> int:
    """Remove all data, settings and secrets of the folder; 0 when that is done."""
    if supervisor_pid(folder) is not None:
        print("it is running: ./start stop first", file=sys.stderr)
        return 1
    if not is_confirmed and not _asks_yes(f"Remove every image, account and setting below {folder.path}? [yes/no] "):
        print("nothing was removed", file=sys.stderr)
        return 1
    folder.create()
    try:
        with held(folder):
            end_leftovers(folder)
            for path in folder.path.iterdir():
                if path.name not in KEPT_BY_RESET:
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except AlreadyRunning:
        return _say_running(folder, supervisor_pid(folder) or 0) or 1
    return 0


def _asks_yes(question: str) -> bool:
    try:
        return input(question).strip().lower() in ("yes", "y")
    except EOFError:
        return False


def _state(folder: Folder) -> dict[str, Any]:
    return read_json(folder.state_file)
