"""From what people type to the search keys of a C-FIND."""

from datetime import date

import pytest

from apps.transfer.criteria import Criteria, date_range, name_pattern
from apps.transfer.errors import QueryRefusedError


@pytest.mark.parametrize(
    ("typed", "key"),
    [
        ("", ""),
        ("mil", "mil*"),
        ("Miller, An", "Miller*^An*"),
        ("Miller,", "Miller*^*"),
        (", Anna", "*^Anna*"),
        ("van der Berg", "van*der*Berg*"),
        ("Mil?er*", "Mil?er*"),
        ("Miller^Anna", "Miller^Anna"),
        ("Müller", "Müller*"),
        ("山田", "*山田*"),
    ],
)
def test_wildcards_are_added_to_names(typed, key):
    assert name_pattern(typed) == key


@pytest.mark.parametrize(
    ("first", "last", "key"),
    [
        (None, None, ""),
        (date(2026, 1, 2), date(2026, 1, 2), "20260102"),
        (date(2026, 1, 2), date(2026, 2, 1), "20260102-20260201"),
        (date(2026, 1, 2), None, "20260102-"),
        (None, date(926, 1, 2), "-09260102"),
    ],
)
def test_dates_become_a_range(first, last, key):
    assert date_range(first, last) == key


@pytest.mark.parametrize(
    "criteria",
    [
        Criteria(),
        Criteria(modality="CT"),
        Criteria(patient_name="*"),
        Criteria(patient_name=" , "),
        Criteria(patient_id="?*"),
    ],
)
def test_nobody_asks_for_a_whole_pacs(criteria):
    with pytest.raises(QueryRefusedError, match="Give a patient ID"):
        criteria.keys()


@pytest.mark.parametrize(
    "criteria",
    [
        Criteria(patient_name="a\\b"),
        Criteria(patient_id="1\n2"),
        Criteria(patient_name="x" * 65),
        Criteria(study_date_from=date(2026, 2, 1), study_date_to=date(2026, 1, 1)),
    ],
)
def test_impossible_criteria_are_refused_without_quoting_them(criteria):
    with pytest.raises(QueryRefusedError) as caught:
        criteria.keys()
    assert criteria.patient_name not in str(caught.value) or not criteria.patient_name
