"""What can be wrong with a running system, asked part by part. Each answer says what to do."""

import json
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from pydicom.uid import UID
from pynetdicom import AE

from apps.core.broker import DEAD_QUEUE, all_queues, count_messages, open_broker
from apps.core.checks import POSTGRESQL_FLOOR, RABBITMQ_FLOOR, version_numbers
from apps.core.grants import APP_ROLE
from apps.core.leader import lock_key
from apps.core.local_socket import ask_state
from apps.core.models import Outbox
from apps.core.queue import QUEUE_NAMES
from apps.core.secrets import read_secret
from apps.nodes.models import RemoteNode
from apps.nodes.snapshot import is_published, rules_file
from apps.storage.models import Volume
from apps.storage.probe import probe_folder
from apps.storage.spool import Spool

OK, NOTE, WRONG = "ok", "note", "WRONG"
SECRETS = ("django-secret-key", "identity-key", "rules-key", f"database-{APP_ROLE}")
OUTBOX_AGE_MAX = timedelta(seconds=60)
SPOOL_AGE_MAX_S = 120
BEAT_AGE_MAX = timedelta(seconds=60)
CLOCK_DIFFERENCE_MAX_S = 2.0
CERTIFICATE_DAYS_MIN = 30
ECHO_TIMEOUT_S = 5
RECEIVER_STATUS_AGE_MAX_S = 30
VERIFICATION = UID("1.2.840.10008.1.1")  # PS3.4 A.4
RABBITMQCTL_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the doctor's table."""

    part: str
    state: str
    text: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """Every part in turn; a part that cannot be asked at all is wrong, with the error's type."""
    for part, question in _QUESTIONS.items():
        try:
            yield from (Finding(part, *answer) for answer in question())
        except Exception as error:  # the edge: one broken part must not hide the others
            yield Finding(part, WRONG, f"{type(error).__name__}: {_first_line(error)}", _ADVICE.get(part, ""))


Answer = tuple[str, ...]  # state, text and, where something is to be done, advice


def _database() -> Iterator[Answer]:
    version = _ask("SELECT current_setting('server_version')")
    number = divmod(int(_ask("SELECT current_setting('server_version_num')")), 10000)
    yield _floor("PostgreSQL", version, number >= POSTGRESQL_FLOOR, POSTGRESQL_FLOOR)
    missing = MigrationExecutor(connection).migration_plan(MigrationExecutor(connection).loader.graph.leaf_nodes())
    if missing:
        yield WRONG, f"{len(missing)} migrations are not applied", "run `manage.py migrate` as the owner role"


def _tls() -> Iterator[Answer]:
    version, cipher = _row("SELECT version, cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
    yield OK, f"database connection: {version}, {cipher}"
    length = _ask("SELECT current_setting('log_parameter_max_length')")
    if length != "0":
        yield WRONG, f"the server logs parameters (log_parameter_max_length = {length})", "set it to 0 and reload"
    for path in dict.fromkeys(settings.CERTIFICATE_FILES):
        yield _certificate(Path(path))


def _certificate(path: Path) -> Answer:
    left = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc - datetime.now(UTC)
    if left.days < CERTIFICATE_DAYS_MIN:
        return WRONG, f"{path.name} expires in {left.days} days", "renew the certificate"
    return OK, f"{path.name} is valid for {left.days} days"


def _roles() -> Iterator[Answer]:
    role = _ask("SELECT current_user::text")
    can_create = _ask("SELECT has_schema_privilege('public', 'CREATE')")
    if role != APP_ROLE or can_create:
        yield WRONG, f"working as {role}" + (", which may create tables" if can_create else ""), f"work as {APP_ROLE}"
    else:
        yield OK, f"working as {role}, which has no DDL"


def _pgcrypto() -> Iterator[Answer]:
    version = _ask("SELECT max(extversion) FROM pg_extension WHERE extname = 'pgcrypto'")
    if version is None:
        yield WRONG, "the extension is missing", "run `manage.py migrate` as the owner role"
    else:
        yield OK, f"version {version}"


def _broker() -> Iterator[Answer]:
    with open_broker() as broker:
        broker.connect()
        server = broker.connection.server_properties
        transport = broker.connection.transport.sock
        encrypted = transport.version() if isinstance(transport, ssl.SSLSocket) else None
    version = server["version"]
    yield _floor("RabbitMQ", version, version_numbers(version) >= RABBITMQ_FLOOR, RABBITMQ_FLOOR)
    if encrypted is None:
        yield WRONG, "the broker connection is not encrypted", "use an amqps:// address"
    else:
        yield OK, f"broker connection: {encrypted}, client certificate"


def _queues() -> Iterator[Answer]:
    counts = count_messages()
    yield OK, ", ".join(f"{name} {counts[name]}" for name in QUEUE_NAMES)


def _queue_members() -> Iterator[Answer]:
    if not settings.RABBITMQCTL:
        yield NOTE, "not asked", "set DICOMSYS_RABBITMQCTL to a rabbitmqctl that may talk to the node"
        return
    words = [
        settings.RABBITMQCTL,
        "-q",
        "list_queues",
        "-p",
        settings.BROKER_VHOST,
        "name",
        "members",
        "--formatter",
        "json",
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=RABBITMQCTL_TIMEOUT_S, check=True)
    members = {row["name"]: len(row["members"] or ()) for row in json.loads(done.stdout)}
    yield OK, ", ".join(f"{queue.name} {members.get(queue.name, 0)}" for queue in all_queues())
    few = [queue.name for queue in all_queues() if members.get(queue.name, 0) < settings.BROKER_NODES]
    if few:
        yield WRONG, f"fewer than {settings.BROKER_NODES} members: {', '.join(few)}", "rabbitmq-queues grow NODE all"


def _dead_letters() -> Iterator[Answer]:
    count = count_messages()[DEAD_QUEUE.name]
    if count:
        yield WRONG, f"{count} messages", "each is a crash or a bug: look into the workers' logs"
    else:
        yield OK, "none"


def _workers() -> Iterator[Answer]:
    with open_broker() as broker:
        for name in QUEUE_NAMES:
            channel = broker.channel()
            count = channel.queue_declare(name, passive=True).consumer_count
            channel.close()
            if count:
                yield OK, f"{name}: {count}"
            else:
                yield WRONG, f"{name}: none", f"start a worker for the queue {name}"


def _relay() -> Iterator[Answer]:
    yield _leader("relay")
    oldest = Outbox.objects.filter(sent_at=None).order_by("id").first()
    if oldest and timezone.now() - oldest.created_at > OUTBOX_AGE_MAX:
        yield WRONG, f"the oldest unsent row is from {oldest.created_at:%H:%M:%S}", "is the broker reachable?"
    else:
        yield OK, f"{Outbox.objects.filter(sent_at=None).count()} rows wait"


def _beat() -> Iterator[Answer]:
    yield _leader("beat")
    last = PeriodicTask.objects.exclude(last_run_at=None).order_by("-last_run_at").first()
    if last is None:
        yield NOTE, "has not asked for anything yet"
    elif timezone.now() - last.last_run_at > BEAT_AGE_MAX:
        yield WRONG, f"asked for work last at {last.last_run_at:%Y-%m-%d %H:%M:%S}", "is the broker reachable?"
    else:
        yield OK, f"asked for {last.task} at {last.last_run_at:%H:%M:%S}"


def _receiver() -> Iterator[Answer]:
    ae = AE(ae_title=settings.AE_TITLE)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = ECHO_TIMEOUT_S
    ae.add_requested_context(VERIFICATION)
    started = time.monotonic()
    assoc = ae.associate(settings.DICOM_ADDRESS, settings.DICOM_PORT, ae_title=settings.AE_TITLE)
    where = f"{settings.AE_TITLE} at {settings.DICOM_ADDRESS} port {settings.DICOM_PORT}"
    if not assoc.is_established:
        reason = "refuses our AE title" if assoc.is_rejected else "does not answer"
        yield WRONG, f"{where} {reason}", "start the receiver"
        return
    status = assoc.send_c_echo()
    assoc.release()
    if status.get("Status") == 0:
        yield OK, f"{where} answered C-ECHO in {1000 * (time.monotonic() - started):.0f} ms"
    else:
        yield WRONG, f"{where} answered C-ECHO with no success", "look into the receiver's log"


def _services() -> Iterator[Answer]:
    try:
        state = ask_state(settings.SERVICES_SOCKET, ECHO_TIMEOUT_S)
    except OSError as error:
        yield WRONG, f"C-FIND is not answered ({type(error).__name__})", "start `python -m workers.services`"
        return
    text = f"{state['associations']} of {state['limit']} associations"
    if state["associations"] >= state["limit"]:
        yield WRONG, text, "further ones are rejected: raise DICOMSYS_DICOM_MAX_ASSOCIATIONS, or find who holds them"
    else:
        yield OK, text


def _connections() -> Iterator[Answer]:
    """What the receiver's first process counted, over all of its processes."""
    status = json.loads(settings.RECEIVER_STATUS_FILE.read_text())
    age_s = time.time() - status["written_at"]
    text = "{processes} processes, {associations} associations, {connecting} connections without a request".format(
        **status
    )
    if age_s > RECEIVER_STATUS_AGE_MAX_S:
        yield WRONG, f"counted last {age_s:.0f} s ago: {text}", "is the receiver running, and its disk not full?"
    elif status["processes"] == 0:
        yield WRONG, text, "look into the receiver's log"
    elif status["connecting"] >= settings.DICOM_MAX_CONNECTING:
        yield WRONG, text, "somebody opens connections and says nothing: a port scan, or a hanging station?"
    elif status["associations"] >= settings.DICOM_MAX_ASSOCIATIONS:
        yield WRONG, f"{text}: no more are accepted", "raise DICOMSYS_DICOM_MAX_ASSOCIATIONS, or find who holds them"
    else:
        yield OK, text


def _rules() -> Iterator[Answer]:
    unknown = RemoteNode.objects.filter(is_active=True, check_address=True, sender_addresses="")
    for node in unknown.exclude(resolution_error=""):
        yield WRONG, f"{node.ae_title}, host {node.host}: {node.resolution_error}", "correct the host of the node"
    if is_published():
        yield OK, f"{RemoteNode.objects.filter(is_active=True).count()} nodes, as the receiver reads them"
    else:
        name = rules_file().name
        yield WRONG, f"{name} does not say what the tables say", "are beat and the maintenance worker running?"


def _file_store() -> Iterator[Answer]:
    volumes = list(Volume.objects.all())
    if not volumes:
        yield WRONG, "no volume", "run `manage.py prepare`"
    for volume in volumes:
        probe_folder(Path(volume.root))
        free = shutil.disk_usage(volume.root).free
        yield OK, f"{volume.name}: write, sync, rename, read, delete; {free / 1e9:.1f} GB free"


def _spool() -> Iterator[Answer]:
    spool = Spool(settings.SPOOL_DIR)
    count, age_s = len(spool.closed_batches()), spool.oldest_age_s()
    if age_s > SPOOL_AGE_MAX_S:
        yield (
            WRONG,
            f"{count} batches, the oldest {age_s:.0f} s old",
            "is the ingest worker running and the store free?",
        )
    else:
        yield OK, f"{count} batches wait"


def _secrets() -> Iterator[Answer]:
    for name in SECRETS:
        read_secret(name)
    yield OK, ", ".join(SECRETS)


def _disk() -> Iterator[Answer]:
    usage = shutil.disk_usage(settings.DATA_DIR)
    text = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free for the spool"
    if usage.free < settings.SPOOL_MIN_FREE_BYTES:
        yield WRONG, text, "make room: C-STORE is refused with 0xA700"
    else:
        yield OK, text


def _clock() -> Iterator[Answer]:
    server = float(_ask("SELECT extract(epoch FROM clock_timestamp())"))
    difference = abs(time.time() - server)
    if difference > CLOCK_DIFFERENCE_MAX_S:
        yield WRONG, f"{difference:.1f} s apart from the database server", "synchronise both clocks (chrony)"
    else:
        yield OK, f"{difference * 1000:.0f} ms apart from the database server"


def _leader(name: str) -> Answer:
    key = lock_key(name) & 0xFFFFFFFFFFFFFFFF
    held = _ask(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND classid = %s::bigint::oid AND objid = %s::bigint::oid",
        key >> 32,
        key & 0xFFFFFFFF,
    )
    return (OK, "running") if held else (WRONG, "not running", f"start `python -m workers.{name}`")


def _floor(product: str, version: str, is_reached: bool, floor: tuple[int, int]) -> Answer:
    if is_reached:
        return OK, f"{product} {version}"
    text = f"{product} {version}: production needs {floor[0]}.{floor[1]} or newer"
    return (WRONG, text, f"install {product} {floor[0]}.{floor[1]}") if settings.IS_PRODUCTION else (NOTE, text)


def _ask(statement: str, *parameters: int) -> str:
    return _row(statement, *parameters)[0]


def _row(statement: str, *parameters: int) -> tuple:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        row = cursor.fetchone()
    if row is None:
        raise LookupError("the server has no answer")
    return row


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


_QUESTIONS: dict[str, Callable[[], Iterator[Answer]]] = {
    "database": _database,
    "TLS": _tls,
    "roles": _roles,
    "pgcrypto": _pgcrypto,
    "broker": _broker,
    "queues": _queues,
    "queue members": _queue_members,
    "dead letters": _dead_letters,
    "workers": _workers,
    "relay": _relay,
    "beat": _beat,
    "receiver": _receiver,
    "services": _services,
    "connections": _connections,
    "rules": _rules,
    "file store": _file_store,
    "spool": _spool,
    "secrets": _secrets,
    "disk": _disk,
    "clock": _clock,
}
_ADVICE = {
    "database": "is PostgreSQL running, and does its certificate fit the host name?",
    "TLS": "the connection must use TLS",
    "broker": "is RabbitMQ running, and are the certificates valid?",
    "queues": "run `manage.py declare_queues`",
    "queue members": "does the command of DICOMSYS_RABBITMQCTL work?",
    "dead letters": "run `manage.py declare_queues`",
    "workers": "run `manage.py declare_queues`",
    "connections": "is the receiver running?",
    "rules": "are beat and the maintenance worker running, and may they write into the data folder?",
    "file store": "is the volume mounted and writable by this user?",
    "secrets": "put the secret into the keyring",
}
