"""Signing in and out, and one's own password."""

from typing import Any

from django.contrib import messages
from django.contrib.auth import views
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.urls import reverse_lazy

from apps.accounts.access import public, signed_in
from apps.accounts.forms import OwnPasswordForm, SignInForm


class SignIn(views.LoginView):
    """The sign-in page; whoever is signed in already goes on."""

    template_name = "accounts/login.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True


class ChangePassword(views.PasswordChangeView):
    """One's own password; other sessions of the account end."""

    template_name = "accounts/password_change.html"
    form_class = OwnPasswordForm
    success_url = reverse_lazy("accounts:password_change")

    def form_valid(self, form: PasswordChangeForm) -> HttpResponse:
        """Say so on the page that follows."""
        messages.success(self.request, "Your password is changed. Sessions on other computers have ended.")
        return super().form_valid(form)


class SignOut(views.LogoutView):
    """Ends the session; the next person at this computer finds no pictures in the browser's cache."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Browsers obey the header over HTTPS and from localhost."""
        response = super().post(request, *args, **kwargs)
        response["Clear-Site-Data"] = '"cache"'
        return response


login = public(SignIn.as_view())
logout = public(SignOut.as_view())  # an expired session may still press the button
password_change = signed_in(ChangePassword.as_view())
