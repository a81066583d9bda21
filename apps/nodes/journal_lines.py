"""The lines of the receiver's journal: what it counted, as its processes write it and beat reads it. Plain Python.

A line that is none raises ValueError: a file may have been torn by a full disk or a power cut, or changed by somebody.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from apps.nodes.titles import bare, shown

NEW, OPEN, COMPLETE = ".new", ".open", ".jsonl"  # how a file's name ends: begun, locked by its writer, whole
WORDS_MAX = 200
COUNT_MAX = 1 << 53  # what JSON carries exactly
MINUTE_MAX = 250_000_000  # since 1970; the year 2445
STATUS_MAX = 0xFFFF


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one calling AE title did within one minute, or a part of what it did; `refused` counts by status."""

    minute: int
    calling_ae_title: str
    address: str = ""
    associations: int = 0
    instances: int = 0
    size_bytes: int = 0
    refused: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejections:
    """Associations of one caller that were rejected for one reason; `at` is seconds since 1970."""

    at: int
    calling_ae_title: str
    called_ae_title: str
    address: str
    is_tls: bool
    words: str
    count: int


def write_line(event: Traffic | Rejections) -> bytes:
    """One line, in ASCII."""
    kind = "traffic" if isinstance(event, Traffic) else "rejections"
    return json.dumps({"kind": kind, **asdict(event)}, separators=(",", ":")).encode() + b"\n"


def read_line(line: bytes) -> Traffic | Rejections:
    """What was written; its texts are safe to store and to show. Raises ValueError."""
    try:
        row = json.loads(line)
        kind = row.pop("kind")
        return _traffic(row) if kind == "traffic" else _rejections(row)
    except (TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError("no line of a journal") from error


def _traffic(row: dict[str, Any]) -> Traffic:
    _expect_fields(Traffic, row)
    return Traffic(
        minute=_number(row["minute"], MINUTE_MAX),
        calling_ae_title=shown(bare(row["calling_ae_title"])),
        address=shown(row["address"]),
        associations=_number(row["associations"]),
        instances=_number(row["instances"]),
        size_bytes=_number(row["size_bytes"]),
        refused={_number(int(status), STATUS_MAX): _number(count) for status, count in row["refused"].items()},
    )


def _rejections(row: dict[str, Any]) -> Rejections:
    _expect_fields(Rejections, row)
    return Rejections(
        at=_number(row["at"], MINUTE_MAX * 60),
        calling_ae_title=shown(bare(row["calling_ae_title"])),
        called_ae_title=shown(bare(row["called_ae_title"])),
        address=shown(row["address"]),
        is_tls=bool(row["is_tls"]),
        words=row["words"].replace("\0", "")[:WORDS_MAX].encode(errors="replace").decode(),
        count=_number(row["count"]),
    )


def _expect_fields(kind: type, row: dict[str, Any]) -> None:
    if row.keys() != {each.name for each in fields(kind)}:
        raise ValueError("no line of a journal")


def _number(value: Any, maximum: int = COUNT_MAX) -> int:
    if type(value) is not int or not 0 <= value <= maximum:
        raise ValueError("not a count")
    return value
