"""Tells Django of this app."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """The app's name; nothing happens at start. `apps.core.grants` keeps its table append-only."""

    name = "apps.audit"
    verbose_name = "audit trail"
