"""Our own processes: what each is called, how it is run, and how one sees that it works."""

import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from apps.core.local_socket import ask_state
from apps.core.queue import QUEUE_NAMES
from dicomsys.evaluation.environment import application_environment
from dicomsys.evaluation.folder import CODE, Folder
from dicomsys.evaluation.ports import LOOPBACK
from dicomsys.evaluation.supervisor import Program

SOLO_QUEUES = ("ingest",)  # its tasks are short; the others run theirs in a child that may be lost
# Method, path, status, bytes and milliseconds; never the query string, which may hold a name.
ACCESS_LOG = '%(h)s %(t)s "%(m)s %(U)s" %(s)s %(b)s %(M)s ms'


def brokerless(folder: Folder, ports: dict[str, int]) -> list[Program]:
    """Web, receiver, services and relay: what works while the broker is still starting."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - for gunicorn's heartbeat, which must not touch a disk
    heartbeat = shared_memory if os.access(shared_memory, os.W_OK) else folder.run
    gunicorn = ["gunicorn", "dicomsys.wsgi", "--bind", f"{LOOPBACK}:{ports['web']}"]
    gunicorn += ["--workers", "1", "--worker-class", "gthread", "--threads", "8", "--timeout", "120"]
    gunicorn += ["--graceful-timeout", "10", "--keep-alive", "5", "--no-control-socket"]
    gunicorn += ["--worker-tmp-dir", str(heartbeat), "--access-logfile", "-", "--access-logformat", ACCESS_LOG]
    return [
        _program(folder, "web", *gunicorn),
        _program(folder, "receiver", "workers.receiver"),
        _program(folder, "services", "workers.services"),
        _program(folder, "relay", "workers.relay"),
    ]


def workers(folder: Folder) -> list[Program]:
    """Beat and one worker a queue."""
    return [_program(folder, "beat", "workers.beat"), *(_worker(folder, queue) for queue in QUEUE_NAMES)]


def _worker(folder: Folder, queue: str) -> Program:
    command = ["celery", "-A", "dicomsys", "worker", "-Q", queue, "-n", f"{queue}-{folder.identity}@%h"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
    command += ["--pool", "solo"] if queue in SOLO_QUEUES else ["--concurrency", "1"]
    return _program(folder, f"worker-{queue}", *command)


def _program(folder: Folder, name: str, *module_and_arguments: str) -> Program:
    return Program(
        name=name,
        command=[sys.executable, "-m", *module_and_arguments],
        environment=application_environment(folder),
        folder=CODE,
    )


def manage_command(*arguments: str) -> list[str]:
    """The command line of one manage.py command."""
    return [sys.executable, str(CODE / "manage.py"), *arguments]


def web_is_up(port: int) -> bool:
    """Whether the health page answers 200."""
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}/healthz", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def services_are_up(folder: Folder) -> bool:
    """Whether the process of the other DICOM services says how it is."""
    try:
        return "associations" in ask_state(folder.data / "run" / "services.sock", 5)
    except (OSError, ValueError):
        return False


def echo_command(host: str, port: int, ae_title: str) -> list[str]:
    """One C-ECHO; fails where the receiver does not answer Success."""
    return [sys.executable, "-m", "dicomsys.evaluation.send", "--echo", host, str(port), ae_title]


def demonstration_command(host: str, port: int, ae_title: str) -> list[str]:
    """The demonstration studies by C-STORE, one line of progress for each study."""
    return [sys.executable, "-m", "dicomsys.evaluation.send", host, str(port), ae_title]
