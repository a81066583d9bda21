"""The archive in the administration: visible to whom the images are, never to be edited, no PHI in names of rows."""

import pytest
from django.urls import reverse

from apps.archive.models import Conflict, Instance, Patient, Series, Study
from tests.dicom import ct_dataset
from tests.factories import make_user, store

pytestmark = pytest.mark.django_db

CLINICAL = (Patient, Study, Series, Instance)


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def stored(volume):
    store(ct_dataset(PatientName="Secret^Person", PatientID="SECRET-1"))


def conflict(**changes) -> Conflict:
    columns = {
        "kind": "instance",
        "case_key": "1",
        "reason": "other pixels",
        "held_file": "a.dcm",
        "file_sha256": b"1" * 32,
        "size_bytes": 1,
    }
    return Conflict.objects.create(**(columns | changes))


@pytest.mark.parametrize("model", CLINICAL)
def test_clinical_staff_with_the_role_look_at_rows_and_change_none(client, stored, model):
    client.force_login(make_user("administrator", "radiologist"))
    name = f"admin:archive_{model._meta.model_name}"
    row = model.objects.get()
    assert client.get(reverse(f"{name}_changelist")).status_code == 200
    page = client.get(reverse(f"{name}_change", args=[row.pk]))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content
    assert client.get(reverse(f"{name}_add")).status_code == 403
    assert client.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert model.objects.exists()


@pytest.mark.parametrize("model", CLINICAL)
def test_an_administrator_alone_reads_no_clinical_rows(client, stored, model):
    client.force_login(make_user("administrator"))
    assert client.get(reverse(f"admin:archive_{model._meta.model_name}_changelist")).status_code == 403


@pytest.mark.parametrize("model", CLINICAL)
def test_the_name_of_a_row_describes_nobody(stored, model):
    text = str(model.objects.get()).lower()
    assert "secret" not in text
    assert "1970" not in text


@pytest.mark.parametrize("model", CLINICAL)
def test_no_search_or_filter_puts_a_person_into_an_address(model):
    from django.contrib import admin

    model_admin = admin.site._registry[model]
    fields = {*model_admin.search_fields, *(name for name in model_admin.list_filter if isinstance(name, str))}
    assert not [name for name in fields if any(word in name for word in ("name", "patient_id", "birth", "study_date"))]


def test_a_study_is_found_by_its_uid(client, stored):
    client.force_login(make_user("administrator", "radiologist"))
    uid = Study.objects.get().study_instance_uid
    address = reverse("admin:archive_study_changelist")
    assert b"1 study" in client.get(address, {"q": uid}).content
    assert b"0 studies" in client.get(address, {"q": "Secret"}).content


def test_an_administrator_sees_conflicts_and_decides_none(client, db):
    client.force_login(make_user("administrator"))
    row = conflict()
    address = reverse("admin:archive_conflict_changelist")
    assert b"other pixels" in client.get(address).content
    page = client.get(reverse("admin:archive_conflict_change", args=[row.pk]))
    assert page.status_code == 200
    assert b'name="_save"' not in page.content


def test_a_conflict_is_never_deleted(client, db):
    client.force_login(make_user("administrator"))
    row = conflict()
    assert client.post(reverse("admin:archive_conflict_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert Conflict.objects.exists()
