"""Search keys of a C-FIND (PS3.4 C.2.2.2), from what people type. Plain Python."""

import re
import unicodedata
from dataclasses import dataclass
from datetime import date

from apps.transfer.errors import QueryRefusedError

_WILDCARDS = "*?"
_LETTERS_MAX = 64


@dataclass(frozen=True)
class Criteria:
    """What to look for at STUDY level; an empty field asks for nothing. Dates are inclusive."""

    patient_id: str = ""
    patient_name: str = ""
    study_date_from: date | None = None
    study_date_to: date | None = None
    accession_number: str = ""
    modality: str = ""

    def keys(self) -> dict[str, str]:
        """Matching keys by DICOM keyword. Raises QueryRefusedError for what would ask for a whole PACS."""
        keys = {
            "PatientID": _plain(self.patient_id),
            "PatientName": name_pattern(_plain(self.patient_name)),
            "StudyDate": date_range(self.study_date_from, self.study_date_to),
            "AccessionNumber": _plain(self.accession_number),
        }
        if not any(value.strip(_WILDCARDS + "^=, ") for value in keys.values()):
            raise QueryRefusedError("Give a patient ID, a name, an accession number or a study date to search for.")
        return keys | {"ModalitiesInStudy": _plain(self.modality).upper()}


def name_pattern(text: str) -> str:
    """A person name with wildcards (PS3.4 C.2.2.2.4): a beginning of the family name, then of the given name.

    "mil" → "mil*", "Miller, An" → "Miller*^An*", "van der Berg" → "van*der*Berg*". A name that holds ^ or = is taken
    as typed, as is one that ends with a wildcard. Characters of East Asia may stand in any component group (PS3.5
    6.2.1.2), so the pattern may begin anywhere.
    """
    if not text or text[-1] in _WILDCARDS or set(text) & set("^="):
        return text
    parts = ["*".join(part.split()) + "*" for part in text.split(",", 1)]
    pattern = "^".join(part for part in parts if part != "*" or len(parts) > 1)
    return f"*{pattern}" if any(_is_east_asian(letter) for letter in text) else pattern


def date_range(first: date | None, last: date | None) -> str:
    """One day, "from-to", "from-" or "-to" (PS3.4 C.2.2.2.5). Raises QueryRefusedError when last is before first."""
    if first and last and last < first:
        raise QueryRefusedError("The last study date is before the first: exchange them.")
    if first == last:
        return _digits(first)
    return f"{_digits(first)}-{_digits(last)}"


def _digits(day: date | None) -> str:
    return day.isoformat().replace("-", "") if day else ""


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text.strip())
    if re.search(r"[\\\x00-\x1f\x7f]", text):
        raise QueryRefusedError("A backslash or a control character cannot be searched for: leave it out.")
    if len(text) > _LETTERS_MAX:
        raise QueryRefusedError(f"Search for at most {_LETTERS_MAX} letters in one field.")
    return text


def _is_east_asian(letter: str) -> bool:
    return unicodedata.east_asian_width(letter) in "WF"
