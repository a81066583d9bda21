"""The header of an image: what rendering reads of it, and where its pixels start.

Most images are read by a small reader of this module, some twenty times faster than a full parse: it takes the
elements of `ELEMENTS` and steps over all others. Whatever needs more (sequences that matter, palettes, big endian,
deflated or odd files) is read by pydicom. Both answer `get(keyword)` and `in` alike.
"""

from __future__ import annotations

import struct
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO, Protocol

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from apps.core.errors import PermanentError

WINDOW_BYTES = 1 << 17  # a header that is longer is read by pydicom
PIXEL_KEYWORDS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}

# Elements of the data set's top level by keyword; what a value becomes
TEXT, DECIMAL, WHOLE, UNSIGNED, PIXEL = "text", "decimal", "whole", "unsigned", "pixel"
ELEMENTS = {
    **dict.fromkeys(("SOPClassUID", "SOPInstanceUID", "Modality", "PhotometricInterpretation"), TEXT),
    **dict.fromkeys(("VOILUTFunction", "PixelSpacingCalibrationType", "LossyImageCompression"), TEXT),
    **dict.fromkeys(("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"), DECIMAL),
    **dict.fromkeys(("EstimatedRadiographicMagnificationFactor", "LossyImageCompressionRatio"), DECIMAL),
    **dict.fromkeys(("SliceLocation", "ImagePositionPatient", "ImageOrientationPatient"), DECIMAL),
    **dict.fromkeys(("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"), DECIMAL),
    **dict.fromkeys(("SeriesNumber", "InstanceNumber", "NumberOfFrames", "PixelAspectRatio"), WHOLE),
    **dict.fromkeys(("SamplesPerPixel", "PlanarConfiguration", "Rows", "Columns"), UNSIGNED),
    **dict.fromkeys(("BitsAllocated", "BitsStored", "PixelRepresentation"), UNSIGNED),
    **dict.fromkeys(("PixelPaddingValue", "PixelPaddingRangeLimit"), PIXEL),
}
TAGS = {keyword: int(tag_for_keyword(keyword) or 0) for keyword in ELEMENTS}
_WANTED = frozenset(TAGS.values())
# Where one of these is, pydicom reads the file; so a plain header has none of them
_ABSENT = frozenset(
    ("SequenceOfUltrasoundRegions", "ModalityLUTSequence", "VOILUTSequence", "RedPaletteColorLookupTableDescriptor")
    + ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable")
)
_NEED_PYDICOM = frozenset(int(tag_for_keyword(keyword) or 0) for keyword in _ABSENT)
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS")
    + (b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US")
)
_EXPLICIT, _IMPLICIT, _U32 = Struct("<HH2sH").unpack_from, Struct("<HHL").unpack_from, Struct("<L").unpack_from
_UNDEFINED, _ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFFFFFF, 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


class UnreadableImageError(PermanentError):
    """The file cannot be read as DICOM, or holds no pixels; the text says which."""


class Attributes(Protocol):
    """What a pydicom Dataset and `PlainHeader` have in common."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value of an element by its keyword."""

    def __contains__(self, key: str) -> bool:
        """Whether there is an element of that keyword."""


class PlainHeader:
    """Raw elements by tag; values are made when they are asked for."""

    def __init__(self, raw: dict[int, bytes]) -> None:
        self._raw = raw

    def __contains__(self, key: str) -> bool:
        return self._find(key) is not None

    def get(self, key: str, default: Any = None) -> Any:
        """A str, an int, or a list of float or int, by the kind in `ELEMENTS`; default where the element is absent."""
        raw = self._find(key)
        return default if raw is None else _value(raw, ELEMENTS[key], self._is_signed)

    def _find(self, key: str) -> bytes | None:
        """Raises KeyError for a keyword that was not read: add it to `ELEMENTS`."""
        return None if key in _ABSENT else self._raw.get(TAGS[key])

    @property
    def _is_signed(self) -> bool:
        return self._raw.get(TAGS["PixelRepresentation"], b"\0")[:1] == b"\1"


class FoundImage:
    """A header, the transfer syntax, and where the value of the pixel element starts (0: in the data set itself)."""

    def __init__(self, header: Attributes, syntax: UID, offset: int, keyword: str, vr: str) -> None:
        self.header, self.syntax, self.offset, self.keyword, self.vr = header, syntax, offset, keyword, vr


class _OddError(Exception):
    """Not for the small reader."""


def find_image(path: Path) -> FoundImage:
    """Read the header of one file. Raises UnreadableImageError, or OSError where the file cannot be read."""
    with path.open("rb", buffering=0) as file:
        try:
            return _find_plain(file.read(WINDOW_BYTES))
        except (_OddError, struct.error, ValueError):
            pass
    with path.open("rb") as file:
        return _find_by_pydicom(file)


# --- The small reader: explicit and implicit VR little endian


def _find_plain(window: bytes) -> FoundImage:
    """Raises _OddError, or struct.error where the header does not end in the window."""
    if window[128:132] != b"DICM":
        raise _OddError
    meta, at = _walk(window, 132, is_implicit=False, stop=0x00020000 | 0xFFFF)
    syntax = UID(meta.get(0x00020010, b"").decode("ascii").rstrip("\0 "))
    if syntax in (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian) or not syntax.is_transfer_syntax:
        raise _OddError
    raw, at = _walk(window, at, is_implicit=syntax == ImplicitVRLittleEndian, stop=0x7FE00007)
    tag = _tag(window, at)
    if tag not in PIXEL_KEYWORDS:
        raise _OddError
    vr = "" if syntax == ImplicitVRLittleEndian else window[at + 4 : at + 6].decode("ascii")
    if vr and vr not in ("OB", "OW", "OF", "OD"):
        raise _OddError
    return FoundImage(PlainHeader(raw), syntax, at + (12 if vr else 8), PIXEL_KEYWORDS[tag], vr)


def _walk(window: bytes, at: int, is_implicit: bool, stop: int) -> tuple[dict[int, bytes], int]:
    """Wanted values up to the first tag beyond `stop`, and where that is."""
    found: dict[int, bytes] = {}
    is_meta = stop >> 16 == 2
    while True:
        if _tag(window, at) > stop:
            return found, at
        tag, is_sequence, length, value_at = _element(window, at, is_implicit)
        if tag in _NEED_PYDICOM:
            raise _OddError
        if length == _UNDEFINED:
            at = _skip_items(window, value_at, is_implicit or not is_sequence, depth=0)
            continue
        at = value_at + length
        if is_meta or tag in _WANTED:
            found[tag] = window[value_at:at]


def _tag(window: bytes, at: int) -> int:
    group, element, _ = _IMPLICIT(window, at)
    return int(group << 16 | element)


def _element(window: bytes, at: int, is_implicit: bool) -> tuple[int, bool, int, int]:
    """Tag, whether the VR is SQ, length, and where the value starts (PS3.5 7.1). Raises _OddError, struct.error."""
    if is_implicit:
        group, element, length = _IMPLICIT(window, at)
        return group << 16 | element, True, length, at + 8
    group, element, vr, length = _EXPLICIT(window, at)
    if vr in _SHORT:
        return group << 16 | element, False, length, at + 8
    if vr in _LONG:
        return group << 16 | element, vr == b"SQ", _U32(window, at + 8)[0], at + 12
    raise _OddError


def _skip_items(window: bytes, at: int, is_implicit: bool, depth: int) -> int:
    """From the first item of a sequence of undefined length to behind its end (PS3.5 7.5)."""
    if depth > 32:
        raise _OddError
    while True:
        tag, (_, _, length), at = _tag(window, at), _IMPLICIT(window, at), at + 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _OddError
        at = at + length if length != _UNDEFINED else _skip_item(window, at, is_implicit, depth)


def _skip_item(window: bytes, at: int, is_implicit: bool, depth: int) -> int:
    while True:
        if _tag(window, at) == _ITEM_END:
            return at + 8
        _, is_sequence, length, value_at = _element(window, at, is_implicit)
        if length == _UNDEFINED:
            at = _skip_items(window, value_at, is_implicit or not is_sequence, depth + 1)
        else:
            at = value_at + length


def _value(raw: bytes, kind: str, is_signed: bool) -> Any:
    if kind in (UNSIGNED, PIXEL):
        return int.from_bytes(raw[:2], "little", signed=kind == PIXEL and is_signed) if len(raw) >= 2 else None
    text = raw.decode("latin-1").strip(" \0")
    if kind == TEXT:
        return text.split("\\")[0].strip()
    parts = [part.strip() for part in text.split("\\")] if text else []
    try:
        return [float(part) if kind == DECIMAL else int(part) for part in parts]
    except ValueError:
        return []


# --- Everything else


def _find_by_pydicom(file: BinaryIO) -> FoundImage:
    dataset = _read(file)
    syntax = _transfer_syntax(dataset)
    keyword = next((keyword for keyword in PIXEL_KEYWORDS.values() if keyword in dataset), "")
    if keyword:
        return FoundImage(dataset, syntax, 0, keyword, str(dataset[keyword].VR))
    try:
        tag, vr = _pixel_element(file, dataset.original_encoding[1] is not False)
        return FoundImage(dataset, syntax, file.tell(), PIXEL_KEYWORDS[tag], vr)
    except (KeyError, struct.error, UnicodeDecodeError) as error:
        raise UnreadableImageError("it holds no pixel data") from error


def _read(file: BinaryIO) -> FileDataset:
    """The header, the file standing at the pixel element; a deflated data set is read whole."""
    try:
        dataset = dcmread(file, stop_before_pixels=True, force=True)
        if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            file.seek(0)
            dataset = dcmread(file, force=True)
    except OSError:
        raise
    except Exception as error:  # pydicom raises anything on damaged data
        raise UnreadableImageError("the file cannot be read as DICOM") from error
    return dataset


def _transfer_syntax(dataset: FileDataset) -> UID:
    """What the file meta says, else what the data set was read with."""
    named = dataset.file_meta.get("TransferSyntaxUID")
    if named:
        return UID(named)
    is_implicit, is_little_endian = dataset.original_encoding
    if not is_little_endian:
        return ExplicitVRBigEndian
    return ImplicitVRLittleEndian if is_implicit else ExplicitVRLittleEndian


def _pixel_element(file: BinaryIO, is_little_endian: bool) -> tuple[int, str]:
    """Tag and VR ("" when implicit) of the element at the file's position, which moves to its value (PS3.5 7.1).

    Some writers name an explicit transfer syntax and write implicit VR; the element itself tells.
    """
    group, element, vr, _ = Struct("<HH2sH" if is_little_endian else ">HH2sH").unpack(file.read(8))
    if not (vr.isalpha() and vr.isupper()):
        return group << 16 | element, ""
    file.seek(4, 1)
    return group << 16 | element, vr.decode("ascii")
