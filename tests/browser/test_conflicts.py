"""Deciding in a real browser: the list, both sides, an answer, undo."""

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from apps.archive.models import Conflict, Instance, Study
from tests.archive.test_deciding import same_instance, same_series, store
from tests.browser.conftest import keep_picture
from tests.browser.test_pages import LOOKS, fits, unnamed_controls
from tests.dicom import ct_dataset

pytestmark = pytest.mark.django_db(transaction=True)


def disc(radius: float, size: int = 256) -> dict[str, object]:
    """Pixels that tell two images apart at a glance."""
    y, x = np.mgrid[:size, :size] - size / 2
    pixels = np.where(np.hypot(x, y) < radius * size, 900 + 4 * x, 60).astype("<u2")
    return {"Rows": size, "Columns": size, "PixelData": pixels.tobytes()}


@pytest.fixture
def cases(volume):
    """One case of each kind."""
    smith = ct_dataset(PatientName="Smith^John", PatientID="PAT-4711", PatientBirthDate="19500101", **disc(0.4))
    eva = ct_dataset(PatientName="Miller^Eva", PatientID="PAT-4711", PatientBirthDate="19990202", **disc(0.2))
    store(smith, ct_dataset(PatientName="Weber^Karl", PatientID="PAT-9", **disc(0.3)))
    store(eva)
    store(same_instance(smith, WindowCenter="40", WindowWidth="400", StationName="CT2", **disc(0.33)))
    store(*(same_series(smith, PatientID="PAT-4712", InstanceNumber=n, **disc(0.1 * n)) for n in (2, 3, 4)))
    store(
        ct_dataset(
            SeriesInstanceUID=smith.SeriesInstanceUID, PatientName="Smith^John", PatientID="PAT-4711", **disc(0.45)
        )
    )
    return smith, eva


def open_case(page: Page, kind: str) -> None:
    page.goto("/conflicts/")
    page.locator(".case", has_text=kind).click()
    expect(page.get_by_role("heading", name=kind)).to_be_visible()
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_every_kind_of_conflict_is_shown_with_both_sides(signed_in, cases, width, dark):
    page = signed_in(width=width, dark=dark)
    look = f"{'dark' if dark else 'light'}-{width}"
    page.goto("/conflicts/")
    expect(page.locator(".case")).to_have_count(4)
    assert fits(page)
    assert unnamed_controls(page) == []
    keep_picture(page, f"conflicts-{look}")
    for kind, label in Conflict.Kind.choices[1:5]:
        open_case(page, label)
        assert page.evaluate("[...document.querySelectorAll('.side img')].every((image) => image.naturalWidth)")
        assert page.locator(".side img").count() == 2
        assert fits(page)
        assert unnamed_controls(page) == []
        assert "Smith" not in page.url
        page.locator(".answer input").last.check()
        keep_picture(page, f"conflict-{kind}-{look}", whole=True)


def test_two_patients_become_one_and_two_again(signed_in, cases):
    smith, eva = cases
    page = signed_in()
    expect(page.get_by_role("link", name="Conflicts")).to_contain_text("4")
    open_case(page, "Known Patient ID, other person")
    expect(page.locator(".compare .differs")).not_to_have_count(0)
    page.get_by_label("One person").check()
    page.get_by_label("Reason").fill("Married, the ward confirms it")
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("status")).to_contain_text("Merged: one person")
    expect(page.get_by_text("Married, the ward confirms it")).to_be_visible()
    keep_picture(page, "conflict-decided")
    studies = Study.objects.select_related("patient")
    assert {studies.get(study_instance_uid=d.StudyInstanceUID).patient.name for d in cases} == {"Smith^John"}

    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status")).to_contain_text("Undone")
    assert studies.get(study_instance_uid=eva.StudyInstanceUID).patient.name == "Miller^Eva"
    page.goto("/conflicts/decided/")
    expect(page.locator(".case")).to_contain_text("undone by")
    keep_picture(page, "conflicts-decided")


def test_a_study_goes_to_a_patient_found_by_name(signed_in, cases):
    _, eva = cases
    page = signed_in(width=390)
    open_case(page, "Known Patient ID, other person")
    expect(page.get_by_label("Another patient")).to_be_hidden()
    page.get_by_label("The study is of somebody else").check()
    page.get_by_label("Another patient").fill("web")
    page.get_by_label("Weber, Karl").check()
    keep_picture(page, "conflict-reassign-390")
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("status")).to_contain_text("Study given to another patient")
    study = Study.objects.select_related("patient").get(study_instance_uid=eva.StudyInstanceUID)
    assert study.patient.name == "Weber^Karl"


def test_a_replacement_is_confirmed_first(signed_in, cases, complaints):
    complaints.expected.append("422 (Unprocessable")
    page = signed_in()
    open_case(page, "Known SOP Instance UID, other content")
    expect(page.get_by_role("row", name="Window Center")).to_contain_text("absent")
    page.get_by_role("radio", name="Replace the stored image").check()
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("alert")).to_contain_text("Confirm that the stored image is to be replaced")
    assert not Instance.objects.exclude(file_variant="").exists()
    page.get_by_label("Yes, replace").check()
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("status")).to_contain_text("Stored image replaced")
    assert Instance.objects.exclude(file_variant="").count() == 1


def test_held_files_are_walked_through_and_stored_together(signed_in, cases):
    page = signed_in()
    open_case(page, "Known Study Instance UID, other patient")
    expect(page.get_by_text("File 1 of 3")).to_be_visible()
    page.get_by_role("link", name="Next file").click()
    expect(page.get_by_text("File 2 of 3")).to_be_visible()
    page.get_by_label("The files belong to the stored study").check()
    page.get_by_role("button", name="Decide for 3 files").click()
    expect(page.get_by_role("status")).to_contain_text("Stored where they belong")
    page.goto("/conflicts/")
    expect(page.locator(".case")).to_have_count(3)


@pytest.mark.parametrize("look", [(1440, True), (390, False)])
def test_a_wrong_patient_is_corrected_from_the_study_page(signed_in, cases, look):
    smith, _ = cases
    page = signed_in(width=look[0], dark=look[1])
    page.goto(f"/studies/{smith.StudyInstanceUID}/")
    page.get_by_role("button", name="Wrong patient?").click()
    expect(page.get_by_role("heading", name="Wrong patient, as staff say")).to_be_visible()
    page.get_by_label("The study is of another patient").check()
    page.get_by_role("searchbox").fill("PAT-9")
    page.get_by_label("Weber, Karl").check()
    page.wait_for_load_state("networkidle")
    assert fits(page)
    assert unnamed_controls(page) == []
    keep_picture(page, f"conflict-reported-{look[0]}", whole=True)
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("status")).to_contain_text("Study given to another patient")
    study = Study.objects.select_related("patient").get(study_instance_uid=smith.StudyInstanceUID)
    assert study.patient.name == "Weber^Karl"
    page.get_by_role("link", name="Open study").click()
    keep_picture(page, f"conflict-study-page-{look[0]}")


def test_nothing_to_decide_says_what_would_be_here(signed_in, db):
    page = signed_in(dark=True)
    expect(page.get_by_role("link", name="Conflicts")).not_to_contain_text("0")
    page.goto("/conflicts/")
    expect(page.get_by_text("Nothing waits for a decision")).to_be_visible()
    keep_picture(page, "conflicts-none")
