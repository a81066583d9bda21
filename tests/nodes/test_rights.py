"""What a caller may do: title and address together, nothing where it is not known."""

import pytest
from django.db import connection

from apps.nodes.models import CalledTitle, RemoteNode
from apps.nodes.rights import EVERYTHING, NOTHING, CallerRights, Rights
from tests.peers import wait_until

SENDER, SEARCHER = Rights(is_known=True, may_send=True), Rights(is_known=True, may_query=True)


@pytest.fixture
def strict(settings) -> None:
    settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS = False


def node(name="one", ae_title="CT", address="192.0.2.7", **columns) -> RemoteNode:
    values = {"name": name, "ae_title": ae_title, "host": f"{name}.invalid", "sender_addresses": address, **columns}
    return RemoteNode.objects.create(**values)


def rights_of(*callers: tuple[str, str]) -> list[Rights]:
    rights = CallerRights()
    rights.read()
    return [rights.of(*caller) for caller in callers]


@pytest.mark.django_db
def test_a_caller_is_title_and_address_together(strict):
    node(may_send=False, may_query=True)
    assert rights_of(("CT", "192.0.2.7"), ("CT", "192.0.2.8"), ("MR", "192.0.2.7")) == [SEARCHER, NOTHING, NOTHING]


@pytest.mark.django_db
def test_nodes_of_one_title_are_told_apart_by_their_addresses(strict):
    node("one", address="192.0.2.7")
    node("two", address="192.0.2.8", may_send=False, may_query=True)
    node("three", address="2001:DB8::7")
    found = rights_of(("CT", "192.0.2.7"), ("CT", "192.0.2.8"), ("CT", "2001:db8:0::7"))
    assert found == [SENDER, SEARCHER, SENDER]


@pytest.mark.django_db
def test_two_nodes_of_one_title_and_address_may_what_either_may(strict):
    node("one")
    node("two", may_send=False, may_query=True)
    assert rights_of(("CT", "192.0.2.7")) == [EVERYTHING]


@pytest.mark.django_db
def test_an_inactive_node_may_nothing(strict):
    node(is_active=False, may_query=True)
    assert rights_of(("CT", "192.0.2.7")) == [NOTHING]


@pytest.mark.django_db
def test_networks_and_looked_up_host_names_are_places_too(strict):
    node("one", ae_title="NET", address="192.0.2.0/24, 198.51.100.7")
    node(
        "two",
        ae_title="HOST",
        address="",
        host="ct.invalid",
        resolved_host="ct.invalid",
        resolved_addresses="192.0.2.9",
    )
    node(
        "three", ae_title="MOVED", address="", host="new.invalid", resolved_host="old.invalid", resolved_addresses="::2"
    )
    node("four", ae_title="DHCP", address="", check_address=False)
    found = rights_of(("NET", "192.0.2.200"), ("NET", "198.51.100.7"), ("NET", "198.51.100.8"), ("HOST", "192.0.2.9"))
    assert found == [SENDER, SENDER, NOTHING, SENDER]
    assert rights_of(("MOVED", "::2"), ("DHCP", "203.0.113.1"), ("DHCP", "nonsense")) == [NOTHING, SENDER, NOTHING]
    assert rights_of(("NET ", "::ffff:192.0.2.7")) == [SENDER]


@pytest.mark.django_db
def test_we_answer_to_our_own_and_to_further_titles(settings):
    CalledTitle.objects.create(ae_title="OLDPACS")
    rights = CallerRights()
    rights.read()
    assert [rights.answers_to(title) for title in (settings.AE_TITLE, "OLDPACS ", "oldpacs", "")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.django_db
def test_this_machine_may_everything_in_evaluation_and_only_knock_in_production(settings):
    assert rights_of(("ANY", "127.0.0.1"), ("ANY", "::1"), ("ANY", "192.0.2.7")) == [EVERYTHING, EVERYTHING, NOTHING]
    settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS = False
    found = rights_of(("ANY", "127.0.0.1"), (settings.AE_TITLE, "127.0.0.1"), (settings.AE_TITLE, "192.0.2.7"))
    assert found == [NOTHING, Rights(is_known=True), NOTHING]


@pytest.mark.django_db(transaction=True)
def test_the_last_known_rights_stay_while_the_table_cannot_be_read(strict, monkeypatch):
    node()
    rights = CallerRights()
    rights.read()
    connection.close()
    with monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "PORT", "1")
        rights.read()
    assert rights.of("CT", "192.0.2.7") == SENDER


@pytest.mark.django_db(transaction=True)
def test_the_table_is_read_again_by_itself(strict, monkeypatch):
    monkeypatch.setattr("apps.nodes.rights.REFRESH_S", 0.05)
    rights = CallerRights()
    rights.start()
    try:
        node()
        wait_until(lambda: rights.of("CT", "192.0.2.7") == SENDER)
        RemoteNode.objects.all().delete()
        wait_until(lambda: rights.of("CT", "192.0.2.7") == NOTHING)
    finally:
        rights.stop()
