"""Attributes of one frame, wherever the object keeps them (PS3.3 C.7.6.16): per frame, shared, or at the top."""

from __future__ import annotations

from typing import Any

from apps.rendering.header import Attributes

PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"


def macro(dataset: Attributes, frame: int, sequence: str) -> Attributes:
    """The item that describes this frame (from 1): of its own group, of the shared group, else the data set itself.

    sequence is the macro's keyword, for example PixelMeasuresSequence.
    """
    for group in _groups(dataset, frame):
        items = group.get(sequence)
        if items:
            item: Attributes = items[0]
            return item
    return dataset


def first_value(value: Any) -> Any:
    """The first of several values; the value itself where there is one; None where there is none."""
    if value is None or isinstance(value, str):
        return value or None
    try:
        return value[0] if len(value) else None
    except TypeError:
        return value


def numbers(value: Any) -> list[float]:
    """Every value as a float, [] where one is not a number."""
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, (str, int, float)) or not hasattr(value, "__iter__") else list(value)
    try:
        return [float(each) for each in values]
    except (TypeError, ValueError):
        return []


def _groups(dataset: Attributes, frame: int) -> list[Attributes]:
    groups = list(dataset.get(PER_FRAME) or [])[frame - 1 : frame]
    return groups + list(dataset.get(SHARED) or [])[:1]
