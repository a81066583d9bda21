"""Drawing a page: the only code that does. A recipe and its opened instances become one raster."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from apps.films.captions import caption_words, footer_text, header_rows, ruler_text
from apps.films.geometry import Profile
from apps.films.layout import NAME_SCALE, Cell, ImageBox, SheetLayout, sheet_layout
from apps.films.recipe import Recipe, RecipeCell
from apps.rendering.colour import luma
from apps.rendering.frame import ImageFile, StoredFrame, decode_frame, picture
from apps.rendering.resize import fit
from apps.rendering.text import Line, draw_line, fit_line, line_height
from apps.rendering.voi import Voi

WHITE, DIM = 255, 170
RULER_LENGTHS_MM = (200, 100, 50, 20, 10, 5, 2, 1)
RULER_STEPS_MM = (1, 10, 50, 100, 1000)
SMALLEST_STEP_MM = 1.5
SHEET_RULER_MM = 100
STROKE_MM = 0.2
NO_SCALE = "no scale"
Raster = NDArray[np.uint8]


def compose(recipe: Recipe, images: Mapping[str, ImageFile], profile: Profile) -> Raster:
    """The page as 8-bit gray (height, width), or RGB (height, width, 3) when an image and the printer have colour.

    images are the opened instances by SOP Instance UID. Raises UndecodableFrameError, MissingFontError, OSError, and
    ValueError where the grid does not fit.
    """
    layout = sheet_layout(recipe, profile)
    page = _Page(profile, layout)
    for cell in recipe.cells:
        page.draw_cell(cell, images[cell.sop_instance_uid], layout.boxes[cell.position - 1], recipe.has_ruler)
    page.draw_header(recipe)
    page.draw_footer(recipe)
    return page.canvas


class _Page:
    """A black page that becomes RGB with the first colour image."""

    def __init__(self, profile: Profile, layout: SheetLayout) -> None:
        self.profile, self.layout = profile, layout
        self.canvas: Raster = np.zeros((profile.height_px, profile.width_px), np.uint8)
        self.stroke = max(1, profile.px(STROKE_MM))

    def draw_cell(self, cell: RecipeCell, image: ImageFile, box: ImageBox, has_ruler: bool) -> None:
        """One image, as large as it fits, with caption and ruler."""
        stored = decode_frame(image, cell.frame)
        voi = cell.window or stored.default_voi()
        rows, columns = stored.pixels.shape[:2]
        width, height = fit(rows, columns, stored.pixel_aspect, box.image.width, box.image.height)
        place = _centred(box.image, width, height)
        self._draw_picture(stored, voi, place)
        identity, display = caption_words(image, cell.frame, stored, voi)
        if has_ruler:
            display.append(self._draw_image_ruler(stored, place, box.ruler))
        self._draw_words(display, box.caption, self._draw_words(identity, box.caption, box.caption.top))

    def draw_header(self, recipe: Recipe) -> None:
        """Who and what the sheet shows, above a thin line."""
        area, top = self.layout.header, self.layout.header.top
        for number, (left, right) in enumerate(header_rows(recipe.header)):
            scale = NAME_SCALE if number == 0 else 1.0
            size, height = self.layout.text_px * scale, round(self.layout.line_px * scale)
            name = fit_line(left, size, round(area.width * 0.64), is_bold=number == 0)
            self._stamp(name, area.left, top)
            small = fit_line(right, self.layout.text_px, area.right - area.left - name.width - self.layout.line_px)
            self._stamp(small, area.right - small.width, top + height - line_height(self.layout.text_px))
            top += height
        self._fill(Cell(area.left, area.bottom - self.stroke, area.width, self.stroke), DIM)

    def draw_footer(self, recipe: Recipe) -> None:
        """A ruler of the film itself, the page number, and what else there is to say."""
        area = self.layout.footer
        middle, right = footer_text(recipe, self.profile.is_calibrated)
        page = draw_line(middle, self.layout.text_px)
        left = self._draw_sheet_ruler(area) if recipe.has_ruler else area.left
        left = max(left, area.left + (area.width - page.width) // 2)
        note = fit_line(right, self.layout.text_px, area.right - left - page.width - self.layout.line_px)
        self._stamp(page, left, area.top)
        self._stamp(note, area.right - note.width, area.top)

    def _draw_image_ruler(self, stored: StoredFrame, place: Cell, strip: Cell) -> str:
        """A scale in the strip beside the picture, centred on it; returns its caption."""
        if stored.spacing is None:
            return NO_SCALE
        px_per_mm = place.height / (stored.pixels.shape[0] * stored.spacing.row_mm)
        length = next((mm for mm in RULER_LENGTHS_MM if mm * px_per_mm <= place.height), 0)
        if not length:
            return NO_SCALE
        step = next(mm for mm in RULER_STEPS_MM if mm * px_per_mm >= self.profile.px(SMALLEST_STEP_MM))
        top = place.top + (place.height - length * px_per_mm) / 2
        left = min(place.right, strip.left) + self.profile.px(1)
        for tick in range(0, length + 1, step):
            is_long = tick in (0, length) or tick // step % 5 == 0
            self._fill(Cell(left, round(top + tick * px_per_mm), self._tick_px(is_long), self.stroke))
        self._fill(Cell(left, round(top), self.stroke, round(length * px_per_mm) + self.stroke))
        return ruler_text(length, stored.spacing.label)

    def _draw_sheet_ruler(self, area: Cell) -> int:
        """100 mm of the film itself, by which any later scaling shows; returns where it ends."""
        length = SHEET_RULER_MM if area.width > self.profile.px(2.6 * SHEET_RULER_MM) else SHEET_RULER_MM // 2
        base = area.bottom - self.stroke
        for tick in range(0, length + 1, 10):
            height = self._tick_px(tick % 50 == 0)
            self._fill(Cell(area.left + self.profile.px(tick), base - height, self.stroke, height))
        self._fill(Cell(area.left, base, self.profile.px(length) + self.stroke, self.stroke))
        label = draw_line(ruler_text(length) + " on film", self.layout.text_px)
        left = area.left + self.profile.px(length) + self.layout.line_px // 2
        self._stamp(label, left, area.top)
        return left + label.width + self.layout.line_px

    def _tick_px(self, is_long: bool) -> int:
        return self.profile.px(2.2 if is_long else 1.2)

    def _draw_words(self, words: list[str], area: Cell, top: int) -> int:
        """From left to right in as many lines as are needed and left; returns the top of the next line."""
        left = area.left
        for word in words:
            line = draw_line(word, self.layout.text_px)
            if left > area.left and left + line.width > area.right and top + 2 * self.layout.line_px <= area.bottom:
                left, top = area.left, top + self.layout.line_px
            shown = fit_line(word, self.layout.text_px, area.right - left)
            self._stamp(shown, left, top)
            left += shown.width + self.layout.line_px * 3 // 4
        return min(top + self.layout.line_px, area.bottom - self.layout.line_px)

    def _draw_picture(self, stored: StoredFrame, voi: Voi, place: Cell) -> None:
        """The frame into its place; the page becomes RGB when the frame is and the printer can."""
        if stored.is_colour and self.profile.colour and self.canvas.ndim == 2:
            self.canvas = np.repeat(self.canvas[..., None], 3, axis=2)
        region = self.canvas[place.top : place.bottom, place.left : place.right]
        if not stored.is_colour and region.ndim == 2:
            picture(stored, place.width, place.height, voi, out=region)
            return
        pixels = picture(stored, place.width, place.height, voi)
        if region.ndim == 2:
            region[...] = luma(pixels)
        else:
            region[...] = pixels if pixels.ndim == 3 else pixels[..., None]

    def _stamp(self, line: Line, left: int, top: int) -> None:
        """White ink; what falls off the page is lost."""
        area = self.canvas[top : top + line.mask.shape[0], left : left + line.width]
        mask = line.mask[: area.shape[0], : area.shape[1]]
        np.maximum(area, mask if area.ndim == 2 else mask[..., None], out=area)

    def _fill(self, area: Cell, value: int = WHITE) -> None:
        self.canvas[area.top : area.bottom, area.left : area.right] = value


def _centred(area: Cell, width: int, height: int) -> Cell:
    return Cell(area.left + (area.width - width) // 2, area.top + (area.height - height) // 2, width, height)
