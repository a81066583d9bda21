"""PostgreSQL and RabbitMQ of an instance, really started, in a folder with a long name with spaces."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import amqp
import keyring
import psycopg
import pytest

from dicomsys.evaluation import postgres, rabbitmq
from dicomsys.evaluation.folder import Folder, read_json
from dicomsys.evaluation.leftovers import leftovers
from dicomsys.evaluation.passwords import password_of
from dicomsys.evaluation.ports import LISTEN_STATE


def run(command, folder):
    words = [sys.executable, "-m", "dicomsys.evaluation", command, "--folder", str(folder.path)]
    words += ["--detach"] if command == "services" else []
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    present = keyring.get_keyring()
    folder = Folder(tmp_path_factory.mktemp("a folder with spaces") / ("and a long name " * 5))
    started = run("services", folder)
    assert started.returncode == 0, started.stdout + started.stderr
    yield folder
    stopped = run("stop", folder)
    assert leftovers(folder) == [], stopped.stdout + stopped.stderr
    keyring.set_keyring(present)


@pytest.fixture
def ports(services):
    return read_json(services.ports_file)


def connect(services, ports, role="dicomsys_app", **changes):
    parameters = {
        "host": "127.0.0.1",
        "port": ports["postgres"],
        "dbname": "dicomsys",
        "user": role,
        "password": password_of(services, f"database-{role}"),
        "sslmode": "verify-full",
        "sslrootcert": str(services.certificates / "ca.crt"),
        "autocommit": True,
    }
    return psycopg.connect(**parameters | changes)


def test_the_database_is_reached_by_tls_and_password_only(services, ports):
    with connect(services, ports) as connection:
        assert connection.execute("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
            "TLSv1.3",
        )
    with pytest.raises(psycopg.OperationalError, match="no encryption|rejects"):
        connect(services, ports, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="password"):
        connect(services, ports, password="wrong")


def test_the_superuser_has_the_local_socket_only(services, ports):
    with pytest.raises(psycopg.OperationalError, match="rejects"):
        connect(services, ports, "postgres")
    with postgres.connect_as_superuser(services, ports["postgres"]) as connection:
        assert connection.execute("SHOW log_parameter_max_length").fetchone() == ("0",)
        assert connection.execute("SHOW data_checksums").fetchone() == ("on",)


def test_the_application_writes_rows_of_the_owner_but_no_tables(services, ports):
    with connect(services, ports, "dicomsys_owner") as connection:
        connection.execute("CREATE TABLE trial (id bigserial, secret bytea)")
    with connect(services, ports) as connection:
        connection.execute("INSERT INTO trial (secret) VALUES (pgp_sym_encrypt('a', 'key'))")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE TABLE another (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DROP TABLE trial")
    with connect(services, ports, "dicomsys_owner") as connection:
        connection.execute("DROP TABLE trial")


def test_a_database_made_by_the_owner_is_like_the_real_one(services, ports):
    with connect(services, ports, "dicomsys_owner") as connection:
        connection.execute("CREATE DATABASE trial")
    with connect(services, ports, "dicomsys_owner", dbname="trial") as connection:
        connection.execute("CREATE TABLE trial AS SELECT similarity('a', unaccent('a')) AS one")
    with connect(services, ports, dbname="trial") as connection:
        assert connection.execute("SELECT one FROM trial").fetchone() == (1.0,)
    with connect(services, ports, "dicomsys_owner") as connection:
        connection.execute("DROP DATABASE trial")


def test_the_broker_knows_our_user_and_no_guest(services, ports):
    assert rabbitmq.is_up(services, ports["amqps"])
    tls = {"ca_certs": str(services.certificates / "ca.crt"), "server_hostname": "127.0.0.1"}
    client = {
        "certfile": str(services.certificates / "client.crt"),
        "keyfile": str(services.certificates / "client.key"),
    }
    for user, virtual_host, ssl in (("guest", "/", tls | client), ("guest", "dicomsys", tls | client)):
        with pytest.raises((amqp.AMQPError, OSError)):
            amqp.Connection(
                f"127.0.0.1:{ports['amqps']}", user, "guest", virtual_host=virtual_host, ssl=ssl, connect_timeout=5
            ).connect()
    without_certificate = amqp.Connection(
        f"127.0.0.1:{ports['amqps']}",
        "dicomsys",
        password_of(services, "broker-dicomsys"),
        virtual_host="dicomsys",
        ssl=tls,
        connect_timeout=5,
        read_timeout=5,
    )
    with pytest.raises((amqp.AMQPError, OSError)):
        without_certificate.connect()


def test_nothing_listens_beyond_loopback(services, ports):
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_ = line.split()
            address, port = local.split(":")
            if state == LISTEN_STATE and int(port, 16) in ports.values():
                addresses.add(address)
    assert addresses <= {"0100007F", "00000000000000000000000001000000"}


def test_no_process_shows_a_password(services):
    secrets = [password_of(services, name).encode() for name in ("database-postgres", "broker-dicomsys")]
    for pid in leftovers(services):
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert not any(secret in shown for secret in secrets)


def test_a_second_start_says_that_it_runs(services):
    again = run("services", services)
    assert again.returncode == 0
    assert "already running" in again.stdout


def test_a_killed_database_comes_back_by_itself(services, ports):
    first = read_json(services.state_file)["processes"]["postgresql"]["pid"]
    os.kill(first, signal.SIGKILL)
    until = time.monotonic() + 30
    while read_json(services.state_file)["processes"]["postgresql"]["pid"] in (first, None) or not postgres.is_up(
        services, ports["postgres"]
    ):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert run("status", services).returncode == 0
