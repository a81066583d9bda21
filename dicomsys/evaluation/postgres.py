"""The instance's PostgreSQL: a cluster of its own with TLS, scram and three roles, from the system's package."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from dicomsys.evaluation.environment import base_environment
from dicomsys.evaluation.folder import Folder, write_private
from dicomsys.evaluation.leftovers import is_worked_in
from dicomsys.evaluation.passwords import password_of
from dicomsys.evaluation.supervisor import Program, StartError

DATABASE = "dicomsys"
SUPERUSER, OWNER, APPLICATION = "postgres", "dicomsys_owner", "dicomsys_app"
EXTENSIONS = ("pgcrypto", "pg_trgm", "unaccent")
Connection = psycopg.Connection[tuple[Any, ...]]
INSTALLED = Path("/usr/lib/postgresql")
FLOOR = 16

CONFIGURATION = """\
# Written at each start.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 80
shared_buffers = 128MB
work_mem = 8MB
maintenance_work_mem = 64MB
max_wal_size = 512MB
max_parallel_workers_per_gather = 0
dynamic_shared_memory_type = posix
password_encryption = scram-sha-256
ssl = on
ssl_min_protocol_version = 'TLSv1.2'
ssl_ca_file = '{certificates}/ca.crt'
ssl_cert_file = '{certificates}/postgresql.crt'
ssl_key_file = '{certificates}/postgresql.key'
# No value of a statement may reach the log: it could be a person's.
log_parameter_max_length = 0
log_parameter_max_length_on_error = 0
log_min_error_statement = panic
log_error_verbosity = terse
log_line_prefix = '%m [%p] %q%u@%d '
log_timezone = 'UTC'
timezone = 'UTC'
datestyle = 'iso, ymd'
lc_messages = 'C.UTF-8'
default_text_search_config = 'pg_catalog.simple'
tcp_keepalives_idle = 30
"""
ACCESS = f"""\
# Written at each start. The superuser comes by the local socket only, all else by TLS or that socket.
local   all {SUPERUSER} scram-sha-256
local   all {OWNER},{APPLICATION} scram-sha-256
hostssl all {OWNER},{APPLICATION} 127.0.0.1/32 scram-sha-256
host    all all all reject
"""


def major_version(folder: Folder) -> int:
    """The major version of the cluster, or the newest installed one where there is no cluster yet."""
    version_file = folder.postgres_data / "PG_VERSION"
    if version_file.is_file():
        return int(version_file.read_text())
    installed = [int(path.name) for path in INSTALLED.glob("*") if (path / "bin" / "initdb").exists()]
    if not installed:
        raise StartError(f"no PostgreSQL server below {INSTALLED}: install the package postgresql")
    return max(installed)


def programs_folder(folder: Folder) -> Path:
    """Where the programs of the cluster's major version are. Raises StartError when they are gone."""
    version = major_version(folder)
    programs = INSTALLED / str(version) / "bin"
    if not (programs / "postgres").exists():
        raise StartError(
            f"this instance's data was made by PostgreSQL {version}, which is no longer installed: install "
            f"postgresql-{version}, or make the instance anew with --reset"
        )
    return programs


def create_cluster(folder: Folder) -> None:
    """Make the cluster where there is none. An attempt that was cut short is made anew."""
    if (folder.postgres_data / "PG_VERSION").is_file():
        return
    partial = folder.postgres_data.with_name("data.new")
    subprocess.run(["rm", "-rf", "--", str(partial)], check=True)
    reading, writing = os.pipe()
    os.write(writing, password_of(folder, "database-postgres").encode() + b"\n")
    os.close(writing)
    command = [
        str(programs_folder(folder) / "initdb"),
        f"--pgdata={partial}",
        f"--username={SUPERUSER}",
        f"--pwfile=/dev/fd/{reading}",
        "--auth-local=scram-sha-256",
        "--auth-host=scram-sha-256",
        "--data-checksums",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--no-instructions",
    ]
    result = subprocess.run(
        command, env=base_environment(folder), pass_fds=[reading], capture_output=True, text=True, check=False
    )
    os.close(reading)
    if result.returncode != 0:
        raise StartError(f"initdb failed:\n{result.stdout}{result.stderr}")
    partial.rename(folder.postgres_data)


def write_configuration(folder: Folder, port: int) -> None:
    """Write postgresql.conf and pg_hba.conf for this start."""
    base = folder.short()
    text = CONFIGURATION.format(port=port, sockets=base / "run", certificates=base / "certificates")
    write_private(folder.postgres_data / "postgresql.conf", text)
    write_private(folder.postgres_data / "pg_hba.conf", ACCESS)


def program(folder: Folder) -> Program:
    """The server in the foreground; SIGINT is its fast shutdown."""
    return Program(
        name="postgresql",
        command=[str(programs_folder(folder) / "postgres"), "-D", str(folder.postgres_data)],
        environment=base_environment(folder),
        folder=folder.postgres_data,
        stage=1,
        stop_signal=signal.SIGINT,
        before_start=lambda: _remove_stale_lock(folder.postgres_data),
    )


def _remove_stale_lock(data: Path) -> None:
    """After a crash of the machine the process id in the lock may be another program's; the server would not start."""
    if not is_worked_in(data):
        (data / "postmaster.pid").unlink(missing_ok=True)


def connect_as_superuser(folder: Folder, port: int, database: str = "postgres") -> Connection:
    """An autocommit connection over the local socket."""
    return psycopg.connect(
        host=str(folder.short() / "run"),
        port=port,
        user=SUPERUSER,
        dbname=database,
        password=password_of(folder, "database-postgres"),
        connect_timeout=5,
        autocommit=True,
    )


def is_up(folder: Folder, port: int) -> bool:
    """Whether the server takes the superuser in."""
    try:
        with connect_as_superuser(folder, port):
            return True
    except psycopg.OperationalError:
        return False


def prepare_roles(folder: Folder, port: int, may_create_databases: bool) -> None:
    """Make roles, extensions and the database, once; safe to repeat after an interruption.

    template1 gets extensions, schema owner and default rights too, so that a test's database is like the real one.
    """
    with connect_as_superuser(folder, port) as connection:
        if _exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", DATABASE):
            return
        for role in (OWNER, APPLICATION):
            _create_role(connection, folder, role)
        create_databases = sql.SQL("CREATEDB" if may_create_databases else "NOCREATEDB")
        connection.execute(sql.SQL("ALTER ROLE {} {}").format(sql.Identifier(OWNER), create_databases))
    with connect_as_superuser(folder, port, "template1") as connection:
        for statement in _schema_statements():
            connection.execute(statement)
    with connect_as_superuser(folder, port) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE} OWNER {OWNER} TEMPLATE template1")
        connection.execute(f"REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC")
        connection.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {APPLICATION}")


def is_lock_held(folder: Folder, port: int, key: int) -> bool:
    """Whether some session of the database holds the advisory lock of that 64-bit key."""
    query = """SELECT 1 FROM pg_locks JOIN pg_database AS d ON d.oid = database WHERE locktype = 'advisory' AND granted
        AND datname = %s AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = %s::bigint"""
    try:
        with connect_as_superuser(folder, port) as connection:
            return connection.execute(query, [DATABASE, key]).fetchone() is not None
    except psycopg.OperationalError:
        return False


def _create_role(connection: Connection, folder: Folder, role: str) -> None:
    if not _exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", role):
        connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    # The server sees the verifier only, never the password.
    verifier = connection.pgconn.encrypt_password(
        password_of(folder, f"database-{role}").encode(), role.encode(), b"scram-sha-256"
    )
    statement = sql.SQL("ALTER ROLE {} LOGIN NOSUPERUSER NOCREATEROLE PASSWORD {}")
    connection.execute(statement.format(sql.Identifier(role), sql.Literal(verifier.decode())))


def _schema_statements() -> list[str]:
    rights = f"ALTER DEFAULT PRIVILEGES FOR ROLE {OWNER} IN SCHEMA public GRANT"
    return [
        *(f"CREATE EXTENSION IF NOT EXISTS {extension}" for extension in EXTENSIONS),
        f"ALTER SCHEMA public OWNER TO {OWNER}",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"GRANT USAGE ON SCHEMA public TO {APPLICATION}",
        f"{rights} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {APPLICATION}",
        f"{rights} USAGE, SELECT ON SEQUENCES TO {APPLICATION}",
    ]


def _exists(connection: Connection, query: str, value: str) -> bool:
    return connection.execute(query, [value]).fetchone() is not None


def server_version(folder: Folder) -> str:
    """What `postgres --version` says, as 15.18."""
    said = subprocess.run(
        [str(programs_folder(folder) / "postgres"), "--version"], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"\d+(\.\d+)?", said)
    return found.group() if found else said.strip()
