"""Signing in and out, passwords, accounts by command, roles."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.urls import reverse

from apps.accounts.models import User
from tests.factories import load_roles, make_user

pytestmark = pytest.mark.django_db

PASSWORD = "seven-grey-herons"


@pytest.fixture(autouse=True)
def plain_pages(settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    return path


def sign_in(client, name: str, password: str, **more):
    return client.post(reverse("accounts:login"), {"username": name, "password": password, **more})


def test_signing_in_leads_to_the_worklist(client):
    make_user("radiologist", name="rita", password=PASSWORD)
    response = sign_in(client, "rita", PASSWORD)
    assert response.status_code == 302
    assert response.url == reverse("portal:worklist")
    assert client.get(response.url).status_code == 200


def test_signing_in_leads_back_to_the_wanted_page_and_to_no_other_host(client):
    make_user(name="rita", password=PASSWORD)
    assert sign_in(client, "rita", PASSWORD, next="/help/").url == "/help/"
    client.logout()
    assert sign_in(client, "rita", PASSWORD, next="https://example.com/").url == reverse("portal:worklist")


@pytest.mark.parametrize(("name", "password"), [("rita", "wrong"), ("nobody", PASSWORD)])
def test_a_wrong_name_or_password_is_told_in_plain_words(client, name, password):
    make_user(name="rita", password=PASSWORD)
    response = sign_in(client, name, password)
    assert response.status_code == 200
    assert b"This name and password do not belong together" in response.content


def test_the_sign_in_page_names_the_product_and_in_evaluation_the_ae_title(client, settings):
    settings.AE_TITLE, settings.IS_PRODUCTION = "MYAE", False
    page = client.get(reverse("accounts:login")).content.decode()
    assert "dicomsys" in page
    assert "MYAE" in page
    settings.IS_PRODUCTION = True
    assert "MYAE" not in client.get(reverse("accounts:login")).content.decode()


def test_signing_out_needs_post_and_ends_the_session(client):
    client.force_login(make_user())
    assert client.get(reverse("accounts:logout")).status_code == 405
    response = client.post(reverse("accounts:logout"))
    assert response.url == reverse("accounts:login")
    assert response.headers["Clear-Site-Data"] == '"cache"'
    assert client.get(reverse("portal:help")).status_code == 302


def test_a_new_password_works_at_once(client):
    user = make_user(name="rita", password=PASSWORD)
    client.force_login(user)
    fields = {"old_password": PASSWORD, "new_password1": "nine-blue-otters", "new_password2": "nine-blue-otters"}
    response = client.post(reverse("accounts:password_change"), fields, follow=True)
    assert "Your password is changed" in response.content.decode()
    user.refresh_from_db()
    assert user.check_password("nine-blue-otters")


def test_a_short_password_is_refused(client):
    client.force_login(make_user(name="rita", password=PASSWORD))
    fields = {"old_password": PASSWORD, "new_password1": "short", "new_password2": "short"}
    assert b"at least 12 characters" in client.post(reverse("accounts:password_change"), fields).content


def test_without_a_session_a_page_leads_to_the_sign_in_page(client):
    response = client.get("/help/")
    assert response.url == f"{reverse('accounts:login')}?next=/help/"


def test_without_a_session_htmx_is_told_to_load_the_sign_in_page(client):
    headers = {"HX-Request": "true", "HX-Current-URL": "http://testserver/studies/1.2/?a=b"}
    response = client.post(reverse("portal:search"), {"text": "Secret"}, headers=headers)
    assert response.headers["HX-Redirect"] == f"{reverse('accounts:login')}?next=/studies/1.2/"


# --- create_user


def test_a_user_is_created_with_roles(password_file, capsys):
    load_roles()
    call_command("create_user", "rita", roles=["administrator", "film clerk"], password_file=password_file)
    user = User.objects.get()
    assert user.check_password(PASSWORD)
    assert user.is_staff
    assert not user.is_superuser
    assert {group.name for group in user.groups.all()} == {"administrator", "film clerk"}


def test_only_administrators_are_staff(password_file):
    load_roles()
    call_command("create_user", "rita", roles=["radiologist"], password_file=password_file)
    assert not User.objects.get().is_staff


def test_an_existing_user_is_left_as_it_is_and_what_it_lacks_is_said(password_file, capsys):
    make_user("radiologist", name="rita", password="other")
    call_command("create_user", "rita", roles=["radiologist", "auditor"], password_file=password_file)
    assert "it lacks auditor" in capsys.readouterr().out
    user = User.objects.get()
    assert user.check_password("other")
    assert user.groups.count() == 1


def test_an_unknown_role_creates_nobody(password_file):
    with pytest.raises(CommandError, match="no such role: wizard"):
        call_command("create_user", "rita", roles=["wizard"], password_file=password_file)
    assert not User.objects.exists()


@pytest.mark.parametrize("content", [None, "", "\n"])
def test_a_missing_or_empty_password_file_creates_nobody(tmp_path, content):
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CommandError, match="password file"):
        call_command("create_user", "rita", password_file=path)
    assert not User.objects.exists()


# --- Roles


CLINICAL = {"view_patient", "view_study", "view_every_study", "view_series", "view_instance"}
EXPECTED = {
    "administrator": {"view_conflict", "change_conflict"}
    | {"add_coercionrule", "change_coercionrule", "view_coercionrule"},
    "radiologist": CLINICAL | {"add_study"},
    "technologist": CLINICAL | {"add_study", "view_conflict", "change_conflict", "repair_text"},
    "film clerk": CLINICAL,
    "referring physician": {"view_study"},
    "auditor": set(),
}


@pytest.mark.parametrize("role", EXPECTED)
def test_a_role_reaches_the_archive_as_far_as_its_work_needs(role):
    load_roles()
    held = set(
        Permission.objects.filter(group__name=role, content_type__app_label="archive").values_list(
            "codename", flat=True
        )
    )
    assert held == EXPECTED[role]


def test_nobody_may_delete_or_change_clinical_rows():
    load_roles()
    models = ["patient", "study", "series", "instance"]
    forbidden = Permission.objects.filter(
        content_type__app_label="archive", content_type__model__in=models, group__isnull=False
    )
    assert not forbidden.filter(codename__regex="^(delete|change)_").exists()


def test_administrators_set_the_system_up():
    user = make_user("administrator")
    needed = ["accounts.add_user", "auth.change_group", "nodes.add_remotenode", "storage.change_volume"]
    needed += ["printing.add_printer", "films.change_filmtemplate", "django_celery_beat.change_periodictask"]
    assert user.has_perms(needed)
    assert not user.has_perm("transfer.query_node")


def test_the_six_roles_are_there():
    load_roles()
    assert set(Group.objects.values_list("name", flat=True)) == set(EXPECTED)
