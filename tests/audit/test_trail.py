"""The trail: written with what was done or not at all, and never changed by the application."""

import pytest
from django.core.management import call_command
from django.db import ProgrammingError, connection, transaction
from django.urls import reverse

from apps.audit.models import AuditEvent
from apps.audit.trail import record
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


def test_an_event_says_who_did_what_to_which_object():
    record("rita", "conflict.merged", "conflict", 7, {"patients": [1, 2], "study": "1.2.3"}, "192.0.2.7")
    event = AuditEvent.objects.get()
    assert (event.actor, event.action, event.object_kind, event.object_key) == (
        "rita",
        "conflict.merged",
        "conflict",
        "7",
    )
    assert event.detail == {"patients": [1, 2], "study": "1.2.3"}
    assert event.remote_address == "192.0.2.7"


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_leaves_no_event():
    with pytest.raises(RuntimeError), transaction.atomic():
        record("rita", "conflict.merged", "conflict", 7)
        raise RuntimeError
    assert not AuditEvent.objects.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_auditevent SET actor = 'nobody'",
        "DELETE FROM audit_auditevent",
        "TRUNCATE audit_auditevent",
        "ALTER TABLE audit_auditevent DROP COLUMN actor",
    ],
)
def test_the_application_role_can_neither_change_nor_remove_an_event(statement):
    record("rita", "conflict.merged", "conflict", 7)
    with pytest.raises(ProgrammingError, match="permission denied|must be owner"), transaction.atomic():
        connection.cursor().execute(statement)
    assert AuditEvent.objects.get().actor == "rita"


def test_every_model_has_its_migration():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_an_auditor_with_staff_rights_reads_and_filters_and_changes_nothing(client):
    record("rita", "conflict.merged", "conflict", 7)
    record("otto", "conflict.kept", "conflict", 8)
    client.force_login(make_user("administrator", "auditor"))
    page = client.get(reverse("admin:audit_auditevent_changelist"), {"actor": "rita"})
    assert b"conflict.merged" in page.content
    assert page.context["cl"].result_count == 1
    event = AuditEvent.objects.get(actor="rita")
    detail = client.get(reverse("admin:audit_auditevent_change", args=[event.pk]))
    assert detail.status_code == 200
    assert b'name="_save"' not in detail.content
    assert client.get(reverse("admin:audit_auditevent_add")).status_code == 403
    assert client.post(reverse("admin:audit_auditevent_delete", args=[event.pk]), {"post": "yes"}).status_code == 403


def test_an_administrator_alone_does_not_read_the_trail(client):
    client.force_login(make_user("administrator"))
    assert client.get(reverse("admin:audit_auditevent_changelist")).status_code == 403
