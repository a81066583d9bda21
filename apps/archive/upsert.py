"""The set-based statements of ingest: one round trip a table, whatever the size of the batch.

Every statement takes its rows sorted by key and leaves existing rows as they are, so that workers who store into the
same study wait for each other and never deadlock.
"""

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connection, transaction

from apps.archive.header import Header
from apps.archive.names import search_key

logger = logging.getLogger(__name__)

_NOT_BY_ITSELF = 1 << 62  # uses of a statement before psycopg prepares it without being asked

PatientKey = tuple[str, str, str]  # issuer, Patient ID, Study UID where there is no Patient ID
HomeKey = tuple[str, str, str, str]  # Series UID, Study UID, issuer, Patient ID


def patient_key(header: Header) -> PatientKey:
    """Who the data set says it is of; without a Patient ID a patient of its own for the study."""
    if header.patient_id:
        return header.issuer, header.patient_id, ""
    return "", "", header.study_instance_uid


def home_key(header: Header) -> HomeKey:
    """Where the data set says it belongs."""
    return header.series_instance_uid, header.study_instance_uid, *patient_key(header)[:2]


def fetch(statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All rows of one statement, if it has any.

    The server plans it a few times for each connection and then no more: every batch asks the same.
    """
    with connection.cursor() as cursor, connection.wrap_database_errors:
        server = cursor.cursor.connection
        if server.prepare_threshold is None:  # Django's default: nothing is prepared, not even when asked for
            server.prepare_threshold = _NOT_BY_ITSELF
        cursor.cursor.execute(statement, parameters, prepare=True)
        return cursor.fetchall() if cursor.description else []


class KnownStudy(NamedTuple):
    """A stored study: whose it is, and the coercion rules that made it so."""

    issuer: str
    patient_id: str
    patient_pk: int
    coerced_by: dict[str, int]


@dataclass(frozen=True, slots=True)
class KnownPatient:
    """What tells one person from another."""

    pk: int
    name_search: str
    birth_date: date | None


def is_another_person(header: Header, known: KnownPatient) -> bool:
    """Whether the header clearly speaks of somebody else under the same Patient ID.

    Two birth dates decide; without both, names that have no word in common do.
    """
    if header.birth_date and known.birth_date:
        return header.birth_date != known.birth_date
    words, known_words = set(search_key(header.patient_name).split()), set(known.name_search.split())
    return bool(words and known_words and not words & known_words)


def known_uids(sop_uids: Iterable[str]) -> set[str]:
    """Those of the SOP Instance UIDs that are stored."""
    rows = fetch(
        "SELECT sop_instance_uid FROM archive_instance WHERE sop_instance_uid = ANY(%s::text[])",
        [sorted(set(sop_uids))],
    )
    return {uid for (uid,) in rows}


def known_studies(study_uids: Iterable[str]) -> dict[str, KnownStudy]:
    """Study Instance UID → what is known of those that are stored."""
    rows = fetch(
        "SELECT s.study_instance_uid, p.issuer, p.patient_id, p.id, s.coerced_by FROM archive_study s"
        " JOIN archive_patient p ON p.id = s.patient_id WHERE s.study_instance_uid = ANY(%s::text[])",
        [sorted(set(study_uids))],
    )
    return {uid: KnownStudy(issuer, known_id, pk, json.loads(by)) for uid, issuer, known_id, pk, by in rows}


def known_series(series_uids: Iterable[str]) -> dict[str, str]:
    """Series Instance UID → Study Instance UID of those that are stored."""
    rows = fetch(
        "SELECT r.series_instance_uid, s.study_instance_uid FROM archive_series r"
        " JOIN archive_study s ON s.id = r.study_id WHERE r.series_instance_uid = ANY(%s::text[])",
        [sorted(set(series_uids))],
    )
    return dict(rows)


def resolve_patients(headers: Iterable[Header]) -> dict[str, int]:
    """Study Instance UID → primary key of its patient, made where it is new; each study's first header decides.

    Somebody else under a known Patient ID becomes a patient of their own for that study: never a record of two persons.
    """
    first = list(_first_by(headers, lambda header: header.study_instance_uid).values())
    known = _upsert_patients(first, patient_key)
    strangers = [header for header in first if is_another_person(header, known[patient_key(header)])]
    own = _upsert_patients(strangers, stranger_key)
    resolved = {header.study_instance_uid: known[patient_key(header)].pk for header in first}
    return resolved | {header.study_instance_uid: own[stranger_key(header)].pk for header in strangers}


def stranger_key(header: Header) -> PatientKey:
    """Of the study only, although there is a Patient ID."""
    return header.issuer, header.patient_id, header.study_instance_uid


def _upsert_patients(
    headers: Iterable[Header], key_of: Callable[[Header], PatientKey]
) -> dict[PatientKey, KnownPatient]:
    first = _first_by(headers, key_of)
    if not first:
        return {}
    keys = sorted(first)
    names = [first[key].patient_name for key in keys]
    _insert(
        "archive_patient (issuer, patient_id, only_study_uid, name, name_search, birth_date, sex)",
        "text text text text text date text",
        [
            *_columns(keys, 3),
            names,
            [search_key(name)[:500] for name in names],
            [first[key].birth_date for key in keys],
            [first[key].sex for key in keys],
        ],
        order="1, 2, 3",
        conflict="(issuer, patient_id, only_study_uid)",
        now=("created_at",),
    )
    rows = fetch(
        "SELECT issuer, patient_id, only_study_uid, id, name_search, birth_date FROM archive_patient"
        " WHERE (issuer, patient_id, only_study_uid) IN (SELECT * FROM unnest(%s::text[], %s::text[], %s::text[]))",
        _columns(keys, 3),
    )
    return {(issuer, patient_id, study): KnownPatient(*known) for issuer, patient_id, study, *known in rows}


def upsert_studies(headers: Iterable[Header], patients: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Study Instance UID → (primary key, the patient's primary key) of these headers' studies."""
    first = _first_by(headers, lambda header: header.study_instance_uid)
    uids = sorted(first)
    ordered = [first[uid] for uid in uids]
    _insert(
        "archive_study (study_instance_uid, patient_id, study_date, study_time, study_id, accession_number,"
        " description, referring_physician, institution, coerced_by)",
        "text bigint date time text text text text text jsonb",
        [
            uids,
            [patients[header.study_instance_uid] for header in ordered],
            [header.study_date for header in ordered],
            [header.study_time for header in ordered],
            [header.study_id for header in ordered],
            [header.accession_number for header in ordered],
            [header.study_description for header in ordered],
            [header.referring_physician for header in ordered],
            [header.institution for header in ordered],
            [json.dumps(dict(header.coerced_by)) for header in ordered],
        ],
        order="1",
        conflict="(study_instance_uid)",
        now=("received_at", "updated_at"),
        zero=("series_count", "instance_count", "size_bytes"),
    )
    rows = fetch(
        "SELECT study_instance_uid, id, patient_id FROM archive_study WHERE study_instance_uid = ANY(%s::text[])",
        [uids],
    )
    return {uid: (pk, patient) for uid, pk, patient in rows}


def upsert_series(headers: Iterable[Header], studies: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Series Instance UID → (primary key, the study's primary key) of these headers' series."""
    first = _first_by(headers, lambda header: header.series_instance_uid)
    uids = sorted(first)
    ordered = [first[uid] for uid in uids]
    _insert(
        "archive_series (series_instance_uid, study_id, modality, series_number, description, body_part,"
        " calling_ae_title)",
        "text bigint text int text text text",
        [
            uids,
            [studies[header.study_instance_uid][0] for header in ordered],
            [header.modality for header in ordered],
            [header.series_number for header in ordered],
            [header.series_description for header in ordered],
            [header.body_part for header in ordered],
            [header.calling_ae_title for header in ordered],
        ],
        order="1",
        conflict="(series_instance_uid)",
        zero=("instance_count", "size_bytes"),
    )
    rows = fetch(
        "SELECT series_instance_uid, id, study_id FROM archive_series WHERE series_instance_uid = ANY(%s::text[])",
        [uids],
    )
    return {uid: (pk, study) for uid, pk, study in rows}


def lock_studies(study_ids: Iterable[int]) -> None:
    """Hold these studies until the transaction ends; in order of key, so that two workers never wait for each other."""
    fetch(
        "SELECT id FROM archive_study WHERE id = ANY(%s::bigint[]) ORDER BY id FOR NO KEY UPDATE", [sorted(study_ids)]
    )


_LOCK_HOMES = """
WITH studies AS MATERIALIZED (
    SELECT s.id, s.study_instance_uid, p.issuer, p.patient_id
    FROM archive_study s JOIN archive_patient p ON p.id = s.patient_id
    WHERE s.study_instance_uid = ANY(%s::text[])
    ORDER BY s.id
    FOR NO KEY UPDATE OF s
)
SELECT r.series_instance_uid, s.study_instance_uid, s.issuer, s.patient_id, r.id, s.id
FROM studies s JOIN archive_series r ON r.study_id = s.id
WHERE r.series_instance_uid = ANY(%s::text[])
ORDER BY r.id
FOR NO KEY UPDATE OF r
"""


def lock_homes(headers: Iterable[Header]) -> dict[HomeKey, tuple[int, int]]:
    """Home → primary keys (series, study) of those that are stored just so: this series in this study of this patient.

    Holds every known study of the headers until the transaction ends, in order of key, and their series. The rows are
    what they are now: one that somebody changed while we waited for its lock is judged as he left it.
    """
    homes = {home_key(header) for header in headers}
    rows = fetch(_LOCK_HOMES, [sorted({study for _, study, _, _ in homes}), sorted({series for series, *_ in homes})])
    return {tuple(home): (series, study) for *home, series, study in rows if tuple(home) in homes}


_INSERT_INSTANCES = """
WITH incoming AS (
    SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::int[], %s::int[], %s::int[], %s::int[],
                         %s::bytea[], %s::bytea[], %s::bigint[])
    AS t (sop_instance_uid, sop_class_uid, transfer_syntax_uid, series_id, instance_number, rows, columns,
          number_of_frames, file_sha256, dataset_sha256, size_bytes)
), inserted AS (
    INSERT INTO archive_instance (sop_instance_uid, sop_class_uid, transfer_syntax_uid, series_id, instance_number,
        rows, columns, number_of_frames, file_sha256, dataset_sha256, size_bytes, volume_id, received_at)
    SELECT incoming.*, %s::bigint, now() FROM incoming ORDER BY sop_instance_uid
    ON CONFLICT (sop_instance_uid) DO NOTHING
    RETURNING sop_instance_uid, series_id, size_bytes
), added AS (
    SELECT series_id, count(*) AS instances, sum(size_bytes) AS bytes FROM inserted GROUP BY series_id
), counted_series AS (
    UPDATE archive_series AS s
    SET instance_count = s.instance_count + added.instances, size_bytes = s.size_bytes + added.bytes
    FROM added WHERE s.id = added.series_id
    RETURNING s.study_id, added.instances, added.bytes, (s.instance_count = added.instances)::int AS is_first
), counted_studies AS (
    UPDATE archive_study AS s
    SET instance_count = s.instance_count + c.instances, size_bytes = s.size_bytes + c.bytes,
        series_count = s.series_count + c.series, updated_at = now(),
        status = CASE WHEN s.instance_count < s.expected_instance_count
            AND s.instance_count + c.instances >= s.expected_instance_count THEN 'complete' ELSE 'receiving' END,
        completed_at = CASE WHEN s.instance_count < s.expected_instance_count
            AND s.instance_count + c.instances >= s.expected_instance_count THEN now() END,
        reopened_at = CASE WHEN s.status = 'complete' THEN now() ELSE s.reopened_at END,
        reopened_count = s.reopened_count + (s.status = 'complete')::int
    FROM (SELECT study_id, sum(instances) AS instances, sum(bytes) AS bytes, sum(is_first) AS series
          FROM counted_series GROUP BY study_id) AS c
    WHERE s.id = c.study_id
    RETURNING s.study_instance_uid, s.completed_at, s.reopened_at
)
SELECT 'stored', sop_instance_uid FROM inserted
UNION ALL SELECT 'reopened', study_instance_uid FROM counted_studies WHERE reopened_at = now()
UNION ALL SELECT 'complete', study_instance_uid FROM counted_studies WHERE completed_at = now()
"""


def insert_instances(headers: Iterable[Header], series: dict[str, tuple[int, int]], volume_id: int) -> set[str]:
    """Insert new instances and add to the counters what was really inserted; returns the SOP Instance UIDs of those.

    With the counters changes whether a study is still arriving (`complete.py`). The caller holds the studies' rows
    (`lock_studies`), because the counters of several are changed at once.
    """
    ordered = sorted(headers, key=attrgetter("sop_instance_uid"))
    if not ordered:
        return set()
    columns = [
        _texts(header.sop_instance_uid for header in ordered),
        _texts(header.sop_class_uid for header in ordered),
        _texts(header.transfer_syntax_uid for header in ordered),
        _numbers(series[header.series_instance_uid][0] for header in ordered),
        _numbers(header.instance_number for header in ordered),
        _numbers(header.rows for header in ordered),
        _numbers(header.columns for header in ordered),
        _numbers(header.number_of_frames for header in ordered),
        _digests(header.file_sha256 for header in ordered),
        _digests(header.dataset_sha256 for header in ordered),
        _numbers(header.size_bytes for header in ordered),
    ]
    found = fetch(_INSERT_INSTANCES, [*columns, volume_id])
    log_status((uid, what) for what, uid in found if what != "stored")
    return {uid for what, uid in found if what == "stored"}


def log_status(changes: Iterable[tuple[str, str]]) -> None:
    """One line for each (Study Instance UID, what became of the study), once it is committed."""
    for uid, status in changes:
        transaction.on_commit(partial(logger.info, "study %s: %s", uid, status))


# Array literals of PostgreSQL ("Array Input and Output Syntax"): psycopg's dumper of lists takes many times as long


def _texts(values: Iterable[str]) -> str:
    return '{"' + '","'.join(value.replace("\\", "\\\\").replace('"', '\\"') for value in values) + '"}'


def _numbers(values: Iterable[int | None]) -> str:
    return "{" + ",".join("NULL" if value is None else str(value) for value in values) + "}"


def _digests(values: Iterable[bytes]) -> str:
    return '{"' + '","'.join("\\\\x" + value.hex() for value in values) + '"}'


def _insert(
    table: str,
    types: str,
    columns: list[Any],
    order: str,
    conflict: str,
    now: tuple[str, ...] = (),
    zero: tuple[str, ...] = (),
) -> None:
    """INSERT … SELECT unnest(…) … ON CONFLICT DO NOTHING; the words are this module's own, the values are bound."""
    head = ", ".join((table.removesuffix(")"), *now, *zero)) + ")"
    constants = ", now()" * len(now) + ", 0" * len(zero)
    arrays = ", ".join(f"%s::{kind}[]" for kind in types.split())
    fetch(
        f"INSERT INTO {head} SELECT t.*{constants} FROM unnest({arrays}) AS t ORDER BY {order}"  # noqa: S608
        f" ON CONFLICT {conflict} DO NOTHING",
        columns,
    )


def _first_by(headers: Iterable[Header], key: Any) -> dict[Any, Header]:
    first: dict[Any, Header] = {}
    for header in headers:
        first.setdefault(key(header), header)
    return first


def _columns(rows: Sequence[tuple[str, ...]], width: int) -> list[list[str]]:
    return [[row[column] for row in rows] for column in range(width)]
