"""The rules as a file: written after commit, healed, never an older one, whatever the name server does."""

import socket
import threading
import time

import pytest
from django.db import OperationalError, connection, transaction

from apps.nodes import resolving, snapshot
from apps.nodes.models import CalledTitle, RemoteNode
from apps.nodes.resolving import resolve
from apps.nodes.signed import UnfitFileError, read_signed
from apps.nodes.snapshot import is_published, publish_rules, rules_file
from tests.peers import free_port
from workers.receiver.rules import Caller, rules_from_settings

pytestmark = pytest.mark.django_db


@pytest.fixture
def names(monkeypatch):
    """Host names of a clinic, instead of a name server."""
    known = {"ct1.clinic": ["10.0.0.7", "fd00::7"]}

    def getaddrinfo(host, *args, **kwargs):
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        if isinstance(known[host], Exception):
            raise known[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in known[host]]

    monkeypatch.setattr(resolving.socket, "getaddrinfo", getaddrinfo)
    return known


def make_node(**changes) -> RemoteNode:
    return RemoteNode.objects.create(**{"name": "CT", "ae_title": "CT1", "host": "10.0.0.7", "port": 104, **changes})


def written(settings) -> dict:
    return read_signed(rules_file(), settings.RULES_KEY)


def may_connect(ae_title="CT1", address="10.0.0.7", called="DICOMSYS") -> bool:
    return rules_from_settings().decide(Caller(ae_title, called, address)) is None


def test_what_the_tables_say_is_what_the_receiver_does(names):
    make_node(host="ct1.clinic", max_associations=4)
    make_node(name="Off", ae_title="OFF", is_active=False)
    make_node(name="List", ae_title="LIST", sender_addresses="10.1.0.0/16, 10.2.0.5")
    make_node(name="Free", ae_title="FREE", check_address=False, host="unknown.clinic")
    CalledTitle.objects.create(ae_title="ARCHIVE")
    assert publish_rules()
    assert may_connect()
    assert may_connect(address="fd00::7", called="ARCHIVE")
    assert not may_connect("OFF")
    assert may_connect("LIST", "10.1.2.3")
    assert may_connect("LIST", "10.2.0.5")
    assert not may_connect("LIST", "10.0.0.7")  # its host, but a list is written down
    assert may_connect("FREE", "192.0.2.9")
    assert rules_from_settings().max_associations("CT1") == 4


def test_the_same_rules_are_not_written_twice():
    make_node()
    assert publish_rules()
    before = rules_file().stat()
    assert not publish_rules(look_up_again=True)
    assert rules_file().stat().st_ino == before.st_ino


def save():
    RemoteNode.objects.get().save()


def update():
    RemoteNode.objects.update(may_send=False)


def delete():
    RemoteNode.objects.get().delete()


def delete_many():
    RemoteNode.objects.all().delete()


def bulk_create():
    RemoteNode.objects.bulk_create([RemoteNode(name="B", ae_title="B", host="10.0.0.1")])


def bulk_update():
    node = RemoteNode.objects.get()
    node.requires_tls = True
    RemoteNode.objects.bulk_update([node], ["requires_tls"])


def add_title():
    CalledTitle.objects.create(ae_title="ARCHIVE")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [save, update, delete, delete_many, bulk_create, bulk_update, add_title])
def test_a_change_is_published_once_when_it_is_committed(change, monkeypatch):
    make_node()
    assert is_published()
    calls = []
    monkeypatch.setattr(snapshot, "publish_rules", lambda: calls.append(1) or publish_rules())
    with transaction.atomic():
        change()
        change() if change is save else None
        assert is_published() == (change is save)
        assert calls == []
    assert calls == [1]
    assert is_published()


def test_what_decides_nothing_publishes_nothing(django_capture_on_commit_callbacks):
    node = make_node()
    with django_capture_on_commit_callbacks() as callbacks:
        node.save(update_fields=["last_echo_at", "last_echo_ok"])
        RemoteNode.objects.update(last_echo_result="x")
    assert callbacks == []


def test_a_change_that_is_rolled_back_is_not_published(django_capture_on_commit_callbacks):
    publish_rules()
    with (
        django_capture_on_commit_callbacks() as callbacks,
        pytest.raises(ZeroDivisionError),
        transaction.atomic(),
    ):
        make_node()
        _ = 1 / 0
    assert callbacks == []


@pytest.mark.django_db(transaction=True)
def test_a_failed_write_does_not_fail_the_change(settings, file_store):
    file_store.mkdir(parents=True, exist_ok=True)
    (file_store / "rules").write_text("in the way of the folder")
    make_node()
    assert RemoteNode.objects.exists()
    (file_store / "rules").unlink()
    assert publish_rules()


def test_a_damaged_or_foreign_file_is_replaced(settings):
    make_node()
    publish_rules()
    rules_file().write_bytes(rules_file().read_bytes()[:-9])
    with pytest.raises(UnfitFileError):
        written(settings)
    assert publish_rules()
    settings.RULES_KEY = "another" * 8
    assert not is_published()
    assert publish_rules()


def test_a_name_that_is_unknown_opens_nothing_and_is_told(names):
    node = make_node(host="typo.clinic")
    publish_rules()
    node.refresh_from_db()
    assert node.resolution_error == "no machine of this name is known here"
    assert not may_connect()


def test_a_name_server_that_is_away_takes_no_caller_away(names):
    node = make_node(host="ct1.clinic")
    publish_rules()
    names["ct1.clinic"] = socket.gaierror(socket.EAI_AGAIN, "away")
    publish_rules(look_up_again=True)
    node.refresh_from_db()
    assert node.resolution_error == "the name server does not answer"
    assert may_connect()
    names["ct1.clinic"] = ["10.0.0.99"]
    publish_rules(look_up_again=True)
    assert may_connect(address="10.0.0.99")
    assert not may_connect()


def test_addresses_of_another_name_do_not_stay(names):
    make_node(host="ct1.clinic")
    publish_rules()
    RemoteNode.objects.update(host="typo.clinic")
    publish_rules()
    assert not may_connect()


def test_looking_up_ends_in_time(monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(resolving.socket, "getaddrinfo", lambda *_, **__: release.wait(20) and [])
    started = time.monotonic()
    found = resolve([*(f"slow{number}.clinic" for number in range(40)), "10.0.0.1", "::1"], timeout_s=0.3)
    assert time.monotonic() - started < 5
    release.set()
    assert found["10.0.0.1"].addresses == ("10.0.0.1",)
    assert found["::1"].addresses == ("::1",)
    assert "did not answer within 0.3 s" in found["slow39.clinic"].error


@pytest.mark.parametrize("host", ["..", "a" * 64 + ".clinic", "x..y"])
def test_names_that_cannot_be_asked_for_are_unknown(host):
    assert resolve([host])[host].addresses == ()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("change", [save, update, delete, delete_many, bulk_create, bulk_update, add_title])
def test_a_change_without_a_transaction_is_published_too(change):
    make_node()
    change()
    assert is_published()


@pytest.mark.django_db(transaction=True)
def test_writers_side_by_side_end_with_what_the_tables_say():
    make_node()

    def work(number: int) -> None:
        try:
            for turn in range(10):
                RemoteNode.objects.update(max_associations=number * 100 + turn + 1)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert is_published()


@pytest.mark.django_db(transaction=True)
def test_the_last_good_rules_stay_while_the_database_is_away(monkeypatch):
    make_node()
    asked = rules_from_settings()
    connection.close()
    with monkeypatch.context() as away:
        away.setitem(connection.settings_dict, "PORT", str(free_port()))
        with pytest.raises(OperationalError):
            publish_rules()
        assert asked.decide(Caller("CT1", "DICOMSYS", "10.0.0.7")) is None
        assert may_connect()  # a receiver that starts now
        assert not may_connect("CT2")
    assert is_published()
