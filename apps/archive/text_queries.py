"""What the text repair pages show: groups of studies in doubt, candidates, and names as each would show them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db.models import Count, Max, Min, Q, QuerySet

from apps.archive.charset_doubts import RawText
from apps.archive.charset_guesses import CANDIDATES, Candidate, guess_charsets
from apps.archive.charsets import charset_named
from apps.archive.header import UnreadableError, read_texts
from apps.archive.models import DoubtfulText, Instance, Series, Study
from apps.archive.names import format_person_name
from apps.archive.texts import FileTexts

if TYPE_CHECKING:
    from datetime import datetime

    from apps.accounts.models import User

State = DoubtfulText.State
SAMPLE = 20  # studies that candidates are tried on
EXAMPLES = 3
CANDIDATES_MAX = 5
GROUPS_MAX = 200
RECENT_SERIES = 10
LONGEST_BYTES = 512  # a longer text is no name, and trying it in every character set takes long


@dataclass(frozen=True)
class Group:
    """Studies of one sender whose files name the same character set. `pk` is that of one of its rows."""

    pk: int
    calling_ae_title: str
    labelled: str
    reasons: tuple[str, ...] = ()
    open_count: int = 0
    repaired_count: int = 0
    right_count: int = 0
    waiting_count: int = 0
    newest: datetime | None = None

    def count(self, state: str) -> int:
        """Its studies in this state."""
        counts = {State.OPEN: self.open_count, State.REPAIRED: self.repaired_count, State.RIGHT: self.right_count}
        return counts[State(state)]

    @property
    def first_state(self) -> str:
        """The first one that has studies."""
        return next((state for state in State.values if self.count(state)), State.OPEN)


def visible_doubts(user: User) -> QuerySet[DoubtfulText]:
    """Those of studies that the user may see."""
    return DoubtfulText.objects.filter(study__in=Study.objects.visible_to(user))


def count_open(user: User) -> int:
    """How many studies are to be decided."""
    return visible_doubts(user).filter(state=State.OPEN).count()


def list_groups(user: User) -> list[Group]:
    """Every group, those with open studies first, the newest first."""
    rows = list(_grouped(visible_doubts(user)).order_by("-opened", "-newest")[:GROUPS_MAX])
    return [_group(row) for row in rows]


def find_group(user: User, pk: int) -> Group:
    """The group of this row. Raises DoubtfulText.DoesNotExist where there is none, or none for this user."""
    row = visible_doubts(user).get(pk=pk)
    return _group(_grouped(doubts_of_group(user, row)).get())


def doubts_of_group(user: User, group: Group | DoubtfulText) -> QuerySet[DoubtfulText]:
    """The rows of a group that the user may see."""
    return visible_doubts(user).filter(calling_ae_title=group.calling_ae_title, labelled=group.labelled)


def progress_of(keys: Sequence[int]) -> tuple[int, dict[str, int]]:
    """How many of these rows still wait for what was decided, and what was left in others, in words."""
    rows = DoubtfulText.objects.filter(pk__in=keys)
    left = rows.filter(wanted=None).exclude(problem="").values_list("problem").annotate(count=Count("pk"))
    words = {str(DoubtfulText.Problem(problem).label): count for problem, count in left.order_by("problem")}
    return rows.filter(wanted__isnull=False).count(), words


def _grouped(doubts: QuerySet[DoubtfulText]) -> Any:
    return doubts.values("calling_ae_title", "labelled").annotate(
        first=Min("pk"),
        newest=Max("found_at"),
        opened=Count("pk", filter=Q(state=State.OPEN)),
        repaired=Count("pk", filter=Q(state=State.REPAIRED)),
        right=Count("pk", filter=Q(state=State.RIGHT)),
        waiting=Count("wanted"),
        **{f"is_{reason.value}": Count("pk", filter=Q(reason=reason)) for reason in DoubtfulText.Reason},
    )


def _group(row: dict[str, Any]) -> Group:
    return Group(
        row["first"],
        row["calling_ae_title"],
        row["labelled"],
        tuple(str(reason.label) for reason in DoubtfulText.Reason if row[f"is_{reason.value}"]),
        row["opened"],
        row["repaired"],
        row["right"],
        row["waiting"],
        row["newest"],
    )


# --- Candidates


@dataclass(frozen=True)
class Preview:
    """A candidate with names as it shows them."""

    candidate: Candidate
    names: tuple[str, ...]


def preview_candidates(user: User, group: Group) -> list[Preview]:
    """The likeliest character sets for the studies that are to be decided, tried on the newest ones."""
    doubts = doubts_of_group(user, group)
    sample = doubts.filter(state=State.OPEN) if group.open_count else doubts
    files = list(_files_of(sample.order_by("-pk")[:SAMPLE]).values())
    texts = _foreign(files)
    candidates = guess_charsets(texts, used_by_sender(group.calling_ae_title))[:CANDIDATES_MAX]
    return [Preview(candidate, _examples(files, candidate.label)) for candidate in candidates]


def used_by_sender(calling_ae_title: str) -> dict[str, int]:
    """How often other studies of this sender are in each character set: as people chose, and as labelled lately."""
    chosen = DoubtfulText.objects.filter(calling_ae_title=calling_ae_title, state=State.REPAIRED)
    used = Counter(dict(chosen.values_list("assumed").annotate(count=Count("pk"))))
    used.update(_rightly_labelled(calling_ae_title))
    return {label: count for label, count in used.items() if label in CANDIDATES}


def _rightly_labelled(calling_ae_title: str) -> Iterator[str]:
    """The labels of its newest series that are not in doubt and that matter for their texts."""
    newest = Series.objects.filter(calling_ae_title=calling_ae_title).exclude(
        study__in=DoubtfulText.objects.values("study")
    )
    for series in newest.order_by("-study")[:RECENT_SERIES]:
        instance = (
            Instance.objects.filter(series=series).select_related("series__study", "volume").order_by("pk").first()
        )
        texts = _texts_of(instance) if instance else None
        if texts and not texts.is_plain:
            yield texts.shown_label


def _texts_of(instance: Instance) -> FileTexts | None:
    try:
        return read_texts(instance.path)
    except (OSError, UnreadableError):
        return None


def _foreign(files: Iterable[FileTexts]) -> list[RawText]:
    """Each text once: the name of an institution must not outweigh those of persons."""
    return list(dict.fromkeys(text for file in files for text in file.foreign() if len(text.raw) <= LONGEST_BYTES))


def _examples(files: Iterable[FileTexts], label: str) -> tuple[str, ...]:
    """Names first, because they are what people know; other texts where no name is in doubt."""
    found: dict[str, None] = {}
    for names_only in (True, False):
        for file in files:
            texts = file.read(charset_named(label))
            names = ("patient_name",) if names_only else ("referring_physician", "institution", "study_description")
            shown = (format_person_name(texts[name]) for name in names if not file.raw[name].isascii())
            found |= dict.fromkeys(text for text in shown if text)
    return tuple(found)[:EXAMPLES]


# --- Studies of a group


@dataclass(frozen=True)
class Line:
    """One study: its texts as they are in the database, and as `label` would show them (empty where no file tells)."""

    doubt: DoubtfulText
    now: dict[str, str]
    then: dict[str, str] = field(default_factory=dict)


def preview_studies(doubts: Sequence[DoubtfulText], label: str) -> list[Line]:
    """Lines for a page of rows that were selected with `study__patient`; reads one stored file each."""
    files = _files_of(doubts) if label else {}
    return [Line(doubt, _texts_now(doubt), _texts_then(files.get(doubt.study_id), label)) for doubt in doubts]


def _texts_now(doubt: DoubtfulText) -> dict[str, str]:
    study = doubt.study
    return {
        "name": study.patient.display_name,
        "patient_id": study.patient.patient_id,
        "description": study.description,
        "referring_physician": format_person_name(study.referring_physician),
    }


def _texts_then(file: FileTexts | None, label: str) -> dict[str, str]:
    if file is None:
        return {}
    texts = file.read(charset_named(label))
    return {
        "name": format_person_name(texts["patient_name"]),
        "patient_id": texts["patient_id"],
        "description": texts["study_description"],
        "referring_physician": format_person_name(texts["referring_physician"]),
    }


def _files_of(doubts: Iterable[DoubtfulText]) -> dict[int, FileTexts]:
    """Study → the texts of a stored file that has the label in doubt, where one can be read."""
    wanted = {doubt.study_id: doubt.labelled for doubt in doubts}
    found: dict[int, FileTexts] = {}
    for instance in _first_of_each_series(wanted):
        study = instance.series.study_id
        texts = _texts_of(instance) if study not in found else None
        if texts and texts.shown_label == wanted[study] and not texts.is_plain:
            found[study] = texts
    return found


def _first_of_each_series(studies: Iterable[int]) -> Iterable[Instance]:
    """Study by study, the first stored instance of each of its series."""
    firsts = Instance.objects.filter(series__study__in=list(studies)).order_by("series_id", "pk").distinct("series_id")
    by_study: defaultdict[int, list[Instance]] = defaultdict(list)
    for instance in firsts.select_related("series__study", "volume"):
        by_study[instance.series.study_id].append(instance)
    return (instance for instances in by_study.values() for instance in instances)
