"""The story of `./check`: services up, linters, pytest or one benchmark, services down."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from apps.core.errors import DicomsysError
from dicomsys.evaluation import postgres, rabbitmq
from dicomsys.evaluation.environment import MARK, application_environment
from dicomsys.evaluation.folder import CODE, Folder, read_json
from dicomsys.evaluation.instance import AlreadyRunning, held, run_services, supervisor_pid
from dicomsys.evaluation.leftovers import end_leftovers
from dicomsys.evaluation.progress import Progress
from dicomsys.evaluation.supervisor import StartError, StopRequested, Supervisor

LINTED = ("apps", "dicomsys", "workers", "tests", "manage.py")
PASSED_ON = ("DICOMSYS_TEST_DATA", "PYTEST_ADDOPTS", "TERM", "COLUMNS", "NO_COLOR", "FORCE_COLOR", "CI")
INTERRUPTED = 130


def check(folder: Folder, arguments: list[str], benchmark: str | None) -> int:
    """Returns 0 when all that was asked for is green."""
    folder.create()
    try:
        with held(folder, "check-lock"):
            return _check_held(folder, arguments, benchmark)
    except AlreadyRunning:
        print(f"another check of {folder.path} is running", file=sys.stderr)
        return 1


def _check_held(folder: Folder, arguments: list[str], benchmark: str | None) -> int:
    supervisor, progress = Supervisor(folder.logs, folder.run / "check.json"), Progress()
    supervisor.catch_signals()
    try:
        with _services(folder, supervisor, progress):
            return _run_all(folder, supervisor, progress, arguments, benchmark)
    except StopRequested:
        return INTERRUPTED
    except (StartError, OSError, DicomsysError) as error:
        progress.complain(f"failed: services: {error}")
        return 1
    finally:
        supervisor.stop()


@contextlib.contextmanager
def _services(folder: Folder, supervisor: Supervisor, progress: Progress) -> Iterator[None]:
    """PostgreSQL and RabbitMQ for this run; those that somebody started before are used and left running."""
    if supervisor_pid(folder) is not None:
        if not read_json(folder.state_file).get("ready"):
            raise StartError("somebody is starting them right now: try again in a moment")
        progress.say("           using the services that run already")
        yield
        return
    with held(folder):
        try:
            with contextlib.closing(run_services(folder, supervisor, progress)):
                yield
        finally:
            supervisor.stop()
            end_leftovers(folder)
            folder.forget_short()


def _run_all(
    folder: Folder, supervisor: Supervisor, progress: Progress, arguments: list[str], benchmark: str | None
) -> int:
    for note in _floors(folder):
        progress.say(note)
    environment = _environment(folder)
    if benchmark:
        return supervisor.foreground(
            [sys.executable, "-m", f"tests.benchmarks.{benchmark}", *arguments], environment, CODE
        )
    if arguments:
        progress.say("           linters are skipped, because pytest was given arguments")
    elif failed := _failed_linters(folder, supervisor, environment, progress):
        progress.complain(f"failed: {', '.join(failed)}; pytest was not run")
        return 1
    return supervisor.foreground(_pytest(folder, arguments), environment, CODE)


def _floors(folder: Folder) -> Iterator[str]:
    if postgres.major_version(folder) < postgres.FLOOR:
        version = postgres.server_version(folder)
        yield f"note: PostgreSQL {version} is accepted here; production needs {postgres.FLOOR} or later"
    version = rabbitmq.server_version()
    if tuple(int(part) for part in version.split(".")[:2]) < rabbitmq.FLOOR:
        yield f"note: RabbitMQ {version} is accepted here; production needs 3.12 or later"


def _linters(folder: Folder) -> Iterator[tuple[str, list[str]]]:
    cache = folder.path / "cache"
    ruff = [sys.executable, "-m", "ruff"]
    yield "ruff check", [*ruff, "check", "--cache-dir", str(cache / "ruff"), "."]
    yield "ruff format", [*ruff, "format", "--check", "--cache-dir", str(cache / "ruff"), "."]
    yield "mypy", [sys.executable, "-m", "mypy", "--cache-dir", str(cache / "mypy"), *LINTED]
    lint_imports = str(Path(sys.executable).parent / "lint-imports")
    yield "lint-imports", [lint_imports, "--cache-dir", str(cache / "import-linter")]


def _failed_linters(
    folder: Folder, supervisor: Supervisor, environment: dict[str, str], progress: Progress
) -> list[str]:
    """Run them all; what one says is shown only when it is not content. Returns the names of those."""
    failed = []
    for name, command in _linters(folder):
        log_name = name.replace(" ", "-")
        try:
            with progress.step(name):
                supervisor.step(log_name, command, environment, CODE)
        except StartError:
            failed.append(name)
            progress.say(f"{name} is not content:\n{(supervisor.logs / f'{log_name}.log').read_text(errors='replace')}")
    return failed


def _pytest(folder: Folder, arguments: list[str]) -> list[str]:
    scratch = folder.path / "tmp"
    return [
        *(sys.executable, "-m", "pytest"),
        *("-o", f"cache_dir={folder.path / 'cache' / 'pytest'}", f"--basetemp={scratch / 'pytest'}"),
        *arguments,
    ]


def _environment(folder: Folder) -> dict[str, str]:
    """No mark of the instance in it: what a test leaves behind is no part of the services."""
    environment = application_environment(folder)
    del environment[MARK]
    (folder.path / "tmp").mkdir(exist_ok=True)
    environment["TMPDIR"] = str(folder.path / "tmp")
    return environment | {name: os.environ[name] for name in PASSED_ON if name in os.environ}
