"""Making film sheets of a study, and drawing them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from django.db import transaction
from django.utils import timezone

from apps.archive.holding import file_digest
from apps.archive.models import Instance, Series, Study
from apps.core.errors import DicomsysError, PermanentError
from apps.films.compose import compose
from apps.films.geometry import Profile, profile_of
from apps.films.layout import SheetLayout, sheet_layout
from apps.films.models import FilmRaster, FilmSheet, FilmSheetInstance, FilmTemplate
from apps.films.raster import encode, raster_sha256
from apps.films.recipe import Header, Recipe, RecipeCell, recipe_sha256
from apps.rendering.frame import ImageFile
from apps.rendering.resize import reduce
from apps.rendering.thumbnail import encode_png
from apps.storage.blobs import has_blob, write_blob

if TYPE_CHECKING:
    from apps.accounts.models import User

MAX_SHEETS = 100
CHECK_DPI = 300
PREVIEW_PX = 1400


class FilmError(DicomsysError):
    """These series cannot become a film as asked; the text is for the person who asked."""


@dataclass(frozen=True)
class Layout:
    """How the images of a film are chosen and laid out: a template, a grid, and every n-th image of a series."""

    template: FilmTemplate
    columns: int
    rows: int
    every: int = 1

    @property
    def cells(self) -> int:
        """Images on a full sheet."""
        return self.columns * self.rows


@dataclass(frozen=True)
class FrameRef:
    """One frame (from 1) of one instance."""

    instance_id: int
    sop_instance_uid: str
    frame: int


def make_sheets(user: User, study: Study, series_ids: Sequence[int], layout: Layout) -> list[FilmSheet]:
    """Sheets of these series, one series after the other, page by page.

    Raises FilmError where a series is not one of this study, which the user may see; so no sheet ever shows two
    patients. Also where nothing is left to show, the grid does not fit, or more than 100 sheets would be made.
    """
    series = chosen_series(user, study, series_ids)
    check_grid(layout)
    page_count = count_sheets(count_frames(series).values(), layout)
    if not page_count:
        raise FilmError("These series have no images.")
    if page_count > MAX_SHEETS:
        raise FilmError(f"This would be {page_count} sheets. Make at most {MAX_SHEETS} at once.")
    frames = list(chosen_frames(series, layout.every))
    header, made_at = header_of(study), timezone.localtime().strftime("%Y-%m-%d %H:%M")
    pages = [frames[start : start + layout.cells] for start in range(0, len(frames), layout.cells)]
    recipes = [_recipe(layout, header, made_at, number, page_count, page) for number, page in enumerate(pages, start=1)]
    return _save(user, study, layout.template, recipes, pages)


def chosen_series(user: User, study: Study, series_ids: Sequence[int]) -> list[Series]:
    """These series, in their order on the study page. Raises FilmError where one is not of this visible study."""
    wanted = set(series_ids)
    visible = Series.objects.filter(study__in=Study.objects.visible_to(user).filter(pk=study.pk), pk__in=wanted)
    found = list(visible)
    if not wanted:
        raise FilmError("Choose at least one series.")
    if len(found) != len(wanted):
        raise FilmError("A film shows one study of one patient; a chosen series is not part of it.")
    return found


def chosen_frames(series: Iterable[Series], every: int) -> Iterator[FrameRef]:
    """Every n-th frame of each series, in the order of its images."""
    return (frame for one in series for frame in islice(_frames(one), 0, None, every))


def count_frames(series: Sequence[Series]) -> dict[int, int]:
    """How many frames each series has, by primary key."""
    counts = {one.pk: 0 for one in series}
    rows = Instance.objects.filter(series__in=series, rows__gt=0, columns__gt=0)
    for series_id, frames in rows.values_list("series_id", "number_of_frames"):
        counts[series_id] += frames
    return counts


def count_sheets(frame_counts: Iterable[int], layout: Layout) -> int:
    """How many sheets series of so many frames need."""
    images = sum(-(-count // layout.every) for count in frame_counts)
    return -(-images // layout.cells)


def check_grid(layout: Layout) -> None:
    """Raises FilmError where the grid is too fine for the film."""
    try:
        layout_of(layout, CHECK_DPI)
    except ValueError as error:
        raise FilmError(f"{layout.columns} × {layout.rows} images are too many for {layout.template}.") from error


def layout_of(layout: Layout, dpi: int) -> SheetLayout:
    """Where the bands and image boxes of such a sheet lie, in pixels. Raises ValueError where the grid is too fine."""
    recipe = _recipe(layout, Header(), "", 1, 1, [])
    return sheet_layout(recipe, profile_of(recipe.width_mm, recipe.height_mm, dpi, colour=False))


def header_of(study: Study) -> Header:
    """The texts at the top of a sheet, from the archive."""
    patient = study.patient
    return Header(
        patient_name=patient.display_name,
        patient_id=patient.patient_id,
        birth_date=patient.birth_date.isoformat() if patient.birth_date else "",
        sex=patient.sex,
        study_date=study.study_date.isoformat() if study.study_date else "",
        study_time=study.study_time.strftime("%H:%M") if study.study_time else "",
        study_description=study.description,
        accession_number=study.accession_number,
        institution=study.institution,
    )


def render_sheet(sheet: FilmSheet, profile: Profile) -> FilmRaster:
    """The raster of a sheet for one printer profile: the one that is kept, else drawn anew and kept.

    Raises UndecodableFrameError, MissingFontError, PermanentError where a file is gone, and OSError.
    """
    if sheet.raster and sheet.profile == profile.key and has_blob(sheet.raster.blob):
        return sheet.raster
    raster = _draw(sheet, profile)
    FilmSheet.objects.filter(pk=sheet.pk).update(raster=raster, profile=profile.key)
    sheet.raster, sheet.profile = raster, profile.key
    return raster


def _draw(sheet: FilmSheet, profile: Profile) -> FilmRaster:
    pixels = compose(Recipe.from_json(sheet.recipe), _open_images(sheet), profile)
    stored, identity = encode(pixels), raster_sha256(pixels)
    data = stored.to_bytes()
    raster, _ = FilmRaster.objects.update_or_create(
        sha256=identity,
        defaults={
            "blob": write_blob(data),
            "preview": write_blob(encode_png(reduce(pixels, PREVIEW_PX))),
            "width_px": stored.width_px,
            "height_px": stored.height_px,
            "samples": stored.samples,
            "size_bytes": len(data),
        },
    )
    return raster


def _open_images(sheet: FilmSheet) -> dict[str, ImageFile]:
    """The instances of a sheet by SOP Instance UID."""
    cells = sheet.cells.select_related("instance__series__study", "instance__volume")
    images: dict[str, ImageFile] = {}
    for cell in cells:
        uid = cell.instance.sop_instance_uid
        if uid in images:
            continue
        try:
            is_intact = file_digest(cell.instance.path) == bytes(cell.instance.file_sha256)
        except FileNotFoundError as error:
            raise PermanentError(f"the file of image {uid} is missing from the file store") from error
        if not is_intact:  # another patient's picture under this name would look just as well
            raise PermanentError(f"the file of image {uid} is not the one that was stored")
        images[uid] = ImageFile(cell.instance.path)
    return images


def _frames(series: Series) -> Iterator[FrameRef]:
    images = series.instances.filter(rows__gt=0, columns__gt=0)
    for pk, uid, count in images.values_list("pk", "sop_instance_uid", "number_of_frames"):
        for frame in range(1, count + 1):
            yield FrameRef(pk, uid, frame)


def _recipe(
    layout: Layout, header: Header, made_at: str, page: int, page_count: int, frames: Sequence[FrameRef]
) -> Recipe:
    template = layout.template
    width_mm, height_mm = template.size_mm
    cells = (RecipeCell(at, ref.sop_instance_uid, ref.frame) for at, ref in enumerate(frames, start=1))
    return Recipe(
        width_mm=width_mm,
        height_mm=height_mm,
        columns=layout.columns,
        rows=layout.rows,
        margin_mm=template.margin_mm,
        gap_mm=template.gap_mm,
        text_mm=template.text_mm,
        has_ruler=template.has_ruler,
        page=page,
        page_count=page_count,
        made_at=made_at,
        header=header,
        cells=tuple(cells),
    )


@transaction.atomic
def _save(
    user: User, study: Study, template: FilmTemplate, recipes: Sequence[Recipe], pages: Sequence[Sequence[FrameRef]]
) -> list[FilmSheet]:
    sheets = FilmSheet.objects.bulk_create(
        FilmSheet(
            study=study,
            template=template,
            page=recipe.page,
            page_count=recipe.page_count,
            recipe=recipe.to_json(),
            recipe_sha256=recipe_sha256(recipe.to_json()),
            created_by=user,
        )
        for recipe in recipes
    )
    FilmSheetInstance.objects.bulk_create(
        FilmSheetInstance(sheet=sheet, position=at, instance_id=ref.instance_id, frame=ref.frame)
        for sheet, page in zip(sheets, pages, strict=True)
        for at, ref in enumerate(page, start=1)
    )
    return sheets
