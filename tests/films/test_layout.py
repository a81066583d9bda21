"""Where things lie on a sheet."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.films.geometry import FILM_SIZE_LABELS, FILM_SIZES_MM, LANDSCAPE, PORTRAIT, film_mm, profile_of
from apps.films.layout import Cell, sheet_layout, standard_cells
from apps.films.recipe import Recipe


def layout(width_mm=355.6, height_mm=431.8, columns=4, rows=5, dpi=300, **values):
    recipe = Recipe(width_mm, height_mm, columns, rows, **values)
    return sheet_layout(recipe, profile_of(width_mm, height_mm, dpi, colour=False))


def overlap(one: Cell, other: Cell) -> bool:
    return one.left < other.right and other.left < one.right and one.top < other.bottom and other.top < one.bottom


def test_boxes_are_numbered_row_by_row():
    cells = standard_cells(3, 2, 320, 210, gap=10)
    assert cells[0] == Cell(0, 0, 100, 100)
    assert cells[1] == Cell(110, 0, 100, 100)
    assert cells[3] == Cell(0, 110, 100, 100)


def test_boxes_that_would_be_empty_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        standard_cells(50, 1, 40, 40)


@settings(deadline=None, database=None)
@given(
    size=st.sampled_from(sorted(FILM_SIZES_MM)),
    orientation=st.sampled_from([PORTRAIT, LANDSCAPE]),
    columns=st.integers(1, 8),
    rows=st.integers(1, 8),
    dpi=st.sampled_from([72, 150, 300, 508, 600]),
    has_ruler=st.booleans(),
)
def test_nothing_overlaps_and_all_lies_inside_the_margin(size, orientation, columns, rows, dpi, has_ruler):
    width_mm, height_mm = film_mm(size, orientation)
    try:
        found = layout(width_mm, height_mm, columns, rows, dpi, has_ruler=has_ruler)
    except ValueError:
        return  # too many for this film
    parts = [found.header, found.footer]
    parts += [part for box in found.boxes for part in (box.image, box.caption, *([box.ruler] if has_ruler else []))]
    assert not any(overlap(one, other) for at, one in enumerate(parts) for other in parts[at + 1 :])
    margin = round(6 * dpi / 25.4)
    right, bottom = round(width_mm * dpi / 25.4) - margin, round(height_mm * dpi / 25.4) - margin
    assert min(part.left for part in parts) >= margin
    assert min(part.top for part in parts) >= margin
    assert max(part.right for part in parts) <= right
    assert max(part.bottom for part in parts) <= bottom


def test_a_grid_that_leaves_too_little_is_refused():
    with pytest.raises(ValueError, match="too many"):
        layout(203.2, 254, 12, 12)


def test_the_same_sheet_at_twice_the_resolution_has_the_same_proportions():
    one, two = layout(dpi=300).boxes[7].image, layout(dpi=600).boxes[7].image
    for part in ("left", "top", "width", "height"):
        assert getattr(two, part) == pytest.approx(2 * getattr(one, part), abs=5)


def test_every_size_has_a_label():
    assert FILM_SIZE_LABELS.keys() == FILM_SIZES_MM.keys()
    assert film_mm("A4", LANDSCAPE) == (297.0, 210.0)
