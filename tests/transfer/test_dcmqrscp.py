"""The same against DCMTK's dcmqrscp, which tells no counts and answers 0xA801 where it does not know us."""

import pytest

from apps.transfer.find import find_studies
from apps.transfer.models import RetrieveJob
from apps.transfer.retrieve import run_retrieve
from apps.transfer.services import request_retrieve, retry_retrieve
from tests.dicom import series_of
from tests.peers import store
from tests.transfer.conftest import QUICK, node_for

pytestmark = pytest.mark.django_db(transaction=True)

State = RetrieveJob.State


def test_a_study_is_found_and_fetched_once_our_ae_title_is_known_there(
    start_dcmqrscp, store_receiver, user, settings, tmp_path
):
    images = series_of(3, PatientName="Müller^Änne", PatientID="P1")
    peer = start_dcmqrscp("SOMEBODYELSE", store_receiver.port)
    store(peer, tmp_path / "images", images)
    node = node_for(peer)

    (study,) = find_studies(node, patient_name="Mül").studies
    assert (study.patient_name, study.instance_count) == ("Müller^Änne", None)

    job = request_retrieve(user, node, study.study_instance_uid)
    run_retrieve(job.pk, QUICK)
    job.refresh_from_db()
    assert job.state == State.FAILED
    assert f"does not know our AE title {settings.AE_TITLE}: have it added there" in job.last_error

    start_dcmqrscp(settings.AE_TITLE, store_receiver.port)
    assert retry_retrieve(job.pk)
    run_retrieve(job.pk, QUICK)
    job.refresh_from_db()
    assert (job.state, job.completed_count, job.expected_count) == (State.DONE, 3, 3)
    assert sorted(store_receiver.sop_instance_uids) == sorted(image.SOPInstanceUID for image in images)
