"""A whole instance of its own, started as a user would, for the tests that need every process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from apps.core.secrets import SERVICE, FileKeyring
from dicomsys.evaluation.folder import CODE

START_LIMIT_S = 180


@dataclass(frozen=True)
class System:
    """A running instance: where it lies, where it listens."""

    folder: Path
    changes: Mapping[str, str] = field(default_factory=dict)
    as_user: tuple[str, ...] = ()  # words before each command

    @property
    def endpoints(self) -> dict:
        return json.loads((self.folder / "endpoints.json").read_text())

    @property
    def dicom(self) -> tuple[str, int, str]:
        """Host, port and AE title."""
        dicom = self.endpoints["dicom"]
        return dicom["host"], dicom["port"], dicom["ae_title"]

    @property
    def admin_password(self) -> str:
        return Path(self.endpoints["admin"]["password_file"]).read_text().strip()

    def command(self, *words: str, **options) -> subprocess.CompletedProcess:
        """`python -m dicomsys.evaluation WORD --folder …`."""
        line = [
            *self.as_user,
            sys.executable,
            "-m",
            "dicomsys.evaluation",
            words[0],
            "--folder",
            str(self.folder),
            *words[1:],
        ]
        return subprocess.run(
            line,
            cwd=CODE,
            env=bare_environment() | self.changes,
            capture_output=True,
            text=True,
            **options,
        )

    def manage(self, *words: str) -> subprocess.CompletedProcess:
        return self.command("manage", *words)

    def pid(self, name: str) -> int | None:
        state = json.loads((self.folder / "run" / "state.json").read_text())
        return state["processes"][name]["pid"]

    def kill(self, name: str) -> None:
        """SIGKILL one process of the instance; the supervisor starts it again."""
        end = time.monotonic() + 60
        while (pid := self.pid(name)) is None:
            assert time.monotonic() < end, f"{name} does not come back"
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)

    def connect(self, **options) -> psycopg.Connection:
        """A connection as the application's role over TLS."""
        ring = FileKeyring(self.folder / "keyring" / "secrets.json", (self.folder / "keys" / "master.key").read_bytes())
        password = ring.get_password(SERVICE, "database-dicomsys_app")
        dsn = self.endpoints["postgres"]["dsn_without_password"]
        return psycopg.connect(dsn, user="dicomsys_app", password=password, **options)

    def query(self, statement: str, *parameters: object) -> list[tuple]:
        """Rows of one statement."""
        with self.connect() as connection:
            return connection.execute(statement, parameters or None).fetchall()


def bare_environment() -> dict[str, str]:
    """The environment without what this test run was given for its own instance."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DICOMSYS_")}


@contextmanager
def started(folder: Path, **changes: str) -> Iterator[System]:
    """An instance in that folder, without demonstration studies; `changes` are variables as `./start` takes them."""
    running = System(folder, changes)
    done = running.command("start", "--no-demo", "--detach", timeout=START_LIMIT_S)
    if done.returncode != 0:
        running.command("stop")
        pytest.fail(f"the instance did not start:\n{done.stdout}\n{done.stderr}")
    try:
        yield running
    finally:
        stopped = running.command("stop", timeout=120)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr


@pytest.fixture(scope="session")
def system(tmp_path_factory) -> Iterator[System]:
    """One instance for the whole run."""
    with started(tmp_path_factory.mktemp("system") / "i") as running:
        yield running


def wait_until(condition, limit_s: float, what: str) -> None:
    """Poll until `condition()`; fail with `what` after the limit."""
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.2)
