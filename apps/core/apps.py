"""Tells Django of this app."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class CoreConfig(AppConfig):
    """Grants the application role its rights after each migrate, and registers the start-up checks."""

    name = "apps.core"

    def ready(self) -> None:
        """Connect; there is no call in Django to make instead."""
        from apps.core import checks  # noqa: F401
        from apps.core.grants import grant_to_application

        post_migrate.connect(grant_to_application, dispatch_uid="grant_to_application")
