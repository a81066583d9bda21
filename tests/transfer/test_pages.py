"""The pages of search and fetch: who may, what they say, and that no address describes a person."""

import re
from datetime import date

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from apps.accounts.models import User
from apps.archive.models import Patient, Study
from apps.nodes.models import RemoteNode
from apps.transfer.find import Found, FoundStudy
from apps.transfer.models import RetrieveJob
from tests.dicom import series_of
from tests.peers import Address, free_port
from tests.transfer.conftest import node_for

pytestmark = pytest.mark.django_db

State = RetrieveJob.State
EVERYTHING = (
    "query_node",
    "add_retrievejob",
    "change_retrievejob",
    "view_retrievejob",
    "view_study",
    "view_every_study",
)
HTMX = {"HX-Request": "true"}
UID = "1.2.3.4"


def sign_in(client, *codenames: str, **changes) -> User:
    user = User.objects.create_user("reader", **changes)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client.force_login(user)
    return user


def text_of(answer) -> str:
    return re.sub(r"\s+", " ", answer.content.decode())


def search(client, node, **criteria):
    return client.post(reverse("transfer:query"), {"node": node.pk, **criteria})


def stored_study(count: int, uid: str = UID) -> Study:
    patient = Patient.objects.create(patient_id="P1", name="Stored^Person")
    return Study.objects.create(study_instance_uid=uid, patient=patient, instance_count=count)


def answers(monkeypatch, *studies: FoundStudy, **flags) -> None:
    monkeypatch.setattr("apps.transfer.views.find_studies", lambda node, **criteria: Found(list(studies), **flags))


ONE = FoundStudy(UID, "P1", "Müller^Änne", date(1970, 1, 1), "F", date(2026, 1, 2), instance_count=10)


# --- Who may


@pytest.mark.parametrize(
    ("name", "method", "codename"),
    [
        ("query", "get", "query_node"),
        ("query", "post", "query_node"),
        ("retrieve", "post", "add_retrievejob"),
        ("jobs", "get", "view_retrievejob"),
        ("line", "get", "view_retrievejob"),
        ("cancel", "post", "change_retrievejob"),
        ("retry", "post", "change_retrievejob"),
    ],
)
def test_each_page_needs_its_right(client, name, method, codename):
    job = RetrieveJob.objects.create(node=node_for(Address(104)), study_instance_uid=UID)
    url = reverse(f"transfer:{name}", args=[job.pk] if name in ("line", "cancel", "retry") else [])
    sign_in(client, *(set(EVERYTHING) - {codename}))
    assert getattr(client, method)(url).status_code == 403
    client.logout()
    assert getattr(client, method)(url).status_code == 302


# --- Searching


def test_a_search_shows_what_orthanc_has(client, orthanc, tmp_path):
    orthanc.store(tmp_path / "images", series_of(3, PatientName="Müller^Änne", PatientID="P7", StudyDate="20260102"))
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(orthanc), patient_name="mül"))
    assert "Müller, Änne" in page
    assert "P7" in page
    assert "2026-01-02" in page
    assert "1 study at ORTHANC" in page
    assert "Not here" in page
    assert ">Retrieve</button>" in page


def test_criteria_are_never_read_from_an_address(client, pacs):
    sign_in(client, *EVERYTHING)
    node = node_for(pacs)
    client.get(reverse("transfer:query"), {"node": node.pk, "patient_name": "Müller"})
    assert pacs.finds == []


def test_no_address_and_no_title_of_the_page_describes_a_person(client, monkeypatch):
    answers(monkeypatch, ONE)
    stored_study(10)
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(Address(104)), patient_name="Müller", patient_id="P1"))
    addresses = " ".join(re.findall(r'(?:href|action|src|hx-\w+)="([^"]*)"', page))
    titles = " ".join(re.findall(r"<title>(.*?)</title>", page) + re.findall(r' title="([^"]*)"', page))
    assert "Müller" in page
    assert not [word for word in ("Müller", "P1", "M%C3%BCller", "1970", "Änne") if word in addresses + titles]


def test_the_page_holds_nothing_that_the_policy_forbids(client, monkeypatch):
    answers(monkeypatch, ONE)
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(Address(104)), patient_name="Müller"))
    assert not re.search(r'<[^>]+ (?:style|on\w+)="|javascript:|<script(?![^>]* src=)|<style', page)


def test_each_input_has_a_label(client):
    node_for(Address(104))
    sign_in(client, *EVERYTHING)
    page = text_of(client.get(reverse("transfer:query")))
    inputs = set(re.findall(r'<(?:input|select)[^>]* id="([^"]+)"', page))
    assert inputs >= {"id_node", "id_patient_name", "id_study_date_from", "id_modality"}
    assert inputs <= set(re.findall(r'<label[^>]* for="([^"]+)"', page))


@pytest.mark.parametrize(
    ("stored", "expected", "words"),
    [(0, 10, "Not here"), (4, 10, "4 of 10 here"), (10, 10, "All here"), (12, 10, "All here"), (4, None, "4 here")],
)
def test_the_page_tells_how_much_is_here(client, monkeypatch, stored, expected, words):
    answers(monkeypatch, FoundStudy(UID, instance_count=expected))
    if stored:
        stored_study(stored)
    sign_in(client, *EVERYTHING)
    assert words in text_of(search(client, node_for(Address(104)), patient_id="1"))


def test_who_may_not_see_a_study_learns_only_its_count(client, monkeypatch):
    answers(monkeypatch, FoundStudy(UID, instance_count=10))
    stored_study(10)
    sign_in(client, "query_node", "view_retrievejob")
    page = text_of(search(client, node_for(Address(104)), patient_id="1"))
    assert "All here" in page
    assert reverse("portal:study", args=[UID]) not in page
    RetrieveJob.objects.create(node=RemoteNode.objects.get(), study_instance_uid=UID)
    assert "Stored, Person" not in text_of(client.get(reverse("transfer:jobs")))


def test_too_few_criteria_are_explained(client, pacs):
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(pacs), modality="CT"))
    assert "Give a patient ID, a name, an accession number or a study date" in page
    assert pacs.finds == []


def test_an_impossible_date_keeps_what_was_typed(client, pacs):
    sign_in(client, *EVERYTHING)
    answer = search(client, node_for(pacs), patient_name="Müller", study_date_from="31.02.2026")
    assert answer.status_code == 422
    assert 'value="Müller"' in text_of(answer)
    assert "Enter a valid date" in text_of(answer)


def test_a_node_that_does_not_answer_is_explained(client):
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(Address(free_port())), patient_id="1"))
    assert "Nothing listens at 127.0.0.1" in page


def test_more_than_the_limit_asks_to_narrow(client, monkeypatch):
    answers(monkeypatch, ONE, is_cut=True, has_unreadable=True)
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(Address(104)), patient_id="1"))
    assert "Narrow the search" in page
    assert "could not be read" in page


def test_nothing_found_says_what_to_try(client, monkeypatch):
    answers(monkeypatch)
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(Address(104)), patient_id="1"))
    assert "Nothing found" in page
    assert "0 studies at" in page


def test_only_systems_that_may_be_searched_are_offered(client):
    node_for(Address(104, "GOOD"))
    node_for(Address(105, "OFF"), is_active=False)
    node_for(Address(106, "CLOSED"), may_be_queried=False)
    sign_in(client, *EVERYTHING)
    page = text_of(client.get(reverse("transfer:query")))
    assert ">GOOD</option>" in page
    assert ">OFF</option>" not in page
    assert ">CLOSED</option>" not in page


def test_without_a_system_each_is_told_whom_to_ask_or_where_to_go(client):
    sign_in(client, *EVERYTHING)
    assert "Ask an administrator" in text_of(client.get(reverse("transfer:query")))
    client.logout()
    client.force_login(User.objects.create_superuser("admin"))
    assert reverse("admin:nodes_remotenode_add") in text_of(client.get(reverse("transfer:query")))


def test_a_study_of_a_system_that_gives_none_has_no_button(client, monkeypatch):
    answers(monkeypatch, ONE)
    sign_in(client, *EVERYTHING)
    page = text_of(search(client, node_for(Address(104), may_be_retrieved_from=False), patient_id="1"))
    assert "Not here" in page
    assert ">Retrieve</button>" not in page


# --- Fetching


def test_the_button_starts_a_job_and_its_line_looks_again(client):
    user = sign_in(client, *EVERYTHING)
    node = node_for(Address(104))
    data = {"node": node.pk, "study_instance_uid": UID, "image_count": 10}
    line = text_of(client.post(reverse("transfer:retrieve"), data, headers=HTMX))
    job = RetrieveJob.objects.get()
    assert (job.node, job.study_instance_uid, job.requested_by, job.expected_count) == (node, UID, user, 10)
    assert f'hx-get="{reverse("transfer:line", args=[job.pk])}" hx-trigger="every 2s"' in line
    assert "Waiting for its turn" in line


def test_without_scripts_the_button_leads_to_the_list(client):
    sign_in(client, *EVERYTHING)
    data = {"node": node_for(Address(104)).pk, "study_instance_uid": UID}
    answer = client.post(reverse("transfer:retrieve"), data, follow=True)
    assert answer.redirect_chain == [(reverse("transfer:jobs"), 302)]
    assert UID in text_of(answer)


@pytest.mark.parametrize("data", [{}, {"study_instance_uid": "1.2\\3"}, {"node": 99}])
def test_a_request_that_cannot_be_is_refused_in_words(client, data):
    sign_in(client, *EVERYTHING)
    node = node_for(Address(104), name="<b>PACS</b>")
    answer = client.post(
        reverse("transfer:retrieve"), {"node": node.pk, "study_instance_uid": "", **data}, headers=HTMX
    )
    assert answer.status_code == 422
    assert "<b>PACS" not in text_of(answer)
    assert not RetrieveJob.objects.exists()


def job_with(**values) -> RetrieveJob:
    if values.get("state") == State.RUNNING:
        values = {"claimed_by": "w", "lease_until": "2999-01-01T00:00Z", **values}
    return RetrieveJob.objects.create(node=node_for(Address(104)), study_instance_uid=UID, **values)


@pytest.mark.parametrize(
    ("values", "words", "moves"),
    [
        ({}, "Waiting for its turn", True),
        ({"last_error": "Nothing listens."}, "Tries again at", True),
        ({"state": State.RUNNING, "expected_count": 10, "completed_count": 3}, "3 of 10", True),
        ({"state": State.RUNNING, "cancel_requested_at": "2026-01-01T00:00Z"}, "Stopping", True),
        ({"state": State.FAILED, "last_error": "It said no."}, "It said no.", False),
        ({"state": State.CANCELLED}, "Cancelled.", False),
        ({"state": State.DONE, "completed_count": 10, "finished_at": "2026-01-01T00:00Z"}, "Not here", False),
    ],
)
def test_a_line_tells_its_state_and_stops_looking_at_the_end(client, values, words, moves):
    job = job_with(**values)
    sign_in(client, *EVERYTHING)
    for name in ("line", "jobs"):
        page = text_of(client.get(reverse(f"transfer:{name}", args=[job.pk] if name == "line" else [])))
        assert ("every 2s" in page) is moves
        assert words in page or words == "Not here"


def test_a_finished_fetch_is_watched_until_its_images_are_stored(client):
    from django.utils import timezone

    job = job_with(state=State.DONE, completed_count=10, expected_count=10, finished_at=timezone.now())
    study = stored_study(4)
    sign_in(client, *EVERYTHING)
    assert "Being stored: 4 of 10" in text_of(client.get(reverse("transfer:line", args=[job.pk])))
    study.instance_count = 10
    study.save()
    line = text_of(client.get(reverse("transfer:line", args=[job.pk])))
    assert "All here" in line
    assert reverse("portal:study", args=[UID]) in line
    assert "every 2s" not in line


def test_cancel_and_retry_from_the_list(client):
    job = job_with()
    sign_in(client, *EVERYTHING)
    client.post(reverse("transfer:cancel", args=[job.pk]))
    job.refresh_from_db()
    assert job.state == State.CANCELLED
    assert "Try again" in text_of(client.get(reverse("transfer:jobs")))
    client.post(reverse("transfer:retry", args=[job.pk]))
    job.refresh_from_db()
    assert job.state == State.QUEUED
    assert "being retrieved already" in text_of(client.post(reverse("transfer:retry", args=[job.pk]), follow=True))


def test_who_may_only_look_has_no_buttons(client):
    job_with()
    sign_in(client, "view_retrievejob")
    page = text_of(client.get(reverse("transfer:jobs")))
    assert "Waiting for its turn" in page
    assert "Cancel" not in page


def test_the_list_names_the_patient_to_who_may_see_the_study(client):
    job_with(state=State.DONE)
    stored_study(10)
    sign_in(client, *EVERYTHING)
    assert "Stored, Person" in text_of(client.get(reverse("transfer:jobs")))


def test_the_empty_list_says_how_to_begin(client):
    sign_in(client, *EVERYTHING)
    page = text_of(client.get(reverse("transfer:jobs")))
    assert "Nothing has been retrieved yet" in page
    assert reverse("transfer:query") in page


def test_the_list_has_pages(client):
    node = node_for(Address(104))
    RetrieveJob.objects.bulk_create(
        RetrieveJob(node=node, study_instance_uid=f"1.{number}", state=State.DONE) for number in range(51)
    )
    sign_in(client, *EVERYTHING)
    assert "Page 1 of 2" in text_of(client.get(reverse("transfer:jobs")))
    assert "1.0" in text_of(client.get(reverse("transfer:jobs"), {"page": 2}))


def test_the_admin_shows_fetches_and_changes_none(client):
    job = job_with(state=State.FAILED, last_error="It said no.")
    client.force_login(User.objects.create_superuser("admin"))
    assert UID in text_of(client.get(reverse("admin:transfer_retrievejob_changelist")))
    assert "It said no." in text_of(client.get(reverse("admin:transfer_retrievejob_change", args=[job.pk])))
    assert client.get(reverse("admin:transfer_retrievejob_add")).status_code == 403
