"""The texts of one file that the database keeps: their bytes, their label, and how they read. Nothing of Django."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from apps.archive.charset_doubts import Doubt, RawText, find_doubt
from apps.archive.charsets import PERSON_NAME_DELIMITERS, TEXT_DELIMITERS, Charset, charset_of, decode_text, is_plain

TEXT_TAGS = {
    "patient_id": 0x00100020,
    "issuer": 0x00100021,
    "patient_name": 0x00100010,
    "study_id": 0x00200010,
    "accession_number": 0x00080050,
    "study_description": 0x00081030,
    "referring_physician": 0x00080090,
    "institution": 0x00080080,
    "series_description": 0x0008103E,
}
_TAGS = tuple(TEXT_TAGS.values())
NAMES = ("patient_name", "referring_physician")
IDENTITY = ("patient_id", "issuer")
LABEL_LENGTH = 100
_BYTES = 2048  # no text that describes something is longer by right; what tells patients apart is never cut
_WIDTHS = {**dict.fromkeys(TEXT_TAGS, 256), **dict.fromkeys(NAMES, 400), "study_id": 64, "accession_number": 64}
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_OF_A_LABEL = re.compile(r"[^A-Z0-9 _\\.:-]")


@dataclass(frozen=True, slots=True)
class FileTexts:
    """What one file says: `label` is its Specific Character Set, `values` its texts in the order of `TEXT_TAGS`."""

    label: bytes
    values: tuple[bytes, ...]

    @classmethod
    def of(cls, found: Mapping[int, bytes], label_tag: int) -> FileTexts:
        """Of raw values by tag."""
        values = tuple([found.get(tag, b"") for tag in _TAGS])
        if max(map(len, values)) > _BYTES:
            values = tuple(_limit(name, value) for name, value in zip(TEXT_TAGS, values, strict=True))
        return cls(found.get(label_tag, b"")[:_BYTES], values)

    @property
    def raw(self) -> dict[str, bytes]:
        """The values by name; empty where absent."""
        return dict(zip(TEXT_TAGS, self.values, strict=True))

    @property
    def shown_label(self) -> str:
        """The label to store and show; what cannot be in one is replaced, because anything may stand there."""
        label = self.label.decode("latin-1").strip(" \0").upper()
        return _NOT_OF_A_LABEL.sub("?", label)[:LABEL_LENGTH].rstrip()

    @property
    def is_plain(self) -> bool:
        """Whether the label does not matter."""
        return is_plain(b"".join(self.values))

    def foreign(self) -> list[RawText]:
        """The values for which the label matters."""
        return [RawText(value, _delimiters(name)) for name, value in self.raw.items() if not is_plain(value)]

    def find_doubt(self) -> Doubt | None:
        """What is wrong with the label, if anything."""
        return None if self.is_plain else find_doubt(self.foreign(), charset_of(self.label))

    def read(self, charset: Charset | None = None) -> dict[str, str]:
        """Every text by name, as labelled or in another charset; empty where absent, cut to its column."""
        chosen = charset or charset_of(self.label)
        return {
            name: _cut(name, clean_text(decode_text(value, chosen, _delimiters(name)))) if value else ""
            for name, value in self.raw.items()
        }


@lru_cache(maxsize=512)
def examine_texts(texts: FileTexts) -> tuple[dict[str, Any], Doubt | None]:
    """How the texts read as labelled, and what is wrong with the label, if anything.

    Remembered, because the files of a series have their texts in common: do not write into it.
    """
    return texts.read(), texts.find_doubt()


def _limit(name: str, value: bytes) -> bytes:
    return value if name in IDENTITY else value[:_BYTES]


def _delimiters(name: str) -> re.Pattern[bytes]:
    return PERSON_NAME_DELIMITERS if name in NAMES else TEXT_DELIMITERS


def clean_text(text: str) -> str:
    """Without padding and without characters that no page shows and no database takes."""
    text = text.strip(" \0")
    return text if text.isprintable() else _CONTROLS.sub("", text).strip()


def _cut(name: str, text: str) -> str:
    if name in IDENTITY:
        return limit_identity(text)
    return text.rstrip("=")[: _WIDTHS[name]] if name in NAMES else text[: _WIDTHS[name]]


def limit_identity(text: str) -> str:
    """What tells patients apart is never just cut: two long identifiers must not become one."""
    return text if len(text) <= 64 else f"{text[:47]}~{sha256(text.encode()).hexdigest()[:16]}"
