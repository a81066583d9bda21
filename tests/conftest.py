"""A database of its own for each run, made by the owner; the tests themselves work as the application does."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.test import TransactionTestCase
from playwright.sync_api import Browser, sync_playwright

from apps.core.secrets import read_secret

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
OWNER = "dicomsys_owner"
# Made by migrations and fixtures, the same for every test: never emptied.
REFERENCE_TABLES = {
    "django_migrations",
    "django_content_type",
    "auth_permission",
    "auth_group",
    "auth_group_permissions",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the harnesses of tests/system shall torture the system; `-m soak` runs the long ones."""
    group = parser.getgroup("dicomsys")
    group.addoption("--kill-rounds", type=int, default=16, help="how many processes are killed under load")
    group.addoption("--fuzz-cases", type=int, default=20_000, help="how many malformed associations are sent")
    group.addoption("--seed", type=int, default=1, help="of what is random in them")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long runs are run only where `-m` names them."""
    if "soak" not in config.getoption("-m"):
        skipped = pytest.mark.skip(reason="a long run, only by name: -m soak")
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(skipped)


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker) -> Iterator[None]:
    """The test database: created and migrated by the owner, used by the application role, dropped by the owner."""
    name = f"test_{settings.DATABASES['default']['NAME']}_{os.getpid()}"
    application = connection.settings_dict
    owner = {
        **application,
        "USER": OWNER,
        "PASSWORD": read_secret(f"database-{OWNER}"),
        "TEST": {**application["TEST"], "NAME": name},
    }
    with django_db_blocker.unblock():
        connection.settings_dict = owner
        drop_abandoned_databases()
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        connection.close()
        application["NAME"] = name
        connection.settings_dict = settings.DATABASES["default"] = application
    yield
    with django_db_blocker.unblock():
        connection.close()
        connection.settings_dict = {**owner, "NAME": name}
        connection.creation.destroy_test_db(owner["NAME"], verbosity=0)


def drop_abandoned_databases() -> None:
    """Databases of runs that were killed."""
    with connection._nodb_cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'test\\_dicomsys\\_%%'")
        for (name,) in cursor.fetchall():
            if not Path(f"/proc/{name.rpartition('_')[2]}").exists():
                cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def empty_tables(self) -> None:
    """After a transactional test: the application role may not truncate, so the owner does."""
    if connection.connection is None and not connection.is_usable():
        connection.close()
    original = connection.settings_dict
    connection.close()
    connection.settings_dict = {**original, "USER": OWNER, "PASSWORD": read_secret(f"database-{OWNER}")}
    try:
        tables = set(connection.introspection.table_names()) - REFERENCE_TABLES
        with connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE " + ", ".join(f'"{table}"' for table in sorted(tables)) + " RESTART IDENTITY CASCADE"
            )
    finally:
        connection.close()
        connection.settings_dict = original


TransactionTestCase._fixture_teardown = empty_tables


@pytest.fixture(autouse=True)
def file_store(tmp_path, settings) -> Path:
    """A file store of this test's own; its volume row is made by the `volume` fixture."""
    from apps.storage.files import forget_volume

    settings.DATA_DIR = tmp_path / "data"
    settings.SPOOL_DIR = settings.DATA_DIR / "spool"
    settings.QUARANTINE_DIR = settings.DATA_DIR / "quarantine"
    settings.SERVICES_SOCKET = settings.DATA_DIR / "run" / "services.sock"
    settings.SPOOL_MIN_FREE_BYTES = 0
    forget_volume()
    return settings.DATA_DIR


@pytest.fixture(autouse=True)
def no_rules_of_another_test() -> None:
    """Coercion rules are remembered for seconds."""
    from apps.archive.rulebook import forget_rules

    forget_rules()


@pytest.fixture
def volume(db, file_store):
    """The first volume of the file store."""
    from apps.storage.models import Volume

    root = file_store / "store"
    root.mkdir(parents=True, exist_ok=True)
    return Volume.objects.create(name="first", root=str(root))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"  # Playwright's loop runs in this thread, beside the ORM
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
