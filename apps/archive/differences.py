"""What differs between two files, element by element, in words for the person who decides.

Values are shortened, bytes and private elements are told by their size. For people only: whether two files hold the
same data set is decided by `compare`. Nothing here imports Django.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from pydicom import dcmread
from pydicom.datadict import dictionary_description, dictionary_has_tag
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from apps.core.errors import PermanentError

MAX_ROWS = 200
MAX_DEPTH = 5
MAX_FILE_BYTES = 64_000_000  # beyond, pixels are left out
SHOWN_CHARACTERS = 160

_BYTES = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB", "or", "OW"])
_TRAILING_PADDING = 0xFFFCFFFC
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_PATIENT_AND_STUDY = frozenset(
    (
        *(0x00080005, 0x00080020, 0x00080030, 0x00080050, 0x00080051, 0x00080080, 0x00080081, 0x00080090, 0x00080096),
        *(0x00080201, 0x00081030, 0x00081032, 0x00081040, 0x00081048, 0x00081060, 0x00200010, 0x0020000D),
    )
)
_SERIES = frozenset(
    (
        *(0x00080021, 0x00080031, 0x00080060, 0x00080070, 0x00081010, 0x0008103E, 0x00081050, 0x00081070, 0x00081090),
        *(0x00180015, 0x00181000, 0x00181020, 0x00181030, 0x00200011, 0x0020000E),
    )
)

Wanted = Callable[[int], bool]


class ComparisonError(PermanentError):
    """A file cannot be read as DICOM, so nothing can be said of its elements."""


class Difference(NamedTuple):
    """One element: its tag, its name behind those of the sequences around it, both values; None where it is absent."""

    tag: str
    name: str
    left: str | None
    right: str | None


def of_patient_and_study(tag: int) -> bool:
    """Elements of the patient and study modules (PS3.3 C.7.1, C.7.2): those that images of one study share."""
    return tag >> 16 in (0x0010, 0x0032) or tag in _PATIENT_AND_STUDY


def of_patient_study_and_series(tag: int) -> bool:
    """Also those of the series and the device (PS3.3 C.7.3, C.7.5)."""
    return of_patient_and_study(tag) or tag in _SERIES


def of_anything(tag: int) -> bool:
    """Every element."""
    return True


def differences(left: Path, right: Path, wanted: Wanted = of_anything) -> list[Difference]:
    """The elements that differ, in order of their tags; up to MAX_ROWS. Raises ComparisonError, OSError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values
            return list(islice(_compare(_read(left), _read(right), wanted, "", 0), MAX_ROWS))
    except OSError:
        raise
    except Exception as error:  # whatever hostile bytes make of the parser
        raise ComparisonError(f"{left.name} and {right.name} cannot be compared element by element") from error


def _read(path: Path) -> Dataset:
    return dcmread(path, defer_size="64 KB", force=True, stop_before_pixels=path.stat().st_size > MAX_FILE_BYTES)


def _compare(first: Dataset, second: Dataset, wanted: Wanted, place: str, depth: int) -> Iterator[Difference]:
    for tag in sorted(set(first.keys()) | set(second.keys())):
        if not tag & 0xFFFF or tag == _TRAILING_PADDING or not wanted(tag):
            continue
        left, right = _element(first, tag), _element(second, tag)
        if _is_sequence(left) and _is_sequence(right) and depth < MAX_DEPTH:
            yield from _compare_items(left.value, right.value, place + _name(tag), depth)
        elif difference := _difference(left, right, tag, place):
            yield difference


def _compare_items(first: Any, second: Any, place: str, depth: int) -> Iterator[Difference]:
    for number, (left, right) in enumerate(zip_longest(first, second, fillvalue=Dataset()), start=1):
        yield from _compare(left, right, of_anything, f"{place}, item {number}: ", depth + 1)


def _element(dataset: Dataset, tag: BaseTag) -> Any:
    """The element, an exception that reading it raised, or None where it is absent."""
    if tag not in dataset:
        return None
    try:
        return dataset[tag]
    except Exception as error:  # noqa: BLE001  as above
        return error


def _is_sequence(element: Any) -> bool:
    return getattr(element, "VR", "") == "SQ"


def _difference(left: Any, right: Any, tag: BaseTag, place: str) -> Difference | None:
    values = [_value(element) for element in (left, right)]
    if (left is None) == (right is None) and values[0] == values[1]:
        return None
    texts = [None if element is None else _text(element, tag) for element in (left, right)]
    if texts[0] == texts[1]:
        texts[1] = f"{texts[1]}, other content"
    return Difference(f"({tag >> 16:04X},{tag & 0xFFFF:04X})", place + _name(tag), *texts)


def _value(element: Any) -> Any:
    if isinstance(element, Exception):
        return None
    try:
        value = element.value
        if isinstance(value, bytes | bytearray):
            return bytes(value)
        return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
    except Exception:  # noqa: BLE001  as above
        return None


def _name(tag: BaseTag) -> str:
    if tag.is_private:
        return "Private element"
    return dictionary_description(tag) if dictionary_has_tag(tag) else "Unknown element"


def _text(element: Any, tag: BaseTag) -> str:
    value = _value(element)
    if value is None:
        return "cannot be read"
    if _is_sequence(element):
        return f"{len(element.value)} item{'s' * (len(element.value) != 1)}"
    if isinstance(value, bytes) or element.VR in _BYTES:
        return f"{len(value):,} bytes"
    if tag.is_private:
        return f"{len(value):,} characters"
    return shorten(value) or "empty"


def shorten(value: str) -> str:
    """On one line, without what could mislead the eye, and not endless."""
    text = " ".join(_CONTROLS.sub(" ", value).split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
