"""What the "make film" page asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from apps.archive.models import Instance, Series, Study
from apps.archive.queries import list_series
from apps.films.layout import Cell
from apps.films.services import FrameRef, Layout, chosen_frames, count_frames, count_sheets, layout_of

PRESETS = ((1, 1), (2, 1), (1, 2), (2, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 8))
GRIDS = {"CR": (1, 1), "DX": (1, 1), "MG": (1, 1), "US": (3, 4), "XA": (4, 5), "CT": (4, 5), "MR": (4, 5), "PT": (4, 5)}
DRAWING_DPI = 50  # a pixel of the drawing is half a millimetre


@dataclass(frozen=True)
class SeriesChoice:
    """One series that can be printed; cover is the image that stands for it."""

    series: Series
    cover: Instance
    frame_count: int


@dataclass(frozen=True)
class PlannedCell:
    """One image box of the first sheet's drawing, and what it will show, if anything."""

    box: Cell
    frame: FrameRef | None


@dataclass(frozen=True)
class Plan:
    """What a film will be: its first sheet as a drawing in pixels, and how many there will be."""

    width: int
    height: int
    header: Cell
    footer: Cell
    cells: tuple[PlannedCell, ...]
    sheet_count: int
    image_count: int
    last_count: int


def printable_series(study: Study) -> list[SeriesChoice]:
    """The study's series that have images, in order."""
    cards = [card for card in list_series(study) if card.cover]
    counts = count_frames([card.series for card in cards])
    return [SeriesChoice(card.series, card.cover, counts[card.series.pk]) for card in cards if card.cover]


def first_grid(choices: Sequence[SeriesChoice], default: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows to begin with: by modality, and no more than one series needs."""
    if not choices:
        return default
    usual = GRIDS.get(choices[0].series.modality, default)
    most = max(choice.frame_count for choice in choices)
    enough = next((grid for grid in PRESETS if grid[0] * grid[1] >= most), usual)
    return min(usual, enough, key=lambda grid: grid[0] * grid[1])


def plan_film(series: Sequence[Series], layout: Layout) -> Plan:
    """What would come out. Raises ValueError where the grid is too fine for the film."""
    drawn = layout_of(layout, DRAWING_DPI)
    counts = count_frames(series)
    sheets = count_sheets(counts.values(), layout)
    images = sum(-(-count // layout.every) for count in counts.values())
    frames: list[FrameRef | None] = list(islice(chosen_frames(series, layout.every), layout.cells))
    frames += [None] * (layout.cells - len(frames))
    margin_and_header = drawn.header.left
    return Plan(
        width=drawn.header.right + margin_and_header,
        height=drawn.footer.bottom + margin_and_header,
        header=drawn.header,
        footer=drawn.footer,
        cells=tuple(PlannedCell(box.image, frame) for box, frame in zip(drawn.boxes, frames, strict=True)),
        sheet_count=sheets,
        image_count=images,
        last_count=images - (sheets - 1) * layout.cells if sheets else 0,
    )
