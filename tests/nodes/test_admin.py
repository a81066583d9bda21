"""Remote nodes in Django's admin, and C-ECHO from there."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.hashers import check_password
from django.urls import reverse

from apps.accounts.models import User
from apps.nodes.models import RemoteNode
from apps.nodes.snapshot import publish_rules
from tests.peers import free_port
from workers.receiver.rules import Caller, rules_from_settings

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin_client(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def node_at(port: int, **changes) -> RemoteNode:
    return RemoteNode.objects.create(
        **{"name": "Main", "ae_title": "PACS", "host": "127.0.0.1", "port": port, **changes}
    )


def press_verify(client, node: RemoteNode) -> str:
    return client.post(reverse("admin:nodes_remotenode_verify", args=[node.pk]), follow=True).content.decode()


def test_the_button_tells_and_keeps_that_the_node_answered(admin_client, pacs):
    node = node_at(pacs.port)
    page = press_verify(admin_client, node)
    node.refresh_from_db()
    assert f"PACS at 127.0.0.1 port {pacs.port} answered in" in page
    assert node.last_echo_ok is True
    assert "answered in" in node.last_echo_result


def test_the_button_says_what_to_check_when_nothing_listens(admin_client):
    node = node_at(free_port())
    page = press_verify(admin_client, node)
    node.refresh_from_db()
    assert "Nothing listens" in page
    assert "Check that the system is running" in page
    assert node.last_echo_ok is False
    assert node.last_echo_at is not None


def test_the_action_asks_each_selected_node(admin_client, pacs):
    good, bad = node_at(pacs.port), node_at(free_port(), name="Other")
    data = {"action": "verify", "_selected_action": [good.pk, bad.pk]}
    page = admin_client.post(reverse("admin:nodes_remotenode_changelist"), data, follow=True).content.decode()
    assert "Main: PACS at" in page
    assert "Other: Nothing listens" in page


def test_another_address_forgets_the_last_result(admin_client, pacs):
    node = node_at(pacs.port)
    press_verify(admin_client, node)
    form = {
        "name": "Main",
        "ae_title": "PACS",
        "host": "127.0.0.2",
        "port": pacs.port,
        "query_character_set": "ISO_IR 192",
    }
    admin_client.post(reverse("admin:nodes_remotenode_change", args=[node.pk]), form)
    node.refresh_from_db()
    assert node.host == "127.0.0.2"
    assert node.last_echo_at is None


def test_the_pages_show_the_button_and_the_last_result(admin_client):
    node = node_at(free_port())
    assert "never asked" in admin_client.get(reverse("admin:nodes_remotenode_changelist")).content.decode()
    press_verify(admin_client, node)
    assert "failed, " in admin_client.get(reverse("admin:nodes_remotenode_changelist")).content.decode()
    assert (
        "Verify with C-ECHO"
        in admin_client.get(reverse("admin:nodes_remotenode_change", args=[node.pk])).content.decode()
    )


@pytest.mark.parametrize("host", ["http://pacs", "pacs:104/x", "a b", "-x", ""])
def test_a_host_that_is_none_is_refused(admin_client, host):
    form = {"name": "Main", "ae_title": "PACS", "host": host, "port": 104, "query_character_set": "ISO_IR 192"}
    answer = admin_client.post(reverse("admin:nodes_remotenode_add"), form)
    assert answer.status_code == 200
    assert not RemoteNode.objects.exists()


@pytest.mark.parametrize("host", ["pacs.clinic.local", "10.0.0.1", "fd00::1", "::1", "PACS_1"])
def test_names_and_addresses_are_taken(admin_client, host):
    form = {"name": "Main", "ae_title": "PACS", "host": host, "port": 104, "query_character_set": "ISO_IR 192"}
    admin_client.post(reverse("admin:nodes_remotenode_add"), form)
    assert RemoteNode.objects.get().host == host


def test_staff_without_the_right_cannot_verify(client, pacs):
    node = node_at(pacs.port)
    client.force_login(User.objects.create_user("staff", is_staff=True))
    assert client.post(reverse("admin:nodes_remotenode_verify", args=[node.pk])).status_code == 403
    node.refresh_from_db()
    assert node.last_echo_at is None


# --- how it may connect


FORM = {"name": "CT", "ae_title": "CT1", "host": "10.0.0.7", "port": 104, "query_character_set": "ISO_IR 192"}


def save(client, node=None, **changes) -> str:
    address = (
        reverse("admin:nodes_remotenode_change", args=[node.pk]) if node else reverse("admin:nodes_remotenode_add")
    )
    return client.post(address, {**FORM, **changes}, follow=True).content.decode()


def test_addresses_that_are_none_are_named_and_refused(admin_client):
    page = save(admin_client, sender_addresses="10.0.0.7, 10.0.0.1/24, pacs")
    assert "Neither an address nor a network: 10.0.0.1/24, pacs." in page
    assert not RemoteNode.objects.exists()
    save(admin_client, sender_addresses="10.0.0.7, 10.0.1.0/24 fd00::/64")
    assert RemoteNode.objects.get().allowed_addresses == ["10.0.0.7", "10.0.1.0/24", "fd00::/64"]


def test_a_password_is_kept_as_a_hash_and_never_shown(admin_client):
    page = save(admin_client, identity_username="robot", identity_password="geheim", _continue="1")
    node = RemoteNode.objects.get()
    assert check_password("geheim", node.identity_password_hash)
    assert "geheim" not in page
    assert node.identity_password_hash not in page
    assert "One is set" in page
    assert "geheim" not in str(list(LogEntry.objects.values()))


def test_an_empty_password_keeps_the_old_one_and_an_empty_name_removes_both(admin_client):
    save(admin_client, identity_username="robot", identity_password="geheim")
    node = RemoteNode.objects.get()
    save(admin_client, node, identity_username="robot2")
    node.refresh_from_db()
    assert check_password("geheim", node.identity_password_hash)
    save(admin_client, node)
    node.refresh_from_db()
    assert node.identity_password_hash == ""


def test_a_password_needs_a_user_name(admin_client):
    assert "A password needs a user name." in save(admin_client, identity_password="geheim")
    assert not RemoteNode.objects.exists()


def test_a_host_that_is_unknown_is_told_where_nodes_are_kept(admin_client):
    node = RemoteNode.objects.create(name="CT", ae_title="CT1", host="a..b")
    publish_rules()
    listed = admin_client.get(reverse("admin:nodes_remotenode_changelist")).content.decode()
    assert 'a..b<br><strong title="no machine of this name is known here">not found' in listed
    page = admin_client.get(reverse("admin:nodes_remotenode_change", args=[node.pk])).content.decode()
    assert "a..b: no machine of this name is known here" in page


@pytest.mark.django_db(transaction=True)
def test_a_node_that_is_saved_may_connect_at_once(admin_client):
    save(admin_client, may_send="on", is_active="on", check_address="on")
    assert rules_from_settings().decide(Caller("CT1", "DICOMSYS", "10.0.0.7")) is None
    data = {"action": "delete_selected", "_selected_action": [RemoteNode.objects.get().pk], "post": "yes"}
    admin_client.post(reverse("admin:nodes_remotenode_changelist"), data)
    assert rules_from_settings().decide(Caller("CT1", "DICOMSYS", "10.0.0.7")) is not None


def test_the_page_says_whether_user_identities_are_checked(admin_client, settings):
    settings.DICOM_USER_IDENTITY = "check"
    assert "This system checks them." in admin_client.get(reverse("admin:nodes_remotenode_add")).content.decode()
    settings.DICOM_USER_IDENTITY = "ignore"
    assert "Not checked now" in admin_client.get(reverse("admin:nodes_remotenode_add")).content.decode()
