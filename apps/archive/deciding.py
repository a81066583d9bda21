"""Deciding what is in conflict, and undoing it: one transaction each, locked against everybody else, and audited.

Conflicts of one case are decided together. Who comes second learns what the first decided and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import OperationalError, transaction
from django.utils import timezone
from psycopg.errors import DeadlockDetected

from apps.archive.held import (
    Replaced,
    accept_sender,
    check_replaced,
    check_stored,
    header_of,
    put_back,
    replace_stored,
    store_held,
    take_out,
)
from apps.archive.holding import case_key, flag_strangers
from apps.archive.models import Conflict, Decision, Series, Study
from apps.archive.patients import DecisionError, Moves, check_moves, merge_patients, reassign_study, take_back
from apps.archive.upsert import lock_studies, resolve_patients
from apps.audit.trail import record

__all__ = [
    *("AlreadyDecidedError", "Choice", "DecisionError", "Person"),
    *("decide", "report_study", "undo", "why_not_undone"),
]

FILES_AT_ONCE = 500
ATTEMPTS = 3

Action, Kind = Decision.Action, Conflict.Kind
ACTIONS = {
    Kind.UNREADABLE: (Action.KEEP,),
    Kind.INSTANCE: (Action.KEEP, Action.REPLACE),
    Kind.STUDY: (Action.KEEP, Action.STORE, Action.REASSIGN, Action.MERGE),
    Kind.SERIES: (Action.KEEP, Action.STORE),
    Kind.PATIENT: (Action.KEEP, Action.MERGE, Action.REASSIGN),
    Kind.REPORTED: (Action.KEEP, Action.MERGE, Action.REASSIGN),
}


class AlreadyDecidedError(DecisionError):
    """Somebody was quicker; `decision` is theirs."""

    def __init__(self, decision: Decision | None) -> None:
        super().__init__("This has been decided already.")
        self.decision = decision


@dataclass(frozen=True)
class Person:
    """Who decides, as the trail keeps it."""

    name: str
    address: str | None = None


@dataclass(frozen=True)
class Choice:
    """What a person chose. `target` is the other patient; without one, whom the held files name.

    A merge keeps the target's record where `target_stays`, else that of the study's patient. `files` is how many files
    the person saw: where more have come, a replacement asks again. `only_this` leaves the other files of the case open.
    """

    action: Decision.Action
    target: int | None = None
    target_stays: bool = True
    reason: str = ""
    files: int | None = None
    only_this: bool = False


@dataclass
class _Effects:
    """What a decision did, by primary keys."""

    moves: Moves = field(default_factory=Moves)
    stored: list[int] = field(default_factory=list)
    replaced: list[dict[str, Any]] = field(default_factory=list)


def decide(conflict_pk: int, choice: Choice, person: Person) -> Decision:
    """Carry out what a person chose for the case of this conflict.

    Raises DecisionError with words for the person, AlreadyDecidedError where somebody was quicker. Then nothing is
    done.
    """
    return _whole(lambda: _decide(conflict_pk, choice, person))


def _decide(conflict_pk: int, choice: Choice, person: Person) -> Decision:
    rows = _lock_open(conflict_pk, choice)
    kind = Kind(rows[0].kind)
    if choice.action not in ACTIONS[kind]:
        raise DecisionError("This cannot be decided so.")
    decision = Decision.objects.create(
        action=choice.action,
        case_key=rows[0].case_key,
        reason=choice.reason[:500],
        decided_by=person.name,
    )
    settled, effects = _carry_out(decision, kind, rows, choice)
    decision.effects = asdict(effects)
    decision.save(update_fields=["effects"])
    Conflict.objects.filter(pk__in=[row.pk for row in settled]).update(
        decision=decision, resolved_at=decision.decided_at
    )
    _audit(decision, conflict_pk, kind, effects, person, f"conflict.{choice.action}")
    return decision


def report_study(study: Study, person: Person) -> Conflict:
    """Ask whose the study is; the conflict that asks already where there is one."""
    with transaction.atomic():
        conflict, is_new = Conflict.objects.get_or_create(
            kind=Kind.REPORTED,
            study_instance_uid=study.study_instance_uid,
            resolved_at=None,
            defaults={
                "case_key": case_key(Kind.REPORTED, study.study_instance_uid),
                "reason": "somebody asked whether the study is of this patient",
                "patient": study.patient,
            },
        )
        if is_new:
            record(person.name, "conflict.reported", "conflict", conflict.pk, {"study": study.pk}, person.address)
    return conflict


def _whole(act: Callable[[], Decision]) -> Decision:
    """In one transaction; once more where it gave way to a worker that waited for it."""
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                return act()
        except OperationalError as error:
            if not isinstance(error.__cause__, DeadlockDetected):
                raise
    raise DecisionError("The same study is being changed again and again. Nothing was done: try in a minute.")


def _lock_open(conflict_pk: int, choice: Choice) -> list[Conflict]:
    """The open conflicts of the case, the one that was asked about first; not more than can be done at once."""
    asked = Conflict.objects.get(pk=conflict_pk)
    case = Conflict.objects.select_for_update().open().filter(case_key=asked.case_key).order_by("pk")
    rows = list(case.filter(pk=conflict_pk) if choice.only_this else case)
    if conflict_pk not in {row.pk for row in rows}:
        asked.refresh_from_db()
        raise AlreadyDecidedError(asked.decision)
    if choice.action == Action.REPLACE and not choice.only_this and choice.files not in (None, len(rows)):
        raise DecisionError("More files have come since you opened the page. Look again, then decide.")
    rows.sort(key=lambda row: (row.pk != conflict_pk, row.pk))
    return rows if choice.action == Action.KEEP else rows[:FILES_AT_ONCE]


def _carry_out(
    decision: Decision, kind: Conflict.Kind, rows: list[Conflict], choice: Choice
) -> tuple[list[Conflict], _Effects]:
    if choice.action == Action.KEEP:
        return rows, _Effects()
    if choice.action == Action.REPLACE:
        return rows, _Effects(replaced=_replace(decision, rows))
    if kind in (Kind.PATIENT, Kind.REPORTED):
        return rows, _Effects(moves=_move(_study_of(rows[0]), choice))
    header = header_of(rows[0])
    lock_studies([_study_of(rows[0]).pk])
    study = _study_of(rows[0])
    moves = Moves()
    if choice.action != Action.STORE:
        resolved = resolve_patients([header])
        named = resolved.patients[header.study_instance_uid]
        if choice.target is not None or named != study.patient_id:  # else they are one person by now
            moves = _move(study, choice, named)
        flag_strangers(resolved.strangers)
    accept_sender(decision, study, header)
    settled, stored = store_held(rows)
    return settled, _Effects(moves=moves, stored=stored)


def _replace(decision: Decision, rows: list[Conflict]) -> list[dict[str, Any]]:
    if len({row.sop_instance_uid for row in rows}) < len(rows):
        raise DecisionError("Several files have the same SOP Instance UID. Decide file by file.")
    return [replace_stored(decision, row) for row in rows]


def _study_of(row: Conflict) -> Study:
    """The stored study in question."""
    if row.kind == Kind.SERIES:
        series = Series.objects.select_related("study").filter(series_instance_uid=row.series_instance_uid).first()
        found = series.study if series else None
    else:
        found = Study.objects.filter(study_instance_uid=row.study_instance_uid).first()
    if found is None:
        raise DecisionError("The stored study is gone.")
    return found


def _move(study: Study, choice: Choice, named: int | None = None) -> Moves:
    """named is whom the held files name."""
    target = choice.target if choice.target is not None else named
    if target is None:
        raise DecisionError("Choose a patient.")
    if choice.action == Action.REASSIGN:
        return reassign_study(study.pk, target)
    gone, stays = (study.patient_id, target) if choice.target_stays else (target, study.patient_id)
    return merge_patients(gone, stays)


def _audit(
    decision: Decision, conflict_pk: int, kind: Conflict.Kind, effects: _Effects, person: Person, action: str
) -> None:
    detail: dict[str, Any] = {
        "decision": decision.pk,
        "kind": kind.value,
        "studies": [moved.study for moved in effects.moves.studies],
        "patients": [key for key in (effects.moves.gone, effects.moves.patient) if key],
        "stored": effects.stored,
        "replaced": [one["instance"] for one in effects.replaced],
    }
    record(person.name, action, "conflict", conflict_pk, detail, person.address)


# --- Undoing


def undo(decision_pk: int, person: Person) -> Decision:
    """Take a decision back: its conflicts are open again. Raises DecisionError where something builds on it."""
    return _whole(lambda: _undo(decision_pk, person))


def _undo(decision_pk: int, person: Person) -> Decision:
    decision = Decision.objects.select_for_update().get(pk=decision_pk)
    if decision.undone_at:
        raise DecisionError("This decision has been undone already.")
    effects = _effects_of(decision)
    conflicts = list(decision.conflicts.select_for_update().order_by("pk"))
    _withdraw_acceptance(decision)
    take_out(effects.stored, conflicts)
    for replaced in effects.replaced:
        put_back(Replaced(**replaced))
    take_back(effects.moves)
    decision.conflicts.update(decision=None, resolved_at=None)
    decision.undone_by, decision.undone_at = person.name, timezone.now()
    decision.save(update_fields=["undone_by", "undone_at"])
    _audit(decision, conflicts[0].pk, Kind(conflicts[0].kind), effects, person, "conflict.undo")
    return decision


def _withdraw_acceptance(decision: Decision) -> None:
    """Unless another decision about the same case relies on it."""
    others = Decision.objects.filter(case_key=decision.case_key, undone_at=None).exclude(pk=decision.pk)
    if other := others.exclude(action=Action.KEEP).first():
        decision.accepted_senders.update(decision=other)
    else:
        decision.accepted_senders.all().delete()


def why_not_undone(decision: Decision) -> str:
    """Why a decision cannot be undone, in plain words; empty where it can."""
    effects = _effects_of(decision)
    try:
        check_stored(effects.stored)
        for replaced in effects.replaced:
            check_replaced(Replaced(**replaced))
        check_moves(effects.moves)
    except DecisionError as error:
        return str(error)
    return ""


def _effects_of(decision: Decision) -> _Effects:
    stored = decision.effects
    return _Effects(Moves.of(stored.get("moves", {})), stored.get("stored", []), stored.get("replaced", []))
