"""What another system finds with C-FIND: studies and patients by matching keys, read in pages of few columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, F, OuterRef, Q, Sum, Value

from apps.archive.matching import StudyKeys, name_matches, name_words
from apps.archive.models import Patient, Series, Study, StudyQuerySet
from apps.archive.queries import MANY, Like, like_pattern, series_matches
from apps.nodes.rights import Rights

PAGE_SIZE = 50
NEWEST_FIRST = (F("study_date").desc(nulls_last=True), F("study_time").desc(nulls_last=True), F("id").desc())
_PERSON = ("patient__patient_id", "patient__issuer", "patient__name", "patient__birth_date", "patient__sex")
_STUDY = (
    *("study_instance_uid", "study_id", "study_date", "study_time", "accession_number", "description"),
    *("referring_physician", "institution", "series_count", "instance_count"),
)
Row = dict[str, Any]


def find_study_keys(rights: Rights, keys: StudyKeys, limit: int) -> list[int]:
    """Primary keys of the studies that match and that the caller may see, newest first, at most `limit`."""
    studies = _narrowed(Study.objects.visible_to_caller(rights), keys)
    studies = studies.filter(_ranges(keys, "study_date", "study_time"))
    if keys.modalities:
        studies = studies.filter(series_matches(_any_text("modality", keys.modalities)))
    return list(studies.order_by(*NEWEST_FIRST).values_list("pk", flat=True)[:limit])


def find_patient_keys(rights: Rights, keys: StudyKeys, limit: int) -> list[int]:
    """The same for patients with a study that the caller may see, in no order."""
    has_study = Exists(Study.objects.visible_to_caller(rights).filter(patient=OuterRef("pk")))
    return list(Patient.objects.filter(has_study, _person(keys)).values_list("pk", flat=True)[:limit])


def read_studies(primary_keys: Sequence[int], keys: StudyKeys) -> list[Row]:
    """What is answered of these studies, in their order; without those that are gone or whose name does not fit."""
    series = Series.objects.filter(study=OuterRef("pk")).exclude(modality="")
    modalities = series.order_by("modality").values("modality").distinct()
    rows = Study.objects.filter(pk__in=primary_keys).annotate(modalities=ArraySubquery(modalities))
    plain = (
        {name.removeprefix("patient__"): value for name, value in row.items()}
        for row in rows.values("pk", "modalities", *_PERSON, *_STUDY)
    )
    return _in_order(primary_keys, plain, keys)


def read_patients(primary_keys: Sequence[int], keys: StudyKeys) -> list[Row]:
    """The same of patients, with the numbers of what belongs to them."""
    counts = {
        "patient_studies": Count("studies"),
        "patient_series": Sum("studies__series_count"),
        "patient_instances": Sum("studies__instance_count"),
    }
    rows = Patient.objects.filter(pk__in=primary_keys).values("pk", *(name.partition("__")[2] for name in _PERSON))
    return _in_order(primary_keys, rows.annotate(**counts), keys)


def _in_order(primary_keys: Sequence[int], rows: Iterable[Row], keys: StudyKeys) -> list[Row]:
    found = {row["pk"]: row for row in rows if not keys.name or name_matches(keys.name, row["name"])}
    return [found[key] for key in primary_keys if key in found]


# --- Conditions. As in `queries`: what a key finds is looked up first, while it is few


def _narrowed(studies: StudyQuerySet, keys: StudyKeys) -> StudyQuerySet:
    """The studies that match the keys which usually find few: the patient, numbers and UIDs."""
    condition = _any_text("accession_number", keys.accession_number) & _any_text("study_id", keys.study_id)
    if keys.study_instance_uids:
        condition &= Q(study_instance_uid__in=keys.study_instance_uids)
    if keys.names_person:
        condition &= _patient_matches(keys)
    if not condition:
        return studies
    found = list(studies.filter(condition).order_by().values_list("pk", flat=True)[: MANY + 1])
    return studies.filter(pk__in=found) if len(found) <= MANY else studies.filter(condition)


def _patient_matches(keys: StudyKeys) -> Q:
    people = list(Patient.objects.filter(_person(keys)).values_list("pk", "name")[: MANY + 1])
    if len(people) > MANY:
        return _person(keys, "patient__")
    return Q(patient__in=[pk for pk, name in people if not keys.name or name_matches(keys.name, name)])


def _person(keys: StudyKeys, table: str = "") -> Q:
    """All that match, and some whose name does not: the words of a name are found by index, its form by the reader."""
    condition = _any_text(f"{table}patient_id", keys.patient_id) & _any_text(f"{table}issuer", keys.issuer)
    condition &= _ranges(keys, "birth_date", table=table)
    words = name_words(keys.name)
    if not words:
        return condition
    pattern, column = "%".join(map(like_pattern, words)) + "%", f"{table}name_search"
    if keys.name[0] in "*?^=":
        return condition & _like(column, f"%{pattern}")
    return condition & (_like(column, pattern) | _like(column, f"% {pattern}"))


def _any_text(column: str, wanted: str | Sequence[str]) -> Q:
    """The column equals one of the wanted texts, or fits one that has * or ?."""
    condition = Q()
    for text in [wanted] if isinstance(wanted, str) else wanted:
        if set(text) & set("*?"):
            condition |= _like(column, like_pattern(text))
        elif text:
            condition |= Q(**{column: text})
    return condition


def _ranges(keys: StudyKeys, *names: str, table: str = "") -> Q:
    condition = Q()
    for name in names:
        for end, comparison in zip(getattr(keys, name), ("gte", "lte"), strict=True):
            if end is not None:
                condition &= Q(**{f"{table}{name}__{comparison}": end})
    return condition


def _like(column: str, pattern: str) -> Q:
    return Q(Like(F(column), Value(pattern)))
