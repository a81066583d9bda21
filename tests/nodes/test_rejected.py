"""Learning from who was rejected: the page says what will change, one click does it, and the receiver follows."""

import html
import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import User
from apps.nodes import reasons
from apps.nodes.models import CalledTitle, RejectedCaller, RemoteNode
from apps.nodes.snapshot import publish_rules
from workers.receiver.rules import Caller, rules_from_settings

pytestmark = pytest.mark.django_db
HOSTILE = "\\x3cscript\\x3e<b>&amp;'\"{{ 7 }}%s"


@pytest.fixture
def admin_client(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


def staff(client, *codenames: str):
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label="nodes"))
    client.force_login(user)
    return client


def rejected(calling="CT9", address="10.0.0.9", reason=reasons.UNKNOWN, called="DICOMSYS", **changes) -> RejectedCaller:
    now = timezone.now()
    return RejectedCaller.objects.create(
        calling_ae_title=calling, called_ae_title=called, address=address, reason=reason, first_seen_at=now,
        last_seen_at=now, count=3, **changes,
    )  # fmt: skip


def page_of(client, caller) -> str:
    answer = client.get(reverse("admin:nodes_rejectedcaller_change", args=[caller.pk]))
    assert answer.status_code == 200
    return answer.content.decode()


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


def press(client, caller, **data) -> str:
    answer = client.post(reverse("admin:nodes_rejectedcaller_change", args=[caller.pk]), data, follow=True)
    return text_of(answer.content.decode())


def may_connect(caller: RejectedCaller) -> bool:
    publish_rules()
    asked = Caller(caller.calling_ae_title, caller.called_ae_title, caller.address, caller.is_tls)
    return rules_from_settings().decide(asked) is None


def test_an_unknown_caller_becomes_a_node_with_one_click(admin_client):
    caller = rejected()
    assert not may_connect(caller)
    assert "A new node “CT9” with the AE title CT9 at 10.0.0.9 may send to us." in text_of(
        page_of(admin_client, caller)
    )
    assert not RemoteNode.objects.exists()  # looking changes nothing
    said = press(admin_client, caller, way="new")
    assert "CT9 (CT9) may connect from 10.0.0.9" in said
    assert may_connect(caller)
    assert not RejectedCaller.objects.exists()
    assert "Allowed CT9 at 10.0.0.9" in LogEntry.objects.get().change_message


def test_a_known_title_at_another_address_extends_its_node_or_makes_one(admin_client):
    node = RemoteNode.objects.create(name="CT nine", ae_title="CT9", host="10.0.0.1")
    publish_rules()
    caller = rejected(reason=reasons.WRONG_ADDRESS)
    page = text_of(page_of(admin_client, caller))
    assert "The node “CT nine” may connect from 10.0.0.9 beside 10.0.0.1." in page
    assert "A new node “CT9”" in page
    press(admin_client, caller, way=str(node.pk))
    node.refresh_from_db()
    assert node.sender_addresses == "10.0.0.1, 10.0.0.9"
    assert may_connect(caller)
    assert may_connect(rejected(address="10.0.0.1"))


def test_a_second_node_of_the_same_title_gets_a_free_name(admin_client):
    RemoteNode.objects.create(name="CT9", ae_title="CT9", host="10.0.0.1")
    caller = rejected(reason=reasons.WRONG_ADDRESS)
    press(admin_client, caller, way="new")
    assert set(RemoteNode.objects.values_list("name", "host")) == {("CT9", "10.0.0.1"), ("CT9 2", "10.0.0.9")}
    assert may_connect(caller)


def test_a_node_that_is_off_or_may_not_send_is_opened(admin_client):
    node = RemoteNode.objects.create(name="CT", ae_title="CT9", host="10.0.0.9", is_active=False, may_send=False)
    caller = rejected()
    page = text_of(page_of(admin_client, caller))
    assert "The node “CT” is switched on. The node “CT” may send to us." in page
    press(admin_client, caller, way=str(node.pk))
    assert may_connect(caller)


def test_another_name_of_ours_is_answered_to(admin_client):
    caller = rejected(reason=reasons.WRONG_CALLED, called="ARCHIVE")
    assert "We answer to the AE title ARCHIVE too, whoever calls us so." in text_of(page_of(admin_client, caller))
    press(admin_client, caller, way="new")
    assert CalledTitle.objects.get().ae_title == "ARCHIVE"
    assert may_connect(caller)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reason": reasons.NO_TLS}, "must use TLS: that is not mended"),
        ({"reason": reasons.WRONG_IDENTITY}, "password is wrong: that is not mended"),
        ({"reason": "local limit exceeded"}, "local limit exceeded: that is not mended"),
        ({"calling": "A\\x00"}, "What it calls itself is no AE title"),
        ({"calling": ""}, "What it calls itself is no AE title"),
        ({"calling": "X" * 17}, "What it calls itself is no AE title"),
        ({"address": ""}, "Its address is not known"),
        ({"called": "A\\x00", "reason": reasons.WRONG_CALLED}, "What it calls us is no AE title"),
    ],
)
def test_what_allowing_cannot_mend_is_said_and_refused(admin_client, changes, words):
    caller = rejected(**changes)
    page = page_of(admin_client, caller)
    assert words in text_of(page)
    assert 'name="allow"' not in page
    assert words in press(admin_client, caller, way="new")
    assert not RemoteNode.objects.exists()
    assert not CalledTitle.objects.exists()


def test_a_way_that_is_gone_changes_nothing(admin_client):
    caller = rejected()
    assert "no longer there" in press(admin_client, caller, way="999")
    assert "no longer there" in press(admin_client, caller)
    assert not RemoteNode.objects.exists()


def test_a_list_of_addresses_that_is_full_is_told(admin_client):
    node = RemoteNode.objects.create(
        name="CT",
        ae_title="CT9",
        host="10.0.0.1",
        sender_addresses=", ".join(["10.99.99.99"] * 77),
    )
    assert "The node cannot hold this" in press(admin_client, rejected(), way=str(node.pk))
    node.refresh_from_db()
    assert "10.0.0.9" not in node.sender_addresses


def test_forgetting_removes_the_row_only(admin_client):
    caller, other = rejected(), rejected("CT8")
    assert "1 forgotten" in press(admin_client, caller, forget="Forget")
    assert RejectedCaller.objects.get() == other
    data = {"action": "forget", "_selected_action": [other.pk]}
    admin_client.post(reverse("admin:nodes_rejectedcaller_changelist"), data)
    assert not RejectedCaller.objects.exists()
    assert not RemoteNode.objects.exists()


def test_a_caller_that_is_no_longer_listed_is_said(admin_client):
    answer = admin_client.get(reverse("admin:nodes_rejectedcaller_change", args=[77]), follow=True)
    assert "no longer listed" in answer.content.decode()


def test_hostile_texts_are_shown_as_text(admin_client):
    caller = rejected(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    for page in (
        page_of(admin_client, caller),
        admin_client.get(reverse("admin:nodes_rejectedcaller_changelist")).content.decode(),
    ):
        assert "<b>" not in page
        assert "&lt;b&gt;&amp;amp;&#x27;&quot;{{ 7 }}%s" in page


def test_who_may_only_see_nodes_may_only_see(client):
    client = staff(client, "view_remotenode")
    caller = rejected()
    page = page_of(client, caller)
    assert "needs the right" in page
    assert 'name="forget"' not in page
    for data in ({"way": "new"}, {"forget": "1"}):
        assert client.post(reverse("admin:nodes_rejectedcaller_change", args=[caller.pk]), data).status_code == 403
    assert RejectedCaller.objects.exists()
    assert not RemoteNode.objects.exists()


@pytest.mark.parametrize("name", ["rejectedcaller", "calledtitle", "trafficminute"])
def test_who_may_not_see_nodes_sees_none_of_it(client, name):
    client = staff(client, "change_calledtitle")
    assert client.get(reverse(f"admin:nodes_{name}_changelist")).status_code == 403
    assert client.get(reverse("admin:nodes_rejectedcaller_change", args=[rejected().pk])).status_code == 403


def test_nobody_adds_a_rejected_caller_by_hand(admin_client):
    assert admin_client.get(reverse("admin:nodes_rejectedcaller_add")).status_code == 403
    assert admin_client.post(reverse("admin:nodes_rejectedcaller_delete", args=[rejected().pk])).status_code == 403
