import os
import subprocess
import sys

import pytest
from django.conf import settings
from django.db import connection

from apps.core import checks
from apps.core.checks import UnfitServerError, floor_message, refuse_unfit_broker, refuse_unfit_database


@pytest.mark.django_db
def test_this_server_is_fit_for_evaluation():
    assert [m.id for m in checks.database_messages(connection) if m.id != "core.W003"] == []


@pytest.mark.django_db
def test_a_server_that_logs_parameters_is_refused(monkeypatch):
    class Cursor:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def execute(self, statement):
            pass

        def fetchone(self):
            return True, "-1", 160000

    class Server:
        alias, closed = "other", False

        def cursor(self):
            return Cursor()

        def close(self):
            self.closed = True

    server = Server()
    with pytest.raises(UnfitServerError, match="log_parameter_max_length = 0"):
        refuse_unfit_database(server)
    assert server.closed


def test_old_versions_are_refused_in_production_and_named_in_evaluation(settings):
    assert [m.id for m in floor_message("PostgreSQL", (15, 18), (16, 0))] == ["core.W003"]
    refuse_unfit_broker("3.10.8")
    settings.IS_PRODUCTION = True
    assert [m.id for m in floor_message("PostgreSQL", (15, 18), (16, 0))] == ["core.E003"]
    assert floor_message("PostgreSQL", (16, 0), (16, 0)) == []
    with pytest.raises(UnfitServerError, match="3.12"):
        refuse_unfit_broker("3.10.8")


def test_the_production_profile_passes_the_deployment_check():
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        env={**without_test_variables(), "DICOMSYS_PROFILE": "production"},
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def without_test_variables() -> dict[str, str]:
    """The browser tests, when they ran before, have left one that production rightly refuses."""
    return {name: value for name, value in os.environ.items() if name != "DJANGO_ALLOW_ASYNC_UNSAFE"}
