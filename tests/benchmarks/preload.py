"""Fills the tables of an instance, so that ingest meets indexes of real size: five studies of one series a patient."""

import time

from psycopg import Connection

from tests.system.conftest import System

CHUNK = 250_000
STUDIES_A_PATIENT = 5
# Spread like random UIDs, and the same for the same number.
UID = "'1.2.826.0.1.' || abs(hashtextextended(n::text, {salt})) || '.' || n"
STUDY_UID, SERIES_UID = UID.format(salt=1), UID.format(salt=2)
PATIENTS = {
    "patient_id": "'BULK' || n",
    "issuer": "'BULK'",
    "name": "md5(n::text) || '^' || md5((n % 5000)::text)",
    "name_search": "md5(n::text) || ' ' || md5((n % 5000)::text)",
}
STUDIES = {
    "study_instance_uid": STUDY_UID,
    "patient_id": "p.id",
    "study_date": "date '2006-01-01' + (n % 7300)::int",
    "series_count": "1",
    "instance_count": "100",
    "size_bytes": "52428800",
}
SERIES = {
    "series_instance_uid": SERIES_UID,
    "study_id": "s.id",
    "modality": "(ARRAY['CT','MR','CR','US'])[1 + n % 4]",
    "instance_count": "100",
    "size_bytes": "52428800",
}
# Columns that must have a value and that nothing above names.
NEEDED = """
SELECT column_name, data_type FROM information_schema.columns
WHERE table_name = %s AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'
AND is_generated = 'NEVER'
"""
EMPTY = {"character varying": "''", "text": "''", "boolean": "false", "bytea": "''", "jsonb": "'{}'"}
NOW, ZERO = "now()", "0"


def preload(system: System, studies: int) -> float:
    """Insert so many studies; returns the seconds it took. They have no instances: 500 million do not fit here."""
    began = time.monotonic()
    with system.connect(autocommit=True) as connection:
        for numbers in _chunks(studies // STUDIES_A_PATIENT):
            _insert(connection, "archive_patient", PATIENTS, numbers)
        for numbers in _chunks(studies):
            owner = f"'BULK' || (1 + (n - 1) / {STUDIES_A_PATIENT})"
            source = f"{numbers} JOIN archive_patient p ON p.issuer = 'BULK' AND p.patient_id = {owner}"
            _insert(connection, "archive_study", STUDIES, source)
            source = f"{numbers} JOIN archive_study s ON s.study_instance_uid = {STUDY_UID}"
            _insert(connection, "archive_series", SERIES, source)
    return time.monotonic() - began


def _chunks(count: int) -> list[str]:
    return [
        f"generate_series({first}::bigint, {min(first + CHUNK - 1, count)}) AS n"
        for first in range(1, count + 1, CHUNK)
    ]


def _insert(connection: Connection, table: str, known: dict[str, str], source: str) -> None:
    needed = dict(connection.execute(NEEDED, [table]).fetchall())
    filled = {name: _nothing(kind) for name, kind in needed.items() if name not in known} | known
    statement = f"INSERT INTO {table} ({', '.join(filled)}) SELECT {', '.join(filled.values())} FROM {source}"
    connection.execute(statement)


def _nothing(kind: str) -> str:
    """A value that says nothing, of that type."""
    return NOW if kind.startswith(("timestamp", "date")) else EMPTY.get(kind, ZERO)
