"""One instance from nothing to running: the whole story of `start`, in order."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from apps.core.leader import lock_key
from apps.core.queue import QUEUE_NAMES
from dicomsys.evaluation import postgres, programs, rabbitmq
from dicomsys.evaluation.certificates import ensure_certificates
from dicomsys.evaluation.environment import application_environment, instance_settings, write_env_file
from dicomsys.evaluation.folder import CODE, Folder, write_private
from dicomsys.evaluation.leftovers import end_leftovers
from dicomsys.evaluation.passwords import ensure_secrets
from dicomsys.evaluation.ports import LOOPBACK, Ports, choose_ports, is_listening, port_wishes
from dicomsys.evaluation.preparation import ADMIN, Preparation
from dicomsys.evaluation.progress import Progress
from dicomsys.evaluation.supervisor import StartError, Supervisor

SERVICE_PORTS = ("postgres", "amqps", "dist", "epmd")
APPLICATION_PORTS = ("web", "dicom")
PATIENCE_S = 180.0
DEFAULT_AE_TITLE = "DICOMSYS"


class AlreadyRunning(Exception):  # noqa: N818 - an answer, not an error
    """Another supervisor holds this folder."""


@contextlib.contextmanager
def held(folder: Folder, name: str = "lock") -> Iterator[None]:
    """This process is the only one with the folder's lock of that name. Raises AlreadyRunning."""
    with _open_lock(folder.run / name) as file:
        _lock(file)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.seek(0)
        file.truncate()


def _lock(file: TextIO) -> None:
    for _ in range(20):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)  # it may be somebody who only looks whether it is held
    raise AlreadyRunning


def supervisor_pid(folder: Folder) -> int | None:
    """The process id of the supervisor that holds the folder, or None."""
    if not folder.lock_file.exists():
        return None
    with _open_lock(folder.lock_file) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(file.read() or 0) or None
    return None


def _open_lock(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+")


def ae_title() -> str:
    """What the receiver is called."""
    return os.environ.get("DICOMSYS_AE_TITLE") or DEFAULT_AE_TITLE


def dicom_host() -> str:
    """Where the receiver is reached from this machine."""
    address = os.environ.get("DICOMSYS_DICOM_ADDRESS", "")
    return LOOPBACK if address in ("", "0.0.0.0", "::") else address  # noqa: S104 - compared, not bound


def lay_out(folder: Folder, names: tuple[str, ...], progress: Progress) -> Ports:
    """Folders, ports, certificates, secrets and the settings file; nothing runs yet."""
    folder.create()
    ended = end_leftovers(folder)
    if ended:
        progress.say(f"           ended {ended} processes that an earlier start left behind")
    ports = choose_ports(folder.ports_file, names, port_wishes())
    for note in ports.notes:
        progress.say(f"           {note}")
    ensure_certificates(folder.certificates)
    ensure_secrets(folder)
    write_env_file(folder.env_file, instance_settings(folder, ports.numbers))
    return ports


def start_services(folder: Folder, ports: Ports, supervisor: Supervisor, progress: Progress) -> None:
    """Start PostgreSQL and RabbitMQ; returns when PostgreSQL is up."""
    numbers = ports.numbers
    if not (folder.postgres_data / "PG_VERSION").exists():
        with progress.step("database cluster made"):
            postgres.create_cluster(folder)
    rabbitmq.write_configuration(folder, numbers["amqps"])
    rabbitmq.write_command_line_tool(folder, numbers["dist"], numbers["epmd"])
    for name in ("amqps", "dist", "epmd"):
        ports.release(name)
    supervisor.start(*rabbitmq.programs(folder, numbers["dist"], numbers["epmd"]))
    postgres.write_configuration(folder, numbers["postgres"])
    ports.release("postgres")
    with progress.step(f"PostgreSQL {postgres.server_version(folder)} on port {numbers['postgres']}"):
        supervisor.start(postgres.program(folder))
        supervisor.wait_for("PostgreSQL", lambda: postgres.is_up(folder, numbers["postgres"]), PATIENCE_S, "postgresql")


def wait_for_broker(folder: Folder, ports: Ports, supervisor: Supervisor, progress: Progress) -> None:
    """Wait until RabbitMQ takes the application's user in."""
    port = ports.numbers["amqps"]
    with progress.step(f"RabbitMQ {rabbitmq.server_version()} on port {port}"):
        supervisor.wait_for("RabbitMQ", lambda: rabbitmq.is_up(folder, port), PATIENCE_S, "rabbitmq", "epmd")


def write_endpoints(folder: Folder, ports: dict[str, int]) -> None:
    """Tell other programs where to connect; passwords are named, not written."""
    authority = quote(str(folder.certificates / "ca.crt"))
    endpoints: dict[str, object] = {}
    if "web" in ports:
        endpoints["web"] = {"url": f"http://{LOOPBACK}:{ports['web']}/"}
        endpoints["dicom"] = {"host": dicom_host(), "port": ports["dicom"], "ae_title": ae_title()}
        endpoints["admin"] = {"username": ADMIN, "password_file": str(folder.admin_password_file)}
    database = f"{postgres.APPLICATION}@{LOOPBACK}:{ports['postgres']}/{postgres.DATABASE}"
    dsn = f"postgresql://{database}?sslmode=verify-full&sslrootcert={authority}"
    endpoints["postgres"] = {"dsn_without_password": dsn}
    broker = f"amqps://{rabbitmq.USER}@{LOOPBACK}:{ports['amqps']}/{rabbitmq.VIRTUAL_HOST}"
    endpoints["broker"] = {"url_without_password": broker}
    write_private(folder.endpoints_file, json.dumps(endpoints, indent=1) + "\n")


def run_services(folder: Folder, supervisor: Supervisor, progress: Progress) -> Ports:
    """PostgreSQL and RabbitMQ up, roles and database made; the owner may make databases: tests do.

    Returns the ports, which are claimed as long as the caller keeps them.
    """
    ports = lay_out(folder, SERVICE_PORTS, progress)
    start_services(folder, ports, supervisor, progress)
    postgres.prepare_roles(folder, ports.numbers["postgres"], may_create_databases=True)
    wait_for_broker(folder, ports, supervisor, progress)
    write_endpoints(folder, ports.numbers)
    return ports


def run_everything(folder: Folder, supervisor: Supervisor, progress: Progress, with_demo: bool) -> Ports:
    """The whole instance up, prepared, and with its demonstration studies. Returns the ports like `run_services`."""
    ports = lay_out(folder, SERVICE_PORTS + APPLICATION_PORTS, progress)
    write_endpoints(folder, ports.numbers)
    start_services(folder, ports, supervisor, progress)
    postgres.prepare_roles(folder, ports.numbers["postgres"], may_create_databases=False)
    preparation = Preparation(folder, ports.numbers["postgres"], supervisor, progress)
    preparation.collect_static_files()
    if preparation.is_done():
        _start_brokerless(folder, ports, supervisor)  # the broker is slow to start
        wait_for_broker(folder, ports, supervisor, progress)
    else:
        preparation.migrate()
        wait_for_broker(folder, ports, supervisor, progress)
        preparation.fill()
        preparation.mark_done()
        _start_brokerless(folder, ports, supervisor)
    supervisor.start(*programs.workers(folder))
    _wait_for_applications(folder, ports.numbers, supervisor, progress)
    if with_demo:
        _send_demonstration(folder, ports.numbers, supervisor, progress)
    return ports


def _start_brokerless(folder: Folder, ports: Ports, supervisor: Supervisor) -> None:
    for name in APPLICATION_PORTS:
        ports.release(name)
    supervisor.start(*programs.brokerless(folder, ports.numbers))


def _wait_for_applications(folder: Folder, ports: dict[str, int], supervisor: Supervisor, progress: Progress) -> None:
    with progress.step(f"web server on port {ports['web']}"):
        supervisor.wait_for("the web server", lambda: programs.web_is_up(ports["web"]), PATIENCE_S, "web")
    with progress.step(f"DICOM receiver on port {ports['dicom']}"):
        supervisor.wait_for("the receiver", lambda: is_listening(ports["dicom"]), PATIENCE_S, "receiver")
        command = programs.echo_command(dicom_host(), ports["dicom"], ae_title())
        supervisor.step("echo", command, application_environment(folder), CODE)
    with progress.step("DICOM services beside it"):
        supervisor.wait_for("the services", lambda: programs.services_are_up(folder), PATIENCE_S, "services")
    with progress.step("workers: " + ", ".join(QUEUE_NAMES)):
        for queue in QUEUE_NAMES:
            supervisor.wait_for(
                f"the worker of {queue}",
                lambda queue=queue: rabbitmq.consumers(folder, ports["amqps"], queue) > 0,  # type: ignore[misc]
                PATIENCE_S,
                f"worker-{queue}",
            )
    with progress.step("relay and beat"):
        for name in ("relay", "beat"):
            supervisor.wait_for(
                name,
                lambda name=name: postgres.is_lock_held(folder, ports["postgres"], lock_key(name)),  # type: ignore[misc]
                PATIENCE_S,
                name,
            )


def _send_demonstration(folder: Folder, ports: dict[str, int], supervisor: Supervisor, progress: Progress) -> None:
    """Only once; an instance without these studies works all the same, so a failure is told and no more."""
    stamp = folder.stamps / "demonstration"
    if stamp.exists():
        return
    command = programs.demonstration_command(dicom_host(), ports["dicom"], ae_title())
    try:
        with progress.step("demonstration studies sent by C-STORE"):
            supervisor.step(
                "demonstration",
                command,
                application_environment(folder),
                CODE,
                lambda line: progress.say(f"           {line}"),
            )
        stamp.touch()
    except StartError as error:
        progress.say(f"note: the demonstration studies were not sent: {error}")
