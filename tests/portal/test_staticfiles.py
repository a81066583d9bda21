"""Static files as production collects them."""

import json

import pytest
from django.core.management import call_command

from dicomsys import settings as project


@pytest.fixture(autouse=True)
def collected(settings, tmp_path):
    settings.STORAGES = project.STORAGES
    settings.STATIC_ROOT = tmp_path / "static"
    call_command("collectstatic", verbosity=0, interactive=False)
    return settings.STATIC_ROOT


def test_every_file_gets_a_name_with_its_hash(collected):
    paths = json.loads((collected / "staticfiles.json").read_text())["paths"]
    for name in ("portal/portal.css", "portal/worklist.js", "tabler/css/tabler.min.css", "django_htmx/htmx-2.min.js"):
        assert paths[name] != name
        assert (collected / paths[name]).is_file()


def test_no_style_sheet_or_script_of_ours_asks_another_host(collected):
    for path in (collected / "portal").iterdir():
        text = path.read_text(errors="ignore") if path.suffix in (".css", ".js") else ""
        assert "http:" not in text
        assert "https:" not in text
