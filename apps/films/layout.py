"""Where everything lies on a sheet, in pixels of one printer profile. Plain Python: numbers in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass

from apps.films.geometry import Profile
from apps.films.recipe import Recipe

NAME_SCALE = 1.5  # the patient's name is larger than the other text
LINE_MM_PER_TEXT_MM = 1.76  # apps.rendering.text.line_height
RULER_STRIP_MM = 4.0
SMALLEST_IMAGE_MM = 12.0
WIDE_CAPTION_TEXTS = 20  # from this width in capital heights on, two lines hold a caption


@dataclass(frozen=True)
class Cell:
    """A rectangle of pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column behind it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height


@dataclass(frozen=True)
class ImageBox:
    """One image box: the picture goes into `image`, nothing else does."""

    image: Cell
    ruler: Cell
    caption: Cell


@dataclass(frozen=True)
class SheetLayout:
    """Bands of one sheet from top to bottom; `boxes` in Image Box Position order."""

    header: Cell
    boxes: tuple[ImageBox, ...]
    footer: Cell
    text_px: float
    line_px: int


def standard_cells(columns: int, rows: int, width: int, height: int, gap: int = 0) -> list[Cell]:
    """Equal image boxes of STANDARD\\C,R in Image Box Position order (PS3.3 C.13.3, C.13.5.1).

    width, height and gap are pixels of the printable area. Returns columns * rows cells, row by
    row from the top left. Raises ValueError when a cell would be empty.
    """
    cell_w = (width - gap * (columns - 1)) // columns
    cell_h = (height - gap * (rows - 1)) // rows
    if cell_w < 1 or cell_h < 1:
        raise ValueError(f"{columns}x{rows} boxes do not fit in {width}x{height} pixels")
    steps = [(column, row) for row in range(rows) for column in range(columns)]
    return [Cell(c * (cell_w + gap), r * (cell_h + gap), cell_w, cell_h) for c, r in steps]


def sheet_layout(recipe: Recipe, profile: Profile) -> SheetLayout:
    """Header, image boxes with their captions and rulers, footer.

    Raises ValueError where the grid leaves less than 12 mm of an image's width or height.
    """
    text_px = recipe.text_mm * profile.dpi / 25.4
    line_px = round(text_px * LINE_MM_PER_TEXT_MM)
    margin, gap = profile.px(recipe.margin_mm), profile.px(recipe.gap_mm)
    width = profile.width_px - 2 * margin
    header = Cell(margin, margin, width, round(line_px * (NAME_SCALE + 2)) + gap)
    footer = Cell(margin, profile.height_px - margin - line_px, width, line_px)
    grid = Cell(margin, header.bottom + gap, width, footer.top - line_px // 2 - gap - header.bottom - gap)
    boxes = standard_cells(recipe.columns, recipe.rows, grid.width, grid.height, gap)
    placed = tuple(_image_box(cell, grid, recipe, profile, line_px) for cell in boxes)
    smallest = profile.px(SMALLEST_IMAGE_MM)
    if min(placed[0].image.width, placed[0].image.height) < smallest:
        raise ValueError(f"{recipe.columns} x {recipe.rows} images are too many for this film")
    return SheetLayout(header, placed, footer, text_px, line_px)


def caption_lines(box_width_mm: float, text_mm: float) -> int:
    """How many lines a caption gets."""
    return 2 if box_width_mm >= WIDE_CAPTION_TEXTS * text_mm else 3


def _image_box(cell: Cell, grid: Cell, recipe: Recipe, profile: Profile, line_px: int) -> ImageBox:
    """One grid cell: the picture, a strip to its right for the ruler, and lines below it for the caption."""
    left, top = grid.left + cell.left, grid.top + cell.top
    strip = profile.px(RULER_STRIP_MM) if recipe.has_ruler else 0
    band = line_px * caption_lines(cell.width * 25.4 / profile.dpi, recipe.text_mm)
    image = Cell(left, top, cell.width - strip, cell.height - band)
    return ImageBox(
        image,
        Cell(image.right, top, strip, image.height),
        Cell(left, image.bottom, cell.width, band),
    )
