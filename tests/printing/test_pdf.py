"""The finished file, read by poppler."""

import re
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.films.raster import read_raster
from apps.printing import services
from apps.printing.backends import pdf
from apps.printing.models import PrintJob
from apps.printing.services import cancel_job, retry_job, run_printer
from apps.storage.blobs import blob_path, open_blob
from tests.dicom import part10
from tests.printing.conftest import states
from tests.rendering.images import image

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(not shutil.which("pdfimages"), reason="pdfimages is missing: apt-get install poppler-utils"),
]


def pdf_of(job: PrintJob, folder: Path) -> Path:
    job.refresh_from_db()
    path = folder / "film.pdf"
    with open_blob(job.document) as file:
        path.write_bytes(file.read())
    return path


def run(*command: object) -> str:
    return subprocess.run([str(part) for part in command], check=True, capture_output=True, text=True).stdout


def pictures_in(path: Path) -> list[np.ndarray]:
    run("pdfimages", "-png", path, path.with_name("picture"))
    return [np.asarray(Image.open(each)) for each in sorted(path.parent.glob("picture-*.png"))]


def rasters_of(job: PrintJob) -> list[np.ndarray]:
    found = []
    for row in job.sheet_prints.select_related("raster"):
        with open_blob(row.raster.blob) as file:
            found.append(read_raster(file).pixels())
    return found


def test_its_pixels_are_those_of_the_rasters(make_job, printer, tmp_path):
    job = make_job(3)
    run_printer(printer.pk)
    assert states(job) == ["PRINTED"] * 3
    pictures, rasters = pictures_in(pdf_of(job, tmp_path)), rasters_of(job)
    assert len(pictures) == len(rasters) == 3
    for picture, raster in zip(pictures, rasters, strict=True):
        assert (picture == raster).all()


def test_the_stored_stream_is_embedded_as_it_is(make_job, printer, tmp_path):
    job = make_job(1)
    run_printer(printer.pk)
    with open_blob(job.sheet_prints.get().raster.blob) as file:
        stream = read_raster(file).stream
    assert stream in pdf_of(job, tmp_path).read_bytes()


def test_pages_have_the_exact_size_of_the_film(make_job, printer, tmp_path):
    job = make_job(1)
    run_printer(printer.pk)
    text = run("pdfinfo", pdf_of(job, tmp_path))
    width, height = map(float, re.search(r"Page size: +([\d.]+) x ([\d.]+) pts", text).groups())
    assert (width / 72 * 25.4, height / 72 * 25.4) == pytest.approx((203.2, 254.0), abs=0.05)


def test_a_colour_image_is_printed_in_colour(make_job, printer, template, radiologist, volume, tmp_path):
    job = make_job(1)
    study, series = job.study, job.study.series.get()
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    series.instances.get().path.unlink()
    dataset = image(red, SOPInstanceUID=series.instances.get().sop_instance_uid)
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study.study_instance_uid, series.series_instance_uid
    series.instances.get().path.write_bytes(part10(dataset))
    series.instances.update(file_sha256=sha256(part10(dataset)).digest())
    run_printer(printer.pk)
    picture = pictures_in(pdf_of(job, tmp_path))[0]
    assert picture.ndim == 3
    assert (picture == rasters_of(job)[0]).all()
    assert picture[picture.shape[0] // 2, picture.shape[1] // 2].tolist() == [200, 0, 0]


def test_neither_its_name_nor_its_data_about_itself_names_a_person(volume, make_job, printer, tmp_path):
    job = make_job(1)
    run_printer(printer.pk)
    path = pdf_of(job, tmp_path)
    text = run("pdfinfo", path) + run("pdftotext", path, "-")
    person = job.study.patient
    for word in (*re.findall(r"\w+", person.name), person.patient_id, "1970"):
        assert word not in text
    assert f"job {job.pk}" in text


def test_there_is_no_file_before_the_last_sheet(make_job, printer, monkeypatch):
    job = make_job(2)
    broken = job.sheet_prints.get(position=2).sheet.cells.get().instance
    content = broken.path.read_bytes()
    broken.path.write_bytes(content[:-600])
    run_printer(printer.pk)
    job.refresh_from_db()
    assert states(job) == ["ACCEPTED", "FAILED"]
    assert broken.sop_instance_uid in job.sheet_prints.get(position=2).last_error
    assert job.document == ""
    broken.path.write_bytes(content)
    retry_job(job)
    run_printer(printer.pk)
    job.refresh_from_db()
    assert states(job) == ["PRINTED", "PRINTED"]
    assert job.document


def test_a_page_that_was_removed_meanwhile_says_so(make_job, printer):
    job = make_job(2)
    broken = job.sheet_prints.get(position=2).sheet.cells.get().instance
    content = broken.path.read_bytes()
    broken.path.write_bytes(content[:-600])
    run_printer(printer.pk)
    blob_path(job.sheet_prints.get(position=1).raster.blob).unlink()
    broken.path.write_bytes(content)
    retry_job(job)
    run_printer(printer.pk)
    row = job.sheet_prints.get(position=2)
    assert row.state == "FAILED"
    assert "page 1 is no longer there" in row.last_error


def test_a_job_of_which_sheets_were_cancelled_makes_no_file(make_job, printer, monkeypatch):
    job = make_job(3)
    render = services.render_sheet

    def cancel_meanwhile(sheet, profile):
        cancel_job(job)
        return render(sheet, profile)

    monkeypatch.setattr(services, "render_sheet", cancel_meanwhile)
    run_printer(printer.pk)
    job.refresh_from_db()
    assert states(job) == ["ACCEPTED", "CANCELLED", "CANCELLED"]
    assert job.document == ""


def test_a_large_job_is_written_page_by_page(make_job, printer, monkeypatch):
    alive = []
    original = pdf._StoredPage.load

    def load(page):
        alive.append(page.row.position)
        return original(page)

    monkeypatch.setattr(pdf._StoredPage, "load", load)
    writes = []
    original_add = pdf._WriteThrough.add

    def add(self, text):
        writes.append(len(alive))
        return original_add(self, text)

    monkeypatch.setattr(pdf._WriteThrough, "add", add)
    make_job(3)
    run_printer(printer.pk)
    assert alive == [1, 2, 3]
    assert {1, 2, 3} <= set(writes)  # something was written between one page's reading and the next
