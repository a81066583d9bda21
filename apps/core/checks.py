"""What must be true of the database server and the broker: asked of each process's first connection to them.

A server that logs parameters would write what describes patients into its log; versions below the floors are for
evaluation only.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper

from apps.core.errors import PermanentError

POSTGRESQL_FLOOR, RABBITMQ_FLOOR = (16, 0), (3, 12)
_asked: set[str] = set()


class UnfitServerError(PermanentError):
    """The database server or the broker must not be used as it is; the text says what to change."""


def refuse_unfit_database(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    """Once a process, when the first connection opens. Raises UnfitServerError."""
    if connection.alias in _asked:
        return
    errors = [message for message in database_messages(connection) if isinstance(message, Error)]
    if errors:
        connection.close()
        raise UnfitServerError(" ".join(f"{error.msg} {error.hint}" for error in errors))
    _asked.add(connection.alias)


def refuse_unfit_broker(version: str) -> None:
    """Raises UnfitServerError for a broker below the floor, in production."""
    for message in floor_message("RabbitMQ", version_numbers(version), RABBITMQ_FLOOR):
        if isinstance(message, Error):
            raise UnfitServerError(f"{message.msg} {message.hint}")


@register(Tags.database)
def check_database(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """The same for `manage.py check --database default`."""
    return database_messages(connection) if databases else []


def database_messages(connection: BaseDatabaseWrapper) -> list[CheckMessage]:
    """The connection is encrypted, no parameter reaches the server's log, the server is new enough."""
    found: list[CheckMessage] = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT ssl, current_setting('log_parameter_max_length'), current_setting('server_version_num')::int"
            " FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        )
        encrypted, parameter_length, version = cursor.fetchone()
    if not encrypted:
        found.append(Error("The database connection is not encrypted.", hint="Set ssl = on.", id="core.E001"))
    if parameter_length != "0":
        text = f"The database server logs statement parameters (log_parameter_max_length = {parameter_length})."
        hint = "Set log_parameter_max_length = 0: parameters hold what describes patients."
        found.append(Error(text, hint=hint, id="core.E002"))
    return found + floor_message("PostgreSQL", divmod(version, 10000), POSTGRESQL_FLOOR)


def version_numbers(version: str) -> tuple[int, int]:
    """(major, minor) of "3.10.8"."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def floor_message(product: str, version: tuple[int, int], floor: tuple[int, int]) -> list[CheckMessage]:
    """Nothing where the version reaches the floor; else an error in production and a warning in evaluation."""
    if version >= floor:
        return []
    have, need = (".".join(map(str, numbers)) for numbers in (version, floor))
    text = f"{product} {have} is older than {need}, the floor for production."
    if settings.IS_PRODUCTION:
        return [Error(text, hint=f"Install {product} {need} or newer.", id="core.E003")]
    return [Warning(text, hint="Accepted for evaluation only.", id="core.W003")]
