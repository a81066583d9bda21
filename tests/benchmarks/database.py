"""A database of a benchmark's own, and what a process costs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

from apps.core.secrets import read_secret

OWNER = "dicomsys_owner"


@contextmanager
def own_database() -> Iterator[None]:
    """Made and migrated by the owner, used by the application role, dropped in the end.

    Its name ends in this process's id: the tests drop those of processes that are gone.
    """
    application = connection.settings_dict
    name = f"test_{application['NAME']}_{os.getpid()}"
    owner = application | {"USER": OWNER, "PASSWORD": read_secret(f"database-{OWNER}")}
    connection.settings_dict = owner | {"TEST": {**application["TEST"], "NAME": name}}
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    connection.close()
    application["NAME"] = name
    connection.settings_dict = settings.DATABASES["default"] = application
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = owner | {"NAME": name}
        connection.creation.destroy_test_db(settings.DATABASES["default"]["NAME"], verbosity=0)


@contextmanager
def as_owner() -> Iterator[None]:
    """The connection belongs to the owner meanwhile: it may truncate, and fill tables without their indexes."""
    application = connection.settings_dict
    connection.close()
    connection.settings_dict = application | {"USER": OWNER, "PASSWORD": read_secret(f"database-{OWNER}")}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = application


def cpu_s(pid: int) -> float:
    """Seconds that a process has spent on a processor, to the nanosecond (proc(5), schedstat)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
