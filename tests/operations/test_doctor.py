import json
import subprocess
import time
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command

from apps.nodes.models import RemoteNode
from apps.nodes.snapshot import publish_rules
from apps.operations.doctor import OK, WRONG, examine
from apps.storage.spool import Spool
from tests.peers import free_port

pytestmark = pytest.mark.django_db

PARTS = {
    "database", "TLS", "roles", "pgcrypto", "broker", "queues", "queue members", "dead letters", "workers", "relay",
    "beat", "receiver", "services", "connections", "rules", "file store", "spool", "secrets", "disk", "clock",
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_listens(settings):
    settings.DICOM_PORT = free_port()


def findings() -> dict[str, list]:
    rows: dict[str, list] = {}
    for finding in examine():
        rows.setdefault(finding.part, []).append(finding)
    return rows


def states(rows, part) -> set[str]:
    return {finding.state for finding in rows[part]}


def test_every_part_is_asked_and_every_wrong_one_says_what_to_do(volume):
    rows = findings()
    assert set(rows) == PARTS
    wrong = [finding for part in rows.values() for finding in part if finding.state == WRONG]
    assert {finding.part for finding in wrong} >= {"receiver", "services", "relay", "beat"}
    assert [finding.part for finding in wrong if not finding.advice] == []


def test_what_is_well_is_said_to_be_well(volume):
    rows = findings()
    for part in ("TLS", "roles", "pgcrypto", "file store", "spool", "secrets", "disk", "clock"):
        assert states(rows, part) == {OK}, rows[part]


def test_rules_that_the_receiver_does_not_read_are_wrong(volume):
    RemoteNode.objects.create(name="CT", ae_title="CT1", host="10.0.0.7")
    assert states(findings(), "rules") == {WRONG}
    publish_rules()
    assert states(findings(), "rules") == {OK}


def test_a_host_that_is_unknown_is_wrong(volume):
    RemoteNode.objects.create(name="CT", ae_title="CT1", host="a..b")
    publish_rules()
    (unknown, well) = findings()["rules"]
    assert (unknown.state, well.state) == (WRONG, OK)
    assert unknown.text == "CT1, host a..b: no machine of this name is known here"


def test_a_volume_that_is_away_is_wrong(volume):
    volume.root = str(settings.DATA_DIR / "gone")
    volume.save()
    assert states(findings(), "file store") == {WRONG}


def test_a_batch_that_nobody_takes_is_wrong(volume, monkeypatch):
    batch = Spool(settings.SPOOL_DIR).open_batch()
    batch.write((b"x",))
    batch.close()
    monkeypatch.setattr("apps.operations.doctor.SPOOL_AGE_MAX_S", -1)
    assert states(findings(), "spool") == {WRONG}


def test_a_full_spool_disk_is_wrong(volume, settings):
    settings.SPOOL_MIN_FREE_BYTES = 1 << 60
    assert states(findings(), "disk") == {WRONG}


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, OK),
        ({"processes": 0}, WRONG),
        ({"associations": 50}, WRONG),
        ({"connecting": 64}, WRONG),
        ({"written_at": 0}, WRONG),
    ],
)
def test_the_connections_are_those_that_the_receiver_counts(volume, settings, changes, state):
    counts = {"written_at": time.time(), "processes": 2, "associations": 1, "connecting": 0, **changes}
    settings.RECEIVER_STATUS_FILE.parent.mkdir(exist_ok=True)
    settings.RECEIVER_STATUS_FILE.write_text(json.dumps(counts))
    assert states(findings(), "connections") == {state}


def test_a_broker_that_is_away_is_wrong_and_hides_nothing_else(volume, settings, monkeypatch):
    def away():
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr("apps.operations.doctor.open_broker", away)
    rows = findings()
    assert states(rows, "broker") == {WRONG}
    assert set(rows) == PARTS


def test_rabbitmqctl_answers_from_a_folder_that_its_user_cannot_read(settings, tmp_path):
    words = f"cd {tmp_path} && chmod 000 . && exec {settings.RABBITMQCTL} -q list_queues -p {settings.BROKER_VHOST}"
    words += " name members --formatter json"
    try:
        done = subprocess.run(["/bin/sh", "-c", words], capture_output=True, text=True, timeout=60, check=True)
    finally:
        tmp_path.chmod(0o700)
    assert all(row["members"] for row in json.loads(done.stdout))


def test_the_command_exits_with_1_when_something_is_wrong(volume):
    out = StringIO()
    with pytest.raises(SystemExit) as exit_code:
        call_command("doctor", stdout=out, stderr=StringIO())
    assert exit_code.value.code == 1
    assert "→ start the receiver" in out.getvalue()
