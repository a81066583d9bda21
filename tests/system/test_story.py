"""A person's day in a real browser, every process running and an Orthanc beside: add it, verify it, search it, fetch
a study, look at it, make a film, download the PDF. And nothing that describes the patient is in any log afterwards."""

import os
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.dicom import series_of
from tests.peers import orthanc, orthanc_process  # noqa: F401  fixtures
from tests.system.conftest import wait_until

PATIENT = {"PatientName": "Quermandel^Isolde", "PatientID": "ZQ-774219", "AccessionNumber": "ACC-553187"}
WORDS = ("Quermandel", "Isolde", "ZQ-774219", "ACC-553187")
SHOTS = os.environ.get("DICOMSYS_SCREENSHOTS")


@pytest.fixture
def page(browser: Browser, system) -> Page:
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True)
    page = context.new_page()
    page.goto(system.endpoints["web"]["url"])
    page.get_by_label("User name").fill(system.endpoints["admin"]["username"])
    page.get_by_label("Password").fill(system.admin_password)
    page.keyboard.press("Enter")
    page.wait_for_url("**/")
    yield page
    context.close()


def shoot(page: Page, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


@pytest.fixture
def pacs(system, orthanc, tmp_path):  # noqa: F811
    """An Orthanc that holds one study of 24 images and knows our AE title."""
    host, port, ae_title = system.dicom
    orthanc.register_modality(ae_title, port, host)
    datasets = series_of(24, **PATIENT, StudyDescription="Synthetic story")
    orthanc.store(tmp_path / "lot", datasets)
    return orthanc, datasets


def test_a_study_is_fetched_looked_at_and_made_a_film(page, system, pacs, tmp_path):
    peer, datasets = pacs
    base = system.endpoints["web"]["url"]
    study_uid = str(datasets[0].StudyInstanceUID)

    page.goto(f"{base}admin/nodes/remotenode/add/")
    page.get_by_label("Name:", exact=True).fill("Story PACS")
    page.get_by_label("AE title").fill(peer.ae_title)
    page.get_by_label("Host").fill(peer.host)
    page.get_by_label("Port").fill(str(peer.port))
    page.get_by_label("May be queried").check()
    page.get_by_label("May be retrieved from").check()
    page.get_by_role("button", name="Save and continue editing").click()
    page.get_by_role("button", name="C-ECHO").click()
    expect(page.locator(".messagelist")).to_contain_text("answered")
    shoot(page, "node")

    page.goto(f"{base}pacs/")
    page.get_by_label("Patient ID").fill(PATIENT["PatientID"])
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("Quermandel, Isolde")).to_be_visible(timeout=15_000)
    page.get_by_role("button", name="Retrieve", exact=True).click()
    expect(page.get_by_text("All here")).to_be_visible(timeout=60_000)
    shoot(page, "retrieved")

    page.goto(base)
    page.get_by_role("searchbox").fill("quermandel")
    page.get_by_text("Quermandel, Isolde").click()
    page.wait_for_url(f"**/studies/{study_uid}/")
    expect(page.get_by_text("24 images")).to_be_visible()
    shoot(page, "study")

    page.get_by_role("link", name="Make film").click()
    shoot(page, "make-film")
    page.get_by_role("button", name="Make film").click()
    page.wait_for_url("**/print/jobs/*/")
    link = page.get_by_role("link", name="Download")
    expect(link).to_be_visible(timeout=90_000)
    page.wait_for_timeout(1000)
    shoot(page, "job")
    with page.expect_download() as download:
        link.click()
    pdf = tmp_path / "film.pdf"
    download.value.save_as(pdf)
    assert not any(word in download.value.suggested_filename for word in WORDS)
    assert not any(word.encode() in pdf.read_bytes() for word in WORDS)
    pages = render(pdf, tmp_path)
    assert pages, "pdftoppm made no page"


def render(pdf: Path, folder: Path) -> list[Path]:
    """The PDF's pages as PNG, by poppler: an independent reader."""
    subprocess.run(["pdftoppm", "-r", "50", "-png", pdf, folder / "page"], check=True, timeout=60)
    if SHOTS:
        subprocess.run(["pdftoppm", "-r", "100", "-png", pdf, f"{SHOTS}/film"], check=True, timeout=60)
    return sorted(folder.glob("page*.png"))


def test_no_log_queue_or_address_holds_what_describes_the_patient(system, page, pacs):
    wait_until(lambda: not list((system.folder / "data/spool").glob("*/*")), 30, "the spool is empty")
    for log in (system.folder / "log").iterdir():
        text = log.read_text(errors="replace")
        assert [word for word in WORDS if word in text] == [], log.name
    for table, column in (("core_outbox", "arguments"), ("django_admin_log", "object_repr")):
        text = str(system.query(f"SELECT {column} FROM {table}"))
        assert [word for word in WORDS if word in text] == []
    activity = str(system.query("SELECT query FROM pg_stat_activity"))
    assert [word for word in WORDS if word in activity] == []
    names = " ".join(str(path) for path in (system.folder / "data").rglob("*"))
    assert [word for word in WORDS if word in names] == []
