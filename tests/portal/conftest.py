"""Pages without `collectstatic`."""

import pytest


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    """Names without a hash."""
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
