"""How much came from whom, and what was refused: the numbers behind the administration's traffic pages."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from apps.nodes.models import RefusalMinute, RemoteNode
from apps.nodes.titles import bare

CALLERS_MAX = 300
_REFUSED = {  # what we answer to C-STORE (PS3.4 B.2.3, PS3.7 Annex C)
    range(0xA700, 0xA800): "out of resources, the disk is nearly full or too much waits",
    range(0xA900, 0xAA00): "the data set is not the one that the request names",
    range(0xC000, 0xD000): "the request was not understood",
    range(0x0110, 0x0111): "processing failed",
    range(0x0117, 0x0118): "the SOP Instance UID is not valid",
    range(0x0122, 0x0123): "this kind of object is not taken",
    range(0x0124, 0x0125): "not authorised",
    range(0x0210, 0x0213): "the request was not understood",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time up to now, in bars of equal length."""

    key: str
    title: str
    bars: int
    bar: timedelta

    @property
    def bar_s(self) -> int:
        """How long one bar is."""
        return self.bar // timedelta(seconds=1)

    @property
    def bar_title(self) -> str:
        """The same for people."""
        minutes = self.bar_s // 60
        return "minute" if minutes == 1 else f"{minutes} minutes"


HOUR = Span("hour", "last hour", 60, timedelta(minutes=1))
DAY = Span("day", "last day", 96, timedelta(minutes=15))
SPANS = {span.key: span for span in (HOUR, DAY)}


@dataclass(frozen=True, slots=True)
class Bar:
    """What happened within one bar of a span."""

    start: datetime
    associations: int = 0
    instances: int = 0
    size_bytes: int = 0
    rejections: int = 0
    refusals: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing happened."""
        return not (self.associations or self.instances or self.size_bytes or self.rejections or self.refusals)


@dataclass(slots=True)
class CallerTraffic:
    """One calling AE title over a span, oldest bar first; an empty title stands for callers that are no nodes."""

    ae_title: str
    node_names: list[str]
    bars: list[Bar]
    last_seen_at: datetime | None = None
    last_address: str = ""
    reasons: list[tuple[str, int]] = field(default_factory=list)

    @property
    def total(self) -> Bar:
        """All bars together."""
        names = ("associations", "instances", "size_bytes", "rejections", "refusals")
        return Bar(self.bars[0].start, **{name: sum(getattr(bar, name) for bar in self.bars) for name in names})


def traffic_of_all(span: Span) -> list[CallerTraffic]:
    """Every active node, and who else was there within the span; the busiest first."""
    start = _start(span)
    names = _node_names()
    bars = _bars(span, start)
    callers = [_caller(title, names, bars, span, start) for title in {*names, *bars}]
    _add_last_seen(callers)
    callers.sort(key=lambda caller: (-caller.total.size_bytes, -caller.total.associations, caller.ae_title))
    return callers[:CALLERS_MAX]


def traffic_of(ae_title: str, span: Span) -> CallerTraffic:
    """One calling AE title, with the reasons of what was rejected or refused."""
    start, title = _start(span), bare(ae_title)
    caller = _caller(title, _node_names(), _bars(span, start, title), span, start)
    _add_last_seen([caller])
    caller.reasons = _reasons(title, start)
    return caller


def _start(span: Span) -> datetime:
    """Of the oldest bar; the newest one holds the present."""
    newest = int(timezone.now().timestamp()) // span.bar_s * span.bar_s
    return datetime.fromtimestamp(newest, UTC) - span.bar * (span.bars - 1)


def _node_names() -> dict[str, list[str]]:
    names = defaultdict(list)
    for title, name in RemoteNode.objects.filter(is_active=True).order_by("name").values_list("ae_title", "name"):
        names[bare(title)].append(name)
    return dict(names)


def _caller(
    title: str, names: dict[str, list[str]], bars: dict[str, dict[datetime, Bar]], span: Span, start: datetime
) -> CallerTraffic:
    known = bars.get(title, {})
    starts = [start + number * span.bar for number in range(span.bars)]
    return CallerTraffic(title, names.get(title, []), [known.get(each) or Bar(each) for each in starts])


def _bars(span: Span, start: datetime, title: str | None = None) -> dict[str, dict[datetime, Bar]]:
    """By AE title and start; of one title, or of all."""
    found: defaultdict[str, dict[datetime, Bar]] = defaultdict(dict)
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT calling_ae_title, date_bin(%s::int * interval '1 second', minute, 'epoch'::timestamptz) AS bar,
                   sum(associations)::bigint, sum(instances)::bigint, sum(size_bytes)::bigint,
                   sum(rejections)::bigint, sum(refusals)::bigint
            FROM nodes_trafficminute
            WHERE minute >= %s::timestamptz AND (%s::text IS NULL OR calling_ae_title = %s::text)
            GROUP BY calling_ae_title, bar
            """,
            [span.bar_s, start, title, title],
        )
        for caller, bar, *counts in cursor.fetchall():
            found[caller][bar.astimezone(UTC)] = Bar(bar.astimezone(UTC), *counts)
    return found


def _add_last_seen(callers: Iterable[CallerTraffic]) -> None:
    """When each last had an association, however long ago: one look into the index for each."""
    by_title = {caller.ae_title: caller for caller in callers}
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT title, seen.minute, seen.address FROM unnest(%s::text[]) AS title CROSS JOIN LATERAL (
                SELECT minute, address FROM nodes_trafficminute
                WHERE calling_ae_title = title COLLATE "C" AND associations + instances > 0
                ORDER BY minute DESC LIMIT 1
            ) AS seen
            """,
            [list(by_title)],
        )
        for title, minute, address in cursor.fetchall():
            by_title[title].last_seen_at, by_title[title].last_address = minute, address


def _reasons(title: str, start: datetime) -> list[tuple[str, int]]:
    rows = RefusalMinute.objects.filter(calling_ae_title=title, minute__gte=start)
    counted = rows.values_list("dimse_status", "reason").annotate(total=Sum("count")).order_by("-total")
    return [(_in_words(status, reason), total) for status, reason, total in counted]


def _in_words(dimse_status: int, reason: str) -> str:
    if reason:
        return f"Association rejected: {reason}"
    meaning = next((words for statuses, words in _REFUSED.items() if dimse_status in statuses), "failed")
    return f"C-STORE refused with 0x{dimse_status:04X}: {meaning}"
