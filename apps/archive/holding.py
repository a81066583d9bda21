"""What became of each file, and keeping aside what cannot be stored: nothing that arrived is ever thrown away."""

import logging
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path

from django.conf import settings

from apps.archive.header import Header
from apps.archive.identity import sender_token
from apps.archive.models import Conflict
from apps.archive.upsert import fetch
from apps.audit.trail import record
from apps.storage.files import keep_aside

logger = logging.getLogger(__name__)


class Outcome(Enum):
    """What became of one file."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Ingested:
    """One file of a batch, what became of it, and why where that is a question."""

    path: Path
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """A file in the spool and its header."""

    path: Path
    header: Header


def named_patient(header: Header) -> str:
    """Which patient a data set names, as a digest."""
    return sender_token(header.issuer, header.patient_id, settings.IDENTITY_KEY)


def hold_item(item: Item, kind: Conflict.Kind, reason: str) -> Ingested:
    """Keep a readable file aside, with its UIDs. Files of one series, study and patient are decided together."""
    header = item.header
    series = header.series_instance_uid if kind in (Conflict.Kind.INSTANCE, Conflict.Kind.SERIES) else ""
    row = Conflict(
        kind=kind,
        case_key=case_key(kind, header.study_instance_uid, series, named_patient(header)),
        reason=reason,
        file_sha256=header.file_sha256,
        sop_instance_uid=header.sop_instance_uid,
        series_instance_uid=header.series_instance_uid,
        study_instance_uid=header.study_instance_uid,
        calling_ae_title=header.calling_ae_title,
    )
    return _keep(item.path, row, Outcome.CONFLICT)


def hold_unreadable(path: Path, reason: str) -> Ingested:
    """Keep a file aside that has no header, or none that can be stored."""
    digest = file_digest(path)
    kind = Conflict.Kind.UNREADABLE
    row = Conflict(kind=kind, case_key=case_key(kind, digest.hex()), reason=reason[:300], file_sha256=digest)
    return _keep(path, row, Outcome.UNREADABLE)


def case_key(*parts: str) -> str:
    """What is decided together has one key."""
    return sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


_FLAG_STRANGERS = """
INSERT INTO archive_conflict (kind, case_key, reason, size_bytes, sop_instance_uid, series_instance_uid,
    study_instance_uid, calling_ae_title, patient_id, other_patient_id, received_at)
SELECT 'patient', t.case_key, %s, 0, '', '', t.uid, '', s.patient_id, t.other, now()
FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS t (uid, case_key, other)
JOIN archive_study s ON s.study_instance_uid = t.uid
WHERE s.patient_id <> t.other
ORDER BY t.uid
ON CONFLICT (study_instance_uid) WHERE kind = 'patient' DO NOTHING
RETURNING id, study_instance_uid
"""


def flag_strangers(strangers: dict[str, int]) -> None:
    """Ask people about stored studies whose Patient ID is that of somebody else: Study Instance UID → that patient."""
    if not strangers:
        return
    uids = sorted(strangers)
    keys = [case_key(Conflict.Kind.PATIENT, uid) for uid in uids]
    reason = "this Patient ID is known with another birth date or family name"
    for pk, uid in fetch(_FLAG_STRANGERS, [reason, uids, keys, [strangers[uid] for uid in uids]]):
        record("ingest", "conflict.found", "conflict", pk, {"kind": Conflict.Kind.PATIENT.value, "study": uid})
        logger.warning("study %s: %s", uid, reason)


def file_digest(path: Path) -> bytes:
    """SHA-256 of a whole file, read in pieces."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _keep(path: Path, row: Conflict, outcome: Outcome) -> Ingested:
    """Keep the file aside under its digest: the same file sent again adds nothing."""
    row.held_file = f"{bytes(row.file_sha256 or b'').hex()}.dcm"
    row.size_bytes = path.stat().st_size
    keep_aside(path, row.held_file)
    if found := _insert_once(row):
        record("ingest", "conflict.found", "conflict", found, {"kind": row.kind, "sop_instance": row.sop_instance_uid})
    logger.warning("kept aside as %s: %s", row.kind, row.reason)
    return Ingested(path, outcome, row.reason)


def _insert_once(row: Conflict) -> int | None:
    """The primary key of the new row; None where this very file is held already, whatever was decided about it."""
    names = (
        *("kind", "case_key", "reason", "held_file", "file_sha256", "size_bytes"),
        *("sop_instance_uid", "series_instance_uid", "study_instance_uid", "calling_ae_title"),
    )
    values = [getattr(row, name) for name in names]
    added = fetch(
        f"INSERT INTO archive_conflict ({', '.join(names)}, received_at) VALUES ({'%s, ' * len(names)}now())"  # noqa: S608
        " ON CONFLICT DO NOTHING RETURNING id",
        values,
    )
    return added[0][0] if added else None
