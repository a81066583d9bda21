"""The daily way through the pages, in a real browser: sign in, search, open, look, go back."""

import pytest
from playwright.sync_api import Page, expect
from pydicom.uid import generate_uid

from apps.accounts.models import User
from apps.archive.models import CoercionRule, Conflict, Study
from apps.portal import views
from tests.browser.conftest import SCREENSHOTS, keep_picture
from tests.dicom import ct_dataset, series_of
from tests.factories import make_study, store

pytestmark = pytest.mark.django_db(transaction=True)

LOOKS = [(1440, False), (1440, True), (390, False), (390, True)]


def rows(page: Page):
    return page.locator("[data-row]")


def search_box(page: Page):
    return page.get_by_role("searchbox")


def say_hello_again(page: Page) -> None:
    """What happens when the tab comes to the front: the page asks for news."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def fits(page: Page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def unnamed_controls(page: Page) -> list[str]:
    """Controls that a screen reader could not name."""
    return page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
        .filter((control) => !(control.getAttribute("aria-label") || control.textContent.trim() || control.title
            || control.labels?.length || control.querySelector("img[alt]:not([alt=''])")))
        .map((control) => control.outerHTML.slice(0, 120))"""
    )


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_from_signing_in_to_a_study_and_back(signed_in, volume, width, dark):
    store(*series_of(3, PatientName="Müller^Anna", PatientID="SECRET7"))
    make_study("Smith^John")
    page = signed_in(width=width, dark=dark)
    look = f"{'dark' if dark else 'light'}-{width}"
    expect(rows(page)).to_have_count(2)
    assert fits(page)
    assert unnamed_controls(page) == []
    keep_picture(page, f"worklist-{look}")

    search_box(page).fill("muller")
    expect(rows(page)).to_have_count(1)
    assert "muller" not in page.url
    page.get_by_role("link", name="Müller, Anna").click()
    page.wait_for_url("**/studies/*/")
    expect(page.get_by_role("heading", name="Müller, Anna")).to_be_visible()
    assert page.title() == "Study · dicomsys"
    page.locator("summary").click()
    expect(page.locator("[data-image]")).to_have_count(3)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("[...document.querySelectorAll('details img')].every((image) => image.naturalWidth)")
    assert fits(page)
    assert unnamed_controls(page) == []
    keep_picture(page, f"study-{look}")

    page.get_by_role("link", name="Worklist").last.click()
    expect(search_box(page)).to_have_value("muller")
    expect(rows(page)).to_have_count(1)
    kept = page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
    assert not any(word in kept.lower() for word in ("müller", "muller", "secret7"))


@pytest.mark.parametrize(("width", "dark"), LOOKS)
@pytest.mark.parametrize("address", ["/accounts/password/", "/help/", "/nowhere/"])
def test_small_pages_fit_and_name_their_controls(signed_in, complaints, address, width, dark):
    complaints.expected.append("404 (Not Found)")
    page = signed_in(width=width, dark=dark)
    page.goto(address)
    assert fits(page)
    assert unnamed_controls(page) == []
    assert page.locator("h1").count() == 1


def test_a_wrong_password_is_told(open_page, db):
    page = open_page()
    page.goto("/")
    assert "next=/" in page.url
    page.get_by_label("User name").fill("nobody")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not belong together")
    keep_picture(page, "login-refused")


def test_signing_out_from_the_menu(signed_in):
    page = signed_in()
    page.get_by_role("button", name="Account menu").click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/accounts/login/")


def test_the_menu_of_a_narrow_window_opens(signed_in):
    page = signed_in(width=390)
    page.get_by_role("button", name="Menu", exact=True).click()
    expect(page.get_by_role("link", name="Worklist", exact=True)).to_be_visible()


# --- Keys


def test_the_worklist_works_by_keyboard_alone(signed_in):
    for name in ("Anders^A", "Baker^B", "Cole^C"):
        make_study(name)
    page = signed_in()
    page.keyboard.press("/")
    expect(search_box(page)).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("link", name="Cole, C")).to_be_focused()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.get_by_role("link", name="Baker, B")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/studies/*/")


def test_the_list_of_keys_opens_and_letters_can_be_switched_off(signed_in):
    page = signed_in()
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    expect(keys).to_be_visible()
    keep_picture(page, "keys")
    page.get_by_label("Use single-letter keys").click()
    page.keyboard.press("Escape")
    expect(keys).to_be_hidden()
    page.keyboard.press("/")
    expect(search_box(page)).not_to_be_focused()
    page.keyboard.press("?")
    expect(keys).to_be_hidden()


def test_the_first_tab_leads_past_the_menu(signed_in):
    page = signed_in()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


# --- Look


def test_dark_or_light_is_the_system_s_choice_until_it_is_switched(signed_in):
    page = signed_in(dark=True)
    root = page.locator("html")
    expect(root).to_have_attribute("data-bs-theme", "dark")
    page.get_by_role("button", name="Switch between dark and light").click()
    expect(root).to_have_attribute("data-bs-theme", "light")
    page.reload()
    expect(root).to_have_attribute("data-bs-theme", "light")


# --- Filters and news


def test_filters_narrow_and_clear_widens(signed_in):
    make_study("Scan^A", modality="CT")
    make_study("Magnet^B", modality="MR")
    page = signed_in()
    page.get_by_label("MR").check(force=True)
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Range").check(force=True)
    expect(page.get_by_label("From")).to_be_visible()
    page.get_by_label("From").fill("2030-01-01")
    expect(page.get_by_text("No study matches")).to_be_visible()
    page.get_by_role("button", name="Clear all filters").click()
    expect(rows(page)).to_have_count(2)
    expect(page.get_by_label("From")).to_be_hidden()


def test_columns_sort_by_study_date_or_arrival(signed_in):
    make_study("Newer^A", study_date="2026-05-05")
    make_study("Older^B", study_date="2020-05-05")
    page = signed_in()
    expect(rows(page).first).to_contain_text("Newer, A")
    page.get_by_role("button", name="Received").click()
    expect(rows(page).first).to_contain_text("Older, B")


def test_more_rows_come_on_demand(signed_in):
    for number in range(53):
        make_study(f"Name{number}^A")
    page = signed_in()
    expect(rows(page)).to_have_count(50)
    page.get_by_role("button", name="Show more").click()
    expect(rows(page)).to_have_count(53)
    expect(page.get_by_role("button", name="Show more")).to_have_count(0)


def test_the_first_study_appears_by_itself(signed_in):
    page = signed_in()
    expect(page.get_by_text("No images yet")).to_be_visible()
    keep_picture(page, "worklist-empty")
    make_study("Smith^John")
    say_hello_again(page)
    expect(rows(page)).to_have_count(1)


def test_a_page_in_use_only_gets_a_hint(signed_in):
    make_study("Smith^John")
    page = signed_in()
    search_box(page).focus()
    make_study("Smith^Jane")
    say_hello_again(page)
    hint = page.get_by_role("button", name="1 new study")
    expect(hint).to_be_visible()
    expect(rows(page)).to_have_count(1)
    keep_picture(page, "worklist-hint")
    hint.click()
    expect(rows(page)).to_have_count(2)
    expect(hint).to_have_count(0)


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_a_study_arrives_is_complete_and_opens_again_before_one_s_eyes(signed_in, volume, width, dark):
    images = series_of(5, PatientName="Müller^Anna", PatientID="P77")
    uid = images[0].StudyInstanceUID
    make_study("Baker^Jane", expected_instance_count=12)
    make_study("Smith^John")
    store(*images[:2])
    look = f"{'dark' if dark else 'light'}-{width}"
    page = signed_in(width=width, dark=dark)
    badge = page.locator(".badge.receiving")
    expect(badge).to_have_count(1)
    assert fits(page)
    keep_picture(page, f"arriving-worklist-{look}")
    before = page.locator(".studies").bounding_box()
    Study.objects.filter(study_instance_uid=uid).update(status="complete")
    page.evaluate("document.activeElement.blur()")
    say_hello_again(page)
    expect(badge).to_have_count(0)
    assert page.locator(".studies").bounding_box() == before

    store(images[2])
    page.goto(f"/studies/{uid}/")
    expect(badge).to_have_count(1)
    height = page.locator(".study-head").bounding_box()["height"]
    keep_picture(page, f"arriving-study-{look}")
    store(images[3])
    expect(page.locator("#stored")).to_contain_text("4 objects")
    keep_picture(page, f"arriving-study-more-{look}")
    assert page.locator(".study-head").bounding_box()["height"] == height
    assert unnamed_controls(page) == []
    Study.objects.filter(study_instance_uid=uid).update(status="complete", expected_instance_count=9)
    expect(badge).to_have_count(0)
    expect(page.locator("#stored")).to_contain_text("5 of 9 missing")
    assert fits(page)
    keep_picture(page, f"arrived-study-{look}")
    page.get_by_role("link", name="Show 1 more").click()
    expect(page.get_by_text("4 images")).to_be_visible()
    expect(page.get_by_role("link", name="Show 1 more")).to_have_count(0)


def test_the_filter_for_what_is_arriving(signed_in):
    make_study("Baker^Jane")
    page = signed_in()
    expect(rows(page)).to_have_count(1)
    page.get_by_label("Receiving").check(force=True)
    expect(page.get_by_text("No study is arriving")).to_be_visible()
    make_study("Smith^John", status="receiving")
    page.evaluate("document.activeElement.blur()")
    say_hello_again(page)
    expect(rows(page)).to_have_count(1)
    keep_picture(page, "worklist-filter-receiving")


def test_after_the_session_has_ended_a_search_leads_to_the_sign_in_page(signed_in):
    from django.contrib.sessions.models import Session

    page = signed_in()
    Session.objects.all().delete()
    search_box(page).fill("smith")
    page.wait_for_url("**/accounts/login/?next=/")
    assert User.objects.exists()


def test_a_server_that_fails_is_told_in_plain_words(signed_in, complaints, monkeypatch):
    complaints.expected += ["500 (Internal Server Error)", "Response Status Error Code 500"]
    page = signed_in()
    monkeypatch.setattr(views, "find_studies", lambda *args: 1 / 0)
    search_box(page).fill("smith")
    expect(page.get_by_role("alert")).to_contain_text("The server could not answer")


# --- The large view


@pytest.fixture
def long_series(volume, monkeypatch) -> str:
    monkeypatch.setattr(views, "GRID_SIZE", 2)
    images = series_of(5)
    store(*images)
    return images[0].StudyInstanceUID


def open_first_image(page: Page, study_uid: str):
    page.goto(f"/studies/{study_uid}/")
    page.locator("summary").click()
    page.locator("[data-image]").first.click()
    large = page.get_by_role("dialog", name="Large view")
    expect(large).to_be_visible()
    return large


def test_the_large_view_walks_through_the_series_and_fetches_what_is_missing(signed_in, long_series):
    page = signed_in()
    large = open_first_image(page, long_series)
    expect(large).to_contain_text("image 1 (1 of 5)")
    expect(large).to_contain_text("CT Image Storage")
    for number in (2, 3, 4, 5):
        page.keyboard.press("ArrowRight")
        expect(large).to_contain_text(f"image {number} ({number} of 5)")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(large).to_contain_text("image 4 (4 of 5)")
    keep_picture(page, "large")
    page.keyboard.press("Escape")
    expect(large).to_be_hidden()
    expect(page.locator("[data-image]").nth(3)).to_be_focused()


def test_the_large_view_walks_through_the_frames(signed_in, volume):
    store(dataset := ct_dataset(NumberOfFrames=3, PixelData=bytes(range(192)) * 2))
    page = signed_in(width=390)
    large = open_first_image(page, dataset.StudyInstanceUID)
    expect(large).to_contain_text("frame 2 of 3")
    large.get_by_role("button", name="Next image").click()
    expect(large).to_contain_text("frame 3 of 3")
    assert fits(page)


def test_an_object_without_pixels_opens_with_its_details(signed_in, volume):
    store(dataset := ct_dataset(Rows=None, Columns=None, PixelData=None))
    large = open_first_image(signed_in(), dataset.StudyInstanceUID)
    expect(large).to_contain_text("This object has no pixels to show")


def test_an_image_that_cannot_be_decoded_shows_a_placeholder(signed_in, volume):
    store(dataset := ct_dataset(PixelData=b"12"))
    page = signed_in()
    open_first_image(page, dataset.StudyInstanceUID)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.querySelector('[data-image] img').naturalWidth") == 192


def test_an_odd_uid_opens_from_the_worklist(signed_in):
    make_study("Odd^One", study_instance_uid="../a b?<x>#%2F")
    page = signed_in()
    rows(page).first.click()
    expect(page.get_by_role("heading", name="Odd, One")).to_be_visible()


# --- Administration


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_a_coercion_rule_is_tried_before_it_is_saved(signed_in, complaints, volume, width, dark):
    complaints.expected.append("422 (Unprocessable")
    store(*series_of(1, PatientName="Müller^Anna", PatientID="4711", IssuerOfPatientID=None))
    store(*series_of(1, PatientName="Smith^John", PatientID="4712", IssuerOfPatientID="ST-ANNA"))
    store(*series_of(1, PatientName="Baker^Jane", PatientID="KH-4713", IssuerOfPatientID=None))
    store(*series_of(1, PatientName="Cole^Anne", PatientID="4711", IssuerOfPatientID="KH", PatientBirthDate="19991231"))
    look = f"{'dark' if dark else 'light'}-{width}"
    page = signed_in("administrator", "radiologist", width=width, dark=dark)
    page.goto("/admin/archive/coercionrule/add/")
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator("#dry-run")).to_contain_text("This field is required")
    page.get_by_label("Name").fill("CT: issuer and prefix")
    page.get_by_label("Calling AE title").fill("SENDER")
    page.get_by_label("Issuer of Patient ID").select_option("add")
    page.get_by_label("This issuer").fill("KH")
    page.get_by_role("button", name="Dry run").click()
    expect(page.locator("#dry-run")).to_contain_text("Dry run on the newest 4 studies from SENDER")
    expect(page.locator("#dry-run tbody tr")).to_have_count(4)
    assert CoercionRule.objects.count() == 0
    assert fits(page)
    page.screenshot(path=f"{SCREENSHOTS}/dry-run-{look}.png", full_page=True) if SCREENSHOTS else None
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/admin/archive/coercionrule/")
    expect(page.get_by_text("issuer KH where none is sent")).to_be_visible()
    keep_picture(page, f"coercion-rules-{look}")


@pytest.mark.parametrize("dark", [False, True])
def test_the_administration_works_under_the_strict_policy(signed_in, volume, dark):
    store(ct_dataset(StudyInstanceUID=generate_uid()))
    conflict = Conflict.objects.create(
        kind="study", reason="another patient", held_file="a.dcm", file_sha256=b"1" * 32, size_bytes=1
    )
    page = signed_in("administrator", "radiologist", dark=dark)
    for address in (
        "/admin/",
        "/admin/accounts/user/add/",
        "/admin/auth/group/add/",
        "/admin/archive/study/",
        f"/admin/archive/study/{Study.objects.get().pk}/change/",
        f"/admin/archive/conflict/{conflict.pk}/change/",
        "/admin/django_celery_beat/periodictask/add/",
    ):
        page.goto(address)
        expect(page.locator("#site-name")).to_contain_text("dicomsys administration")
        keep_picture(page, f"admin{address.replace('/', '-')}{'dark' if dark else 'light'}")
