"""What an instance needs before its processes start: static files, tables, default rows, queues, a first user."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from psycopg import sql

from dicomsys.evaluation import postgres
from dicomsys.evaluation.environment import application_environment
from dicomsys.evaluation.folder import CODE, Folder, write_private
from dicomsys.evaluation.passwords import legible_password
from dicomsys.evaluation.programs import manage_command
from dicomsys.evaluation.progress import Progress
from dicomsys.evaluation.supervisor import Supervisor

ADMIN = "admin"
ADMIN_ROLES = ("administrator", "radiologist")
OWNER_ROLE = {"DICOMSYS_DATABASE_ROLE": postgres.OWNER}


class Preparation:
    """Runs the manage.py commands that are due: all of them when the code has changed, none when it has not."""

    def __init__(self, folder: Folder, postgres_port: int, supervisor: Supervisor, progress: Progress) -> None:
        self._folder, self._port, self._supervisor, self._progress = folder, postgres_port, supervisor, progress
        self._fingerprint = code_fingerprint(CODE)

    def is_done(self) -> bool:
        """Whether the database was prepared by this very code; the database itself remembers it."""
        with postgres.connect_as_superuser(self._folder, self._port) as connection:
            row = connection.execute(
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [postgres.DATABASE]
            ).fetchone()
        return row is not None and row[0] == self._fingerprint

    def mark_done(self) -> None:
        """Remember in the database that this code has prepared it."""
        statement = sql.SQL("COMMENT ON DATABASE {} IS {}")
        with postgres.connect_as_superuser(self._folder, self._port) as connection:
            connection.execute(statement.format(sql.Identifier(postgres.DATABASE), sql.Literal(self._fingerprint)))

    def collect_static_files(self) -> None:
        """Put style sheets, scripts and icons into the folder they are served from."""
        stamp = self._folder.stamps / "static"
        if stamp.is_file() and stamp.read_text() == self._fingerprint and self._folder.static.is_dir():
            return
        with self._progress.step("style sheets and scripts collected"):
            self._manage("collectstatic", "--noinput", "--clear", "--verbosity", "0")
        stamp.write_text(self._fingerprint)

    def migrate(self) -> None:
        """Bring the tables to this code's shape."""
        with self._progress.step("tables made"):
            self._manage("migrate", "--noinput", "--skip-checks", more=OWNER_ROLE)

    def fill(self) -> None:
        """Default rows, schedule and queues (`manage.py prepare`), and the first user."""
        with self._progress.step("default rows and queues made"):
            self._manage("prepare")
        if not self._folder.admin_password_file.exists():
            write_private(self._folder.admin_password_file, legible_password() + "\n")
        with self._progress.step(f"user {ADMIN} made"):
            self._manage(
                "create_user", ADMIN, "--roles", *ADMIN_ROLES, "--password-file", str(self._folder.admin_password_file)
            )

    def _manage(self, *arguments: str, more: dict[str, str] | None = None) -> None:
        environment = application_environment(self._folder) | (more or {})
        self._supervisor.step(f"manage-{arguments[0]}", manage_command(*arguments), environment, CODE)


def code_fingerprint(code: Path) -> str:
    """One digest over all files that decide what tables, default rows, queues and static files there are."""
    digest = hashlib.sha256()
    for path in sorted(_deciding_files(code)):
        digest.update(str(path.relative_to(code)).encode() + b"\0")
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _deciding_files(code: Path) -> Iterator[Path]:
    yield code / "requirements.txt"
    for folder in ("apps", "workers", "dicomsys", "fixtures"):
        for path in (code / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                yield path
