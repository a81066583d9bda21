"""From a study to a finished film, in a real browser."""

import pytest
from playwright.sync_api import expect

from apps.core.fixtures import load_missing
from apps.printing.models import Printer, PrintJob
from apps.printing.services import run_printer
from tests.browser.conftest import keep_picture
from tests.browser.test_pages import LOOKS, fits, unnamed_controls
from tests.factories import store
from tests.films.phantom import phantom

pytestmark = pytest.mark.django_db(transaction=True)


def store_study() -> None:
    first = phantom(128)
    for number, count in ((1, 22), (2, 5)):
        series = {"SeriesInstanceUID": f"{first.SeriesInstanceUID[:60]}.{number}", "SeriesNumber": number}
        common = {"StudyInstanceUID": first.StudyInstanceUID, "PatientName": "Müller^Anna", **series}
        store(*(phantom(128, InstanceNumber=at + 1, **common) for at in range(count)))


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_from_a_study_to_its_film(signed_in, volume, width, dark):
    store_study()
    load_missing("film_templates")
    printer = Printer.objects.create(name="PDF file", dpi=100)
    page = signed_in(width=width, dark=dark)
    page.get_by_role("link", name="Müller").first.click()
    page.get_by_role("link", name="Make film").click()
    expect(page.get_by_text("Choose at least one series.")).to_be_visible()
    page.get_by_role("checkbox").first.check()
    expect(page.get_by_text("2 sheets")).to_be_visible()
    page.get_by_role("button", name="2 × 3").click()
    expect(page.get_by_text("4 sheets")).to_be_visible()
    page.get_by_role("button", name="All", exact=True).click()
    expect(page.get_by_text("5 sheets")).to_be_visible()
    assert unnamed_controls(page) == []
    assert fits(page)
    page.wait_for_load_state("networkidle")
    keep_picture(page, f"film-new-{width}-{'dark' if dark else 'light'}")

    page.get_by_role("button", name="Make film").click()
    expect(page.get_by_text("Waiting for its turn")).to_be_visible()
    run_printer(printer.pk)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download PDF").click()
    assert download.value.suggested_filename == f"film-{PrintJob.objects.get().pk}.pdf"
    expect(page.get_by_role("img", name="Sheet 5, open large")).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert unnamed_controls(page) == []
    assert fits(page)
    keep_picture(page, f"film-job-{width}-{'dark' if dark else 'light'}")
    page.goto("/print/")
    expect(page.get_by_text("5 of 5")).to_be_visible()
    assert fits(page)
    keep_picture(page, f"film-queue-{width}-{'dark' if dark else 'light'}")
