"""Whose a study is: giving it to another patient, finding two patients to be one, and taking either back.

Every function belongs into the caller's transaction. Studies are locked before patients, as ingest does it. A study
that arrives meanwhile is either seen here, because its patient was held for it, or it sees what was done here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.db.models import F, Max, Q

from apps.archive.models import Patient, Study
from apps.core.errors import PermanentError


class DecisionError(PermanentError):
    """A decision, or its undoing, is not possible as things are; the text is for the person who asked."""


@dataclass
class MovedStudy:
    """Whose a study was before."""

    study: int
    patient: int
    arrived_as: int | None


@dataclass
class Moves:
    """What was changed, by primary keys: enough to take it back."""

    studies: list[MovedStudy] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)  # patients who were merged into `patient` by this
    gone: int | None = None  # of those, the one who had been a patient until then
    patient: int | None = None  # who has the studies now
    last_study: int = 0  # the newest study then

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Moves:
        """From JSON."""
        return cls(**stored | {"studies": [MovedStudy(**one) for one in stored.get("studies", [])]})


def lock_patients(*keys: int) -> dict[int, Patient]:
    """Hold patients against ingest and other decisions: first who was merged into them, then themselves.

    Raises DecisionError where one does not exist or was merged into another.
    """
    list(Patient.objects.select_for_update().filter(merged_into__in=keys).order_by("pk"))
    locked = {patient.pk: patient for patient in Patient.objects.select_for_update().filter(pk__in=keys).order_by("pk")}
    if any(locked.get(key) is None or locked[key].merged_into_id for key in keys):
        raise DecisionError("One of the patients was merged into another meanwhile. Look again, then decide.")
    return locked


def hold_studies(condition: Q) -> list[Study]:
    """These studies, held against ingest and other decisions."""
    return list(Study.objects.select_for_update(no_key=True).filter(condition).order_by("pk"))


def merge_patients(gone: int, stays: int) -> Moves:
    """Two patients are one person: every study of `gone` is of `stays` from now on, and so is what arrives later."""
    if gone == stays:
        raise DecisionError("This is one patient already. Choose another one.")
    hold_studies(Q(patient=gone))
    lock_patients(gone, stays)
    moves = Moves(gone=gone, patient=stays, last_study=_last_study())
    studies = hold_studies(Q(patient=gone))  # with those that came while we waited for the patients
    moves.studies = [MovedStudy(study.pk, gone, study.arrived_as_id) for study in studies]
    _move([moved.study for moved in moves.studies], gone, stays)
    merged = Patient.objects.filter(Q(pk=gone) | Q(merged_into=gone))
    moves.merged = sorted(merged.values_list("pk", flat=True))
    Patient.objects.filter(pk__in=moves.merged).update(merged_into=stays)
    return moves


def reassign_study(pk: int, patient: int) -> Moves:
    """One study is of another patient. Its further images may go on naming the old one."""
    (study,) = hold_studies(Q(pk=pk))
    before = study.patient_id
    if before == patient:
        raise DecisionError("The study is of this patient already. Choose another one.")
    lock_patients(before, patient)
    _move([pk], before, patient)
    return Moves(studies=[MovedStudy(pk, before, study.arrived_as_id)], patient=patient, last_study=_last_study())


def _move(keys: list[int], before: int, after: int) -> None:
    studies = Study.objects.filter(pk__in=keys)
    studies.filter(arrived_as=None).update(arrived_as=before)
    studies.update(patient=after)
    studies.filter(arrived_as=F("patient")).update(arrived_as=None)


def _last_study() -> int:
    return Study.objects.aggregate(last=Max("pk"))["last"] or 0


# --- Taking back


def check_moves(moves: Moves) -> None:
    """Raise DecisionError where a later decision builds on these moves: that one has to be undone first."""
    studies = [moved.study for moved in moves.studies]
    if Study.objects.filter(pk__in=studies).exclude(patient=moves.patient).exists():
        raise DecisionError("The study was given to yet another patient since. Undo that decision first.")
    if Patient.objects.filter(pk__in=moves.merged).exclude(merged_into=moves.patient).exists():
        raise DecisionError("These patients were merged with another one since. Undo that decision first.")
    origins = {moved.patient for moved in moves.studies} - set(moves.merged)
    if Patient.objects.filter(pk__in=origins).exclude(merged_into=None).exists():
        raise DecisionError("The former patient was merged into another one since. Undo that decision first.")


def take_back(moves: Moves) -> None:
    """Every study is of whom it was before; what arrived since under a merged ID goes with it. Raises DecisionError."""
    if moves.patient is None:
        return
    _lock_again(moves)
    check_moves(moves)
    for moved in moves.studies:
        Study.objects.filter(pk=moved.study).update(patient=moved.patient, arrived_as=moved.arrived_as)
    if moves.gone is not None:
        since = Study.objects.filter(pk__gt=moves.last_study, patient=moves.patient)
        since.filter(arrived_as__in=moves.merged).update(patient=moves.gone)
        Study.objects.filter(patient=moves.gone, arrived_as=moves.gone).update(arrived_as=None)
        Patient.objects.filter(pk__in=moves.merged).update(merged_into=moves.gone)
        Patient.objects.filter(pk=moves.gone).update(merged_into=None)


def _lock_again(moves: Moves) -> None:
    studies = Q(pk__in=[moved.study for moved in moves.studies]) | Q(patient=moves.patient)
    hold_studies(studies)
    list(Patient.objects.select_for_update().filter(pk__in=moves.merged).order_by("pk"))
    keys = [key for key in (moves.patient, *(moved.patient for moved in moves.studies)) if key]
    list(Patient.objects.select_for_update().filter(pk__in=keys).order_by("pk"))
    hold_studies(studies)
