"""The grayscale parameters of a frame, read from its header."""

from __future__ import annotations

from typing import Any

import numpy as np

from apps.rendering.functional_groups import first_value, macro, numbers
from apps.rendering.header import Attributes
from apps.rendering.voi import Lut, Modality, Rescale, Voi, Window

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
# Their Modality LUT leads back to X-ray intensity and is not for display (PS3.3 C.8.7.1.1.2)
X_RAY_ANGIO = ("1.2.840.10008.5.1.4.1.1.12.1", "1.2.840.10008.5.1.4.1.1.12.2")


def read_modality(dataset: Attributes, frame: int, is_signed: bool) -> Modality:
    """The Modality LUT, else the rescale of this frame (from 1), else the identity (PS3.3 C.11.1, C.7.6.16.2.9)."""
    if str(dataset.get("SOPClassUID", "")) in X_RAY_ANGIO:
        return Rescale()
    lut = _first_lut(dataset.get("ModalityLUTSequence"), is_signed)
    if lut:
        return lut
    item = macro(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = numbers(item.get("RescaleSlope"))[:1], numbers(item.get("RescaleIntercept"))[:1]
    if not slope or not intercept or slope[0] == 0:
        return Rescale()
    return Rescale(slope[0], intercept[0])


def read_voi(dataset: Attributes, frame: int, is_signed: bool) -> tuple[Voi, ...]:
    """Every VOI LUT, then every window of this frame (from 1), in the object's order (PS3.3 C.11.2, C.7.6.16.2.10)."""
    luts = [read_lut(item, is_signed) for item in dataset.get("VOILUTSequence") or []]
    return tuple(lut for lut in luts if lut) + tuple(_windows(macro(dataset, frame, "FrameVOILUTSequence")))


def read_lut(item: Attributes, is_signed: bool) -> Lut | None:
    """One item of a Modality or VOI LUT Sequence; None where it is damaged.

    is_signed: the values that it maps are signed, and so is the first one of them, whatever VR it was written with.
    """
    descriptor = [int(each) for each in numbers(item.get("LUTDescriptor"))]
    is_big_endian = getattr(item, "original_encoding", (None, None))[1] is False
    entries = _entries(item.get("LUTData"), ">u2" if is_big_endian else "<u2")
    if len(descriptor) != 3 or not entries or not 1 <= descriptor[2] <= 16:
        return None
    count = descriptor[0] or 65536
    first = descriptor[1] - 65536 if is_signed and descriptor[1] > 32767 else descriptor[1]
    return Lut(first, descriptor[2], tuple(_unpacked(entries, count)[:count]))


def _first_lut(items: Any, is_signed: bool) -> Lut | None:
    return read_lut(items[0], is_signed) if items else None


def _entries(data: Any, order: str) -> list[int]:
    if isinstance(data, bytes):
        return [int(each) for each in np.frombuffer(data[: len(data) // 2 * 2], order)]
    return [int(each) & 0xFFFF for each in numbers(data)]


def _unpacked(words: list[int], count: int) -> list[int]:
    """Entries of 8 bits may be packed two to a word (PS3.3 C.11.1.1.1)."""
    if len(words) >= count or 2 * len(words) < count:
        return words
    return [byte for word in words for byte in (word & 0xFF, word >> 8)]


def _windows(item: Attributes) -> list[Window]:
    centers, widths = numbers(item.get("WindowCenter")), numbers(item.get("WindowWidth"))
    function = str(first_value(item.get("VOILUTFunction")) or "LINEAR").upper()
    if function not in FUNCTIONS:
        function = "LINEAR"
    return [Window(c, w, function) for c, w in zip(centers, widths, strict=False) if w > 0]
