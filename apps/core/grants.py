"""What the application's database role may do: read and write rows, no DDL."""

from typing import Any

from django.db import connections

APP_ROLE = "dicomsys_app"


def grant_to_application(using: str = "default", **kwargs: Any) -> None:
    """After each migrate: rights on every table and sequence for the application role, none on the schema itself."""
    connection = connections[using]
    if connection.settings_dict["USER"] == APP_ROLE:
        return
    with connection.cursor() as cursor:
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {APP_ROLE}")
        cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE}")
        cursor.execute(f"REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {APP_ROLE}")
