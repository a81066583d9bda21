"""What became of each file, and keeping aside what cannot be stored: nothing that arrived is ever thrown away."""

import logging
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from pathlib import Path

from apps.archive.header import Header
from apps.archive.models import Conflict
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


def hold_item(item: Item, kind: Conflict.Kind, reason: str) -> Ingested:
    """Keep a readable file aside, with its UIDs."""
    header = item.header
    row = Conflict(
        kind=kind,
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
    row = Conflict(kind=Conflict.Kind.UNREADABLE, reason=reason[:300], file_sha256=file_digest(path))
    return _keep(path, row, Outcome.UNREADABLE)


def file_digest(path: Path) -> bytes:
    """SHA-256 of a whole file, read in pieces."""
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _keep(path: Path, row: Conflict, outcome: Outcome) -> Ingested:
    """Keep the file aside under its digest: the same file sent again adds nothing."""
    row.held_file = f"{bytes(row.file_sha256).hex()}.dcm"
    row.size_bytes = path.stat().st_size
    keep_aside(path, row.held_file)
    Conflict.objects.bulk_create([row], ignore_conflicts=True)
    logger.warning("kept aside as %s: %s", row.kind, row.reason)
    return Ingested(path, outcome, row.reason)
