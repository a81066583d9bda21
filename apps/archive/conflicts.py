"""What waits for a decision and what was decided: cases for the list, both sides of one for its page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Max, Min, Q, QuerySet, Sum

from apps.archive.differences import (
    ComparisonError,
    Difference,
    Wanted,
    differences,
    of_anything,
    of_patient_and_study,
    of_patient_study_and_series,
)
from apps.archive.header import Header, UnreadableError, read_header
from apps.archive.models import Conflict, Decision, Instance, Patient, Series, Study
from apps.archive.names import format_person_name
from apps.archive.queries import people_named

if TYPE_CHECKING:
    from apps.accounts.models import User

Kind = Conflict.Kind
MAX_CANDIDATES = 10


# --- The list


@dataclass(frozen=True)
class Case:
    """Conflicts that are decided together; `conflict` stands for them."""

    conflict: Conflict
    files: int
    size_bytes: int
    study: Study | None


def count_open() -> int:
    """How many cases wait."""
    return Conflict.objects.open().aggregate(cases=Count("case_key", distinct=True))["cases"]


def count_left(decision: Decision) -> int:
    """How many files of its case wait all the same: more than could be done at once, or they came meanwhile."""
    return Conflict.objects.open().filter(case_key=decision.case_key).count()


def count_kinds() -> dict[str, int]:
    """How many cases of each kind wait; kinds without one are left out."""
    counted = Conflict.objects.open().order_by().values_list("kind").annotate(Count("case_key", distinct=True))
    return dict(counted)


def open_cases(kind: str = "") -> QuerySet[Any, Any]:
    """One row a case, the newest first; `describe` makes cases of a page of them."""
    waiting = Conflict.objects.open().filter(Q(kind=kind) if kind else Q())
    grouped = waiting.order_by().values("case_key")
    return grouped.annotate(first=Min("pk"), files=Count("pk"), bytes=Sum("size_bytes")).order_by("-first")


def describe(rows: Iterable[dict[str, Any]]) -> list[Case]:
    """With the stored study that each is about; three queries, however many rows."""
    page = list(rows)
    found = Conflict.objects.in_bulk([row["first"] for row in page])
    studies = _studies_of(found.values())
    return [
        Case(conflict, row["files"], row["bytes"], studies.get(conflict.pk))
        for row in page
        if (conflict := found.get(row["first"]))
    ]


def _studies_of(conflicts: Iterable[Conflict]) -> dict[int, Study]:
    rows = list(conflicts)
    by_uid = {
        study.study_instance_uid: study
        for study in Study.objects.select_related("patient").filter(
            study_instance_uid__in={row.study_instance_uid for row in rows}
        )
    }
    series = {row.series_instance_uid for row in rows if row.kind in (Kind.SERIES, Kind.INSTANCE)}
    by_series = {
        one.series_instance_uid: one.study
        for one in Series.objects.select_related("study__patient").filter(series_instance_uid__in=series)
    }
    found = {row.pk: by_series.get(row.series_instance_uid) or by_uid.get(row.study_instance_uid) for row in rows}
    return {pk: study for pk, study in found.items() if study}


def decisions() -> QuerySet[Decision]:
    """The newest first, each with how many conflicts it settled; an undone one has none any more."""
    return Decision.objects.annotate(files=Count("conflicts"), conflict=Min("conflicts")).order_by("-pk")


# --- Both sides of one


@dataclass(frozen=True)
class Side:
    """What is known or what arrived: who and what it is, and one picture that stands for it."""

    title: str
    facts: dict[str, str]
    path: Path | None = None
    frames: int = 0  # 0 where there are no pixels
    study: Study | None = None


@dataclass(frozen=True)
class Fact:
    """One line of the comparison. It differs where both sides speak of it, and ought to say the same."""

    name: str
    left: str
    right: str
    differs: bool


@dataclass(frozen=True)
class Comparison:
    """Both sides of a conflict, left what was there first, and what differs between their files."""

    left: Side
    right: Side
    facts: list[Fact]
    differences: list[Difference] = field(default_factory=list)
    trouble: str = ""


def compare_sides(conflict: Conflict) -> Comparison:
    """Read what both sides say. What cannot be read is said in `trouble`, never raised."""
    left, right = sides(conflict)
    names = dict.fromkeys((*left.facts, *right.facts))
    facts = [_fact(name, left.facts.get(name, ""), right.facts.get(name, ""), Kind(conflict.kind)) for name in names]
    rows, trouble = _differences(left.path, right.path, _WANTED[Kind(conflict.kind)])
    return Comparison(left, right, [fact for fact in facts if fact.left or fact.right], rows, trouble)


_OF_PATIENT = ("Name", "Patient ID", "Issuer of the ID", "Born", "Sex")
_OF_STUDY = ("Study date", "Study", "Accession", "Institution", "Study Instance UID")
_OF_SERIES = ("Series", "Series Instance UID")
_SHARED = {
    Kind.INSTANCE: (*_OF_PATIENT, *_OF_STUDY, *_OF_SERIES, "Image"),
    Kind.SERIES: (*_OF_PATIENT, *_OF_STUDY, *_OF_SERIES),
    Kind.STUDY: (*_OF_PATIENT, *_OF_STUDY),
    Kind.PATIENT: _OF_PATIENT,
}


def _fact(name: str, left: str, right: str, kind: Conflict.Kind) -> Fact:
    return Fact(name, left, right, bool(left and right and left != right and name in _SHARED.get(kind, ())))


_WANTED: dict[Conflict.Kind, Wanted] = {
    Kind.UNREADABLE: of_anything,
    Kind.INSTANCE: of_anything,
    Kind.STUDY: of_patient_and_study,
    Kind.SERIES: of_patient_study_and_series,
    Kind.PATIENT: of_patient_and_study,
    Kind.REPORTED: of_patient_and_study,
}


def _differences(left: Path | None, right: Path | None, wanted: Wanted) -> tuple[list[Difference], str]:
    if left is None or right is None:
        return [], ""
    try:
        return differences(left, right, wanted), ""
    except (ComparisonError, OSError):
        return [], "The files cannot be compared element by element: one is missing or not readable."


def sides(conflict: Conflict) -> tuple[Side, Side]:
    """What was there first, and what arrived."""
    if conflict.kind == Kind.PATIENT:
        return _patient_sides(conflict)
    if conflict.kind == Kind.REPORTED:
        study = Study.objects.filter(study_instance_uid=conflict.study_instance_uid).first()
        return _side_of("Stored", study, conflict.patient), Side("", {})
    return _stored_side(conflict), _held_side(conflict)


def _patient_sides(conflict: Conflict) -> tuple[Side, Side]:
    """Both as they arrived, whoever they were found to be since."""
    study = Study.objects.select_related("patient").filter(study_instance_uid=conflict.study_instance_uid).first()
    known = root_of(conflict.other_patient)
    newest = known.studies.exclude(study_instance_uid=conflict.study_instance_uid).last() if known else None
    return (
        _side_of("Known under this patient ID", newest, conflict.other_patient),
        _side_of("Arrived under the same ID", study, conflict.patient),
    )


def root_of(patient: Patient | None) -> Patient | None:
    """The patient, or into whom it was merged."""
    return patient.merged_into if patient and patient.merged_into else patient


def patient_in_question(conflict: Conflict) -> Patient | None:
    """Whose the stored study is now."""
    study = _studies_of([conflict]).get(conflict.pk)
    return study.patient if study else None


def _stored_side(conflict: Conflict) -> Side:
    instance = stored_instance(conflict)
    study = instance.series.study if instance else None
    return _side_of("Stored", study, study.patient if study else None, instance)


def stored_instance(conflict: Conflict) -> Instance | None:
    """The stored image that the held file is compared with."""
    stored = Instance.objects.select_related("series__study__patient", "volume").order_by("pk")
    if conflict.kind == Kind.INSTANCE:
        return stored.filter(sop_instance_uid=conflict.sop_instance_uid).first()
    if conflict.kind == Kind.SERIES:
        return stored.filter(series__series_instance_uid=conflict.series_instance_uid).first()
    if conflict.kind == Kind.STUDY:
        of_study = stored.filter(series__study__study_instance_uid=conflict.study_instance_uid)
        return of_study.filter(series__series_instance_uid=conflict.series_instance_uid).first() or of_study.first()
    return None


def _side_of(title: str, study: Study | None, patient: Patient | None, instance: Instance | None = None) -> Side:
    if instance is None and study is not None:
        images = Instance.objects.filter(series__study=study, rows__gt=0).select_related("series__study", "volume")
        instance = images.order_by("pk").first()
    return Side(
        title,
        (_facts_of_patient(patient) if patient else {})
        | (_facts_of_study(study) if study else {})
        | (_facts_of_image(instance) if instance else {}),
        path=instance.path if instance else None,
        frames=instance.number_of_frames if instance and instance.has_pixels else 0,
        study=study,
    )


def _held_side(conflict: Conflict) -> Side:
    path = conflict.held_path
    try:
        header = read_header(path) if path else None
    except (UnreadableError, OSError):
        header = None
    if header is None:
        return Side("Kept aside", {"Why": conflict.reason}, path)
    frames = header.number_of_frames if header.rows and header.columns else 0
    return Side("Kept aside", _facts_of_header(header), path, frames)


def _facts_of_patient(patient: Patient) -> dict[str, str]:
    return _person(patient.name, patient.patient_id, patient.issuer, patient.birth_date, patient.sex)


def _person(name: str, patient_id: str, issuer: str, birth_date: date | None, sex: str) -> dict[str, str]:
    return {
        "Name": format_person_name(name) or "No name",
        "Patient ID": patient_id or "none",
        "Issuer of the ID": issuer or "none",
        "Born": birth_date.isoformat() if birth_date else "",
        "Sex": sex,
    }


def _facts_of_study(study: Study) -> dict[str, str]:
    return {
        "Study date": study.study_date.isoformat() if study.study_date else "",
        "Study": study.description,
        "Accession": study.accession_number,
        "Institution": study.institution,
        "Study Instance UID": study.study_instance_uid,
    }


def _facts_of_image(instance: Instance) -> dict[str, str]:
    series = instance.series
    return _image(
        series.modality,
        series.description,
        instance.instance_number,
        (instance.columns, instance.rows, instance.number_of_frames),
    ) | {"Series Instance UID": series.series_instance_uid}


def _image(
    modality: str, description: str, number: int | None, size: tuple[int | None, int | None, int]
) -> dict[str, str]:
    columns, rows, frames = size
    pixels = f"{columns} × {rows}{f', {frames} frames' if frames > 1 else ''}" if columns and rows else "no pixels"
    return {
        "Series": " ".join(part for part in (modality, description) if part),
        "Image": f"number {number}, {pixels}" if number is not None else pixels,
    }


def _facts_of_header(header: Header) -> dict[str, str]:
    person = _person(header.patient_name, header.patient_id, header.issuer, header.birth_date, header.sex)
    study = {
        "Study date": header.study_date.isoformat() if header.study_date else "",
        "Study": header.study_description,
        "Accession": header.accession_number,
        "Institution": header.institution,
        "Study Instance UID": header.study_instance_uid,
    }
    size = (header.columns, header.rows, header.number_of_frames)
    image = _image(header.modality, header.series_description, header.instance_number, size)
    return person | study | image | {"Series Instance UID": header.series_instance_uid}


# --- Its case, and whom it may be of


def neighbours(conflict: Conflict) -> tuple[int | None, int | None, int, int]:
    """Previous and next conflict of the case in the same state, the position of this one (from 1), and how many."""
    case = Conflict.objects.filter(case_key=conflict.case_key, decision=conflict.decision_id)
    counts = case.aggregate(
        before=Max("pk", filter=Q(pk__lt=conflict.pk)),
        after=Min("pk", filter=Q(pk__gt=conflict.pk)),
        position=Count("pk", filter=Q(pk__lte=conflict.pk)),
        total=Count("pk"),
    )
    return counts["before"], counts["after"], counts["position"], counts["total"]


def same_id(patient: Patient | None) -> Sequence[Patient]:
    """Other patients with the same Patient ID, of whatever issuer."""
    if patient is None or not patient.patient_id:
        return []
    others = Patient.objects.filter(patient_id=patient.patient_id, merged_into=None, studies__isnull=False)
    return list(others.exclude(pk=patient.pk).distinct().order_by("only_study_uid", "pk")[:MAX_CANDIDATES])


def find_patients(user: User, text: str, besides: Patient | None) -> Sequence[Patient]:
    """Patients with studies that the user may see, by name or the beginning of the Patient ID."""
    if not text.strip():
        return []
    visible = Patient.objects.filter(people_named(text), studies__in=Study.objects.visible_to(user), merged_into=None)
    others = visible.exclude(pk=besides.pk) if besides else visible
    return list(others.distinct().order_by("pk")[:MAX_CANDIDATES])
