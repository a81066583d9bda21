"""What a coercion rule would make of the studies that its sender sent last: read from stored files, changing nothing.

Patient IDs and names are shown of studies that the user may see; of others they are covered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from apps.archive.charset_doubts import Doubt
from apps.archive.coercion import Identity, Rule
from apps.archive.header import Header, UnreadableError, peek_header
from apps.archive.models import CoercionRule, Instance, Patient, Series, Study
from apps.archive.names import format_person_name
from apps.archive.rulebook import RuleBook
from apps.archive.upsert import KnownPatient, is_another_person, person_of

if TYPE_CHECKING:
    from apps.accounts.models import User

STUDIES = 50
COVER = "••••••"
QUESTIONS = {"issuer_action": "the issuer", "patient_id_prefix": "the prefix", "character_set": "the character set"}


@dataclass(frozen=True)
class Told:
    """What the database is told of a person; empty where nothing is said."""

    issuer: str
    patient_id: str
    name: str


@dataclass(frozen=True)
class Line:
    """One study as the other rules have it and as it would be with this one, and what to look at."""

    study: Study
    before: Told
    after: Told
    warnings: tuple[str, ...]

    @property
    def is_changed(self) -> bool:
        """Whether the rule makes a difference."""
        return self.before != self.after


@dataclass(frozen=True)
class DryRun:
    """What came of it. Patients are counted by issuer and Patient ID."""

    lines: tuple[Line, ...]
    changed_count: int
    patients_before: int
    patients_after: int
    separated_count: int
    joined_count: int
    stranger_count: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Trial:
    """One stored file, read twice."""

    study: Study
    before: Header
    after: Header

    @property
    def stored(self) -> Identity:
        return self.study.patient.issuer, self.study.patient.patient_id

    @property
    def identity(self) -> Identity:
        return self.after.issuer, self.after.patient_id


def dry_run(rule: CoercionRule, user: User, limit: int = STUDIES) -> DryRun:
    """Try the rule, which need not be saved or in use, on the newest `limit` studies of its sender."""
    others = list(CoercionRule.objects.filter(is_active=True).exclude(pk=rule.pk))
    together = sorted([*others, rule], key=lambda row: (row.position, row.pk or float("inf")))
    without, with_rule = _book(row for row in together if row is not rule), _book(together)
    files = _newest_files(rule.calling_ae_title, limit)
    trials = [trial for file in files if (trial := _try(file, without, with_rule))]
    known = _known(trials)
    visible = set(
        Study.objects.visible_to(user).filter(pk__in=[t.study.pk for t in trials]).values_list("pk", flat=True)
    )
    lines = tuple(_line(trial, known, trial.study.pk in visible) for trial in trials)
    moved = {trial.study.patient_id: trial.identity for trial in trials if _moves(trial)}
    return DryRun(
        lines=lines,
        changed_count=sum(line.is_changed for line in lines),
        patients_before=len({(t.before.issuer, t.before.patient_id) for t in trials if t.before.patient_id}),
        patients_after=_after_count(trials, known),
        separated_count=sum(identity not in known.stored for identity in moved.values()),
        joined_count=_joined_count(trials, known),
        stranger_count=sum(map(known.is_stranger, trials)),
        notes=tuple(_notes(rule, together, trials, len(files), len(visible))),
    )


def _book(rows: Iterable[CoercionRule]) -> RuleBook:
    return RuleBook(tuple(row.as_rule() for row in rows), {})


def _newest_files(calling_ae_title: str, limit: int) -> list[Instance]:
    """One instance of each of the newest studies, of a series that this AE began."""
    series = Series.objects.filter(calling_ae_title=calling_ae_title) if calling_ae_title else Series.objects.all()
    studies = list(series.order_by("-study_id").values_list("study_id", flat=True).distinct()[:limit])
    first = list(series.filter(study__in=studies).order_by("study_id", "id").distinct("study_id"))
    rows = Instance.objects.filter(series__in=first).order_by("series_id", "id").distinct("series_id")
    return sorted(
        rows.select_related("series__study__patient", "volume"), key=lambda row: row.series.study_id, reverse=True
    )


def _try(file: Instance, without: RuleBook, with_rule: RuleBook) -> _Trial | None:
    try:
        header = peek_header(file.path)
        return _Trial(file.series.study, without.coerced(header), with_rule.coerced(header))
    except (OSError, UnreadableError):
        return None


# --- Patients


@dataclass(frozen=True)
class _Known:
    """Whose the identities are that the studies would have: `stored` ones, and of those the first study to come."""

    stored: frozenset[Identity]
    persons: dict[Identity, KnownPatient]

    def is_stranger(self, trial: _Trial) -> bool:
        """Whether somebody else has the new identity: ingest would make a patient for that study alone."""
        if trial.before == trial.after or not trial.after.patient_id or trial.study.patient.only_study_uid:
            return False
        return is_another_person(trial.after, self.persons[trial.identity].identity)


def _known(trials: Sequence[_Trial]) -> _Known:
    wanted = {trial.identity for trial in trials if trial.after.patient_id}
    rows = Patient.objects.filter(
        only_study_uid="", issuer__in={issuer for issuer, _ in wanted}, patient_id__in={key for _, key in wanted}
    )
    stored = {(row.issuer, row.patient_id): _stored_person(row) for row in rows}
    first = {trial.identity: _person_of(trial) for trial in trials}  # the oldest comes last and stays
    return _Known(frozenset(stored), first | stored)


def _stored_person(patient: Patient) -> KnownPatient:
    return KnownPatient(patient.pk, patient.merged_into_id or patient.pk, patient.identity)


def _person_of(trial: _Trial) -> KnownPatient:
    return KnownPatient(trial.study.patient_id, trial.study.patient_id, person_of(trial.after))


def _moves(trial: _Trial) -> bool:
    """Whether the next study of this patient would come under another identity than what is stored."""
    return bool(trial.after.patient_id) and trial.identity != trial.stored


def _after_count(trials: Sequence[_Trial], known: _Known) -> int:
    """Patients that ingest would make of these studies."""
    keys = {(t.identity, t.study.pk if known.is_stranger(t) else None) for t in trials if t.after.patient_id}
    return len(keys)


def _joined_count(trials: Sequence[_Trial], known: _Known) -> int:
    """Identities under which the next studies of several stored patients would come."""
    patients = {identity: {known.persons[identity].pk} for identity in known.stored}
    for trial in trials:
        if trial.after.patient_id and not known.is_stranger(trial):
            patients.setdefault(trial.identity, set()).add(trial.study.patient_id)
    moved_to = {trial.identity for trial in trials if _moves(trial)}
    return sum(len(keys) > 1 for identity, keys in patients.items() if identity in moved_to)


# --- Words


def _line(trial: _Trial, known: _Known, is_visible: bool) -> Line:
    before, after = _told(trial.before), _told(trial.after)
    warnings = []
    if known.is_stranger(trial):
        warnings.append("somebody else is known under this identity")
    elif _moves(trial):
        warnings.append(
            "joins a known patient" if trial.identity in known.stored else "a new patient beside the stored one"
        )
    if before.patient_id != after.patient_id and len(after.patient_id) == 64 and "~" in after.patient_id:
        warnings.append("too long, so its end becomes a digest")
    if "�" in after.name:
        warnings.append("not every letter can be read so")
    if not is_visible:
        before, after = _covered(before, before), _covered(before, after)
    return Line(trial.study, before, after, tuple(warnings))


def _told(header: Header) -> Told:
    return Told(header.issuer, header.patient_id, format_person_name(header.patient_name))


def _covered(before: Told, told: Told) -> Told:
    """With what describes the person covered, so that one still sees what changes."""
    prefix = told.patient_id.removesuffix(before.patient_id) if told.patient_id != before.patient_id else ""
    name = "other letters" if told.name != before.name else COVER
    return Told(told.issuer, prefix + COVER if told.patient_id else "", name if told.name else "")


def _notes(
    rule: CoercionRule, rules: Sequence[CoercionRule], trials: Sequence[_Trial], files: int, visible: int
) -> Iterable[str]:
    if not rule.is_active:
        yield "The rule is not in use. This is what it would do."
    if files > len(trials):
        yield f"{_studies(files - len(trials))} could not be read: the file is missing or damaged."
    acting = rule.as_rule()
    for answer, what in QUESTIONS.items():
        if getattr(rule, answer):
            yield from _decided_before(answer, what, rule, rules, trials)
    yield from _untouched(acting, trials)
    if visible < len(trials):
        yield "Your roles do not include all of these studies: Patient IDs and names are covered."


def _decided_before(
    answer: str, what: str, rule: CoercionRule, rules: Sequence[CoercionRule], trials: Sequence[_Trial]
) -> Iterable[str]:
    """Rules that come first and answer the same question for some of the studies."""
    for earlier in rules[: rules.index(rule)]:
        if not getattr(earlier, answer):
            continue
        count = sum(earlier.as_rule().is_for(trial.before.calling_ae_title) for trial in trials)
        if count:
            yield f"For {_studies(count)} “{earlier.name}” decides about {what}, because it comes first."


def _untouched(rule: Rule, trials: Sequence[_Trial]) -> Iterable[str]:
    """Why what the rule says does not concern some of the studies."""
    sent = [trial.before.sent_as or (trial.before.issuer, trial.before.patient_id) for trial in trials]
    nameless = sum(not patient_id for _, patient_id in sent)
    if nameless and (rule.issuer_action or rule.patient_id_prefix):
        yield f"{_studies(nameless)} without a Patient ID: they stay as they are."
    issued = sum(bool(issuer and patient_id) for issuer, patient_id in sent)
    if issued and rule.issuer_action == CoercionRule.IssuerAction.ADD:
        yield f"{_studies(issued)} with an issuer of their own, which stays."
    begun = sum(patient_id.startswith(rule.patient_id_prefix) for _, patient_id in sent)
    if begun and rule.patient_id_prefix:
        yield f"{_studies(begun)} whose Patient ID begins with {rule.patient_id_prefix} already."
    labelled = sum(trial.before.doubt is not Doubt.MISSING for trial in trials)
    if labelled and rule.character_set:
        yield f"{_studies(labelled)} that say their character set, or have only ASCII letters."


def _studies(count: int) -> str:
    return f"{count} stud{'y' if count == 1 else 'ies'}"
