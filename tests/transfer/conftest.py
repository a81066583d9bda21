"""Peers for these tests, short time-outs, and nodes that point at the peers."""

import pytest

from apps.accounts.models import User
from apps.nodes.models import RemoteNode
from apps.transfer.retrieve import Pace
from tests.peers import orthanc, orthanc_process, pacs, start_dcmqrscp, store_receiver, tcp_peer  # noqa: F401

QUICK = Pace(commit_s=0.05, renew_s=0.2, lease_s=5, silence_s=1.5, cancel_s=1)


@pytest.fixture(autouse=True)
def short_timeouts(settings):
    settings.DICOM_CONNECT_TIMEOUT_S = 0.5
    settings.DICOM_ACSE_TIMEOUT_S = 1
    settings.DICOM_DIMSE_TIMEOUT_S = 2
    settings.DICOM_NETWORK_TIMEOUT_S = 2


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    """Pages without `collectstatic`."""
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def user(db) -> User:
    return User.objects.create_user("reader")


def node_for(peer, **changes) -> RemoteNode:
    """The row of a running peer, allowed everything."""
    values = {"name": peer.ae_title, "ae_title": peer.ae_title, "host": peer.host, "port": peer.port}
    return RemoteNode.objects.create(**{**values, "may_be_queried": True, "may_be_retrieved_from": True, **changes})
