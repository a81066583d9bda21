"""What must be true of the database and the broker before anything starts (`manage.py check --database default`)."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection

POSTGRESQL_FLOOR, RABBITMQ_FLOOR = (16, 0), (3, 12)


@register(Tags.database)
def check_database(databases: list[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The server is new enough, the connection is encrypted, and no parameter reaches the server's log."""
    if not databases:
        return []
    found: list[CheckMessage] = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ssl, current_setting('log_parameter_max_length') FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        encrypted, parameter_length = cursor.fetchone()
        cursor.execute("SELECT current_setting('server_version_num')::int")
        version = divmod(cursor.fetchone()[0], 10000)
    if not encrypted:
        found.append(Error("The database connection is not encrypted.", hint="Set ssl = on.", id="core.E001"))
    if parameter_length != "0":
        found.append(
            Error(
                f"The database server logs statement parameters (log_parameter_max_length = {parameter_length}).",
                hint="Set log_parameter_max_length = 0: parameters hold what describes patients.",
                id="core.E002",
            )
        )
    found += floor_message("PostgreSQL", version, POSTGRESQL_FLOOR)
    return found


def floor_message(product: str, version: tuple[int, ...], floor: tuple[int, ...]) -> list[CheckMessage]:
    """Nothing where the version reaches the floor; else an error in production and a warning in evaluation."""
    if version >= floor:
        return []
    have, need = (".".join(map(str, numbers)) for numbers in (version, floor))
    text = f"{product} {have} is older than {need}, the floor for production."
    if settings.IS_PRODUCTION:
        return [Error(text, hint=f"Install {product} {need} or newer.", id="core.E003")]
    return [Warning(text, hint="Accepted for evaluation only.", id="core.W003")]
