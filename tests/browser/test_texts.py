"""Repairing texts in a real browser, in the scripts of the world."""

import pytest
from playwright.sync_api import expect

from apps.archive.models import DoubtfulText, Patient
from apps.archive.text_repair import repair_texts
from tests.archive.test_text_repair import mislabelled
from tests.archive.test_text_repair import store as store_files
from tests.browser.conftest import keep_picture
from tests.browser.test_pages import LOOKS, fits, rows, search_box, unnamed_controls
from tests.dicom import ct_dataset
from tests.factories import store

pytestmark = pytest.mark.django_db(transaction=True)

PEOPLE = [
    "Иванов^Сергей Петрович", "Кузнецова^Мария", "Шевченко^Юлия", "Соколов^Дмитрий", "Попова^Анна Викторовна",
]  # fmt: skip
WORLD = {
    "ISO_IR 144": "Достоевский^Фёдор",
    "ISO_IR 126": "Παπαδόπουλος^Γιώργος",
    "ISO_IR 127": "قباني^لنزار",
    "ISO_IR 138": "שרון^דבורה",
    "ISO_IR 166": "สมชาย^ใจดี",
    "GB18030": "Wang^XiaoDong=王^小东",
    "ISO_IR 192": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "ISO_IR 101": "Łukasiewicz^Żaneta",
}


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_garbled_names_are_seen_repaired_and_set_back(signed_in, volume, width, dark):
    for number, name in enumerate(PEOPLE):
        store_files(mislabelled("cp1251", "ISO_IR 100", PatientName=name, PatientID=f"P{number}"))
    store_files(mislabelled("cp866", "", PatientID="P9"))
    page = signed_in("technologist", width=width, dark=dark)
    look = f"{'dark' if dark else 'light'}-{width}"
    page.goto("/texts/")
    expect(page.get_by_role("link", name="5 to decide")).to_be_visible()
    assert fits(page)
    assert unnamed_controls(page) == []
    keep_picture(page, f"texts-groups-{look}")

    page.get_by_role("link", name="5 to decide").click()
    expect(page.get_by_text("likeliest")).to_be_visible()
    expect(page.locator(".text-then .text-name").first).to_have_text("Попова, Анна Викторовна")
    assert fits(page)
    assert unnamed_controls(page) == []
    keep_picture(page, f"texts-group-{look}")

    page.get_by_role("link", name="Cyrillic (ISO 8859-5)").click()
    expect(page.locator(".text-then .text-name").first).not_to_have_text("Попова, Анна Викторовна")
    page.get_by_role("link", name="Cyrillic, Windows").click()
    page.get_by_label("All 5 studies").check()
    assert page.locator("[name=doubt]:checked").count() == 5
    page.get_by_label("Choose study 2").uncheck()
    expect(page.get_by_label("All 5 studies")).not_to_be_checked()
    page.get_by_role("button", name="Read as Cyrillic, Windows").click()
    expect(page.get_by_text("4 studies repaired.")).to_be_visible()
    assert Patient.objects.filter(name__in=PEOPLE).count() == 4
    page.get_by_role("link", name="Repaired 4").click()
    keep_picture(page, f"texts-repaired-{look}")
    page.get_by_label("Choose study 1").check()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("1 study set back.")).to_be_visible()
    assert DoubtfulText.objects.filter(state="repaired").count() == 3
    assert "Иванов" not in page.url


def test_the_page_follows_what_a_worker_does(signed_in, volume):
    store_files(mislabelled("cp1251", PatientID="P1"))
    DoubtfulText.objects.update(wanted="Windows-1251")
    page = signed_in("technologist")
    page.goto(f"/texts/{DoubtfulText.objects.get().pk}/")
    expect(page.get_by_role("status").filter(has_text="1 in work")).to_be_visible()
    assert repair_texts() == 1
    expect(page.get_by_role("link", name="Repaired 1")).to_be_visible()


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_names_of_the_world_are_shown_and_found(signed_in, volume, width, dark):
    for number, (label, name) in enumerate(WORLD.items()):
        store(ct_dataset(SpecificCharacterSet=label, PatientName=name, PatientID=f"W{number}"))
    korean = "\\ISO 2022 IR 149"
    store(
        ct_dataset(SpecificCharacterSet=korean.split("\\"), PatientName="Hong^Gildong=洪^吉洞=홍^길동", PatientID="W9")
    )
    assert not DoubtfulText.objects.exists()
    page = signed_in(width=width, dark=dark)
    expect(rows(page)).to_have_count(9)
    assert fits(page)
    keep_picture(page, f"texts-world-{'dark' if dark else 'light'}-{width}")
    for words, name in (("достоев", "Достоевский, Фёдор"), ("やまだ", "Yamada, Tarou (山田 太郎, やまだ たろう)"),
                        ("홍 길동", "Hong, Gildong (洪 吉洞, 홍 길동)"), ("שרון", "שרון, דבורה")):  # fmt: skip
        search_box(page).fill(words)
        expect(rows(page)).to_have_count(1)
        expect(rows(page)).to_contain_text(name)
