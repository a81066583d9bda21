"""What the instance's processes are told: a short environment, and settings in a file. No secret is in either."""

import os
import re
from pathlib import Path
from zoneinfo import available_timezones

from dicomsys.evaluation.folder import CODE, Folder, write_private
from dicomsys.evaluation.ports import LOOPBACK

MARK = "DICOMSYS_INSTANCE"  # in the environment of every process of an instance, to find what was left behind
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What somebody who starts an instance may set in the environment; it is written into the instance's file.
OPEN_TO_CHOICE = (
    "DICOMSYS_AE_TITLE",
    "DICOMSYS_ALLOWED_HOSTS",
    "DICOMSYS_CSRF_TRUSTED_ORIGINS",
    "DICOMSYS_DICOM_ADDRESS",
    "DICOMSYS_DICOM_ACCEPT_UNKNOWN_CLASSES",
    "DICOMSYS_DICOM_MAX_ASSOCIATIONS",
    "DICOMSYS_DICOM_TLS_CERT",
    "DICOMSYS_DICOM_TLS_CLIENT_CA",
    "DICOMSYS_DICOM_TLS_KEY",
    "DICOMSYS_DICOM_TLS_PORT",
    "DICOMSYS_DICOM_USER_IDENTITY",
    "DICOMSYS_LOG_LEVEL",
    "DICOMSYS_RECEIVER_PROCESSES",
    "DICOMSYS_SPOOL_MAX_BATCHES",
    "DICOMSYS_SPOOL_MIN_FREE_BYTES",
    "DICOMSYS_SPOOL_SLOW_BATCHES",
    "DICOMSYS_TIME_ZONE",
)
PLAIN_VALUE = re.compile(r"[A-Za-z0-9_./:@,+-]*")


def base_environment(folder: Folder) -> dict[str, str]:
    """The whole environment of PostgreSQL and RabbitMQ; nothing of the caller's gets through."""
    return {
        "PATH": SYSTEM_PATH,
        "HOME": str(folder.home),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        MARK: str(folder.path),
    }


def application_environment(folder: Folder) -> dict[str, str]:
    """The whole environment of our own processes."""
    return base_environment(folder) | {
        "DICOMSYS_ENV_FILE": str(folder.env_file),
        "PYTHONPATH": str(CODE),
        "PYTHONPYCACHEPREFIX": str(folder.bytecode),  # the code itself may be somebody else's
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def instance_settings(folder: Folder, ports: dict[str, int]) -> dict[str, str]:
    """The settings of dicomsys/settings.py for this instance, without what is left to its defaults."""
    certificates = folder.certificates
    settings = {
        "DICOMSYS_PROFILE": "evaluation",
        "DICOMSYS_KEYRING_FILE": str(folder.keyring_file),
        "DICOMSYS_MASTER_KEY_FILE": str(folder.master_key_file),
        "DICOMSYS_DATA_DIR": str(folder.data),
        "DICOMSYS_STATIC_ROOT": str(folder.static),
        "DICOMSYS_DATABASE_URL": f"postgres://{LOOPBACK}:{ports['postgres']}/dicomsys",
        "DICOMSYS_DATABASE_CA": str(certificates / "ca.crt"),
        "DICOMSYS_BROKER_URL": f"amqps://dicomsys@{LOOPBACK}:{ports['amqps']}/dicomsys",
        "DICOMSYS_BROKER_CA": str(certificates / "ca.crt"),
        "DICOMSYS_BROKER_CERT": str(certificates / "client.crt"),
        "DICOMSYS_BROKER_KEY": str(certificates / "client.key"),
        "DICOMSYS_RABBITMQCTL": str(folder.rabbitmqctl),
        "DICOMSYS_SESSION_COOKIE_NAME": f"dicomsys_{folder.identity}",  # a browser mixes the ports of one host
    }
    if "dicom" in ports:  # a whole instance, for people; tests shall not depend on the machine's time zone
        settings["DICOMSYS_DICOM_PORT"] = str(ports["dicom"])
        settings["DICOMSYS_TIME_ZONE"] = machine_time_zone()
    return settings | {name: os.environ[name] for name in OPEN_TO_CHOICE if os.environ.get(name)}


def write_env_file(path: Path, settings: dict[str, str]) -> None:
    """Write KEY=value lines as django-environ reads them, for the owner only."""
    write_private(path, "".join(f"{name}={_quoted(value)}\n" for name, value in settings.items()))


def _quoted(value: str) -> str:
    if PLAIN_VALUE.fullmatch(value):
        return value
    if "'" in value or "\n" in value:
        raise ValueError(f"{value!r} cannot be written into an env file: it has a quote or a line break")
    return f"'{value}'"


def machine_time_zone() -> str:
    """The time zone this machine is set to, or UTC."""
    for path in (Path("/etc/timezone"), Path("/etc/localtime")):
        try:
            name = str(path.readlink()).partition("zoneinfo/")[2] if path.is_symlink() else path.read_text().strip()
        except (OSError, UnicodeDecodeError):
            continue
        if name in available_timezones():
            return name
    return "UTC"
