"""Who is clearly another person, decided by digests alone."""

from datetime import date

import pytest

from apps.archive.identity import family_words, identity_of, sender_token

KEY = b"k" * 32
BORN, OTHER = date(1950, 1, 1), date(1999, 2, 2)


def is_another(left: tuple, right: tuple) -> bool:
    first, second = identity_of(*left, KEY), identity_of(*right, KEY)
    assert first.is_clearly_another(second) == second.is_clearly_another(first)
    return first.is_clearly_another(second)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Smith^John", "SMITH^J"),
        ("Smith-Jones^Ann", "Jones^Ann"),
        ("Müller^Anna", "MUELLER^ANNA"),
        ("Müller^Anna", "Muller^A"),
        ("Größe^Anna", "GROESSE^ANNA"),
        ("O'Brien^Pat", "OBRIEN^PAT"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "=山田^太郎"),
        ("SMITH JOHN", "Smith^John"),
        ("김^영희", "\u1100\u1175\u11b7^영희"),
        ("van Dijk^An", "Dijk^An"),
        ("Smith^John", ""),
        ("^John", "Miller^Eva"),
        ("\ufffdi\ufffdka^Ji\ufffd\ufffd", "Žižka^Jiří"),
        ("M?ller^Anna", "Müller^Anna"),
        ("Yamada^Tarou=??^??", "Yamada^T=山田^太郎"),
    ],
)
def test_names_that_may_be_one_person(left, right):
    assert not is_another((left, BORN), (right, BORN))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Smith^John", "Miller^John"),
        ("van Dijk^An", "van Berg^An"),
        ("Иванов^Иван", "Петров^Иван"),
        ("山田^太郎", "佐藤^太郎"),
    ],
)
def test_family_names_without_a_common_word_are_two_persons(left, right):
    assert is_another((left, BORN), (right, BORN))
    assert is_another((left, None), (right, None))


def test_two_birth_dates_decide_whatever_the_name():
    assert is_another(("Smith^John", BORN), ("Smith^John", OTHER))
    assert not is_another(("Smith^John", BORN), ("Smith^John", None))


def test_a_particle_alone_is_a_name():
    assert family_words("Van^Thi") == {"van"}
    assert family_words("von der Leyen^U") == {"leyen"}


def test_nothing_but_the_key_leads_to_the_digests():
    one, other = identity_of("Smith^John", BORN, KEY), identity_of("Smith^John", BORN, b"x" * 32)
    assert one.birth != other.birth
    assert not one.family & other.family
    assert sender_token("", "P1", KEY) != sender_token("P1", "", KEY) != sender_token("P1", "", b"x" * 32)


def test_an_empty_or_odd_name_decides_nothing():
    assert identity_of("^=^^=...", None, KEY).family == frozenset()
    assert not is_another(("\ud800^X", None), ("", None))
