"""The worklist's answers: what it shows, to whom, and what never gets into an address."""

import re
from datetime import date, timedelta

import pytest
from django.urls import reverse
from django.utils.timezone import localdate

from apps.archive.models import Study
from apps.archive.queries import BY_ARRIVAL, BY_STUDY_DATE, PAGE_SIZE
from apps.portal.forms import SearchForm
from tests.factories import make_study, make_user

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}


@pytest.fixture
def reader(client):
    client.force_login(make_user("radiologist"))
    return client


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match
    return match[1]


def search(client, **fields) -> str:
    return client.post(reverse("portal:search"), fields, headers=HTMX).content.decode()


def poll(client, page: str, **fields):
    state, newest = (found(f'data-{name}="([^"]*)"', page) for name in ("state", "newest"))
    return client.post(reverse("portal:poll"), {"state": state, "newest": newest, **fields}, headers=HTMX)


def test_a_row_shows_the_patient_and_the_study(reader):
    make_study("Müller^Anna=山田^花", patient_id="P77", accession_number="ACC5", birth_date=date(1950, 3, 10), sex="F")
    page = reader.get("/").content.decode()
    for text in ("Müller, Anna (山田 花)", "P77", "ACC5", "1950-03-10", "75 y", "2026-01-02", "10:11", "CT"):
        assert text in page
    assert page.count("data-row") == 1


def test_what_is_searched_for_is_kept_for_the_way_back_and_stays_out_of_addresses(reader):
    make_study("Müller^Anna")
    make_study("Smith^John")
    page = search(reader, text="müller")
    assert "Müller, Anna" in page
    assert "Smith" not in page
    again = reader.get("/").content.decode()
    assert 'value="müller"' in again
    assert "Smith" not in again
    assert not re.findall(
        r'(?:href|action|hx-[a-z]+|data-[a-z]+|src)="[^"]*(?:müller|M%C3|Smith)', again, re.IGNORECASE
    )
    assert "Müller" not in found("<title>(.*?)</title>", again)


def test_a_search_by_get_is_refused(reader):
    for name in ("search", "more", "poll"):
        assert reader.get(reverse(f"portal:{name}"), {"text": "x"}).status_code == 405


def test_without_scripts_a_search_leads_back_to_the_worklist(reader):
    make_study("Smith^John")
    response = reader.post(reverse("portal:search"), {"text": "nobody"})
    assert response.url == "/"
    assert "No study matches" in reader.get("/").content.decode()


def test_hostile_names_are_shown_as_text(reader):
    make_study('<script>alert(1)</script>^"onload=x', description="<img src=x>", accession_number="'><b>")
    page = search(reader)
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "x" * 500, "%" * 50, "𝔘\ud7ff", "*" * 90, "?, ?"])
def test_no_text_breaks_the_page(reader, text):
    make_study("Smith^John")
    assert reader.post(reverse("portal:search"), {"text": text}, headers=HTMX).status_code == 200
    assert reader.get("/").status_code == 200


def test_wrong_fields_are_told_and_not_asked_for(reader):
    make_study("Smith^John")
    page = search(reader, day="range", date_from="2026-02-31")
    assert "Enter a valid date" in page
    assert "Smith, John" in page
    assert "ends before it begins" in search(reader, day="range", date_from="2026-02-02", date_to="2026-02-01")
    assert reader.get("/").status_code == 200


@pytest.mark.parametrize(
    ("day", "ages"),
    [("", {0, 1, 3, 30}), ("today", {0}), ("yesterday", {1}), ("week", {0, 1, 3}), ("range", {3})],
)
def test_the_days_count_back_from_today(reader, day, ages):
    today = localdate()
    for age in (0, 1, 3, 30):
        make_study(f"Age{age}^A", study_date=today - timedelta(days=age))
    span = {"date_from": today - timedelta(days=5), "date_to": today - timedelta(days=2)}
    page = search(reader, day=day, **span)
    assert {age for age in (0, 1, 3, 30) if f"Age{age}, A" in page} == ages


def test_filters_by_modality_and_source(reader):
    make_study("Scan^A", modality="CT", source="ROOM1")
    make_study("Magnet^B", modality="MR", source="ROOM2")
    assert "Magnet" not in search(reader, modality=["CT", "XA"])
    assert "Scan" not in search(reader, source="ROOM2")


def test_the_form_asks_for_study_dates_unless_told_otherwise():
    assert SearchForm({}).criteria().order == BY_STUDY_DATE
    assert SearchForm({"order": BY_ARRIVAL}).criteria().order == BY_ARRIVAL
    assert SearchForm({"order": "id; DROP TABLE"}).criteria().order == BY_STUDY_DATE


def test_more_shows_the_rows_that_follow(reader):
    for number in range(PAGE_SIZE + 5):
        make_study(f"Name{number:03}^A")
    page = search(reader, text="name")
    assert page.count("data-row") == PAGE_SIZE
    after = found(r'"after": (\d+)', page)
    rest = reader.post(reverse("portal:more"), {"text": "name", "after": after}, headers=HTMX).content.decode()
    assert rest.count("data-row") == 5
    assert "Show more" not in rest
    assert not set(re.findall(r"Name\d+", page)) & set(re.findall(r"Name\d+", rest))


def test_polling_says_nothing_while_nothing_changes(reader):
    make_study("Smith^John")
    assert poll(reader, search(reader)).status_code == 204


def test_polling_hints_at_new_studies_that_match(reader):
    make_study("Smith^John")
    page = search(reader, text="smith")
    make_study("Other^A")
    assert poll(reader, page, text="smith").status_code == 204
    make_study("Smith^Jane")
    assert "1 new study" in poll(reader, page, text="smith").content.decode()
    make_study("Smith^Joan")
    assert "2 new studies" in poll(reader, page, text="smith").content.decode()


def test_polling_renews_an_untouched_page_even_when_only_images_were_added(reader):
    study = make_study("Smith^John")
    page = search(reader)
    Study.objects.filter(pk=study.pk).update(instance_count=17)
    assert poll(reader, page).status_code == 204
    assert "1 series, 17 images" in poll(reader, page, quiet="1").content.decode()


def test_polling_does_not_touch_what_is_kept_for_the_way_back(reader):
    page = search(reader, text="smith")
    poll(reader, page, text="other")
    assert 'value="smith"' in reader.get("/").content.decode()


def test_before_the_first_image_the_page_says_where_to_send(reader, settings):
    settings.AE_TITLE, settings.DICOM_ADDRESS, settings.DICOM_PORT = "MYAE", "192.0.2.7", 11999
    page = reader.get("/").content.decode()
    for text in ("No images yet", "MYAE", "192.0.2.7", "11999", "import_files"):
        assert text in page


def test_a_referring_physician_is_told_why_there_is_nothing(client):
    make_study("Smith^John")
    client.force_login(make_user("referring physician"))
    page = client.get("/").content.decode()
    assert "No studies are assigned to you yet" in page
    assert "Smith" not in page


@pytest.mark.parametrize("role", ["administrator", "auditor"])
def test_roles_without_studies_get_a_page_that_says_so(client, role):
    make_study("Smith^John")
    client.force_login(make_user(role))
    page = client.get("/").content.decode()
    assert "Your roles do not include studies" in page
    assert "Smith" not in page


def test_a_study_that_is_still_arriving_is_marked_until_it_is_complete(reader):
    study = make_study("Smith^John", status="receiving")
    page = search(reader)
    assert "badge receiving" in page
    assert poll(reader, page, quiet="1").status_code == 204
    Study.objects.filter(pk=study.pk).update(status="complete")
    fresh = poll(reader, page, quiet="1")
    assert fresh.status_code == 200
    assert "badge receiving" not in fresh.content.decode()


def test_the_filter_shows_only_what_is_still_arriving(reader):
    make_study("Smith^John", status="receiving")
    make_study("Baker^Ann", status="complete")
    page = search(reader, receiving="1")
    assert "Smith, John" in page
    assert "Baker" not in page
    assert re.search(r'name="receiving"[^>]* checked', reader.get("/").content.decode())
    Study.objects.update(status="complete")
    assert "No study is arriving" in search(reader, receiving="1")


def test_missing_images_are_marked_once_nothing_comes_any_more(reader):
    study = make_study("Smith^John", status="receiving", expected_instance_count=10)
    assert 'class="missing"' not in search(reader)
    Study.objects.filter(pk=study.pk).update(status="complete")
    page = search(reader)
    assert 'class="missing"' in page
    assert "the sender spoke of 10" in page


def test_the_page_needs_few_statements_whatever_its_length(reader, django_assert_max_num_queries):
    for number in range(30):
        make_study(f"Name{number}^A", modality="CT" if number % 2 else "MR")
    with django_assert_max_num_queries(12):
        reader.get("/")


def test_nothing_of_it_is_kept_by_a_browser(reader):
    assert reader.get("/").headers["Cache-Control"] == "no-store"


def test_the_short_address_leads_to_the_worklist(reader):
    assert reader.get("/worklist/").url == "/"
