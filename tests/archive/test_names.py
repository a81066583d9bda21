"""How person names read, and how they are found."""

import pytest

from apps.archive.names import format_person_name, search_key


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Doe^Jane", "Doe, Jane"),
        ("Doe^Jane^Mary^Dr.^PhD", "Doe, Dr. Jane Mary PhD"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田 太郎, やまだ たろう)"),
        ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "ﾔﾏﾀﾞ, ﾀﾛｳ (山田 太郎, やまだ たろう)"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "Hong, Gildong (洪 吉洞, 홍 길동)"),
        ("Wang^XiaoDong=王^小东=", "Wang, XiaoDong (王 小东)"),
        ("=山田^太郎", "山田 太郎"),
        ("==やまだ^たろう", "やまだ たろう"),
        ("Doe^^^^=Doe=Doe", "Doe"),
        ("A=B=C=D", "A (B, C)"),
        ("", ""),
    ],
)
def test_all_component_groups_are_shown(value, text):
    assert format_person_name(value) == text


def test_all_component_groups_are_found():
    key = search_key("Yamada^Tarou=山田^太郎=やまだ^たろう")
    for word in ("yamada", "tarou", "山田", "太郎", "やまだ", "たろう"):
        assert search_key(word) in key.split()


@pytest.mark.parametrize(
    ("typed", "stored"), [("ヤマダ", "ﾔﾏﾀﾞ"), ("mueller", "Mueller"), ("muller", "Müller"), ("홍", "홍")]
)
def test_widths_cases_and_accents_do_not_matter(typed, stored):
    assert search_key(typed) == search_key(stored)
