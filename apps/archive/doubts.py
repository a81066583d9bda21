"""Doubtful texts at ingest: noted once a study, and read as people decided when more of the study arrives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from django.db import connection

from apps.archive.charsets import charset_named
from apps.archive.header import Header
from apps.archive.holding import Item
from apps.archive.rulebook import current_rules
from apps.archive.upsert import KnownStudy, fetch


def apply_decisions(items: list[Item], known: Mapping[str, KnownStudy]) -> list[Item]:
    """The items, with the texts of doubtful ones as people decided for their study; known is of `known_studies`.

    Asks the database only where a text was in doubt. What people decided counts more than a rule. The rows are held
    until the transaction ends: who repairs a study waits for what is just being stored, and finds it.
    """
    doubtful = {item.header.study_instance_uid for item in items if item.header.texts} & known.keys()
    if not doubtful:
        return items
    decided = _decisions(doubtful)
    return [
        replace(item, header=_read_as_decided(item.header, decided, known)) if item.header.texts else item
        for item in items
    ]


def _decisions(study_uids: Iterable[str]) -> dict[tuple[str, str], str]:
    """(Study Instance UID, label) → the charset that is assumed."""
    rows = fetch(
        "SELECT s.study_instance_uid, d.labelled, d.assumed FROM archive_doubtfultext d"
        " JOIN archive_study s ON s.id = d.study_id WHERE s.study_instance_uid = ANY(%s::text[])"
        " ORDER BY d.id FOR SHARE OF d",
        [sorted(study_uids)],
    )
    return {(uid, labelled): assumed for uid, labelled, assumed in rows if assumed}


def _read_as_decided(header: Header, decided: Mapping[tuple[str, str], str], known: Mapping[str, KnownStudy]) -> Header:
    """A Patient ID that was left as labelled (`DoubtfulText.Problem`) is still recognised as that."""
    texts, study_uid = header.texts, header.study_instance_uid
    assumed = decided.get((study_uid, texts.shown_label)) if texts else None
    if not texts or not assumed:
        return header
    changes: dict[str, Any] = {**texts.read(charset_named(assumed)), "doubt": None, "texts": None}
    if (header.issuer, header.patient_id) == known[study_uid][:2]:
        return replace(header, **changes | {"issuer": header.issuer, "patient_id": header.patient_id})
    return current_rules().coerced(replace(header, **changes, sent_as=None, coerced_by=()))


def note_doubts(headers: Iterable[Header], series: Mapping[str, tuple[int, int]]) -> None:
    """Note the studies of stored files whose texts are in doubt; series is of `upsert_series`.

    A study that is noted already keeps what is known of it, and what people decided.
    """
    first: dict[int, Header] = {}
    for header in headers:
        if header.doubt:
            first.setdefault(series[header.series_instance_uid][1], header)
    if not first:
        return
    studies = sorted(first)
    columns: list[Any] = [
        studies,
        [first[study].calling_ae_title for study in studies],
        [texts.shown_label if (texts := first[study].texts) else "" for study in studies],
        [doubt.value if (doubt := first[study].doubt) else "" for study in studies],
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO archive_doubtfultext (study_id, calling_ae_title, labelled, reason, state, assumed, previous,"
            " problem, found_at) SELECT t.*, 'open', '', '', '', now()"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[]) AS t ORDER BY 1"
            " ON CONFLICT (study_id) DO NOTHING",
            columns,
        )
