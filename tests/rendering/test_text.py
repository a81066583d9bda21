"""Text in every script, in sizes that are measured."""

import numpy as np
import pytest

from apps.rendering import text
from apps.rendering.text import MissingFontError, draw_line, fit_line, line_height, text_problems

NAMES = {
    "Latin": "Müller, Ægir Ñandú",
    "Greek": "Διονυσία",
    "Cyrillic": "Люксембург",
    "Hebrew": "שרון דבורה",
    "Arabic": "قباني لنزار",
    "Chinese": "王小东",
    "Japanese": "山田 たろう ヤマダ",
    "Korean": "홍길동 김희중",
}


def needs_every_font() -> None:
    missing = [problem for problem in text_problems() if "wqy" in problem]
    if missing:
        pytest.skip(missing[0])


def ink(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask > 127)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_every_letter_has_a_glyph(name):
    if name == NAMES["Korean"]:
        needs_every_font()
    assert all(text._has(text._font_of(c, text.REGULAR), ord(c)) for c in name if not c.isspace())
    assert draw_line(name, 30).mask.any()


@pytest.mark.parametrize("cap_px", [12, 29.53, 100])
def test_a_capital_letter_is_as_high_as_asked(cap_px):
    line = draw_line("H", cap_px)
    top, bottom, _, _ = ink(line.mask)
    assert bottom - top == pytest.approx(cap_px, abs=1.5)
    assert bottom == pytest.approx(line.baseline, abs=1)


def test_accents_and_descenders_stay_inside_the_line():
    line = draw_line("ÅÑgjpy王", 40)
    top, bottom, _, _ = ink(line.mask)
    assert top > 0
    assert bottom < line_height(40)


def test_right_to_left_begins_at_the_right():
    alone, followed = draw_line("ש", 40), draw_line("ש.", 40)
    width = followed.width
    assert ink(followed.mask)[3] == pytest.approx(width, abs=8)
    dot = followed.mask[:, : width - alone.width - 3]
    assert ink(dot)[0] > followed.baseline - 12  # only the full stop, low at the left


def test_arabic_letters_join():
    joined, apart = draw_line("بيت", 40), [draw_line(c, 40) for c in "بيت"]
    assert joined.width < sum(line.width for line in apart)


def test_other_scripts_keep_their_place_in_a_right_to_left_line():
    mixed, plain = draw_line("محمد (山田) 1960-02-03", 40), draw_line("1960-02-03", 40)
    assert (mixed.mask[:, : plain.width - 8] > 0).sum() == pytest.approx((plain.mask > 0).sum(), rel=0.06)


def test_control_characters_leave_no_ink():
    assert draw_line("a\x00\u202eb", 30).width == draw_line("ab", 30).width


def test_a_long_line_ends_in_an_ellipsis():
    whole = draw_line("A long description of a study", 30)
    short = fit_line("A long description of a study", 30, whole.width // 2)
    assert short.width <= whole.width // 2
    assert fit_line("short", 30, 1000).width == draw_line("short", 30).width


@pytest.fixture
def no_fonts(monkeypatch, tmp_path):
    caches = [getattr(text, name) for name in ("draw_line", "_ink", "_font", "_font_file", "_coverage", "_font_of")]
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setattr(text, "FONT_FOLDERS", (tmp_path,))
    yield
    for cached in caches:
        cached.cache_clear()


def test_a_missing_font_names_its_package(no_fonts):
    with pytest.raises(MissingFontError, match="fonts-dejavu-core"):
        draw_line("a", 30)
    assert len(text_problems()) >= len(text.PACKAGES)


def test_nothing_is_missing_here():
    needs_every_font()
    assert text_problems() == []
