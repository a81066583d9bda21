"""A job to print, and a printer that does what a test tells it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from django.db import transaction

from apps.films.models import FilmTemplate
from apps.films.services import Layout
from apps.printing import services
from apps.printing.backends import HeldSheet, Receipt
from apps.printing.models import Printer, PrintJob, SheetPrint
from apps.printing.services import make_film
from tests.factories import make_user
from tests.films.conftest import make_ct_study as make_ct_study  # noqa: PLC0414  # a fixture, shared


@pytest.fixture(autouse=True)
def plain_static_files(settings):
    """Names without a hash."""
    storage = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": storage}


@pytest.fixture
def radiologist(db):
    return make_user("radiologist")


@pytest.fixture
def printer(db) -> Printer:
    return Printer.objects.create(name="test printer", dpi=72)


@pytest.fixture
def template(db) -> FilmTemplate:
    return FilmTemplate.objects.create(name="test", film_size="8INX10IN")


@pytest.fixture
def make_job(radiologist, printer, template, make_ct_study) -> Callable[..., PrintJob]:
    """`make_job(3)`: a job of three sheets."""

    def make(sheets: int = 1, on: Printer | None = None) -> PrintJob:
        study = make_ct_study(sheets, PatientID=f"P{PrintJob.objects.count()}")
        series = [series.pk for series in study.series.all()]
        return make_film(radiologist, study, series, Layout(template, 1, 1), on or printer)

    return make


@dataclass
class Device:
    """A printer in memory: `sheets` are what came out, `faults` what the next calls run into."""

    sheets: list[SheetPrint] = field(default_factory=list)
    faults: list[Exception | None] = field(default_factory=list)
    fires: bool = True

    def send(self, sheet: HeldSheet, printer: Printer) -> Receipt:
        fault = self.faults.pop(0) if self.faults else None
        if fault and not getattr(fault, "is_late", False):
            raise fault
        if self.fires:
            sheet.claim.fire()
        if fault:
            raise fault
        self.sheets.append(sheet.row)
        return Receipt(SheetPrint.State.ACCEPTED, f"device job {len(self.sheets)}")


def late(error: Exception) -> Exception:
    """A fault after the printer was told to print."""
    error.is_late = True  # type: ignore[attr-defined]
    return error


@pytest.fixture
def device(monkeypatch) -> Device:
    made = Device()
    monkeypatch.setattr(services, "backend_of", lambda printer: made.send)
    return made


def states(job: PrintJob) -> list[str]:
    return list(job.sheet_prints.order_by("position", "copy").values_list("state", flat=True))


def make_due(job: PrintJob) -> None:
    """As if the pause before the next attempt were over."""
    with transaction.atomic():
        job.sheet_prints.update(next_attempt_at=job.created_at)
