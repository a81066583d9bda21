"""Repairing texts whose label is wrong: people decide, here it is carried out. Stored files are read, never changed.

A row is corrected only where it holds exactly what its file says under the old reading, so that nothing is overwritten
that came from elsewhere. Undo is the same with the readings exchanged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import DatabaseError, IntegrityError, transaction
from django.db.models import Case, F, Model, QuerySet, Value, When
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.archive.charsets import assume_charset, charset_named
from apps.archive.coercion import CHARACTER_SET
from apps.archive.header import UnreadableError, read_texts
from apps.archive.identity import identity_of
from apps.archive.models import CoercionRule, DoubtfulText, Instance, Patient, Series, Study
from apps.archive.names import search_key
from apps.archive.texts import FileTexts
from apps.audit.trail import record
from apps.core.leader import LeaderLock
from apps.core.queue import REPAIR_TEXTS, enqueue

logger = logging.getLogger(__name__)

State, Problem = DoubtfulText.State, DoubtfulText.Problem
RUN_S = 20.0
FILES_A_SERIES = 3  # rows hold what the first stored file said; where files differ, a few are tried

_OF_STUDY = {  # column of the study → name in `TEXT_TAGS`
    "study_id": "study_id",
    "accession_number": "accession_number",
    "description": "study_description",
    "referring_physician": "referring_physician",
    "institution": "institution",
}
_OF_SERIES = {"description": "series_description"}
_OF_PATIENT = {"name": "patient_name"}


# --- Deciding: the rows say what is wanted; a task carries it out


@transaction.atomic
def ask_for_repair(user: User, doubts: QuerySet[DoubtfulText], label: str) -> int:
    """Let these studies be read in the charset `label` (see `charset_named`); returns how many."""
    charset_named(label)
    count = doubts.exclude(assumed=label, wanted=None).update(
        wanted=label, decided_by=user, decided_at=Now(), problem=""
    )
    return _tell(count)


@transaction.atomic
def ask_for_undo(user: User, doubts: QuerySet[DoubtfulText]) -> int:
    """Let the decision before the last one hold again; where there was none, the study is to be decided once more."""
    right = doubts.filter(state=State.RIGHT, wanted=None).select_for_update()
    studies = dict(right.values_list("pk", "study_id"))
    DoubtfulText.objects.filter(pk__in=studies).update(
        state=Case(When(assumed="", then=Value(State.OPEN)), default=Value(State.REPAIRED)),
        decided_by=user,
        decided_at=Now(),
    )
    _record("texts.asked_again", list(studies.values()), user.pk)
    repaired = doubts.filter(state=State.REPAIRED, wanted=None).exclude(assumed="").exclude(pk__in=studies)
    return len(studies) + _tell(repaired.update(wanted=F("previous"), decided_by=user, decided_at=Now()))


@transaction.atomic
def mark_as_right(user: User, doubts: QuerySet[DoubtfulText]) -> int:
    """These texts are right as they are shown: nobody asks again, also not when more of the study arrives."""
    open_ones = doubts.filter(wanted=None).exclude(state=State.RIGHT).select_for_update()
    studies = dict(open_ones.values_list("pk", "study_id"))
    rows = DoubtfulText.objects.filter(pk__in=studies)
    rows.update(state=State.RIGHT, problem="", decided_by=user, decided_at=Now())
    _record("texts.left_as_shown", list(studies.values()), user.pk)
    return len(studies)


def _tell(count: int) -> int:
    if count:
        enqueue(REPAIR_TEXTS)
    return count


def enqueue_due_repairs() -> bool:
    """Ask again for a repair that a worker left; True where one waits."""
    is_waiting = DoubtfulText.objects.filter(wanted__isnull=False).exists()
    if is_waiting:
        enqueue(REPAIR_TEXTS)
    return is_waiting


# --- Carrying out


def run_repairs() -> None:
    """Carry out what is wanted; one worker at a time, so that other maintenance goes on."""
    lock = LeaderLock("text repair")
    try:
        if lock.try_acquire():
            repair_texts()
    finally:
        lock.release()


def repair_texts(run_s: float = RUN_S, limit: int | None = None) -> int:
    """Carry out what is wanted, one study a transaction, and ask for the rest; returns how many were done.

    A study that somebody else works on is passed over, and one that cannot be repaired just now holds up no other:
    both are asked for again (`enqueue_due_repairs`).
    """
    until, done, last = time.monotonic() + run_s, 0, 0
    waiting = DoubtfulText.objects.filter(wanted__isnull=False).order_by("pk").values_list("pk", flat=True)
    while (limit is None or done < limit) and (pk := waiting.filter(pk__gt=last).first()):
        if time.monotonic() > until:
            enqueue(REPAIR_TEXTS)
            break
        done, last = done + _repair_if_possible(pk), pk
    return done


def _repair_if_possible(pk: int) -> bool:
    try:
        return _repair(pk)
    except DatabaseError as error:
        logger.error("doubtful text %s cannot be repaired now: %s", pk, type(error).__name__)
        return False


@transaction.atomic
def _repair(pk: int) -> bool:
    """False where it is done already, or in other hands."""
    doubt = DoubtfulText.objects.select_for_update(skip_locked=True).filter(pk=pk, wanted__isnull=False).first()
    if doubt is None:
        return False
    wanted = doubt.wanted or ""
    doubt.wanted = None
    if _read_as(doubt, wanted):
        doubt.previous = doubt.assumed if wanted != doubt.previous else ""
        doubt.assumed = wanted
        doubt.state = State.REPAIRED if wanted else State.OPEN
    doubt.save()
    read_as = {"labelled": doubt.labelled, "read_as": doubt.assumed, "problem": doubt.problem}
    _record("texts.repaired", [doubt.study_id], doubt.decided_by_id, read_as)
    return True


def _record(action: str, study_ids: Sequence[int], user_id: int | None, detail: dict[str, str] | None = None) -> None:
    """The one place where decisions and repairs go on record: ids and labels only."""
    actor = User.objects.filter(pk=user_id or 0).values_list("username", flat=True).first() or "text repair"
    for study_id in study_ids:
        record(actor, action, "study", study_id, detail)


@dataclass(frozen=True, slots=True)
class Readings:
    """The texts of one file as they were read until now, and as they shall be."""

    old: dict[str, str]
    new: dict[str, str]

    @classmethod
    def of(cls, texts: FileTexts, assumed: str, wanted: str, default: str) -> Readings:
        """An empty charset is the labelled one, or the default where there is no label."""
        labelled = assume_charset(texts.label, default)
        old, new = (texts.read(charset_named(label) if label else labelled) for label in (assumed, wanted))
        return cls(old, new)

    def corrections(self, row: Model, columns: dict[str, str]) -> dict[str, str]:
        """Columns that hold the old reading, with the new one."""
        return {
            column: self.new[name]
            for column, name in columns.items()
            if getattr(row, column) == self.old[name] != self.new[name]
        }


def _read_as(doubt: DoubtfulText, wanted: str) -> bool:
    """Correct the rows of a study whose `doubt` is held; False where no file could be read."""
    study = Study.objects.select_for_update(no_key=True).get(pk=doubt.study_id)
    patient = Patient.objects.select_for_update(no_key=True).get(pk=study.patient_id)
    files = {series: _texts_of(series) for series in study.series.all()}
    if not any(files.values()):
        doubt.problem = Problem.UNREADABLE
        return False
    doubt.problem = ""
    default = _default_of(study)
    for series, texts in files.items():
        for text in (text for text in texts if text.shown_label == doubt.labelled):
            readings = Readings.of(text, doubt.assumed, wanted, default)
            _correct(series, readings.corrections(series, _OF_SERIES))
            _correct(study, readings.corrections(study, _OF_STUDY))
            _correct(patient, _with_keys(readings.corrections(patient, _OF_PATIENT), patient))
            doubt.problem = _correct_identity(patient, study, readings, wanted) or doubt.problem
    return True


def _default_of(study: Study) -> str:
    """The character set that a coercion rule gave the study's files without a label."""
    rules = CoercionRule.objects.filter(pk=study.coerced_by.get(CHARACTER_SET, 0))
    return rules.values_list("character_set", flat=True).first() or ""


def _texts_of(series: Series) -> list[FileTexts]:
    """Of its first files."""
    found = []
    instances = Instance.objects.filter(series=series).select_related("series__study", "volume")
    for instance in instances.order_by("pk")[:FILES_A_SERIES]:
        try:
            found.append(read_texts(instance.path))
        except (OSError, UnreadableError) as error:
            logger.warning("the texts of %s cannot be read: %s", instance.sop_instance_uid, type(error).__name__)
    return found


def _correct(row: Study | Series | Patient, changes: dict[str, Any]) -> None:
    if changes:
        for column, text in changes.items():
            setattr(row, column, text)
        row.save(update_fields=list(changes))


def _with_keys(changes: dict[str, Any], patient: Patient) -> dict[str, Any]:
    """With another name what it is searched by changes, and what tells the person from others."""
    if not changes:
        return changes
    identity = identity_of(changes["name"], patient.birth_date, settings.IDENTITY_KEY)
    return changes | {
        "name_search": search_key(changes["name"])[:500],
        "family_hmacs": sorted(identity.family),
    }


# --- The Patient ID tells persons apart: two of them never become one here


def _correct_identity(patient: Patient, study: Study, readings: Readings, wanted: str) -> str:
    """Correct Patient ID and issuer; "" or why they were left."""
    old, new = ((reading["issuer"], reading["patient_id"]) for reading in (readings.old, readings.new))
    now = patient.issuer, patient.patient_id
    if old == new or now == new or not new[1]:
        return ""
    if now != old:
        return Problem.CHANGED
    others = Study.objects.filter(patient=patient).exclude(pk=study.pk)
    if others.exclude(pk__in=DoubtfulText.objects.filter(assumed=wanted).values("study")).exists():
        return Problem.SHARED
    if not _rename(patient, *new):
        return Problem.TAKEN
    told = DoubtfulText.objects.filter(study__in=others, problem=Problem.SHARED).select_for_update(skip_locked=True)
    DoubtfulText.objects.filter(pk__in=list(told.values_list("pk", flat=True))).update(problem="")
    return ""


def _rename(patient: Patient, issuer: str, patient_id: str) -> bool:
    """False where the patient would become another one; the constraint decides also against who comes at once."""
    before = patient.issuer, patient.patient_id
    patient.issuer, patient.patient_id = issuer, patient_id
    try:
        with transaction.atomic():
            patient.save(update_fields=["issuer", "patient_id"])
    except IntegrityError:
        patient.issuer, patient.patient_id = before
        return False
    return True
