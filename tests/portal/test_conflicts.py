"""The conflict pages: who may open them, what they show and keep to themselves, and who comes second."""

import pytest
from django.urls import reverse

from apps.archive.deciding import Choice, Person, decide
from apps.archive.models import Conflict, Decision, Instance, Study
from apps.audit.models import AuditEvent
from tests.archive.test_deciding import same_instance, same_series, store
from tests.dicom import ct_dataset
from tests.factories import make_user

pytestmark = pytest.mark.django_db

PERSON = {"PatientID": "GEHEIM7", "PatientName": "Geheim^Person", "PatientBirthDate": "19500101"}


@pytest.fixture
def stranger(volume):
    smith = ct_dataset(PatientName="Smith^John", PatientID="GEHEIM7", PatientBirthDate="19990202")
    eva = ct_dataset(**PERSON)
    store(smith)
    store(eva)
    return smith, eva


@pytest.fixture
def altered(volume):
    mine = ct_dataset(**PERSON | {"PatientID": "GEHEIM8"})
    store(mine)
    store(same_instance(mine, WindowCenter="40"))
    return mine


def open_conflict() -> Conflict:
    return Conflict.objects.open().get()


def page_of(conflict: Conflict, name: str = "conflict", **kwargs) -> str:
    return reverse(f"conflicts:{name}", kwargs={"pk": conflict.pk, **kwargs})


def post(client, conflict: Conflict, action: str, **data):
    return client.post(page_of(conflict, "decide"), {"action": action, **data}, follow=True)


@pytest.mark.parametrize("role", ["radiologist", "technologist"])
def test_who_may_decide_sees_the_count_and_the_page(client, stranger, role):
    client.force_login(make_user(role))
    home = client.get("/").content.decode()
    assert 'title="1 waits for a decision">1<' in home
    listed = client.get(reverse("conflicts:waiting")).content.decode()
    assert "Known Patient ID, other person" in listed
    page = client.get(page_of(open_conflict()))
    assert page.headers["Cache-Control"] == "no-store"
    assert "Geheim, Person" in page.content.decode()


@pytest.mark.parametrize("role", ["administrator", "film clerk", "referring physician", "auditor"])
def test_others_see_neither_the_menu_nor_the_page_nor_the_picture(client, stranger, role):
    client.force_login(make_user(role))
    conflict = open_conflict()
    assert reverse("conflicts:waiting") not in client.get("/").content.decode()
    for address in (page_of(conflict), page_of(conflict, "picture", side="left", size_px=192), "/conflicts/"):
        assert client.get(address).status_code == 403
    assert client.post(page_of(conflict, "decide"), {"action": "keep"}).status_code == 403
    assert Conflict.objects.open().exists()


def test_the_list_filters_by_kind(client, stranger, altered):
    client.force_login(make_user("radiologist"))
    page = client.get(reverse("conflicts:waiting"), {"kind": "instance"})
    assert [case.conflict.kind for case in page.context["cases"]] == ["instance"]
    assert {kind: count for kind, _, count in page.context["kinds"]} == {"instance": 1, "patient": 1}
    assert len(client.get(reverse("conflicts:waiting"), {"kind": "nonsense"}).context["cases"]) == 2


def test_a_page_of_cases_costs_the_same_number_of_queries_as_one(client, volume, django_assert_max_num_queries):
    for number in range(12):
        mine = ct_dataset(PatientID=f"P{number}")
        store(mine)
        store(same_instance(mine))
    client.force_login(make_user("radiologist"))
    with django_assert_max_num_queries(16):
        page = client.get(reverse("conflicts:waiting"))
    assert len(page.context["cases"]) == 12


def test_pictures_of_both_sides_are_made_anew_and_kept_nowhere(client, altered):
    client.force_login(make_user("radiologist"))
    conflict = open_conflict()
    pictures = [client.get(page_of(conflict, "picture", side=side, size_px=192)) for side in ("left", "right")]
    for picture in pictures:
        assert picture.headers["Content-Type"] == "image/png"
        assert picture.headers["Cache-Control"] == "no-store"
        assert "ETag" not in picture.headers
    assert pictures[0].content != pictures[1].content
    for side, size_px in (("middle", 192), ("left", 193)):
        assert client.get(page_of(conflict, "picture", side=side, size_px=size_px)).status_code == 404


def test_a_held_file_that_is_gone_leaves_the_page_standing(client, altered):
    client.force_login(make_user("radiologist"))
    conflict = open_conflict()
    conflict.held_path.unlink()
    page = client.get(page_of(conflict))
    assert page.status_code == 200
    assert "cannot be compared" in page.content.decode()
    assert client.get(page_of(conflict, "picture", side="right", size_px=192)).status_code == 404
    assert "cannot be read" in post(client, conflict, "replace", confirmed="on").content.decode()
    assert Conflict.objects.open().exists()


def test_what_the_files_say_is_text_never_markup(client, volume):
    mine = ct_dataset(**PERSON)
    store(mine)
    store(same_instance(mine, StudyDescription="<script>alert(1)</script>"))
    client.force_login(make_user("radiologist"))
    page = client.get(page_of(open_conflict())).content.decode()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_a_replacement_without_confirmation_does_nothing(client, altered):
    client.force_login(make_user("radiologist"))
    response = client.post(page_of(open_conflict(), "decide"), {"action": "replace", "seen": 1})
    assert response.status_code == 422
    assert "Confirm that the stored image is to be replaced" in response.content.decode()
    assert not Decision.objects.exists()
    post(client, open_conflict(), "replace", seen=1, confirmed="on")
    assert Instance.objects.get().file_variant


def test_pressed_twice_it_is_one_decision_and_who_comes_second_is_told(client, stranger):
    client.force_login(make_user("radiologist", name="rita"))
    conflict = open_conflict()
    decide(conflict.pk, Choice(Decision.Action.KEEP, reason="asked"), Person("otto"))
    page = post(client, conflict, "merge", target=conflict.other_patient_id).content.decode()
    assert "otto decided this before you: kept apart" in page
    assert Decision.objects.count() == 1
    assert Study.objects.values("patient").distinct().count() == 2


def test_undo_is_offered_as_long_as_nothing_builds_on_it(client, volume):
    mine = ct_dataset(**PERSON)
    store(mine)
    store(same_series(mine, PatientID="P2"))
    client.force_login(make_user("radiologist", name="rita"))
    conflict = open_conflict()
    page = post(client, conflict, "store").content.decode()
    decision = Decision.objects.get()
    address = reverse("conflicts:undo", args=[decision.pk])
    assert address in page
    store(same_series(mine, PatientID="P2"))
    page = client.get(page_of(conflict)).content.decode()
    assert address not in page
    assert "This cannot be undone. More images of the study have been stored since" in page
    assert "More images of the study" in client.post(address, follow=True).content.decode()
    assert Instance.objects.count() == 3
    event = AuditEvent.objects.get(action="conflict.store")
    assert (event.actor, event.remote_address) == ("rita", "127.0.0.1")


def test_patients_are_found_by_name_and_never_in_an_address(client, stranger, altered):
    other = ct_dataset(PatientID="W1", PatientName="Weber^Karl")
    store(other)
    client.force_login(make_user("radiologist"))
    conflict = Conflict.objects.open().get(kind="patient")
    found = client.post(page_of(conflict, "patients"), {"text": "web"}).content.decode()
    assert "Weber, Karl" in found
    assert "Geheim" not in found
    assert "No patient matches" in client.post(page_of(conflict, "patients"), {"text": "xyz"}).content.decode()
    assert client.get(page_of(conflict, "patients"), {"text": "web"}).status_code == 405


def test_nothing_of_a_person_is_logged_mailed_or_in_an_address(client, stranger, caplog):
    client.force_login(make_user("radiologist"))
    conflict = open_conflict()
    reason = "Geheim Person married John Smith"
    response = post(client, conflict, "merge", target=conflict.other_patient_id, reason=reason)
    assert reason in response.content.decode()
    addresses = " ".join(address for address, _ in response.redirect_chain)
    trail = " ".join(str(event.__dict__) for event in AuditEvent.objects.all())
    assert not [word for word in ("Geheim", "GEHEIM7", "Smith", "married") if word in caplog.text + addresses + trail]
