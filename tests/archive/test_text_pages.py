"""The text repair pages: who may see them, what they show, what they do."""

from html import unescape

import pytest
from django.contrib.auth.models import Permission
from django.urls import reverse

from apps.archive import text_views
from apps.archive.models import DoubtfulText, Patient, Study
from apps.archive.text_queries import list_groups, preview_candidates, used_by_sender
from apps.core.models import Outbox
from apps.core.queue import REPAIR_TEXTS
from tests.archive.test_text_repair import mislabelled, store
from tests.dicom import ct_dataset
from tests.factories import make_user
from tests.factories import store as store_rightly

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def person(client):
    user = make_user("technologist")
    client.force_login(user)
    return user


def text_of(response) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def group_page(client, **query) -> str:
    return text_of(client.get(reverse("texts:group", args=[DoubtfulText.objects.order_by("pk").first().pk]), query))


def decide(client, **fields) -> str:
    fields = {"state": "open", "label": "Windows-1251"} | fields
    first = DoubtfulText.objects.order_by("pk").first()
    return text_of(client.post(reverse("texts:decide", args=[first.pk]), fields, follow=True))


def test_groups_are_those_of_sender_and_label(client, person, volume):
    store(mislabelled("cp1251"), mislabelled("cp1251", PatientID="P2"), mislabelled("cp866", "ISO_IR 100"))
    page = text_of(client.get(reverse("texts:groups")))
    assert "names no character set" in page
    assert "<code>ISO_IR 100</code>" in page
    assert "2 to decide" in page
    assert "1 to decide" in page
    assert "Texts are not plain ASCII" in page
    assert "Bytes that the character set does not have" in page


def test_without_doubts_the_page_says_so(client, person):
    assert "All texts read well" in text_of(client.get(reverse("texts:groups")))


def test_candidates_show_names_and_say_why(client, person, volume):
    store(mislabelled("cp1251"), mislabelled("cp1251", PatientID="P2", PatientName="Петрова^Анна"))
    page = group_page(client)
    assert "Иванов, Сергей" in page
    assert "Петрова, Анна" in page
    assert "Cyrillic, Windows" in page
    assert page.index("likeliest") < page.index("Cyrillic (ISO 8859-5)")
    assert "common in names" in page
    assert "Èâàíîâ, Ñåðãåé" in page
    assert "КТ головы" in page


def test_another_character_set_can_be_tried(client, person, volume):
    store(mislabelled("cp1251"))
    assert "As Cyrillic, DOS" in group_page(client, charset="IBM-866")
    assert "As Cyrillic, Windows" in group_page(client, charset="KLINGON")


def test_chosen_studies_are_repaired_at_once(client, person, volume):
    store(mislabelled("cp1251"), mislabelled("cp1251", PatientID="P2"))
    first, second = DoubtfulText.objects.order_by("pk")
    page = decide(client, action="repair", doubt=[first.pk])
    assert "1 study repaired." in page
    first.refresh_from_db()
    second.refresh_from_db()
    assert (first.state, first.decided_by, second.state) == ("repaired", person, "open")
    assert first.study.patient.name == "Иванов^Сергей"
    assert "read as Windows-1251 by" in group_page(client, state="repaired")


def test_all_studies_of_a_state_are_repaired_set_back_and_left(client, person, volume):
    for number in range(3):
        store(mislabelled("cp1251", PatientID=f"P{number}"))
    assert "3 studies repaired." in decide(client, action="repair", everything="1")
    assert set(Patient.objects.values_list("name", flat=True)) == {"Иванов^Сергей"}
    assert "3 studies set back." in decide(client, action="undo", everything="1", state="repaired")
    assert set(Patient.objects.values_list("name", flat=True)) == {"Èâàíîâ^Ñåðãåé"}
    assert "3 studies left as shown." in decide(client, action="right", everything="1")
    assert set(DoubtfulText.objects.values_list("state", flat=True)) == {"right"}


def test_many_studies_are_left_to_a_worker(client, person, volume, monkeypatch):
    monkeypatch.setattr(text_views, "AT_ONCE", 1)
    for number in range(2):
        store(mislabelled("cp1251", PatientID=f"P{number}"))
    assert "2 studies of 2 to go" in decide(client, action="repair", everything="1")
    assert Outbox.objects.filter(task_name=REPAIR_TEXTS).count() == 1
    assert "2 in work" in group_page(client)
    assert "data-reload" in group_page(client)


def test_a_patient_id_that_was_left_is_told(client, person, volume):
    Patient.objects.create(patient_id="Карта7", issuer="TEST", name="Петров")
    store(mislabelled("cp1251", PatientID="Карта7"))
    page = decide(client, action="repair", everything="1")
    assert "1 study: Patient ID left as it was: the repaired one belongs to another patient." in page


def test_nothing_is_done_without_a_choice(client, person, volume):
    store(mislabelled("cp1251"))
    assert "Choose at least one study." in decide(client, action="repair")
    assert "Choose a character set first." in decide(client, action="repair", label="", everything="1")
    assert "This cannot be done" in decide(client, action="burn", everything="1")
    assert DoubtfulText.objects.get().state == "open"


def test_studies_of_another_group_are_not_touched(client, person, volume):
    store(mislabelled("cp1251"))
    store(mislabelled("cp866", "ISO_IR 100"))
    other = DoubtfulText.objects.get(labelled="ISO_IR 100")
    decide(client, action="repair", doubt=[other.pk])
    other.refresh_from_db()
    assert (other.state, other.wanted) == ("open", None)


@pytest.mark.parametrize("roles", [("radiologist",), ("administrator",), ()])
def test_only_who_may_repair_texts_sees_them(client, volume, roles):
    store(mislabelled("cp1251"))
    key = DoubtfulText.objects.get().pk
    client.force_login(make_user(*roles))
    for address in (reverse("texts:groups"), reverse("texts:group", args=[key])):
        assert client.get(address).status_code == 403
    assert client.post(reverse("texts:decide", args=[key]), {"action": "right"}).status_code == 403
    assert DoubtfulText.objects.get().state == "open"


def test_studies_that_a_person_may_not_see_are_in_no_group(client, person, volume):
    store(mislabelled("cp1251"))
    person.groups.clear()
    person.user_permissions.set(Permission.objects.filter(codename__in=["repair_text", "view_study"]))
    assert "All texts read well" in text_of(client.get(reverse("texts:groups")))
    assert client.get(reverse("texts:group", args=[DoubtfulText.objects.get().pk])).status_code == 404


def test_names_stand_in_no_address(client, person, volume):
    store(mislabelled("cp1251"))
    response = client.post(
        reverse("texts:decide", args=[DoubtfulText.objects.get().pk]),
        {"action": "repair", "label": "Windows-1251", "everything": "1", "state": "open"},
    )
    assert response.status_code == 302
    assert response.url.isascii()


def test_the_study_page_leads_to_the_repair(client, person, volume):
    store(mislabelled("cp1251"))
    address = reverse("portal:study", args=[Study.objects.get().study_instance_uid])
    assert reverse("texts:group", args=[DoubtfulText.objects.get().pk]) in text_of(client.get(address))
    DoubtfulText.objects.update(state="right")
    assert "may be wrong" not in text_of(client.get(address))


def test_what_the_sender_labels_rightly_counts(volume, file_store):
    store_rightly(ct_dataset(SpecificCharacterSet="ISO_IR 144", PatientName="Иванов"))
    store_rightly(ct_dataset(SpecificCharacterSet="ISO_IR 144", PatientName="Plain"))
    store(mislabelled("cp1251"))
    assert used_by_sender("SENDER") == {"ISO_IR 144": 1}
    assert used_by_sender("OTHER") == {}


def test_a_text_that_reads_the_same_is_not_shown_twice(client, person, volume):
    store(mislabelled("cp1251"))
    decide(client, action="repair", everything="1")
    assert "Reads the same" in group_page(client, charset="Windows-1251")
    assert "Reads the same" not in group_page(client, charset="IBM-866")


def test_what_was_chosen_before_counts_for_the_sender(person, volume, client):
    store(mislabelled("cp1251"))
    decide(client, action="repair", everything="1")
    assert used_by_sender("SENDER") == {"Windows-1251": 1}
    store(mislabelled("cp1251", PatientID="P2"))
    best = preview_candidates(person, list_groups(person)[0])[0]
    assert "as in 1 other study of this sender" in best.candidate.reasons
