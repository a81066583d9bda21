"""What a caller may do: title and address together, nothing where it is not known."""

import pytest
from django.db import connection

from apps.nodes.models import RemoteNode
from apps.nodes.rights import EVERYTHING, NOTHING, CallerRights, Rights, plain_address
from tests.peers import wait_until

SENDER, SEARCHER = Rights(is_known=True, may_send=True), Rights(is_known=True, may_query=True)


@pytest.fixture
def strict(settings) -> None:
    settings.DICOM_ALLOW_UNKNOWN_LOCAL_CALLERS = False


def node(name="one", ae_title="CT", host="192.0.2.7", **columns) -> RemoteNode:
    return RemoteNode.objects.create(name=name, ae_title=ae_title, host=host, port=104, **columns)


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
    node("one", host="192.0.2.7")
    node("two", host="192.0.2.8", may_send=False, may_query=True)
    node("three", host="2001:DB8::7")
    found = rights_of(("CT", "192.0.2.7"), ("CT", "192.0.2.8"), ("CT", "2001:db8:0::7"))
    assert found == [SENDER, SEARCHER, SENDER]


@pytest.mark.django_db
def test_two_nodes_of_one_title_and_address_may_what_either_may(strict):
    node("one")
    RemoteNode.objects.create(name="two", ae_title="CT", host="192.0.2.7", port=105, may_send=False, may_query=True)
    assert rights_of(("CT", "192.0.2.7")) == [EVERYTHING]


@pytest.mark.django_db
def test_an_inactive_node_may_nothing(strict):
    node(is_active=False, may_query=True)
    assert rights_of(("CT", "192.0.2.7")) == [NOTHING]


@pytest.mark.django_db
def test_host_names_are_looked_up_and_unknown_ones_cost_only_themselves(strict):
    node("one", host="localhost", ae_title="HERE")
    node("two", host="does-not-exist.invalid", ae_title="LOST")
    assert rights_of(("HERE", "127.0.0.1"), ("HERE", "::ffff:127.0.0.1"), ("LOST", "127.0.0.1")) == [
        SENDER,
        SENDER,
        NOTHING,
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


def test_an_ipv4_address_is_compared_as_one():
    assert plain_address("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain_address("2001:DB8:0::7") == "2001:db8::7"
