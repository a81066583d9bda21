"""Drawn pages, measured."""

import numpy as np
import pytest

from apps.films.compose import compose
from apps.films.geometry import Profile, profile_of
from apps.films.layout import Cell, SheetLayout, sheet_layout
from apps.films.recipe import Header, Recipe, RecipeCell
from apps.rendering.colour import luma
from apps.rendering.frame import ImageFile, UndecodableFrameError, decode_frame, picture
from apps.rendering.voi import Window
from tests.films.phantom import phantom
from tests.rendering.images import image, opened

WIDTH_MM, HEIGHT_MM = 203.2, 254.0
HEADER = Header("Phantom, Test", "P1", "1970-01-01", "O", "2026-01-02", "10:11", "Synthetic study", "A1", "Hospital")


def profile(dpi: int = 150, colour: bool = False) -> Profile:
    return profile_of(WIDTH_MM, HEIGHT_MM, dpi, colour)


def recipe(columns: int = 1, rows: int = 1, cells: int = 1, **values: object) -> Recipe:
    placed = tuple(RecipeCell(at, str(at)) for at in range(1, cells + 1))
    return Recipe(WIDTH_MM, HEIGHT_MM, columns, rows, **{"header": HEADER, "cells": placed, **values})


def crop(page: np.ndarray, cell: Cell) -> np.ndarray:
    return page[cell.top : cell.bottom, cell.left : cell.right]


def drawn(page: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left and right end of what is not black."""
    rows, columns = np.nonzero(page if page.ndim == 2 else page.max(axis=2))
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def draw(made: Recipe, images: dict[str, ImageFile], to: Profile) -> tuple[np.ndarray, SheetLayout]:
    return compose(made, images, to), sheet_layout(made, to)


@pytest.fixture
def ct(tmp_path) -> ImageFile:
    return opened(tmp_path, phantom(128))


def test_the_picture_is_the_frame_windowed_and_then_resized(ct):
    page, layout = draw(recipe(), {"1": ct}, profile())
    box = layout.boxes[0].image
    side = min(box.width, box.height)
    left, top = box.left + (box.width - side) // 2, box.top + (box.height - side) // 2
    expected = picture(decode_frame(ct), side, side)
    assert (page[top : top + side, left : left + side] == expected).all()


def test_words_and_rulers_never_touch_a_picture(ct):
    made = recipe(3, 4, 12)
    images = {str(at): ct for at in range(1, 13)}
    page, layout = draw(made, images, profile())
    ruler_px = profile().px(4)
    for box in layout.boxes:
        area = crop(page, box.image)
        rows, columns = area.shape
        side = min(rows, columns)
        top, left = (rows - side) // 2, (columns - side) // 2
        expected = picture(decode_frame(ct), side, side)
        assert (area[top : top + side, left : left + side] == expected).all()
        assert not area[:, :left].any()
        assert not area[:, left + side + ruler_px :].any()


@pytest.mark.parametrize("dpi", [150, 300])
def test_the_ruler_measures_what_it_says(tmp_path, dpi):
    file = opened(tmp_path, phantom(128, PixelSpacing=[0.5, 0.5]))  # 64 mm
    page, layout = draw(recipe(2, 2), {"1": file}, profile(dpi))
    box = layout.boxes[0]
    side = min(box.image.width, box.image.height)
    beside = Cell(box.image.left + (box.image.width + side) // 2, box.image.top, 0, box.image.height)
    strip = page[beside.top : beside.bottom, beside.left : box.ruler.right]
    top, bottom, _, _ = drawn(strip)
    stroke = max(1, profile(dpi).px(0.2))
    measured_mm = (bottom - top - stroke) / (side / 64)
    assert measured_mm == pytest.approx(50, abs=1.5 / (side / 64))  # 5 cm, to a dot and a half


def test_the_sheet_ruler_is_as_long_as_it_says(ct):
    page, layout = draw(recipe(), {"1": ct}, profile(300))
    foot = crop(page, layout.footer)
    baseline = foot[-1]  # the ruler's own line
    length = np.flatnonzero(baseline)
    measured_mm = (length.max() + 1 - length.min() - profile(300).px(0.2)) * 25.4 / 300
    assert measured_mm == pytest.approx(50, abs=0.05)


@pytest.mark.parametrize("dpi", [150, 300, 600])
def test_text_is_as_high_as_asked(ct, dpi):
    page, layout = draw(recipe(header=Header(institution="HHHH", patient_name="H")), {"1": ct}, profile(dpi))
    right = crop(page, layout.header)[:, layout.header.width // 2 :]
    rows = np.flatnonzero((right > 127).any(axis=1))
    first = rows[: np.argmax(np.diff(np.append(rows, 10**6)) > 1) + 1]
    assert len(first) * 25.4 / dpi == pytest.approx(2.5, abs=0.2)


def test_a_window_of_the_recipe_replaces_the_stored_one(ct):
    narrow = Recipe(WIDTH_MM, HEIGHT_MM, 1, 1, cells=(RecipeCell(1, "1", window=Window(400, 100)),))
    page, layout = draw(recipe(), {"1": ct}, profile())
    other, _ = draw(narrow, {"1": ct}, profile())
    assert (crop(page, layout.boxes[0].image) != crop(other, layout.boxes[0].image)).any()


def test_pixels_that_are_not_square_become_square(tmp_path):
    tall = opened(tmp_path, phantom(64, PixelSpacing=[1.0, 0.5]))
    page, layout = draw(recipe(has_ruler=False), {"1": tall}, profile())
    top, bottom, left, right = drawn(crop(page, layout.boxes[0].image) > 0)
    assert (bottom - top) / (right - left) == pytest.approx(2, abs=0.02)


def test_one_colour_image_makes_the_page_rgb(tmp_path, ct):
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    images = {"1": ct, "2": opened(tmp_path, image(red))}
    page, layout = draw(recipe(2, 1, 2), images, profile(colour=True))
    assert page.ndim == 3
    middle = layout.boxes[1].image
    assert page[middle.top + middle.height // 2, middle.left + middle.width // 2].tolist() == [200, 0, 0]
    gray, _ = draw(recipe(2, 1, 2), images, profile(colour=False))
    assert gray.ndim == 2
    assert gray[middle.top + middle.height // 2, middle.left + middle.width // 2] == luma(red)[0, 0]


def test_gray_images_need_no_colour_page(ct):
    assert compose(recipe(), {"1": ct}, profile(colour=True)).ndim == 2


def test_the_same_recipe_gives_the_same_page(ct):
    assert (compose(recipe(), {"1": ct}, profile()) == compose(recipe(), {"1": ct}, profile())).all()


def test_empty_boxes_stay_black(ct):
    page, layout = draw(recipe(2, 2, 1), {"1": ct}, profile())
    for box in layout.boxes[1:]:
        assert not crop(page, box.image).any()
        assert not crop(page, box.caption).any()


def test_an_image_that_cannot_be_shown_stops_the_page(tmp_path):
    broken = opened(tmp_path, phantom(64, PixelData=b"\0\0"))
    with pytest.raises(UndecodableFrameError):
        compose(recipe(), {"1": broken}, profile())


def test_long_names_do_not_push_anything_off_the_page(ct):
    long = Header("Wolfeschlegelsteinhausenbergerdorff, " * 5, "ID" * 40, institution="University hospital " * 8)
    page, layout = draw(recipe(header=long), {"1": ct}, profile())
    margin = layout.header.left
    assert not page[:, :margin].any()
    assert not page[:, layout.header.right :].any()
