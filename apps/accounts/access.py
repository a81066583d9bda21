"""Who may open a page: nobody, unless the view says so.

A view carries its decision: `@requires("app.permission")`, `@signed_in` or `@public`. A view without one answers
403 to everyone. Django's admin decides by itself, for staff only.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase

View = Callable[..., HttpResponseBase]


def requires(*permissions: str) -> Callable[[View], View]:
    """Only users who hold every one of these permissions ("app_label.codename"); others get 403."""
    return _decide(tuple(permissions))


def signed_in(view: View) -> View:
    """Any user with an account."""
    return _decide(())(view)


def public(view: View) -> View:
    """Everyone, signed in or not: the sign-in page and the health probe."""
    return _decide(None)(view)


def _decide(permissions: tuple[str, ...] | None) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        @wraps(view)
        def carrier(*args: Any, **kwargs: Any) -> HttpResponseBase:
            return view(*args, **kwargs)

        carrier.access = permissions  # type: ignore[attr-defined]
        return carrier

    return decorate


class DenyByDefaultMiddleware:
    """Asks each view for its decision before it runs."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: View, args: Any, kwargs: Any) -> HttpResponseBase | None:
        """None lets the view run; else the answer is a redirect to the sign-in page or PermissionDenied."""
        if is_admin(request):
            return None
        permissions: tuple[str, ...] | None = getattr(view, "access", ("accounts.nobody",))
        if permissions is None:
            return None
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        if not request.user.has_perms(permissions):
            raise PermissionDenied
        return None


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    """htmx would put the sign-in page into the middle of the page: it is told to load it, and to come back here."""
    if not request.headers.get("HX-Request"):
        return redirect_to_login(request.get_full_path())
    address = redirect_to_login(urlsplit(request.headers.get("HX-Current-URL", "/")).path).url
    return HttpResponse(headers={"HX-Redirect": address})


def is_admin(request: HttpRequest) -> bool:
    """Whether the address belongs to Django's admin, whose every view asks for a staff account itself."""
    match = request.resolver_match
    return match is not None and match.app_name == "admin"
