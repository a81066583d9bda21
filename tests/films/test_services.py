"""Making sheets of a study, and drawing them."""

from dataclasses import replace

import pytest
from django.core.exceptions import ValidationError

from apps.archive.models import Study
from apps.core.errors import PermanentError
from apps.films.geometry import profile_of
from apps.films.models import FilmRaster, FilmSheet
from apps.films.raster import raster_sha256, read_raster
from apps.films.recipe import Recipe, recipe_sha256
from apps.films.services import FilmError, Layout, make_sheets, render_sheet
from apps.storage.blobs import blob_path, open_blob
from tests.factories import make_user, store
from tests.films.phantom import phantom

PROFILE = profile_of(203.2, 254, 72, colour=False)
pytestmark = pytest.mark.django_db


def series_of(study) -> list[int]:
    return list(study.series.values_list("pk", flat=True))


def images_on(sheet: FilmSheet) -> list[int]:
    return [cell.instance.instance_number for cell in sheet.cells.all()]


def test_a_series_flows_over_numbered_pages(radiologist, layout, make_ct_study):
    study = make_ct_study(7)
    sheets = make_sheets(radiologist, study, series_of(study), layout)
    assert [(sheet.page, sheet.page_count, images_on(sheet)) for sheet in sheets] == [
        (1, 2, [1, 2, 3, 4]),
        (2, 2, [5, 6, 7]),
    ]


def test_every_nth_image_of_each_series(radiologist, layout, make_ct_study):
    study = make_ct_study(7, 3)
    sheets = make_sheets(radiologist, study, series_of(study), replace(layout, every=3))
    assert [images_on(sheet) for sheet in sheets] == [[1, 4, 7, 1]]


def test_frames_of_a_run_are_images(radiologist, layout, volume):
    run = phantom(8, NumberOfFrames=5, PixelData=bytes(5 * 8 * 8 * 2))
    store(run)
    study = Study.objects.get()
    sheets = make_sheets(radiologist, study, series_of(study), layout)
    assert [cell.frame for sheet in sheets for cell in sheet.cells.all()] == [1, 2, 3, 4, 5]


def test_a_series_of_another_patient_is_refused(radiologist, layout, make_ct_study):
    mine = make_ct_study(1)
    other = make_ct_study(1, PatientID="P2", PatientName="Other^Person")
    with pytest.raises(FilmError, match="one patient"):
        make_sheets(radiologist, mine, series_of(mine) + series_of(other), layout)
    assert not FilmSheet.objects.exists()


def test_a_study_that_one_may_not_see_is_refused(layout, make_ct_study):
    study = make_ct_study(1)
    with pytest.raises(FilmError):
        make_sheets(make_user("referring physician"), study, series_of(study), layout)


def test_nothing_chosen_or_nothing_to_show_is_refused(radiologist, layout, make_ct_study, volume):
    study = make_ct_study(1)
    with pytest.raises(FilmError, match="at least one"):
        make_sheets(radiologist, study, [], layout)
    study.series.get().instances.update(rows=None)
    with pytest.raises(FilmError, match="no images"):
        make_sheets(radiologist, study, series_of(study), layout)


def test_more_than_a_hundred_sheets_are_refused(radiologist, template, make_ct_study):
    study = make_ct_study(1)
    study.series.get().instances.update(number_of_frames=101)
    with pytest.raises(FilmError, match="101 sheets"):
        make_sheets(radiologist, study, series_of(study), Layout(template, 1, 1))


def test_a_grid_that_is_too_fine_is_refused(radiologist, template, make_ct_study):
    study = make_ct_study(1)
    with pytest.raises(FilmError, match="too many"):
        make_sheets(radiologist, study, series_of(study), Layout(template, 12, 12))


def test_the_recipe_holds_the_header_and_names_every_cell(radiologist, layout, make_ct_study):
    study = make_ct_study(1, PatientName="Müller^Hans=山田^太郎")
    sheet = make_sheets(radiologist, study, series_of(study), layout)[0]
    recipe = Recipe.from_json(FilmSheet.objects.get(pk=sheet.pk).recipe)
    assert recipe.header.patient_name == study.patient.display_name != ""
    assert recipe.cells[0].sop_instance_uid == study.series.get().instances.get().sop_instance_uid
    assert sheet.recipe_sha256 == recipe_sha256(recipe.to_json())


def test_what_is_stored_is_the_raster_that_the_row_names(radiologist, layout, make_ct_study):
    study = make_ct_study(1)
    sheet = make_sheets(radiologist, study, series_of(study), layout)[0]
    raster = render_sheet(sheet, PROFILE)
    with open_blob(raster.blob) as file:
        pixels = read_raster(file).pixels()
    assert pixels.shape == (PROFILE.height_px, PROFILE.width_px)
    assert raster_sha256(pixels) == raster.sha256
    with open_blob(raster.preview) as file:
        assert file.read(4) == b"\x89PNG"


def test_a_kept_raster_is_not_drawn_again(radiologist, layout, make_ct_study):
    study = make_ct_study(1)
    sheet = make_sheets(radiologist, study, series_of(study), layout)[0]
    first = render_sheet(sheet, PROFILE)
    instance = study.series.get().instances.get()
    instance.path.unlink()  # nothing is read
    assert render_sheet(FilmSheet.objects.get(pk=sheet.pk), PROFILE) == first


def test_a_raster_that_is_gone_or_for_another_printer_is_drawn_again(radiologist, layout, make_ct_study):
    study = make_ct_study(1)
    sheet = make_sheets(radiologist, study, series_of(study), layout)[0]
    first = render_sheet(sheet, PROFILE)
    finer = render_sheet(sheet, profile_of(203.2, 254, 100, colour=False))
    assert finer.sha256 != first.sha256
    again = render_sheet(sheet, PROFILE)
    assert again == first
    blob_path(first.blob).unlink()
    assert render_sheet(sheet, PROFILE).sha256 == first.sha256
    assert blob_path(first.blob).exists()
    assert FilmRaster.objects.count() == 2


def test_a_file_that_is_missing_is_named(radiologist, layout, make_ct_study):
    study = make_ct_study(1)
    sheet = make_sheets(radiologist, study, series_of(study), layout)[0]
    instance = study.series.get().instances.get()
    instance.path.unlink()
    with pytest.raises(PermanentError, match=instance.sop_instance_uid):
        render_sheet(sheet, PROFILE)


def test_a_used_template_keeps_its_look(radiologist, layout, template, make_ct_study):
    template.rows = 3
    template.save()  # nothing was made with it yet
    study = make_ct_study(1)
    make_sheets(radiologist, study, series_of(study), layout)
    template.name, template.is_active = "renamed", False
    template.save()
    template.margin_mm = 20
    with pytest.raises(ValidationError, match="save it as new"):
        template.save()
