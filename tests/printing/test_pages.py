"""The pages: who may, what they say, and what they hand out."""

import re
from io import BytesIO
from uuid import uuid4

import pytest
from django.urls import reverse
from PIL import Image

from apps.core.errors import RetryableError
from apps.films.models import FilmSheet
from apps.printing.models import Printer, PrintJob
from apps.printing.services import run_printer
from apps.storage.blobs import blob_path
from tests.factories import make_user
from tests.printing.conftest import states

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "Geheim^Person"


@pytest.fixture
def page(client, radiologist):
    client.force_login(radiologist)
    return client


@pytest.fixture
def study(make_ct_study):
    return make_ct_study(5, 3, PatientName=SECRET, PatientID="SECRET7")


def series_of(study) -> list[int]:
    return list(study.series.values_list("pk", flat=True))


def choices(study, template, on=None, **values) -> dict[str, object]:
    asked = {"series": series_of(study), "template": template.pk, "columns": 2, "rows": 2, "every": 1, "key": uuid4()}
    return {**asked, **({"printer": on.pk} if on else {}), **values}


def test_the_form_offers_series_with_images_and_films(page, study, template, printer):
    answer = page.get(reverse("films:new", args=[study.pk]))
    text = answer.content.decode()
    assert answer.status_code == 200
    assert text.count('name="series"') == 2
    assert "5 images" in text
    assert printer.name in text
    assert template.name in text


def test_a_series_can_be_chosen_by_address(page, study, template):
    wanted = series_of(study)[1]
    text = page.get(reverse("films:new", args=[study.pk]), {"series": wanted}).content.decode()
    assert re.findall(r'value="(\d+)" checked', text) == [str(wanted)]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "2 sheets</strong>, 8 images"),
        ({"every": 3}, "1 sheet</strong>, 3 images"),
        ({"columns": 1, "rows": 1}, "8 sheets</strong>"),
        ({"columns": 3, "rows": 1}, "2 on the last sheet"),
        ({"columns": 12, "rows": 12}, "too many for this film"),
        ({"series": []}, "Choose at least one series."),
        ({"columns": 99}, "Columns: choose a number from 1 to 12"),
    ],
)
def test_the_plan_says_what_would_come_out(page, study, template, values, said):
    answer = page.get(reverse("films:plan", args=[study.pk]), choices(study, template, **values))
    assert answer.status_code == 200
    assert said in answer.content.decode()


def test_making_a_film_leads_to_its_job_and_its_file(page, study, template, printer):
    answer = page.post(reverse("printing:film", args=[study.pk]), choices(study, template, printer))
    job = PrintJob.objects.get()
    assert answer.url == reverse("printing:job", args=[job.pk])
    assert "Waiting for its turn" in page.get(answer.url).content.decode()
    run_printer(printer.pk)
    text = page.get(answer.url).content.decode()
    assert "Download PDF" in text
    file = page.get(reverse("printing:download", args=[job.pk]))
    content = b"".join(file.streaming_content)
    assert content.startswith(b"%PDF")
    assert file["Content-Disposition"] == f'attachment; filename="film-{job.pk}.pdf"'
    assert len(content) == PrintJob.objects.get().document_bytes


def test_the_preview_is_a_reduction_of_the_raster(page, study, template, printer):
    page.post(reverse("printing:film", args=[study.pk]), choices(study, template, printer))
    row = PrintJob.objects.get().sheet_prints.first()
    assert page.get(reverse("printing:preview", args=[row.pk])).status_code == 404
    run_printer(printer.pk)
    answer = page.get(reverse("printing:preview", args=[row.pk]))
    picture = Image.open(BytesIO(b"".join(answer.streaming_content)))
    assert 350 < max(picture.size) <= 1400
    assert answer["Cache-Control"] == "no-store"
    again = page.get(reverse("printing:preview", args=[row.pk]), headers={"If-None-Match": answer["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"series": []}, "Choose at least one series."),
        ({"printer": 0}, "This printer is not in use"),
        ({"columns": 12, "rows": 12}, "too many"),
        ({"every": 0}, "Every n-th image: choose a number from 1"),
    ],
)
def test_a_wrong_choice_is_said_on_the_form(page, study, template, printer, values, said):
    answer = page.post(reverse("printing:film", args=[study.pk]), choices(study, template, printer, **values))
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not PrintJob.objects.exists()
    assert not FilmSheet.objects.exists()


def test_a_series_of_another_study_is_refused(page, study, template, printer, make_ct_study):
    other = make_ct_study(1, PatientID="OTHER")
    asked = choices(study, template, printer, series=series_of(other))
    answer = page.post(reverse("printing:film", args=[study.pk]), asked)
    assert answer.status_code == 422
    assert "one patient" in answer.content.decode()


def test_a_double_click_makes_one_job(page, study, template, printer):
    asked = choices(study, template, printer)
    answers = {page.post(reverse("printing:film", args=[study.pk]), asked).url for _ in range(2)}
    assert len(answers) == 1
    assert PrintJob.objects.count() == 1


def test_without_a_template_or_a_printer_the_page_says_so(page, study):
    text = page.get(reverse("films:new", args=[study.pk])).content.decode()
    assert "No printer is in use" in text
    Printer.objects.create(name="p")
    answer = page.post(reverse("printing:film", args=[study.pk]), {"series": series_of(study), "key": uuid4()})
    assert answer.status_code == 422


def test_a_study_without_images_says_so(page, study):
    for series in study.series.all():
        series.instances.update(rows=None)
    assert "There is nothing to print" in page.get(reverse("films:new", args=[study.pk])).content.decode()


def test_the_queue_shows_jobs_and_whose_they_are(page, client, make_job, printer):
    assert "Nothing has been printed yet" in page.get(reverse("printing:queue")).content.decode()
    job = make_job(2)
    text = page.get(reverse("printing:queue")).content.decode()
    assert "0 of 2" in text
    assert "every 2s" in text
    run_printer(printer.pk)
    text = page.get(reverse("printing:queue")).content.decode()
    assert "2 of 2" in text
    assert "every 2s" not in text
    client.force_login(make_user("film clerk"))
    assert "You have not printed anything yet" in client.get(reverse("printing:queue"), {"mine": 1}).content.decode()
    assert str(job.pk) in client.get(reverse("printing:queue")).content.decode()


def test_trouble_is_told_in_words_and_can_be_retried_or_cancelled(page, make_job, printer, device):
    job = make_job(2)
    device.faults = [RetryableError("the printer is off")]
    run_printer(printer.pk)
    text = page.get(reverse("printing:job", args=[job.pk])).content.decode()
    assert "Tries again at" in text
    assert "the printer is off" in text
    page.post(reverse("printing:retry", args=[job.pk]))
    run_printer(printer.pk)
    assert states(job) == ["ACCEPTED"] * 2
    other = make_job(2)
    page.post(reverse("printing:cancel", args=[other.pk]))
    assert states(other) == ["CANCELLED"] * 2
    assert "Cancelled" in page.get(reverse("printing:job", args=[other.pk])).content.decode()


def test_htmx_gets_only_the_part_that_changes(page, make_job):
    job = make_job(1)
    text = page.get(reverse("printing:job", args=[job.pk]), headers={"HX-Request": "true"}).content.decode()
    assert "<html" not in text
    assert 'id="job"' in text


def test_a_file_that_was_removed_says_so(page, make_job, printer):
    job = make_job(1)
    assert "not ready yet" in page.get(reverse("printing:download", args=[job.pk]), follow=True).content.decode()
    run_printer(printer.pk)
    job.refresh_from_db()
    blob_path(job.document).unlink()
    text = page.get(reverse("printing:download", args=[job.pk]), follow=True).content.decode()
    assert "no longer stored" in text


def addresses(study, job) -> list[str]:
    row = job.sheet_prints.first()
    return [
        reverse("films:new", args=[study.pk]),
        reverse("films:plan", args=[study.pk]),
        reverse("printing:job", args=[job.pk]),
        reverse("printing:download", args=[job.pk]),
        reverse("printing:preview", args=[row.pk]),
    ]


def test_who_may_not_see_the_study_sees_nothing_of_its_film(client, study, make_job, printer):
    job = make_job(1)
    run_printer(printer.pk)
    scoped = make_user("film clerk", "referring physician")
    for group in scoped.groups.all():  # everything but every study
        group.permissions.remove(*group.permissions.filter(codename="view_every_study"))
    client.force_login(scoped)
    for address in addresses(study, job):
        assert client.get(address).status_code == 404, address
    for name in ("cancel", "retry"):
        assert client.post(reverse(f"printing:{name}", args=[job.pk])).status_code == 404
    assert "Nothing has been printed yet" in client.get(reverse("printing:queue")).content.decode()


def test_roles_without_the_permission_are_refused(client, study, make_job):
    job = make_job(1)
    client.force_login(make_user("auditor"))
    for address in [*addresses(study, job), reverse("printing:queue")]:
        assert client.get(address).status_code == 403, address
    assert client.post(reverse("printing:film", args=[study.pk])).status_code == 403


def test_neither_addresses_nor_titles_name_a_person(page, study, template, printer):
    page.post(reverse("printing:film", args=[study.pk]), choices(study, template, printer))
    job = PrintJob.objects.get()
    for address in [*addresses(study, job), reverse("printing:queue")]:
        assert "SECRET7" not in address
        answer = page.get(address)
        if answer["Content-Type"].startswith("text/html") and answer.status_code == 200:
            title = re.search(r"<title>(.*?)</title>", answer.content.decode())
            assert title is None or not re.search(r"Geheim|Person|SECRET7", title[1])


def test_the_admin_shows_jobs_without_naming_a_person(client, study, template, printer, page):
    page.post(reverse("printing:film", args=[study.pk]), choices(study, template, printer))
    run_printer(printer.pk)
    user = make_user("administrator", "radiologist")
    user.is_superuser = True
    user.save()
    client.force_login(user)
    job, sheet = PrintJob.objects.get(), FilmSheet.objects.first()
    for address in (
        reverse("admin:printing_printjob_changelist"),
        reverse("admin:printing_printjob_change", args=[job.pk]),
        reverse("admin:printing_printjob_changelist") + "?q=" + study.study_instance_uid,
        reverse("admin:films_filmsheet_changelist"),
        reverse("admin:films_filmsheet_change", args=[sheet.pk]),
        reverse("admin:printing_printer_changelist"),
        reverse("admin:printing_printer_change", args=[printer.pk]),
        reverse("admin:films_filmtemplate_changelist"),
        reverse("admin:films_filmtemplate_change", args=[template.pk]),
    ):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert not re.search(r"Geheim|SECRET7", answer.content.decode()), address
