"""What staff ask the archive: studies by criteria, one study, its series and images."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING

from django.db.models import Count, Exists, F, Lookup, OuterRef, Q, QuerySet, Value, Window
from django.db.models.functions import RowNumber

from apps.archive.coercion import CHARACTER_SET, ISSUER, PATIENT_ID
from apps.archive.models import CoercionRule, Instance, Patient, Series, Study, StudyQuerySet
from apps.archive.names import search_key

if TYPE_CHECKING:
    from apps.accounts.models import User

PAGE_SIZE = 50
MAX_TERMS = 6
MANY = 2000  # keys of one look-up
RECENT_SERIES = 2000
BY_STUDY_DATE, BY_ARRIVAL = "study_date", "arrival"
_COERCED = {ISSUER: "issuer", PATIENT_ID: "prefix of the Patient ID", CHARACTER_SET: "character set"}


@dataclass(frozen=True)
class StudyCriteria:
    """What to look for; an empty field asks for nothing.

    text is a name (with * and ?, "family, given" or words in any order), the beginning of a Patient ID or of an
    accession number. Dates are study dates, both inclusive. modalities and source each match any series of the study.
    is_receiving asks for studies that are still arriving.
    """

    text: str = ""
    modalities: tuple[str, ...] = ()
    date_from: date | None = None
    date_to: date | None = None
    source: str = ""
    is_receiving: bool = False
    order: str = BY_STUDY_DATE

    @property
    def is_empty(self) -> bool:
        """Whether every study matches."""
        return self == StudyCriteria(order=self.order)


@dataclass(frozen=True)
class StudyRow:
    """One line of the worklist."""

    study: Study
    modalities: tuple[str, ...]
    sources: tuple[str, ...]
    series_texts: tuple[str, ...]


@dataclass(frozen=True)
class StudyPage:
    """Up to PAGE_SIZE studies; next_after is the key of the last one where more follow, else None."""

    rows: list[StudyRow] = field(default_factory=list)
    next_after: int | None = None


class Like(Lookup):
    """`column LIKE pattern`, for patterns that are escaped already (`like_pattern`)."""

    lookup_name = "like"
    prepare_rhs = False

    def as_sql(self, compiler, connection):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """The comparison as SQL, with its parameters."""
        left, left_params = self.process_lhs(compiler, connection)
        right, right_params = self.process_rhs(compiler, connection)
        return f"{left} LIKE {right}", [*left_params, *right_params]


def find_studies(user: User, criteria: StudyCriteria, after: int | None = None) -> StudyPage:
    """One page of the studies that the user may see, newest first; after continues behind that study's key."""
    studies = matching_studies(user, criteria).select_related("patient")
    found = _take_behind(studies, criteria.order, after)
    page = found[:PAGE_SIZE]
    return StudyPage(_describe(page), page[-1].pk if len(found) > PAGE_SIZE else None)


def newest_key() -> int:
    """The key of the study that arrived last, whoever may see it; 0 where there is none."""
    return Study.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def count_newer(user: User, criteria: StudyCriteria, since: int, limit: int = 100) -> int:
    """How many matching studies have arrived after the one with the key `since`; counts up to limit."""
    return matching_studies(user, criteria).filter(pk__gt=since)[:limit].count()


def matching_studies(user: User, criteria: StudyCriteria) -> StudyQuerySet:
    """The studies that match, in no order."""
    studies = Study.objects.visible_to(user)
    if criteria.text.strip():
        studies = studies.filter(_text_matches(criteria.text))
    if criteria.date_from:
        studies = studies.filter(study_date__gte=criteria.date_from)
    if criteria.date_to:
        studies = studies.filter(study_date__lte=criteria.date_to)
    if criteria.is_receiving:
        studies = studies.filter(status=Study.Status.RECEIVING)
    if criteria.modalities:
        studies = studies.filter(series_matches(Q(modality__in=criteria.modalities)))
    if criteria.source:
        studies = studies.filter(series_matches(Q(calling_ae_title=criteria.source)))
    return studies


# --- Conditions on other tables. The few keys that a condition usually finds are looked up first, because the planner
# cannot tell rare from common and an OR over two tables uses no index. A condition that finds many needs no index: the
# newest matching studies are then near


def series_matches(condition: Q) -> Q:
    """Studies of which any series fits the condition."""
    keys = list(Series.objects.filter(condition).order_by().values_list("study", flat=True)[: MANY + 1])
    return (
        Q(pk__in=set(keys)) if len(keys) <= MANY else Q(Exists(Series.objects.filter(condition, study=OuterRef("pk"))))
    )


def people_named(text: str) -> Q:
    """Patients by the words of their name, or by the beginning of their ID."""
    return _name_matches(text) | _begins("patient_id", text)


def _text_matches(text: str) -> Q:
    people = people_named(text)
    accession = _begins("accession_number", text)
    patients = list(Patient.objects.filter(people).values_list("pk", flat=True)[: MANY + 1])
    studies = list(Study.objects.filter(accession).values_list("pk", flat=True)[: MANY + 1])
    if max(len(patients), len(studies)) <= MANY:
        return Q(patient__in=patients) | Q(pk__in=studies)
    return _name_matches(text, "patient__") | _begins("patient__patient_id", text) | accession


def _name_matches(text: str, table: str = "") -> Q:
    """Every word begins a word of the name; "a, b" also asks for a before b."""
    family, _, given = _clean(text).partition(",")
    words = [*search_key(family).split(), *search_key(given).split()][:MAX_TERMS]
    if not any(character.isalnum() for word in words for character in word):
        return Q(pk__in=[])
    column = f"{table}name_search"
    condition = Q()
    for pattern in map(like_pattern, words):
        condition &= _like(column, f"{pattern}%") | _like(column, f"% {pattern}%") | _like(column, f"%-{pattern}%")
    if search_key(family) and search_key(given):
        condition &= _like(column, f"%{like_pattern(search_key(family))}% {like_pattern(search_key(given))}%")
    return condition


def _begins(column: str, text: str) -> Q:
    """The column begins with the text, as typed or in capitals; a leading wildcard would read every row."""
    wanted = _clean(text).strip()
    if not wanted or wanted[0] in "*?":
        return Q(pk__in=[])
    return Q(*[_like(column, f"{like_pattern(form)}%") for form in {wanted, wanted.upper()}], _connector=Q.OR)


def _like(column: str, pattern: str) -> Q:
    return Q(Like(F(column), Value(pattern)))


def like_pattern(text: str) -> str:
    """The text as a LIKE pattern: * and ? are wildcards (PS3.4 C.2.2.2.4), everything else stands for itself."""
    escaped = re.sub(r"([\\%_])", r"\\\1", text)
    return re.sub(r"\*+", "%", escaped).replace("?", "_")


def _clean(text: str) -> str:
    """Without what no text column can hold (NUL, lone surrogates) and without other control characters."""
    return "".join(" " if ord(c) < 32 else c for c in text.encode("utf-8", "ignore").decode())


# --- Order and pages


def _take_behind(studies: StudyQuerySet, order: str, after: int | None) -> list[Study]:
    """Up to PAGE_SIZE + 1 studies behind the one with the key `after`."""
    if order == BY_ARRIVAL:
        behind = studies.filter(pk__lt=after) if after is not None else studies
        return list(behind.order_by("-pk")[: PAGE_SIZE + 1])
    newest_first = (F("study_date").desc(nulls_last=True), F("study_time").desc(nulls_last=True), F("id").desc())
    if after is None:
        return list(studies.order_by(*newest_first)[: PAGE_SIZE + 1])
    last = Study.objects.filter(pk=after).values_list("study_date", "study_time").first()
    day, moment = last or (None, None)
    same_day = Q(pk__lt=after, study_time=moment)
    if moment is not None:
        same_day |= Q(study_time__lt=moment) | Q(study_time=None)
    if day is None:
        return list(studies.filter(same_day, study_date=None).order_by(*newest_first)[: PAGE_SIZE + 1])
    dated = studies.filter(Q(study_date__lt=day) | same_day, study_date__lte=day)
    found = list(dated.order_by(*newest_first)[: PAGE_SIZE + 1])
    missing = PAGE_SIZE + 1 - len(found)
    undated = studies.filter(study_date=None).order_by(*newest_first)
    return found + list(undated[:missing]) if missing else found


def _describe(studies: Sequence[Study]) -> list[StudyRow]:
    series: defaultdict[int, list[Series]] = defaultdict(list)
    columns = ("study_id", "modality", "calling_ae_title", "description", "body_part")
    for one in Series.objects.filter(study__in=[study.pk for study in studies]).only(*columns):
        series[one.study_id].append(one)
    return [_row(study, series[study.pk]) for study in studies]


def _row(study: Study, series: list[Series]) -> StudyRow:
    texts = dict.fromkeys(one.description or one.body_part for one in series)
    return StudyRow(
        study,
        modalities=_listed({one.modality for one in series}),
        sources=_listed({one.calling_ae_title for one in series}),
        series_texts=tuple(text for text in texts if text),
    )


def _listed(names: set[str]) -> tuple[str, ...]:
    return tuple(sorted(name for name in names if name))


@dataclass(frozen=True)
class Choices:
    """What the filters offer: what lately arrived, modalities by how often."""

    modalities: tuple[str, ...]
    sources: tuple[str, ...]


def recent_choices(user: User) -> Choices:
    """Modalities and calling AE titles of the newest series; reading all series would not scale."""
    if not Study.objects.visible_to(user).exists():
        return Choices((), ())
    newest = Series.objects.filter(pk__in=Series.objects.order_by("-pk").values("pk")[:RECENT_SERIES]).order_by()
    found = newest.values_list("modality", "calling_ae_title").annotate(count=Count("pk"))
    modalities, sources = Counter[str](), Counter[str]()
    for modality, source, count in found:
        modalities[modality] += count
        sources[source] += count
    return Choices(tuple(name for name, _ in modalities.most_common() if name), _listed(set(sources)))


# --- One study


@dataclass(frozen=True)
class SeriesCard:
    """One series with the image that stands for it: the middle one that has pixels, or none."""

    series: Series
    cover: Instance | None


def find_study(user: User, study_instance_uid: str) -> Study:
    """Raises Study.DoesNotExist where there is none, or none for this user."""
    return Study.objects.visible_to(user).select_related("patient").get(study_instance_uid=study_instance_uid)


def find_series(user: User, series_instance_uid: str) -> Series:
    """Raises Series.DoesNotExist where there is none, or none for this user."""
    visible = Series.objects.filter(study__in=Study.objects.visible_to(user))
    return visible.select_related("study").get(series_instance_uid=series_instance_uid)


def find_instance(user: User, sop_instance_uid: str) -> Instance:
    """With what its path needs. Raises Instance.DoesNotExist where there is none, or none for this user."""
    visible = Instance.objects.filter(series__study__in=Study.objects.visible_to(user))
    return visible.select_related("series__study", "volume").get(sop_instance_uid=sop_instance_uid)


def coercion_rules(study: Study) -> list[tuple[str, CoercionRule]]:
    """What was changed of what the study's first instance said, in words, and by which rule."""
    if not study.coerced_by:
        return []
    changed: defaultdict[int, list[str]] = defaultdict(list)
    for what, key in study.coerced_by.items():
        changed[key].append(_COERCED[what])
    rules = CoercionRule.objects.in_bulk(changed)
    return [(" and ".join(words), rules[key]) for key, words in changed.items() if key in rules]


def list_series(study: Study) -> list[SeriesCard]:
    """The study's series in order, each with its cover; two queries."""
    covers = {instance.series_id: instance for instance in _covers(study)}
    return [SeriesCard(series, covers.get(series.pk)) for series in study.series.all()]


def _covers(study: Study) -> QuerySet[Instance]:
    by_number = [F("instance_number").asc(nulls_last=True), F("id").asc()]
    with_pixels = Instance.objects.filter(series__study=study, rows__gt=0, columns__gt=0).order_by()
    numbered = with_pixels.annotate(
        position=Window(RowNumber(), partition_by=F("series"), order_by=by_number),
        total=Window(Count("id"), partition_by=F("series")),
    )
    return numbered.filter(position=F("total") / 2 + 1)


def list_instances(series: Series, start: int, count: int) -> list[Instance]:
    """The series' instances from position start, in order."""
    return list(series.instances.all()[start : start + count])


def prior_studies(user: User, study: Study, limit: int = 20) -> list[StudyRow]:
    """Other studies of the same patient, newest first."""
    others = Study.objects.visible_to(user).filter(patient=study.patient_id).exclude(pk=study.pk)
    newest_first = (F("study_date").desc(nulls_last=True), F("id").desc())
    return _describe(list(others.select_related("patient").order_by(*newest_first)[:limit]))
