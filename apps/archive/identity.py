"""Telling one person from another without reading who they are: keyed digests of birth dates and family names.

The columns that describe people are to be encrypted; what is compared at every image is not decrypted for it. Plain
Python; nothing here can be turned back into a name or a date without the key, and with the key only by guessing.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from dataclasses import dataclass
from datetime import date

TOKEN_DIGITS = 32  # half of a SHA-256 in hexadecimal: two names meet by chance never

_APOSTROPHES = re.compile("['`\u00b4\u2018\u2019\u02bc.]")
_WORD = re.compile(r"[^\W_]+")
_UNREAD = re.compile("[\ufffd?]")  # as decoders and senders write what they do not understand
_UMLAUTS = re.compile("(?<=[aou])e")
_PARTICLES = frozenset(
    (
        *("al", "am", "bin", "da", "dal", "de", "del", "della", "den", "der", "di", "dos", "du", "el", "ibn", "la"),
        *("le", "st", "ten", "ter", "van", "vom", "von", "zu", "zur"),
    )
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Digests of what tells a person from another; empty where it is not known."""

    birth: str
    family: frozenset[str]

    def is_clearly_another(self, other: Identity) -> bool:
        """Two birth dates that differ, or family names without a word in common. What is missing decides nothing."""
        if self.birth and other.birth and self.birth != other.birth:
            return True
        return bool(self.family and other.family and not self.family & other.family)


def identity_of(person_name: str, birth_date: date | None, key: bytes) -> Identity:
    """The digests of one person; the name as in DICOM (PS3.5 6.2.1), the key from the keyring."""
    birth = _digest(key, "birth", birth_date.isoformat()) if birth_date else ""
    return Identity(birth, frozenset(_digest(key, "family", word)[:TOKEN_DIGITS] for word in family_words(person_name)))


def family_words(person_name: str) -> set[str]:
    """Words of the family name in every component group, as they are compared.

    Without accents, case, apostrophes and hyphens; "Müller", "Mueller" and "Muller" are one word. Particles such as
    "van" count only where the name has nothing else. A name without "^" is all family name. One with letters that could
    not be read says nothing.
    """
    families = [group.partition("^")[0] for group in person_name.split("=")]
    words = {word for family in families if not _UNREAD.search(family) for word in _words(family)}
    return words - _PARTICLES or words


def _words(text: str) -> list[str]:
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return [_UMLAUTS.sub("", word) for word in _WORD.findall(_APOSTROPHES.sub("", bare.casefold()))]


def sender_token(issuer: str, patient_id: str, key: bytes) -> str:
    """Which patient a data set names: a digest of the issuer and the Patient ID."""
    return _digest(key, "patient", f"{issuer}\0{patient_id}")[:TOKEN_DIGITS]


def _digest(key: bytes, kind: str, value: str) -> str:
    return hmac.digest(key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), "sha256").hex()
