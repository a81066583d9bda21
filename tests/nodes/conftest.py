"""Peers for these tests, and short time-outs."""

import pytest

from tests.peers import orthanc, orthanc_process, pacs, storage_only_peer, tcp_peer, unreachable_peer  # noqa: F401


@pytest.fixture(autouse=True)
def short_timeouts(settings):
    settings.DICOM_CONNECT_TIMEOUT_S = 0.5
    settings.DICOM_ACSE_TIMEOUT_S = 1
    settings.DICOM_DIMSE_TIMEOUT_S = 1
    settings.DICOM_NETWORK_TIMEOUT_S = 1


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    """Pages without `collectstatic`."""
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}
