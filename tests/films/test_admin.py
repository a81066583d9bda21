"""Film templates in the administration."""

import pytest
from django.forms import model_to_dict
from django.urls import reverse

from apps.films.models import FilmTemplate
from apps.films.services import make_sheets
from tests.factories import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client, settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    client.force_login(make_user("administrator"))
    return client


@pytest.fixture
def used(radiologist, layout, template, make_ct_study) -> FilmTemplate:
    study = make_ct_study(1)
    make_sheets(radiologist, study, [study.series.get().pk], layout)
    return template


def form_of(template: FilmTemplate, **changes: object) -> dict[str, object]:
    values = {**model_to_dict(template, exclude=["id"]), **changes}
    return {name: "on" if value is True else value for name, value in values.items() if value is not False}


def test_the_look_of_a_used_template_is_changed_in_a_copy(admin, used):
    address = reverse("admin:films_filmtemplate_change", args=[used.pk])
    refused = admin.post(address, form_of(used, margin_mm=12))
    assert "save it as new" in refused.content.decode()
    used.refresh_from_db()
    assert used.margin_mm == 6
    admin.post(address, form_of(used, name="wide margin", margin_mm=12, _saveasnew="1"))
    assert FilmTemplate.objects.get(name="wide margin").margin_mm == 12


def test_a_used_template_can_be_renamed_and_taken_back_but_not_deleted(admin, used):
    address = reverse("admin:films_filmtemplate_change", args=[used.pk])
    assert admin.post(address, form_of(used, name="renamed", is_active=False)).status_code == 302
    used.refresh_from_db()
    assert (used.name, used.is_active) == ("renamed", False)
    assert admin.post(reverse("admin:films_filmtemplate_delete", args=[used.pk]), {"post": "yes"}).status_code == 403
