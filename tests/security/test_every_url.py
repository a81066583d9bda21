"""Every address of the resolver, with every role and without: a view decides, and its decision holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.test import Client
from django.urls import NoReverseMatch, URLPattern, URLResolver, get_resolver, reverse

from apps.accounts.access import DenyByDefaultMiddleware
from apps.accounts.models import User
from tests.factories import load_roles, make_user

pytestmark = pytest.mark.django_db

ROLES = ("administrator", "radiologist", "technologist", "film clerk", "referring physician", "auditor")
OPEN = {"accounts:login", "accounts:logout"}  # and probes that say so below
OPEN_PATHS = {"healthz", "readyz"}
EXAMPLES: dict[str, Any] = {
    "uid": "1.2.3", "int": 1, "str": "x", "slug": "x", "uuid": "00000000-0000-0000-0000-000000000000", "path": "x",
}  # fmt: skip


@dataclass(frozen=True)
class Address:
    """One URL pattern: its name with namespaces, its route and its view."""

    name: str
    route: str
    pattern: URLPattern

    @property
    def access(self) -> Any:
        return getattr(self.pattern.callback, "access", "undecided")

    @property
    def is_admin(self) -> bool:
        return self.route.startswith("admin/")

    def path(self) -> str:
        """An example address; what it names need not exist."""
        converters = self.pattern.pattern.converters
        examples = {key: _example(type(converter).__name__) for key, converter in converters.items()}
        try:
            return reverse(self.name, kwargs=examples)
        except NoReverseMatch:
            return "/" + self.route

    def __str__(self) -> str:
        return self.name or self.route


def _example(converter: str) -> Any:
    return EXAMPLES.get(converter.removesuffix("Converter").lower().replace("string", "str"), "x")


def addresses(patterns: list[Any] | None = None, prefix: str = "", names: str = "") -> Iterator[Address]:
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            namespace = f"{names}{pattern.namespace}:" if pattern.namespace else names
            yield from addresses(pattern.url_patterns, route, namespace)
        else:
            yield Address(names + pattern.name if pattern.name else "", route, pattern)


OWN = [address for address in addresses() if not address.is_admin]
ADMIN = [address for address in addresses() if address.is_admin]


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


def client_of(user: User | None) -> Client:
    client = Client(raise_request_exception=False)
    if user:
        client.force_login(user)
    return client


def is_refused(response: Any) -> bool:
    """Sent to sign in, or 403."""
    return response.status_code == 403 or str(response.headers.get("Location", "")).startswith(
        reverse("accounts:login")
    )


def test_the_walk_sees_the_addresses_of_every_app():
    found = {address.name for address in addresses()}
    assert {
        "portal:worklist",
        "portal:thumbnail",
        "accounts:login",
        "admin:index",
        "admin:archive_study_changelist",
    } <= found


@pytest.mark.parametrize("address", OWN, ids=str)
def test_every_view_carries_a_decision(address):
    assert address.access != "undecided", f"{address.route}: decorate the view with requires, signed_in or public"


@pytest.mark.parametrize("address", OWN, ids=str)
def test_only_signing_in_and_probes_are_open_to_everyone(address):
    if address.access is None:
        assert address.name in OPEN or address.route.strip("/") in OPEN_PATHS


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("address", OWN, ids=str)
def test_without_an_account_every_other_page_leads_to_the_sign_in_page(address, method):
    response = getattr(client_of(None), method)(address.path())
    if address.access is not None:
        assert response.status_code == 302
        assert response.url.startswith(reverse("accounts:login"))
    else:
        assert response.status_code in (200, 302, 405, 503)


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize("role", [*ROLES, None])
def test_a_role_opens_exactly_what_its_permissions_name(role, method):
    load_roles()
    user = make_user(role) if role else make_user()
    wrong = []
    for address in OWN:
        if not isinstance(address.access, tuple):
            continue
        client = client_of(user)  # a fresh session each: one view signs the user out
        response = getattr(client, method)(address.path())
        if is_refused(response) == user.has_perms(address.access) or response.status_code >= 500:
            wrong.append(f"{address}: {response.status_code}, needs {address.access}")
    assert not wrong


@pytest.mark.parametrize("role", [*ROLES[1:], None])
def test_the_administration_is_for_staff_only(role):
    client = client_of(make_user(role) if role else make_user())
    open_pages = []
    for address in ADMIN:
        if address.name in ("admin:login", "admin:jsi18n"):
            continue
        response = client.get(address.path())
        if response.status_code not in (302, 404):
            open_pages.append(f"{address}: {response.status_code}")
    assert not open_pages


def test_without_an_account_the_administration_asks_to_sign_in():
    client = client_of(None)
    for address in ADMIN:
        if address.name not in ("admin:login", "admin:jsi18n"):
            assert client.get(address.path()).status_code in (302, 404), address


@pytest.mark.parametrize("address", OWN, ids=str)
def test_a_form_without_its_token_is_refused(address):
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.force_login(make_user())
    assert client.post(address.path()).status_code in (403, 405)


def test_a_view_without_a_decision_is_closed_to_everyone(rf):
    request = rf.get("/")
    request.user, request.resolver_match = make_user("administrator", "radiologist"), None
    with pytest.raises(PermissionDenied):
        DenyByDefaultMiddleware(HttpResponse).process_view(request, HttpResponse, (), {})


def test_the_roles_here_are_those_of_the_fixture():
    load_roles()
    assert set(Group.objects.values_list("name", flat=True)) == set(ROLES)
