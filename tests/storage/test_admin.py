"""Volumes in the administration."""

import pytest
from django.urls import reverse

from apps.storage.models import Volume
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def administrator(client, settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    client.force_login(make_user("administrator"))
    return client


def test_an_administrator_adds_a_volume(administrator, tmp_path):
    fields = {"name": "second", "root": str(tmp_path), "position": 2, "is_writable": "on"}
    administrator.post(reverse("admin:storage_volume_add"), fields)
    assert Volume.objects.get().root == str(tmp_path)


def test_the_folder_of_a_volume_stays_and_the_volume_too(administrator, volume):
    root = volume.root
    fields = {"name": "renamed", "root": "/elsewhere", "position": 1}
    administrator.post(reverse("admin:storage_volume_change", args=[volume.pk]), fields)
    volume.refresh_from_db()
    assert (volume.name, volume.root, volume.is_writable) == ("renamed", root, False)
    assert administrator.post(reverse("admin:storage_volume_delete", args=[volume.pk])).status_code == 403
