"""The form of a remote node: its password is taken once and kept as a hash only."""

from typing import Any

from django import forms
from django.contrib.auth.hashers import make_password

from apps.nodes.models import RemoteNode


class RemoteNodeForm(forms.ModelForm):
    """A node with a place for a new password; the present one is never shown, not even as a hash."""

    identity_password = forms.CharField(
        label="New password",
        max_length=500,
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    class Meta:
        model = RemoteNode
        fields = "__all__"  # noqa: DJ007

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        password = self.fields.get("identity_password")
        if password is not None:
            is_set = bool(self.instance.identity_password_hash)
            password.help_text = "One is set; empty keeps it. Clear the user name to remove both." if is_set else (
                "None is set: the user name alone is asked for. It is kept as a hash only."
            )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        """A password belongs to a user name."""
        cleaned = super().clean() or self.cleaned_data
        if cleaned.get("identity_password") and not cleaned.get("identity_username"):
            self.add_error("identity_username", "A password needs a user name.")
        return cleaned

    def save(self, commit: bool = True) -> RemoteNode:
        """Hash what was typed; without a user name there is no password either."""
        if password := self.cleaned_data.get("identity_password"):
            self.instance.identity_password_hash = make_password(password)
        if not self.instance.identity_username:
            self.instance.identity_password_hash = ""
        node: RemoteNode = super().save(commit)
        return node
