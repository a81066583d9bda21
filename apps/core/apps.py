"""Tells Django of this app."""

from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate


class CoreConfig(AppConfig):
    """Refuses an unfit database server, and grants the application role its rights after each migrate."""

    name = "apps.core"

    def ready(self) -> None:
        """Connect both; Django has no call to make instead."""
        from apps.core.checks import refuse_unfit_database
        from apps.core.grants import grant_to_application

        connection_created.connect(refuse_unfit_database, dispatch_uid="refuse_unfit_database")
        post_migrate.connect(grant_to_application, dispatch_uid="grant_to_application")
