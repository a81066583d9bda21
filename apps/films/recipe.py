"""The recipe of a sheet: everything that is drawn, in image pixels and millimetres. Plain Python.

It is kept as JSON with a version. It names instances by UID, so that with their files, which never change, and a
printer's profile the same raster comes out again.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from apps.core.errors import PermanentError
from apps.rendering.voi import Window

VERSION = 1


class RecipeError(PermanentError):
    """A recipe was written by another version of this program, or is not whole."""


@dataclass(frozen=True)
class Header:
    """The texts at the top of the sheet as they were when it was made, dates as YYYY-MM-DD. They describe a person."""

    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    accession_number: str = ""
    institution: str = ""


@dataclass(frozen=True)
class RecipeCell:
    """One image box: its position (from 1, row by row), the frame (from 1), its window unless the stored one holds."""

    position: int
    sop_instance_uid: str
    frame: int = 1
    window: Window | None = None


@dataclass(frozen=True)
class Recipe:
    """One sheet. The grid is STANDARD\\columns,rows (PS3.3 C.13.3)."""

    width_mm: float
    height_mm: float
    columns: int
    rows: int
    margin_mm: float = 6.0
    gap_mm: float = 2.0
    text_mm: float = 2.5
    has_ruler: bool = True
    page: int = 1
    page_count: int = 1
    made_at: str = ""
    header: Header = field(default_factory=Header)
    cells: tuple[RecipeCell, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """What is stored."""
        return {"version": VERSION, **asdict(self), "cells": [asdict(cell) for cell in self.cells]}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Recipe:
        """The recipe that was stored. Raises RecipeError."""
        values = dict(stored)
        if values.pop("version", None) != VERSION:
            raise RecipeError(f"the sheet's recipe is not of version {VERSION}")
        try:
            header, cells = Header(**values.pop("header")), tuple(_cell(cell) for cell in values.pop("cells"))
            return cls(header=header, cells=cells, **values)
        except (KeyError, TypeError) as error:
            raise RecipeError("the sheet's recipe is not whole") from error


def recipe_sha256(stored: dict[str, Any]) -> str:
    """SHA-256 (hex) of the recipe's JSON with sorted keys and without spaces."""
    text = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return sha256(text.encode()).hexdigest()


def _cell(stored: dict[str, Any]) -> RecipeCell:
    window = stored.get("window")
    return RecipeCell(**{**stored, "window": Window(**window) if window else None})
