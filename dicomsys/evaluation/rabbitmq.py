"""The instance's RabbitMQ: a node of its own with TLS and client certificates only, and its own epmd."""

import base64
import hashlib
import json
import os
import secrets
import shlex
import ssl
from pathlib import Path

import amqp

from dicomsys.evaluation.environment import MARK, base_environment
from dicomsys.evaluation.folder import Folder, write_private
from dicomsys.evaluation.passwords import password_of
from dicomsys.evaluation.ports import LOOPBACK
from dicomsys.evaluation.supervisor import Program, StartError

VIRTUAL_HOST = USER = "dicomsys"
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
EPMD = Path("/usr/bin/epmd")
FLOOR = (3, 12)

CONFIGURATION = """\
# Written at each start.
listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:{port}
ssl_options.cacertfile = {base}/certificates/ca.crt
ssl_options.certfile = {base}/certificates/rabbitmq.crt
ssl_options.keyfile = {base}/certificates/rabbitmq.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
ssl_options.versions.1 = tlsv1.3
ssl_options.versions.2 = tlsv1.2
load_definitions = {base}/rabbitmq/definitions.json
log.console = true
log.console.level = info
log.file = false
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 500MB
"""
LOOPBACK_ONLY = "[{kernel, [{inet_dist_use_interface, {127, 0, 0, 1}}]}].\n"


def write_configuration(folder: Folder, port: int) -> None:
    """Write the node's files for this start; the password goes in as a hash only."""
    node = folder.path / "rabbitmq"
    for path in (node, node / "home", node / "mnesia", node / "log"):
        path.mkdir(mode=0o700, exist_ok=True)
    cookie = node / "home" / ".erlang.cookie"
    if not cookie.exists():
        write_private(cookie, secrets.token_hex(24), 0o400)
    write_private(node / "rabbitmq.conf", CONFIGURATION.format(port=port, base=folder.short()))
    write_private(node / "advanced.config", LOOPBACK_ONLY)
    write_private(node / "enabled_plugins", "[].\n")
    write_private(node / "definitions.json", json.dumps(_definitions(password_of(folder, f"broker-{USER}")), indent=1))


def _definitions(password: str) -> dict[str, object]:
    user = {
        "name": USER,
        "password_hash": password_hash(password, os.urandom(4)),
        "hashing_algorithm": "rabbit_password_hashing_sha512",
        "tags": [],
    }
    permission = {"user": USER, "vhost": VIRTUAL_HOST, "configure": ".*", "write": ".*", "read": ".*"}
    return {"users": [user], "vhosts": [{"name": VIRTUAL_HOST}], "permissions": [permission]}


def password_hash(password: str, salt: bytes) -> str:
    """RabbitMQ's salted SHA-512 form: base64 of four bytes of salt and the digest of salt and password."""
    return base64.b64encode(salt + hashlib.sha512(salt + password.encode()).digest()).decode()


def node_environment(folder: Folder, dist_port: int, epmd_port: int) -> dict[str, str]:
    """The variables of the server's script and of its command line tools."""
    node = folder.short() / "rabbitmq"
    return base_environment(folder) | {
        "HOME": str(node / "home"),
        "RABBITMQ_NODENAME": "dicomsys@localhost",
        "RABBITMQ_MNESIA_BASE": str(node / "mnesia"),
        "RABBITMQ_LOG_BASE": str(node / "log"),
        "RABBITMQ_CONFIG_FILE": str(node / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(node / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(node / "enabled_plugins"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_PID_FILE": str(node / "pid"),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        "RUNNING_UNDER_SYSTEMD": "1",  # the script becomes the node itself instead of waiting beside it
        "LANG": "C.UTF-8",
    }


def programs(folder: Folder, dist_port: int, epmd_port: int) -> list[Program]:
    """epmd in the foreground, so that the node does not start one that outlives it, and the node."""
    if not SERVER.exists():
        raise StartError(f"no {SERVER}: install the package rabbitmq-server")
    environment = node_environment(folder, dist_port, epmd_port)
    return [
        Program("epmd", [str(EPMD), "-port", str(epmd_port), "-address", LOOPBACK], environment, folder.path, stage=0),
        Program("rabbitmq", [str(SERVER)], environment, folder.path, stage=1),
    ]


def write_command_line_tool(folder: Folder, dist_port: int, epmd_port: int) -> None:
    """Write a rabbitmqctl that talks to this node only; like the node it opens no port beyond loopback."""
    environment = node_environment(folder, dist_port, epmd_port)
    environment["RABBITMQ_CTL_ERL_ARGS"] = "-kernel inet_dist_use_interface {127,0,0,1}"
    words = " ".join(f"{name}={shlex.quote(value)}" for name, value in environment.items() if name != MARK)
    home = shlex.quote(environment["HOME"])  # Erlang complains on standard output about a folder that it cannot read
    script = f'#!/bin/sh\ncd {home} || exit\nexec env -i {words} {SERVER.with_name("rabbitmqctl")} "$@"\n'
    write_private(folder.rabbitmqctl, script, 0o700)


def connect(folder: Folder, port: int) -> amqp.Connection:
    """An open AMQPS connection as the application's user. Raises OSError or an amqp error."""
    tls = {
        "ca_certs": str(folder.certificates / "ca.crt"),
        "certfile": str(folder.certificates / "client.crt"),
        "keyfile": str(folder.certificates / "client.key"),
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": LOOPBACK,
    }
    connection = amqp.Connection(
        f"{LOOPBACK}:{port}",
        userid=USER,
        password=password_of(folder, f"broker-{USER}"),
        virtual_host=VIRTUAL_HOST,
        ssl=tls,
        connect_timeout=5,
        read_timeout=5,
    )
    connection.connect()
    return connection


def is_up(folder: Folder, port: int) -> bool:
    """Whether the node takes the application's user in."""
    try:
        connect(folder, port).close()
    except (OSError, amqp.AMQPError):
        return False
    return True


def consumers(folder: Folder, port: int, queue: str) -> int:
    """How many workers consume from a queue; 0 where there is no such queue."""
    try:
        connection = connect(folder, port)
    except (OSError, amqp.AMQPError):
        return 0
    try:
        return int(connection.channel().queue_declare(queue, passive=True).consumer_count)
    except (OSError, amqp.AMQPError):
        return 0
    finally:
        connection.close()


def server_version() -> str:
    """The installed version, as 3.10.8, by the name of its library folder."""
    libraries = SERVER.parent.parent.glob("lib/rabbitmq_server-*")
    return next((path.name.removeprefix("rabbitmq_server-") for path in libraries), "unknown")
