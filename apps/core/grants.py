"""What the application's database role may do: read and write rows, no DDL."""

from typing import Any

from django.db import connections, transaction

APP_ROLE = "dicomsys_app"
APPEND_ONLY = ("audit_auditevent",)


def grant_to_application(using: str = "default", **kwargs: Any) -> None:
    """After each migrate: rights on every table and sequence for the application role, none on the schema itself.

    In one transaction: at no moment may the role change or remove a row of an append-only table.
    """
    connection = connections[using]
    if connection.settings_dict["USER"] == APP_ROLE:
        return
    with transaction.atomic(using), connection.cursor() as cursor:
        cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {APP_ROLE}")
        cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE}")
        cursor.execute(f"REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {APP_ROLE}")
        for table in sorted(set(APPEND_ONLY) & set(connection.introspection.table_names(cursor))):
            cursor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {APP_ROLE}")
