"""The receiver's journal into tables, each file exactly once, however often and by how many this is run.

The file's name and its counts are committed together; only then the file is removed. A name that is in the table
already was counted by a run that was killed before it could remove the file.
"""

import fcntl
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from apps.core.leader import lock_key
from apps.nodes.journal_lines import COMPLETE, NEW, OPEN, Rejections, Traffic, read_line
from apps.nodes.models import FoldedFile, RefusalMinute, RejectedCaller, RemoteNode, TrafficMinute
from apps.nodes.titles import bare

logger = logging.getLogger(__name__)

FILES_MAX = 500  # a run; the next one goes on
NEW_AGE_MAX_S = 60.0
FOLDED_KEPT = timedelta(days=7)
REJECTED_MAX, REJECTED_BY_ADDRESS_MAX = 2000, 50
OTHERS = "others, which are no longer listed one by one"
_COUNTED = ("associations", "instances", "size_bytes", "rejections", "refusals")
STRANGERS = ""  # the title under which the traffic of callers that are no nodes is counted

_REJECTED = """
    INSERT INTO nodes_rejectedcaller AS r
        (calling_ae_title, called_ae_title, address, is_tls, reason, first_seen_at, last_seen_at, count)
    SELECT * FROM unnest(
        %s::text[], %s::text[], %s::text[], %s::bool[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::bigint[])
    ON CONFLICT (calling_ae_title, called_ae_title, address, is_tls, reason) DO UPDATE SET
        first_seen_at = least(r.first_seen_at, EXCLUDED.first_seen_at),
        last_seen_at = greatest(r.last_seen_at, EXCLUDED.last_seen_at),
        count = r.count + EXCLUDED.count
"""


def journal_folder() -> Path:
    """Where the receiver's processes write."""
    return Path(settings.DATA_DIR) / "journal"


def fold_journal(folder: Path) -> int:
    """Count the complete files and those of processes that died; returns how many. Not for use in a transaction."""
    folded = 0
    for path in _files(folder)[:FILES_MAX]:
        try:
            with _nobody_writes(path) as is_free:
                if is_free:
                    folded += _fold(path)
                    path.unlink(missing_ok=True)
        except FileNotFoundError:  # another run was faster
            continue
        except OSError as error:
            logger.warning("journal file %s is left for later: %s", path.name, error.strerror)
    return folded


def prune_traffic(folder: Path) -> None:
    """Remove what is older than the setting says, and the names of files that are long gone."""
    oldest = timezone.now() - timedelta(days=settings.TRAFFIC_DAYS)
    TrafficMinute.objects.filter(minute__lt=oldest).delete()
    RefusalMinute.objects.filter(minute__lt=oldest).delete()
    RejectedCaller.objects.filter(last_seen_at__lt=oldest).delete()
    present = [path.stem for path in _files(folder)]
    FoldedFile.objects.filter(folded_at__lt=timezone.now() - FOLDED_KEPT).exclude(name__in=present).delete()


def _files(folder: Path) -> list[Path]:
    """What may be due, oldest first; an empty file whose writer died before it had a name is removed."""
    if not folder.is_dir():
        return []
    for begun in folder.glob(f"*{NEW}"):
        with suppress(FileNotFoundError):
            if time.time() - begun.stat().st_mtime > NEW_AGE_MAX_S:
                begun.unlink()
    return sorted(path for path in folder.iterdir() if path.suffix in (OPEN, COMPLETE))


@contextmanager
def _nobody_writes(path: Path) -> Iterator[bool]:
    """Whether the writer of this file is done with it, or gone: its lock is free."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


@dataclass
class _Sums:
    """What one file adds to the tables."""

    traffic: defaultdict[tuple[str, int], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    addresses: dict[tuple[str, int], str] = field(default_factory=dict)
    refusals: Counter[tuple[str, int, int, str]] = field(default_factory=Counter)
    rejected: defaultdict[tuple[str, str, str, bool, str], list[tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def add_traffic(self, event: Traffic) -> None:
        key = (event.calling_ae_title, event.minute)
        self.traffic[key] += Counter(
            associations=event.associations,
            instances=event.instances,
            size_bytes=event.size_bytes,
            refusals=sum(event.refused.values()),
        )
        if event.address:
            self.addresses[key] = event.address
        for status, count in event.refused.items():
            self.refusals[(*key, status, "")] += count

    def add_rejections(self, event: Rejections, known_titles: frozenset[str]) -> None:
        title = event.calling_ae_title if event.calling_ae_title in known_titles else STRANGERS
        minute = event.at // 60
        self.traffic[title, minute]["rejections"] += event.count
        self.refusals[title, minute, 0, event.words] += event.count
        caller = (event.calling_ae_title, event.called_ae_title, event.address, event.is_tls, event.words)
        self.rejected[caller].append((event.at, event.count))


def _fold(path: Path) -> int:
    sums = _read(path)
    with transaction.atomic():
        if not _is_first(path.stem):
            return 0
        _add_traffic(sums)
        _add_refusals(sums)
        _add_rejected(sums)
    return 1


def _is_first(name: str) -> bool:
    """Two runs at once: the second waits here for the first one's commit."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s::bigint)", [lock_key("fold_journal")])
        cursor.execute(
            "INSERT INTO nodes_foldedfile (name, folded_at) VALUES (%s, now()) ON CONFLICT DO NOTHING", [name]
        )
        return bool(cursor.rowcount)


def _read(path: Path) -> _Sums:
    sums, unread = _Sums(), 0
    known_titles = frozenset(map(bare, RemoteNode.objects.values_list("ae_title", flat=True))) | {settings.AE_TITLE}
    *lines, _torn = path.read_bytes().split(b"\n")  # what has no end was being written when its process died
    for line in lines:
        try:
            event = read_line(line)
        except ValueError:
            unread += 1
            continue
        if isinstance(event, Traffic):
            sums.add_traffic(event)
        else:
            sums.add_rejections(event, known_titles)
    if unread:
        logger.warning("journal file %s has %d lines that are none", path.name, unread)
    return sums


def _add_traffic(sums: _Sums) -> None:
    rows = [
        (title, _time(minute * 60), sums.addresses.get((title, minute), ""), *(counts[name] for name in _COUNTED))
        for (title, minute), counts in sums.traffic.items()
    ]
    _upsert(
        f"""
        INSERT INTO nodes_trafficminute AS t (calling_ae_title, minute, address, {", ".join(_COUNTED)})
        SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::text[], {", ".join(["%s::bigint[]"] * len(_COUNTED))})
        ON CONFLICT (calling_ae_title, minute) DO UPDATE SET
            address = coalesce(nullif(EXCLUDED.address, ''), t.address),
            {", ".join(f"{name} = t.{name} + EXCLUDED.{name}" for name in _COUNTED)}
        """,  # noqa: S608  names of this module only
        rows,
    )


def _add_refusals(sums: _Sums) -> None:
    rows = [
        (title, _time(minute * 60), status, reason, count)
        for (title, minute, status, reason), count in sums.refusals.items()
    ]
    _upsert(
        """
        INSERT INTO nodes_refusalminute AS t (calling_ae_title, minute, dimse_status, reason, count)
        SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::int[], %s::text[], %s::bigint[])
        ON CONFLICT (calling_ae_title, minute, dimse_status, reason) DO UPDATE SET count = t.count + EXCLUDED.count
        """,
        rows,
    )


def _add_rejected(sums: _Sums) -> None:
    rows = [
        (*caller, _time(min(at for at, _ in seen)), _time(max(at for at, _ in seen)), sum(count for _, count in seen))
        for caller, seen in sums.rejected.items()
    ]
    if rows:
        _upsert(_REJECTED, rows)
        _fold_away_oldest()


def _fold_away_oldest() -> None:
    """Keep the newest of each address and of all, so that one scanner cannot push out everybody else."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            WITH ranked AS (
                SELECT id, row_number() OVER (PARTITION BY address ORDER BY last_seen_at DESC, id DESC) AS of_address
                FROM nodes_rejectedcaller WHERE reason <> %s
            ), kept AS (
                SELECT id FROM ranked JOIN nodes_rejectedcaller USING (id) WHERE of_address <= %s
                ORDER BY last_seen_at DESC, id DESC LIMIT %s
            ), gone AS (
                DELETE FROM nodes_rejectedcaller
                WHERE reason <> %s AND id NOT IN (SELECT id FROM kept)
                RETURNING first_seen_at, last_seen_at, count
            )
            SELECT min(first_seen_at), max(last_seen_at), sum(count)::bigint FROM gone
            """,
            [OTHERS, REJECTED_BY_ADDRESS_MAX, REJECTED_MAX, OTHERS],
        )
        first, last, count = cursor.fetchone()
    if count:
        _upsert(_REJECTED, [("", "", "", False, OTHERS, first, last, count)])


def _upsert(statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    columns = [list(column) for column in zip(*rows, strict=True)]
    if columns:
        with connection.cursor() as cursor:
            cursor.execute(statement, columns)


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
